//! Tells the neighbours who has the shared addresses: gratuitous ARP (RFC 5227 §3, both forms, since hosts
//! differ in which one they believe) and unsolicited neighbour advertisements (RFC 4861 §7.2.6).
//!
//! In a burst after a takeover, repeated a few times since frames get lost, then once in a while. Switches
//! learn the virtual MAC address's new place from the same frames.

use super::transport::Transports;
use engine::PortId;
use std::collections::VecDeque;
use std::net::IpAddr;
use sync::ids::Micros;
use wire::arp::Operation;
use wire::{MacAddr, craft};

/// When a burst repeats its round, after its beginning.
const ROUNDS: [Micros; 4] =
    [Micros(0), Micros::from_millis(50), Micros::from_millis(250), Micros::from_millis(1_000)];
/// Frames sent in one turn, at most: many addresses take several turns, a millisecond each.
const PER_TURN: usize = 64;
/// The longest frame: a neighbour advertisement.
const FRAME_MAX: usize = 128;

/// The frames of all shared addresses, and when they are due.
pub struct Announcer {
    frames: Vec<(PortId, Vec<u8>)>,
    rounds: VecDeque<Micros>,
    /// Where the round that is under way goes on.
    at: usize,
    sent: u64,
}

impl Announcer {
    /// For these addresses, by port, all at `mac`.
    pub fn new(addresses: &[(PortId, IpAddr)], mac: MacAddr) -> Self {
        let frames = addresses
            .iter()
            .flat_map(|(port, address)| announcements(*address, mac).into_iter().map(|frame| (*port, frame)));
        Self { frames: frames.collect(), rounds: VecDeque::new(), at: 0, sent: 0 }
    }

    /// The role is new here: a burst, in place of whatever was due.
    pub fn burst(&mut self, now: Micros) {
        self.at = 0;
        self.rounds = ROUNDS.iter().map(|after| now.after(*after)).collect();
    }

    /// One round, unless a burst is under way.
    pub fn once(&mut self, now: Micros) {
        if self.rounds.is_empty() {
            self.rounds.push_back(now);
        }
    }

    /// Nothing more: the role is somebody else's.
    pub fn stop(&mut self) {
        self.at = 0;
        self.rounds.clear();
    }

    /// Frames sent so far, those left out that found no room.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Sends what is due.
    pub fn send_due(&mut self, now: Micros, transports: &mut Transports) {
        while let Some((port, frame)) = self.next(now) {
            self.sent += u64::from(transports.send_frame(port, &frame));
        }
    }

    /// The next frame that is due; pauses after each [`PER_TURN`].
    fn next(&mut self, now: Micros) -> Option<(PortId, Vec<u8>)> {
        if self.rounds.front().is_none_or(|due| now < *due) {
            return None;
        }
        match self.frames.get(self.at).cloned() {
            Some(frame) => {
                self.at += 1;
                if self.at.is_multiple_of(PER_TURN)
                    && let Some(due) = self.rounds.front_mut()
                {
                    *due = now.after(Micros::from_millis(1));
                }
                Some(frame)
            }
            None => {
                self.at = 0;
                self.rounds.pop_front();
                self.next(now)
            }
        }
    }
}

fn announcements(address: IpAddr, mac: MacAddr) -> Vec<Vec<u8>> {
    let made = |make: &dyn Fn(&mut [u8]) -> Option<usize>| {
        let mut frame = vec![0; FRAME_MAX];
        let length = make(&mut frame)?;
        frame.truncate(length);
        Some(frame)
    };
    let frames = match address {
        IpAddr::V4(address) => {
            let own = (mac, address.octets());
            [
                made(&|frame| craft::arp_announcement(frame, own, Operation::Request)),
                made(&|frame| craft::arp_announcement(frame, own, Operation::Reply)),
            ]
        }
        IpAddr::V6(address) => {
            let own = (mac, address.octets());
            [made(&|frame| craft::unsolicited_advertisement(frame, own)), None]
        }
    };
    frames.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::desc::Kind;

    const MAC: MacAddr = MacAddr([0, 0, 0x5e, 0, 1, 7]);

    fn due(announcer: &mut Announcer, now: Micros) -> usize {
        std::iter::from_fn(|| announcer.next(now)).count()
    }

    #[test]
    fn s_28_every_address_is_announced_in_a_burst_and_again() {
        let addresses: Vec<(PortId, IpAddr)> = [(0, "10.1.0.1"), (0, "fd00:1::1"), (1, "10.2.0.1")]
            .map(|(p, a)| (PortId(p), a.parse().unwrap()))
            .into();
        let mut announcer = Announcer::new(&addresses, MAC);
        announcer.burst(Micros(5));
        let first: Vec<_> = std::iter::from_fn(|| announcer.next(Micros(5))).collect();
        let kinds: Vec<_> = first
            .iter()
            .map(|(port, frame)| {
                assert_eq!(frame[6..12], MAC.0);
                (port.0, wire::parse(frame, frame.len()).unwrap().kind)
            })
            .collect();
        let (arp, nd) = (Kind::Arp, Kind::NeighbourDiscovery);
        assert_eq!(kinds, [(0, arp), (0, arp), (0, nd), (1, arp), (1, arp)]);
        // Request and reply, not the same frame twice.
        assert_ne!(first[0].1, first[1].1);
        let rounds: Vec<usize> = [1, 51, 100, 251, 999, 1_001, 9_000]
            .map(|ms| due(&mut announcer, Micros::from_millis(ms).after(Micros(5))))
            .into();
        assert_eq!(rounds, [0, 5, 0, 5, 0, 5, 0]);
        announcer.once(Micros::from_secs(10));
        assert_eq!(due(&mut announcer, Micros::from_secs(10)), 5);
        announcer.burst(Micros::from_secs(11));
        announcer.stop();
        assert_eq!(due(&mut announcer, Micros::from_secs(20)), 0);
    }

    #[test]
    fn s_28_many_addresses_are_announced_at_a_limited_rate() {
        let addresses: Vec<(PortId, IpAddr)> =
            (0..200).map(|host| (PortId(0), IpAddr::from([10, 1, 0, host]))).collect();
        let mut announcer = Announcer::new(&addresses, MAC);
        announcer.once(Micros(0));
        let mut turns = 0;
        let mut sent = 0;
        for ms in 0..20 {
            let now = due(&mut announcer, Micros::from_millis(ms));
            assert!(now <= PER_TURN);
            sent += now;
            turns += usize::from(now > 0);
        }
        assert_eq!((sent, turns), (400, 7));
    }
}
