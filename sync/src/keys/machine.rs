//! The machine of [`super`]: what is in force, what is under way, what is to be sent.

use std::collections::VecDeque;

use super::attempt::{Attempt, Fresh, Pending, Retry, Step, static_root};
use super::limit::Limit;
use super::message::{Confirm, Exchange, Message};
use super::set::KeySet;
use super::{Entropy, Identity, MAX_PATHS, Timing};
use crate::datagram::{HEADER, Header, Kind, MAX_COUNTER, Purpose, VERSION};
use crate::ids::{Incarnation, Micros, PathId};
use crate::seal::{Rejection, Rejections, ReplayWindow, Root, Verdict};

/// Messages that wait to be sent. What finds no place is repeated later anyway.
const OUTBOX: usize = 4 * MAX_PATHS as usize;
/// Replaced incarnations and keys that are remembered.
const MEMORY: usize = 16;

/// What the rest of the node must know.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// The partner has proven that this incarnation of it lives (decision 31).
    PeerConfirmed {
        /// The incarnation.
        incarnation: Incarnation,
        /// The one that it replaces.
        replaces: Option<Incarnation>,
    },
    /// The traffic keys were renewed.
    Renewed {
        /// Their number.
        key_id: u16,
    },
}

/// An authentic datagram for the layers above.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Incoming<'d> {
    /// Its header.
    pub header: Header,
    /// Its body.
    pub body: &'d [u8],
}

/// How the keys stand, for `status`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Status {
    /// The partner's confirmed incarnation.
    pub peer: Incarnation,
    /// The traffic keys in use.
    pub key_id: u16,
    /// Their age.
    pub age: Micros,
    /// Renewals between these two incarnations.
    pub renewals: u64,
    /// A handshake is under way.
    pub busy: bool,
}

/// What is in force between two incarnations.
struct Established {
    generation: u32,
    since: Micros,
    renewals: u64,
    current: KeySet,
    /// The partner sends under `current` too.
    both_ways: bool,
    previous: Option<Previous>,
    heartbeat: KeySet,
}

/// Replaced traffic keys. They expire only once the new ones are confirmed both ways (decision 30).
struct Previous {
    keys: KeySet,
    expires: Option<Micros>,
}

/// What names a key on the wire. The number alone does not: an initiator that restarts counts anew.
type KeyName = (Incarnation, u16);

#[derive(Clone, Copy)]
enum Outgoing {
    Handshake(Message),
    Confirm { step: Confirm, key: KeyName },
}

/// Which keys opened a datagram.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Which {
    Current,
    Waiting,
    Orphan,
    Previous,
}

/// The keys of a pair, on one of its nodes.
pub struct Keys {
    pub(super) id: Identity,
    timing: Timing,
    entropy: Box<dyn Entropy + Send>,
    pub(super) static_root: Root,
    /// Counter of this incarnation's handshake datagrams.
    counter: u64,
    /// Counters of the confirmed partner's.
    heard: ReplayWindow,
    /// This initiator's last generation.
    generation: u32,
    established: Option<Established>,
    attempt: Option<Attempt>,
    /// Keys of a given-up attempt that the responder may have confirmed and use: they still open.
    orphan: Option<Box<Fresh>>,
    pending: Option<Pending>,
    hello: Retry,
    limit: Limit,
    outbox: VecDeque<(PathId, Outgoing)>,
    events: VecDeque<Event>,
    retired: VecDeque<Incarnation>,
    expired: VecDeque<KeyName>,
    rejections: Rejections,
}

impl Keys {
    /// Begins: the first announcement is due at once.
    #[must_use]
    pub fn new(mut id: Identity, timing: Timing, entropy: Box<dyn Entropy + Send>, now: Micros) -> Self {
        id.paths = id.paths.min(MAX_PATHS);
        Self {
            static_root: static_root(&id),
            hello: Retry::new(now, timing.retry),
            limit: Limit::new(now),
            id,
            timing,
            entropy,
            counter: 0,
            heard: ReplayWindow::default(),
            generation: 0,
            established: None,
            attempt: None,
            orphan: None,
            pending: None,
            outbox: VecDeque::with_capacity(OUTBOX),
            events: VecDeque::with_capacity(MEMORY),
            retired: VecDeque::with_capacity(MEMORY),
            expired: VecDeque::with_capacity(MEMORY),
            rejections: Rejections::default(),
        }
    }

    /// Takes a datagram that came in on `path`. `Ok(None)`: it was the machine's own.
    ///
    /// # Errors
    /// Why the datagram had no effect; it is counted already.
    pub fn handle<'d>(
        &mut self,
        now: Micros,
        path: PathId,
        datagram: &'d mut [u8],
    ) -> Result<Option<Incoming<'d>>, Rejection> {
        let result = self.open(now, path, datagram);
        if let Err(reason) = result {
            self.rejections.count(reason);
        }
        let Some((header, length)) = result? else { return Ok(None) };
        Ok(datagram.get(HEADER..HEADER + length).map(|body| Incoming { header, body }))
    }

    /// Seals a body that lies behind the room for the header ([`HEADER`] bytes). `None` if there are no
    /// keys yet, or no room for the tag. `kind` is one of the layers above.
    pub fn seal(&mut self, kind: Kind, path: PathId, datagram: &mut [u8], body_len: usize) -> Option<usize> {
        let header = self.header(kind, path);
        let established = self.established.as_mut()?;
        match kind {
            Kind::Data | Kind::Ack | Kind::Probe => established.current.seal(&header, datagram, body_len),
            Kind::Heartbeat => established.heartbeat.seal(&header, datagram, body_len),
            Kind::Handshake | Kind::Confirm => None,
        }
    }

    /// Writes the next datagram that is to be sent, and says on which path. `None`: nothing more now.
    pub fn poll_transmit(&mut self, now: Micros, datagram: &mut [u8]) -> Option<(PathId, usize)> {
        self.tick(now);
        loop {
            let (path, outgoing) = self.outbox.pop_front()?;
            if let Some(length) = self.write(path, outgoing, datagram) {
                return Some((path, length));
            }
        }
    }

    /// When [`Keys::poll_transmit`] must be called at the latest.
    #[must_use]
    pub fn poll_timeout(&self) -> Micros {
        if !self.outbox.is_empty() {
            return Micros(0);
        }
        let attempt = self.attempt.as_ref().map(|a| a.retry.next.min(a.started.after(self.timing.patience)));
        let own = match (&self.established, attempt) {
            (_, Some(at)) => at,
            (None, None) => self.hello.next,
            (Some(established), None) if self.leads() => established.since.after(self.timing.renew_every),
            _ => Micros::NEVER,
        };
        let pending = self.pending.as_ref().map(|p| p.since.after(self.timing.patience));
        let previous = self.established.as_ref().and_then(|e| e.previous.as_ref()).and_then(|p| p.expires);
        own.min(pending.unwrap_or(Micros::NEVER)).min(previous.unwrap_or(Micros::NEVER))
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// A secret that both nodes share and that lives as long as their static keys: keys the digests
    /// (decision 23), so that nobody can choose sessions that fall into one bucket.
    #[must_use]
    pub fn digest_key(&self) -> [u8; 16] {
        self.static_root.derive(b"understudy digest buckets")
    }

    /// What was refused, by reason.
    #[must_use]
    pub fn rejections(&self) -> &Rejections {
        &self.rejections
    }

    /// Counts a datagram that the layers above found malformed.
    pub fn reject(&mut self, reason: Rejection) {
        self.rejections.count(reason);
    }

    /// How the keys stand; `None` while there are none.
    #[must_use]
    pub fn status(&self, now: Micros) -> Option<Status> {
        let established = self.established.as_ref()?;
        Some(Status {
            peer: established.current.peer,
            key_id: established.current.id,
            age: now.since(established.since),
            renewals: established.renewals,
            busy: self.attempt.is_some() || self.pending.is_some(),
        })
    }

    /// The lower node id leads handshakes.
    fn leads(&self) -> bool {
        self.id.me < self.id.peer
    }

    fn header(&self, kind: Kind, path: PathId) -> Header {
        Header {
            version: VERSION,
            kind,
            pair: self.id.pair,
            sender: self.id.me,
            path,
            incarnation: self.id.incarnation,
            key_id: 0,
            counter: 0,
        }
    }

    fn peer(&self) -> Option<Incarnation> {
        self.established.as_ref().map(|established| established.current.peer)
    }

    /// Everything that is due.
    fn tick(&mut self, now: Micros) {
        self.forget(now);
        if let Some(attempt) = &mut self.attempt {
            if attempt.retry.fire(now) {
                let outgoing = match &attempt.step {
                    Step::Second { first, .. } => Outgoing::Handshake(Message::First(*first)),
                    Step::Answer(fresh) => {
                        Outgoing::Confirm { step: Confirm::Ask, key: fresh.traffic.name() }
                    }
                };
                self.send_everywhere(outgoing);
            }
            return;
        }
        match &self.established {
            None if self.hello.fire(now) => {
                self.send_everywhere(Outgoing::Handshake(Message::Hello { ask: true }));
            }
            Some(established) if self.leads() && now >= established.since.after(self.timing.renew_every) => {
                self.begin(established.current.peer, now);
                if self.attempt.is_some() {
                    self.tick(now);
                }
            }
            _ => {}
        }
    }

    /// Drops what has outlived its time.
    fn forget(&mut self, now: Micros) {
        let patience = self.timing.patience;
        if self.attempt.as_ref().is_some_and(|a| now >= a.started.after(patience)) {
            self.give_up();
            self.hello = Retry::new(now, self.timing.retry);
        }
        if self.pending.as_ref().is_some_and(|p| now >= p.since.after(patience)) {
            self.pending = None;
        }
        if let Some(established) = &mut self.established
            && let Some(previous) = &established.previous
            && previous.expires.is_some_and(|at| now >= at)
        {
            let name = previous.keys.name();
            established.previous = None;
            remember(&mut self.expired, name);
        }
    }

    /// Ends an attempt without its answer.
    fn give_up(&mut self) {
        if let Some(Attempt { step: Step::Answer(fresh), .. }) = self.attempt.take() {
            self.orphan = Some(fresh);
        }
    }

    /// Begins a handshake as initiator. A failure (it has none on sound input) leaves no attempt.
    fn begin(&mut self, target: Incarnation, now: Micros) {
        let Some(generation) = self.generation.checked_add(1) else { return };
        self.generation = generation;
        self.give_up();
        let entropy = self.entropy.as_mut();
        self.attempt = Attempt::new(&self.id, target, generation, self.timing.retry, entropy, now);
    }

    fn send(&mut self, path: PathId, outgoing: Outgoing) {
        if self.outbox.len() < OUTBOX {
            self.outbox.push_back((path, outgoing));
        }
    }

    fn send_everywhere(&mut self, outgoing: Outgoing) {
        for path in 0..self.id.paths {
            self.send(PathId(path), outgoing);
        }
    }

    fn write(&mut self, path: PathId, outgoing: Outgoing, datagram: &mut [u8]) -> Option<usize> {
        match outgoing {
            Outgoing::Handshake(message) => {
                let body = message.to_wire();
                datagram.get_mut(HEADER..HEADER + body.len())?.copy_from_slice(&body);
                self.counter = (self.counter + 1).min(MAX_COUNTER);
                let header = Header { counter: self.counter, ..self.header(Kind::Handshake, path) };
                let cipher =
                    self.static_root.cipher(self.id.me, Purpose::Handshake, path, self.id.incarnation.0);
                cipher.seal(&header, datagram, body.len())
            }
            Outgoing::Confirm { step, key } => {
                let header = self.header(Kind::Confirm, path);
                *datagram.get_mut(HEADER)? = step as u8;
                self.traffic_keys(key)?.1.seal(&header, datagram, 1)
            }
        }
    }

    /// The traffic keys of this name, in force or waiting for confirmation.
    fn traffic_keys(&mut self, name: KeyName) -> Option<(Which, &mut KeySet)> {
        let waiting = match self.attempt.as_mut().map(|a| &mut a.step) {
            Some(Step::Answer(fresh)) => Some(&mut fresh.traffic),
            _ => self.pending.as_mut().map(|p| &mut p.fresh.traffic),
        };
        let orphan = self.orphan.as_mut().map(|fresh| &mut fresh.traffic);
        let (current, previous) = match &mut self.established {
            Some(e) => (Some(&mut e.current), e.previous.as_mut().map(|p| &mut p.keys)),
            None => (None, None),
        };
        [Which::Current, Which::Waiting, Which::Orphan, Which::Previous]
            .into_iter()
            .zip([current, waiting, orphan, previous])
            .filter_map(|(which, keys)| Some((which, keys?)))
            .find(|(_, keys)| keys.name() == name)
    }

    fn open(
        &mut self,
        now: Micros,
        path: PathId,
        datagram: &mut [u8],
    ) -> Result<Option<(Header, usize)>, Rejection> {
        let header = Header::read(datagram)?;
        if header.pair != self.id.pair {
            return Err(Rejection::WrongPair);
        }
        if header.sender == self.id.me {
            return Err(Rejection::Reflected);
        }
        if header.sender != self.id.peer {
            return Err(Rejection::WrongSender);
        }
        if header.path != path || path.0 >= self.id.paths {
            return Err(Rejection::WrongPath);
        }
        self.forget(now);
        match header.kind.purpose() {
            Purpose::Handshake => self.open_handshake(now, &header, datagram).map(|()| None),
            Purpose::Heartbeat => self.open_heartbeat(now, &header, datagram).map(|n| Some((header, n))),
            Purpose::Traffic => self.open_traffic(now, &header, datagram),
        }
    }

    /// Why there is no key of this name.
    fn unknown_key(&self, (incarnation, id): KeyName) -> Rejection {
        if self.expired.contains(&(incarnation, id)) {
            return Rejection::ExpiredKey;
        }
        let current = self.established.as_ref().is_some_and(|e| e.current.id == id || e.heartbeat.id == id);
        if current { Rejection::WrongIncarnation } else { Rejection::WrongKey }
    }

    fn open_heartbeat(
        &mut self,
        now: Micros,
        header: &Header,
        datagram: &mut [u8],
    ) -> Result<usize, Rejection> {
        let name = (header.incarnation, header.key_id);
        if let Some(keys) = self.established.as_mut().map(|e| &mut e.heartbeat).filter(|k| k.name() == name) {
            return keys.open(header, datagram);
        }
        // The responder has the keys in force a message before the initiator, and may already use them.
        let waiting = match self.attempt.as_mut().map(|a| &mut a.step) {
            Some(Step::Answer(fresh)) => Some(&mut fresh.heartbeat),
            _ => self.pending.as_mut().map(|p| &mut p.fresh.heartbeat),
        };
        let Some(keys) = waiting.filter(|keys| keys.name() == name) else {
            return Err(self.unknown_key(name));
        };
        let length = keys.open(header, datagram)?;
        self.confirmed(now, Which::Waiting);
        Ok(length)
    }

    fn open_traffic(
        &mut self,
        now: Micros,
        header: &Header,
        datagram: &mut [u8],
    ) -> Result<Option<(Header, usize)>, Rejection> {
        let key = (header.incarnation, header.key_id);
        let Some((which, keys)) = self.traffic_keys(key) else { return Err(self.unknown_key(key)) };
        let length = keys.open(header, datagram)?;
        let said = match header.kind {
            Kind::Confirm => {
                let body = datagram.get(HEADER..HEADER + length).unwrap_or_default();
                Some(Confirm::read(body).ok_or(Rejection::Malformed)?)
            }
            _ => None,
        };
        let is_new = matches!(which, Which::Waiting | Which::Orphan);
        if is_new {
            self.confirmed(now, which);
        }
        if which != Which::Previous && said != Some(Confirm::Ask) {
            self.partner_uses_current(now);
        }
        let answer = match said {
            Some(Confirm::Ask) => Some(Confirm::Answer),
            Some(Confirm::Answer) => Some(Confirm::Done),
            // The answer was lost, but the partner uses the keys: it must learn that we do.
            _ if is_new && self.leads() => Some(Confirm::Done),
            _ => None,
        };
        if let Some(step) = answer {
            self.send(header.path, Outgoing::Confirm { step, key });
        }
        Ok(if said.is_none() { Some((*header, length)) } else { None })
    }

    /// The partner sends under the current keys: their predecessors may go, after the overlap.
    fn partner_uses_current(&mut self, now: Micros) {
        let Some(established) = &mut self.established else { return };
        if established.both_ways {
            return;
        }
        established.both_ways = true;
        if let Some(previous) = &mut established.previous {
            previous.expires = Some(now.after(self.timing.overlap));
        }
    }

    /// The partner has proven that it holds the keys that waited: they take effect.
    fn confirmed(&mut self, now: Micros, which: Which) {
        let orphan = self.orphan.take();
        let fresh = match (which, &self.attempt) {
            (Which::Orphan, _) => orphan,
            (_, Some(Attempt { step: Step::Answer(_), .. })) => match self.attempt.take() {
                Some(Attempt { step: Step::Answer(fresh), .. }) => Some(fresh),
                _ => None,
            },
            _ => self.pending.take().map(|pending| pending.fresh),
        };
        let Some(fresh) = fresh else { return };
        let Fresh { generation, traffic, heartbeat } = *fresh;
        match self.established.take() {
            Some(old) if old.current.peer == traffic.peer => {
                if let Some(previous) = &old.previous {
                    remember(&mut self.expired, previous.keys.name());
                }
                self.tell(Event::Renewed { key_id: traffic.id });
                self.established = Some(Established {
                    generation,
                    since: now,
                    renewals: old.renewals + 1,
                    current: traffic,
                    both_ways: false,
                    previous: Some(Previous { keys: old.current, expires: None }),
                    heartbeat: old.heartbeat,
                });
            }
            old => {
                let replaces = old.map(|old| self.retire(old));
                self.heard = ReplayWindow::default();
                self.tell(Event::PeerConfirmed { incarnation: traffic.peer, replaces });
                self.established = Some(Established {
                    generation,
                    since: now,
                    renewals: 0,
                    current: traffic,
                    both_ways: false,
                    previous: None,
                    heartbeat,
                });
            }
        }
    }

    /// An incarnation of the partner is over, and its keys with it.
    fn retire(&mut self, old: Established) -> Incarnation {
        if let Some(previous) = &old.previous {
            remember(&mut self.expired, previous.keys.name());
        }
        remember(&mut self.expired, old.current.name());
        remember(&mut self.retired, old.current.peer);
        old.current.peer
    }

    fn tell(&mut self, event: Event) {
        remember(&mut self.events, event);
    }

    fn open_handshake(&mut self, now: Micros, header: &Header, datagram: &mut [u8]) -> Result<(), Rejection> {
        let sender = header.incarnation;
        if self.retired.contains(&sender) {
            return Err(Rejection::Stale);
        }
        let known = self.peer() == Some(sender);
        if known {
            match self.heard.check(header.counter) {
                Verdict::Fresh => {}
                Verdict::Replayed => return Err(Rejection::Replayed),
                Verdict::TooOld => return Err(Rejection::TooOld),
            }
        }
        let cipher = self.static_root.cipher(self.id.peer, Purpose::Handshake, header.path, sender.0);
        let body = cipher.open(header, datagram).ok_or(Rejection::Forged)?;
        if known {
            self.heard.record(header.counter);
        }
        match Message::read(body).ok_or(Rejection::Malformed)? {
            Message::Hello { ask } => self.on_hello(now, header, ask),
            Message::First(first) if !self.leads() => self.on_first(now, header, &first),
            Message::Second(second) if self.leads() => self.on_second(now, sender, &second),
            Message::First(_) | Message::Second(_) => Err(Rejection::Malformed),
        }
    }

    fn on_hello(&mut self, now: Micros, header: &Header, ask: bool) -> Result<(), Rejection> {
        let sender = header.incarnation;
        let wanted = self.leads() && self.peer() != Some(sender) && self.may_begin(sender, now);
        if !ask && !wanted {
            return Ok(());
        }
        if !self.limit.take(now) {
            return Err(Rejection::RateLimited);
        }
        if ask {
            self.send(header.path, Outgoing::Handshake(Message::Hello { ask: false }));
        }
        if wanted {
            self.begin(sender, now);
        }
        Ok(())
    }

    /// A handshake with another incarnation is left alone for a while, so that replayed announcements
    /// cannot keep every handshake from its end.
    fn may_begin(&self, target: Incarnation, now: Micros) -> bool {
        self.attempt.as_ref().is_none_or(|under_way| {
            let undisturbed = Micros(self.timing.retry.0.saturating_mul(2));
            under_way.target != target && now >= under_way.started.after(undisturbed)
        })
    }

    fn on_first(&mut self, now: Micros, header: &Header, first: &Exchange) -> Result<(), Rejection> {
        let sender = header.incarnation;
        if let Some(pending) = self.pending.as_ref().filter(|p| p.peer == sender) {
            if pending.first == *first {
                let second = Outgoing::Handshake(Message::Second(pending.second));
                if !self.limit.take(now) {
                    return Err(Rejection::RateLimited);
                }
                self.send(header.path, second);
                return Ok(());
            }
            if first.generation <= pending.first.generation {
                return Err(Rejection::Stale);
            }
        }
        let last = self.established.as_ref().filter(|e| e.current.peer == sender).map(|e| e.generation);
        if last.is_some_and(|last| first.generation <= last) {
            return Err(Rejection::Stale);
        }
        if !self.limit.take(now) {
            return Err(Rejection::RateLimited);
        }
        if first.target != self.id.incarnation {
            // Meant for an earlier life of this node: say which one lives.
            self.send(header.path, Outgoing::Handshake(Message::Hello { ask: false }));
            return Err(Rejection::Stale);
        }
        let pending = Pending::new(&self.id, sender, first, self.entropy.as_mut(), now);
        let pending = pending.ok_or(Rejection::Forged)?;
        self.send(header.path, Outgoing::Handshake(Message::Second(pending.second)));
        self.pending = Some(pending);
        Ok(())
    }

    fn on_second(&mut self, now: Micros, sender: Incarnation, second: &Exchange) -> Result<(), Rejection> {
        let (id, retry) = (&self.id, self.timing.retry);
        let attempt = self.attempt.as_mut().filter(|attempt| {
            (attempt.target, attempt.generation) == (sender, second.generation)
                && second.target == id.incarnation
                && matches!(attempt.step, Step::Second { .. })
        });
        let attempt = attempt.ok_or(Rejection::Stale)?;
        if attempt.second(id, second, retry, now) { Ok(()) } else { Err(Rejection::Forged) }
    }
}

/// Appends to a bounded memory; the oldest is forgotten.
fn remember<T>(memory: &mut VecDeque<T>, item: T) {
    if memory.len() == MEMORY {
        memory.pop_front();
    }
    memory.push_back(item);
}
