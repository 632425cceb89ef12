//! The command line. What is written here is also the reference in `docs/ha-ctl.md`.

use clap::{Args, Parser, Subcommand, ValueEnum};
use proto::{
    AddressFilter, Command, DEFAULT_SESSION_ROWS, Damage, DebugArgs, EventsArgs, ForceArgs, ForcedRole,
    MAX_EVENTS, MAX_SESSION_ROWS, MAX_TERMINATED, Protocol, SessionHandle, SessionsArgs, TerminateArgs,
    WaitArgs,
};
use std::path::PathBuf;
use std::time::Duration;

/// The longest that the daemon takes to end sessions, and a second for its answer.
const TERMINATES_FOR: Duration = Duration::from_secs(61);

/// Ask the firewall daemon understudyd, and show what it answers.
#[derive(Parser, Debug)]
#[command(name = "ha-ctl", version, max_term_width = 100)]
#[command(after_help = "\
Exit codes: 0 done, 1 the daemon refused, 2 wrong command line, 3 the daemon cannot be reached,
4 the two nodes differ (verify, compare).")]
pub struct Cli {
    /// The daemon's control socket ("control-socket" in its configuration)
    #[arg(long, global = true, value_name = "PATH", env = "UNDERSTUDY_SOCKET", hide_env_values = true)]
    #[arg(default_value = "/run/understudy/understudyd.sock")]
    pub socket: PathBuf,

    /// Print the answer as JSON, over several lines or as one ("--json=line")
    #[arg(long, global = true, value_name = "STYLE", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "pretty")]
    pub json: Option<JsonStyle>,

    /// Give up when the answer is not there after this many seconds, 0.1 to 3600
    #[arg(long, global = true, value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    pub timeout: Duration,

    /// What to do
    #[command(subcommand)]
    pub verb: Verb,
}

/// How JSON is laid out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum JsonStyle {
    /// Indented, over several lines
    Pretty,
    /// All on one line
    Line,
}

/// What to do.
#[derive(Subcommand, Debug)]
pub enum Verb {
    /// Show the node as a whole: role, policy, workers, ports, how full the tables are
    Status,
    /// List sessions, or count them by protocol and state
    ///
    /// Several filters must all match. Addresses and ports match on either side of a session.
    Sessions(SessionsFilter),
    /// Show every counter by name, first of all why packets were dropped
    Counters(CountersArgs),
    /// Show the rules in their order with what each of them did
    Rules,
    /// Show the link-layer neighbours and who is being asked for
    Neighbours,
    /// Show the routing table
    Routes,
    /// Prove that both nodes hold the same sessions: compare every digest now, and wait for the result
    ///
    /// Can be asked on either node. Exit code 4 if something differed; it is being repaired then.
    Verify,
    /// Show both nodes side by side, sessions by protocol, and in which groups of digests they differ
    ///
    /// Can be asked on either node. The lines are as old as the partner's last heartbeat, and under traffic the
    /// tables differ by what is under way; the digests are compared now, and prove. Exit code 4 if a line or a
    /// digest differs.
    Compare,
    /// Send all sessions to the standby again, without a restart
    ///
    /// Can be asked on either node.
    Resync,
    /// Move the active role to the other node without losing a packet, and wait until it has it
    ///
    /// Can be asked on either node. Refused unless the other node is proven in sync.
    Switchover,
    /// Keep this node active or standby, whatever quality and preference say, until "unforce"
    ///
    /// Forcing a node active while the other one is active moves the role, if need be without its sessions: prefer
    /// "switchover".
    Force(ForceVerb),
    /// Leave the role to the rules again
    Unforce,
    /// Show what happened to the pair, oldest first
    ///
    /// A node remembers its last 1,000 events. Names are stable: monitoring can rely on them.
    Events(EventsVerb),
    /// Watch both nodes: roles, rates, sessions, sync, paths, a line for each worker
    Top(TopVerb),
    /// End sessions, and say for each whether its ends were sent a reset
    ///
    /// Name one session by its handle, or filters that must all match, or --all. To be asked on the active node.
    Terminate(TerminateVerb),
    /// Make this node's key for a pair, or show the public half of one
    ///
    /// Prints the public key, which goes into the partner's configuration ("partner-key"). Needs no daemon.
    Keygen(KeygenArgs),
    /// Harm a mirrored session, to see that the pair finds and repairs it: for tests
    ///
    /// Obeyed on a standby only, and only with "debug-verbs = true" in its [pair].
    #[command(hide = true, subcommand)]
    Debug(DebugVerb),
    /// Print the reference of all verbs and arguments, in Markdown
    #[command(hide = true)]
    Reference,
}

/// Which sessions.
#[derive(Args, Debug)]
pub struct SessionsFilter {
    /// Count by protocol and state in place of a list
    #[arg(long)]
    pub count: bool,

    /// List at most this many
    #[arg(long, value_name = "N", default_value_t = DEFAULT_SESSION_ROWS)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_SESSION_ROWS)))]
    pub limit: u32,

    /// Only this IP protocol, by name (tcp, udp, icmp, icmpv6, gre, esp, ...) or number
    #[arg(long, value_name = "PROTOCOL")]
    pub proto: Option<Protocol>,

    /// Only with this address, or one in this prefix (10.1.0.0/24, fd00:1::/64)
    #[arg(long, value_name = "A[/LEN]")]
    pub address: Option<AddressFilter>,

    /// Only with this port, or this ICMP identifier
    #[arg(long, value_name = "P")]
    pub port: Option<u16>,

    /// Only in this state (established, syn-sent, time-wait, new, replied, ...)
    #[arg(long, value_name = "STATE")]
    pub state: Option<String>,
}

/// Which counters.
#[derive(Args, Debug)]
pub struct CountersArgs {
    /// Leave out what never happened (tables only: JSON has everything)
    #[arg(long)]
    pub nonzero: bool,
}

/// What to force.
#[derive(Args, Debug)]
pub struct ForceVerb {
    /// What this node is to be
    #[arg(value_name = "ROLE")]
    pub role: RoleArg,
}

/// What a node can be forced to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum RoleArg {
    /// Forward
    Active,
    /// Never forward
    Standby,
}

/// What to do to the node.
#[derive(Subcommand, Debug)]
pub enum DebugVerb {
    /// Harm the copy of a session
    Damage(DamageVerb),
}

/// Which harm.
#[derive(Args, Debug)]
pub struct DamageVerb {
    /// Change it, take it away, or add one like it
    #[arg(value_name = "HOW")]
    pub how: DamageArg,

    /// This one, by worker and slot as "ha-ctl sessions --json" shows them (default: the first one)
    #[arg(long, value_name = "W/S")]
    pub session: Option<SessionHandle>,
}

/// How a session can be harmed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum DamageArg {
    /// Change it
    Corrupt,
    /// Take it away
    Drop,
    /// Add one like it
    Add,
}

/// Which events.
#[derive(Args, Debug)]
pub struct EventsVerb {
    /// Go on with what happens from now on, until interrupted
    #[arg(long)]
    pub follow: bool,

    /// Only events after this one
    #[arg(long, value_name = "ID", default_value_t = 0)]
    pub since: u64,

    /// The newest so many at most
    #[arg(long, value_name = "N", default_value_t = MAX_EVENTS)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_EVENTS)))]
    pub limit: u32,
}

/// How to watch.
#[derive(Args, Debug)]
pub struct TopVerb {
    /// Time between two views, 0.1 to 3600
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    pub interval: Duration,

    /// End after so many views (default: go on until interrupted)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
}

/// Which sessions end.
#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("which").required(true).multiple(true))]
pub struct TerminateVerb {
    /// This one, by worker and slot as "ha-ctl sessions --json" shows them
    #[arg(long, value_name = "W/S", group = "which")]
    pub session: Option<SessionHandle>,

    /// All of them (those that match, with filters)
    #[arg(long, group = "which")]
    pub all: bool,

    /// Only this IP protocol, by name or number
    #[arg(long, value_name = "PROTOCOL", group = "which")]
    pub proto: Option<Protocol>,

    /// Only with this address, or one in this prefix
    #[arg(long, value_name = "A[/LEN]", group = "which")]
    pub address: Option<AddressFilter>,

    /// Only with this port, or this ICMP identifier
    #[arg(long, value_name = "P", group = "which")]
    pub port: Option<u16>,

    /// Only in this state
    #[arg(long, value_name = "STATE", group = "which")]
    pub state: Option<String>,

    /// End at most this many
    #[arg(long, value_name = "N", default_value_t = MAX_TERMINATED)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_TERMINATED)))]
    pub limit: u32,
}

/// Which key.
#[derive(Args, Debug)]
pub struct KeygenArgs {
    /// Write the secret key to this file, which must not exist yet, with mode 0600 (default: print both keys)
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,

    /// Make no key: print the public key of this file
    #[arg(long, value_name = "FILE", conflicts_with = "out")]
    pub show: Option<PathBuf>,
}

impl Cli {
    /// The request that the verb stands for; `None` if it needs no daemon or more than one answer.
    pub fn request(&self) -> Option<Command> {
        let wait = WaitArgs { timeout_ms: u32::try_from(self.timeout.as_millis()).unwrap_or(u32::MAX) };
        Some(match &self.verb {
            Verb::Status => Command::Status,
            Verb::Sessions(filter) => Command::Sessions(SessionsArgs {
                count: filter.count,
                limit: filter.limit,
                proto: filter.proto,
                address: filter.address,
                port: filter.port,
                state: filter.state.clone(),
            }),
            Verb::Counters(_) => Command::Counters,
            Verb::Rules => Command::Rules,
            Verb::Neighbours => Command::Neighbours,
            Verb::Routes => Command::Routes,
            Verb::Verify => Command::Verify(wait),
            Verb::Compare => Command::Compare(wait),
            Verb::Resync => Command::Resync,
            Verb::Switchover => Command::Switchover(wait),
            Verb::Force(force) => Command::Force(ForceArgs {
                role: match force.role {
                    RoleArg::Active => ForcedRole::Active,
                    RoleArg::Standby => ForcedRole::Standby,
                },
            }),
            Verb::Unforce => Command::Unforce,
            Verb::Events(args) if args.follow => return None,
            Verb::Events(args) => {
                Command::Events(EventsArgs { since: args.since, limit: args.limit, wait_ms: 0 })
            }
            Verb::Terminate(which) => Command::Terminate(TerminateArgs {
                session: which.session,
                all: which.all,
                limit: which.limit,
                proto: which.proto,
                address: which.address,
                port: which.port,
                state: which.state.clone(),
            }),
            Verb::Debug(DebugVerb::Damage(verb)) => Command::Debug(DebugArgs {
                damage: match verb.how {
                    DamageArg::Corrupt => Damage::Corrupt,
                    DamageArg::Drop => Damage::Drop,
                    DamageArg::Add => Damage::Add,
                },
                session: verb.session,
            }),
            Verb::Top(_) | Verb::Keygen(_) | Verb::Reference => return None,
        })
    }

    /// How long to wait for the answer: a daemon that waits itself gets the chance to say that it was in vain.
    pub fn patience(&self) -> Duration {
        match self.verb {
            Verb::Verify | Verb::Compare | Verb::Switchover => self.timeout + Duration::from_secs(1),
            // Each end may be asked for its numbers for two seconds, and many sessions go in waves.
            Verb::Terminate(_) => self.timeout.max(TERMINATES_FOR),
            _ => self.timeout,
        }
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let wrong = || "write a number of seconds from 0.1 to 3600".to_owned();
    let seconds: f64 = text.parse().map_err(|_| wrong())?;
    if (0.1..=3600.0).contains(&seconds) { Ok(Duration::from_secs_f64(seconds)) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn filters_reach_the_request() {
        let line = "ha-ctl sessions --limit 7 --proto udp --address fd00:1::/64 --port 53 --state replied --json=line";
        let cli = Cli::try_parse_from(line.split(' ')).unwrap();
        assert_eq!(cli.json, Some(JsonStyle::Line));
        let expected = SessionsArgs {
            count: false,
            limit: 7,
            proto: Some(Protocol::UDP),
            address: Some("fd00:1::/64".parse().unwrap()),
            port: Some(53),
            state: Some("replied".into()),
        };
        assert_eq!(cli.request(), Some(Command::Sessions(expected)));
    }

    #[test]
    fn wrong_values_are_usage_errors() {
        for line in [
            "ha-ctl",
            "ha-ctl dance",
            "ha-ctl sessions --limit 0",
            "ha-ctl sessions --limit 65537",
            "ha-ctl sessions --proto tpc",
            "ha-ctl sessions --address 10.1.0.0/33",
            "ha-ctl sessions --port 65536",
            "ha-ctl status --timeout 0",
            "ha-ctl status --timeout nan",
            "ha-ctl status --json=xml",
            "ha-ctl status extra",
            "ha-ctl force",
            "ha-ctl force init",
            "ha-ctl events --limit 0",
            "ha-ctl events --since x",
            "ha-ctl top --count 0",
            "ha-ctl top --interval 0",
            "ha-ctl terminate",
            "ha-ctl terminate --limit 5",
            "ha-ctl terminate --session 17",
            "ha-ctl terminate --port 22 --limit 1001",
        ] {
            let error = Cli::try_parse_from(line.split(' ')).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn orders_reach_the_request() {
        let command = |line: &str| Cli::try_parse_from(line.split(' ')).unwrap().request();
        let wait = |timeout_ms| WaitArgs { timeout_ms };
        assert_eq!(command("ha-ctl switchover"), Some(Command::Switchover(wait(5_000))));
        assert_eq!(command("ha-ctl verify --timeout 0.5"), Some(Command::Verify(wait(500))));
        let standby = ForceArgs { role: ForcedRole::Standby };
        assert_eq!(command("ha-ctl force standby"), Some(Command::Force(standby)));
        let events = EventsArgs { since: 7, limit: 3, wait_ms: 0 };
        assert_eq!(command("ha-ctl events --since 7 --limit 3"), Some(Command::Events(events)));
        let one = TerminateArgs {
            session: Some(SessionHandle { worker: 1, slot: 17 }),
            limit: MAX_TERMINATED,
            ..TerminateArgs::default()
        };
        assert_eq!(command("ha-ctl terminate --session 1/17"), Some(Command::Terminate(one)));
        let harm = DebugArgs { damage: Damage::Drop, session: None };
        assert_eq!(command("ha-ctl debug damage drop"), Some(Command::Debug(harm)));
        assert_eq!(command("ha-ctl events --follow"), None);
        assert_eq!(command("ha-ctl top --count 1"), None);
    }

    #[test]
    fn b_33_the_answer_to_terminate_is_waited_for_as_long_as_the_daemon_may_take() {
        let patience = |line: &str| Cli::try_parse_from(line.split(' ')).unwrap().patience();
        assert_eq!(patience("ha-ctl terminate --all"), Duration::from_secs(61));
        assert_eq!(patience("ha-ctl terminate --all --timeout 90"), Duration::from_secs(90));
        assert_eq!(patience("ha-ctl compare"), Duration::from_secs(6));
        assert_eq!(patience("ha-ctl status"), Duration::from_secs(5));
    }

    #[test]
    fn json_takes_no_verb_for_its_style() {
        let cli = Cli::try_parse_from(["ha-ctl", "--json", "status"]).unwrap();
        assert_eq!((cli.json, matches!(cli.verb, Verb::Status)), (Some(JsonStyle::Pretty), true));
    }
}
