//! Several workers: everything of a flow is one worker's (decision 5).

use super::buffers::{Segmented, TestBuf};
use super::firewall::{Firewall, Setup, dressed};
use super::net::{Flow, LAN, Net, WAN, mac_of, net, nets, port_mac};
use crate::ids::{PortId, WorkerId};
use proptest::prelude::*;
use wire::craft::Frame;
use wire::tcp_flags::ACK;

const OPENED: &[&str] = &["sessions-created", "lan-to-wan admitted"];

fn firewall<B: TestBuf>(workers: u8) -> Firewall<B> {
    Firewall::on(Setup { workers, slots: 64, ..Setup::default() })
}

/// The worker that gets a frame that worker 0 received.
fn owner<B: TestBuf>(fw: &mut Firewall<B>, ingress: PortId, frame: B) -> WorkerId {
    drop(fw.send_at(WorkerId(0), ingress, vec![frame]));
    fw.workers[0].io.handed.pop().map_or(WorkerId(0), |(to, port, _)| {
        assert_eq!(port, ingress);
        to
    })
}

/// An error about a packet, from its destination.
fn about(net: &Net, packet: &Frame) -> Frame {
    let key = packet.key();
    Frame::icmp_error(key.dst(), key.src(), if net.v6 { 1 } else { 3 }, 1, packet, 400)
}

#[test]
fn a_flow_lives_at_one_of_two_workers_whoever_receives_it() {
    for net in nets() {
        let mut seen = [false; 2];
        for sport in 40_000..40_016 {
            let mut fw: Firewall = firewall(2);
            let flow = Flow::between(net.client, net.server, sport, 80);
            let home = owner(&mut fw, LAN, TestBuf::of(&dressed(LAN, &flow.syn(1_000))));
            seen[usize::from(home.0)] = true;

            let mut fw: Firewall = firewall(2);
            let away = WorkerId(1 - home.0);
            let at = |name: &str, worker: WorkerId| {
                if worker.0 == 0 { name.to_owned() } else { format!("w1 {name}") }
            };
            let mut pass = |rx: WorkerId, ingress: PortId, frame: &Frame, egress: PortId, names: &[&str]| {
                let names: Vec<_> = names.iter().chain(&["forwarded"]).map(|name| at(name, home)).collect();
                let names: Vec<_> = names.iter().map(String::as_str).collect();
                let bytes = TestBuf::of(&dressed(ingress, frame));
                let step = fw.send_at(rx, ingress, vec![bytes]);
                let sent = if rx == home {
                    step.counts(&names)
                } else {
                    step.silent(&[&at("handed-over", rx)]);
                    fw.deliver().counts(&names)
                };
                assert_eq!((sent.len(), sent[0].0), (1, egress));
            };
            pass(away, LAN, &flow.syn(1_000), WAN, OPENED);
            pass(away, WAN, &flow.syn_ack(5_000, 1_001), LAN, &[]);
            pass(home, LAN, &flow.out(ACK, 1_001, 5_001), WAN, &[]);
            for rx in [home, away] {
                let data = flow.out(ACK, 1_001, 5_001);
                pass(rx, WAN, &about(&net, &data), LAN, &["icmp-errors-forwarded"]);
                pass(rx, LAN, &about(&net, &flow.back(ACK, 5_001, 1_001)), WAN, &["icmp-errors-forwarded"]);
            }
            assert_eq!(fw.sessions().len(), 1);
        }
        assert_eq!(seen, [true; 2], "both workers have flows");
    }
}

#[test]
fn a_full_ring_to_another_worker_is_a_counted_drop() {
    for net in nets() {
        let mut fw: Firewall = firewall(2);
        fw.workers[0].io.ring = 3;
        let flows = (0..32).map(|i| Flow::between(net.client, net.server, 1_000 + i, 53).datagram());
        let frames: Vec<_> = flows.collect();
        let step = fw.send_all(LAN, &frames);
        let count = |name: &str| step.counted.get(name).copied().unwrap_or(0);
        assert_eq!((count("handed-over"), step.sent.len() as u64), (3, count("forwarded")));
        assert_eq!(count("forwarded") + count("handed-over") + count("worker-ring-full"), 32);
        assert!(count("worker-ring-full") > 5 && count("forwarded") > 5);
    }
}

#[test]
fn what_was_handed_over_is_not_steered_again() {
    for net in nets() {
        let mut fw: Firewall = firewall(4);
        for worker in 0..4 {
            let frame = dressed(LAN, &Flow::between(net.client, net.server, 1_000 + worker, 53).datagram());
            fw.workers[0].io.handed.push((WorkerId(worker as u8), LAN, TestBuf::of(&frame)));
        }
        drop(fw.deliver());
        let created: Vec<_> = (0..4).map(|w| fw.totals(w)["sessions-created"]).collect();
        assert_eq!(created, [1; 4]);
        assert!((0..4).all(|w| !fw.totals(w).contains_key("handed-over")));
    }
}

#[test]
fn what_belongs_to_no_flow_stays_where_it_came() {
    for worker in 0..4 {
        let mut fw: Firewall = firewall(4);
        let arp = Frame::arp_request(mac_of(net(false).client), [10, 1, 0, 10], [10, 1, 0, 1]).bytes();
        let sent = std::mem::take(&mut fw.send_at(WorkerId(worker), LAN, vec![TestBuf::of(&arp)]).sent);
        assert_eq!(sent.len(), 1, "answered by worker {worker}");
        let redirect =
            dressed(LAN, &Frame::icmp(net(false).client, net(false).server, 5, 0, [0; 4]).payload_len(28));
        drop(fw.send_at(WorkerId(worker), LAN, vec![TestBuf::of(&redirect)]));
        assert!(fw.workers.iter().all(|w| w.io.handed.is_empty()));
    }
}

#[test]
fn a_frame_in_segments_is_steered_like_any_other() {
    for net in nets() {
        let mut fw: Firewall<Segmented> = firewall(8);
        for sport in 1_000..1_032 {
            let bytes = dressed(LAN, &Flow::between(net.client, net.server, sport, 53).datagram());
            let whole = owner(&mut fw, LAN, Segmented::of(&bytes));
            for at in [20, 30, 40] {
                assert_eq!(owner(&mut fw, LAN, Segmented::split(&bytes, at, 2_048)), whole);
            }
        }
    }
}

#[test]
fn the_hash_of_the_port_is_taken_only_where_ports_agree_on_it() {
    for net in nets() {
        let mut fw: Firewall<Segmented> = firewall(8);
        let flow = Flow::of(&net);
        let home = owner(&mut fw, LAN, Segmented::of(&dressed(LAN, &flow.datagram())));
        let key = fw.snapshot.steering.key().clone();
        let hash = key.steering_hash(&flow.datagram().key(), wire::Kind::Udp);
        let with = |hash| Segmented::of(&dressed(LAN, &flow.datagram())).with_rss(hash);
        assert_eq!(owner(&mut fw, LAN, with(hash)), home);
        assert_eq!(owner(&mut fw, LAN, with(hash + 1)), WorkerId((home.0 + 1) % 8), "it is taken");
        // Behind options and extension headers some ports see ports and others do not.
        let packet = flow.datagram();
        let decorated =
            if net.v6 { packet.extension(60, &[1, 4, 0, 0, 0, 0]) } else { packet.ip_options(&[1; 4]) };
        let frame = Segmented::of(&dressed(LAN, &decorated)).with_rss(hash + 1);
        assert_eq!(owner(&mut fw, LAN, frame), home);
    }
}

fn flow_between() -> impl Strategy<Value = (bool, u8, u8, u16, u16)> {
    (any::<bool>(), 2..250u8, 2..250u8, any::<u16>(), any::<u16>())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..Default::default() })]

    /// For any number of workers both directions of a flow and the errors about it have one owner.
    #[test]
    fn steering_is_symmetric(flows in proptest::collection::vec(flow_between(), 16), workers in 1..=16u8) {
        let mut fw: Firewall = Firewall::on(Setup { workers, slots: 16, ..Setup::default() });
        for (v6, a, b, sport, dport) in flows {
            let (a, b) = (super::net::host(v6, 1, a), super::net::host(v6, 2, b));
            let flow = Flow::between(a, b, sport, dport);
            let net = net(v6);
            let frame = |frame: &Frame, ingress: PortId| -> wire::buf::HeapBuf {
                TestBuf::of(&frame.clone().eth(mac_of(a), port_mac(ingress)).bytes())
            };
            for (out, back) in [
                (flow.syn(1), flow.syn_ack(1, 2)),
                (flow.datagram(), flow.reversed().datagram()),
                (Frame::echo_request(a, b, sport, 1), Frame::echo_reply(b, a, sport, 1)),
                (
                    Frame::ip(a, b, wire::Proto::GRE).payload_len(16),
                    Frame::ip(b, a, wire::Proto::GRE).payload_len(16),
                ),
            ] {
                let home = owner(&mut fw, LAN, frame(&out, LAN));
                prop_assert!(home.0 < workers);
                prop_assert_eq!(owner(&mut fw, WAN, frame(&back, WAN)), home);
                prop_assert_eq!(owner(&mut fw, WAN, frame(&about(&net, &out), WAN)), home);
                prop_assert_eq!(owner(&mut fw, LAN, frame(&about(&net, &back), LAN)), home);
            }
        }
    }
}
