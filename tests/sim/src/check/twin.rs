//! Both tables side by side: how far they differ at this moment, and whether they are equal when they
//! should be.

use super::Verdict;
use crate::hash::Map;
use crate::tables::{Change, Logged, Tables};
use sync::ids::Version;
use sync::record::{Canonical, Key, Record, Session};

/// The versions that both nodes hold of each key that is replicated or mirrored anywhere.
#[derive(Default)]
pub struct Twin {
    held: Map<Key, [Option<Version>; 2]>,
    /// Keys of which a node has something newer than the other, or has them alone.
    ahead: [u32; 2],
}

impl Twin {
    /// Something happened to a session on a node.
    pub fn see(&mut self, node: usize, logged: &Logged) {
        let version = match logged.change {
            Change::Own | Change::Adopted | Change::Mirrored => Some(logged.session.version),
            Change::Ended | Change::Deleted | Change::Displaced | Change::Purged => None,
        };
        let held = self.held.entry(logged.session.key).or_default();
        let before = *held;
        held[node] = version;
        let after = *held;
        for (side, ahead) in self.ahead.iter_mut().enumerate() {
            let is_ahead = |pair: [Option<Version>; 2]| pair[side] > pair[1 - side];
            *ahead = *ahead + u32::from(is_ahead(after)) - u32::from(is_ahead(before));
        }
    }

    /// A node lost its memory.
    pub fn forget(&mut self, node: usize) {
        for held in self.held.values_mut() {
            held[node] = None;
        }
        let count =
            |side: usize| self.held.values().filter(|pair| pair[side] > pair[1 - side]).count() as u32;
        self.ahead = [count(0), count(1)];
    }

    /// Sessions that a node has and the other one has not, or only older.
    #[must_use]
    pub const fn ahead(&self, node: usize) -> u32 {
        self.ahead[node]
    }

    /// Some keys of which a node has something newer, for messages.
    #[must_use]
    pub fn examples(&self, node: usize) -> String {
        let mut shown: Vec<_> = self.held.iter().filter(|(_, pair)| pair[node] > pair[1 - node]).collect();
        shown.sort_by_key(|(_, pair)| pair[node]);
        shown.iter().take(4).map(|(key, pair)| format!("\n  {:?} {pair:?}", key.tuple)).collect()
    }
}

/// After quiet both tables are equal: keys, versions, canonical fields.
///
/// # Errors
/// With the first differences, or if there is so little in the tables that equality says nothing.
pub fn same_tables(tables: [&Tables; 2], at_least: usize) -> Verdict {
    let sorted = |tables: &Tables| {
        let mut all: Vec<(Vec<u8>, Session)> = tables
            .shared()
            .map(|session| (Canonical::of(&Record::Session(*session)).as_bytes().to_vec(), *session))
            .collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    };
    let [a, b] = tables.map(sorted);
    if a.len() < at_least {
        return Err(format!("only {} sessions are left: equality would say nothing", a.len()));
    }
    for (tables, name) in tables.iter().zip(["a", "b"]) {
        if !tables.index_is_sound() {
            return Err(format!("{name}'s index and sessions differ: two of them share a key"));
        }
    }
    let missing = |from: &[(Vec<u8>, Session)], of: &[(Vec<u8>, Session)]| -> Vec<String> {
        let lacks = |it: &&(Vec<u8>, Session)| from.binary_search_by(|other| other.0.cmp(&it.0)).is_err();
        let show = |it: &(Vec<u8>, Session)| format!("{:?} in version {}", it.1.key.tuple, it.1.version);
        of.iter().filter(lacks).map(show).collect()
    };
    let (on_a, on_b) = (missing(&b, &a), missing(&a, &b));
    if on_a.is_empty() && on_b.is_empty() {
        return Ok(());
    }
    let some = |list: &[String]| list.iter().take(4).map(|it| format!("\n    {it}")).collect::<String>();
    Err(format!(
        "after quiet the tables differ ({} and {} sessions):\n  only on a ({}):{}\n  only on b ({}):{}",
        a.len(),
        b.len(),
        on_a.len(),
        some(&on_a),
        on_b.len(),
        some(&on_b)
    ))
}
