//! A packet of an unknown flow: may it open a session?

use super::engine::{Context, Engine, Lane, destination, log_end};
use super::forward::{is_intact, syn_options};
use super::watch::is_from_partner;
use super::{Notice, PacketIo};
use crate::counters::{DropReason, Event, Refusal};
use crate::neighbour::NextHop;
use crate::policy::{Action, Decision, Query};
use crate::routes::RouteHit;
use crate::session;
use crate::snapshot::{PortView, Snapshot};
use crate::table::{Binding, Entry, KeyHash, NewSession, Path, Slot, flags};
use crate::track::{self, Segment, Why};
use wire::{Addr, Desc, FlowKey, Kind, PacketBuf};

/// A flow that the policy admits: where it goes, and as what.
struct Admitted<'s> {
    binding: Binding,
    path: Path,
    /// The largest packet that can go there.
    mtu: u16,
    decision: &'s Decision,
}

impl<B: PacketBuf> Engine<B> {
    /// First packet of a flow.
    #[inline(never)]
    pub(super) fn open<I: PacketIo<Buf = B>>(&mut self, cx: &Context<'_>, lane: &Lane, frame: B, io: &mut I) {
        // Apart by family, so that nobody asks again which it is.
        if lane.desc.key.is_v6() {
            self.open_one::<I, true>(cx, lane, frame, io);
        } else {
            self.open_one::<I, false>(cx, lane, frame, io);
        }
    }

    #[inline(always)]
    fn open_one<I: PacketIo<Buf = B>, const V6: bool>(
        &mut self,
        cx: &Context<'_>,
        lane: &Lane,
        frame: B,
        io: &mut I,
    ) {
        let desc = &lane.desc;
        if is_from_partner(cx, desc) {
            return self.hand_to_core(cx, frame, io);
        }
        let (windows, state) = match first_state(desc, &frame) {
            Ok(first) => first,
            Err(reason) => {
                self.counters.dropped(reason);
                return self.reset_unknown(cx, desc, &frame, io);
            }
        };
        let Some(admitted) = self.admit(cx, desc, &frame, io) else { return };
        if desc.ttl <= 1 {
            return self.ttl_exceeded(cx, desc, &frame, io);
        }
        if desc.ip_len > admitted.mtu {
            return self.too_big(cx, desc, &frame, admitted.mtu, io);
        }
        let keys = [desc.key, desc.key.reversed()];
        let hashes = lane.hashes(&self.shard);
        let new = new_session(cx, &keys, hashes, desc.ip_len, &admitted, (windows, state));
        let Ok(slot) = self.shard.create(&new, cx.now) else {
            return self.counters.dropped(Refusal::TableFull.into());
        };
        self.counters.count(Event::Created, 1);
        self.born(slot, desc, &admitted, state);
        match cx.snapshot.neighbours.resolved(admitted.path.next_hops[0]) {
            Some(adjacency) => self.forward(desc, adjacency, frame, io),
            None => self.send_unresolved(cx, desc, frame, io),
        }
    }

    /// The first packet of a session has no neighbour yet that it could go to.
    #[inline(never)]
    fn send_unresolved<I: PacketIo<Buf = B>>(&mut self, cx: &Context<'_>, desc: &Desc, frame: B, io: &mut I) {
        let Some(hit) = cx.snapshot.routes.lookup(destination(desc)) else {
            return self.counters.dropped(Refusal::NoRoute.into());
        };
        let found = cx.snapshot.neighbours.find(hit.port, hit.next_hop);
        let adjacency = found.and_then(|hop| cx.snapshot.neighbours.get(hop));
        self.send_to(cx, desc, hit, adjacency, frame, io);
    }

    /// A SYN on a finished session: the policy decides as for a new flow, the successor takes the slot.
    #[cold]
    pub(super) fn reopen<I: PacketIo<Buf = B>>(
        &mut self,
        cx: &Context<'_>,
        lane: &Lane,
        slot: Slot,
        entry: &Entry,
        frame: &B,
        io: &mut I,
    ) -> bool {
        let desc = &lane.desc;
        let (windows, state) = match first_state(desc, frame) {
            Ok(first) => first,
            Err(reason) => {
                self.counters.dropped(reason);
                return false;
            }
        };
        let Some(admitted) = self.admit(cx, desc, frame, io) else { return false };
        let keys = [desc.key, desc.key.reversed()];
        let hashes = lane.hashes(&self.shard);
        let new = new_session(cx, &keys, hashes, desc.ip_len, &admitted, (windows, state));
        let was_half_open = session::is_half_open(entry.state());
        log_end(entry, &self.counters, &mut self.notices);
        self.shard.succeed(slot, &new, was_half_open, cx.now);
        self.counters.count(Event::Reopened, 1);
        self.born(slot, desc, &admitted, state);
        true
    }

    /// Asks routes and policy. `None` if the packet was dropped, answered or delivered here.
    #[inline(always)]
    fn admit<'s, I: PacketIo<Buf = B>>(
        &mut self,
        cx: &Context<'s>,
        desc: &Desc,
        frame: &B,
        io: &mut I,
    ) -> Option<Admitted<'s>> {
        let snapshot = cx.snapshot;
        let dst = destination(desc);
        if snapshot.is_group(dst) {
            self.counters.dropped(Refusal::Multicast.into());
            return None;
        }
        let back = find_way(snapshot, desc.key.src());
        if is_spoofed(cx, desc.key.src(), back) {
            self.counters.dropped(Refusal::SpoofedSource.into());
            return None;
        }
        if snapshot.is_local(dst) {
            self.local(cx, desc, frame, io);
            return None;
        }
        let Some((hit, egress)) = find_way(snapshot, dst) else {
            self.counters.dropped(Refusal::NoRoute.into());
            return None;
        };
        let Some((back, _)) = back else {
            self.counters.dropped(Refusal::NoRouteBack.into());
            return None;
        };
        let (from, to) = (cx.port.zone, egress.zone);
        let echo = desc.kind == Kind::EchoRequest;
        let decision = snapshot.policy.decide(&Query { from, to, key: desc.key, echo });
        if decision.action != Action::Allow {
            self.refuse(cx, desc, frame, decision, io);
            return None;
        }
        let next_hop =
            |hit: RouteHit| snapshot.neighbours.find(hit.port, hit.next_hop).unwrap_or(NextHop::NONE);
        let next_hops = [next_hop(hit), next_hop(back)];
        Some(Admitted {
            binding: Binding { rule: decision.rule, generation: snapshot.generation, zones: [from, to] },
            path: Path { next_hops, group: decision.group, flags: path_flags(decision) | self.apart.born() },
            mtu: egress.mtu,
            decision,
        })
    }

    /// A rule said no.
    #[inline(never)]
    pub(super) fn refuse<I: PacketIo<Buf = B>>(
        &mut self,
        cx: &Context<'_>,
        desc: &Desc,
        frame: &B,
        decision: &Decision,
        io: &mut I,
    ) {
        self.counters.refused_by(decision.slot);
        if decision.log {
            self.notify(Notice::Refused { key: desc.key, rule: decision.rule });
        }
        if decision.action == Action::Reject {
            self.counters.dropped(Refusal::PolicyReject.into());
            self.reject(cx, desc, frame, io);
        } else {
            self.counters.dropped(Refusal::PolicyDrop.into());
        }
    }

    /// What happens to each new session, whichever way it came.
    #[inline(always)]
    fn born(&mut self, slot: Slot, desc: &Desc, admitted: &Admitted<'_>, state: u32) {
        self.counters.session_for(admitted.decision.slot);
        if admitted.decision.log {
            self.notify(Notice::SessionOpened { key: desc.key, rule: admitted.binding.rule });
        }
        if session::is_replicated(desc.key.proto(), state) {
            self.shard.announce(slot);
        }
    }
}

/// Where packets to `addr` leave. Link-local addresses mean something on their own link only (RFC 4291
/// §2.5.6, RFC 3927 §7): there is no way to them.
pub(super) fn way_to(snapshot: &Snapshot, addr: Addr) -> Option<(RouteHit, &PortView)> {
    find_way(snapshot, addr)
}

/// The same in line.
#[inline(always)]
fn find_way(snapshot: &Snapshot, addr: Addr) -> Option<(RouteHit, &PortView)> {
    if matches!(addr, Addr::V4([169, 254, ..]) | Addr::V6([0xfe, 0x80..=0xbf, ..])) {
        return None;
    }
    let hit = snapshot.routes.find(addr)?;
    Some((hit, snapshot.ports.get(usize::from(hit.port.0))?))
}

/// The tracker's state after the first packet, or why that packet opens nothing.
#[inline(always)]
fn first_state<B: PacketBuf>(desc: &Desc, frame: &B) -> Result<([u64; 4], u32), DropReason> {
    match desc.kind {
        Kind::Tcp => {
            let options = syn_options(frame, desc);
            let conn = track::tcp::open(&Segment { fields: desc.tcp, options })?;
            if !is_intact(frame, desc) {
                return Err(Refusal::BadL4Checksum.into());
            }
            Ok(conn.pack())
        }
        Kind::Udp => Ok(([0; 4], track::udp::open().bits().into())),
        Kind::EchoRequest => Ok(([0; 4], track::icmp::open(track::icmp::Echo::Request)?.bits().into())),
        Kind::EchoReply => Err(Why::EchoReplyUnasked.into()),
        _ => Ok(([0; 4], track::other::open().bits().into())),
    }
}

/// True if a packet from `source` cannot have come in by this port (RFC 3704 §2): the way `back` leads
/// through another zone, or nobody but the firewall has that address, or everybody there has it.
#[inline]
pub(super) fn is_spoofed(cx: &Context<'_>, source: Addr, back: Option<(RouteHit, &PortView)>) -> bool {
    back.is_some_and(|(_, port)| {
        port.zone != cx.port.zone
            || cx.snapshot.ports.may_know(source)
                && (port.is_own(source) || port.broadcasts.contains(&source))
    })
}

#[inline(always)]
fn new_session<'a>(
    cx: &Context<'_>,
    keys: &'a [FlowKey; 2],
    hashes: [KeyHash; 2],
    first_len: u16,
    admitted: &Admitted<'_>,
    (windows, state): ([u64; 4], u32),
) -> NewSession<'a> {
    let proto = keys[0].proto();
    let mut next_check = session::deadline(proto, state, cx.now, &cx.snapshot.timeouts);
    let of_age = cx.now.after(u32::from(admitted.decision.sync_after_s) * 1_000);
    if admitted.path.flags & flags::YOUNG != 0 && next_check.reached(of_age) {
        next_check = of_age;
    }
    NewSession {
        keys,
        hashes,
        binding: admitted.binding,
        path: admitted.path,
        windows,
        state,
        first_len,
        half_open: proto == wire::Proto::TCP && session::is_half_open(state),
        next_check,
        of_age,
    }
}

/// A session's flags under this decision.
pub(super) fn path_flags(decision: &Decision) -> u8 {
    let mut bits = 0;
    if decision.replicate {
        bits |= flags::REPLICATE;
        if decision.sync_after_s > 0 {
            bits |= flags::YOUNG;
        }
    }
    if decision.log {
        bits |= flags::LOG;
    }
    bits
}
