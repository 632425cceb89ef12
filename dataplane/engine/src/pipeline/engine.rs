//! The engine of one worker: its shard, and the stages that a burst passes.

use super::apart::Apart;
use super::ending::Endings;
use super::mirror::RecentlyWanted;
use super::pending::Pending;
use super::replies::RateLimit;
use super::takeover::Probed;
use super::watch::is_from_partner;
use super::{Notice, PacketIo};
use crate::counters::{Counters, DropReason, Event, Refusal};
use crate::ids::{PortId, WorkerId};
use crate::role::RoleView;
use crate::session;
use crate::snapshot::{PortView, Snapshot};
use crate::table::{Bound, Due, End, Entry, Guess, KeyHash, Shard, Slot, flags, prefetch_read};
use crate::time::Ticks;
use crate::track::Timeouts;
use arrayvec::ArrayVec;
use std::sync::Arc;
use wire::buf::RxChecksum;
use wire::parse::ParseError;
use wire::{Addr, Desc, Kind, MacAddr, PacketBuf, Proto};

/// Packets in a burst, at most.
pub const BURST: usize = 32;
/// A burst of frames.
pub type Burst<B> = ArrayVec<B, BURST>;

/// A frame's headers are asked for so many frames before they are parsed: a port leaves them in a cache
/// further away, or in another processor's.
const FRAMES_AHEAD: usize = 4;
/// Sessions re-evaluated in one burst after a change of policy, at most; the others of the burst pass
/// under the decision that they have.
const REBINDS_PER_BURST: u32 = 8;
/// Sessions that the new policy refuses, ended between two bursts.
pub(super) const DOOMED: usize = BURST;

/// How an engine is set up.
pub struct EngineConfig {
    /// Whose engine it is.
    pub worker: WorkerId,
    /// Its counters.
    pub counters: Arc<Counters>,
    /// Its ring to the control thread.
    pub notices: rtrb::Producer<Notice>,
    /// Packets that may wait for MAC addresses.
    pub pending_max: usize,
}

/// One worker's packet processing.
pub struct Engine<B> {
    pub(super) shard: Shard,
    pub(super) counters: Arc<Counters>,
    pub(super) worker: WorkerId,
    pub(super) notices: rtrb::Producer<Notice>,
    pub(super) pending: Pending<B>,
    pub(super) replies: RateLimit,
    pub(super) doomed: ArrayVec<Slot, DOOMED>,
    pub(super) rebinds_left: u32,
    /// The neighbour table for which waiting packets were looked at last.
    pub(super) settled_for: u64,
    pub(super) role: RoleView,
    /// When this node took over the sessions that it had mirrored; `None` when that no longer matters.
    pub(super) took_over: Option<Ticks>,
    /// When it stopped being active, until its local sessions are dropped.
    pub(super) left: Option<Ticks>,
    pub(super) wanted: RecentlyWanted,
    pub(super) probed: Probed,
    pub(super) endings: Endings,
    pub(super) apart: Apart,
    lanes: Option<Box<[Lane; BURST]>>,
    timeouts: Option<Timeouts>,
}

/// What the early stages found out about a packet.
#[derive(Clone, Copy)]
pub(super) struct Lane {
    pub desc: Desc,
    pub hash: KeyHash,
    /// The hash of the reply's key, where no session was found.
    reply_hash: KeyHash,
    fate: Fate,
}

impl Lane {
    /// Both keys' hashes.
    #[inline(always)]
    pub fn hashes(&self, shard: &Shard) -> [KeyHash; 2] {
        let reply_hash = match self.fate {
            Fate::Flow(Guess::Nothing) => self.reply_hash,
            _ => shard.hash(&self.desc.key.reversed()),
        };
        [self.hash, reply_hash]
    }
}

#[derive(Clone, Copy)]
enum Fate {
    /// A packet of a flow: look the session up.
    Flow(Guess),
    /// ARP, ICMP errors, neighbour discovery and everything else that has no session of its own.
    Slow,
    /// Belongs to another worker.
    Elsewhere(WorkerId),
    /// The partner's, for the sync core.
    Partner,
    /// Not acceptable.
    Refused(DropReason),
}

/// What stays the same through a burst.
#[derive(Clone, Copy)]
pub(super) struct Context<'s> {
    pub now: Ticks,
    pub snapshot: &'s Snapshot,
    pub ingress: PortId,
    pub port: &'s PortView,
    /// The port's address for all that the pair shares.
    pub mac: MacAddr,
    /// The same, to compare a frame's destination with.
    face: u64,
    /// What the sessions of packets from this port are bound to.
    pub bound: Bound,
}

impl<'s> Context<'s> {
    pub fn new(now: Ticks, snapshot: &'s Snapshot, ingress: PortId) -> Option<Self> {
        let port = snapshot.ports.get(usize::from(ingress.0))?;
        let mac = port.face();
        let bound = Bound::new(snapshot.generation, port.zone);
        Some(Self { now, snapshot, ingress, port, mac, face: mac_word(mac), bound })
    }
}

impl<B: PacketBuf> Engine<B> {
    /// An engine with an empty shard.
    pub fn new(config: EngineConfig, shard: Shard) -> Self {
        let term = shard.term();
        let hash = KeyHash::default();
        let blank = Lane { desc: Desc::EMPTY, hash, reply_hash: hash, fate: Fate::Slow };
        Self {
            shard,
            counters: config.counters,
            worker: config.worker,
            notices: config.notices,
            pending: Pending::new(config.pending_max),
            replies: RateLimit::default(),
            doomed: ArrayVec::new(),
            rebinds_left: 0,
            settled_for: 0,
            role: RoleView::Active { term },
            took_over: None,
            left: None,
            wanted: RecentlyWanted::default(),
            probed: Probed::default(),
            endings: Endings::default(),
            apart: Apart::default(),
            lanes: Some(Box::new([blank; BURST])),
            timeouts: None,
        }
    }

    /// The sessions.
    pub fn shard(&self) -> &Shard {
        &self.shard
    }

    /// The sessions, for the owner between bursts.
    pub fn shard_mut(&mut self) -> &mut Shard {
        &mut self.shard
    }

    /// Takes a burst from a port through all stages; the burst is empty afterwards.
    pub fn process<I: PacketIo<Buf = B>>(
        &mut self,
        now: Ticks,
        snapshot: &Snapshot,
        ingress: PortId,
        burst: &mut Burst<B>,
        io: &mut I,
    ) {
        let steer = !snapshot.steering.is_single();
        self.run(now, snapshot, ingress, burst, io, steer);
    }

    /// The same for packets that another worker handed over: they are ours.
    pub fn process_handed_over<I: PacketIo<Buf = B>>(
        &mut self,
        now: Ticks,
        snapshot: &Snapshot,
        ingress: PortId,
        burst: &mut Burst<B>,
        io: &mut I,
    ) {
        self.run(now, snapshot, ingress, burst, io, false);
    }

    fn run<I: PacketIo<Buf = B>>(
        &mut self,
        now: Ticks,
        snapshot: &Snapshot,
        ingress: PortId,
        burst: &mut Burst<B>,
        io: &mut I,
        steer: bool,
    ) {
        let Some(mut cx) = Context::new(now, snapshot, ingress) else { return burst.clear() };
        if !self.role.forwards() {
            return self.watch(&cx, burst, io);
        }
        if self.apart.on {
            cx.bound = Bound::NEVER;
        }
        let Some(mut lanes) = self.lanes.take() else { return burst.clear() };
        if self.settled_for != snapshot.neighbours.revision() {
            // What waited for a neighbour came before this burst.
            self.settle_pending(now, snapshot, io);
        }
        self.shard.tick(now);
        self.rebinds_left = REBINDS_PER_BURST;
        let lanes_in_use = &mut lanes[..burst.len()];
        self.arrive(&cx, lanes_in_use, burst, steer);
        self.guess(lanes_in_use);
        self.act(&cx, lanes_in_use, burst, io);
        self.lanes = Some(lanes);
    }

    /// Stage 1: parse, steer, hash, ask for the index lines. Each stage is a function of its own, so that the
    /// registers hold what this one needs.
    #[inline(never)]
    fn arrive(&self, cx: &Context<'_>, lanes: &mut [Lane], burst: &mut Burst<B>, steer: bool) {
        let mut bytes = 0;
        for (at, lane) in lanes.iter_mut().enumerate() {
            if let Some(coming) = burst.get(at + FRAMES_AHEAD) {
                prefetch_read(coming.bytes(), 0);
            }
            let Some(frame) = burst.get_mut(at) else { break };
            let (head, frame_len) = (frame.bytes(), frame.frame_len());
            bytes += frame_len as u64;
            let good = frame.ip_checksum() == RxChecksum::Good;
            match wire::parse::parse_into(&mut lane.desc, head, frame_len, good) {
                Ok(()) if is_at(cx.face, head) && !steer => self.sort_flow(lane),
                Ok(()) => self.sort(cx, lane, frame, steer),
                Err(e) => self.refuse_or_join(cx, lane, frame, steer, e),
            }
        }
        self.counters.count(Event::RxPackets, burst.len() as u64);
        self.counters.count(Event::RxBytes, bytes);
    }

    /// Flows go to the index, everything else to the slow lane, and what is not ours to nobody or to its
    /// owner.
    #[inline(never)]
    fn sort(&self, cx: &Context<'_>, lane: &mut Lane, frame: &B, steer: bool) {
        if !is_at(cx.face, frame.bytes())
            && let Some(fate) = other_address(cx, &lane.desc, frame.bytes())
        {
            lane.fate = fate;
            return;
        }
        if steer {
            let owner = self.owner(cx, &lane.desc, frame);
            if owner != self.worker {
                lane.fate = Fate::Elsewhere(owner);
                return;
            }
        }
        self.sort_flow(lane);
    }

    /// Of what is for us and ours, only flows are looked up.
    #[inline(always)]
    fn sort_flow(&self, lane: &mut Lane) {
        lane.fate = match lane.desc.kind {
            Kind::Tcp | Kind::Udp | Kind::EchoRequest | Kind::EchoReply | Kind::OtherIp => {
                lane.hash = self.shard.hash(&lane.desc.key);
                self.shard.prefetch_index(lane.hash);
                Fate::Flow(Guess::Nothing)
            }
            _ => Fate::Slow,
        };
    }

    #[cold]
    fn refuse_or_join(
        &self,
        cx: &Context<'_>,
        lane: &mut Lane,
        frame: &mut B,
        steer: bool,
        error: ParseError,
    ) {
        if error != ParseError::HeadersSplit {
            lane.fate = Fate::Refused(error.into());
            return;
        }
        if !frame.linearise() {
            lane.fate = Fate::Refused(Refusal::HeadersSplit.into());
            return;
        }
        let good = frame.ip_checksum() == RxChecksum::Good;
        match wire::parse::parse_into(&mut lane.desc, frame.bytes(), frame.frame_len(), good) {
            Ok(()) => self.sort(cx, lane, frame, steer),
            Err(e) => lane.fate = Fate::Refused(e.into()),
        }
    }

    /// The worker that owns a packet's session (decision 5): ICMP errors go where the quoted packet's
    /// session is.
    fn owner(&self, cx: &Context<'_>, desc: &Desc, frame: &B) -> WorkerId {
        let steering = &cx.snapshot.steering;
        let hash = match desc.kind {
            Kind::Arp | Kind::NeighbourDiscovery | Kind::IcmpOther => return self.worker,
            Kind::IcmpError => match wire::icmp::quoted(frame.bytes(), desc) {
                Some(quoted) => {
                    let kind = match quoted.proto {
                        Proto::TCP => Kind::Tcp,
                        Proto::UDP => Kind::Udp,
                        _ => Kind::OtherIp,
                    };
                    steering.key().steering_hash(&quoted.key, kind)
                }
                None => return self.worker,
            },
            // Not every port looks behind options and extension headers, so its hash may lack the ports.
            kind => match frame.rss_hash() {
                Some(hash) if !desc.has_options => hash,
                _ => steering.key().steering_hash(&desc.key, kind),
            },
        };
        steering.owner(hash)
    }

    /// Stages 2 and 3: look at the index, ask for the sessions, or for the places of new ones.
    #[inline(never)]
    fn guess(&self, lanes: &mut [Lane]) {
        let mut unknown = false;
        for lane in lanes.iter_mut() {
            if let Fate::Flow(guess) = &mut lane.fate {
                *guess = self.shard.prefetch_entry(lane.hash);
                if !matches!(guess, Guess::Slot(..)) {
                    // Probably a new flow: the index line of its reply's key will be written.
                    lane.reply_hash = self.shard.hash(&lane.desc.key.reversed());
                    self.shard.prefetch_index(lane.reply_hash);
                    unknown = true;
                }
            }
        }
        if unknown {
            self.guess_again(lanes);
        }
    }

    /// Stage 3.
    #[inline(never)]
    fn guess_again(&self, lanes: &mut [Lane]) {
        for lane in lanes {
            if let Fate::Flow(guess) = &mut lane.fate
                && !matches!(guess, Guess::Slot(..))
            {
                if *guess == Guess::Alternate {
                    *guess = self.shard.prefetch_alternate_entry(lane.hash);
                }
                if *guess == Guess::Nothing {
                    self.shard.prefetch_room(lane.reply_hash);
                }
            }
        }
    }

    /// Stage 4: packet by packet, in order.
    #[inline(never)]
    fn act<I: PacketIo<Buf = B>>(
        &mut self,
        cx: &Context<'_>,
        lanes: &[Lane],
        burst: &mut Burst<B>,
        io: &mut I,
    ) {
        for (frame, lane) in burst.drain(..).zip(lanes) {
            if let Fate::Flow(Guess::Slot(slot, dir)) = lane.fate
                && let Some(entry) = self.shard.confirm(slot, dir, &lane.desc.key)
            {
                self.established(cx, lane, (slot, dir), entry, frame, io);
            } else if matches!(lane.fate, Fate::Flow(Guess::Nothing)) && !self.shard.may_be_fresh(lane.hash) {
                self.open(cx, lane, frame, io);
            } else {
                self.act_otherwise(cx, lane, frame, io);
            }
        }
    }

    #[inline(never)]
    fn act_otherwise<I: PacketIo<Buf = B>>(&mut self, cx: &Context<'_>, lane: &Lane, frame: B, io: &mut I) {
        match lane.fate {
            Fate::Flow(_) => self.look_again(cx, lane, frame, io),
            Fate::Slow => self.slow(cx, lane, frame, io),
            Fate::Elsewhere(worker) => self.hand_over(cx, worker, frame, io),
            Fate::Partner => self.hand_to_core(cx, frame, io),
            Fate::Refused(reason) => self.counters.dropped(reason),
        }
    }

    /// The guess was wrong, or there was none and the session may have been created earlier in this burst.
    fn look_again<I: PacketIo<Buf = B>>(&mut self, cx: &Context<'_>, lane: &Lane, frame: B, io: &mut I) {
        match self.shard.find(&lane.desc.key, lane.hash) {
            Some((slot, dir)) => {
                if let Some(entry) = self.shard.entry(slot) {
                    self.established(cx, lane, (slot, dir), entry, frame, io);
                }
            }
            None => self.open(cx, lane, frame, io),
        }
    }

    #[cold]
    fn hand_over<I: PacketIo<Buf = B>>(&mut self, cx: &Context<'_>, to: WorkerId, frame: B, io: &mut I) {
        if io.hand_over(to, cx.ingress, frame) {
            self.counters.count(Event::HandedOver, 1);
        } else {
            self.counters.dropped(Refusal::WorkerRingFull.into());
        }
    }

    #[cold]
    fn slow<I: PacketIo<Buf = B>>(&mut self, cx: &Context<'_>, lane: &Lane, frame: B, io: &mut I) {
        match lane.desc.kind {
            Kind::Arp => self.arp(cx, &lane.desc, frame, io),
            Kind::NeighbourDiscovery => self.neighbour_discovery(cx, &lane.desc, frame, io),
            Kind::IcmpError => self.icmp_error(cx, &lane.desc, frame, io),
            Kind::Fragment => self.counters.dropped(Refusal::Fragment.into()),
            _ if cx.snapshot.is_group(lane.desc.key.dst()) => {
                self.counters.dropped(Refusal::Multicast.into())
            }
            _ => self.counters.dropped(Refusal::IcmpOther.into()),
        }
    }

    /// Between bursts, once a turn: sessions whose time ran out, waiting packets, what a new policy
    /// refused, numbers for the outside.
    pub fn housekeep<I: PacketIo<Buf = B>>(&mut self, now: Ticks, snapshot: &Snapshot, io: &mut I) {
        for slot in std::mem::take(&mut self.doomed) {
            let ended = self.end(slot, now);
            self.counters.count(Event::Terminated, ended.into());
        }
        if !self.role.forwards() {
            return self.keep_mirror(now);
        }
        self.shard.tick(now);
        let timeouts = &snapshot.timeouts;
        if self.took_over.is_some_and(|then| now.since(then) >= Ticks::MAX_SPAN_MS) {
            self.took_over = None;
            self.shard.forget_takeover();
        }
        let took_over = self.took_over;
        self.apart.keep_in_span(now, took_over);
        let apart = &self.apart;
        if self.timeouts.replace(*timeouts).is_some_and(|old| old != *timeouts) {
            self.shard.judge_all();
        }
        let (counters, notices) = (&self.counters, &mut self.notices);
        self.shard.housekeep(
            now,
            |entry| {
                let life = session::life(entry, took_over, timeouts);
                if now.reached(life.deadline) || apart.outlived(entry, took_over, timeouts) {
                    Due::Expire
                } else {
                    Due::Again(life)
                }
            },
            |entry, end| {
                counters.count(if end == End::Expired { Event::Expired } else { Event::Evicted }, 1);
                log_end(entry, counters, notices);
            },
        );
        self.further_endings(now, snapshot, io);
        self.settle_pending(now, snapshot, io);
        let population = self.shard.population();
        self.counters.set_gauges(&population, self.pending.len(), population.relaxed);
    }

    /// Ends a session on command, between bursts. False if there is none, or if it is only mirrored here.
    pub fn terminate(&mut self, slot: Slot, now: Ticks) -> bool {
        if !self.shard.is_serving() {
            return false;
        }
        self.doomed.retain(|doomed| *doomed != slot);
        self.end(slot, now)
    }

    pub(super) fn end(&mut self, slot: Slot, now: Ticks) -> bool {
        if let Some(entry) = self.shard.entry(slot).filter(|entry| entry.in_use()) {
            log_end(entry, &self.counters, &mut self.notices);
        }
        self.shard.terminate(slot, now)
    }

    /// Tells the control thread something; a full ring is counted.
    pub(super) fn notify(&mut self, notice: Notice) {
        if self.notices.push(notice).is_err() {
            self.counters.count(Event::EventsLost, 1);
        }
    }
}

/// A session whose rule has `log = true` ends, or gets a successor in its place.
#[cold]
pub(super) fn log_end(entry: &Entry, counters: &Counters, notices: &mut rtrb::Producer<Notice>) {
    if entry.path().flags & flags::LOG == 0 {
        return;
    }
    let notice =
        Notice::SessionEnded { key: entry.keys()[0], rule: entry.binding().rule, bytes: entry.hot().bytes() };
    if notices.push(notice).is_err() {
        counters.count(Event::EventsLost, 1);
    }
}

/// True if the frame's destination MAC address is this one, as [`mac_word`] gives it (decision 14: checked in
/// software, whatever the port filters).
#[inline(always)]
fn is_at(word: u64, frame: &[u8]) -> bool {
    frame.first_chunk::<8>().is_some_and(|head| u64::from_le_bytes(*head) << 16 == word)
}

/// A MAC address as a word that is compared at once.
fn mac_word(MacAddr([a, b, c, d, e, f]): MacAddr) -> u64 {
    u64::from_le_bytes([0, 0, a, b, c, d, e, f])
}

/// What becomes of a frame that is not addressed to the port's face; `None` if it is taken all the same.
/// A pair's port has its own address beside the virtual one. Of what comes to a group only address
/// resolution and the partner concern us: a unicast packet in a group frame is never forwarded (RFC 1812
/// §5.3.4), or one packet would be answered from everywhere.
#[cold]
fn other_address(cx: &Context<'_>, desc: &Desc, frame: &[u8]) -> Option<Fate> {
    let to_group = frame.first().is_some_and(|first| first & 1 == 1);
    if !to_group && !is_at(mac_word(cx.port.mac), frame) {
        return Some(Fate::Refused(Refusal::NotForUs.into()));
    }
    if is_from_partner(cx, desc) {
        return Some(Fate::Partner);
    }
    let is_ours = !to_group || matches!(desc.kind, Kind::Arp | Kind::NeighbourDiscovery);
    (!is_ours).then_some(Fate::Refused(Refusal::Multicast.into()))
}

/// The address that the packet goes to.
#[inline(always)]
pub(super) fn destination(desc: &Desc) -> Addr {
    desc.key.dst()
}
