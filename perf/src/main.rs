//! `onecore`: clocks per packet and per new session on one core, beside the ceiling of the same run.

use clap::Parser;
use comfy_table::{Table, presets};
use perf::flows::Traffic;
use perf::onecore::{self, Row};
use std::process::ExitCode;

/// Measures the engine in one-core mode.
#[derive(Parser)]
struct Args {
    /// Largest number of sessions.
    #[arg(long, default_value_t = 10_000_000)]
    max_sessions: u32,
    /// Packets a run.
    #[arg(long, default_value_t = 2_000_000)]
    packets: u32,
    /// Only rows whose name contains this.
    #[arg(long, default_value = "")]
    only: String,
    /// One JSON object on the last line instead of a table.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("onecore: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), Box<dyn std::error::Error>> {
    let wanted = |name: &str| name.contains(&args.only);
    let mut rows = vec![onecore::macswap(args.packets)?];
    let mut pages = "";
    for traffic in [Traffic::Tcp4, Traffic::Udp4, Traffic::Tcp6, Traffic::Udp6] {
        for sessions in [1_000, 100_000, 1_000_000, 10_000_000] {
            if sessions <= args.max_sessions && wanted(&format!("established {}", traffic.name())) {
                let (row, bed) = onecore::established(traffic, sessions, args.packets)?;
                pages = bed.pages.name();
                progress(&row);
                rows.push(row);
                drop(bed);
            }
        }
    }
    for (traffic, rules, marked) in [
        (Traffic::Tcp4, 10, false),
        (Traffic::Tcp4, 1_000, false),
        (Traffic::Udp4, 1_000, false),
        (Traffic::Udp4, 1_000, true),
        (Traffic::Tcp6, 1_000, false),
    ] {
        if wanted("new") {
            let row = onecore::new_sessions(traffic, 1_000_000.min(args.max_sessions), rules, marked)?;
            progress(&row);
            rows.push(row);
        }
    }
    let bytes = engine::table::Memory::bytes(1_000_000) as f64 / 1e6;
    if args.json {
        let object = serde_json::json!({ "pages": pages, "bytes_per_session": bytes, "rows": rows });
        println!("{object}");
    } else {
        print_table(&rows, pages, bytes);
    }
    Ok(())
}

fn progress(row: &Row) {
    eprintln!("{} at {} sessions: {:.0} clocks", row.name, row.sessions, row.clocks.median);
}

fn print_table(rows: &[Row], pages: &str, bytes: f64) {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header(["what", "sessions", "min", "median", "max"]);
    for row in rows {
        let clocks = [row.clocks.min, row.clocks.median, row.clocks.max].map(|c| format!("{c:.0}"));
        let [min, median, max] = clocks;
        table.add_row([row.name.clone(), row.sessions.to_string(), min, median, max]);
    }
    println!("TSC clocks per packet or per new session, one core; {pages}; {bytes:.1} bytes a session");
    println!("{table}");
}
