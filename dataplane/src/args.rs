//! The command line of `understudyd`.

use crate::launch::{self, LaunchError};
use clap::Parser;
use miette::{GraphicalReportHandler, GraphicalTheme};
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

/// A stateful firewall on DPDK, one node of a pair.
#[derive(Parser, Debug)]
#[command(name = "understudyd", version, about)]
struct Args {
    /// The configuration (TOML).
    #[arg(long, value_name = "FILE", default_value = "/etc/understudy/understudyd.toml")]
    config: PathBuf,
    /// Only say whether the configuration is right: exit code 0 if it is.
    #[arg(long)]
    check: bool,
}

/// What `main` does.
pub fn main() -> ExitCode {
    // First of all: what comes later may hold instructions that the processor does not know.
    if let Err(error) = launch::check_processor() {
        return refuse(&error);
    }
    let args = Args::parse();
    let (config, ruleset) = match launch::check(&args.config) {
        Ok(checked) => checked,
        Err(error) => return refuse(&error),
    };
    if args.check {
        for warning in &config.warnings {
            say(&format!("warning: {warning}"));
        }
        let (ports, rules) = (config.ports.len(), config.rules.len());
        say(&format!("{} is right: {ports} ports, {rules} rules", args.config.display()));
        return ExitCode::SUCCESS;
    }
    match launch::run(&args.config, config, ruleset) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error @ LaunchError::Log(_)) => refuse(&error),
        Err(error) => {
            tracing::error!(event = "failed", "{error}");
            ExitCode::FAILURE
        }
    }
}

/// Says what is wrong, where, and what to do.
fn refuse(error: &LaunchError) -> ExitCode {
    match error {
        LaunchError::Config(problems) => {
            let color = std::io::stderr().is_terminal();
            let theme = if color { GraphicalTheme::unicode() } else { GraphicalTheme::none() };
            let mut text = String::new();
            let rendered = GraphicalReportHandler::new_themed(theme).render_report(&mut text, problems);
            say(if rendered.is_ok() { &text } else { "the configuration is wrong" });
        }
        other => say(&format!("understudyd: error: {other}")),
    }
    ExitCode::FAILURE
}

/// A line to stderr; a closed one is nobody's problem.
fn say(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{}", text.trim_end());
}
