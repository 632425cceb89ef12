//! What concerns the node itself or a session only indirectly: ARP (RFC 826), neighbour discovery
//! (RFC 4861), echo to own addresses, ICMP errors about packets of a session (RFC 5927 §4).

use super::engine::{Context, Engine, destination};
use super::open::{is_spoofed, way_to};
use super::watch::mac_of;
use super::{Notice, PacketIo};
use crate::counters::{DropReason, Event, Refusal};
use crate::ids::ZoneId;
use crate::policy::{Action, Query};
use crate::table::Slot;
use crate::track::{Dir, TcpConn};
use wire::arp::{ArpPacket, Operation};
use wire::icmp::Quoted;
use wire::nd::Neighbour;
use wire::{Addr, Desc, Kind, MacAddr, PacketBuf, Proto, craft};

/// How far below the window's lower edge a quoted segment may lie.
const QUOTE_SLACK: u32 = 1 << 16;

impl<B: PacketBuf> Engine<B> {
    /// ARP: answers for own addresses, learns from what is meant for us.
    pub(super) fn arp<I: PacketIo<Buf = B>>(&mut self, cx: &Context<'_>, desc: &Desc, frame: B, io: &mut I) {
        let Some(packet) = ArpPacket::view(frame.bytes(), desc) else {
            return self.counters.dropped(Refusal::NeighbourDiscoveryIgnored.into());
        };
        let (sender, sender_mac) = (packet.sender, packet.sender_mac());
        let target = Addr::V4(packet.target);
        let asked = cx.port.is_own(target) && packet.operation() == Some(Operation::Request);
        let heard = !packet.is_probe() && self.heard(cx, Addr::V4(sender), sender_mac, asked);
        if !asked || !self.answers_for(cx, target) {
            return self.noted(heard);
        }
        let own = (mac_of(cx.port, cx.mac, target), packet.target);
        let sent = self.emit(cx, io, |out| craft::arp_reply(out, own, (sender_mac, sender)));
        self.counters.count(Event::ArpAnswered, sent.is_sent().into());
    }

    /// Neighbour discovery: the same for IPv6.
    pub(super) fn neighbour_discovery<I: PacketIo<Buf = B>>(
        &mut self,
        cx: &Context<'_>,
        desc: &Desc,
        frame: B,
        io: &mut I,
    ) {
        match Neighbour::read(frame.bytes(), desc) {
            Err(e) => self.counters.dropped(e.into()),
            Ok(Neighbour::Advertisement { target, link, solicited, .. }) => {
                // Who was asked at its link-layer address need not repeat it (RFC 4861 §4.4): Linux does not.
                let link = link.or_else(|| solicited.then(|| source_mac(&frame)));
                let heard = link.is_some_and(|mac| self.heard(cx, Addr::V6(target), mac, false));
                self.noted(heard);
            }
            Ok(Neighbour::Solicitation { source, target, link }) => {
                if !cx.port.is_own(Addr::V6(target)) {
                    return self.counters.dropped(Refusal::NeighbourDiscoveryIgnored.into());
                }
                let mac = link.unwrap_or_else(|| source_mac(&frame));
                let heard = source.is_some_and(|source| self.heard(cx, Addr::V6(source), mac, true));
                if !self.answers_for(cx, Addr::V6(target)) {
                    return self.noted(heard);
                }
                let to = source.map(|source| (mac, source));
                let own = (mac_of(cx.port, cx.mac, Addr::V6(target)), target);
                let sent = self.emit(cx, io, |out| craft::neighbour_advertisement(out, own, to));
                self.counters.count(Event::NdAnswered, sent.is_sent().into());
            }
        }
    }

    /// Shared addresses are the active node's to answer for.
    fn answers_for(&self, cx: &Context<'_>, addr: Addr) -> bool {
        self.role.forwards() || cx.port.node_address.contains(&addr)
    }

    /// Tells the control thread who is where, if that address belongs on this link at all: false if not.
    /// `asked`: they asked for us, so we will have to answer; other news only refresh what is known
    /// already.
    fn heard(&mut self, cx: &Context<'_>, addr: Addr, mac: MacAddr, asked: bool) -> bool {
        let on_link =
            cx.snapshot.routes.lookup(addr).is_some_and(|hit| hit.port == cx.ingress && hit.next_hop == addr);
        let heard = on_link && !cx.snapshot.is_local(addr);
        if heard {
            self.notify(Notice::NeighbourHeard { port: cx.ingress, addr, mac, answer: asked });
        }
        heard
    }

    /// Address resolution that needs no answer: the control thread has heard it, or it is nothing to us.
    fn noted(&mut self, heard: bool) {
        if heard {
            self.counters.count(Event::NeighbourHeard, 1);
        } else {
            self.counters.dropped(Refusal::NeighbourDiscoveryIgnored.into());
        }
    }

    /// A packet for one of the firewall's own addresses: the only service is echo, where a rule to the
    /// zone `self` allows it.
    pub(super) fn local<I: PacketIo<Buf = B>>(
        &mut self,
        cx: &Context<'_>,
        desc: &Desc,
        frame: &B,
        io: &mut I,
    ) {
        let echo = desc.kind == Kind::EchoRequest;
        let to_node = echo && cx.port.node_address.contains(&desc.key.dst());
        let query = Query { from: cx.port.zone, to: ZoneId::SELF, key: desc.key, echo };
        let decision = cx.snapshot.policy.classify(&query);
        if decision.action != Action::Allow {
            if to_node {
                return self.echo_to_node(cx, desc, frame, io);
            }
            return self.refuse(cx, desc, frame, &decision, io);
        }
        if !echo || !frame.is_contiguous() {
            return self.counters.dropped(Refusal::LocalNoService.into());
        }
        // Longer than a frame of ours, or with options: no answer.
        if self.echo(cx, desc, frame, io) {
            self.counters.session_for(decision.slot);
        } else {
            self.counters.dropped(Refusal::LocalNoService.into());
        }
    }

    /// An ICMP error passes if it quotes a packet of a session, comes from where that packet went, and
    /// quotes what can be on its way. It changes nothing in the session.
    pub(super) fn icmp_error<I: PacketIo<Buf = B>>(
        &mut self,
        cx: &Context<'_>,
        desc: &Desc,
        frame: B,
        io: &mut I,
    ) {
        let related = self.related(cx, desc, &frame);
        let (slot, dir) = match related {
            Ok(related) => related,
            Err(reason) => return self.counters.dropped(reason),
        };
        let Some(entry) = self.shard.entry(slot) else { return };
        if entry.binding().generation != cx.snapshot.generation && !self.rebind(cx, slot, entry) {
            return;
        }
        if entry.path().flags & crate::table::flags::ENDING != 0 {
            return self.counters.dropped(Refusal::SessionEnding.into());
        }
        let Some((hit, _)) = way_to(cx.snapshot, destination(desc)) else {
            return self.counters.dropped(Refusal::NoRoute.into());
        };
        if !self.can_leave(cx, desc, hit.port, &frame, io) {
            return;
        }
        self.counters.count(Event::IcmpErrorsForwarded, 1);
        self.resolve(cx, desc, dir, entry, frame, io);
    }

    /// The session that an error is about, and the error's own direction.
    fn related(&self, cx: &Context<'_>, desc: &Desc, frame: &B) -> Result<(Slot, Dir), DropReason> {
        let unrelated = DropReason::from(Refusal::IcmpErrorUnrelated);
        let quoted = wire::icmp::quoted(frame.bytes(), desc).ok_or(unrelated)?;
        if quoted.key.src() != desc.key.dst() {
            return Err(unrelated);
        }
        if is_spoofed(cx, desc.key.src(), way_to(cx.snapshot, desc.key.src())) {
            return Err(Refusal::SpoofedSource.into());
        }
        if !super::forward::is_intact(frame, desc) {
            return Err(Refusal::BadL4Checksum.into());
        }
        let (slot, quoted_dir) =
            self.shard.find(&quoted.key, self.shard.hash(&quoted.key)).ok_or(unrelated)?;
        let entry = self.shard.entry(slot).ok_or(unrelated)?;
        if entry.binding().zones[quoted_dir.other().index()] != cx.port.zone {
            return Err(Refusal::WrongZone.into());
        }
        if !can_be_on_its_way(&quoted, quoted_dir, &entry.hot().windows, entry.state()) {
            return Err(unrelated);
        }
        Ok((slot, quoted_dir.other()))
    }

    /// Writes a frame of the node's own and sends it on the ingress port.
    pub(super) fn emit<I: PacketIo<Buf = B>>(
        &mut self,
        cx: &Context<'_>,
        io: &mut I,
        write: impl FnOnce(&mut [u8]) -> Option<usize>,
    ) -> Emitted {
        let Some(mut out) = io.alloc() else {
            self.counters.count(Event::NoBuffer, 1);
            return Emitted::NoBuffer;
        };
        if !out.set_len(OWN_FRAME_MAX) {
            return Emitted::Nothing;
        }
        let Some(len) = write(out.bytes_mut()) else { return Emitted::Nothing };
        // What a buffer held before must not leave as padding (CVE-2003-0001).
        if let Some(padding) = out.bytes_mut().get_mut(len..SHORTEST) {
            padding.fill(0);
        }
        if !out.set_len(len.max(SHORTEST)) {
            return Emitted::Nothing;
        }
        io.send(cx.ingress, out);
        Emitted::Sent
    }
}

/// What became of a frame of the node's own.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Emitted {
    /// It is on its way.
    Sent,
    /// The pool was empty, which is counted.
    NoBuffer,
    /// There was nothing to say, or no room to say it.
    Nothing,
}

impl Emitted {
    pub fn is_sent(self) -> bool {
        self == Emitted::Sent
    }
}

/// The longest frame of our own: an echo reply of full size.
const OWN_FRAME_MAX: usize = 1_514;
/// The shortest frame on Ethernet, without its check sequence.
pub(super) const SHORTEST: usize = 60;

/// The link-layer source of a frame.
pub(super) fn source_mac<B: PacketBuf>(frame: &B) -> MacAddr {
    wire::ether::EtherHeader::view(frame.bytes()).map_or(MacAddr::default(), |header| header.src())
}

/// A quoted TCP segment must lie between the lower edge of its receiver's window and what was sent
/// (RFC 5927 §4.1); everything else can be quoted at any time.
fn can_be_on_its_way(quoted: &Quoted, dir: Dir, windows: &[u64; 4], state: u32) -> bool {
    let (Proto::TCP, Some(seq)) = (quoted.proto, quoted.tcp_seq) else { return true };
    let conn = TcpConn::unpack(windows, state);
    let (sender, receiver) = (&conn.halves[dir.index()], &conn.halves[dir.other().index()]);
    let window = u32::from(receiver.max_window) << receiver.scale.min(14);
    sender.end.wrapping_sub(seq) <= window.saturating_add(QUOTE_SLACK)
}
