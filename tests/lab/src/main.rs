//! The command `lab`: the library for people. See `lab help`.

#![forbid(unsafe_code)]

use std::{io::Write, os::unix::process::CommandExt, path::PathBuf, process::ExitCode, time::Duration};

use clap::{Parser, Subcommand, ValueEnum};
use lab::{
    Host, Lab, LabError, LabOptions, Polling, Result, baseline, demo, exec, guard,
    state::{LabLock, LabState},
    status,
};

/// A firewall, its client and its server in network namespaces on this machine. Needs root.
#[derive(Parser)]
#[command(name = "lab", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Put the lab up and leave it up.
    Up {
        /// Firewall nodes.
        #[arg(long, default_value_t = 1)]
        nodes: u8,
        /// Packet workers of each node.
        #[arg(long)]
        workers: Option<u16>,
        /// How workers wait for packets.
        #[arg(long)]
        polling: Option<PollingArg>,
        /// Folder with an own a.toml in place of the lab's configuration.
        #[arg(long, value_name = "DIR")]
        config: Option<PathBuf>,
        /// Say what is up as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Run a command on a host of the lab: lab exec client -- ping 10.2.0.10
    Exec {
        /// client, server or a.
        host: String,
        /// The command and its arguments.
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Show what is up: namespaces, processes, sockets, addresses, files.
    Status {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Take the lab down, or what is left of one.
    Down,
    /// Put a lab up, send real traffic through it, show what passed, take it down.
    Demo {
        /// Close with one line of JSON.
        #[arg(long)]
        json: bool,
    },
    /// Measure iperf3 through the firewall, beside testpmd (io mode) and the kernel's bridge on the same veths.
    Baseline {
        /// How often each is measured, in turn with the others.
        #[arg(long, default_value_t = 3)]
        rounds: u32,
        /// Length of each measurement.
        #[arg(long, default_value_t = 3)]
        seconds: u32,
        /// Close with one line of JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum PollingArg {
    Adaptive,
    Busy,
}

/// How long a person is kept waiting for another lab.
const PATIENCE: Duration = Duration::from_secs(600);

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("lab: {error}");
            ExitCode::from(if matches!(error, LabError::Unsupported(_)) { 3 } else { 1 })
        }
    }
}

fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Up { nodes, workers, polling, config, json } => {
            let polling = polling.map(|polling| match polling {
                PollingArg::Adaptive => Polling::Adaptive,
                PollingArg::Busy => Polling::Busy,
            });
            let options = LabOptions {
                nodes,
                workers,
                polling,
                config_dir: config,
                patience: PATIENCE,
                ..LabOptions::default()
            };
            up(&options, json)
        }
        Command::Exec { host, command } => run_on(&host, &command),
        Command::Status { json } => show_status(json),
        Command::Down => {
            sweep_on_signals()?;
            guard::down(PATIENCE, |message| eprintln!("lab: {message}"))?;
            eprintln!("lab: down");
            Ok(ExitCode::SUCCESS)
        }
        Command::Demo { json } => {
            sweep_on_signals()?;
            let report = demo::run(PATIENCE)?;
            finish(report.table(), report.passed(), json.then(|| report.to_json()))
        }
        Command::Baseline { rounds, seconds, json } => {
            sweep_on_signals()?;
            let report = baseline::run(rounds, seconds, PATIENCE)?;
            finish(report.table(), true, json.then(|| report.to_json()))
        }
    }
}

fn up(options: &LabOptions, json: bool) -> Result<ExitCode> {
    guard::require_root()?;
    sweep_on_signals()?;
    // Asking twice for the same lab is no error; asking for another one is, until this one is down.
    if let Some(state) = running_lab(options)? {
        eprintln!("lab: up already");
        return say_up(&state, json);
    }
    let state = Lab::up(options)?.detach()?;
    say_up(&state, json)
}

/// The lab that is up, if it is what was asked for.
fn running_lab(options: &LabOptions) -> Result<Option<LabState>> {
    let Some(state) = LabState::load().filter(|state| state.detached && state.in_use()) else {
        return Ok(None);
    };
    if options.nodes != 1 {
        return Ok(None);
    }
    let Some(node) = state.nodes.first() else { return Ok(None) };
    let mut wanted = options.config(Host::A)?;
    wanted.set_control_socket(&node.control_socket)?;
    let same =
        std::fs::read_to_string(&node.config).is_ok_and(|text| Ok(text) == wanted.to_text().map_err(drop));
    Ok(same.then_some(state))
}

fn say_up(state: &LabState, json: bool) -> Result<ExitCode> {
    if json {
        return show_status(true);
    }
    for node in &state.nodes {
        println!("node {} is up; its log: {}", node.name, node.log.display());
        println!("  ha-ctl --socket {} status", node.control_socket.display());
    }
    println!("  lab exec client -- ping -c 3 10.2.0.10");
    println!("  lab exec client -- ping -c 3 fd00:2::10");
    println!("  lab down");
    Ok(ExitCode::SUCCESS)
}

fn run_on(host: &str, command: &[String]) -> Result<ExitCode> {
    guard::require_root()?;
    let host = Host::from_name(host)
        .ok_or_else(|| LabError::Unsupported(format!("host {host}: there are client, server and a")))?;
    if !lab::netns::exists(host) {
        return Err(LabError::Busy(format!("{} is not up: `lab up` first", host.name())));
    }
    let Some((program, arguments)) = command.split_first() else {
        return Err(LabError::Unsupported("an empty command".into()));
    };
    // In our place: exit code, signals and terminal are the command's own.
    let error = exec::on(host, program).args(arguments).exec();
    Err(LabError::Io { what: "run ip netns exec".into(), source: error })
}

fn show_status(json: bool) -> Result<ExitCode> {
    let status = status::Status::read();
    let text = if json { status.to_json() } else { status.to_text() };
    println!("{text}");
    Ok(ExitCode::SUCCESS)
}

fn finish(table: String, passed: bool, json: Option<String>) -> Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    // A reader that went away does not change the verdict.
    let _ = writeln!(out, "{table}");
    if let Some(json) = json {
        let _ = writeln!(out, "{json}");
    }
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// An interrupt must not leave half a lab: sweep, then go, as the guard would have done.
fn sweep_on_signals() -> Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP])
        .map_err(LabError::io("register for signals"))?;
    std::thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            // Only the holder of the lock may sweep. Whoever merely waits for another's lab just goes.
            if LabLock::held_here() {
                eprintln!("lab: interrupted, taking everything down");
                if let Err(error) = guard::sweep() {
                    eprintln!("lab: {error}");
                }
            }
            std::process::exit(128 + signal);
        }
    });
    Ok(())
}
