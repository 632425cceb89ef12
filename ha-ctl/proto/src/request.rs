//! Requests, and how a line becomes one.

use crate::{Error, ErrorCode, Protocol, VERSION};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};
use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// Rows of a `sessions` answer unless the request says otherwise.
pub const DEFAULT_SESSION_ROWS: u32 = 1_000;

/// The most rows that one `sessions` answer holds: keeps the line below [`crate::MAX_RESPONSE_BYTES`].
pub const MAX_SESSION_ROWS: u32 = 65_536;

/// One line from a client.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Request {
    /// The protocol version that the client speaks.
    pub v: u32,
    /// What it wants.
    #[serde(flatten)]
    pub command: Command,
}

impl Request {
    /// A request in this version of the protocol.
    pub fn new(command: Command) -> Self {
        Self { v: VERSION, command }
    }

    /// Reads a request from a line (with or without its line feed); the error is ready to be sent back.
    ///
    /// The version is judged before the command, and the command before its arguments, so that a client of
    /// another release learns the reason that helps it.
    pub fn parse(line: &[u8]) -> Result<Self, Error> {
        let mut fields: Map<String, Value> = serde_json::from_slice(line).map_err(|error| {
            let what = format!("the request is not a JSON object: {error}");
            Error::new(ErrorCode::BadRequest, what, r#"send one line like {"v":1,"cmd":"status"}"#)
        })?;
        let v = fields.remove("v").as_ref().and_then(Value::as_u64).ok_or_else(|| {
            let what = "the request does not say which version of the protocol it speaks";
            Error::new(ErrorCode::BadRequest, what, format!(r#"add "v":{VERSION}"#))
        })?;
        if v != u64::from(VERSION) {
            let what = format!("protocol version {v} is not spoken here, only version {VERSION}");
            let hint = "use the ha-ctl that was installed with this understudyd";
            return Err(Error::new(ErrorCode::UnsupportedVersion, what, hint));
        }
        let Some(Value::String(cmd)) = fields.remove("cmd") else {
            let what = r#"the request has no "cmd" that is a string"#;
            return Err(Error::new(
                ErrorCode::BadRequest,
                what,
                format!("commands are {}", Command::NAMES.join(", ")),
            ));
        };
        Ok(Self { v: VERSION, command: Command::parse(&cmd, fields)? })
    }
}

/// What a client can ask for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(tag = "cmd", rename_all = "kebab-case")]
pub enum Command {
    /// The node as a whole: answered with [`crate::Status`].
    Status,
    /// The session table: answered with [`crate::Sessions`], or with [`crate::SessionCounts`] for `count`.
    Sessions(SessionsArgs),
    /// Every counter by name: answered with [`crate::Counters`].
    Counters,
    /// The rules in their order, the default deny last: answered with [`crate::Rules`].
    Rules,
    /// Link-layer neighbours: answered with [`crate::Neighbours`].
    Neighbours,
    /// The routing table: answered with [`crate::Routes`].
    Routes,
    /// Compare all digests of both tables now: answered with [`crate::Verified`] when that is done.
    Verify(WaitArgs),
    /// Both nodes side by side, and all digests: answered with [`crate::Compared`] when that is done, or
    /// without the digests when the time is over.
    Compare(WaitArgs),
    /// Send all sessions to the standby again: answered with [`crate::Ordered`] at once.
    Resync,
    /// Move the active role to the other node: answered with [`crate::SwitchedOver`] when that is done.
    Switchover(WaitArgs),
    /// Keep this node active or standby whatever the rules say: answered with [`crate::Ordered`].
    Force(ForceArgs),
    /// Back to the rules: answered with [`crate::Ordered`].
    Unforce,
    /// What happened: answered with [`crate::Events`], at once or when something happens.
    Events(EventsArgs),
    /// End sessions: answered with [`crate::Terminated`] when they have ended.
    Terminate(TerminateArgs),
    /// Harm a mirrored session, for tests: answered with [`crate::Damaged`].
    Debug(DebugArgs),
}

impl Command {
    /// Every command's name.
    pub const NAMES: [&str; 15] = [
        "status",
        "sessions",
        "counters",
        "rules",
        "neighbours",
        "routes",
        "verify",
        "compare",
        "resync",
        "switchover",
        "force",
        "unforce",
        "events",
        "terminate",
        "debug",
    ];

    /// The command's name as it stands on the wire.
    pub fn name(&self) -> &'static str {
        match self {
            Command::Status => "status",
            Command::Sessions(_) => "sessions",
            Command::Counters => "counters",
            Command::Rules => "rules",
            Command::Neighbours => "neighbours",
            Command::Routes => "routes",
            Command::Verify(_) => "verify",
            Command::Compare(_) => "compare",
            Command::Resync => "resync",
            Command::Switchover(_) => "switchover",
            Command::Force(_) => "force",
            Command::Unforce => "unforce",
            Command::Events(_) => "events",
            Command::Terminate(_) => "terminate",
            Command::Debug(_) => "debug",
        }
    }

    fn parse(cmd: &str, arguments: Map<String, Value>) -> Result<Self, Error> {
        Ok(match cmd {
            "status" => Command::Status,
            "sessions" => Command::Sessions(SessionsArgs::parse(arguments)?),
            "counters" => Command::Counters,
            "rules" => Command::Rules,
            "neighbours" => Command::Neighbours,
            "routes" => Command::Routes,
            "verify" => Command::Verify(WaitArgs::parse(cmd, arguments)?),
            "compare" => Command::Compare(WaitArgs::parse(cmd, arguments)?),
            "resync" => Command::Resync,
            "switchover" => Command::Switchover(WaitArgs::parse(cmd, arguments)?),
            "force" => Command::Force(read(cmd, arguments, "the argument is role: active or standby")?),
            "unforce" => Command::Unforce,
            "events" => Command::Events(EventsArgs::parse(arguments)?),
            "terminate" => Command::Terminate(TerminateArgs::parse(arguments)?),
            "debug" => {
                let hint = "arguments are damage (corrupt, drop or add) and session ({worker, slot})";
                Command::Debug(read(cmd, arguments, hint)?)
            }
            other => {
                // A name of any length may come in; it goes back in its first characters only.
                let shown: String = other.chars().take(32).collect();
                let what = format!("there is no command {shown:?}");
                let hint = format!("commands are {}", Command::NAMES.join(", "));
                return Err(Error::new(ErrorCode::UnknownCommand, what, hint));
            }
        })
    }
}

/// Arguments as a type; what does not fit is refused with a hint.
fn read<T: DeserializeOwned>(cmd: &str, arguments: Map<String, Value>, hint: &str) -> Result<T, Error> {
    serde_json::from_value(Value::Object(arguments)).map_err(|error| {
        let what = format!("an argument of {cmd:?} is not understood: {error}");
        Error::new(ErrorCode::BadArgument, what, hint)
    })
}

/// A number in its range, or a refusal.
fn in_range(name: &str, number: u32, range: RangeInclusive<u32>, hint: &str) -> Result<(), Error> {
    if range.contains(&number) {
        return Ok(());
    }
    let what = format!("{name} is {number}, which is not in {}..={}", range.start(), range.end());
    Err(Error::new(ErrorCode::BadArgument, what, hint))
}

/// How long the daemon may take.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct WaitArgs {
    /// After that long the answer is a refusal, 100..=3600000. What was ordered is not called off by it.
    #[serde(default = "default_wait_ms")]
    pub timeout_ms: u32,
}

impl Default for WaitArgs {
    fn default() -> Self {
        Self { timeout_ms: default_wait_ms() }
    }
}

impl WaitArgs {
    fn parse(cmd: &str, arguments: Map<String, Value>) -> Result<Self, Error> {
        let hint = "the argument is timeout_ms, in milliseconds";
        let args: Self = read(cmd, arguments, hint)?;
        in_range("timeout_ms", args.timeout_ms, 100..=3_600_000, hint)?;
        Ok(args)
    }
}

fn default_wait_ms() -> u32 {
    10_000
}

/// What a node is kept to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ForceArgs {
    /// Active or standby.
    pub role: ForcedRole,
}

/// Active or standby.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ForcedRole {
    /// Forwards.
    Active,
    /// Never forwards.
    Standby,
}

/// What harm is done to which session.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DebugArgs {
    /// How it is harmed.
    pub damage: Damage,
    /// Which one; the first that is found if none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionHandle>,
}

/// How a mirrored session is harmed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Damage {
    /// It is changed.
    Corrupt,
    /// It goes.
    Drop,
    /// One like it is added.
    Add,
}

/// The most events that a daemon remembers and an answer holds.
pub const MAX_EVENTS: u32 = 1_000;

/// Which events.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct EventsArgs {
    /// Only those with a higher id.
    #[serde(default)]
    pub since: u64,
    /// The newest so many at most, 1..=[`MAX_EVENTS`].
    #[serde(default = "default_events")]
    pub limit: u32,
    /// If there are none: wait for one, so many milliseconds at most, up to 60000.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub wait_ms: u32,
}

impl Default for EventsArgs {
    fn default() -> Self {
        Self { since: 0, limit: MAX_EVENTS, wait_ms: 0 }
    }
}

impl EventsArgs {
    fn parse(arguments: Map<String, Value>) -> Result<Self, Error> {
        let hint = "arguments are since (id), limit, wait_ms";
        let args: Self = read("events", arguments, hint)?;
        in_range("limit", args.limit, 1..=MAX_EVENTS, hint)?;
        in_range("wait_ms", args.wait_ms, 0..=60_000, hint)?;
        Ok(args)
    }
}

fn default_events() -> u32 {
    MAX_EVENTS
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// The most sessions that one `terminate` ends.
pub const MAX_TERMINATED: u32 = 1_000;

/// Which sessions are to end: one by its handle, or those that match every filter. None of either is
/// refused; all of them must be asked for.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct TerminateArgs {
    /// The one session by its handle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionHandle>,
    /// Every session, filters or not.
    #[serde(default, skip_serializing_if = "is_false")]
    pub all: bool,
    /// The most sessions to end, 1..=[`MAX_TERMINATED`].
    #[serde(default = "default_terminated")]
    pub limit: u32,
    /// Only this IP protocol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proto: Option<Protocol>,
    /// Only sessions with an address in this prefix on either side.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<AddressFilter>,
    /// Only sessions with this port (or ICMP identifier) on either side.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Only sessions in this state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
}

impl TerminateArgs {
    fn parse(arguments: Map<String, Value>) -> Result<Self, Error> {
        let hint = "arguments are session ({worker, slot}), all (bool), limit, proto, address, port, state";
        let args: Self = read("terminate", arguments, hint)?;
        in_range("limit", args.limit, 1..=MAX_TERMINATED, hint)?;
        let filtered =
            args.proto.is_some() || args.address.is_some() || args.port.is_some() || args.state.is_some();
        if args.session.is_none() && !filtered && !args.all {
            let what = "nothing says which sessions are to end";
            let hint = "name one session, or filters, or ask for all of them";
            return Err(Error::new(ErrorCode::BadArgument, what, hint));
        }
        Ok(args)
    }

    /// The filters as those of a list.
    pub fn filter(&self) -> SessionsArgs {
        SessionsArgs {
            count: false,
            limit: self.limit,
            proto: self.proto,
            address: self.address,
            port: self.port,
            state: self.state.clone(),
        }
    }
}

fn default_terminated() -> u32 {
    MAX_TERMINATED
}

/// A session's place: [`crate::SessionRow::worker`] and [`crate::SessionRow::slot`]. As text `worker/slot`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SessionHandle {
    /// The worker.
    pub worker: u32,
    /// The place in its shard.
    pub slot: u32,
}

impl FromStr for SessionHandle {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || {
            let (worker, slot) = text.split_once('/')?;
            Some(Self { worker: worker.parse().ok()?, slot: slot.parse().ok()? })
        };
        parse().ok_or_else(|| format!("{text:?} is no session: write WORKER/SLOT, as in 0/17"))
    }
}

/// Which sessions, and how many of them. A filter that is absent lets everything through; several filters
/// must all match.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SessionsArgs {
    /// Totals by protocol and state in place of rows.
    #[serde(default, skip_serializing_if = "is_false")]
    pub count: bool,
    /// The most rows to return, 1..=[`MAX_SESSION_ROWS`]. No meaning with `count`.
    #[serde(default = "default_limit")]
    pub limit: u32,
    /// Only this IP protocol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proto: Option<Protocol>,
    /// Only sessions with an address in this prefix on either side.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<AddressFilter>,
    /// Only sessions with this port (or ICMP identifier) on either side.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Only sessions in this state, by its name as in [`crate::SessionRow::state`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
}

impl Default for SessionsArgs {
    fn default() -> Self {
        Self {
            count: false,
            limit: DEFAULT_SESSION_ROWS,
            proto: None,
            address: None,
            port: None,
            state: None,
        }
    }
}

impl SessionsArgs {
    fn parse(arguments: Map<String, Value>) -> Result<Self, Error> {
        let args: Self = serde_json::from_value(Value::Object(arguments)).map_err(|error| {
            let what = format!("an argument of \"sessions\" is not understood: {error}");
            let hint = "arguments are count (bool), limit, proto, address (address or prefix), port, state";
            Error::new(ErrorCode::BadArgument, what, hint)
        })?;
        if args.limit == 0 || args.limit > MAX_SESSION_ROWS {
            let what = format!("limit is {}, which is not in 1..={MAX_SESSION_ROWS}", args.limit);
            let hint = "narrow the filters, or ask for totals with count";
            return Err(Error::new(ErrorCode::BadArgument, what, hint));
        }
        Ok(args)
    }
}

fn default_limit() -> u32 {
    DEFAULT_SESSION_ROWS
}

fn is_false(value: &bool) -> bool {
    !value
}

/// An address or a prefix to compare with. On the wire a string: `10.1.0.10`, `10.1.0.0/24`, `fd00:1::/64`.
/// Bits behind the prefix length do not matter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AddressFilter {
    address: IpAddr,
    prefix_len: u8,
}

impl AddressFilter {
    /// The addresses that begin like `address` in `prefix_len` bits; `None` if it has no such bits.
    pub fn new(address: IpAddr, prefix_len: u8) -> Option<Self> {
        (prefix_len <= bits(address)).then_some(Self { address, prefix_len })
    }

    /// True if `address` is of the filter's family and lies in its prefix.
    pub fn matches(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(want), IpAddr::V4(have)) => {
                let differing = u32::from(want) ^ u32::from(have);
                differing.leading_zeros() >= u32::from(self.prefix_len)
            }
            (IpAddr::V6(want), IpAddr::V6(have)) => {
                let differing = u128::from(want) ^ u128::from(have);
                differing.leading_zeros() >= u32::from(self.prefix_len)
            }
            _ => false,
        }
    }
}

fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

impl FromStr for AddressFilter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is neither an address nor a prefix such as 10.1.0.0/24");
        let (address, prefix_len) = match text.split_once('/') {
            Some((address, len)) => (address, Some(len.parse().map_err(|_| wrong())?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        AddressFilter::new(address, prefix_len.unwrap_or(bits(address))).ok_or_else(wrong)
    }
}

impl fmt::Display for AddressFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.prefix_len == bits(self.address) {
            write!(f, "{}", self.address)
        } else {
            write!(f, "{}/{}", self.address, self.prefix_len)
        }
    }
}

impl Serialize for AddressFilter {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for AddressFilter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(line: &str) -> ErrorCode {
        Request::parse(line.as_bytes()).unwrap_err().code
    }

    #[test]
    fn each_command_survives_the_wire() {
        let everything = SessionsArgs {
            count: true,
            limit: 7,
            proto: Some(Protocol(47)),
            address: Some("10.1.0.0/24".parse().unwrap()),
            port: Some(443),
            state: Some("established".into()),
        };
        for command in [
            Command::Status,
            Command::Sessions(SessionsArgs::default()),
            Command::Sessions(everything),
            Command::Counters,
            Command::Rules,
            Command::Neighbours,
            Command::Routes,
            Command::Verify(WaitArgs { timeout_ms: 700 }),
            Command::Compare(WaitArgs { timeout_ms: 900 }),
            Command::Resync,
            Command::Switchover(WaitArgs::default()),
            Command::Force(ForceArgs { role: ForcedRole::Standby }),
            Command::Unforce,
            Command::Debug(DebugArgs { damage: Damage::Add, session: Some("1/2".parse().unwrap()) }),
            Command::Events(EventsArgs::default()),
            Command::Events(EventsArgs { since: u64::MAX, limit: 1, wait_ms: 60_000 }),
            Command::Terminate(TerminateArgs { all: true, limit: 5, ..TerminateArgs::default() }),
            Command::Terminate(TerminateArgs {
                session: Some("3/17".parse().unwrap()),
                limit: 1,
                proto: Some(Protocol::TCP),
                ..TerminateArgs::default()
            }),
        ] {
            let request = Request::new(command);
            let line = serde_json::to_string(&request).unwrap();
            assert!(line.contains(&format!("\"cmd\":\"{}\"", request.command.name())), "{line}");
            assert!(Command::NAMES.contains(&request.command.name()));
            assert_eq!(Request::parse(line.as_bytes()), Ok(request), "{line}");
        }
    }

    #[test]
    fn golden_requests() {
        let line = |command| serde_json::to_string(&Request::new(command)).unwrap();
        assert_eq!(line(Command::Status), r#"{"v":1,"cmd":"status"}"#);
        assert_eq!(
            line(Command::Sessions(SessionsArgs::default())),
            r#"{"v":1,"cmd":"sessions","limit":1000}"#
        );
        let args = SessionsArgs {
            proto: Some(Protocol::TCP),
            address: Some("fd00:1::/64".parse().unwrap()),
            port: Some(80),
            state: Some("established".into()),
            ..SessionsArgs::default()
        };
        assert_eq!(
            line(Command::Sessions(args)),
            r#"{"v":1,"cmd":"sessions","limit":1000,"proto":"tcp","address":"fd00:1::/64","port":80,"state":"established"}"#
        );
        assert_eq!(
            line(Command::Switchover(WaitArgs::default())),
            r#"{"v":1,"cmd":"switchover","timeout_ms":10000}"#
        );
        let standby = ForceArgs { role: ForcedRole::Standby };
        assert_eq!(line(Command::Force(standby)), r#"{"v":1,"cmd":"force","role":"standby"}"#);
        assert_eq!(
            line(Command::Events(EventsArgs { since: 7, wait_ms: 500, ..EventsArgs::default() })),
            r#"{"v":1,"cmd":"events","since":7,"limit":1000,"wait_ms":500}"#
        );
        let one =
            TerminateArgs { session: Some("0/17".parse().unwrap()), limit: 1, ..TerminateArgs::default() };
        assert_eq!(
            line(Command::Terminate(one)),
            r#"{"v":1,"cmd":"terminate","session":{"worker":0,"slot":17},"limit":1}"#
        );
    }

    #[test]
    fn unknown_fields_are_ignored_and_absent_ones_have_defaults() {
        let request = Request::parse(br#"{"cmd":"sessions","colour":"blue","v":1}"#).unwrap();
        assert_eq!(request.command, Command::Sessions(SessionsArgs::default()));
    }

    #[test]
    fn refusals_name_the_reason_that_helps() {
        for line in
            ["", "\n", "status", "[1]", "{", "{\"v\":1", "{}", r#"{"v":"1","cmd":"status"}"#, r#"{"v":1}"#]
        {
            assert_eq!(code(line), ErrorCode::BadRequest, "{line}");
        }
        // A newer client's request has another version and an unknown command: the version is what helps.
        assert_eq!(code(r#"{"v":2,"cmd":"dance"}"#), ErrorCode::UnsupportedVersion);
        assert_eq!(code(r#"{"v":1,"cmd":"dance"}"#), ErrorCode::UnknownCommand);
        for args in [
            r#""limit":0"#,
            r#""limit":65537"#,
            r#""limit":-1"#,
            r#""port":65536"#,
            r#""proto":"tpc""#,
            r#""proto":"256""#,
            r#""address":"10.1.0.0/33""#,
            r#""address":"here""#,
            r#""count":"yes""#,
        ] {
            assert_eq!(
                code(&format!(r#"{{"v":1,"cmd":"sessions",{args}}}"#)),
                ErrorCode::BadArgument,
                "{args}"
            );
        }
    }

    #[test]
    fn b_33_nothing_ends_that_was_not_asked_for() {
        for line in [
            r#"{"v":1,"cmd":"terminate"}"#,
            r#"{"v":1,"cmd":"terminate","limit":7}"#,
            r#"{"v":1,"cmd":"terminate","all":false}"#,
            r#"{"v":1,"cmd":"terminate","all":true,"limit":0}"#,
            r#"{"v":1,"cmd":"terminate","session":{"worker":0}}"#,
            r#"{"v":1,"cmd":"terminate","session":"0/1"}"#,
            r#"{"v":1,"cmd":"debug"}"#,
            r#"{"v":1,"cmd":"debug","damage":"everything"}"#,
            r#"{"v":1,"cmd":"force"}"#,
            r#"{"v":1,"cmd":"force","role":"init"}"#,
            r#"{"v":1,"cmd":"verify","timeout_ms":99}"#,
            r#"{"v":1,"cmd":"switchover","timeout_ms":-1}"#,
            r#"{"v":1,"cmd":"events","limit":1001}"#,
            r#"{"v":1,"cmd":"events","wait_ms":60001}"#,
        ] {
            assert_eq!(code(line), ErrorCode::BadArgument, "{line}");
        }
        let request = Request::parse(br#"{"v":1,"cmd":"terminate","port":22}"#).unwrap();
        let expected = TerminateArgs { port: Some(22), limit: MAX_TERMINATED, ..TerminateArgs::default() };
        assert_eq!(request.command, Command::Terminate(expected));
        for text in ["", "1", "1/", "/1", "a/1", "1/2/3", "-1/2"] {
            assert!(text.parse::<SessionHandle>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_refusal_does_not_echo_a_long_name() {
        let line = format!(r#"{{"v":1,"cmd":"{}"}}"#, "x".repeat(50_000));
        let error = Request::parse(line.as_bytes()).unwrap_err();
        assert!(error.message.len() < 100, "{}", error.message.len());
    }

    #[test]
    fn address_filters_compare_prefixes_in_their_family() {
        let filter: AddressFilter = "10.1.0.77/24".parse().unwrap();
        let matches = |text: &str| filter.matches(text.parse().unwrap());
        assert!(matches("10.1.0.1") && matches("10.1.0.255"));
        assert!(!matches("10.1.1.1") && !matches("::ffff:10.1.0.1") && !matches("fd00:1::1"));
        let host: AddressFilter = "fd00:1::1".parse().unwrap();
        assert!(host.matches("fd00:1::1".parse().unwrap()) && !host.matches("fd00:1::2".parse().unwrap()));
        let all: AddressFilter = "::/0".parse().unwrap();
        assert!(all.matches("fd00:1::2".parse().unwrap()) && !all.matches("10.1.0.1".parse().unwrap()));
    }
}
