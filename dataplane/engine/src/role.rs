//! What this node is in its pair, as far as packets are concerned.
//!
//! Without a pair a node is active from the start. With one, the daemon makes each engine a standby before
//! the first burst and follows the sync core's role word from then on (decisions 32 and 38): a takeover is
//! [`Engine::activate`](crate::Engine::activate), which moves no session and walks no table.

/// The role under which a worker sees packets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RoleView {
    /// Forwards, answers for the shared addresses, decides over its sessions.
    Active {
        /// The term that versions carry: below 2^20.
        term: u32,
    },
    /// Mirrors the other node's sessions: forwards nothing, answers for its own addresses only, ends
    /// nothing by itself.
    Standby,
    /// Active, but its lease ran out (decision 32): forwards nothing and keeps everything until the role
    /// is known again.
    Closed,
}

impl RoleView {
    /// True if packets are forwarded.
    #[inline(always)]
    pub fn forwards(self) -> bool {
        matches!(self, RoleView::Active { .. })
    }
}
