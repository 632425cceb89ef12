//! The command `lab`: the library for people. See `lab help`.

#![forbid(unsafe_code)]

use std::{io::Write, os::unix::process::CommandExt, path::PathBuf, process::ExitCode, time::Duration};

use clap::{Parser, Subcommand, ValueEnum};
use lab::{
    Host, Lab, LabError, LabOptions, Network, PairSettings, Polling, Result, SyncLink, baseline,
    config::NodeConfig,
    demo, exec,
    faults::{self, Cable, ProcessFault},
    forwarder::{self, Direction, Impairment},
    guard, interrupt,
    measure::{
        self, Setting,
        compare::{Plan, System},
    },
    state::LabState,
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
        /// Firewall nodes: 1, or 2 for a pair.
        #[arg(long, default_value_t = 1)]
        nodes: u8,
        /// Heartbeat interval of a pair.
        #[arg(long, default_value_t = 100)]
        interval_ms: u32,
        /// Intervals of silence that mean death.
        #[arg(long, default_value_t = 3)]
        misses: u32,
        /// Dedicated links between the nodes: 1 or 2.
        #[arg(long, default_value_t = 1)]
        sync_links: u8,
        /// Sessions that fit.
        #[arg(long)]
        capacity: Option<u32>,
        /// Packet workers of each node.
        #[arg(long)]
        workers: Option<u16>,
        /// How workers wait for packets.
        #[arg(long)]
        polling: Option<PollingArg>,
        /// Folder with an own a.toml (and b.toml) in place of the lab's configuration.
        #[arg(long, value_name = "DIR")]
        config: Option<PathBuf>,
        /// Say what is up as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Run a command on a host of the lab: lab exec client -- ping 10.2.0.10
    Exec {
        /// client, server, a, b or switch.
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
    /// Do harm to the pair that is up: kill a node, pull a cable, lose frames.
    Fault {
        #[command(subcommand)]
        fault: Fault,
    },
    /// Carry frames between the ends of a sync link, and lose some: the lab starts this itself.
    #[command(hide = true)]
    Forwarder {
        /// The link.
        link: String,
        #[arg(long, default_value_t = 0.0)]
        loss: f64,
        #[arg(long, default_value_t = 0.0)]
        duplication: f64,
        #[arg(long, default_value_t = 0.0)]
        reordering: f64,
        #[arg(long, default_value_t = 0)]
        delay_ms: u32,
        #[arg(long, value_enum, default_value = "both")]
        direction: DirectionArg,
        #[arg(long, default_value_t = 7)]
        seed: u64,
    },
    /// Put a lab up, send real traffic through it, show what passed, take it down.
    Demo {
        /// 2: a pair whose active node is killed; 1: one firewall, and what passes it.
        #[arg(long, default_value_t = 2)]
        nodes: u8,
        /// Heartbeat interval of the pair.
        #[arg(long, default_value_t = 100)]
        interval_ms: u32,
        /// Where the picture of the takeover goes.
        #[arg(long, value_name = "FILE", default_value = "target/takeover.svg")]
        picture: PathBuf,
        /// Close with one line of JSON.
        #[arg(long)]
        json: bool,
    },
    /// Measure the pair: takeovers, switchovers, bulk sync and repair, the sync link.
    Measure {
        /// What.
        what: MeasureArg,
        /// How often.
        #[arg(long, default_value_t = 10)]
        runs: u32,
        /// Sessions in the table beside those of the streams.
        #[arg(long)]
        sessions: Option<u32>,
        /// Heartbeat interval of the pair.
        #[arg(long, default_value_t = 100)]
        interval_ms: u32,
        /// Intervals of silence that mean death.
        #[arg(long, default_value_t = 3)]
        misses: u32,
        /// How workers wait for packets.
        #[arg(long)]
        polling: Option<PollingArg>,
        /// Close with one line of JSON.
        #[arg(long)]
        json: bool,
    },
    /// Measure the pair beside nftables, conntrackd and keepalived on the same cables.
    Compare {
        /// Deaths of the active machine for each system, by size of the table; the last is for all further sizes.
        #[arg(long, value_delimiter = ',', default_value = "5,5,3")]
        runs: Vec<u32>,
        /// Who goes through it; all of them by default.
        #[arg(long, value_delimiter = ',', default_value = "understudy,direct,cached")]
        systems: Vec<SystemArg>,
        /// Only the deaths and what leads to them: no forwarding, no cuts of the sync link.
        #[arg(long)]
        courses_only: bool,
        /// Sizes of the session table.
        #[arg(long, value_delimiter = ',', default_value = "1000,100000,500000")]
        sessions: Vec<u32>,
        /// Where to draw the figures.
        #[arg(long, value_name = "FILE")]
        picture: Option<PathBuf>,
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
enum MeasureArg {
    Takeover,
    Switchover,
    Bulk,
    Wire,
}

#[derive(Clone, Copy, ValueEnum)]
enum PollingArg {
    Adaptive,
    Busy,
}

/// Who is compared.
#[derive(Clone, Copy, ValueEnum)]
enum SystemArg {
    /// Our own pair.
    Understudy,
    /// nftables, keepalived, and conntrackd without an external cache.
    Direct,
    /// The same with an external cache.
    Cached,
}

impl SystemArg {
    fn system(self) -> System {
        match self {
            SystemArg::Understudy => System::Understudy,
            SystemArg::Direct => System::Direct,
            SystemArg::Cached => System::Cached,
        }
    }
}

impl PollingArg {
    fn polling(self) -> Polling {
        match self {
            PollingArg::Adaptive => Polling::Adaptive,
            PollingArg::Busy => Polling::Busy,
        }
    }
}

/// What can be done to a pair.
#[derive(Clone, Copy, Subcommand)]
enum Fault {
    /// SIGKILL to a node's daemon.
    Kill { node: NodeArg },
    /// SIGSTOP: it hangs.
    Stop { node: NodeArg },
    /// SIGCONT.
    Cont { node: NodeArg },
    /// SIGKILL and a new start at once; also the way back for a node that was killed.
    Restart { node: NodeArg },
    /// Pull a cable; `all` cuts everything between the nodes and nothing between them and the hosts.
    Cut { cable: CableArg },
    /// Plug a cable in again; `all` mends whatever was done to cables and links.
    Mend { cable: CableArg },
    /// Lose so many percent of a sync link's frames; 0 ends it.
    Loss(ImpairArgs),
    /// Double so many percent.
    Dup(ImpairArgs),
    /// Hold all back for so many milliseconds.
    Delay(ImpairArgs),
    /// Let so many percent be overtaken.
    Reorder(ImpairArgs),
}

#[derive(Clone, Copy, clap::Args)]
struct ImpairArgs {
    /// sync0 or sync1.
    link: SyncArg,
    /// Percent, or milliseconds for delay.
    amount: f64,
    /// For this and all that is set on the link.
    #[arg(long, value_enum, default_value = "both")]
    direction: DirectionArg,
}

#[derive(Clone, Copy, ValueEnum)]
enum NodeArg {
    A,
    B,
}

#[derive(Clone, Copy, ValueEnum)]
enum SyncArg {
    Sync0,
    Sync1,
}

#[derive(Clone, Copy, ValueEnum, PartialEq, Eq)]
enum CableArg {
    Sync0,
    Sync1,
    LanA,
    WanA,
    LanB,
    WanB,
    All,
}

#[derive(Clone, Copy, ValueEnum)]
enum DirectionArg {
    Both,
    FromA,
    FromB,
}

impl DirectionArg {
    fn direction(self) -> Direction {
        match self {
            DirectionArg::Both => Direction::Both,
            DirectionArg::FromA => Direction::FromA,
            DirectionArg::FromB => Direction::FromB,
        }
    }
}

impl NodeArg {
    fn host(self) -> Host {
        match self {
            NodeArg::A => Host::A,
            NodeArg::B => Host::B,
        }
    }
}

impl CableArg {
    /// The cable; none for `all`.
    fn cable(self) -> Option<Cable> {
        Some(match self {
            CableArg::Sync0 => Cable::Sync(SyncLink::FIRST),
            CableArg::Sync1 => Cable::Sync(SyncLink::SECOND),
            CableArg::LanA => Cable::Data(Network::Lan, Host::A),
            CableArg::WanA => Cable::Data(Network::Wan, Host::A),
            CableArg::LanB => Cable::Data(Network::Lan, Host::B),
            CableArg::WanB => Cable::Data(Network::Wan, Host::B),
            CableArg::All => return None,
        })
    }
}

/// How long a person is kept waiting for another lab.
const PATIENCE: Duration = Duration::from_secs(600);

fn main() -> ExitCode {
    let outcome = run(Cli::parse().command);
    // What went wrong because of a signal is no news, and not this thread's to tell.
    interrupt::wait_for_end();
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("lab: {error}");
            ExitCode::from(if matches!(error, LabError::Unsupported(_)) { 3 } else { 1 })
        }
    }
}

fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Up { nodes, interval_ms, misses, sync_links, capacity, workers, polling, config, json } => {
            let polling = polling.map(PollingArg::polling);
            let mut options = LabOptions {
                nodes,
                pair: PairSettings { interval_ms, misses, sync_links, ..PairSettings::default() },
                workers,
                polling,
                config_dir: config,
                patience: PATIENCE,
                ..LabOptions::default()
            };
            if let Some(capacity) = capacity {
                options = options.capacity(capacity);
            }
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
        Command::Fault { fault } => {
            guard::require_root()?;
            do_harm(fault)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Forwarder { link, loss, duplication, reordering, delay_ms, direction, seed } => {
            let link = SyncLink::from_name(&link)
                .ok_or_else(|| LabError::Unsupported(format!("{link} is no sync link")))?;
            let direction = direction.direction();
            let impairment = Impairment { loss, duplication, reordering, delay_ms, direction };
            forwarder::run(link, impairment, seed)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Demo { nodes: 1, json, .. } => {
            sweep_on_signals()?;
            let report = demo::single::run(PATIENCE)?;
            finish(report.table(), report.passed(), json.then(|| report.to_json()))
        }
        Command::Demo { interval_ms, picture, json, .. } => {
            sweep_on_signals()?;
            let pair = PairSettings { interval_ms, ..PairSettings::default() };
            let report = demo::pair::run(&demo::pair::Plan { pair, picture, patience: PATIENCE })?;
            finish(report.table(), report.passed(), json.then(|| report.to_json()))
        }
        Command::Measure { what, runs, sessions, interval_ms, misses, polling, json } => {
            sweep_on_signals()?;
            let polling = polling.map(PollingArg::polling);
            let setting = Setting {
                pair: PairSettings { interval_ms, misses, ..PairSettings::default() },
                sessions: sessions.unwrap_or(match what {
                    MeasureArg::Bulk => 500_000,
                    MeasureArg::Wire => 0,
                    MeasureArg::Takeover => 1_000,
                    MeasureArg::Switchover => 10_000,
                }),
                options: LabOptions { polling, patience: PATIENCE, ..LabOptions::default() },
            };
            let figures = match what {
                MeasureArg::Takeover => measure::takeover::takeover(&setting, runs)?,
                MeasureArg::Switchover => measure::takeover::switchovers(&setting, runs)?,
                MeasureArg::Bulk => measure::bulk::run(&setting, runs)?,
                MeasureArg::Wire => measure::wire::run(&setting, runs)?,
            };
            finish(figures.table(), figures.faults.is_empty(), json.then(|| figures.to_json()))
        }
        Command::Compare { runs, systems, courses_only, sessions, picture, json } => {
            sweep_on_signals()?;
            guard::require_root()?;
            let systems = systems.into_iter().map(SystemArg::system).collect();
            let plan = Plan { sessions, runs, systems, courses_only, patience: PATIENCE };
            let found = measure::compare::run(&plan)?;
            if let Some(path) = picture {
                found.draw(&path)?;
            }
            finish(found.to_markdown(), found.is_whole(), json.then(|| found.to_json()))
        }
        Command::Baseline { rounds, seconds, json } => {
            sweep_on_signals()?;
            let report = baseline::run(rounds, seconds, PATIENCE)?;
            finish(report.table(), true, json.then(|| report.to_json()))
        }
    }
}

fn do_harm(fault: Fault) -> Result<()> {
    let impair = |args: ImpairArgs, change: fn(&mut Impairment, f64)| {
        let link = match args.link {
            SyncArg::Sync0 => SyncLink::FIRST,
            SyncArg::Sync1 => SyncLink::SECOND,
        };
        let mut impairment = faults::impairment(link);
        change(&mut impairment, args.amount.max(0.0));
        impairment.direction = args.direction.direction();
        faults::impair(link, impairment)
    };
    match fault {
        Fault::Kill { node } => faults::hit(node.host(), ProcessFault::Kill),
        Fault::Stop { node } => faults::hit(node.host(), ProcessFault::Stop),
        Fault::Cont { node } => faults::hit(node.host(), ProcessFault::Cont),
        Fault::Restart { node } => faults::hit(node.host(), ProcessFault::Restart),
        Fault::Cut { cable } => cable.cable().map_or_else(faults::partition, faults::cut),
        Fault::Mend { cable } => cable.cable().map_or_else(faults::mend_all, faults::mend),
        Fault::Loss(args) => impair(args, |impairment, percent| impairment.loss = percent),
        Fault::Dup(args) => impair(args, |impairment, percent| impairment.duplication = percent),
        Fault::Delay(args) => impair(args, |impairment, ms| impairment.delay_ms = ms.min(60_000.0) as u32),
        Fault::Reorder(args) => impair(args, |impairment, percent| impairment.reordering = percent),
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
    if options.hosts().len() != state.nodes.len() {
        return Ok(None);
    }
    for (host, node) in options.hosts().iter().zip(&state.nodes) {
        let mut wanted = options.config(*host)?;
        wanted.set_control_socket(&node.control_socket)?;
        let text = std::fs::read_to_string(&node.config).unwrap_or_default();
        let there = NodeConfig::from_text(&text)?;
        if there.without_keys().to_text()? != wanted.without_keys().to_text()? {
            return Ok(None);
        }
    }
    Ok(Some(state))
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
    let host = Host::from_name(host).ok_or_else(|| {
        LabError::Unsupported(format!("host {host}: there are client, server, a, b and switch"))
    })?;
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
    // Half of it would look like all of it.
    interrupt::wait_for_end();
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
            if let Err(error) = guard::sweep_interrupted() {
                eprintln!("lab: {error}");
            }
            std::process::exit(128 + signal);
        }
    });
    Ok(())
}
