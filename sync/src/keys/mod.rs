//! The pair's keys: who the partner is, which of its incarnations lives, and what seals the traffic.
//!
//! A machine without socket, clock or random source: datagrams and times go in, datagrams, deadlines and
//! [`Event`]s come out. The handshake is Noise KK over pinned keys, led by the lower node id, over every
//! path at once (decision 29):
//!
//! ```text
//!   initiator (lower id)                                     responder
//!      │ ◄──────────────── Hello{ask} ────────────────────────► │   either side, until there are keys
//!      │ ── First{generation, target incarnation, e, es, ss} ─► │   bound to both incarnations
//!      │ ◄─ Second{generation, target incarnation, e, ee, se} ─ │   keys pending
//!      │ ── Confirm::Ask, under the new keys ─────────────────► │   keys in force here
//!      │ ◄─ Confirm::Answer, under the new keys ─────────────── │
//!      │   keys in force here; the old ones expire              │
//!      │ ── Confirm::Done, under the new keys ────────────────► │   the old ones expire here too
//! ```
//!
//! - An incarnation takes effect with the confirmation and not before (decision 31): neither a `Hello` nor
//!   a replayed `First` changes anything that is in force. A `First` names the incarnation of its receiver,
//!   so that a recorded one serves no later life, and incarnations that were replaced never come back.
//! - Traffic keys are renewed every minute. Each side sends under the new ones once it knows that the other
//!   has them, and forgets the old ones some time after it knows that the other sends under the new ones
//!   too (decision 30). A renewal that fails leaves everything as it is, and is tried again.
//! - Heartbeat keys are those of the first handshake between two incarnations, and live as long.
//! - Handshake datagrams are sealed under a key of the two static ones: without a static key nobody can
//!   even make a node compute. What can be replayed is limited in rate.

mod attempt;
mod limit;
mod machine;
mod message;
mod noise;
mod set;
mod text;

pub use machine::{Event, Incoming, Keys, Status};
pub use text::{KeyTextError, PublicKey, SecretKey};

use crate::ids::{Incarnation, Micros, NodeId, PairId};

/// Where random bytes come from: the operating system's source in the daemon, a seed in tests.
pub trait Entropy {
    /// 32 bytes that nobody can guess and that never repeat.
    fn draw(&mut self) -> [u8; 32];
}

/// Who this node is and whom it talks to.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The pair.
    pub pair: PairId,
    /// This node.
    pub me: NodeId,
    /// The partner: must be another id.
    pub peer: NodeId,
    /// This process's life.
    pub incarnation: Incarnation,
    /// This node's key.
    pub secret: SecretKey,
    /// The partner's pinned key.
    pub partner: PublicKey,
    /// How many paths are configured: [`MAX_PATHS`] at most.
    pub paths: u8,
}

/// The most paths between two nodes.
pub const MAX_PATHS: u8 = 40;

/// The machine's times.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timing {
    /// Age at which traffic keys are renewed.
    pub renew_every: Micros,
    /// How long old keys open what is still under way, once the new ones are confirmed both ways.
    pub overlap: Micros,
    /// First pause before a message is repeated; it doubles up to eight times this.
    pub retry: Micros,
    /// A handshake that takes longer is given up and begun anew.
    pub patience: Micros,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            renew_every: Micros::from_secs(60),
            overlap: Micros::from_secs(5),
            retry: Micros::from_millis(100),
            patience: Micros::from_secs(5),
        }
    }
}

#[cfg(test)]
mod tests;
