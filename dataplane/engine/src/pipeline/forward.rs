//! A packet of a known session: track it, find its next hop, send it on.

use super::engine::{Context, Engine, Lane, destination};
use super::local::SHORTEST;
use super::{Notice, PacketIo};
use crate::counters::{Event, Refusal};
use crate::ids::PortId;
use crate::neighbour::{Adjacency, AdjacencyState, NextHop};
use crate::policy::{Action, Query};
use crate::routes::RouteHit;
use crate::session;
use crate::table::{Entry, Path, Slot, flags};
use crate::track::{self, Dir, FlowState, Segment, SynOptions, Verdict};
use wire::buf::RxChecksum;
use wire::parse::ETHERNET_LEN;
use wire::{Desc, Kind, PacketBuf, checksum, tcp_flags};

impl<B: PacketBuf> Engine<B> {
    /// The common case: a session bound under this policy, a neighbour that is there, a packet that fits and
    /// is no news to anybody. What is not common is [`uncommon`](Self::uncommon).
    #[inline(always)]
    pub(super) fn established<I: PacketIo<Buf = B>>(
        &mut self,
        cx: &Context<'_>,
        lane: &Lane,
        (slot, dir): (Slot, Dir),
        entry: &'static Entry,
        frame: B,
        io: &mut I,
    ) {
        // Each direction has code in which it is a constant.
        let passed = match dir {
            Dir::Initiator => pass(cx, &lane.desc, Dir::Initiator, entry),
            Dir::Responder => pass(cx, &lane.desc, Dir::Responder, entry),
        };
        let Some((adjacency, is_far)) = passed else {
            return self.uncommon(cx, lane, (slot, dir), entry, frame, io);
        };
        if is_far {
            self.moved_far(slot);
        }
        self.forward(&lane.desc, adjacency, frame, io);
    }

    /// Every packet of a known session, whatever is the matter with it.
    #[inline(never)]
    fn uncommon<I: PacketIo<Buf = B>>(
        &mut self,
        cx: &Context<'_>,
        lane: &Lane,
        (slot, dir): (Slot, Dir),
        entry: &'static Entry,
        frame: B,
        io: &mut I,
    ) {
        let desc = &lane.desc;
        let mut binding = entry.binding();
        if binding.generation != cx.snapshot.generation {
            if !self.rebind(cx, slot, entry) {
                return;
            }
            binding = entry.binding();
        }
        if binding.zones[dir.index()] != cx.port.zone {
            return self.counters.dropped(Refusal::WrongZone.into());
        }
        if desc.ttl <= 1 {
            return self.ttl_exceeded(cx, desc, &frame, io);
        }
        let adjacency = cx.snapshot.neighbours.resolved(entry.next_hop(dir));
        let mtu = match adjacency {
            Some(adjacency) => adjacency.mtu,
            None => {
                let flags = entry.path().flags;
                if flags & flags::ENDING != 0 {
                    return self.answer_to_ending(cx, desc, (slot, dir), entry, &frame, io);
                }
                if flags & flags::INERT != 0 && !self.rebind(cx, slot, entry) {
                    return;
                }
                mtu_towards(cx, desc)
            }
        };
        if desc.ip_len > mtu {
            return self.too_big(cx, desc, &frame, mtu, io);
        }
        let mut before = None;
        if self.apart.on {
            before = self.look_closer(cx, (slot, dir), entry);
            if before.is_none() {
                return;
            }
        }
        let passes = match desc.kind {
            Kind::Tcp => self.track_tcp(cx, lane, slot, dir, entry, &frame, io),
            kind => self.track_flow(cx, desc, kind, slot, dir, entry),
        };
        if !passes {
            return;
        }
        if let Some(before) = before {
            self.passed(cx, dir, entry, before);
        }
        match adjacency {
            Some(adjacency) => self.forward(desc, adjacency, frame, io),
            None => {
                // If the responder has just opened a successor, the two have changed their roles.
                let dir = if entry.keys()[0] == desc.key { Dir::Initiator } else { Dir::Responder };
                self.resolve(cx, desc, dir, entry, frame, io);
            }
        }
    }

    /// TTL, MAC addresses, out.
    #[inline(always)]
    pub(super) fn forward<I: PacketIo<Buf = B>>(
        &mut self,
        desc: &Desc,
        adjacency: &Adjacency,
        mut frame: B,
        io: &mut I,
    ) {
        cut(&mut frame, desc);
        readdress(&mut frame, desc, adjacency);
        self.counters.count(Event::Forwarded, 1);
        io.send(adjacency.port, frame);
    }

    /// A connection moved so far that the other node has to hear where it is.
    #[cold]
    #[inline(never)]
    fn moved_far(&mut self, slot: Slot) {
        self.shard.changed(slot, true);
    }

    #[allow(clippy::too_many_arguments)]
    fn track_tcp<I: PacketIo<Buf = B>>(
        &mut self,
        cx: &Context<'_>,
        lane: &Lane,
        slot: Slot,
        dir: Dir,
        entry: &'static Entry,
        frame: &B,
        io: &mut I,
    ) -> bool {
        let desc = &lane.desc;
        let mut hot = entry.hot();
        let before = hot.state;
        let mut segment = Segment { fields: desc.tcp, options: SynOptions::default() };
        if desc.tcp.flags & (tcp_flags::SYN | tcp_flags::FIN | tcp_flags::RST) != 0 {
            if !is_intact(frame, desc) {
                self.counters.dropped(Refusal::BadL4Checksum.into());
                return false;
            }
            segment.options = syn_options(frame, desc);
        }
        match track::tcp::track_packed(&mut hot.windows, &mut hot.state, dir, &segment) {
            Verdict::Accept { changed } => {
                hot.count(dir, desc.ip_len);
                entry.store_hot(&hot, cx.now);
                if changed {
                    self.state_changed(cx, slot, entry, before, hot.state);
                }
                true
            }
            Verdict::PassUnlearned(why) => {
                // What a tracker remembers of it (a SYN on a live session) is kept, the life is not
                // lengthened.
                entry.store_hot(&hot, entry.last_seen());
                self.counters.passed_unlearned(why);
                true
            }
            Verdict::Invalid(why) => self.misfit(cx, desc, (slot, dir), entry, why, frame, io),
            Verdict::Restart => {
                // The other node hears of the new connection when its handshake is complete.
                hot.count(dir, desc.ip_len);
                entry.store_hot(&hot, cx.now);
                self.shard.unshare(slot, entry);
                self.state_changed(cx, slot, entry, before, hot.state);
                true
            }
            Verdict::Reopen => self.reopen(cx, lane, slot, entry, frame, io),
        }
    }

    fn track_flow(
        &mut self,
        cx: &Context<'_>,
        desc: &Desc,
        kind: Kind,
        slot: Slot,
        dir: Dir,
        entry: &'static Entry,
    ) -> bool {
        let mut hot = entry.hot();
        let before = hot.state;
        let mut state = FlowState::from_bits(before as u8);
        let verdict = match kind {
            Kind::Udp => track::udp::track(&mut state, dir),
            Kind::EchoRequest => track::icmp::track(&mut state, dir, track::icmp::Echo::Request),
            Kind::EchoReply => track::icmp::track(&mut state, dir, track::icmp::Echo::Reply),
            _ => track::other::track(&mut state, dir),
        };
        if let Verdict::Invalid(why) = verdict {
            self.counters.dropped(why.into());
            return false;
        }
        hot.state = state.bits().into();
        hot.count(dir, desc.ip_len);
        entry.store_counted(&hot, cx.now);
        if before != hot.state {
            self.state_changed(cx, slot, entry, before, hot.state);
        }
        true
    }

    /// A session's state is another one: its timer may be due earlier, and the other node hears of it.
    #[inline(never)]
    pub(super) fn state_changed(
        &mut self,
        cx: &Context<'_>,
        slot: Slot,
        entry: &Entry,
        before: u32,
        after: u32,
    ) {
        let proto = entry.proto();
        if proto == wire::Proto::TCP {
            self.shard.handshake_changed(slot, session::is_half_open(before), session::is_half_open(after));
            self.relearned(before, after);
        }
        if session::is_replicated(proto, after) {
            self.shard.changed(slot, true);
        }
        let timeout_ms = session::timeout_ms(proto, after, &cx.snapshot.timeouts);
        let life = session::Life { deadline: cx.now.after(timeout_ms), timeout_ms };
        self.shard.check_by(slot, entry, life);
    }

    /// The policy or the routes changed since the session was bound: ask them again, for a bounded
    /// number of sessions a burst. False if the session may not go on; the packet is gone then.
    #[cold]
    pub(super) fn rebind(&mut self, cx: &Context<'_>, slot: Slot, entry: &Entry) -> bool {
        if self.doomed.contains(&slot) {
            self.counters.dropped(Refusal::PolicyChanged.into());
            return false;
        }
        // What no rule of this node's stands for yet does not pass without an answer.
        let is_inert = entry.path().flags & flags::INERT != 0;
        if self.rebinds_left == 0 && !is_inert {
            return true;
        }
        self.rebinds_left = self.rebinds_left.saturating_sub(1);
        self.counters.count(Event::Rebound, 1);
        let key = entry.keys()[0];
        let mut binding = entry.binding();
        let zone_to = |addr| {
            let port = cx.snapshot.routes.lookup(addr)?.port;
            cx.snapshot.ports.get(usize::from(port.0)).map(|port| port.zone)
        };
        let decision = match (zone_to(key.src()), zone_to(key.dst())) {
            (Some(from), Some(to)) if from == binding.zones[0] => {
                binding.zones = [from, to];
                let echo = matches!(key.proto(), wire::Proto::ICMP | wire::Proto::ICMP6);
                cx.snapshot.policy.classify(&Query { from, to, key, echo })
            }
            _ => {
                self.doom(slot);
                self.counters.dropped(Refusal::PolicyChanged.into());
                return false;
            }
        };
        if decision.action != Action::Allow {
            self.counters.refused_by(decision.slot);
            self.doom(slot);
            self.counters.dropped(Refusal::PolicyChanged.into());
            return false;
        }
        (binding.rule, binding.generation) = (decision.rule, cx.snapshot.generation);
        // Whether it is mirrored was settled when it was opened, for its life (B-34).
        let path = Path {
            next_hops: [NextHop::NONE; 2],
            group: decision.group,
            flags: super::open::path_flags(&decision) & flags::LOG
                | entry.path().flags & !(flags::LOG | flags::INERT),
        };
        entry.update(|e| {
            e.binding(binding);
            e.path(path);
        });
        self.shard.changed(slot, session::is_replicated(entry.proto(), entry.state()));
        true
    }

    /// The session is to end when the burst is over.
    fn doom(&mut self, slot: Slot) {
        if !self.doomed.is_full() {
            self.doomed.push(slot);
        }
    }

    /// The session has no usable next hop in this direction: look for it, let the packet wait for it.
    #[cold]
    pub(super) fn resolve<I: PacketIo<Buf = B>>(
        &mut self,
        cx: &Context<'_>,
        desc: &Desc,
        dir: Dir,
        entry: &Entry,
        frame: B,
        io: &mut I,
    ) {
        let neighbours = &cx.snapshot.neighbours;
        let Some(hit) = cx.snapshot.routes.lookup(destination(desc)) else {
            return self.counters.dropped(Refusal::NoRoute.into());
        };
        let found = neighbours.find(hit.port, hit.next_hop);
        if let Some(next_hop) = found {
            let mut path = entry.path();
            if path.next_hops[dir.index()] != next_hop {
                path.next_hops[dir.index()] = next_hop;
                entry.update(|e| e.path(path));
            }
        }
        self.send_to(cx, desc, hit, found.and_then(|hop| neighbours.get(hop)), frame, io);
    }

    /// False if the packet cannot leave by this port: its sender has been told.
    pub(super) fn can_leave<I: PacketIo<Buf = B>>(
        &mut self,
        cx: &Context<'_>,
        desc: &Desc,
        port: PortId,
        frame: &B,
        io: &mut I,
    ) -> bool {
        if desc.ttl <= 1 {
            self.ttl_exceeded(cx, desc, frame, io);
            return false;
        }
        let mtu = cx.snapshot.ports.get(usize::from(port.0)).map_or(0, |port| port.mtu);
        if desc.ip_len > mtu {
            self.too_big(cx, desc, frame, mtu, io);
            return false;
        }
        true
    }

    /// Sends a packet, which can leave by that port, to a next hop that may not be resolved yet.
    pub(super) fn send_to<I: PacketIo<Buf = B>>(
        &mut self,
        cx: &Context<'_>,
        desc: &Desc,
        hit: RouteHit,
        adjacency: Option<&Adjacency>,
        mut frame: B,
        io: &mut I,
    ) {
        match adjacency.map(|a| (a.state, a)) {
            Some((AdjacencyState::Resolved, adjacency)) => self.forward(desc, adjacency, frame, io),
            Some((AdjacencyState::Failed, _)) => {
                self.notify(Notice::NeighbourWanted { port: hit.port, addr: hit.next_hop });
                self.counters.dropped(Refusal::NeighbourUnreachable.into());
                self.host_unreachable(cx.snapshot, cx.now, &frame, io);
            }
            other => {
                if other.is_none() {
                    self.notify(Notice::NeighbourWanted { port: hit.port, addr: hit.next_hop });
                }
                make_ready(&mut frame, desc);
                if self.pending.add(frame, hit.port, hit.next_hop, cx.now) {
                    self.counters.count(Event::PendingQueued, 1);
                } else {
                    self.counters.dropped(Refusal::NeighbourPendingFull.into());
                }
            }
        }
    }
}

/// The common case up to the point where the packet leaves: whether it may, tracked and counted. Where it
/// goes, and true if the other node is to hear of it; `None`, with nothing done, for everything else.
#[inline(always)]
fn pass<'s>(cx: &Context<'s>, desc: &Desc, dir: Dir, entry: &Entry) -> Option<(&'s Adjacency, bool)> {
    if !entry.is_bound(&cx.bound, dir) {
        return None;
    }
    let adjacency = cx.snapshot.neighbours.resolved(entry.next_hop(dir))?;
    if desc.ttl <= 1 || desc.ip_len > adjacency.mtu {
        return None;
    }
    match desc.kind {
        Kind::Tcp => Some((adjacency, entry.pass_segment(dir, &desc.tcp, desc.ip_len, cx.now)?)),
        Kind::Udp if track::udp::is_settled(entry.state(), dir) => {
            entry.pass_counted(dir, desc.ip_len, cx.now);
            Some((adjacency, false))
        }
        _ => None,
    }
}

/// Writes both MAC addresses.
#[inline(always)]
pub(super) fn set_macs<B: PacketBuf>(frame: &mut B, adjacency: &Adjacency) {
    if let Some(macs) = frame.bytes_mut().first_chunk_mut::<12>() {
        *macs = adjacency.macs;
    }
}

/// The MTU on the way of a packet whose next hop is not known; without a way nothing is too long.
#[cold]
fn mtu_towards(cx: &Context<'_>, desc: &Desc) -> u16 {
    let hit = cx.snapshot.routes.lookup(destination(desc));
    hit.and_then(|hit| cx.snapshot.ports.get(usize::from(hit.port.0))).map_or(u16::MAX, |port| port.mtu)
}

/// For a packet that waits: its MAC addresses are written when they are known.
fn make_ready<B: PacketBuf>(frame: &mut B, desc: &Desc) {
    cut(frame, desc);
    if let Some(ip) = frame.bytes_mut().get_mut(ETHERNET_LEN..) {
        take_hop(ip, desc);
    }
}

/// Cuts off what lies behind the packet: it would be longer than the next link takes. The IP header lies
/// behind an untagged Ethernet header; [`wire::parse`] takes no other.
#[inline(always)]
fn cut<B: PacketBuf>(frame: &mut B, desc: &Desc) {
    let len = (ETHERNET_LEN + usize::from(desc.ip_len)).max(SHORTEST);
    if frame.frame_len() > len {
        // Of several segments only the driver could.
        frame.set_len(len);
    }
}

/// TTL less one and both MAC addresses.
#[inline(always)]
fn readdress<B: PacketBuf>(frame: &mut B, desc: &Desc, adjacency: &Adjacency) {
    let Some(head) = frame.bytes_mut().first_chunk_mut::<{ ETHERNET_LEN + 20 }>() else { return };
    if let Some(macs) = head.first_chunk_mut() {
        *macs = adjacency.macs;
    }
    take_hop(&mut head[ETHERNET_LEN..], desc);
}

/// TTL or hop limit less one.
#[inline(always)]
fn take_hop(ip: &mut [u8], desc: &Desc) {
    if desc.key.is_v6() {
        checksum::ipv6_decrement_hop_limit(ip);
    } else {
        checksum::ipv4_decrement_ttl(ip);
    }
}

/// The options of a SYN; nothing for anything else.
pub(super) fn syn_options<B: PacketBuf>(frame: &B, desc: &Desc) -> SynOptions {
    if desc.tcp.flags & tcp_flags::SYN == 0 {
        return SynOptions::default();
    }
    let l4 = usize::from(desc.l4);
    let options = frame.bytes().get(l4 + 20..l4 + usize::from(desc.tcp.header_len)).unwrap_or(&[]);
    SynOptions::parse(options)
}

/// True unless the transport checksum is wrong. Asked before a message may change a session's state.
pub(super) fn is_intact<B: PacketBuf>(frame: &B, desc: &Desc) -> bool {
    match frame.l4_checksum() {
        RxChecksum::Good => true,
        RxChecksum::Bad => false,
        RxChecksum::Unknown => !frame.is_contiguous() || checksum::verify_transport(frame.bytes(), desc),
    }
}
