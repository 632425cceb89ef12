//! `perf`: what Understudy costs, beside what the machine can do.

use clap::{Parser, Subcommand};
use perf::commands::{self, PktgenArgs, Ports};
use perf::guard::{self, GuardArgs};
use perf::rows::{Effort, Row};
use perf::run::{self, RunArgs};
use std::process::ExitCode;

/// Measures Understudy.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Everything: the table, and what was promised.
    Run(RunArgs),
    /// One row of the table, as JSON lines.
    Row {
        #[command(subcommand)]
        row: Row,
        #[command(flatten)]
        effort: Effort,
    },
    /// Instructions of the hot paths against the committed baseline; fails where one grew by more than 5 %.
    Guard(GuardArgs),
    /// One case of the guard.
    #[command(hide = true)]
    GuardCase {
        /// Which.
        name: String,
    },
    /// Connections in the millions over two ports, and what became of them.
    Pktgen(PktgenArgs),
    /// Sends everything back out of the other port, MAC addresses swapped: a ceiling for pktgen.
    Reflect {
        #[command(flatten)]
        ports: Ports,
        /// Seconds.
        #[arg(long, default_value_t = 1e9)]
        seconds: f64,
    },
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(args) => run::run(&args),
        Command::Guard(args) => guard::guard(&args),
        Command::GuardCase { name } => guard::run_case(&name),
        Command::Pktgen(args) => commands::pktgen(&args),
        Command::Reflect { ports, seconds } => commands::reflect(&ports, seconds),
        Command::Row { row, effort } => print_row(row, effort),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("perf: {error}");
            ExitCode::FAILURE
        }
    }
}

fn print_row(row: Row, effort: Effort) -> perf::rig::Result<()> {
    for measured in row.measure(effort)? {
        println!("{}", serde_json::to_string(&measured)?);
    }
    Ok(())
}
