//! `terminate`: an operator ends sessions.
//!
//! Finding them is a walk through the whole table, so it is cut into steps of a millisecond like every
//! walk. Each session found is ended by the worker that owns it, which asks both ends of a TCP connection
//! for the numbers that a reset must carry, if it does not know them (decision 41). That takes up to two
//! seconds; the answer says for each end what came of it (B-33).

use super::core::Core;
use super::later::{Promise, promise};
use super::server::{Reply, answer_line, refusal_line};
use super::sessions::matches;
use crate::worker::mailbox::Mail;
use engine::table::{Read, SessionView, Slot};
use proto::{
    Endpoint, Error, ErrorCode, Protocol, TerminateArgs, TerminateResult, Terminated, TerminatedRow,
};
use std::time::{Duration, Instant};
use sync::membership::Role;
use wire::FlowKey;

/// How long a step may take.
const STEP: Duration = Duration::from_millis(1);
/// Slots between two looks at the clock.
const SLOTS_PER_LOOK: u32 = 256;
/// How long owners have to confirm, once all sessions are found.
const PATIENCE: Duration = Duration::from_secs(4);
/// After that long an owner is asked again: it may have had too many on their way out.
const AGAIN: Duration = Duration::from_secs(1);
/// A session that is gone without its owner's word had another end.
const WORD: Duration = Duration::from_millis(100);
/// Sessions of one walk that are on their way out, at most: fewer than one worker ends at a time.
const UNDER_WAY_MAX: usize = 128;
/// The longest that the whole may take.
const LIMIT: Duration = Duration::from_secs(60);
/// Walks at a time.
const WALKS_MAX: usize = 8;

/// The walks under way.
#[derive(Default)]
pub(super) struct Terminations {
    walks: Vec<Walk>,
}

struct Walk {
    args: TerminateArgs,
    shard: usize,
    slot: u32,
    truncated: bool,
    ended: Vec<Ended>,
    /// When all were found.
    found: Option<Instant>,
    promise: Promise,
}

/// A session that its owner was asked to end.
struct Ended {
    row: TerminatedRow,
    key: FlowKey,
    packets: [u32; 2],
    asked: Instant,
}

impl Terminations {
    /// A worker ended a session, and says which of its ends know.
    pub(super) fn ended(&mut self, key: &FlowKey, reset: [bool; 2]) {
        let rows = self.walks.iter_mut().flat_map(|walk| &mut walk.ended);
        for ended in rows.filter(|ended| ended.is_under_way() && ended.key == *key) {
            ended.row.result = TerminateResult::Removed;
            [ended.row.rst_to_from, ended.row.rst_to_to] = reset;
        }
    }
}

impl Ended {
    fn is_under_way(&self) -> bool {
        self.row.result == TerminateResult::Unconfirmed
    }
}

impl Core {
    /// Begins.
    pub(super) fn terminate(&mut self, args: TerminateArgs, now: Instant) -> Reply {
        if let Some(error) = self.why_not_terminate() {
            return Reply::Line(refusal_line(error));
        }
        let late = Error::new(
            ErrorCode::TimedOut,
            format!("not all sessions were ended within {} s", LIMIT.as_secs()),
            "some may have ended: look with `ha-ctl sessions`, and narrow the filters",
        );
        let (promise, later) = promise(now + LIMIT, refusal_line(late));
        let (shard, slot) = match args.session {
            Some(handle) => (handle.worker as usize, handle.slot),
            None => (0, 0),
        };
        self.terminations.walks.push(Walk {
            args,
            shard,
            slot,
            truncated: false,
            ended: Vec::new(),
            found: None,
            promise,
        });
        Reply::Later(later)
    }

    fn why_not_terminate(&self) -> Option<Error> {
        if self.terminations.walks.len() >= WALKS_MAX {
            let what = format!("{WALKS_MAX} others are ending sessions already");
            return Some(Error::new(ErrorCode::Busy, what, "try again in a moment"));
        }
        match &self.partner {
            Some(partner) if partner.role != Role::Active => Some(Error::new(
                ErrorCode::NotNow,
                format!("this node is {}: its sessions are a copy of the active node's", partner.role.name()),
                "run ha-ctl terminate on the active node",
            )),
            _ => None,
        }
    }

    /// Goes on with the walks for a while. True if there is more to do at once.
    pub(super) fn turn_terminations(&mut self, now: Instant) -> bool {
        if self.terminations.walks.is_empty() {
            return false;
        }
        let began = Instant::now();
        let mut busy = false;
        for mut walk in std::mem::take(&mut self.terminations.walks) {
            if !walk.promise.is_wanted() {
                continue;
            }
            let mut goes_on = true;
            while goes_on && began.elapsed() < STEP {
                goes_on = self.walk_on(&mut walk, now);
            }
            // What waits for a worker waits for the next turn.
            busy |= goes_on;
            let gone = self.confirm(&mut walk, now);
            let over = walk.found.is_some_and(|found| now.duration_since(found) >= PATIENCE);
            if walk.found.is_some() && (gone || over) {
                let rows = walk.ended.into_iter().map(|ended| ended.row).collect();
                walk.promise.keep(answer_line(&Terminated { truncated: walk.truncated, rows }));
            } else {
                self.terminations.walks.push(walk);
            }
        }
        busy
    }

    /// The next slots. False if it has to go on later.
    fn walk_on(&mut self, walk: &mut Walk, now: Instant) -> bool {
        if walk.found.is_some() {
            return false;
        }
        let Some(shard) = self.shards.get(walk.shard).copied() else {
            walk.found = Some(now);
            return false;
        };
        let one = walk.args.session.is_some();
        let end = if one { walk.slot.saturating_add(1) } else { walk.slot.saturating_add(SLOTS_PER_LOOK) };
        let filter = walk.args.filter();
        for slot in walk.slot..end.min(shard.slots()) {
            let Some(view) = shard.read(Slot(slot)).filter(|view| matches(&filter, view)) else { continue };
            if walk.ended.iter().filter(|ended| ended.is_under_way()).count() >= UNDER_WAY_MAX {
                walk.slot = slot;
                return false;
            }
            if walk.ended.len() >= walk.args.limit as usize {
                (walk.truncated, walk.found) = (true, Some(now));
                return false;
            }
            if !self.ask_to_end(walk.shard, slot) {
                // The worker's mailbox is full: it is emptied at its next turn.
                walk.slot = slot;
                return false;
            }
            let (row, key) = (row(walk.shard as u32, slot, &view), view.keys[0]);
            walk.ended.push(Ended { row, key, packets: view.packets, asked: now });
        }
        walk.slot = end;
        if one {
            walk.found = Some(now);
            return false;
        }
        if end >= shard.slots() {
            (walk.shard, walk.slot) = (walk.shard + 1, 0);
        }
        true
    }

    fn ask_to_end(&mut self, worker: usize, slot: u32) -> bool {
        let mail = self.workers.get_mut(worker).map(|worker| &mut worker.mail);
        mail.is_some_and(|mail| mail.push(Mail::Terminate(Slot(slot))).is_ok())
    }

    /// Looks which sessions are gone. True if all are.
    fn confirm(&mut self, walk: &mut Walk, now: Instant) -> bool {
        let mut all = true;
        for ended in walk.ended.iter_mut().filter(|ended| ended.is_under_way()) {
            let (worker, slot) = (ended.row.worker as usize, ended.row.slot);
            match self.shards.get(worker).map_or(Read::Free, |shard| shard.look(Slot(slot))) {
                // A tuple that was opened again meanwhile has fewer packets.
                Read::Session(view) if view.keys[0] == ended.key && view.packets >= ended.packets => {
                    all = false;
                    if now.duration_since(ended.asked) >= AGAIN && self.ask_to_end(worker, slot) {
                        ended.asked = now;
                    }
                }
                // Its owner is writing: looked at again.
                Read::Busy => all = false,
                // Its owner's word may still be under way.
                _ if now.duration_since(ended.asked) < WORD => all = false,
                _ => ended.row.result = TerminateResult::Gone,
            }
        }
        all
    }
}

fn row(worker: u32, slot: u32, view: &SessionView) -> TerminatedRow {
    let key = &view.keys[0];
    TerminatedRow {
        worker,
        slot,
        proto: Protocol(key.proto().0),
        from: endpoint(key.src(), key.sport()),
        to: endpoint(key.dst(), key.dport()),
        result: TerminateResult::Unconfirmed,
        rst_to_from: false,
        rst_to_to: false,
    }
}

/// One side of a session.
pub(super) fn endpoint(address: wire::Addr, port: u16) -> Endpoint {
    Endpoint { address: address.into(), port }
}
