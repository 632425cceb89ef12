//! What a node says of itself and of its partner, read from its `status` without the types of the tool: a
//! field that both got wrong would not show otherwise.

use serde_json::Value;

use crate::control::Control;

/// A node's word on the pair.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PairView {
    /// Its role.
    pub role: String,
    /// The term.
    pub term: u64,
    /// Sessions in its table.
    pub sessions: u64,
    /// Sessions that its partner does not have (yet).
    pub unprotected: u64,
    /// Whether both tables are proven equal.
    pub in_sync: bool,
    /// Whether it hears its partner.
    pub partner_heard: bool,
    /// Sessions whose TCP checks are relaxed since a takeover.
    pub relaxed: Option<u64>,
    /// Paths that carry heartbeats, and all paths.
    pub paths: (usize, usize),
}

impl PairView {
    /// Reads the answer to `status`.
    pub fn of(status: &Value) -> Self {
        let pair = &status["pair"];
        let paths = pair["paths"].as_array().map(Vec::as_slice).unwrap_or_default();
        Self {
            role: status["role"].as_str().unwrap_or("?").into(),
            term: pair["term"].as_u64().unwrap_or(0),
            sessions: status["sessions"]["in_use"].as_u64().unwrap_or(0),
            unprotected: pair["sync"]["unprotected"].as_u64().unwrap_or(0),
            in_sync: pair["sync"]["proven"].as_bool().unwrap_or(false),
            partner_heard: !pair["partner"].is_null(),
            relaxed: status["sessions"]["relaxed"].as_u64(),
            paths: (paths.iter().filter(|path| path["up"] == true).count(), paths.len()),
        }
    }

    /// Asks a node; nothing while it does not answer.
    pub fn ask(control: &Control) -> Option<Self> {
        control.ask("status").ok().map(|status| Self::of(&status))
    }

    /// In a line for people.
    pub fn line(&self) -> String {
        format!(
            "{:9} term {:<4} {:>7} sessions, {:>5} unprotected, paths {}/{}{}",
            self.role,
            self.term,
            self.sessions,
            self.unprotected,
            self.paths.0,
            self.paths.1,
            if self.in_sync { ", in sync" } else { "" }
        )
    }
}
