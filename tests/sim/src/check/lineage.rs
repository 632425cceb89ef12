//! Never older over newer, and no session comes back from the dead (decisions 17 and 19, X-06).

use super::Verdict;
use crate::hash::Map;
use crate::tables::{Change, Logged};
use sync::ids::Version;
use sync::record::Key;

#[derive(Clone, Copy)]
struct Known {
    version: Version,
    gone: bool,
}

/// The newest that each node ever had of each key, deletes included, within a lineage.
#[derive(Default)]
pub struct Lineage {
    newest: [Map<Key, Known>; 2],
}

impl Lineage {
    /// A node lost its memory, or follows another lineage than the one that it wrote itself.
    pub fn forget(&mut self, node: usize) {
        self.newest[node].clear();
    }

    /// Something happened to a session on a node.
    ///
    /// # Errors
    /// If it must not have.
    pub fn see(&mut self, node: usize, logged: &Logged) -> Verdict {
        let key = logged.session.key;
        let version = logged.session.version;
        let before = self.newest[node].get(&key).copied();
        match logged.change {
            Change::Own | Change::Adopted | Change::Mirrored => {
                let stale =
                    before.filter(|known| version < known.version || known.gone && version == known.version);
                if let Some(known) = stale {
                    let what = if known.gone { "a dead session came back" } else { "older over newer" };
                    return Err(format!(
                        "{what} on {}: {key:?} in version {version} after {} ({:?})",
                        crate::name(node),
                        known.version,
                        logged.change
                    ));
                }
                self.newest[node].insert(key, Known { version, gone: false });
            }
            Change::Ended | Change::Deleted | Change::Displaced => {
                // What was written before the node changed its lineage is none of this one's: its winner may
                // delete it and bring back what it has itself (decision 35).
                let Some(known) = before else { return Ok(()) };
                let by = if logged.change == Change::Displaced { version } else { version.max(logged.by) };
                self.newest[node].insert(key, Known { version: known.version.max(by), gone: true });
            }
            Change::Purged => {
                self.newest[node].remove(&key);
            }
        }
        Ok(())
    }
}
