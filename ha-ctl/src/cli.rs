//! The command line. What is written here is also the reference in `docs/ha-ctl.md`.

use clap::{Args, Parser, Subcommand, ValueEnum};
use proto::{AddressFilter, Command, DEFAULT_SESSION_ROWS, MAX_SESSION_ROWS, Protocol, SessionsArgs};
use std::path::PathBuf;
use std::time::Duration;

/// Ask the firewall daemon understudyd, and show what it answers.
#[derive(Parser, Debug)]
#[command(name = "ha-ctl", version, max_term_width = 100)]
#[command(after_help = "\
Exit codes: 0 done, 1 the daemon refused, 2 wrong command line, 3 the daemon cannot be reached.")]
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
    /// Make this node's key for a pair, or show the public half of one
    ///
    /// Prints the public key, which goes into the partner's configuration ("partner-key"). Needs no daemon.
    Keygen(KeygenArgs),
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

impl Verb {
    /// The request that the verb stands for; `None` if it needs no daemon.
    pub fn command(&self) -> Option<Command> {
        Some(match self {
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
            Verb::Keygen(_) | Verb::Reference => return None,
        })
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
        assert_eq!(cli.verb.command(), Some(Command::Sessions(expected)));
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
        ] {
            let error = Cli::try_parse_from(line.split(' ')).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn json_takes_no_verb_for_its_style() {
        let cli = Cli::try_parse_from(["ha-ctl", "--json", "status"]).unwrap();
        assert_eq!((cli.json, matches!(cli.verb, Verb::Status)), (Some(JsonStyle::Pretty), true));
    }
}
