//! `perf run`: all rows, each in a process of its own, then the table and the budgets.

use crate::budgets::{Budget, budgets};
use crate::figure::Figure;
use crate::flows::Traffic;
use crate::rig::Result;
use crate::rows::{Effort, Measured, Row, TWO_CORES};
use comfy_table::{Table, presets};
use serde::Serialize;
use std::process::{Command, Stdio};
use std::time::Instant;

/// How much of it.
#[derive(clap::Args, Clone, Debug)]
pub struct RunArgs {
    /// One JSON object on the last line instead of tables.
    #[arg(long)]
    json: bool,
    /// Fewer rows and shorter runs.
    #[arg(long)]
    quick: bool,
    /// The largest table; rows that the machine has no memory for are left out in any case.
    #[arg(long, default_value_t = 10_000_000)]
    max_sessions: u32,
    /// Only rows whose arguments contain this.
    #[arg(long, default_value = "")]
    only: String,
}

/// Everything that came of it.
#[derive(Serialize)]
struct Report {
    cpu: String,
    hz: f64,
    seconds: f64,
    /// The ceiling over all rows: its spread is what the machine itself adds to every figure.
    ceiling: Option<Figure>,
    noise: Option<f64>,
    bytes_per_session: f64,
    rows: Vec<Measured>,
    left_out: Vec<String>,
    budgets: Vec<Budget>,
}

/// Memory that must stay free beside a table, in bytes.
const SPARE_MEMORY: u64 = 2 << 30;

/// Measures everything and prints it.
pub fn run(args: &RunArgs) -> Result<()> {
    let (began, mut rows, mut left_out) = (Instant::now(), Vec::new(), Vec::new());
    let effort = if args.quick {
        Effort { runs: 5, packets: 400_000 }
    } else {
        Effort { runs: 9, packets: 2_000_000 }
    };
    for row in plan(args) {
        let name = row.args().join(" ");
        if !name.contains(&args.only) {
            continue;
        }
        let need = engine::table::Memory::bytes(row.slots()) as u64 + SPARE_MEMORY;
        if available_memory().is_some_and(|available| available < need) {
            left_out.push(format!("{name}: {} MB of memory are needed", need >> 20));
            continue;
        }
        match measure(row, effort) {
            Ok(measured) => {
                for measured in &measured {
                    let value = short(measured.value.median);
                    eprintln!(
                        "{:>4.0} s  {}: {value} {}",
                        began.elapsed().as_secs_f64(),
                        measured.name,
                        measured.unit
                    );
                }
                rows.extend(measured);
            }
            Err(error) => left_out.push(format!("{name}: {error}")),
        }
    }
    // On two processors the ceiling is another one.
    let on_one = rows.iter().filter(|row| !row.name.ends_with(TWO_CORES));
    let ceilings: Vec<f64> = on_one.filter_map(|row| row.ceiling).map(|ceiling| ceiling.median).collect();
    let ceiling = (!ceilings.is_empty()).then(|| Figure::of(ceilings));
    let report = Report {
        cpu: cpu(),
        hz: rows.first().map_or(f64::NAN, |row| row.hz),
        seconds: began.elapsed().as_secs_f64(),
        ceiling,
        noise: ceiling.map(|ceiling| ceiling.spread()),
        bytes_per_session: engine::table::Memory::bytes(1_000_000) as f64 / 1e6,
        budgets: budgets(&rows),
        rows,
        left_out,
    };
    if args.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print(&report);
    }
    Ok(())
}

/// The rows, the most telling ones first.
fn plan(args: &RunArgs) -> Vec<Row> {
    const SIZES: [u32; 4] = [1_000, 100_000, 1_000_000, 10_000_000];
    let full = !args.quick;
    let largest = |traffic: Traffic| if full || traffic == Traffic::Tcp4 { 10_000_000 } else { 1_000_000 };
    let mut rows = Vec::new();
    for traffic in Traffic::ALL {
        let sizes = SIZES.into_iter().filter(|size| *size <= largest(traffic));
        rows.extend(sizes.map(|sessions| Row::Established { traffic, sessions, two_cores: false }));
    }
    for sessions in [1_000, 1_000_000] {
        rows.push(Row::Established { traffic: Traffic::Tcp4, sessions, two_cores: true });
    }
    for (traffic, rules, partner) in [
        (Traffic::Tcp4, 10, false),
        (Traffic::Tcp4, 1_000, false),
        (Traffic::Tcp6, 1_000, false),
        (Traffic::Udp4, 1_000, true),
    ] {
        rows.push(Row::New { traffic, sessions: 1_000_000, rules, partner });
    }
    rows.push(Row::Replication { traffic: Traffic::Udp4, sessions: 1_000_000 });
    for imix in [false, true] {
        rows.push(Row::Mixed { flows: 100_000, packets_per_flow: 8, slots: 4_000_000, imix });
    }
    for traffic in [Traffic::Tcp4, Traffic::Udp4] {
        rows.push(Row::Sync { traffic, sessions: 1_000_000 });
    }
    rows.retain(|row| {
        row.slots() <= args.max_sessions.saturating_mul(4) && sessions(*row) <= args.max_sessions
    });
    rows
}

fn sessions(row: Row) -> u32 {
    match row {
        Row::Established { sessions, .. }
        | Row::New { sessions, .. }
        | Row::Replication { sessions, .. }
        | Row::Sync { sessions, .. } => sessions,
        Row::Mixed { flows, .. } => flows,
    }
}

/// In a process of its own.
fn measure(row: Row, effort: Effort) -> Result<Vec<Measured>> {
    let output = Command::new(std::env::current_exe()?)
        .arg("row")
        .args(["--runs", &effort.runs.to_string(), "--packets", &effort.packets.to_string()])
        .args(row.args())
        .stderr(Stdio::piped())
        .output()?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        return Err(stderr.lines().last().unwrap_or("it ended without a word").into());
    }
    let stdout = String::from_utf8(output.stdout)?;
    Ok(stdout.lines().map(serde_json::from_str).collect::<std::result::Result<_, _>>()?)
}

fn print(report: &Report) {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header(["what", "sessions", "unit", "min", "median", "max", "ceiling", "ratio"]);
    for row in &report.rows {
        let Figure { min, median, max } = row.value;
        let [min, median_, max] = [min, median, max].map(short);
        let ceiling = row.ceiling.map_or_else(String::new, |ceiling| short(ceiling.median));
        let ratio = row.ceiling.map_or_else(String::new, |ceiling| short(median / ceiling.median));
        table.add_row([
            row.name.clone(),
            row.sessions.to_string(),
            row.unit.clone(),
            min,
            median_,
            max,
            ceiling,
            ratio,
        ]);
    }
    println!("{}, TSC at {:.0} MHz; {:.0} s", report.cpu, report.hz / 1e6, report.seconds);
    if report.rows.iter().any(|row| row.page_bytes == 4096) {
        println!("Some tables lay in ordinary pages: reserve huge pages for figures that count.");
    }
    if let (Some(ceiling), Some(noise)) = (report.ceiling, report.noise) {
        let [min, median, max] = [ceiling.min, ceiling.median, ceiling.max].map(short);
        println!(
            "ceiling {min} / {median} / {max} clocks a packet over all rows: {:.0} % noise",
            noise * 100.0
        );
    }
    println!("{} bytes a session\n\n{table}\n", short(report.bytes_per_session));
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header(["budget", "value", "unit", "must", "aim", "met"]);
    for budget in &report.budgets {
        table.add_row([
            budget.name.clone(),
            short(budget.value),
            budget.unit.clone(),
            short(budget.budget),
            budget.aim.map_or_else(String::new, short),
            if budget.met { "yes" } else { "no" }.into(),
        ]);
    }
    println!("{table}");
    for left_out in &report.left_out {
        println!("left out: {left_out}");
    }
}

/// Three digits or so.
fn short(value: f64) -> String {
    match value.abs() {
        1e6.. => format!("{:.2} M", value / 1e6),
        1e4.. => format!("{:.0} k", value / 1e3),
        100.0.. => format!("{value:.0}"),
        _ => format!("{value:.1}"),
    }
}

fn cpu() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    name.map_or_else(|| "an unknown processor".to_owned(), |(_, name)| name.to_owned())
}

/// Bytes that the kernel could give, reserved huge pages included.
fn available_memory() -> Option<u64> {
    let info = std::fs::read_to_string("/proc/meminfo").ok()?;
    let number = |name: &str| -> Option<u64> {
        info.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
    };
    let huge = number("HugePages_Free:")? * number("Hugepagesize:")?;
    Some((number("MemAvailable:")? + huge) << 10)
}
