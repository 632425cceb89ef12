//! The session table as an answer: walked slot by slot, a millisecond at a time.
//!
//! A table of ten million sessions takes a second to read. Neighbours must not wait for that, so the walk
//! is cut into steps; what it shows is each session at the moment it was read, not the table at one
//! moment. Reading disturbs no worker (decision 2).

use super::names::Names;
use super::server::Walk;
use crate::clock::Clock;
use engine::table::{SessionView, Slot, SlotReader, flags};
use engine::track::Timeouts;
use engine::{Ticks, session};
use proto::{
    Endpoint, Family, PerDirection, Protocol, SessionCount, SessionCounts, SessionRow, SessionsArgs,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use sync::ids::{NodeId, Version};

/// How long a step may take.
const STEP: Duration = Duration::from_millis(1);
/// Slots between two looks at the clock.
const SLOTS_PER_LOOK: u32 = 256;
/// A step ends as well when it has added so many bytes.
const STEP_BYTES: usize = 128 * 1024;

/// What a walk needs to know.
#[derive(Clone)]
pub struct Context {
    /// The shards, by worker.
    pub shards: Arc<[SlotReader]>,
    /// Names of zones and rules.
    pub names: Arc<Names>,
    /// How long idle sessions live.
    pub timeouts: Timeouts,
    /// The time.
    pub clock: Clock,
    /// What becomes of sessions.
    pub mirroring: Mirroring,
}

/// What becomes of this node's sessions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mirroring {
    /// Nobody mirrors them.
    Alone,
    /// This node mirrors its partner's.
    Mirror,
    /// The partner is to mirror them.
    Active {
        /// This node.
        node: NodeId,
        /// The partner is heard.
        heard: bool,
        /// Session sync has a path.
        synced: bool,
    },
}

/// Where a walk is.
struct Cursor {
    shard: usize,
    slot: u32,
}

/// Rows, or totals.
enum Output {
    Rows { left: u32, shown: u32, truncated: bool },
    Totals(BTreeMap<(u8, &'static str), u64>),
}

/// A walk through all shards.
pub struct SessionWalk {
    context: Context,
    filter: SessionsArgs,
    cursor: Cursor,
    output: Output,
    begun: bool,
}

impl SessionWalk {
    /// A walk that has not begun.
    pub fn new(context: Context, args: SessionsArgs) -> Self {
        let output = if args.count {
            Output::Totals(BTreeMap::new())
        } else {
            Output::Rows { left: args.limit, shown: 0, truncated: false }
        };
        Self { context, filter: args, cursor: Cursor { shard: 0, slot: 0 }, output, begun: false }
    }

    /// The next slots, up to [`SLOTS_PER_LOOK`]. False at the end of the table.
    fn advance(&mut self, now: Ticks, out: &mut Vec<u8>) -> bool {
        let Some(shard) = self.context.shards.get(self.cursor.shard).copied() else { return false };
        let end = shard.slots().min(self.cursor.slot.saturating_add(SLOTS_PER_LOOK));
        for slot in self.cursor.slot..end {
            if let Some(view) = shard.read(Slot(slot))
                && matches(&self.filter, &view)
                && !self.found(slot, &view, now, out)
            {
                return false;
            }
        }
        self.cursor.slot = end;
        if end == shard.slots() {
            self.cursor = Cursor { shard: self.cursor.shard + 1, slot: 0 };
        }
        true
    }

    /// A session that matches. False if no further one is wanted.
    fn found(&mut self, slot: u32, view: &SessionView, now: Ticks, out: &mut Vec<u8>) -> bool {
        match &mut self.output {
            Output::Totals(totals) => {
                let key = (view.keys[0].proto().0, session::state_name(view.keys[0].proto(), view.state));
                *totals.entry(key).or_default() += 1;
                true
            }
            Output::Rows { left: 0, truncated, .. } => {
                *truncated = true;
                false
            }
            Output::Rows { left, shown, .. } => {
                let row = row(&self.context, self.cursor.shard as u32, slot, view, now);
                if *shown > 0 {
                    out.push(b',');
                }
                // A row holds numbers and strings: writing it to memory cannot fail.
                let _ = serde_json::to_writer(out, &row);
                *left -= 1;
                *shown += 1;
                true
            }
        }
    }

    fn finish(&mut self, out: &mut Vec<u8>) {
        match &self.output {
            Output::Rows { truncated, .. } => {
                out.extend_from_slice(format!("],\"truncated\":{truncated}}}}}\n").as_bytes());
            }
            Output::Totals(totals) => {
                let by_state = totals
                    .iter()
                    .map(|((proto, state), sessions)| SessionCount {
                        proto: Protocol(*proto),
                        state: (*state).to_owned(),
                        sessions: *sessions,
                    })
                    .collect();
                let counts = SessionCounts { total: totals.values().sum(), by_state };
                out.extend_from_slice(&super::server::answer_line(&counts));
            }
        }
    }
}

impl Walk for SessionWalk {
    fn step(&mut self, out: &mut Vec<u8>) -> bool {
        let (began, bytes) = (Instant::now(), out.len());
        if !self.begun && matches!(self.output, Output::Rows { .. }) {
            out.extend_from_slice(
                format!("{{\"v\":{},\"ok\":true,\"data\":{{\"rows\":[", proto::VERSION).as_bytes(),
            );
        }
        self.begun = true;
        let now = self.context.clock.ticks(dpdk::cycles());
        while self.advance(now, out) {
            if began.elapsed() >= STEP || out.len() - bytes >= STEP_BYTES {
                return false;
            }
        }
        self.finish(out);
        true
    }
}

pub(super) fn matches(filter: &SessionsArgs, view: &SessionView) -> bool {
    let key = &view.keys[0];
    filter.proto.is_none_or(|wanted| wanted.0 == key.proto().0)
        && filter.port.is_none_or(|wanted| wanted == key.sport() || wanted == key.dport())
        && filter
            .address
            .is_none_or(|wanted| wanted.matches(key.src().into()) || wanted.matches(key.dst().into()))
        && filter.state.as_deref().is_none_or(|wanted| wanted == session::state_name(key.proto(), view.state))
}

fn row(context: &Context, worker: u32, slot: u32, view: &SessionView, now: Ticks) -> SessionRow {
    let key = &view.keys[0];
    let deadline = session::deadline(key.proto(), view.state, view.last_seen, &context.timeouts);
    let names = &context.names;
    let sync = sync_state(context.mirroring, view);
    SessionRow {
        worker,
        slot,
        proto: Protocol(key.proto().0),
        family: if key.is_v6() { Family::Ipv6 } else { Family::Ipv4 },
        from: Endpoint { address: key.src().into(), port: key.sport() },
        to: Endpoint { address: key.dst().into(), port: key.dport() },
        from_zone: names.zone(view.binding.zones[0]).to_owned(),
        to_zone: names.zone(view.binding.zones[1]).to_owned(),
        rule: names.rule(view.binding.rule).to_owned(),
        state: session::state_name(key.proto(), view.state).to_owned(),
        idle_ms: now.since(view.last_seen).into(),
        expires_ms: deadline.since(now).into(),
        packets: PerDirection { fwd: view.packets[0].into(), rev: view.packets[1].into() },
        bytes: PerDirection { fwd: view.bytes[0], rev: view.bytes[1] },
        version: view.version,
        group: view.path.group.0.into(),
        replicated: sync == "yes",
        sync: sync.to_owned(),
    }
}

/// Whether the partner has the session, or why not (B-08). Where it would not be mirrored anyway, that is the
/// better answer.
fn sync_state(mirroring: Mirroring, view: &SessionView) -> &'static str {
    let flag = |flag| view.path.flags & flag != 0;
    match mirroring {
        Mirroring::Mirror => return "from-sync",
        _ if !flag(flags::REPLICATE) => return "no(rule)",
        _ if !session::is_replicated(view.keys[0].proto(), view.state) => return "no(handshake)",
        _ if flag(flags::YOUNG) => return "no(too young)",
        _ => {}
    }
    let Mirroring::Active { node, heard, synced } = mirroring else { return "no(no partner)" };
    // Terms are unique by the parity of the node id: who wrote this state last is in its version.
    let own = Version(view.version).term().get() & 1 == u32::from(node.0) & 1;
    match (heard && synced && flag(flags::SHARED), own) {
        (true, _) => "yes",
        (false, false) => "from-sync",
        (false, true) if !heard => "no(no partner)",
        (false, true) if !synced => "no(no sync path)",
        (false, true) => "no(not sent yet)",
    }
}
