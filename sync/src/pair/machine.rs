//! The machine of [`super`].

use super::path::PathTest;
use super::split::Watch;
use super::wishes::Errands;
use super::{Host, Order, PairConfig, PairStatus, PathStatus, Report};
use crate::datagram::{HEADER, Kind, MAX_DATAGRAM, Malformed, Probe, ProbeStep};
use crate::heartbeat::{self, Heartbeat};
use crate::ids::{Incarnation, Micros, NodeId, PathId, Term};
use crate::keys::{self, Identity, Keys};
use crate::membership::{Effect, Event, Notice, Role, State};
use crate::seal::Rejection;
use crate::stream::{self, Source, Stream};
use std::collections::VecDeque;

/// Datagrams of the stream in one turn, at most: heartbeats must not wait for a bulk.
const STREAM_SHARE: usize = 64;
/// Answers to probes that wait for a turn, at most.
const REPLIES: usize = 8;

/// One node of a pair.
pub struct Pair {
    keys: Keys,
    state: State,
    stream: Stream,
    config: PairConfig,
    tests: Vec<PathTest>,
    me: NodeId,
    partner: NodeId,
    incarnation: Incarnation,
    confirmed: Option<Incarnation>,
    partner_report: Option<heartbeat::Report>,
    /// The number of the heartbeat that it came with.
    reported: u64,
    errands: Errands,
    splits: Watch,
    /// What the stream is for, at the moment.
    part: Option<Part>,
    /// Which path carries it.
    carrier: Option<PathId>,
    /// What it knows of the partner.
    peer: stream::Peer,
    /// The last deltas of a switchover are under way.
    flushing: bool,
    /// A drain was asked for in that turn.
    drain: Option<u64>,
    turns: u64,
    replies: VecDeque<(PathId, u64, usize)>,
    buffer: Box<[u8; MAX_DATAGRAM]>,
}

/// What the stream is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Part {
    Lead(Term),
    Follow(Term),
}

impl Pair {
    /// A node that has just started. `handles` is the size of its session table.
    #[must_use]
    pub fn new(
        config: PairConfig,
        identity: Identity,
        timing: keys::Timing,
        entropy: Box<dyn keys::Entropy + Send>,
        handles: u32,
        now: Micros,
    ) -> Self {
        let (me, partner, incarnation) = (identity.me, identity.peer, identity.incarnation);
        let keys = Keys::new(identity, timing, entropy, now);
        Self {
            state: State::new(config.membership.clone(), incarnation, config.persisted, now),
            stream: Stream::new(config.stream, keys.digest_key(), handles, now),
            tests: config.paths.iter().map(|path| PathTest::new(*path)).collect(),
            keys,
            config,
            me,
            partner,
            incarnation,
            confirmed: None,
            partner_report: None,
            reported: 0,
            errands: Errands::default(),
            splits: Watch::default(),
            part: None,
            carrier: None,
            peer: stream::Peer::Absent,
            flushing: false,
            drain: None,
            turns: 0,
            replies: VecDeque::with_capacity(REPLIES),
            buffer: Box::new([0; MAX_DATAGRAM]),
        }
    }

    /// Takes a datagram that came in on a path. Hosts hand in all that waits before they call
    /// [`Pair::turn`].
    ///
    /// # Errors
    /// Why it had no effect; it is counted already.
    pub fn handle(
        &mut self,
        now: Micros,
        path: PathId,
        datagram: &mut [u8],
        host: &mut impl Host,
    ) -> Result<(), Rejection> {
        let length = datagram.len();
        let incoming = self.keys.handle(now, path, datagram)?;
        // Keys may have been confirmed by this very datagram, which then counts already.
        while let Some(event) = self.keys.poll_event() {
            self.hear_keys(event, now, host);
        }
        let Some(keys::Incoming { header, body }) = incoming else { return Ok(()) };
        let (source, sink) = host.tables();
        let read = match header.kind {
            Kind::Heartbeat => self.heartbeat(now, path, body, host),
            Kind::Data => self.stream.data(now, body, sink),
            Kind::Ack => self.stream.ack(now, body, source, sink),
            Kind::Probe => self.probe(now, path, body, length, host),
            Kind::Handshake | Kind::Confirm => Ok(()),
        };
        read.map_err(|Malformed| {
            self.keys.reject(Rejection::Malformed);
            Rejection::Malformed
        })
    }

    /// Everything that is due. Has work of its own in bounded pieces: [`Pair::deadline`] says when it wants
    /// to go on.
    pub fn turn(&mut self, now: Micros, host: &mut impl Host) {
        self.send_keys(now, host);
        if self.drain.is_some_and(|asked| asked < self.turns) {
            self.drain = None;
            self.feed(Event::Drained, now, host);
        }
        self.turns += 1;
        self.feed(Event::Tick, now, host);
        self.direct_stream(now);
        let (source, sink) = host.tables();
        self.stream.turn(now, source, sink);
        self.tell_of_stream(now, host);
        self.send_stream(now, host);
        self.test_paths(now, host);
        while let Some(event) = self.stream.poll_event() {
            if let stream::Event::Verified { buckets, groups, asked: true, .. } = event
                && self.errands.ended(buckets, groups)
            {
                self.state.hurry();
            }
            host.carry_out(Order::Stream(event));
        }
    }

    /// What the host has done or found out.
    pub fn report(&mut self, report: Report, now: Micros, host: &mut impl Host) {
        let event = match report {
            Report::Persisted(term) => Event::Persisted(term),
            Report::Installed(term) => Event::Installed(term),
            Report::TargetPrepared => Event::TargetPrepared,
            Report::Parked => Event::Parked,
            Report::Link { path, up } => Event::PathLink { path, up },
            Report::Fitness(fitness) => Event::Fitness(fitness),
            Report::Command(command) => Event::Command(command),
            Report::Verify => return self.want(Errands::want_verify, Stream::verify, now),
            Report::Resync => return self.want(Errands::want_resync, Stream::resync, now),
        };
        self.feed(event, now, host);
    }

    /// An operator's wish that only the active node can fulfil. The standby does its own share.
    fn want(&mut self, ask: fn(&mut Errands), act: fn(&mut Stream, Micros), now: Micros) {
        if self.state.role() != Role::Active {
            ask(&mut self.errands);
            self.state.hurry();
        }
        act(&mut self.stream, now);
    }

    /// What the partner's operator wants of this node, and what came of what ours wanted of it.
    fn run_errands(&mut self, report: &heartbeat::Report, now: Micros, host: &mut impl Host) {
        let asked = self.errands.hear(report, self.state.role() == Role::Active);
        if asked.verify {
            self.stream.verify(now);
        }
        if asked.resync {
            self.stream.resync(now);
        }
        if let Some(verdict) = self.errands.answered(report) {
            let heartbeat::Verdict { differing: buckets, groups, .. } = verdict;
            let event = stream::Event::Verified { equal: buckets == 0, buckets, groups, asked: true };
            host.carry_out(Order::Stream(event));
        }
    }

    /// When [`Pair::turn`] must be called at the latest.
    #[must_use]
    pub fn deadline(&self) -> Micros {
        if self.drain.is_some() || !self.replies.is_empty() {
            return Micros(0);
        }
        let tests = self.tests.iter().map(PathTest::deadline).min().unwrap_or(Micros::NEVER);
        self.state.deadline().min(self.keys.poll_timeout()).min(self.stream.deadline()).min(tests)
    }

    /// The decision maker's state.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The stream's machine.
    #[must_use]
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// For people.
    #[must_use]
    pub fn status(&self, now: Micros) -> PairStatus {
        let partner = self.state.partner().copied();
        PairStatus {
            role: self.state.role(),
            term: self.state.term(),
            preferred: self.state.preferred(),
            own: self.state.own_claim(),
            incarnation: self.incarnation,
            word: self.state.role_word(),
            mirror: self.state.mirror(),
            proven: self.state.role() == Role::Active && self.stream.proven(),
            presence: self.state.presence(),
            partner_report: partner.and(self.partner_report.clone()),
            partner_incarnation: partner.and(self.confirmed),
            partner,
            digest: self.stream.digest(),
            paths: self.path_status(now),
            keys: self.keys.status(now),
            rejections: *self.keys.rejections(),
            stream: self.stream.status(now),
        }
    }

    fn path_status(&self, now: Micros) -> Vec<PathStatus> {
        let paths = self.state.paths().iter().zip(&self.tests).zip(0_u8..);
        let show = |((path, test), id): ((&heartbeat::Path, &PathTest), u8)| PathStatus {
            carries_sync: path.carries_sync,
            in_use: self.carrier == Some(PathId(id)),
            link_up: path.link_up,
            alive: path.alive(),
            silent: path.credit_at().map(|at| now.since(at)),
            rtt: test.rtt(),
            size: test.size(),
        };
        paths.map(show).collect()
    }

    fn hear_keys(&mut self, event: keys::Event, now: Micros, host: &mut impl Host) {
        if let keys::Event::PeerConfirmed { incarnation, .. } = event {
            if self.confirmed.replace(incarnation) != Some(incarnation) {
                self.errands.new_partner();
                self.reported = 0;
            }
            self.partner_report = None;
            self.feed(Event::PeerConfirmed(incarnation), now, host);
        }
        host.carry_out(Order::Keys(event));
    }

    fn send_keys(&mut self, now: Micros, host: &mut impl Host) {
        while let Some((path, length)) = self.keys.poll_transmit(now, &mut self.buffer[..]) {
            if let Some(datagram) = self.buffer.get(..length) {
                host.send(path, datagram);
            }
        }
    }

    fn heartbeat(
        &mut self,
        now: Micros,
        path: PathId,
        body: &[u8],
        host: &mut impl Host,
    ) -> Result<(), Malformed> {
        let heard = Heartbeat::decode(body).map_err(|_| Malformed)?;
        if heard.node != self.partner || heard.path != path || heard.group != self.config.group {
            return Err(Malformed);
        }
        let differs = host.describe().differs(&heard.report);
        let said = heard.beat.said;
        // One that is overtaken on its way says nothing new, and what it says is over.
        if Some(said.incarnation) == self.confirmed && said.number > self.reported {
            self.reported = said.number;
            host.differs(differs);
            self.run_errands(&heard.report, now, host);
            self.partner_report = Some(heard.report);
        }
        self.feed(Event::Heard { path, beat: heard.beat, differs }, now, host);
        // What the stream sent right behind it may be the next datagram.
        self.direct_stream(now);
        Ok(())
    }

    fn probe(
        &mut self,
        now: Micros,
        path: PathId,
        body: &[u8],
        size: usize,
        host: &mut impl Host,
    ) -> Result<(), Malformed> {
        let probe = Probe::read(body)?;
        match probe.step {
            ProbeStep::Request if self.replies.len() < REPLIES => {
                self.replies.push_back((path, probe.token, size));
            }
            ProbeStep::Request => {}
            ProbeStep::Reply => {
                let test = self.tests.get_mut(usize::from(path.0)).ok_or(Malformed)?;
                if let Some(shrunk) = test.answered(probe.token, size, now) {
                    let (size, expected) = (shrunk.size, shrunk.expected);
                    host.carry_out(Order::PathSize { path, size, expected });
                }
            }
        }
        Ok(())
    }

    /// Hands an event to the decision maker and carries out what it asks for, in order.
    fn feed(&mut self, event: Event, now: Micros, host: &mut impl Host) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            for effect in self.state.advance(event, now) {
                if let Some(next) = self.carry_out(effect, now, host) {
                    events.push_back(next);
                }
            }
        }
        self.stream.contest(self.state.contested());
        let split = self.splits.look(&self.state, self.stream.proven(), now);
        split.into_iter().for_each(|split| host.carry_out(Order::Split(split)));
    }

    fn carry_out(&mut self, effect: Effect, now: Micros, host: &mut impl Host) -> Option<Event> {
        let order = match effect {
            Effect::SendBeats => return self.send_beats(now, host).then_some(Event::BeatsSent),
            Effect::DrainQueues => {
                self.drain = Some(self.turns);
                return None;
            }
            Effect::Flush => {
                self.flushing = true;
                return None;
            }
            Effect::DiscardMirror => {
                self.stream.discard(host.tables().1);
                return None;
            }
            // A leader with a table and a follower without one: the stream's bulk is all that it takes.
            Effect::OfferMirror => {
                self.set_part(Part::Lead(self.state.term()), now);
                return None;
            }
            Effect::RequestMirror => {
                self.set_part(Part::Follow(self.state.term()), now);
                return None;
            }
            Effect::OfferMerge => {
                // What is offered depends on it.
                let split = self.splits.gave_in(&self.state, now);
                split.into_iter().for_each(|split| host.carry_out(Order::Split(split)));
                self.stream.offer_merge();
                return None;
            }
            Effect::AcceptMerge => {
                self.stream.accept_merge();
                return None;
            }
            Effect::Role(word) => Order::Role(word),
            Effect::Persist(term) => Order::Persist(term),
            Effect::Install(term) => {
                host.mirror_age(self.state.mirror_age(now));
                Order::Install(term)
            }
            Effect::Attract => Order::Attract,
            Effect::Announce => Order::Announce,
            Effect::PrepareTarget => Order::PrepareTarget,
            Effect::Park => Order::Park,
            Effect::Unpark => {
                self.flushing = false;
                Order::Unpark
            }
            Effect::Redirect(until) => Order::Redirect(until),
            Effect::Notice(notice) => {
                self.notice(notice, now);
                Order::Notice(notice)
            }
        };
        host.carry_out(order);
        None
    }

    fn notice(&mut self, notice: Notice, now: Micros) {
        match notice {
            Notice::PathUp(path) | Notice::PathDown(path) => {
                if let Some(test) = self.tests.get_mut(usize::from(path.0)) {
                    test.alive(matches!(notice, Notice::PathUp(_)), now);
                }
            }
            _ => {}
        }
    }

    /// One round of heartbeats, under one number. True if one left, or if there is nobody yet who could be
    /// spoken to: a partner that never proved itself mirrors nothing and takes nothing over.
    fn send_beats(&mut self, now: Micros, host: &mut impl Host) -> bool {
        if self.keys.status(now).is_none() {
            return true;
        }
        let report = self.describe(host);
        let mut sent = false;
        for path in (0..self.tests.len() as u8).map(PathId) {
            let Some(beat) = self.state.beat(path, now) else { continue };
            let heartbeat =
                Heartbeat { node: self.me, path, group: self.config.group, beat, report: report.clone() };
            let body = heartbeat.encode();
            let Some(space) = self.buffer.get_mut(HEADER..HEADER + body.len()) else { continue };
            space.copy_from_slice(&body);
            sent |= self.seal_and_send(Kind::Heartbeat, path, body.len(), host);
        }
        sent
    }

    fn describe(&self, host: &impl Host) -> heartbeat::Report {
        let mut report = host.describe();
        let (digest, entries) = self.stream.digest();
        (report.digests[0], report.entries[0]) = (digest, entries);
        self.errands.describe(&mut report);
        report
    }

    /// Seals the body that lies in the buffer behind the room for a header.
    fn seal_and_send(&mut self, kind: Kind, path: PathId, body: usize, host: &mut impl Host) -> bool {
        let Some(length) = self.keys.seal(kind, path, &mut self.buffer[..], body) else { return false };
        self.buffer.get(..length).is_some_and(|datagram| host.send(path, datagram))
    }

    /// Tells the stream what the decision maker decided and what paths there are.
    fn direct_stream(&mut self, now: Micros) {
        let leader = self.state.partner().filter(|claim| claim.role == Role::Active);
        match (self.state.role(), leader) {
            (Role::Active, _) => self.set_part(Part::Lead(self.state.term()), now),
            (Role::Recovering, _) => {}
            (_, Some(claim)) => self.set_part(Part::Follow(claim.term), now),
            // The active node is silent: what it sent is still on its way in.
            (_, None) => {}
        }
        let alive = self.state.paths().iter().any(heartbeat::Path::alive);
        let peer = match self.confirmed.filter(|_| alive) {
            Some(incarnation) => stream::Peer::Here { incarnation },
            None => stream::Peer::Absent,
        };
        if peer != self.peer {
            self.peer = peer;
            self.stream.peer(peer, now);
        }
        self.choose_carrier(now);
    }

    fn set_part(&mut self, part: Part, now: Micros) {
        if self.part.replace(part) == Some(part) {
            return;
        }
        match part {
            Part::Lead(term) => self.stream.lead(term, now),
            Part::Follow(term) => self.stream.follow(term, now),
        }
    }

    /// The first path that lives and may carry sessions (B-16).
    fn choose_carrier(&mut self, now: Micros) {
        let usable = |path: &heartbeat::Path| path.carries_sync && path.alive();
        let carrier = self.state.paths().iter().position(usable).map(|at| PathId(at as u8));
        if carrier.is_some() != self.carrier.is_some() {
            self.stream.link(carrier.is_some(), now);
        }
        if carrier != self.carrier
            && let Some(path) = carrier.and_then(|path| self.config.paths.get(usize::from(path.0)))
        {
            self.stream.pace(path.byte_rate);
        }
        self.carrier = carrier;
        if let Some(test) = carrier.and_then(|path| self.tests.get(usize::from(path.0))) {
            self.stream.resize(test.body_max());
        }
    }

    /// Tells the decision maker how the copies stand.
    fn tell_of_stream(&mut self, now: Micros, host: &mut impl Host) {
        if self.state.role() == Role::Active {
            let proven = self.stream.proven();
            self.feed(Event::Proven(proven), now, host);
        } else if self.stream.mirror() != self.state.mirror() {
            self.feed(Event::Mirror(self.stream.mirror()), now, host);
        }
        let (source, _) = host.tables();
        if self.flushing && source.waiting() == 0 && self.stream.flushed() {
            self.flushing = false;
            self.feed(Event::Flushed, now, host);
        }
    }

    fn send_stream(&mut self, now: Micros, host: &mut impl Host) {
        let Some(path) = self.carrier else { return };
        for _ in 0..STREAM_SHARE {
            let Some(body) = self.buffer.get_mut(HEADER..) else { return };
            let (source, _) = host.tables();
            let Some((kind, length)) = self.stream.transmit(now, source, body) else { return };
            self.seal_and_send(kind, path, length, host);
        }
    }

    fn test_paths(&mut self, now: Micros, host: &mut impl Host) {
        while let Some((path, token, size)) = self.replies.pop_front() {
            self.send_probe(path, Probe { step: ProbeStep::Reply, token }, size, host);
        }
        for at in 0..self.tests.len() {
            let due = self.tests.get_mut(at).and_then(|test| test.due(now));
            if let Some((probe, size)) = due {
                self.send_probe(PathId(at as u8), probe, size, host);
            }
        }
    }

    fn send_probe(&mut self, path: PathId, probe: Probe, size: usize, host: &mut impl Host) {
        let length = size.saturating_sub(HEADER + crate::datagram::TAG);
        let Some(body) = self.buffer.get_mut(HEADER..HEADER + length) else { return };
        if probe.write(body).is_some() {
            self.seal_and_send(Kind::Probe, path, length, host);
        }
    }
}
