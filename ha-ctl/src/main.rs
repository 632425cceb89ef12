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
//! | 4 | the two nodes differ |
#![forbid(unsafe_code)]

mod cli;
mod client;
mod format;
mod keygen;
mod reference;
mod render;
mod render_pair;
mod top;

use clap::Parser;
use cli::{Cli, EventsVerb, JsonStyle, TopVerb, Verb};
use client::{Client, ClientError};
use keygen::KeygenError;
use proto::{Command, Events, EventsArgs, MAX_EVENTS, Status};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use top::View;

/// The two nodes differ.
const DIFFERENT: u8 = 4;
/// Each question of `events --follow` waits so long for an answer.
const FOLLOW_MS: u32 = 10_000;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli) {
        Ok(code) => ExitCode::from(code),
        // The reader has seen enough, as `head` does.
        Err(Failure::Print(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            // Standard error may be closed, and that is no reason to fail differently.
            let _ = writeln!(io::stderr(), "ha-ctl: {error}\n  {}", error.hint().replace('\n', "\n  "));
            ExitCode::from(error.exit_code())
        }
    }
}

/// Does what the verb says. The exit code.
fn run(cli: &Cli) -> Result<u8, Failure> {
    match &cli.verb {
        Verb::Events(args) if args.follow => follow(cli, args)?,
        Verb::Top(args) => watch(cli, args)?,
        _ => {
            let (text, code) = answer(cli)?;
            print(&text)?;
            return Ok(code);
        }
    }
    Ok(0)
}

/// Events until interrupted.
fn follow(cli: &Cli, args: &EventsVerb) -> Result<(), Failure> {
    let timeout = cli.timeout + Duration::from_millis(FOLLOW_MS.into());
    let client = Client { socket: &cli.socket, timeout };
    let mut asked = EventsArgs { since: args.since, limit: args.limit, wait_ms: FOLLOW_MS };
    let mut boot = None;
    loop {
        let data = client.ask(Command::Events(asked))?;
        let events: Events = typed(data.clone())?;
        if boot.as_ref().is_some_and(|boot| *boot != events.boot) && asked.since > 0 {
            // Another process, whose ids begin anew: nothing of it is to be missed.
            (boot, asked.since) = (Some(events.boot), 0);
            continue;
        }
        print(&show_events(&events, &data, cli.json.map(|_| JsonStyle::Line)))?;
        asked = EventsArgs { since: events.last, limit: MAX_EVENTS, ..asked };
        boot = Some(events.boot);
    }
}

fn show_events(events: &Events, data: &Value, json_style: Option<JsonStyle>) -> String {
    match json_style {
        // Each event a line of its own, as it came.
        Some(style) => data
            .get("events")
            .and_then(Value::as_array)
            .map(|rows| rows.iter().map(|row| json(row, style)).collect())
            .unwrap_or_default(),
        None => {
            let gap = if events.gap { "(older events are forgotten)\n" } else { "" };
            gap.to_owned() + &events.events.iter().map(render_pair::event).collect::<String>()
        }
    }
}

/// A view each interval.
fn watch(cli: &Cli, args: &TopVerb) -> Result<(), Failure> {
    let client = Client { socket: &cli.socket, timeout: cli.timeout };
    let redraws = cli.json.is_none() && io::stdout().is_terminal();
    let mut before: Option<Status> = None;
    let mut next = Instant::now();
    for shown in 1_u64.. {
        let now: Status = typed(client.ask(Command::Status)?)?;
        let view = View::new(before.as_ref(), &now);
        let text = match cli.json {
            Some(_) => serde_json::to_string(&view).unwrap_or_default() + "\n",
            // From the top left corner, and the rest of the screen cleared.
            None if redraws => format!("\x1b[H\x1b[J{}", render_pair::top(&view)),
            None => format!("{}\n", render_pair::top(&view)),
        };
        print(&text)?;
        if args.count == Some(shown) {
            break;
        }
        before = Some(now);
        next += args.interval;
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    Ok(())
}

/// Why there is nothing to print.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Keygen(#[from] KeygenError),
    #[error("cannot write the answer: {0}")]
    Print(#[from] io::Error),
}

impl Failure {
    fn exit_code(&self) -> u8 {
        match self {
            Failure::Client(error) => error.exit_code(),
            Failure::Keygen(_) | Failure::Print(_) => 1,
        }
    }

    fn hint(&self) -> String {
        match self {
            Failure::Client(error) => error.hint(),
            Failure::Keygen(error) => error.hint(),
            Failure::Print(_) => "what was asked for is done all the same".into(),
        }
    }
}

/// What goes to standard output, and the exit code.
fn answer(cli: &Cli) -> Result<(String, u8), Failure> {
    if let Verb::Keygen(args) = &cli.verb {
        let key = match &args.show {
            Some(file) => keygen::show(file),
            None => keygen::make(args.out.as_deref()),
        }?;
        return Ok((cli.json.map_or_else(|| key.text(), |style| json(&key.data(), style)), 0));
    }
    let Some(command) = cli.request() else { return Ok((reference::markdown(), 0)) };
    let counts_only = matches!(&command, Command::Sessions(args) if args.count);
    let data = Client { socket: &cli.socket, timeout: cli.patience() }.ask(command)?;
    let code = match cli.verb {
        Verb::Verify | Verb::Compare if data.get("equal") == Some(&Value::Bool(false)) => DIFFERENT,
        _ => 0,
    };
    if let Some(style) = cli.json {
        return Ok((json(&data, style), code));
    }
    let text = match &cli.verb {
        Verb::Status => render::status(&typed(data)?),
        Verb::Sessions(_) if counts_only => render::session_counts(&typed(data)?),
        Verb::Sessions(_) => render::sessions(&typed(data)?),
        Verb::Counters(args) => render::counters(&typed(data)?, args.nonzero),
        Verb::Rules => render::rules(&typed(data)?),
        Verb::Neighbours => render::neighbours(&typed(data)?),
        Verb::Routes => render::routes(&typed(data)?),
        Verb::Verify => render_pair::verified(&typed(data)?),
        Verb::Compare => render_pair::compared(&typed(data)?),
        Verb::Resync | Verb::Force(_) | Verb::Unforce => render_pair::ordered(&typed(data)?),
        Verb::Switchover => render_pair::switched_over(&typed(data)?),
        Verb::Events(_) => {
            let text = show_events(&typed(data.clone())?, &data, None);
            if text.is_empty() { "nothing has happened\n".into() } else { text }
        }
        Verb::Terminate(_) => render_pair::terminated(&typed(data)?),
        Verb::Debug(_) => render_pair::damaged(&typed(data)?),
        Verb::Top(_) | Verb::Keygen(_) | Verb::Reference => reference::markdown(),
    };
    Ok((text, code))
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
