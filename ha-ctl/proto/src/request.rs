//! Requests, and how a line becomes one.

use crate::{Error, ErrorCode, Protocol, VERSION};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};
use std::fmt;
use std::net::IpAddr;
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
}

impl Command {
    /// Every command's name.
    pub const NAMES: [&str; 6] = ["status", "sessions", "counters", "rules", "neighbours", "routes"];

    /// The command's name as it stands on the wire.
    pub fn name(&self) -> &'static str {
        match self {
            Command::Status => "status",
            Command::Sessions(_) => "sessions",
            Command::Counters => "counters",
            Command::Rules => "rules",
            Command::Neighbours => "neighbours",
            Command::Routes => "routes",
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
