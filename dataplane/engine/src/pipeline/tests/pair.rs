//! Two firewalls and what a sync core does between them, without the wire.

use super::firewall::{Firewall, Setup};
use super::net;
use crate::mirror::{Import, Imported, Removal};
use crate::role::RoleView;
use crate::table::dirty::DirtyFlags;
use crate::table::{Ended, SessionView, Slot};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use wire::FlowKey;

/// A node: a firewall with one worker, and the sync core's ends of its rings.
pub struct Node {
    pub fw: Firewall,
    flags: DirtyFlags<'static>,
    changed: rtrb::Consumer<u32>,
    ended: rtrb::Consumer<Ended>,
    lost: Arc<AtomicU64>,
}

/// The terms of a pair's first two actives.
pub const TERMS: [u32; 2] = [2, 3];
/// Places in the ring of ends.
pub const ENDS: usize = 16;

impl Node {
    /// Node 0 or 1, standby.
    pub fn new(node: u8, setup: Setup) -> Self {
        let mut fw = Firewall::new(Setup { ports: net::pair_ports(node), ..setup });
        let now = fw.now;
        let engine = &mut fw.workers[0].engine;
        let (flags, changed) = engine.shard_mut().track_changes();
        let (ended, lost) = engine.shard_mut().track_ends(ENDS);
        engine.set_role(RoleView::Standby, now);
        Self { fw, flags, changed, ended, lost }
    }

    pub fn set_role(&mut self, role: RoleView) {
        let now = self.fw.now;
        self.fw.workers[0].engine.set_role(role, now);
    }

    /// Marks since the last look, each with the session as it is now.
    pub fn changes(&mut self) -> Vec<Option<SessionView>> {
        let engine = &mut self.fw.workers[0].engine;
        engine.tell_changes();
        let reader = engine.shard().reader();
        let mut views = Vec::new();
        while let Ok(slot) = self.changed.pop() {
            self.flags.take(slot);
            views.push(reader.read(Slot(slot)));
        }
        views
    }

    /// Ends since the last look.
    pub fn ends(&mut self) -> Vec<Ended> {
        std::iter::from_fn(|| self.ended.pop().ok()).collect()
    }

    /// Ends that found no room.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Records of what changed.
    pub fn records(&mut self) -> Vec<Imported> {
        let (now, timeouts) = (self.fw.now, self.fw.snapshot.timeouts);
        let views = self.changes().into_iter().flatten().filter(SessionView::is_replicable);
        views.map(|view| Imported::of(&view, now, &timeouts)).collect()
    }

    pub fn import(&mut self, record: &Imported) -> Import {
        let (now, snapshot) = (self.fw.now, self.fw.snapshot.clone());
        self.fw.workers[0].engine.import(now, &snapshot, record)
    }

    pub fn remove(&mut self, key: &FlowKey, version: u64, exact: bool) -> Removal {
        let now = self.fw.now;
        self.fw.workers[0].engine.remove(now, key, version, exact)
    }

    pub fn version(&self, key: &FlowKey) -> u64 {
        self.fw.expect_session(key).version
    }

    /// What was counted and looked at outside of steps does not matter to the next one.
    pub fn forget_counts(&mut self) {
        self.fw.housekeep().sent.clear();
    }
}

/// Two nodes with the same clock.
pub struct Pair {
    pub nodes: [Node; 2],
}

impl Pair {
    /// Node 0 active, node 1 standby.
    pub fn new(setup: Setup) -> Self {
        let mut nodes = [Node::new(0, setup.clone()), Node::new(1, setup)];
        nodes[0].set_role(RoleView::Active { term: TERMS[0] });
        Self { nodes }
    }

    pub fn lab() -> Self {
        Self::new(Setup::default())
    }

    pub fn a(&mut self) -> &mut Firewall {
        &mut self.nodes[0].fw
    }

    pub fn b(&mut self) -> &mut Firewall {
        &mut self.nodes[1].fw
    }

    /// What changed or ended on one node reaches the other; returns the number of records.
    pub fn sync(&mut self, from: usize) -> usize {
        let ends = self.nodes[from].ends();
        let records = self.nodes[from].records();
        let to = &mut self.nodes[1 - from];
        for end in &ends {
            to.remove(&end.key, end.version, false);
        }
        for record in &records {
            let outcome = to.import(record);
            assert!(matches!(outcome, Import::Stored { .. }), "{record:?}: {outcome:?}{}", to.fw.dump());
        }
        to.forget_counts();
        records.len()
    }

    /// Both clocks move.
    pub fn wait(&mut self, ms: u32) {
        for node in &mut self.nodes {
            node.fw.idle(ms).sent.clear();
        }
    }

    /// Node 0 dies, node 1 takes over.
    pub fn take_over(&mut self) {
        self.nodes[1].set_role(RoleView::Active { term: TERMS[1] });
        self.nodes[1].forget_counts();
    }
}
