//! Full tables, floods of half-open connections, and the end of idle sessions.

use super::firewall::{Firewall, Setup};
use super::net::{Flow, LAN, Net, WAN, allow, nets};
use crate::policy::{Rule, Service};
use crate::track::Timeouts;
use wire::Proto;
use wire::craft::Frame;
use wire::tcp_flags::{ACK, RST};

const OPENED: &[&str] = &["sessions-created", "lan-to-wan admitted"];

fn sized(slots: u32, half_open_max: u32) -> Firewall {
    Firewall::new(Setup { slots, half_open_max, ..Setup::default() })
}

fn flow(net: &Net, n: u16) -> Flow {
    Flow::between(net.client, net.server, 1_000 + n, 80)
}

#[test]
fn a_full_table_refuses_newcomers_and_keeps_what_it_has() {
    for net in nets() {
        let mut fw = sized(32, 16);
        for n in 0..32 {
            fw.send(LAN, &flow(&net, n).datagram()).forwarded(WAN, OPENED);
        }
        fw.send(LAN, &flow(&net, 32).datagram()).dropped("table-full", &[]);
        fw.send(LAN, &flow(&net, 32).syn(1)).dropped("table-full", &[]);
        fw.housekeep().silent(&[]);
        for n in 0..32 {
            fw.send(WAN, &flow(&net, n).reversed().datagram()).forwarded(LAN, &[]);
        }
        fw.idle(122_000).silent(&["sessions-expired"; 32]);
        fw.send(LAN, &flow(&net, 32).datagram()).forwarded(WAN, OPENED);
    }
}

#[test]
fn a_syn_flood_pushes_out_its_own_oldest_and_no_established_session() {
    for net in nets() {
        let mut fw = sized(128, 1_000);
        let kept = Flow::of(&net);
        fw.open_tcp(&kept, "lan-to-wan");
        // 64 places are kept free while there is somebody to push out.
        for n in 0..63 {
            fw.send(LAN, &flow(&net, n).syn(1)).forwarded(WAN, OPENED);
        }
        fw.housekeep().silent(&[]);
        for n in 63..73 {
            fw.send(LAN, &flow(&net, n).syn(1)).forwarded(WAN, OPENED);
        }
        fw.housekeep().silent(&["half-open-evicted"; 10]);
        for n in 0..10 {
            assert_eq!(fw.state(&flow(&net, n).syn(0).key()), "none", "{n} was the oldest");
        }
        assert_eq!(fw.state(&flow(&net, 10).syn(0).key()), "syn-sent");
        // Between two turns the flood fills the table, not more.
        for n in 100..164 {
            fw.send(LAN, &flow(&net, n).syn(1)).forwarded(WAN, OPENED);
        }
        fw.send(LAN, &flow(&net, 164).syn(1)).dropped("table-full", &[]);
        fw.housekeep().silent(&["half-open-evicted"; 64]);
        fw.send(LAN, &kept.out(ACK, 1_001, 5_001)).forwarded(WAN, &[]);
        assert_eq!(fw.sessions().len(), 64);
    }
}

#[test]
fn half_open_sessions_are_bounded_by_their_own_number() {
    for net in nets() {
        let mut fw = sized(512, 10);
        for n in 0..15 {
            fw.send(LAN, &flow(&net, n).syn(1)).forwarded(WAN, OPENED);
        }
        // One of the oldest gets through, one is reset, one only answered.
        fw.send(WAN, &flow(&net, 0).syn_ack(5_000, 2)).forwarded(LAN, &[]);
        fw.send(LAN, &flow(&net, 0).out(ACK, 2, 5_001)).forwarded(WAN, &[]);
        fw.send(WAN, &flow(&net, 1).back(RST | ACK, 0, 2)).forwarded(LAN, &[]);
        fw.send(WAN, &flow(&net, 2).syn_ack(5_000, 2)).forwarded(LAN, &[]);
        fw.housekeep().silent(&["half-open-evicted"; 3]);
        let states: Vec<_> = (0..7).map(|n| fw.state(&flow(&net, n).syn(0).key())).collect();
        assert_eq!(states, ["established", "closed", "none", "none", "none", "syn-sent", "syn-sent"]);
        assert_eq!(fw.workers[0].counters.half_open(), 10);
    }
}

#[test]
fn half_open_sessions_can_be_pushed_out_after_a_change_of_policy_and_of_age() {
    for net in nets() {
        let rule = Rule { sync_after_s: 5, ..allow("lan-to-wan", LAN, WAN, &[Service::Any]) };
        for grow_up in [false, true] {
            let mut fw =
                Firewall::new(Setup { half_open_max: 4, rules: vec![rule.clone()], ..Setup::default() });
            for n in 0..4 {
                fw.send(LAN, &flow(&net, n).syn(1)).forwarded(WAN, OPENED);
            }
            if grow_up {
                fw.idle(7_000).silent(&[]);
            } else {
                fw.reload(|_| {});
                for n in 0..4 {
                    fw.send(LAN, &flow(&net, n).syn(1)).forwarded(WAN, &["sessions-rebound"]);
                }
            }
            for n in 4..8 {
                fw.send(LAN, &flow(&net, n).syn(1)).forwarded(WAN, OPENED);
            }
            fw.housekeep().silent(&["half-open-evicted"; 4]);
            let states: Vec<_> = (0..8).map(|n| fw.state(&flow(&net, n).syn(0).key())).collect();
            assert_eq!(states, [["none"; 4], ["syn-sent"; 4]].concat());
        }
    }
}

/// What opens a session of each kind, what answers it, and the two timeouts in seconds.
fn kinds(net: &Net) -> Vec<(Frame, Frame, [u32; 2])> {
    let flow = Flow::of(net);
    let (a, b) = (net.client, net.server);
    let gre = |src, dst| Frame::ip(src, dst, Proto::GRE).payload_len(8);
    vec![
        (flow.syn(1), flow.syn_ack(5, 2), [30, 30]),
        (flow.datagram(), flow.reversed().datagram(), [30, 120]),
        (Frame::echo_request(a, b, 1, 1), Frame::echo_reply(b, a, 1, 1), [30, 30]),
        (gre(a, b), gre(b, a), [60, 600]),
    ]
}

#[test]
fn idle_sessions_end_within_a_second_of_their_time() {
    for net in nets() {
        for (first, reply, seconds) in kinds(&net) {
            for answered in [false, true] {
                let mut fw = Firewall::lab();
                fw.send(LAN, &first).forwarded(WAN, OPENED);
                if answered {
                    fw.send(WAN, &reply).forwarded(LAN, &[]);
                }
                let seconds = seconds[usize::from(answered)];
                fw.idle(seconds * 1_000 - 50).silent(&[]);
                fw.idle(1_200).silent(&["sessions-expired"]);
            }
        }
    }
}

#[test]
fn longer_timeouts_hold_for_sessions_that_are_there() {
    for net in nets() {
        for (first, _, [seconds, _]) in kinds(&net) {
            let mut fw = Firewall::lab();
            fw.send(LAN, &first).forwarded(WAN, OPENED);
            fw.reload(|setup| setup.timeouts = all_ms(200_000));
            fw.idle(seconds * 1_000 + 2_000).silent(&[]);
            fw.idle(200_000 - seconds * 1_000 - 3_000).silent(&[]);
            fw.idle(3_000).silent(&["sessions-expired"]);
        }
    }
}

#[test]
fn shorter_timeouts_hold_for_sessions_that_are_there() {
    for net in nets() {
        for (first, _, _) in kinds(&net) {
            let mut fw = Firewall::lab();
            fw.send(LAN, &first).forwarded(WAN, OPENED);
            fw.idle(5_000).silent(&[]);
            fw.reload(|setup| setup.timeouts = all_ms(7_000));
            fw.idle(1_900).silent(&[]);
            fw.idle(1_300).silent(&["sessions-expired"]);
        }
    }
}

fn all_ms(ms: u32) -> Timeouts {
    Timeouts {
        tcp_syn_ms: ms,
        tcp_established_ms: ms,
        tcp_closing_ms: ms,
        tcp_time_wait_ms: ms,
        tcp_close_ms: ms,
        udp_new_ms: ms,
        udp_ms: ms,
        icmp_ms: ms,
        other_new_ms: ms,
        other_ms: ms,
    }
}
