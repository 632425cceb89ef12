//! `perf run`: all rows, each in a process of its own, then the table and the budgets.

use crate::budgets::{Budget, budgets};
use crate::figure::Figure;
use crate::flows::Traffic;
use crate::quiet;
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
    /// The ceiling over all rows on one processor: a constant amount of work, so its spread is what the machine
    /// itself adds to every figure.
    ceiling: Option<Figure>,
    /// That spread, as a part of the median.
    noise: Option<f64>,
    /// The median spread of the ceiling within a row: what the machine adds within seconds.
    noise_in_row: Option<f64>,
    rows: Vec<Line>,
    left_out: Vec<String>,
    budgets: Vec<Budget>,
}

/// A row and what follows from it.
#[derive(Serialize)]
struct Line {
    #[serde(flatten)]
    row: Measured,
    /// How much of it a processor does in a second, in millions, where clocks are counted.
    millions_per_second: Option<f64>,
    /// The median over the ceiling's.
    ratio: Option<f64>,
}

impl Line {
    fn of(row: Measured) -> Self {
        let counts_clocks = row.unit.starts_with("clocks/");
        let millions_per_second = counts_clocks.then(|| row.hz / row.value.median / 1e6);
        let ratio = row.ceiling.map(|ceiling| row.value.median / ceiling.median);
        Self { row, millions_per_second, ratio }
    }

    /// The same work as in other rows: a packet of the shortest size, on one processor.
    fn plain_ceiling(&self) -> Option<Figure> {
        let name = &self.row.name;
        let is_plain = ["established", "new", "replication"].iter().any(|kind| name.starts_with(kind));
        self.row.ceiling.filter(|_| is_plain && !name.ends_with(TWO_CORES))
    }
}

/// Memory that must stay free beside a table, in bytes.
const SPARE_MEMORY: u64 = 2 << 30;

/// Measures everything and prints it; what is under way goes to stderr. Budgets that are not met are no error.
pub fn run(args: &RunArgs) -> Result<()> {
    let (began, mut rows, mut left_out) = (Instant::now(), Vec::new(), Vec::new());
    let fastest = Some(quiet::fastest());
    let effort = if args.quick {
        Effort { runs: 7, packets: 400_000, fastest }
    } else {
        Effort { runs: 11, packets: 1_500_000, fastest }
    };
    let plan: Vec<Row> =
        plan(args).into_iter().filter(|row| row.args().join(" ").contains(&args.only)).collect();
    for (number, row) in plan.iter().enumerate() {
        let name = row.args().join(" ");
        let seconds = || began.elapsed().as_secs();
        eprintln!("{:>4} s  {} of {}: {name}", seconds(), number + 1, plan.len());
        let need = engine::table::Memory::bytes(row.slots()) as u64 + SPARE_MEMORY;
        if available_memory().is_some_and(|available| available < need) {
            left_out.push(format!("{name}: {} MB of memory are needed", need >> 20));
            continue;
        }
        match measure(*row, effort) {
            Ok(measured) => {
                for measured in &measured {
                    let value = short(measured.value.median);
                    eprintln!("{:>4} s    {}: {value} {}", seconds(), measured.name, measured.unit);
                }
                rows.extend(measured);
            }
            Err(error) => {
                eprintln!("{:>4} s    left out: {error}", seconds());
                left_out.push(format!("{name}: {error}"));
            }
        }
    }
    let budgets = budgets(&rows);
    let rows: Vec<Line> = rows.into_iter().map(Line::of).collect();
    let ceilings: Vec<Figure> = rows.iter().filter_map(Line::plain_ceiling).collect();
    let over_all = |of: fn(&Figure) -> f64| {
        (!ceilings.is_empty()).then(|| Figure::of(ceilings.iter().map(of).collect()))
    };
    let ceiling = over_all(|ceiling| ceiling.median);
    let report = Report {
        cpu: cpu(),
        hz: rows.first().map_or(0.0, |line| line.row.hz),
        seconds: began.elapsed().as_secs_f64(),
        ceiling,
        noise: ceiling.map(|ceiling| ceiling.spread()),
        noise_in_row: over_all(Figure::spread).map(|spread| spread.median),
        budgets,
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
    rows.extend([1_000_000, 10_000_000].map(|sessions| Row::Lines { sessions }));
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
    rows.push(Row::Scaling { traffic: Traffic::Tcp4, sessions: 1_000_000 });
    rows.push(Row::Latency { traffic: Traffic::Tcp4, sessions: 100_000, burst: 32 });
    if full {
        rows.push(Row::Replication { traffic: Traffic::Tcp4, sessions: 1_000_000 });
        rows.push(Row::Latency { traffic: Traffic::Tcp4, sessions: 100_000, burst: 256 });
    }
    for imix in [false, true] {
        rows.push(Row::Mixed { flows: 100_000, packets_per_flow: 8, slots: 4_000_000, imix });
    }
    rows.push(Row::Memory { sessions: 1_000_000 });
    for traffic in [Traffic::Tcp4, Traffic::Udp4] {
        rows.push(Row::Sync { traffic, sessions: 1_000_000 });
    }
    for sessions in [100_000, 1_000_000, 10_000_000].into_iter().take(if full { 3 } else { 2 }) {
        rows.push(Row::Bulk { sessions });
        rows.push(Row::Repair { sessions });
    }
    for sessions in [1_000, 1_000_000, 10_000_000] {
        rows.push(Row::Takeover { sessions });
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
        | Row::Latency { sessions, .. }
        | Row::Scaling { sessions, .. }
        | Row::Lines { sessions }
        | Row::Memory { sessions }
        | Row::Sync { sessions, .. }
        | Row::Bulk { sessions }
        | Row::Takeover { sessions }
        | Row::Repair { sessions } => sessions,
        Row::Mixed { flows, .. } => flows,
    }
}

/// In a process of its own.
fn measure(row: Row, effort: Effort) -> Result<Vec<Measured>> {
    let output = Command::new(std::env::current_exe()?)
        .arg("row")
        .args(["--runs", &effort.runs.to_string(), "--packets", &effort.packets.to_string()])
        .args(effort.fastest.iter().flat_map(|clocks| ["--fastest".to_owned(), clocks.to_string()]))
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
    let header =
        ["what", "sessions", "unit", "min", "median", "max", "M/s", "ceiling", "ratio", "quiet", "all"];
    table.set_header(header);
    for Line { row, millions_per_second, ratio } in &report.rows {
        let Figure { min, median, max, overall } = row.value;
        let [min, median, max] = [min, median, max].map(short);
        let if_any = |value: Option<f64>| value.map_or_else(String::new, short);
        table.add_row([
            row.name.clone(),
            row.sessions.to_string(),
            row.unit.clone(),
            min,
            median,
            max,
            if_any(*millions_per_second),
            if_any(row.ceiling.map(|ceiling| ceiling.median)),
            if_any(*ratio),
            overall.map_or_else(String::new, |all| format!("{:.0} %", all.quiet * 100.0)),
            if_any(overall.map(|all| all.median)),
        ]);
    }
    println!("{}, TSC at {:.0} MHz; {:.0} s", report.cpu, report.hz / 1e6, report.seconds);
    if report.rows.iter().any(|line| line.row.page_bytes == 4096) {
        println!("Some tables lay in ordinary pages: reserve huge pages for figures that count.");
    }
    if let (Some(ceiling), Some(noise), Some(in_row)) = (report.ceiling, report.noise, report.noise_in_row) {
        let [min, median, max] = [ceiling.min, ceiling.median, ceiling.max].map(short);
        println!("ceiling {min} / {median} / {max} clocks a packet over all rows");
        println!("noise: {:.0} % from row to row, {:.0} % within a row", noise * 100.0, in_row * 100.0);
    }
    println!(
        "quiet: the part of the time in which nobody shared the core; min, median and max are of it, if any"
    );
    println!("all: the median of all the time");
    println!("\n{table}\n");
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
