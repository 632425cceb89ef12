//! A burst of 32 does what 32 bursts of one do (decision 6).

use super::firewall::{Firewall, Setup, dressed};
use super::net::{DMZ, Flow, LAN, WAN, allow, host, lab_rules, mac_of, net};
use crate::ids::PortId;
use crate::neighbour::AdjacencyState;
use crate::policy::{Action, Rule, Service};
use proptest::prelude::*;
use wire::craft::Frame;
use wire::tcp_flags::{ACK, FIN, PSH, RST, SYN};
use wire::{MacAddr, Proto};

/// Something that one end of a flow does.
#[derive(Debug, Clone, Copy)]
enum Act {
    /// What comes next in a connection, from whichever end that is.
    Next,
    Syn,
    SynAck,
    Data,
    Acknowledge,
    Fin,
    Reset,
    /// Far out of the window.
    Stray,
    Spoiled,
    Datagram,
    Request,
    Reply,
    Other,
    /// An ICMP error about the other end's packet.
    Error,
    LastHop,
    Arp,
    Solicit,
    Garbage,
    Broadcast,
}

const ACTS: [Act; 18] = [
    Act::Syn,
    Act::SynAck,
    Act::Data,
    Act::Acknowledge,
    Act::Fin,
    Act::Reset,
    Act::Stray,
    Act::Spoiled,
    Act::Datagram,
    Act::Request,
    Act::Reply,
    Act::Other,
    Act::Error,
    Act::LastHop,
    Act::Arp,
    Act::Solicit,
    Act::Garbage,
    Act::Broadcast,
];

/// One step of the input: who does what, and whether twice.
#[derive(Debug, Clone, Copy)]
struct Move {
    flow: u8,
    from_responder: bool,
    act: Act,
    twice: bool,
}

/// What happens between two bursts.
#[derive(Debug, Clone, Copy)]
enum Pause {
    None,
    Turn(u32),
    Reload,
    Neighbour(bool),
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let act = prop_oneof![2 => Just(Act::Next), 1 => proptest::sample::select(ACTS.to_vec())];
    let one = (0..7u8, any::<bool>(), act, proptest::bool::weighted(0.2));
    let one = one.prop_map(|(flow, from_responder, act, twice)| Move { flow, from_responder, act, twice });
    proptest::collection::vec(one, 1..28)
}

fn pause() -> impl Strategy<Value = Pause> {
    prop_oneof![
        4 => Just(Pause::None),
        2 => (1..400u32).prop_map(Pause::Turn),
        1 => (10_000..130_000u32).prop_map(Pause::Turn),
        1 => Just(Pause::Reload),
        1 => any::<bool>().prop_map(Pause::Neighbour),
    ]
}

/// Where the two ends of a flow stand in their sequence spaces, and the next step of their connection.
#[derive(Debug, Clone, Copy)]
struct Ends([u32; 2], usize);

/// A connection in steps: from the responder or not, and what.
const CONNECTION: [(bool, Act); 12] = [
    (false, Act::Syn),
    (true, Act::SynAck),
    (false, Act::Data),
    (true, Act::Data),
    (true, Act::Data),
    (false, Act::Data),
    (true, Act::Data),
    (false, Act::Datagram),
    (true, Act::Datagram),
    (false, Act::Fin),
    (true, Act::Fin),
    (false, Act::Acknowledge),
];

/// Seven flows over three zones, in both families, two of which share all but the initiator.
fn flow(n: u8) -> Flow {
    let v6 = n % 2 == 1;
    let net = net(v6);
    match n {
        0 | 1 => Flow::between(net.client, net.server, 40_000, 80),
        2 | 3 => Flow::between(net.second, net.far, 40_000, 80),
        4 | 5 => Flow::between(net.server, net.client, 50_000, 22),
        _ => Flow::between(net.dmz, net.client, 1_000, 1_000),
    }
}

fn ports(n: u8) -> [PortId; 2] {
    match n {
        0..=3 => [LAN, WAN],
        4 | 5 => [WAN, LAN],
        _ => [DMZ, LAN],
    }
}

/// The frame of a move, and the port where it comes in.
fn frame(m: Move, ends: &mut Ends) -> (PortId, Vec<u8>) {
    if let Act::Next = m.act {
        let (from_responder, act) = CONNECTION[ends.1];
        ends.1 = (ends.1 + 1) % CONNECTION.len();
        return frame(Move { from_responder, act, ..m }, ends);
    }
    let forward = flow(m.flow);
    let side = usize::from(m.from_responder);
    let flow = if m.from_responder { forward.reversed() } else { forward };
    let ingress = ports(m.flow)[side];
    let [seq, ack] = [ends.0[side], ends.0[1 - side]];
    let v6 = matches!(flow.a, wire::Addr::V6(_));
    let packet = match m.act {
        Act::Next | Act::Acknowledge => flow.out(ACK, seq, ack),
        Act::Syn => {
            ends.0[side] = seq.wrapping_add(200_001);
            flow.out(SYN, seq.wrapping_add(200_000), 0)
        }
        Act::SynAck => {
            ends.0[side] = seq.wrapping_add(300_001);
            flow.out(SYN | ACK, seq.wrapping_add(300_000), ack)
        }
        Act::Data => {
            ends.0[side] = seq.wrapping_add(100);
            flow.out(ACK | PSH, seq, ack).payload_len(100)
        }
        Act::Fin => {
            ends.0[side] = seq.wrapping_add(1);
            flow.out(FIN | ACK, seq, ack)
        }
        Act::Reset => flow.out(RST, seq, 0),
        Act::Stray => flow.out(ACK, seq.wrapping_add(9_000_000), ack).payload_len(10),
        Act::Spoiled => flow.out(RST, seq, 0).bad_l4_checksum(),
        Act::Datagram => flow.datagram(),
        Act::Request => Frame::echo_request(flow.a, flow.b, 9, 1),
        Act::Reply => Frame::echo_reply(flow.a, flow.b, 9, 1),
        Act::Other => Frame::ip(flow.a, flow.b, Proto::GRE).payload_len(30),
        Act::Error => {
            let about = flow.reversed().out(ACK, ack, seq);
            Frame::icmp_error(flow.a, flow.b, if v6 { 1 } else { 3 }, 1, &about, 300)
        }
        Act::LastHop => flow.datagram().ttl(1),
        Act::Arp => {
            let asks = Frame::arp_request(mac_of(host(false, 1, 10)), [10, 1, 0, 10], [10, 1, 0, 1]);
            return (LAN, asks.bytes());
        }
        Act::Solicit => {
            let (wire::Addr::V6(from), wire::Addr::V6(own)) = (net(true).client, net(true).own(LAN)) else {
                return (LAN, Vec::new());
            };
            return (LAN, Frame::neighbour_solicitation(mac_of(net(true).client), from, own).bytes());
        }
        Act::Garbage => return (ingress, vec![m.flow; usize::from(m.flow) * 20]),
        Act::Broadcast => {
            let frame = flow.datagram().eth(mac_of(flow.a), MacAddr::BROADCAST);
            return (ingress, frame.bytes());
        }
    };
    (ingress, dressed(ingress, &packet))
}

fn rules() -> Vec<Rule> {
    let ssh = Rule { log: true, ..allow("ssh-in", WAN, LAN, &[super::net::port(Proto::TCP, 22)]) };
    let no = Rule { action: Action::Reject, ..allow("no-dmz", DMZ, LAN, &[Service::Proto(Proto::UDP)]) };
    [lab_rules(), vec![ssh, no, allow("dmz-in", DMZ, LAN, &[Service::Any])]].concat()
}

fn firewall() -> Firewall {
    Firewall::new(Setup { rules: rules(), slots: 14, half_open_max: 3, notices: 4_096, ..Setup::default() })
}

fn rest(fw: &mut Firewall, pause: Pause) {
    match pause {
        Pause::None => {}
        Pause::Turn(ms) => drop(fw.idle(ms)),
        Pause::Reload => fw.reload(|setup| {
            // Every second time there is no way out.
            setup.rules = if setup.rules.len() > 3 { rules()[1..].to_vec() } else { rules() };
        }),
        Pause::Neighbour(known) => {
            let state = if known { AdjacencyState::Resolved } else { AdjacencyState::Incomplete };
            fw.neighbour(WAN, net(false).server, state);
            fw.neighbour(LAN, net(true).second, state);
        }
    }
    drop(fw.housekeep());
}

/// All that can be seen of a firewall.
fn everything(fw: &Firewall) -> String {
    let mut counted = fw.totals(0);
    // Numbers of the last burst, whichever that was.
    counted.retain(|name, _| name != "rx-bytes");
    format!("{:#?} {:#?} {:?}", counted, fw.sessions(), fw.workers[0].engine.shard().population())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..Default::default() })]

    #[test]
    fn a_burst_equals_its_packets_one_by_one(turns in proptest::collection::vec((moves(), pause()), 1..12)) {
        let (mut at_once, mut singly) = (firewall(), firewall());
        let mut ends = [Ends([1_000, 2_000], 0); 7];
        let mut longest = 32;
        for (moves, pause) in turns {
            let mut queue: Vec<(PortId, Vec<u8>)> = Vec::new();
            for m in moves {
                let (ingress, bytes) = frame(m, &mut ends[usize::from(m.flow)]);
                queue.extend(std::iter::repeat_n((ingress, bytes), 1 + usize::from(m.twice)));
            }
            // A burst comes from one port: as long as that stays the same, and 32 at most. After a change
            // of policy only so many sessions are asked anew in a burst, whatever its length.
            let (mut left, mut right) = (Vec::new(), Vec::new());
            for run in queue.chunk_by(|a, b| a.0 == b.0).flat_map(|run| run.chunks(longest)) {
                let frames = run.iter().map(|(_, bytes)| wire::buf::HeapBuf::from_bytes(bytes));
                left.append(&mut at_once.send_burst(run[0].0, frames.collect()).sent);
                for (ingress, bytes) in run {
                    right.append(&mut singly.send_bytes(*ingress, bytes).sent);
                }
            }
            prop_assert_eq!(&left, &right, "frames: {}", at_once.dump());
            if matches!(pause, Pause::Reload) {
                longest = 8;
            }
            rest(&mut at_once, pause);
            rest(&mut singly, pause);
            prop_assert_eq!(everything(&at_once), everything(&singly), "{}{}", at_once.dump(), singly.dump());
            prop_assert_eq!(at_once.notices(), singly.notices());
        }
    }
}

#[test]
fn the_second_packet_of_a_burst_finds_the_session_of_the_first() {
    for net in super::net::nets() {
        let (mut fw, flow) = (Firewall::lab(), Flow::of(&net));
        let names = ["sessions-created", "lan-to-wan admitted", "forwarded", "forwarded", "forwarded"];
        let burst = [flow.syn(1), flow.syn(1), flow.syn(1)];
        assert_eq!(fw.send_all(LAN, &burst).counts(&names).len(), 3);
        assert_eq!(fw.expect_session(&flow.syn(0).key()).packets, [3, 0]);
        // A whole connection, one burst after the other.
        fw.send(WAN, &flow.syn_ack(5, 2)).forwarded(LAN, &[]);
        let burst = [
            flow.out(ACK, 2, 6),
            flow.out(ACK, 2, 6).payload_len(10),
            flow.out(RST, 12, 0),
            flow.syn(90_000),
        ];
        let names = [&["forwarded"; 4][..], &["sessions-reopened", "lan-to-wan admitted"]].concat();
        assert_eq!(fw.send_all(LAN, &burst).counts(&names).len(), 4);
        assert_eq!(fw.state(&flow.syn(0).key()), "syn-sent");
    }
}
