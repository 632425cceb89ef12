//! The stateless generator: flow number → frames.

use crate::world::{LAN, WAN};
use engine::PortId;
use wire::craft::{self, Frame};
use wire::ether::Link;
use wire::tcp::Control;
use wire::{Addr, FlowKey, MacAddr, Proto, checksum, tcp_flags};

/// The firewall's MAC address on both ports.
pub const FIREWALL: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xfe]);
/// The neighbour behind either port.
pub const NEIGHBOUR: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);

/// What the flows carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Traffic {
    /// TCP over IPv4.
    Tcp4,
    /// UDP over IPv4.
    Udp4,
    /// TCP over IPv6.
    Tcp6,
    /// UDP over IPv6.
    Udp6,
}

impl Traffic {
    /// All of them.
    pub const ALL: [Traffic; 4] = [Traffic::Tcp4, Traffic::Udp4, Traffic::Tcp6, Traffic::Udp6];

    /// True for TCP.
    pub fn is_tcp(self) -> bool {
        matches!(self, Traffic::Tcp4 | Traffic::Tcp6)
    }

    /// True for IPv6.
    pub fn is_v6(self) -> bool {
        matches!(self, Traffic::Tcp6 | Traffic::Udp6)
    }

    /// For tables.
    pub fn name(self) -> &'static str {
        match self {
            Traffic::Tcp4 => "tcp4",
            Traffic::Udp4 => "udp4",
            Traffic::Tcp6 => "tcp6",
            Traffic::Udp6 => "udp6",
        }
    }
}

/// A packet's place in its flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Opens the session.
    Syn,
    /// Answers it.
    SynAck,
    /// Completes the handshake; also what an established initiator sends.
    FromInitiator,
    /// What an established responder sends.
    FromResponder,
}

/// What a load sends: from which end, and where in their flows packets are.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// Where in its flow.
    pub step: Step,
    /// By which port.
    pub port: PortId,
}

impl Kind {
    const SYN: Kind = Kind { step: Step::Syn, port: LAN };
    /// What an established initiator sends.
    pub const FORTH: Kind = Kind { step: Step::FromInitiator, port: LAN };
    /// What an established responder sends.
    pub const BACK: Kind = Kind { step: Step::FromResponder, port: WAN };

    /// A flow's first packet.
    pub fn first(traffic: Traffic) -> Kind {
        if traffic.is_tcp() { Kind::SYN } else { Kind::FORTH }
    }

    /// What a flow sends until it is established.
    pub fn opening(traffic: Traffic) -> &'static [Kind] {
        const SYN_ACK: Kind = Kind { step: Step::SynAck, port: WAN };
        if traffic.is_tcp() { &[Kind::SYN, SYN_ACK, Kind::FORTH] } else { &[Kind::FORTH, Kind::BACK] }
    }
}

/// Writes frames for flow numbers. Frames are 60 bytes (IPv4) or 74 (IPv6 TCP), without check sequence.
pub struct Flows {
    traffic: Traffic,
    udp: Vec<u8>,
}

const ISN_INITIATOR: u32 = 1_000;
const ISN_RESPONDER: u32 = 2_000;
const SHORTEST: usize = 60;

impl Flows {
    /// A generator of this kind of traffic.
    pub fn new(traffic: Traffic) -> Self {
        let key = key(traffic, 0, 0);
        let udp =
            Frame::udp(key.src(), key.dst(), 1, 2).payload(b"understudy").eth(NEIGHBOUR, FIREWALL).bytes();
        Self { traffic, udp }
    }

    /// The flow's key, from its initiator. Up to 2^24 flows.
    pub fn key(&self, flow: u32) -> FlowKey {
        key(self.traffic, flow, 0)
    }

    /// Writes a frame; returns its length.
    pub fn write(&self, out: &mut [u8], flow: u32, step: Step) -> Option<usize> {
        let forward = matches!(step, Step::Syn | Step::FromInitiator);
        let key = if forward { self.key(flow) } else { self.key(flow).reversed() };
        if self.traffic.is_tcp() { write_tcp(out, &key, step) } else { self.write_udp(out, &key) }
    }

    fn write_udp(&self, out: &mut [u8], key: &FlowKey) -> Option<usize> {
        let frame = out.get_mut(..self.udp.len())?;
        frame.copy_from_slice(&self.udp);
        let ports_at = match (key.src(), key.dst()) {
            (Addr::V4(src), Addr::V4(dst)) => {
                frame.get_mut(26..30)?.copy_from_slice(&src);
                frame.get_mut(30..34)?.copy_from_slice(&dst);
                frame.get_mut(24..26)?.fill(0);
                let sum = checksum::ipv4_header(frame.get(14..34)?);
                frame.get_mut(24..26)?.copy_from_slice(&sum.to_be_bytes());
                34
            }
            (Addr::V6(src), Addr::V6(dst)) => {
                frame.get_mut(22..38)?.copy_from_slice(&src);
                frame.get_mut(38..54)?.copy_from_slice(&dst);
                54
            }
            _ => return None,
        };
        frame.get_mut(ports_at..ports_at + 2)?.copy_from_slice(&key.sport().to_be_bytes());
        frame.get_mut(ports_at + 2..ports_at + 4)?.copy_from_slice(&key.dport().to_be_bytes());
        Some(self.udp.len().max(SHORTEST))
    }
}

fn write_tcp(out: &mut [u8], key: &FlowKey, step: Step) -> Option<usize> {
    let link = Link { src: NEIGHBOUR, dst: FIREWALL };
    let (seq, ack, flags) = match step {
        Step::Syn => (ISN_INITIATOR, 0, tcp_flags::SYN),
        Step::SynAck => (ISN_RESPONDER, ISN_INITIATOR + 1, tcp_flags::SYN | tcp_flags::ACK),
        Step::FromInitiator => (ISN_INITIATOR + 1, ISN_RESPONDER + 1, tcp_flags::ACK),
        Step::FromResponder => (ISN_RESPONDER + 1, ISN_INITIATOR + 1, tcp_flags::ACK),
    };
    let control = Control { seq, ack, flags, window: 64_000 };
    craft::tcp_control(out, link, key, &control).map(|len| len.max(SHORTEST))
}

/// The key of a flow's `life`th connection, from its initiator. Initiators in 10.0.0.0/8 or fd00:a::/32,
/// responders in 172.16.0.0/12 or fd00:b::/32: about a thousand servers, ports all over. A flow's number is in
/// its initiator's address, see [`number`]; each life has a port of its own.
pub fn key(traffic: Traffic, flow: u32, life: u16) -> FlowKey {
    let proto = if traffic.is_tcp() { Proto::TCP } else { Proto::UDP };
    let [_, high, middle, low] = flow.to_be_bytes();
    let (sport, dport) = (1_024 + ((flow + u32::from(life) * 7) % 50_000) as u16, 443);
    if traffic.is_v6() {
        let mut src = [0xfd, 0, 0, 0x0a, 0, 0, 0, 0, 0, 0, 0, 0, 0, high, middle, low];
        src[8] = low;
        let dst = [0xfd, 0, 0, 0x0b, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, middle & 3, low];
        FlowKey::v6(src, dst, proto, sport, dport)
    } else {
        FlowKey::v4([10, high, middle, low], [172, 16, middle & 3, low], proto, sport, dport)
    }
}

/// The flow whose initiator has this address, if any of ours does.
pub fn number(initiator: Addr) -> Option<u32> {
    match initiator {
        Addr::V4([10, high, middle, low])
        | Addr::V6([0xfd, 0, 0, 0x0a, _, _, _, _, _, _, _, _, _, high, middle, low]) => {
            Some(u32::from_be_bytes([0, high, middle, low]))
        }
        _ => None,
    }
}

/// Random order without memory: a keyed permutation of 0..2^bits. A value beyond `flows` is permuted again
/// until it is not; the walk begins below `flows`, so it comes back there.
#[derive(Clone, Copy)]
pub struct Shuffle {
    flows: u32,
    mask: u32,
    half: u32,
}

impl Shuffle {
    /// Over `flows` flows, one at least.
    pub fn new(flows: u32) -> Self {
        let flows = flows.max(1);
        let bits = (32 - flows.saturating_sub(1).leading_zeros()).max(2).next_multiple_of(2);
        Self { flows, mask: (1_u32 << (bits / 2)) - 1, half: bits / 2 }
    }

    /// The flow of the `n`th packet.
    pub fn flow(&self, n: u32) -> u32 {
        let round = |half: u32, key: u32| (half.wrapping_mul(0x9e37_79b1).wrapping_add(key) >> 7) & self.mask;
        let mut value = n % self.flows;
        loop {
            let (mut left, mut right) = (value >> self.half, value & self.mask);
            for key in [0x1234_5678, 0x9abc_def1, 0x0f1e_2d3c, 0x4b5a_6978] {
                (left, right) = (right, left ^ round(right, key));
            }
            value = left << self.half | right;
            if value < self.flows {
                return value;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn the_shuffle_visits_every_flow() {
        for flows in [1, 2, 1_000, 4_096, 10_001] {
            let shuffle = Shuffle::new(flows);
            let seen: HashSet<u32> = (0..flows).map(|n| shuffle.flow(n)).collect();
            assert_eq!(seen.len(), flows as usize);
            assert_eq!(shuffle.flow(flows), shuffle.flow(0), "and begins again");
        }
    }

    #[test]
    fn frames_are_what_the_parser_takes() {
        for traffic in [Traffic::Tcp4, Traffic::Udp4, Traffic::Tcp6, Traffic::Udp6] {
            let flows = Flows::new(traffic);
            for step in [Step::Syn, Step::SynAck, Step::FromInitiator, Step::FromResponder] {
                let mut out = [0; 128];
                let len = flows.write(&mut out, 77, step);
                let desc = len.and_then(|len| wire::parse(&out[..len], len).ok());
                let expected = match step {
                    Step::Syn | Step::FromInitiator => flows.key(77),
                    _ => flows.key(77).reversed(),
                };
                assert_eq!(desc.map(|desc| desc.key), Some(expected), "{traffic:?} {step:?}");
            }
        }
    }

    #[test]
    fn a_flow_is_known_by_its_initiator() {
        for traffic in Traffic::ALL {
            for flow in [0, 1, 255, 65_536, (1 << 24) - 1] {
                let key = key(traffic, flow, 9);
                assert_eq!(number(key.src()), Some(flow));
                assert_eq!(number(key.dst()), None);
            }
        }
    }

    #[test]
    fn keys_differ() {
        let flows = Flows::new(Traffic::Tcp4);
        let keys: HashSet<FlowKey> = (0..100_000).map(|flow| flows.key(flow)).collect();
        assert_eq!(keys.len(), 100_000);
    }
}
