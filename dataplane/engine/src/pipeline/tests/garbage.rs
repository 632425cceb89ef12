//! Arbitrary bytes: nothing panics, and every frame is accounted for exactly once.

use super::buffers::Segmented;
use super::firewall::{Firewall, Setup};
use super::net::{
    Flow, LAN, PORTS, VIRTUAL, WAN, allow, allow_self, host, lab_rules, mac_of, nets, pair_ports, port_mac,
};
use super::step::Counted;
use crate::counters::DropReason;
use crate::ids::{PortId, WorkerId};
use crate::neighbour::AdjacencyState;
use crate::policy::{Action, Rule, Service};
use crate::role::RoleView;
use crate::snapshot::PairView;
use proptest::prelude::*;
use wire::craft::Frame;
use wire::tcp_flags::{ACK, FIN, RST};
use wire::{MacAddr, Proto, checksum};

/// Frames to be spoiled: one of every kind that the engine treats differently.
fn seeds() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for net in nets() {
        let flow = Flow::of(&net);
        let packets = [
            flow.syn(1_000),
            flow.syn_ack(5_000, 1_001),
            flow.out(ACK, 1_001, 5_001).payload_len(20),
            flow.back(FIN | ACK, 5_001, 1_021),
            flow.out(RST, 1_021, 0),
            Flow::between(net.client, net.server, 1, 23).syn(1),
            flow.datagram(),
            flow.reversed().datagram(),
            Flow::between(net.server, net.client, 1, 22).syn(1),
            flow.datagram().ttl(1),
            flow.datagram().payload_len(1_480),
            flow.datagram().payload_len(96).fragment(0, true),
            flow.datagram().ip_options(&[1; 4]).extension(60, &[1, 4, 0, 0, 0, 0]),
            Frame::echo_request(net.client, net.server, 7, 1),
            Frame::echo_reply(net.server, net.client, 7, 1),
            Frame::echo_request(net.client, net.own(LAN), 7, 1),
            Frame::icmp_error(net.server, net.client, if net.v6 { 1 } else { 3 }, 1, &flow.datagram(), 200),
            Frame::icmp_error(net.server, net.client, if net.v6 { 2 } else { 11 }, 0, &flow.syn(1_000), 200),
            Frame::ip(net.client, net.server, Proto::GRE).payload_len(20),
        ];
        all.extend(packets.iter().map(Frame::bytes));
    }
    for v6 in [false, true] {
        let (client, own, partner) = (host(v6, 1, 10), host(v6, 1, 2), host(v6, 1, 3));
        let packets = [
            Frame::udp(partner, own, 5_000, 801).payload_len(60),
            Frame::udp(partner, own, 5_000, 689).payload_len(200),
            Frame::udp(client, own, 5_000, 801).payload_len(60),
            Frame::echo_request(client, own, 7, 1),
            Frame::tcp(client, own, 5, 801).flags(ACK),
        ];
        all.extend(packets.iter().map(Frame::bytes));
    }
    all.push(Frame::arp_request(mac_of(host(false, 1, 10)), [10, 1, 0, 10], [10, 1, 0, 2]).bytes());
    let client = mac_of(super::net::host(false, 1, 10));
    all.push(Frame::arp_request(client, [10, 1, 0, 10], [10, 1, 0, 1]).bytes());
    all.push(Frame::arp_reply(client, [10, 1, 0, 10], port_mac(LAN), [10, 1, 0, 1]).bytes());
    let net = super::net::net(true);
    if let (wire::Addr::V6(from), wire::Addr::V6(own)) = (net.client, net.own(LAN)) {
        all.push(Frame::neighbour_solicitation(mac_of(net.client), from, own).bytes());
        all.push(Frame::neighbour_advertisement(mac_of(net.client), from, own).bytes());
    }
    all
}

#[derive(Debug, Clone)]
struct Input {
    port: PortId,
    worker: u8,
    bytes: Vec<u8>,
    /// Where the first segment ends, and the room in it.
    split: Option<(usize, usize)>,
    /// The destination MAC address is the port's.
    for_us: bool,
    /// The header checksum is made right again.
    mend: bool,
}

impl Input {
    fn buf(&self) -> Segmented {
        self.buf_to(port_mac(self.port))
    }

    fn buf_to(&self, own: MacAddr) -> Segmented {
        let mut bytes = self.bytes.clone();
        if self.for_us && bytes.len() >= 14 {
            let group = bytes[0] & 1 == 1;
            let mac = if group { MacAddr::BROADCAST } else { own };
            bytes[..6].copy_from_slice(&mac.0);
        }
        if self.mend && bytes.len() >= 34 && bytes[12..14] == [8, 0] {
            let end = (14 + usize::from(bytes[14] & 0xf) * 4).clamp(34, bytes.len());
            bytes[24..26].fill(0);
            let check = checksum::ipv4_header(&bytes[14..end]);
            bytes[24..26].copy_from_slice(&check.to_be_bytes());
        }
        match self.split {
            Some((at, room)) => Segmented::split(&bytes, at, room),
            None => Segmented::split(&bytes, bytes.len(), 2_048),
        }
    }
}

fn input() -> impl Strategy<Value = Input> {
    let spoiled = (
        proptest::sample::select(seeds()),
        proptest::collection::vec((0..90usize, any::<u8>()), 0..3),
        proptest::option::weighted(0.1, 0..120usize),
    )
        .prop_map(|(mut bytes, spoils, cut)| {
            for (at, value) in spoils {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = value;
                }
            }
            bytes.truncate(cut.unwrap_or(usize::MAX));
            bytes
        });
    let arbitrary = proptest::collection::vec(any::<u8>(), 0..200);
    let bytes = prop_oneof![9 => spoiled, 1 => arbitrary];
    let split = proptest::option::weighted(0.1, (0..120usize, prop_oneof![Just(2_048usize), Just(128)]));
    let port = proptest::sample::select(vec![LAN, LAN, LAN, WAN, WAN, super::net::DMZ]);
    let flags = (proptest::bool::weighted(0.9), proptest::bool::weighted(0.8));
    (port, 0..2u8, bytes, split, flags).prop_map(|(port, worker, bytes, split, (for_us, mend))| Input {
        port,
        worker,
        bytes,
        split,
        for_us,
        mend,
    })
}

fn sum(totals: &[Counted], names: &[&str]) -> u64 {
    totals.iter().flat_map(|t| names.iter().filter_map(|name| t.get(*name))).sum()
}

/// Every frame in went on, waits, was handed over, was answered, was passed to the control thread, or
/// was dropped for one reason; and every frame out is one that went on or one of the firewall's own.
fn assert_conserved(fw: &Firewall<Segmented>, sent: u64) -> Result<(), TestCaseError> {
    assert_frames_conserved(fw, sent)?;
    let totals: Vec<_> = (0..fw.workers.len()).map(|w| fw.totals(w)).collect();
    let created = sum(&totals, &["sessions-created"]);
    let ended = sum(&totals, &["sessions-expired", "half-open-evicted", "sessions-terminated"]);
    prop_assert_eq!(created - ended, fw.sessions().len() as u64, "sessions: {}", fw.dump());
    Ok(())
}

fn assert_frames_conserved(fw: &Firewall<Segmented>, sent: u64) -> Result<(), TestCaseError> {
    let totals: Vec<_> = (0..fw.workers.len()).map(|w| fw.totals(w)).collect();
    let drops: Vec<_> = DropReason::all().map(DropReason::name).collect();
    let pending: u64 = fw.workers.iter().map(|w| w.counters.pending()).sum();
    let went = sum(&totals, &["forwarded", "handed-over"]) + pending;
    let consumed = ["arp-answered", "nd-answered", "echo-answered", "neighbour-heard", "partner-datagrams"];
    let consumed = sum(&totals, &consumed);
    prop_assert_eq!(
        sum(&totals, &["rx-packets"]),
        went + consumed + sum(&totals, &drops),
        "in: {}",
        fw.dump()
    );
    let own = ["arp-answered", "nd-answered", "echo-answered", "icmp-errors-sent", "resets-sent"];
    let own = sum(&totals, &own) + sum(&totals, &["tcp-probes-sent", "unknown-resets-sent"]);
    prop_assert_eq!(sent, sum(&totals, &["forwarded"]) + own, "out: {}", fw.dump());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 160, failure_persistence: None, ..Default::default() })]

    #[test]
    fn every_frame_is_accounted_for_once(
        turns in proptest::collection::vec((proptest::collection::vec(input(), 1..32), 0..5_000u32), 1..12),
        workers in 1..=2u8,
        resolved in any::<bool>(),
    ) {
        let telnet = Rule { action: Action::Reject, ..allow("no-telnet", LAN, WAN, &[super::net::port(Proto::TCP, 23)]) };
        let ping = allow_self("ping-me", LAN, &[Service::IcmpEcho]);
        let rules = [vec![telnet, ping], lab_rules()].concat();
        let setup = Setup { rules, workers, resolved, slots: 16, pending_max: 5, ..Setup::default() };
        let mut fw: Firewall<Segmented> = Firewall::on(setup);
        let mut sent = 0;
        for (n, (inputs, idle_ms)) in turns.into_iter().enumerate() {
            for port in PORTS {
                for worker in 0..workers {
                    let frames = inputs.iter().filter(|i| i.port == port && i.worker % workers == worker);
                    sent += fw.send_at(WorkerId(worker), port, frames.map(Input::buf).collect()).sent.len();
                }
            }
            sent += fw.deliver().sent.len();
            match n % 4 {
                1 => fw.reload(|_| {}),
                2 => fw.neighbour(WAN, super::net::net(false).server, AdjacencyState::Resolved),
                3 => fw.neighbour(WAN, super::net::net(true).server, AdjacencyState::Failed),
                _ => {}
            }
            sent += fw.idle(idle_ms).sent.len();
            sent += fw.housekeep().sent.len();
            assert_conserved(&fw, sent as u64)?;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 160, failure_persistence: None, ..Default::default() })]

    /// The same for a node of a pair, whatever its role is at the moment.
    #[test]
    fn every_frame_of_a_pairs_node_is_accounted_for_once(
        turns in proptest::collection::vec(
            (proptest::collection::vec(input(), 1..32), 0..15_000u32, 0..6u32, any::<bool>()), 1..12),
        workers in 1..=2u8,
    ) {
        let ping = allow_self("ping-me", LAN, &[Service::IcmpEcho]);
        let rules = [vec![ping], lab_rules()].concat();
        let pair = PairView { reset_unknown_ms: 60_000, ..PairView::default() };
        let setup = Setup { rules, workers, pair, ports: pair_ports(0), slots: 16, pending_max: 5, ..Setup::default() };
        let mut fw: Firewall<Segmented> = Firewall::on(setup);
        let mut sent = 0;
        for (inputs, idle_ms, role, to_face) in turns {
            let now = fw.now;
            for w in &mut fw.workers {
                w.engine.set_role(match role {
                    0 => RoleView::Standby,
                    1 => RoleView::Closed,
                    term => RoleView::Active { term },
                }, now);
                for slot in 0..4 {
                    w.engine.terminate_clean(crate::table::Slot(slot * role), now);
                }
            }
            for port in PORTS {
                for worker in 0..workers {
                    let frames = inputs.iter().filter(|i| i.port == port && i.worker % workers == worker);
                    let frames = frames.map(|i| if to_face { i.buf_to(VIRTUAL) } else { i.buf() }).collect();
                    sent += fw.send_at(WorkerId(worker), port, frames).sent.len();
                }
            }
            sent += fw.deliver().sent.len();
            sent += fw.idle(idle_ms).sent.len();
            sent += fw.housekeep().sent.len();
            fw.notices().clear();
            for w in &mut fw.workers {
                w.io.core.clear();
            }
            assert_frames_conserved(&fw, sent as u64)?;
        }
    }
}

#[test]
fn the_seeds_reach_every_branch() {
    let rules = [lab_rules(), vec![allow_self("ping-me", LAN, &[Service::IcmpEcho])]].concat();
    let mut fw: Firewall<Segmented> = Firewall::on(Setup { rules, ..Setup::default() });
    for port in [LAN, WAN] {
        for bytes in seeds() {
            let input = Input { port, worker: 0, bytes, split: None, for_us: true, mend: false };
            drop(fw.send_burst(port, vec![input.buf()]));
        }
    }
    let totals = fw.totals(0);
    for name in [
        "forwarded",
        "sessions-created",
        "arp-answered",
        "nd-answered",
        "echo-answered",
        "neighbour-heard",
        "icmp-errors-forwarded",
        "icmp-errors-sent",
        "fragment",
        "too-big",
        "policy-drop",
        "wrong-zone",
        "spoofed-source",
    ] {
        assert!(totals.contains_key(name), "{name}: {totals:?}");
    }
}
