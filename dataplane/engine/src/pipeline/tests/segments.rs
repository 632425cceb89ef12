//! Frames in several segments: headers are joined where there is room (decision 6).

use super::buffers::{Segmented, TestBuf};
use super::firewall::{Firewall, Setup, dressed};
use super::net::{Flow, LAN, Net, WAN, allow_self, lab_rules, mac_of, nets};
use super::step::hex;
use crate::policy::Service;
use wire::PacketBuf;
use wire::buf::RxChecksum;
use wire::craft::Frame;
use wire::tcp_flags::{ACK, RST};

const OPENED: &[&str] = &["sessions-created", "lan-to-wan admitted"];

fn firewall() -> Firewall<Segmented> {
    let rules = [lab_rules(), vec![allow_self("ping-me", LAN, &[Service::IcmpEcho])]].concat();
    Firewall::on(Setup { rules, ..Setup::default() })
}

/// One frame of everything that the engine looks into.
fn samples(net: &Net) -> Vec<Vec<u8>> {
    let flow = Flow::of(net);
    let options = [2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 1, 0, 0, 0, 0, 2, 1, 3, 3, 7];
    let error = Frame::icmp_error(
        net.client,
        net.server,
        if net.v6 { 1 } else { 3 },
        1,
        &flow.reversed().datagram(),
        200,
    );
    let arp = Frame::arp_request(mac_of(super::net::host(false, 1, 10)), [10, 1, 0, 10], [10, 1, 0, 1]);
    let mut all = vec![
        dressed(LAN, &flow.syn(1).options(&options)),
        dressed(LAN, &flow.datagram()),
        dressed(LAN, &flow.datagram().ip_options(&[1; 8]).extension(60, &[1, 4, 0, 0, 0, 0])),
        dressed(LAN, &Frame::echo_request(net.client, net.own(LAN), 7, 1).payload_len(20)),
        dressed(LAN, &error),
        arp.pad_to(60).bytes(),
    ];
    if let (wire::Addr::V6(client), wire::Addr::V6(own)) = (net.client, net.own(LAN)) {
        all.push(Frame::neighbour_solicitation(mac_of(net.client), client, own).bytes());
    }
    all
}

#[test]
fn headers_in_two_segments_are_joined_wherever_they_part() {
    for net in nets() {
        for bytes in samples(&net) {
            let (mut whole, first) = (firewall(), Flow::of(&net).datagram());
            drop(whole.send(LAN, &first));
            let step = whole.send_bytes(LAN, &bytes);
            let (sent, counted) = (step.sent.clone(), step.counted.clone());
            drop(step);
            assert!(!sent.is_empty(), "{}", hex(&bytes));
            for at in 0..bytes.len() {
                let mut fw = firewall();
                drop(fw.send(LAN, &first));
                let step = fw.send_burst(LAN, vec![Segmented::split(&bytes, at, 2_048)]);
                // An echo request's payload may lie anywhere, but then nobody answers it.
                if counted.contains_key("echo-answered") && step.counted.contains_key("local-no-service") {
                    continue;
                }
                assert_eq!((&step.sent, &step.counted), (&sent, &counted), "parted at {at}: {}", hex(&bytes));
            }
        }
    }
}

#[test]
fn headers_that_cannot_be_joined_are_a_counted_drop() {
    for net in nets() {
        let bytes = dressed(LAN, &Flow::of(&net).datagram());
        for at in [0, 13, 20, 33, 38] {
            let mut fw = firewall();
            let split = Segmented::split(&bytes, at, 64);
            fw.send_burst(LAN, vec![split]).dropped("headers-split-no-room", &[]);
        }
    }
}

#[test]
fn a_payload_in_other_segments_stays_there() {
    for net in nets() {
        let (mut fw, flow) = (firewall(), Flow::of(&net));
        let bytes = dressed(LAN, &flow.datagram().payload_len(1_300));
        let split = || Segmented::split(&bytes, 100, 128);
        fw.send_burst(LAN, vec![split()]).forwarded(WAN, OPENED);
        fw.send_burst(LAN, vec![split()]).forwarded(WAN, &[]);
        assert!(!split().is_contiguous());
    }
}

#[test]
fn a_joined_frame_must_be_for_us_as_well() {
    for net in nets() {
        let mut fw = firewall();
        let bytes = Flow::of(&net).datagram().eth(mac_of(net.client), mac_of(net.second)).bytes();
        for at in [0, 20, 30, bytes.len()] {
            fw.send_burst(LAN, vec![Segmented::split(&bytes, at, 2_048)]).dropped("not-for-us", &[]);
        }
    }
}

#[test]
fn the_word_of_the_port_on_a_checksum_is_taken() {
    for net in nets() {
        let mut fw = firewall();
        let flow = Flow::of(&net);
        let frame = |frame: &Frame, l4| vec![Segmented::of(&dressed(LAN, frame)).with_l4(l4)];
        fw.send_burst(LAN, frame(&flow.syn(1), RxChecksum::Bad)).dropped("bad-l4-checksum", &[]);
        fw.send_burst(LAN, frame(&flow.syn(1).bad_l4_checksum(), RxChecksum::Good)).forwarded(WAN, OPENED);
        // A bare ACK is nobody's to check but the receiver's.
        fw.send(WAN, &flow.syn_ack(5_000, 2)).forwarded(LAN, &[]);
        fw.send_burst(LAN, frame(&flow.out(ACK, 2, 5_001), RxChecksum::Bad)).forwarded(WAN, &[]);
        fw.send_burst(LAN, frame(&flow.out(RST, 2, 0), RxChecksum::Bad)).dropped("bad-l4-checksum", &[]);
    }
}
