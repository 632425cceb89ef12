//! What the answers about the pair hold. Field names are the wire's; see the crate's notes on units.

use crate::{Damage, Endpoint, Protocol, Role};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// The pair, as this node sees it (part of `status`).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PairStatus {
    /// The pair's number.
    pub id: u32,
    /// The term of the active node that this node is or follows.
    pub term: u32,
    /// This node.
    pub own: PairNode,
    /// What the partner said last; absent while it is not heard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partner: Option<PairNode>,
    /// Whether the partner is there.
    #[serde(default)]
    pub partner_state: PartnerState,
    /// What differs and must not: `wire-version`, `configuration`, or areas of it by name.
    pub differs: Vec<String>,
    /// What the workers go by.
    pub word: RoleWord,
    /// The ways to the partner, by number: sync links first.
    pub paths: Vec<PairPath>,
    /// Session sync.
    pub sync: SyncStatus,
    /// The traffic keys; absent before the first handshake.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<PairKeys>,
    /// Datagrams that were refused, by reason, without zeros.
    pub rejected: Vec<Rejected>,
    /// Alarms that stand.
    pub alarms: Vec<Alarm>,
}

/// Whether the partner is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PartnerState {
    /// It is heard.
    Here,
    /// It said that it would stop, or did so not long ago.
    Restarting,
    /// It is not heard.
    Absent,
    /// One that this client does not know, or that its daemon does not tell.
    #[default]
    #[serde(other)]
    Unknown,
}

/// A node of the pair.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PairNode {
    /// 0 or 1.
    pub node_id: u32,
    /// What it is.
    pub role: Role,
    /// The highest term that it knows of.
    pub seen_term: u32,
    /// True if the configuration prefers it as the active one.
    pub preferred: bool,
    /// 0 to 100: how fit it is.
    pub quality: u32,
    /// True if it may be active at all.
    pub able: bool,
    /// True if an operator forced it to be active.
    pub forced_active: bool,
    /// How good its copy of the sessions is.
    pub mirror: Mirror,
    /// Its process's life, in hexadecimal; absent until it was proven.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incarnation: Option<String>,
    /// Hash of what must be equal on both nodes, in hexadecimal.
    pub config_hash: String,
    /// The wire version that it speaks.
    pub wire_version: u32,
    /// The generation of its policy.
    pub policy_generation: u32,
    /// Its packet workers.
    pub workers: u32,
    /// Sessions in its table, those that it keeps to itself included: TCP, UDP, ICMP, others.
    #[serde(default)]
    pub held: [u64; 4],
    /// Sessions that it holds for both nodes to have.
    pub entries: u64,
    /// Digest over them, in hexadecimal.
    pub digest: String,
}

/// How good a node's copy of the partner's sessions is; of no meaning while it is active.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mirror {
    /// It has nothing.
    None,
    /// It has some of them.
    Partial,
    /// It was complete when the sync path went down.
    Stale,
    /// Proven equal and kept up to date.
    Complete,
    /// One that this client does not know: its daemon is newer.
    #[serde(other)]
    Unknown,
}

impl fmt::Display for Mirror {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mirror::None => "none",
            Mirror::Partial => "partial",
            Mirror::Stale => "stale",
            Mirror::Complete => "complete",
            Mirror::Unknown => "unknown",
        })
    }
}

/// What the workers go by: they forward only as long as it says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RoleWord {
    /// True if workers forward now.
    pub forwards: bool,
    /// Whether the leave to forward ends by itself.
    pub lease: Lease,
    /// When it does, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_ms: Option<u64>,
}

/// Whether the leave to forward ends by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lease {
    /// Nobody could take over.
    Endless,
    /// It ends unless heartbeats go out.
    Running,
    /// There is none.
    None,
    /// One that this client does not know: its daemon is newer.
    #[serde(other)]
    Unknown,
}

/// A way to the partner.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PairPath {
    /// The sync link's or the port's name.
    pub name: String,
    /// Which of the two.
    pub kind: PathKind,
    /// True if heartbeats pass both ways.
    pub up: bool,
    /// True if the own link is up.
    pub link: bool,
    /// True if session sync may run over it.
    pub carries_sync: bool,
    /// True if session sync runs over it now.
    pub in_use: bool,
    /// Since the partner was last heard on it; absent if it never was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heard_ms: Option<u64>,
    /// How long a question and its answer took last, in microseconds; absent while the path is down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtt_us: Option<u64>,
    /// The largest datagram that was seen to pass both ways, in bytes of UDP payload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datagram_bytes: Option<u64>,
}

/// What a path runs over.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PathKind {
    /// A link between the two nodes.
    SyncLink,
    /// A data port.
    DataPort,
    /// One that this client does not know: its daemon is newer.
    #[serde(other)]
    Unknown,
}

impl fmt::Display for PathKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PathKind::SyncLink => "sync link",
            PathKind::DataPort => "data port",
            PathKind::Unknown => "unknown",
        })
    }
}

/// Session sync.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SyncStatus {
    /// What it is doing.
    pub state: SyncState,
    /// True if both copies are proven equal: on the active node by digests, on the standby by its word.
    pub proven: bool,
    /// Age of the oldest change that the partner is not known to have applied.
    pub lag_ms: u64,
    /// Sessions that both nodes have.
    pub protected: u64,
    /// Sessions and deletes that the partner does not have: the three below together.
    pub unprotected: u64,
    /// Of them, those that wait to be sent.
    pub dirty: u64,
    /// Of them, those that are sent and not acknowledged.
    pub in_flight: u64,
    /// Of them, those that the partner cannot take, by reason, without zeros.
    pub refused: Vec<RefusedSessions>,
    /// How far the bulk is; absent while there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// The last bulk that ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_bulk: Option<Transfer>,
    /// The last repair that ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_repair: Option<Transfer>,
    /// Smoothed round trip until the partner's workers have applied, in microseconds.
    pub round_trip_us: u64,
    /// Records sent, of every kind.
    pub records_sent: u64,
    /// The same by kind.
    pub sent: Vec<SentRecords>,
    /// Data datagrams sent.
    pub datagrams_sent: u64,
    /// Bytes in them, without headers.
    pub bytes_sent: u64,
    /// Data datagrams that were lost and made good.
    pub datagrams_lost: u64,
    /// Data datagrams taken.
    pub datagrams_received: u64,
    /// Records in them.
    pub records_received: u64,
    /// Of them, those that changed a session here.
    pub records_applied: u64,
    /// Places of the own copy that were found damaged since the start, and repaired.
    pub damaged: u64,
}

/// What session sync is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SyncState {
    /// There is no partner.
    Absent,
    /// The partner lives, but no path carries session sync.
    Suspended,
    /// All sessions are being sent.
    Bulk,
    /// Everything was sent; equality is being proven, differences repaired.
    Proving,
    /// Both copies are proven equal, and changes follow at once.
    InSync,
    /// One that this client does not know: its daemon is newer.
    #[serde(other)]
    Unknown,
}

impl fmt::Display for SyncState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SyncState::Absent => "absent",
            SyncState::Suspended => "suspended",
            SyncState::Bulk => "bulk",
            SyncState::Proving => "proving",
            SyncState::InSync => "in sync",
            SyncState::Unknown => "unknown",
        })
    }
}

/// Sessions that the partner cannot take.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RefusedSessions {
    /// Why: `full`, `unknown-zone`, `unsupported`, `not-mirroring`.
    pub reason: String,
    /// How many.
    pub sessions: u64,
}

/// How far something is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Progress {
    /// Places of the table that are done.
    pub done: u64,
    /// All of them.
    pub total: u64,
}

/// A bulk or a repair that ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Transfer {
    /// When: milliseconds since 1970-01-01 00:00 UTC.
    pub at_ms: u64,
    /// Sessions sent.
    pub sessions: u64,
    /// From its beginning to the proof that both copies are equal.
    pub took_ms: u64,
}

/// Records of a kind.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SentRecords {
    /// Why they were sent: `new`, `refresh`, `delete`, `lost`, `repair`, `bulk`.
    pub kind: String,
    /// How many.
    pub records: u64,
    /// Their bytes, without headers.
    pub bytes: u64,
}

/// The traffic keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PairKeys {
    /// Their number.
    pub key_id: u32,
    /// Their age in seconds.
    pub age_s: u64,
    /// Renewals since both nodes last started.
    pub renewals: u64,
    /// True while new ones are being agreed on.
    pub renewing: bool,
}

/// Datagrams that were refused.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Rejected {
    /// Why: `forged`, `replayed`, `wrong-key`, …
    pub reason: String,
    /// How many.
    pub datagrams: u64,
}

/// An alarm that stands.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Alarm {
    /// The event that raised it, by its stable name.
    pub name: String,
    /// What it says.
    pub text: String,
    /// When it was raised: milliseconds since 1970-01-01 00:00 UTC; absent if that is forgotten.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_ms: Option<u64>,
}

/// What came of comparing both tables (`verify`).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Verified {
    /// True if every digest was equal.
    pub equal: bool,
    /// Digests (of 65,536) that were not; they are being repaired.
    pub differing: u64,
    /// Groups of 256 digests each (of 256) in which they are.
    #[serde(default)]
    pub groups: Vec<u32>,
    /// Sessions that were compared.
    pub sessions: u64,
    /// How long it took.
    pub took_ms: u64,
}

/// Both nodes side by side (`compare`).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Compared {
    /// True if no line and no digest differs.
    pub equal: bool,
    /// What was compared.
    pub lines: Vec<ComparedLine>,
    /// What came of comparing all digests; absent if that could not be done in time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digests: Option<Verified>,
}

/// A line of a comparison.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ComparedLine {
    /// What it is.
    pub what: String,
    /// Here.
    pub own: String,
    /// At the partner.
    pub partner: String,
    /// True if they are equal or may differ.
    pub equal: bool,
}

/// An order that was taken (`resync`, `force`, `unforce`).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Ordered {
    /// What was ordered.
    pub order: String,
    /// The role at that moment.
    pub role: Role,
}

/// A switchover that was carried out (`switchover`).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SwitchedOver {
    /// What this node is now.
    pub role: Role,
    /// What it was.
    pub was: Role,
    /// The term in force.
    pub term: u32,
    /// How long it took.
    pub took_ms: u64,
}

/// What happened (`events`), oldest first.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Events {
    /// The node that they happened on.
    pub node: String,
    /// The process's life: ids begin anew with each.
    pub boot: String,
    /// The id of the newest event; ask with it to hear only of later ones.
    pub last: u64,
    /// True if events between what was asked for and the first one here are forgotten.
    pub gap: bool,
    /// The events.
    pub events: Vec<Event>,
}

/// Something that happened.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Event {
    /// Counts up from 1 in each process.
    pub id: u64,
    /// When: milliseconds since 1970-01-01 00:00 UTC.
    pub at_ms: u64,
    /// Its stable name.
    pub name: String,
    /// How grave it is.
    pub level: Level,
    /// What it says.
    pub text: String,
    /// The same in pieces.
    pub fields: BTreeMap<String, String>,
}

/// How grave an event is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// For the record.
    Info,
    /// To be looked at.
    Warning,
    /// Something does not work.
    Error,
    /// One that this client does not know: its daemon is newer.
    #[serde(other)]
    Unknown,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Level::Info => "info",
            Level::Warning => "warning",
            Level::Error => "ERROR",
            Level::Unknown => "unknown",
        })
    }
}

/// Sessions that were ended (`terminate`).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Terminated {
    /// True if more sessions match than were ended.
    pub truncated: bool,
    /// A row for each.
    pub rows: Vec<TerminatedRow>,
}

/// A session that was ended.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TerminatedRow {
    /// The worker whose shard held it.
    pub worker: u32,
    /// Its place in the shard.
    pub slot: u32,
    /// IP protocol.
    pub proto: Protocol,
    /// The side that opened it.
    pub from: Endpoint,
    /// The side that it was opened to.
    pub to: Endpoint,
    /// How it ended.
    pub result: TerminateResult,
    /// True if the side that opened it was sent a reset.
    pub rst_to_from: bool,
    /// True if the other side was.
    pub rst_to_to: bool,
}

/// A mirrored session that was harmed on purpose (`debug`).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Damaged {
    /// How.
    pub damage: Damage,
    /// The worker whose shard holds it.
    pub worker: u32,
    /// Its place in the shard.
    pub slot: u32,
    /// IP protocol.
    pub proto: Protocol,
    /// The side that opened it.
    pub from: Endpoint,
    /// The side that it was opened to.
    pub to: Endpoint,
}

/// How a session ended that an operator ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TerminateResult {
    /// It is gone from the table; what still comes is judged by the rules.
    Removed,
    /// It was asked to end, and its owner has not confirmed that in time.
    Unconfirmed,
    /// It ended in another way before it could be ended.
    Gone,
    /// One that this client does not know: its daemon is newer.
    #[serde(other)]
    Unknown,
}

impl fmt::Display for TerminateResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TerminateResult::Removed => "removed",
            TerminateResult::Unconfirmed => "unconfirmed",
            TerminateResult::Gone => "gone",
            TerminateResult::Unknown => "unknown",
        })
    }
}

#[cfg(test)]
#[path = "pair_golden.rs"]
mod golden;
