//! What is not the other node's business stays where it is: local, half-open and too-young sessions
//! (B-05, B-20, B-34).

use super::Verdict;
use crate::hash::Map;
use crate::tables::{Change, Logged};
use sync::ids::Version;
use sync::record::{Key, State};

/// The rule that keeps its sessions local.
pub const LOCAL_RULE: u32 = 0x10c;
/// The rule that asks for a minimum age.
pub const YOUNG_RULE: u32 = 0x90;
/// The TCP state of a handshake under way.
pub const HALF_OPEN_STATE: u8 = 1;

/// Watches what arrives in mirrors.
pub struct Kept {
    opened: [Map<Key, (u64, Version)>; 2],
    /// How old a session must be.
    min_age_us: u64,
}

impl Kept {
    /// With that minimum age.
    #[must_use]
    pub fn new(min_age_us: u64) -> Self {
        Self { opened: Default::default(), min_age_us }
    }

    /// A session began on a node, in that version.
    pub fn opened(&mut self, node: usize, key: Key, at: u64, version: Version) {
        self.opened[node].insert(key, (at, version));
    }

    /// A node lost its memory.
    pub fn forget(&mut self, node: usize) {
        self.opened[node].clear();
    }

    /// Something happened to a session on a node.
    ///
    /// # Errors
    /// If the session should not be there.
    pub fn see(&mut self, node: usize, at: u64, logged: &Logged) -> Verdict {
        if matches!(logged.change, Change::Adopted | Change::Mirrored) {
            // It began at the other node, whatever this one had of its own between the same ports.
            self.opened[node].remove(&logged.session.key);
        }
        if logged.change != Change::Mirrored {
            return Ok(());
        }
        let session = &logged.session;
        if session.rule.id == LOCAL_RULE {
            return Err(format!("a local session was replicated: {:?}", session.key));
        }
        if matches!(session.state, State::Tcp(tcp) if tcp.state <= HALF_OPEN_STATE) {
            return Err(format!("a half-open session was replicated: {:?}", session.key));
        }
        let (opened, version) = self.opened[1 - node].get(&session.key).copied().unwrap_or_default();
        // Records of an earlier session between the same ports may still be under way. A node's clock may run
        // a little faster than the world's.
        let of_this = session.rule.id == YOUNG_RULE && session.version >= version;
        if of_this && at - opened < self.min_age_us - self.min_age_us / 50 {
            return Err(format!("a session of {} us was replicated: {:?}", at - opened, session.key));
        }
        Ok(())
    }
}
