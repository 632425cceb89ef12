//! `perf`: what Understudy costs, beside what the machine can do.

use clap::{Parser, Subcommand};
use perf::rows::{Effort, Row};
use std::process::ExitCode;

/// Measures Understudy.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// One row of the table, as JSON lines.
    Row {
        #[command(subcommand)]
        row: Row,
        #[command(flatten)]
        effort: Effort,
    },
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
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
