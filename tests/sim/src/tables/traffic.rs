//! What packets do to the sessions of a node whose workers forward.

use super::{Change, Class, Defect, Entry, Tables, reply_key};
use sync::ids::{Micros, Version};
use sync::record::{Key, Session, State};

impl Tables {
    /// The first packet of a flow. False if there is no room, or a key of it is taken.
    pub fn open(&mut self, session: Session, class: Class, timeout: Micros) -> bool {
        let worker = self.owner(&session.key.tuple);
        let taken = [session.key, reply_key(&session)].iter().any(|key| self.index.contains_key(key));
        if taken || self.shards[worker].free.is_empty() {
            self.refused += 1;
            return false;
        }
        let version = self.next_version(worker, Version(0));
        let session = Session { version, ..session };
        let now = self.now;
        let heard = [Some(now), None];
        let entry = Entry { session, class, last_seen: now, timeout, told_at: now, heard, doubtful: false };
        let Some(handle) = self.place(worker, entry) else { return false };
        if entry.is_plain() {
            self.note(Change::Own, session, version);
            self.mark(handle);
        }
        true
    }

    /// A packet of a session, from its initiator or `back` to it; `moves` its state far enough to be told.
    /// False if it does not pass: there is no such session, or it has to be confirmed first.
    pub fn touch(&mut self, key: &Key, moves: bool, back: bool) -> bool {
        let Some(&handle) = self.index.get(key) else { return false };
        let (now, worker) = (self.now, handle as usize / self.size.slots);
        let Some(entry) = self.slot_mut(handle) else { return false };
        if entry.doubtful && back {
            return false;
        }
        (entry.last_seen, entry.doubtful) = (now, false);
        entry.heard[usize::from(back)] = Some(now);
        let ripe = match entry.class {
            Class::Plain => false,
            Class::Local => return true,
            Class::HalfOpen => moves,
            Class::Young { until } => now >= until,
        };
        if ripe {
            entry.class = Class::Plain;
            if let State::Tcp(tcp) = &mut entry.session.state {
                tcp.state = tcp.state.max(4);
            }
        }
        let refresh = now.since(entry.told_at).0 > entry.timeout.0 / 2;
        if entry.class != Class::Plain || !(ripe || moves || refresh) {
            return true;
        }
        if let State::Tcp(tcp) = &mut entry.session.state {
            tcp.halves[0].end = tcp.halves[0].end.wrapping_add(1 << 20);
            tcp.halves[1].ack = tcp.halves[0].end;
        }
        entry.told_at = now;
        let held = entry.session.version;
        if self.defect == Some(Defect::ForgetsChanges) && self.rng.chance(100) {
            return true;
        }
        let version = self.next_version(worker, held);
        let Some(entry) = self.slot_mut(handle) else { return false };
        entry.session.version = version;
        let session = entry.session;
        self.note(Change::Own, session, version);
        self.mark(handle);
        true
    }

    /// The end of a session. False if there is none.
    pub fn close(&mut self, key: &Key) -> bool {
        let Some(&handle) = self.index.get(key) else { return false };
        let held = self.slot(handle).map_or(Version(0), |entry| entry.session.version);
        let version = self.next_version(handle as usize / self.size.slots, held);
        self.release(handle, Change::Ended, version);
        true
    }
}
