//! The control protocol: what `ha-ctl` asks and what `understudyd` answers.
//!
//! A Unix stream socket carries one JSON object a line in each direction, so that `socat` is a client, too:
//!
//! ```text
//! > {"v":1,"cmd":"status"}
//! < {"v":1,"ok":true,"data":{…}}
//! > {"v":1,"cmd":"dance"}
//! < {"v":1,"ok":false,"error":{"code":"unknown-command","message":"…","hint":"…"}}
//! ```
//!
//! What holds the two programs together across releases: every line names the protocol's [`VERSION`],
//! unknown fields are ignored on both sides, new fields are optional, and what a name means never changes.
//! A daemon answers each request with exactly one line, also when it cannot read it.
//!
//! Units: names end in them. `_ms` are milliseconds, `_s` seconds, `_bytes` bytes, `_permille` thousandths;
//! counters are since the start of the process and never fall. A duration is relative to the moment of the
//! answer, never a point in time; the exceptions are called `at_ms`.
//!
//! This crate does not know the engine: names and numbers only, mapped by the daemon.
#![forbid(unsafe_code)]

mod data;
mod error;
mod frame;
mod pair;
mod request;

pub use data::{
    Counter, Counters, DropCounter, Eal, Endpoint, Family, MbufUsage, Memory, Neighbour, Neighbours,
    PerDirection, Policy, Port, Protocol, Reload, Role, Route, RouteSource, Routes, Rule, Rules,
    SessionCount, SessionCounts, SessionRow, SessionUsage, Sessions, Status, Worker,
};
pub use error::{Error, ErrorCode};
pub use frame::{FrameError, LineBuffer, Response, to_line};
pub use pair::{
    Alarm, Compared, ComparedLine, Damaged, Event, Events, Lease, Level, Mirror, Ordered, PairKeys, PairNode,
    PairPath, PairStatus, PartnerState, PathKind, Progress, RefusedSessions, Rejected, RoleWord, SentRecords,
    SwitchedOver, SyncState, SyncStatus, TerminateResult, Terminated, TerminatedRow, Transfer, Verified,
};
pub use request::{
    AddressFilter, Command, DEFAULT_SESSION_ROWS, Damage, DebugArgs, EventsArgs, ForceArgs, ForcedRole,
    MAX_EVENTS, MAX_SESSION_ROWS, MAX_TERMINATED, Request, SessionHandle, SessionsArgs, TerminateArgs,
    WaitArgs,
};

/// The protocol's version; see the crate's notes on what may change without a new one.
pub const VERSION: u32 = 1;

/// The longest request line in bytes, line feed included. A longer one is answered with
/// [`ErrorCode::TooLong`] and the connection is closed.
pub const MAX_REQUEST_BYTES: usize = 64 * 1024;

/// The longest response line in bytes that a client reads. [`MAX_SESSION_ROWS`] keeps every answer below it.
pub const MAX_RESPONSE_BYTES: usize = 64 * 1024 * 1024;
