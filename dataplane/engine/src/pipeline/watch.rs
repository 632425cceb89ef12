//! What a node does that is not active: it forwards nothing and answers nothing for the shared addresses,
//! but stays reachable under its own, learns who its neighbours are, and hears its partner.
//!
//! The partner's datagrams over data ports are taken out of the packet path here in every role. They are
//! only told by their addresses; whether they are genuine is the sync core's to find out.

use super::PacketIo;
use super::engine::{Context, Engine};
use crate::counters::{Event, Refusal};
use crate::role::RoleView;
use crate::snapshot::PortView;
use wire::ether::EtherHeader;
use wire::{Addr, Desc, Kind, MacAddr, PacketBuf, craft};

impl<B: PacketBuf> Engine<B> {
    /// A burst on a node that is not active.
    #[cold]
    #[inline(never)]
    pub(super) fn watch<I: PacketIo<Buf = B>>(
        &mut self,
        cx: &Context<'_>,
        burst: &mut super::Burst<B>,
        io: &mut I,
    ) {
        for mut frame in burst.drain(..) {
            self.counters.count(Event::RxPackets, 1);
            self.counters.count(Event::RxBytes, frame.frame_len() as u64);
            // What waits for another packet of several segments is none of the few kinds that matter.
            frame.linearise();
            match wire::parse(frame.bytes(), frame.frame_len()) {
                Ok(desc) => self.watch_one(cx, &desc, frame, io),
                Err(e) => self.counters.dropped(e.into()),
            }
        }
    }

    fn watch_one<I: PacketIo<Buf = B>>(&mut self, cx: &Context<'_>, desc: &Desc, frame: B, io: &mut I) {
        let dst = EtherHeader::view(frame.bytes()).map_or(MacAddr::default(), |header| header.dst());
        let for_node = dst == cx.port.mac;
        if !for_node && !dst.is_group() && dst != cx.mac {
            return self.counters.dropped(Refusal::NotForUs.into());
        }
        let for_node = for_node || dst.is_group();
        match desc.kind {
            Kind::Arp if for_node => self.arp(cx, desc, frame, io),
            Kind::NeighbourDiscovery if for_node => self.neighbour_discovery(cx, desc, frame, io),
            Kind::Udp | Kind::EchoReply if for_node && is_from_partner(cx, desc) => {
                self.hand_to_core(cx, frame, io);
            }
            Kind::EchoRequest if dst == cx.port.mac && cx.port.node_address.contains(&desc.key.dst()) => {
                self.echo_to_node(cx, desc, &frame, io);
            }
            _ => self.counters.dropped(self.why_not_forwarded().into()),
        }
    }

    /// Packets that wait for a neighbour are not forwarded any more.
    pub(super) fn drop_pending(&mut self) {
        let reason = self.why_not_forwarded();
        for _ in 0..self.pending.clear() {
            self.counters.dropped(reason.into());
        }
    }

    /// What is counted for a packet that only an active node would take.
    pub(super) fn why_not_forwarded(&self) -> Refusal {
        if self.role == RoleView::Closed { Refusal::LeaseExpired } else { Refusal::Standby }
    }

    /// The partner's datagram goes to the sync core.
    #[cold]
    pub(super) fn hand_to_core<I: PacketIo<Buf = B>>(&mut self, cx: &Context<'_>, frame: B, io: &mut I) {
        if io.to_core(cx.ingress, frame) {
            self.counters.count(Event::ToCore, 1);
        } else {
            self.counters.dropped(Refusal::CoreRingFull.into());
        }
    }

    /// An echo request to the node's own address is answered in every role, limited in rate: whoever is on
    /// the link may know which node lives there. From elsewhere only where a rule to the zone `self` says
    /// so, which is asked before.
    pub(super) fn echo_to_node<I: PacketIo<Buf = B>>(
        &mut self,
        cx: &Context<'_>,
        desc: &Desc,
        frame: &B,
        io: &mut I,
    ) {
        let src = desc.key.src();
        let on_link =
            cx.snapshot.routes.lookup(src).is_some_and(|hit| hit.port == cx.ingress && hit.next_hop == src);
        if !on_link || !frame.is_contiguous() {
            return self.counters.dropped(Refusal::LocalNoService.into());
        }
        if !self.replies.take(cx.now) {
            self.counters.count(Event::IcmpErrorsLimited, 1);
            return self.counters.dropped(Refusal::LocalNoService.into());
        }
        if !self.echo(cx, desc, frame, io) {
            self.counters.dropped(Refusal::LocalNoService.into());
        }
    }

    /// Answers an echo request from the MAC address at which the asked address is. False if there is no
    /// answer to it.
    pub(super) fn echo<I: PacketIo<Buf = B>>(
        &mut self,
        cx: &Context<'_>,
        desc: &Desc,
        frame: &B,
        io: &mut I,
    ) -> bool {
        let own = mac_of(cx.port, cx.mac, desc.key.dst());
        let answered = self.emit(cx, io, |out| {
            let request = frame.bytes();
            let reply = out.get_mut(..request.len())?;
            reply.copy_from_slice(request);
            let len = craft::echo_reply_in_place(reply, desc)?;
            reply.get_mut(6..12)?.copy_from_slice(&own.0);
            Some(len)
        });
        self.counters.count(Event::EchoAnswered, answered.is_sent().into());
        answered != super::local::Emitted::Nothing
    }
}

/// True for a datagram of the partner's to this node, by its addresses, and for its answer to a ping.
#[inline]
pub(super) fn is_from_partner(cx: &Context<'_>, desc: &Desc) -> bool {
    let control = &cx.snapshot.pair.control;
    !cx.port.partner_address.is_empty()
        && match desc.kind {
            Kind::Udp => [control.stream, control.heartbeat].contains(&desc.key.dport()),
            kind => kind == Kind::EchoReply,
        }
        && cx.port.node_address.contains(&desc.key.dst())
        && cx.port.partner_address.contains(&desc.key.src())
}

/// Where one of the port's addresses is: the node's own at the port's MAC address, shared ones at `face`.
pub(super) fn mac_of(port: &PortView, face: MacAddr, addr: Addr) -> MacAddr {
    if port.node_address.contains(&addr) { port.mac } else { face }
}
