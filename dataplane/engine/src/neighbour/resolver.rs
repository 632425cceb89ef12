//! The control thread's side: asks for neighbours, refreshes them, gives up on them.

use super::table::{Adjacency, AdjacencyState, NeighbourTable, NextHop};
use crate::ids::PortId;
use crate::time::Ticks;
use std::collections::{HashMap, VecDeque};
use wire::{Addr, MacAddr};

/// Milliseconds between two questions (RFC 4861 RetransTimer).
const RETRANSMIT_MS: u32 = 1_000;
/// Questions before giving up (RFC 4861 MAX_MULTICAST_SOLICIT).
const QUESTIONS: u8 = 3;
/// An answer is trusted this long before it is asked for again (RFC 4861 REACHABLE_TIME).
const REACHABLE_MS: u32 = 30_000;
/// A neighbour that did not answer is not asked again for this long; packets to it are refused.
const FAILED_MS: u32 = 3_000;
/// A failed neighbour nobody wants any more is forgotten after this long.
const FORGET_MS: u32 = 60_000;

/// A full table is searched for failed neighbours this seldom.
const SEARCH_EVERY_MS: u32 = 100;
/// And so many are forgotten then, at most.
const FORGET_AT_ONCE: usize = 64;

/// Bounds and the ports' own addresses.
#[derive(Clone, Debug)]
pub struct ResolverConfig {
    /// The most neighbours; beyond it, failed ones are forgotten first, then new ones are refused.
    pub capacity: usize,
    /// By port: own MAC address and MTU.
    pub ports: Vec<(MacAddr, u16)>,
}

/// A question to send: an ARP request or a neighbour solicitation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Solicitation {
    /// The port to send on.
    pub port: PortId,
    /// Who is asked for.
    pub target: Addr,
    /// The known MAC address, to ask it directly; `None` asks everybody.
    pub unicast: Option<MacAddr>,
}

#[derive(Clone, Copy, Debug)]
struct Neighbour {
    place: u32,
    mac: MacAddr,
    state: AdjacencyState,
    /// Questions sent since the last answer.
    asked: u8,
    /// When the next step is due.
    next: Ticks,
    /// When it was last wanted or heard.
    touched: Ticks,
    /// When it last said who it is.
    confirmed: Option<Ticks>,
}

/// All neighbours of all ports.
pub struct Resolver {
    config: ResolverConfig,
    neighbours: HashMap<(PortId, Addr), Neighbour>,
    generations: Vec<u8>,
    free: VecDeque<u32>,
    changed: bool,
    revision: u64,
    refused: u64,
    /// A full table is not searched for a place before then.
    search_from: Option<Ticks>,
}

impl Resolver {
    /// Knows nobody.
    pub fn new(config: ResolverConfig) -> Self {
        let capacity = config.capacity.min(NextHop::PLACES);
        let config = ResolverConfig { capacity, ..config };
        Self {
            config,
            neighbours: HashMap::new(),
            generations: Vec::new(),
            free: VecDeque::new(),
            changed: false,
            revision: 0,
            refused: 0,
            search_from: None,
        }
    }

    /// A worker has a packet for this neighbour and does not know it. Returns what to send, if anything
    /// is to be sent now.
    pub fn wanted(&mut self, port: PortId, addr: Addr, now: Ticks) -> Option<Solicitation> {
        if let Some(known) = self.neighbours.get_mut(&(port, addr)) {
            known.touched = now;
            let ask_again = known.state == AdjacencyState::Failed && now.reached(known.next);
            if !ask_again {
                return None;
            }
            (known.state, known.asked, known.next) =
                (AdjacencyState::Incomplete, 1, now.after(RETRANSMIT_MS));
            self.changed = true;
            return Some(Solicitation { port, target: addr, unicast: None });
        }
        let place = self.place(now)?;
        let next = now.after(RETRANSMIT_MS);
        let new = Neighbour {
            place,
            mac: MacAddr::default(),
            state: AdjacencyState::Incomplete,
            asked: 1,
            next,
            touched: now,
            confirmed: None,
        };
        self.neighbours.insert((port, addr), new);
        self.changed = true;
        Some(Solicitation { port, target: addr, unicast: None })
    }

    /// Somebody said that `addr` is at `mac`. `answer` is true for what answers a question (or was said
    /// to us directly with a question of their own): only then is an unknown neighbour remembered, so
    /// that chatter on the link fills nothing.
    pub fn heard(&mut self, port: PortId, addr: Addr, mac: MacAddr, answer: bool, now: Ticks) {
        if mac.is_group() || mac == MacAddr::default() {
            return;
        }
        if !self.neighbours.contains_key(&(port, addr)) {
            if !answer {
                return;
            }
            let Some(place) = self.place(now) else { return };
            let new = Neighbour {
                place,
                mac: MacAddr::default(),
                state: AdjacencyState::Incomplete,
                asked: 0,
                next: now,
                touched: now,
                confirmed: None,
            };
            self.neighbours.insert((port, addr), new);
        }
        let Some(known) = self.neighbours.get_mut(&(port, addr)) else { return };
        if known.mac != mac || known.state != AdjacencyState::Resolved {
            (known.mac, known.state) = (mac, AdjacencyState::Resolved);
            self.changed = true;
        }
        known.asked = 0;
        known.touched = now;
        known.confirmed = Some(now);
        known.next = now.after(REACHABLE_MS);
    }

    /// Lets time pass: questions that are due, and neighbours that are given up.
    pub fn tick(&mut self, now: Ticks, mut ask: impl FnMut(Solicitation)) {
        let mut forget = Vec::new();
        for ((port, addr), n) in &mut self.neighbours {
            if !now.reached(n.next) {
                continue;
            }
            match n.state {
                AdjacencyState::Failed => {
                    if now.since(n.touched) >= FORGET_MS {
                        forget.push((*port, *addr));
                    }
                }
                _ if n.asked >= QUESTIONS => {
                    n.state = AdjacencyState::Failed;
                    n.next = now.after(FAILED_MS);
                    self.changed = true;
                }
                state => {
                    let unicast = (state == AdjacencyState::Resolved).then_some(n.mac);
                    n.asked += 1;
                    n.next = now.after(RETRANSMIT_MS);
                    ask(Solicitation { port: *port, target: *addr, unicast });
                }
            }
        }
        forget.into_iter().for_each(|key| self.forget(key));
    }

    /// The table for the next snapshot if anything in it changed since the last call.
    pub fn take_table(&mut self) -> Option<NeighbourTable> {
        if !std::mem::take(&mut self.changed) {
            return None;
        }
        let unused = Adjacency::new(
            PortId(0),
            0,
            MacAddr::default(),
            MacAddr::default(),
            AdjacencyState::Failed,
            0xff,
        );
        let mut places = vec![unused; self.generations.len()];
        let mut addresses = Vec::with_capacity(self.neighbours.len());
        for ((port, addr), n) in &self.neighbours {
            let generation = self.generations.get(n.place as usize).copied().unwrap_or(0);
            let (own, mtu) = self.config.ports.get(usize::from(port.0)).copied().unwrap_or_default();
            if let Some(place) = places.get_mut(n.place as usize) {
                *place = Adjacency::new(*port, mtu, own, n.mac, n.state, generation);
            }
            addresses.push((*port, *addr, NextHop::new(n.place, generation)));
        }
        self.revision += 1;
        Some(NeighbourTable::new(self.revision, places, addresses))
    }

    /// When a neighbour last said who it is.
    pub fn confirmed(&self, port: PortId, addr: Addr) -> Option<Ticks> {
        self.neighbours.get(&(port, addr))?.confirmed
    }

    /// Neighbours that were refused because the table was full.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// A free place, its generation moved on. With all in use, the longest failed neighbour's.
    fn place(&mut self, now: Ticks) -> Option<u32> {
        if self.neighbours.len() >= self.config.capacity && !self.make_room(now) {
            self.refused += 1;
            return None;
        }
        if let Some(place) = self.free.pop_front() {
            return Some(place);
        }
        self.generations.push(0);
        Some(self.generations.len() as u32 - 1)
    }

    /// Forgets the longest failed neighbours. Walking a full table costs time, so it is done seldom and
    /// for many at once: somebody who scans a network must not keep the control thread busy.
    fn make_room(&mut self, now: Ticks) -> bool {
        if self.search_from.is_some_and(|from| !now.reached(from)) {
            return false;
        }
        self.search_from = Some(now.after(SEARCH_EVERY_MS));
        let failed = self.neighbours.iter().filter(|(_, n)| n.state == AdjacencyState::Failed);
        let mut failed: Vec<_> = failed.map(|(key, n)| (now.since(n.touched), *key)).collect();
        failed.sort_unstable_by_key(|(age_ms, _)| std::cmp::Reverse(*age_ms));
        failed.truncate(FORGET_AT_ONCE);
        failed.iter().for_each(|(_, key)| self.forget(*key));
        !failed.is_empty()
    }

    fn forget(&mut self, key: (PortId, Addr)) {
        if let Some(gone) = self.neighbours.remove(&key) {
            if let Some(generation) = self.generations.get_mut(gone.place as usize) {
                *generation = (*generation + 1) & 0xf;
            }
            self.free.push_back(gone.place);
            self.changed = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAN: PortId = PortId(0);
    const HOST: Addr = Addr::V4([10, 1, 0, 10]);
    const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);

    fn resolver(capacity: usize) -> Resolver {
        let own = MacAddr([2, 0, 0, 0, 0, 0xfe]);
        Resolver::new(ResolverConfig { capacity, ports: vec![(own, 1500), (own, 1500)] })
    }

    fn asked(resolver: &mut Resolver, now: u32) -> Vec<Solicitation> {
        let mut all = Vec::new();
        resolver.tick(Ticks(now), |s| all.push(s));
        all
    }

    #[test]
    fn a_wanted_neighbour_is_asked_for_three_times_and_then_refused_for_a_while() {
        let mut r = resolver(10);
        let question = Solicitation { port: LAN, target: HOST, unicast: None };
        assert_eq!(r.wanted(LAN, HOST, Ticks(0)), Some(question));
        assert_eq!(r.wanted(LAN, HOST, Ticks(1)), None, "already asked");
        assert_eq!(asked(&mut r, 999), []);
        assert_eq!(asked(&mut r, 1_000), [question]);
        assert_eq!(asked(&mut r, 2_000), [question]);
        assert_eq!(asked(&mut r, 3_000), []);
        let table = r.take_table().unwrap();
        let hop = table.find(LAN, HOST).unwrap();
        assert_eq!(table.get(hop).unwrap().state, AdjacencyState::Failed);
        assert_eq!(r.wanted(LAN, HOST, Ticks(4_000)), None, "not again so soon");
        assert_eq!(r.wanted(LAN, HOST, Ticks(6_000)), Some(question));
        assert_eq!(r.take_table().unwrap().get(hop).unwrap().state, AdjacencyState::Incomplete);
    }

    #[test]
    fn an_answer_resolves_and_is_refreshed_by_unicast() {
        let mut r = resolver(10);
        r.wanted(LAN, HOST, Ticks(0));
        r.heard(LAN, HOST, MAC, true, Ticks(5));
        let table = r.take_table().unwrap();
        let hop = table.find(LAN, HOST).unwrap();
        let adjacency = table.get(hop).unwrap();
        assert_eq!((adjacency.mac(), adjacency.state, adjacency.mtu), (MAC, AdjacencyState::Resolved, 1500));
        assert!(r.take_table().is_none(), "nothing new");
        assert_eq!(
            asked(&mut r, 30_005),
            [Solicitation { port: LAN, target: HOST, unicast: Some(MAC) }],
            "refreshed"
        );
        r.heard(LAN, HOST, MAC, true, Ticks(30_010));
        assert!(r.take_table().is_none(), "the same answer changes nothing");
        r.heard(LAN, HOST, MacAddr([2, 9, 9, 9, 9, 9]), false, Ticks(30_020));
        assert!(r.take_table().is_some(), "a neighbour that moved");
    }

    #[test]
    fn chatter_fills_nothing_and_a_full_table_refuses() {
        let mut r = resolver(2);
        r.heard(LAN, HOST, MAC, false, Ticks(0));
        assert!(r.take_table().is_none());
        r.heard(LAN, HOST, MacAddr::BROADCAST, true, Ticks(0));
        assert!(r.take_table().is_none(), "no neighbour has a group address");
        for last in 1..=3 {
            r.wanted(LAN, Addr::V4([10, 1, 0, last]), Ticks(0));
        }
        assert_eq!((r.take_table().unwrap().len(), r.refused()), (2, 1));
    }

    #[test]
    fn a_place_that_changed_hands_is_not_reached_by_an_old_next_hop() {
        let mut r = resolver(1);
        r.wanted(LAN, HOST, Ticks(0));
        let old = r.take_table().unwrap().find(LAN, HOST).unwrap();
        for now in [1_000, 2_000, 3_000] {
            asked(&mut r, now);
        }
        let other = Addr::V4([10, 1, 0, 11]);
        assert!(r.wanted(LAN, other, Ticks(3_001)).is_some(), "the failed one makes room");
        let table = r.take_table().unwrap();
        assert!(table.get(old).is_none());
        assert_eq!(table.find(LAN, other).unwrap().place(), old.place());
    }
}
