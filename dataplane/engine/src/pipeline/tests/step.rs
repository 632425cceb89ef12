//! What one step of a trace did, to be stated exactly.

use super::buffers::TestBuf;
use super::firewall::Firewall;
use super::net::{mac_of, neighbour_of};
use crate::ids::PortId;
use std::collections::BTreeMap;
use std::fmt::Display;
use wire::{Addr, Desc, Kind, MacAddr, checksum};

/// Counters by name.
pub type Counted = BTreeMap<String, u64>;

/// The outcome of a step. Each way to end it compares *all* counters: those that it implies, and the
/// ones that are named (more than once for more than one).
#[must_use = "say what is expected"]
pub struct Step<'f, B> {
    firewall: &'f Firewall<B>,
    input: Vec<Vec<u8>>,
    pub sent: Vec<(PortId, Vec<u8>)>,
    pub counted: Counted,
}

impl<'f, B: TestBuf> Step<'f, B> {
    pub fn new(
        firewall: &'f Firewall<B>,
        input: Vec<Vec<u8>>,
        sent: Vec<(PortId, Vec<u8>)>,
        counted: Counted,
    ) -> Self {
        Self { firewall, input, sent, counted }
    }

    /// Exactly these counters moved; frames are the caller's to look at.
    #[track_caller]
    pub fn counts(self, names: &[&str]) -> Vec<(PortId, Vec<u8>)> {
        let mut expected = Counted::new();
        for name in names {
            *expected.entry((*name).to_owned()).or_default() += 1;
        }
        assert_eq!(self.counted, expected, "left: counted, right: expected{}", self.firewall.dump());
        self.sent
    }

    /// Nothing came of it but these counters.
    #[track_caller]
    pub fn silent(self, names: &[&str]) {
        let sent: Vec<_> = self.sent.iter().map(|(port, bytes)| (port.0, hex(bytes))).collect();
        assert!(sent.is_empty(), "nothing is sent: {sent:?} {:?}{}", self.counted, self.firewall.dump());
        self.counts(names);
    }

    /// The packet was dropped for this reason, and nobody told.
    #[track_caller]
    pub fn dropped(self, reason: &str, names: &[&str]) {
        self.silent(&[&[reason], names].concat());
    }

    /// The packet waits for its next hop's MAC address.
    #[track_caller]
    pub fn pends(self, names: &[&str]) {
        self.silent(&[&["pending-queued"], names].concat());
    }

    /// The packet left by `port`, for the neighbour of the picture, with nothing changed but its MAC
    /// addresses and its TTL.
    #[track_caller]
    pub fn forwarded(self, port: PortId, names: &[&str]) {
        let desc = self.input_desc();
        self.forwarded_to(port, mac_of(neighbour_of(desc.key.dst())), names);
    }

    /// The same for another neighbour.
    #[track_caller]
    pub fn forwarded_to(self, port: PortId, neighbour: MacAddr, names: &[&str]) {
        let firewall = self.firewall;
        let dump = firewall.dump();
        let desc = self.input_desc();
        assert_eq!(self.sent.len(), 1, "one frame is sent{dump}");
        let (out_port, out) = self.sent[0].clone();
        assert_eq!(out_port, port, "the port{dump}");
        assert_routed(&self.input[0], &desc, &out, (neighbour, firewall.face(port)), &dump);
        self.counts(&[&["forwarded"], names].concat());
    }

    /// One frame of the firewall's own left by `port`; its bytes and what they are.
    #[track_caller]
    pub fn answered(self, port: PortId, names: &[&str]) -> (Vec<u8>, Desc) {
        let firewall = self.firewall;
        let dump = firewall.dump();
        let sent = self.counts(names);
        assert_eq!(sent.len(), 1, "one frame is sent{dump}");
        let (out_port, out) = sent.into_iter().next().unwrap();
        assert_eq!(out_port, port, "the port{dump}");
        assert!(out.len() >= 60, "no frame is shorter{dump}");
        let desc = wire::parse(&out, out.len()).unwrap_or_else(|e| panic!("{e}{dump}"));
        assert!(desc.kind == Kind::Arp || checksum::verify_transport(&out, &desc), "intact{dump}");
        (out, desc)
    }

    /// The packet was refused for `reason`, and its sender heard an ICMP error about it from the
    /// firewall's address `own`, with this type, code and rest of header.
    #[track_caller]
    pub fn refused_with_error(
        self,
        reason: &str,
        own: Addr,
        (kind, code, rest): (u8, u8, u32),
        names: &[&str],
    ) {
        let firewall = self.firewall;
        let dump = firewall.dump();
        let (about, about_desc) = (self.input[0].clone(), self.input_desc());
        let port = super::firewall::port_of(own);
        let (out, desc) = self.answered(port, &[&[reason, "icmp-errors-sent"], names].concat());
        assert_eq!(desc.kind, Kind::IcmpError, "{dump}");
        assert_eq!((desc.key.src(), desc.key.dst(), desc.ttl), (own, about_desc.key.src(), 64), "{dump}");
        assert_eq!((&out[..6], &out[6..12]), (&about[6..12], &firewall.face(port).0[..]), "{dump}");
        let l4 = usize::from(desc.l4);
        assert_eq!((out[l4], out[l4 + 1]), (kind, code), "{dump}");
        assert_eq!(out[l4 + 4..l4 + 8], rest.to_be_bytes(), "{dump}");
        let packet = &about[usize::from(about_desc.l3)..];
        let packet = &packet[..usize::from(about_desc.ip_len)];
        let quote = &out[l4 + 8..usize::from(desc.l3) + usize::from(desc.ip_len)];
        let longest = if desc.key.is_v6() { 1_280 - 48 } else { 576 - 28 };
        assert_eq!(quote, &packet[..packet.len().min(longest)], "the packet is quoted{dump}");
    }

    fn input_desc(&self) -> Desc {
        assert_eq!(self.input.len(), 1, "one frame");
        wire::parse(&self.input[0], self.input[0].len()).expect("a valid frame")
    }
}

/// `out` is `input` on its way: MAC addresses, TTL less one, header checksum; no link padding beyond the
/// shortest frame.
#[track_caller]
pub fn assert_routed(
    input: &[u8],
    desc: &Desc,
    out: &[u8],
    (dst, src): (MacAddr, MacAddr),
    dump: &impl Display,
) {
    let mut expected = input.to_vec();
    expected[..6].copy_from_slice(&dst.0);
    expected[6..12].copy_from_slice(&src.0);
    let l3 = usize::from(desc.l3);
    if desc.key.is_v6() {
        expected[l3 + 7] -= 1;
    } else {
        expected[l3 + 8] -= 1;
        expected[l3 + 10..l3 + 12].fill(0);
        let check = checksum::ipv4_header(&expected[l3..usize::from(desc.l4)]);
        expected[l3 + 10..l3 + 12].copy_from_slice(&check.to_be_bytes());
    }
    expected.truncate((l3 + usize::from(desc.ip_len)).max(60));
    assert!(out == expected, "the frame as routed:\n {}\n {}{dump}", hex(out), hex(&expected));
}

/// A frame for people: its length and its first bytes.
pub fn hex(bytes: &[u8]) -> String {
    let head: String = bytes.iter().take(96).map(|byte| format!("{byte:02x}")).collect();
    format!("{} bytes {head}", bytes.len())
}
