//! Neighbour resolution on the control thread: workers' notices in, questions and tables out.
//!
//! The engine's [`Resolver`] decides; here is what it needs from the world: frames with the right sender
//! address (RFC 826; RFC 4861 §7.2.2), sent by a worker, since the control thread owns no queue (decision
//! 10), and a bound on how often the table is rebuilt.

use crate::worker::mailbox::SmallFrame;
use engine::neighbour::{NeighbourTable, Resolver, ResolverConfig, Solicitation};
use engine::{Notice, PortId, Ticks};
use ipnet::IpNet;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};
use wire::{Addr, MacAddr, craft};

/// The most neighbours. With all places taken, a new one costs a search for a failed one to forget: a scan
/// of a large network must not make that search long.
const NEIGHBOURS_MAX: usize = 16_384;
/// Between two looks for questions that are due.
const TICK_EVERY_MS: u32 = 50;
/// After news, the control thread looks more often for so long: the answer to a question is near.
const HOT: Duration = Duration::from_millis(100);
/// Between two tables, at least; more where building one takes long.
const PUBLISH_EVERY: Duration = Duration::from_millis(1);
/// Building tables may take this share of the time: one part in ten.
const PUBLISH_SHARE: u32 = 10;

/// A port as neighbours see it.
#[derive(Clone, Debug)]
pub struct Speaker {
    /// Its MAC address.
    pub mac: MacAddr,
    /// Its MTU.
    pub mtu: u16,
    /// Its configured addresses.
    pub addresses: Vec<IpNet>,
    /// Its link-local address, where it speaks IPv6.
    pub link_local: Option<Ipv6Addr>,
}

/// A port's faces. Without a pair there is only the first.
#[derive(Clone, Debug)]
pub struct Faces {
    /// As the owner of the shared addresses.
    pub shared: Speaker,
    /// As a node of its own, while the partner owns them.
    pub own: Option<Speaker>,
}

/// Everything about neighbours that is not the workers'.
pub struct Neighbourhood {
    resolver: Resolver,
    faces: Vec<Faces>,
    /// The shared addresses are this node's.
    owns_shared: bool,
    ticked: Ticks,
    news: Option<Instant>,
    publish_from: Option<Instant>,
    unasked: u64,
}

impl Neighbourhood {
    /// Knows nobody.
    pub fn new(faces: Vec<Faces>, now: Ticks) -> Self {
        // What is forwarded leaves from the shared face, whoever asked for the way.
        let ports = faces.iter().map(|port| (port.shared.mac, port.shared.mtu)).collect();
        let resolver = Resolver::new(ResolverConfig { capacity: NEIGHBOURS_MAX, ports });
        let owns_shared = faces.iter().all(|port| port.own.is_none());
        Self { resolver, faces, owns_shared, ticked: now, news: None, publish_from: None, unasked: 0 }
    }

    /// The role changed: who asks from now on.
    pub fn speak_as(&mut self, owner_of_shared: bool) {
        self.owns_shared = owner_of_shared;
    }

    /// Takes a worker's notice. `send` gets the question that follows from it, if any.
    pub fn notice(
        &mut self,
        notice: &Notice,
        now: (Ticks, Instant),
        send: &mut impl FnMut(PortId, SmallFrame) -> bool,
    ) {
        match *notice {
            Notice::NeighbourWanted { port, addr } => {
                self.news = Some(now.1);
                if let Some(question) = self.resolver.wanted(port, addr, now.0) {
                    self.ask(&question, send);
                }
            }
            Notice::NeighbourHeard { port, addr, mac, answer } => {
                self.news = Some(now.1);
                self.resolver.heard(port, addr, mac, answer, now.0);
            }
            _ => {}
        }
    }

    /// Lets time pass: repeats questions, gives up.
    pub fn tick(&mut self, now: Ticks, send: &mut impl FnMut(PortId, SmallFrame) -> bool) {
        if now.since(self.ticked) < TICK_EVERY_MS {
            return;
        }
        self.ticked = now;
        let mut questions = Vec::new();
        self.resolver.tick(now, |question| questions.push(question));
        for question in questions {
            self.ask(&question, send);
        }
    }

    /// A new table, if anything changed and the last one is old enough.
    pub fn take_table(&mut self, now: Instant) -> Option<NeighbourTable> {
        if self.publish_from.is_some_and(|from| now < from) {
            return None;
        }
        let began = Instant::now();
        let table = self.resolver.take_table()?;
        let pause = (began.elapsed() * PUBLISH_SHARE).max(PUBLISH_EVERY);
        self.publish_from = Some(now + pause);
        Some(table)
    }

    /// True while an answer may come at any moment.
    pub fn is_hot(&self, now: Instant) -> bool {
        self.news.is_some_and(|news| now.duration_since(news) < HOT)
    }

    /// When a neighbour last said who it is; `None` if it never did.
    pub fn confirmed(&self, port: PortId, addr: Addr) -> Option<Ticks> {
        self.resolver.confirmed(port, addr)
    }

    /// Neighbours refused because there were too many.
    pub fn refused(&self) -> u64 {
        self.resolver.refused()
    }

    /// Questions that could not be sent: no address to ask from, or a full mailbox.
    pub fn unasked(&self) -> u64 {
        self.unasked
    }

    fn ask(&mut self, question: &Solicitation, send: &mut impl FnMut(PortId, SmallFrame) -> bool) {
        let speaker = self.faces.get(usize::from(question.port.0)).map(|port| match &port.own {
            Some(own) if !self.owns_shared => own,
            _ => &port.shared,
        });
        let frame = speaker.and_then(|speaker| speaker.question(question));
        if !frame.is_some_and(|frame| send(question.port, frame)) {
            self.unasked += 1;
        }
    }
}

impl Speaker {
    /// The frame that asks; `None` if the port has no address of the family.
    fn question(&self, question: &Solicitation) -> Option<SmallFrame> {
        let mut bytes = [0; crate::worker::mailbox::FRAME_MAX];
        let len = match (question.target, self.source_for(question.target)?) {
            (Addr::V4(target), Addr::V4(own)) => {
                craft::arp_request(&mut bytes, (self.mac, own), target, question.unicast)?
            }
            (Addr::V6(target), Addr::V6(own)) => {
                craft::neighbour_solicitation(&mut bytes, (self.mac, own), target, question.unicast)?
            }
            _ => return None,
        };
        SmallFrame::new(bytes.get(..len)?)
    }

    /// The own address to ask from: one of the target's network; for IPv6, the link-local one otherwise.
    fn source_for(&self, target: Addr) -> Option<Addr> {
        let target = IpAddr::from(target);
        let neighbour = self.addresses.iter().find(|own| own.contains(&target)).map(IpNet::addr);
        let other = match target {
            IpAddr::V4(_) => self.addresses.iter().map(IpNet::addr).find(IpAddr::is_ipv4),
            IpAddr::V6(_) => self.link_local.map(IpAddr::V6),
        };
        neighbour.or(other).map(Addr::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::desc::Kind;

    const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xfe]);
    const HOST_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
    const LAN: PortId = PortId(0);

    fn speaker() -> Speaker {
        Speaker {
            mac: MAC,
            mtu: 1500,
            addresses: ["10.9.0.1/24", "10.1.0.1/24", "fd00:1::1/64"].map(|a| a.parse().unwrap()).to_vec(),
            link_local: Some("fe80::fe".parse().unwrap()),
        }
    }

    fn faces(shared: Speaker) -> Faces {
        Faces { shared, own: None }
    }

    #[test]
    fn a_standby_asks_as_itself() {
        let now = (Ticks(0), Instant::now());
        let own_mac = MacAddr([2, 0, 0, 0, 0, 0xaa]);
        let addresses = vec!["10.1.0.2/24".parse().unwrap()];
        let own = Speaker { mac: own_mac, mtu: 1500, addresses, link_local: None };
        let mut n = Neighbourhood::new(vec![Faces { shared: speaker(), own: Some(own) }], now.0);
        let first = wanted(&mut n, "10.1.0.10", now);
        assert_eq!((&first[0][6..12], &first[0][28..32]), (&own_mac.0[..], &[10, 1, 0, 2][..]));
        n.speak_as(true);
        let second = wanted(&mut n, "10.1.0.11", now);
        assert_eq!((&second[0][6..12], &second[0][28..32]), (&MAC.0[..], &[10, 1, 0, 1][..]));
        // The way leads from the shared face all the same.
        let table = n.take_table(now.1).unwrap();
        let hop = table.find(LAN, address("10.1.0.10")).unwrap();
        assert_eq!(table.get(hop).unwrap().macs[6..], MAC.0);
    }

    fn address(text: &str) -> Addr {
        text.parse::<IpAddr>().unwrap().into()
    }

    /// Asks for `target`; returns the frame.
    fn wanted(neighbourhood: &mut Neighbourhood, target: &str, now: (Ticks, Instant)) -> Vec<Vec<u8>> {
        let mut sent = Vec::new();
        let notice = Notice::NeighbourWanted { port: LAN, addr: address(target) };
        neighbourhood.notice(&notice, now, &mut |port, frame| {
            assert_eq!(port, LAN);
            sent.push(frame.bytes().to_vec());
            true
        });
        sent
    }

    #[test]
    fn questions_come_from_the_address_of_the_targets_network() {
        let now = (Ticks(0), Instant::now());
        let mut n = Neighbourhood::new(vec![faces(speaker())], now.0);
        let sent = wanted(&mut n, "10.1.0.10", now);
        let frame = &sent[0];
        assert_eq!(&frame[..6], &[0xff; 6]);
        assert_eq!(wire::parse(frame, frame.len()).unwrap().kind, Kind::Arp);
        assert_eq!(frame[28..32], [10, 1, 0, 1]);
        assert_eq!(frame[38..42], [10, 1, 0, 10]);

        let sent = wanted(&mut n, "fd00:1::10", now);
        let desc = wire::parse(&sent[0], sent[0].len()).unwrap();
        assert_eq!((desc.kind, desc.ttl), (Kind::NeighbourDiscovery, 255));
        assert_eq!(desc.key.src(), address("fd00:1::1"));
        assert_eq!(desc.key.dst(), address("ff02::1:ff00:10"));

        let sent = wanted(&mut n, "fe80::10", now);
        let desc = wire::parse(&sent[0], sent[0].len()).unwrap();
        assert_eq!(desc.key.src(), address("fe80::fe"));
        assert_eq!(n.unasked(), 0);
    }

    #[test]
    fn a_port_without_an_address_of_the_family_cannot_ask() {
        let now = (Ticks(0), Instant::now());
        let mut n = Neighbourhood::new(
            vec![faces(Speaker { addresses: Vec::new(), link_local: None, ..speaker() })],
            now.0,
        );
        assert_eq!(wanted(&mut n, "10.1.0.10", now), Vec::<Vec<u8>>::new());
        assert_eq!(wanted(&mut n, "fd00:1::10", now), Vec::<Vec<u8>>::new());
        assert_eq!(n.unasked(), 2);
    }

    #[test]
    fn a_question_that_was_lost_is_repeated_after_a_second() {
        let start = (Ticks(u32::MAX - 100), Instant::now());
        let mut n = Neighbourhood::new(vec![faces(speaker())], start.0);
        let notice = Notice::NeighbourWanted { port: LAN, addr: address("10.1.0.10") };
        n.notice(&notice, start, &mut |_, _| false);
        assert_eq!(n.unasked(), 1);
        let mut repeated = Vec::new();
        for ms in [10, 60, 999, 1_000, 1_049] {
            n.tick(start.0.after(ms), &mut |_, _| {
                repeated.push(ms);
                true
            });
        }
        assert_eq!(repeated, [1_049], "looked for every 50 ms");
    }

    #[test]
    fn an_answer_makes_a_table_and_the_next_one_waits_a_little() {
        let start = (Ticks(0), Instant::now());
        let mut n = Neighbourhood::new(vec![faces(speaker())], start.0);
        assert!(!n.is_hot(start.1));
        wanted(&mut n, "10.1.0.10", start);
        assert!(n.is_hot(start.1 + Duration::from_millis(99)) && !n.is_hot(start.1 + HOT));
        assert_eq!(n.take_table(start.1).unwrap().len(), 1);
        let heard =
            Notice::NeighbourHeard { port: LAN, addr: address("10.1.0.10"), mac: HOST_MAC, answer: true };
        n.notice(&heard, start, &mut |_, _| true);
        assert!(n.take_table(start.1).is_none(), "too soon");
        let table = n.take_table(start.1 + Duration::from_secs(1)).unwrap();
        let hop = table.find(LAN, address("10.1.0.10")).unwrap();
        assert_eq!(table.get(hop).unwrap().mac(), HOST_MAC);
    }
}
