//! How often a session is told to the other node: when it matters, never for each packet.

use super::firewall::Setup;
use super::net::{Flow, LAN, WAN, allow, lab_rules, net, nets};
use super::pair::Pair;
use crate::mirror::{Imported, ImportedState};
use crate::policy::{Rule, Service};
use crate::track::TcpConn;
use wire::tcp_flags::{ACK, RST};

const ADMITTED: [&str; 2] = ["sessions-created", "lan-to-wan admitted"];
/// Window scale 14: one gigabyte.
const SCALE: [u8; 4] = [1, 3, 3, 14];

fn conn(record: &Imported) -> (TcpConn, bool) {
    match record.state {
        ImportedState::Tcp { conn, idle } => (conn, idle),
        ImportedState::Flow(_) => panic!("{record:?}"),
    }
}

#[test]
fn b_19_a_gigabyte_through_one_session_is_a_handful_of_records() {
    for net in nets() {
        let mut pair = Pair::lab();
        let flow = Flow::of(&net);
        pair.a().send(LAN, &flow.syn(1_000).options(&SCALE)).forwarded(WAN, &ADMITTED);
        let server = 5_000_u32;
        pair.a().send(WAN, &flow.syn_ack(server, 1_001).options(&SCALE)).forwarded(LAN, &[]);
        pair.a().send(LAN, &flow.out(ACK, 1_001, server + 1)).forwarded(WAN, &[]);
        let mut records = pair.nodes[0].records();
        assert_eq!(records.len(), 1);
        // What the engine sees of every 64 KiB, in order: data down, an ACK up.
        let mut next = server + 1;
        for step in 0..16_384_u32 {
            for part in [65_536 - 1_000, 1_000] {
                let data = flow.back(ACK, next.wrapping_add(part - 1_000), 1_001).payload_len(1_000);
                pair.a().send(WAN, &data).sent.clear();
                next = next.wrapping_add(part);
            }
            pair.a().send(LAN, &flow.out(ACK, 1_001, next)).sent.clear();
            if step % 32 == 0 {
                pair.a().idle(100).sent.clear();
            }
            records.append(&mut pair.nodes[0].records());
            // A mirror is never further behind than a takeover takes for plausible.
            let told = records.last().map(|record| conn(record).0.halves[1].end).unwrap();
            assert!(next.wrapping_sub(told) <= 1 << 28, "{step}");
        }
        let passed = pair.a().expect_session(&flow.syn(0).key());
        assert_eq!(conn(&Imported::of(&passed, pair.a().now, &Default::default())).0.halves[1].end, next);
        // Silence: exact numbers, once.
        pair.a().idle(60_000).silent(&[]);
        records.append(&mut pair.nodes[0].records());
        assert!(conn(records.last().unwrap()).1, "idle");
        assert!(records.len() < 10, "{} records", records.len());
        assert!(records.windows(2).all(|pair| pair[0].version < pair[1].version));
    }
}

#[test]
fn b_32_a_silent_connection_is_told_once_with_exact_numbers() {
    for net in nets() {
        let mut pair = Pair::lab();
        let flow = Flow::of(&net);
        let key = flow.syn(0).key();
        pair.a().open_tcp(&flow, "lan-to-wan");
        pair.sync(0);
        pair.a().send(LAN, &flow.out(ACK, 1_001, 5_001).payload_len(10)).forwarded(WAN, &[]);
        pair.a().idle(12_000).silent(&[]);
        assert_eq!(pair.nodes[0].records().len(), 0, "something is in flight");
        pair.a().send(WAN, &flow.back(ACK, 5_001, 1_011)).forwarded(LAN, &[]);
        pair.a().idle(9_000).silent(&[]);
        assert_eq!(pair.nodes[0].records().len(), 0);
        pair.a().idle(13_000).silent(&[]);
        let records = pair.nodes[0].records();
        assert_eq!(records.len(), 1);
        assert!(conn(&records[0]).1);
        pair.nodes[1].import(&records[0]);
        assert!(pair.b().expect_session(&key).tcp().unwrap().1);
        pair.a().idle(1_000_000).silent(&[]);
        assert_eq!(pair.nodes[0].records().len(), 0, "once");
        // A keep-alive moves nothing.
        pair.a().send(LAN, &flow.out(ACK, 1_010, 5_001)).forwarded(WAN, &[]);
        pair.a().send(WAN, &flow.back(ACK, 5_001, 1_011)).forwarded(LAN, &[]);
        assert!(pair.a().expect_session(&key).tcp().unwrap().1);
        assert_eq!(pair.nodes[0].records().len(), 0);
        // Data does, and the other node hears at once that its numbers are no longer exact.
        pair.a().send(LAN, &flow.out(ACK, 1_011, 5_001).payload_len(10)).forwarded(WAN, &[]);
        let records = pair.nodes[0].records();
        assert_eq!((records.len(), conn(&records[0]).1), (1, false));
        pair.a().send(LAN, &flow.out(ACK, 1_021, 5_001).payload_len(10)).forwarded(WAN, &[]);
        assert_eq!(pair.nodes[0].records().len(), 0);
    }
}

#[test]
fn x_07_an_idle_snapshot_is_checked_exactly() {
    for net in nets() {
        let flow = Flow::of(&net);
        let idle = || {
            let mut pair = Pair::lab();
            pair.a().open_tcp(&flow, "lan-to-wan");
            pair.a().idle(13_000).silent(&[]);
            pair.sync(0);
            pair.take_over();
            pair
        };
        let mut pair = idle();
        pair.b().housekeep().silent(&[]);
        assert_eq!(pair.b().workers[0].counters.relaxed(), 0);
        // Nothing is plausible but what is right.
        pair.b().send(LAN, &flow.out(ACK, 300_000, 5_001).payload_len(10)).dropped("tcp-seq-too-new", &[]);
        pair.b().send(WAN, &flow.back(ACK, 5_001, 900_000)).dropped("tcp-ack-unsent", &[]);
        let held = pair.b().send(WAN, &flow.back(RST, 5_002, 0));
        assert_eq!(held.counted["tcp-rst-unverified"], 1);
        pair.b().send(LAN, &flow.out(ACK, 1_001, 5_001).payload_len(10)).forwarded(WAN, &[]);
        pair.b().send(WAN, &flow.back(ACK, 5_001, 1_011).payload_len(10)).forwarded(LAN, &[]);
        assert!(!pair.b().expect_session(&flow.syn(0).key()).tcp().unwrap().1);
        // An exact reset is verified by the record alone.
        for (port, other, rst) in [(LAN, WAN, flow.out(RST, 1_001, 0)), (WAN, LAN, flow.back(RST, 5_001, 0))]
        {
            let mut pair = idle();
            pair.b().send(port, &rst).forwarded(other, &["rst-verified"]);
            assert_eq!(pair.b().state(&flow.syn(0).key()), "closed");
        }
    }
}

#[test]
fn b_19_a_busy_flow_is_told_of_twice_in_its_lifetime_and_a_silent_one_not() {
    for net in nets() {
        let mut pair = Pair::lab();
        let (busy, silent) =
            (Flow { ports: (1, 53), ..Flow::of(&net) }, Flow { ports: (2, 53), ..Flow::of(&net) });
        for flow in [busy, silent] {
            pair.a().send(LAN, &flow.datagram()).forwarded(WAN, &ADMITTED);
            pair.a().send(WAN, &flow.reversed().datagram()).forwarded(LAN, &[]);
        }
        assert_eq!(pair.sync(0), 2);
        // UDP lives for 120 s: every 60 s a refresh, for ten minutes with a packet each second.
        let mut told = Vec::new();
        for second in 0..600 {
            pair.a().idle(1_000).sent.clear();
            pair.a().send(LAN, &busy.datagram()).forwarded(WAN, &[]);
            for record in pair.nodes[0].records() {
                told.push((second, record.keys[0].sport()));
                assert!(record.remaining_ms > 110_000);
            }
        }
        assert!((8..=10).contains(&told.len()), "{told:?}");
        assert!(told.iter().all(|(_, port)| *port == 1), "{told:?}");
    }
}

#[test]
fn x_14_a_session_waits_its_minimum_age_however_long_it_may_be_silent() {
    let rule = Rule { sync_after_s: 100, ..allow("lan-to-wan", LAN, WAN, &[Service::Any]) };
    for net in nets() {
        let mut pair = Pair::new(Setup { rules: vec![rule.clone()], ..Setup::default() });
        let flow = Flow::of(&net);
        pair.a().open_tcp(&flow, "lan-to-wan");
        pair.a().idle(99_000).silent(&[]);
        assert_eq!(pair.nodes[0].records().len(), 0);
        pair.a().send(LAN, &flow.out(ACK, 1_001, 5_001)).forwarded(WAN, &[]);
        pair.a().idle(3_000).silent(&[]);
        assert_eq!(pair.nodes[0].records().len(), 1);
        // One that does not live so long costs nothing.
        let short = Flow { ports: (3, 53), ..flow };
        pair.a().send(LAN, &short.datagram()).forwarded(WAN, &ADMITTED);
        pair.a().idle(32_000).sent.clear();
        assert!(pair.a().session(&short.datagram().key()).is_none());
        let told = pair.nodes[0].records();
        assert!(told.iter().all(|record| record.keys[0] != short.datagram().key()));
        assert_eq!(pair.nodes[0].ends(), []);
    }
}

#[test]
fn without_a_partner_nothing_is_marked_nor_looked_at() {
    let mut fw = super::firewall::Firewall::new(Setup { rules: lab_rules(), ..Setup::default() });
    let flow = Flow::of(&net(false));
    fw.open_tcp(&flow, "lan-to-wan");
    fw.idle(60_000).silent(&[]);
    let view = fw.expect_session(&flow.syn(0).key());
    assert!(!view.tcp().unwrap().1, "nobody needs its exact numbers");
}
