//! `ha-ctl`: asks `understudyd` and shows what it answers.
//!
//! Tables for people, `--json` for programs. It never hangs: a daemon that is stopped, stuck or gone is told
//! apart and named. Exit codes are part of the interface:
//!
//! | code | meaning |
//! | --- | --- |
//! | 0 | done |
//! | 1 | the daemon refused, or its answer could not be written out |
//! | 2 | the command line is wrong |
//! | 3 | the daemon cannot be reached, or does not answer as one |
#![forbid(unsafe_code)]

mod cli;
mod client;
mod format;
mod keygen;
mod reference;
mod render;

use clap::Parser;
use cli::{Cli, JsonStyle, Verb};
use client::{Client, ClientError};
use keygen::KeygenError;
use proto::Command;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::io::{self, Write};
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let text = match answer(&cli) {
        Ok(text) => text,
        Err(error) => {
            // Standard error may be closed, and that is no reason to fail differently.
            let _ = writeln!(io::stderr(), "ha-ctl: {error}\n  {}", error.hint().replace('\n', "\n  "));
            return ExitCode::from(error.exit_code());
        }
    };
    match print(&text) {
        Ok(()) => ExitCode::SUCCESS,
        // The reader has seen enough, as `head` does.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "ha-ctl: cannot write the answer: {error}");
            ExitCode::from(1)
        }
    }
}

/// Why there is nothing to print.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Keygen(#[from] KeygenError),
}

impl Failure {
    fn exit_code(&self) -> u8 {
        match self {
            Failure::Client(error) => error.exit_code(),
            Failure::Keygen(_) => 1,
        }
    }

    fn hint(&self) -> String {
        match self {
            Failure::Client(error) => error.hint(),
            Failure::Keygen(error) => error.hint(),
        }
    }
}

/// What goes to standard output.
fn answer(cli: &Cli) -> Result<String, Failure> {
    match &cli.verb {
        Verb::Reference => return Ok(reference::markdown()),
        Verb::Keygen(args) => {
            let key = match &args.show {
                Some(file) => keygen::show(file),
                None => keygen::make(args.out.as_deref()),
            }?;
            return Ok(cli.json.map_or_else(|| key.text(), |style| json(&key.data(), style)));
        }
        _ => {}
    }
    let Some(command) = cli.verb.command() else { return Ok(reference::markdown()) };
    let counts_only = matches!(&command, Command::Sessions(args) if args.count);
    let data = Client { socket: &cli.socket, timeout: cli.timeout }.ask(command)?;
    if let Some(style) = cli.json {
        return Ok(json(&data, style));
    }
    Ok(match &cli.verb {
        Verb::Status => render::status(&typed(data)?),
        Verb::Sessions(_) if counts_only => render::session_counts(&typed(data)?),
        Verb::Sessions(_) => render::sessions(&typed(data)?),
        Verb::Counters(args) => render::counters(&typed(data)?, args.nonzero),
        Verb::Rules => render::rules(&typed(data)?),
        Verb::Neighbours => render::neighbours(&typed(data)?),
        Verb::Routes => render::routes(&typed(data)?),
        Verb::Keygen(_) | Verb::Reference => reference::markdown(),
    })
}

fn typed<T: DeserializeOwned>(data: Value) -> Result<T, ClientError> {
    serde_json::from_value(data).map_err(|error| ClientError::Unreadable { what: error.to_string() })
}

/// The answer as it came, whatever fields a newer daemon has added.
fn json(data: &Value, style: JsonStyle) -> String {
    let text = match style {
        JsonStyle::Pretty => format!("{data:#}"),
        JsonStyle::Line => data.to_string(),
    };
    text + "\n"
}

fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}
