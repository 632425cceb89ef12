//! What a machine shows of itself.

use super::PathStatus;
use crate::heartbeat::{Claim, Report};
use crate::ids::{Incarnation, Term};
use crate::keys;
use crate::lease::RoleWord;
use crate::membership::{Mirror, Presence, Role};
use crate::seal::Rejections;
use crate::stream;

/// A snapshot for people. What is known of the partner is absent while it is not heard (S-20).
#[derive(Clone, PartialEq, Debug)]
pub struct PairStatus {
    /// The role.
    pub role: Role,
    /// The term of the active node that it is or follows.
    pub term: Term,
    /// Whether the configuration prefers it.
    pub preferred: bool,
    /// What heartbeats say of it.
    pub own: Claim,
    /// Its life.
    pub incarnation: Incarnation,
    /// What the workers see.
    pub word: RoleWord,
    /// How good its copy of the partner's sessions is; meaningless while it is active.
    pub mirror: Mirror,
    /// On the active node: the partner's copy is proven equal.
    pub proven: bool,
    /// Whether the partner is there.
    pub presence: Presence,
    /// What the partner claims.
    pub partner: Option<Claim>,
    /// The rest of the partner's last heartbeat.
    pub partner_report: Option<Report>,
    /// The partner's confirmed incarnation.
    pub partner_incarnation: Option<Incarnation>,
    /// Digest over what both nodes are to have, and the number of sessions behind it.
    pub digest: (u64, u32),
    /// By path.
    pub paths: Vec<PathStatus>,
    /// The keys; `None` before the first handshake.
    pub keys: Option<keys::Status>,
    /// Datagrams that had no effect.
    pub rejections: Rejections,
    /// The stream.
    pub stream: stream::Status,
}
