//! Two model endpoints and a lossy, reordering, duplicating path with the firewall in its middle: nothing
//! that a correct endpoint sends may be judged invalid, and every connection ends in time-wait. The one
//! exception are segments overtaken by acknowledgements of more than a whole window: new data count as
//! lost and a FIN teaches nothing, since an end host's own check (RFC 5961 §5) discards both.
//!
//! The endpoints follow RFC 9293 §3.10.7.4 (acceptance test, window updates by WL1 and WL2), acknowledge
//! late, shift their windows at random down to zero, retransmit repacketised, probe and keep alive. They
//! count in 64-bit offsets from their initial numbers, so that wrapping is the tracker's business alone.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;
use wire::{TcpFields, tcp_flags};

use super::trace::Trace;
use crate::track::{Dir, Segment, SynOptions, TcpState, Verdict, Why};

/// xorshift64*: the model needs a stream of small decisions, not proptest's shrinking.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn roll(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    /// Uniform in `0..n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.roll() % n.max(1)
    }

    fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }
}

/// What the path does, in percent, and how far packets may overtake one another.
#[derive(Debug, Clone, Copy)]
struct Weather {
    loss: u64,
    duplicates: u64,
    reorder: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Listen,
    SynSent,
    SynReceived,
    Open,
}

#[derive(Debug)]
struct Peer {
    iss: u32,
    phase: Phase,
    una: u64,
    nxt: u64,
    edge: u64,
    wl1: u64,
    wl2: u64,
    data: u64,
    peer_iss: u32,
    rcv_nxt: u64,
    rcv_edge: u64,
    rcv_parts: BTreeMap<u64, u64>,
    peer_fin: Option<u64>,
    window_max: u64,
    offer: Option<u8>,
    scale: u8,
    peer_scale: u8,
    owes_ack: bool,
}

const SEGMENT_MAX: u64 = 1460;

impl Peer {
    fn new(dice: &mut Dice, phase: Phase) -> Peer {
        let window_max = [1, 300, 5_000, 65_535, 1 << 20][dice.below(5) as usize];
        Peer {
            // Often close to the wrap.
            iss: if dice.percent(50) { u32::MAX - dice.below(30_000) as u32 } else { dice.roll() as u32 },
            phase,
            una: 0,
            nxt: if phase == Phase::SynSent { 1 } else { 0 },
            edge: 0,
            wl1: 0,
            wl2: 0,
            data: dice.below(30_000),
            peer_iss: 0,
            rcv_nxt: 0,
            rcv_edge: 0,
            rcv_parts: BTreeMap::new(),
            peer_fin: None,
            window_max,
            offer: dice.percent(80).then(|| dice.below(15) as u8),
            scale: 0,
            peer_scale: 0,
            owes_ack: false,
        }
    }

    /// Offset of the FIN: SYN is 0, data follow from 1.
    fn fin_at(&self) -> u64 {
        1 + self.data
    }

    fn is_done(&self) -> bool {
        self.phase == Phase::Open && self.una > self.fin_at() && self.peer_fin == Some(self.rcv_nxt)
    }

    fn announce(&mut self, dice: &mut Dice, is_syn: bool) -> u16 {
        let wanted = if dice.percent(20) { 0 } else { dice.below(self.window_max + 1) };
        let scale = if is_syn { 0 } else { self.scale };
        self.rcv_edge = self.rcv_edge.max(self.rcv_nxt + wanted);
        ((self.rcv_edge - self.rcv_nxt) >> scale).min(65_535) as u16
    }

    /// A segment that carries `from..to` of this end's sequence space, FIN included if it is in there.
    fn segment(&mut self, dice: &mut Dice, from: u64, to: u64) -> Segment {
        let is_syn = from == 0;
        let has_ack = self.phase != Phase::SynSent;
        let has_fin = !is_syn && (from..to).contains(&self.fin_at());
        let payload = to.saturating_sub(from) - u64::from(is_syn) - u64::from(has_fin);
        let flags = [
            (is_syn, tcp_flags::SYN),
            (has_ack, tcp_flags::ACK),
            (has_fin, tcp_flags::FIN),
            (payload > 0, tcp_flags::PSH),
        ];
        let window = self.announce(dice, is_syn);
        self.owes_ack = false;
        let fields = TcpFields {
            seq: self.iss.wrapping_add(from as u32),
            ack: if has_ack { self.peer_iss.wrapping_add(self.rcv_nxt as u32) } else { 0 },
            window,
            flags: flags.iter().filter(|(set, _)| *set).fold(0, |all, (_, flag)| all | flag),
            header_len: 20,
            payload_len: payload as u16,
        };
        let options =
            if is_syn { SynOptions { scale: self.offer, sack: true } } else { SynOptions::default() };
        Segment { fields, options }
    }

    /// One thing that this end may do now.
    fn act(&mut self, dice: &mut Dice) -> Option<Segment> {
        match self.phase {
            Phase::Listen => return None,
            Phase::SynSent | Phase::SynReceived => return Some(self.segment(dice, 0, 1)),
            Phase::Open => {}
        }
        match dice.below(8) {
            0..=2 if self.nxt < self.fin_at() && self.nxt < self.edge => {
                let room = (self.edge - self.nxt).min(self.fin_at() - self.nxt).min(SEGMENT_MAX);
                let (from, to) = (self.nxt, self.nxt + 1 + dice.below(room));
                self.nxt = to;
                // The FIN may ride on the last data.
                if to == self.fin_at() && dice.percent(50) && to < self.edge {
                    self.nxt += 1;
                }
                Some(self.segment(dice, from, self.nxt))
            }
            3 if self.nxt == self.fin_at() => {
                self.nxt += 1;
                Some(self.segment(dice, self.nxt - 1, self.nxt))
            }
            4 if self.una < self.nxt => {
                let to = self.una + 1 + dice.below((self.nxt - self.una).min(SEGMENT_MAX));
                Some(self.segment(dice, self.una, to))
            }
            5 if self.una == self.nxt && self.nxt >= self.edge && self.nxt < self.fin_at() => {
                self.nxt += 1;
                Some(self.segment(dice, self.nxt - 1, self.nxt))
            }
            6 if self.una == self.nxt && dice.percent(20) => {
                // Keep-alive or an empty window probe.
                let mut alive = self.segment(dice, self.nxt, self.nxt);
                alive.fields.seq = alive.fields.seq.wrapping_sub(1);
                Some(alive)
            }
            7 if self.owes_ack || dice.percent(5) => Some(self.segment(dice, self.nxt, self.nxt)),
            _ => None,
        }
    }

    fn receive(&mut self, seg: &Segment, dice: &mut Dice) -> Option<Segment> {
        let fields = &seg.fields;
        let (is_syn, is_ack) = (fields.flags & tcp_flags::SYN != 0, fields.flags & tcp_flags::ACK != 0);
        match self.phase {
            Phase::Listen if is_syn && !is_ack => {
                self.meet(seg);
                self.phase = Phase::SynReceived;
                self.nxt = 1;
                Some(self.segment(dice, 0, 1))
            }
            Phase::SynSent if is_syn && is_ack && fields.ack == self.iss.wrapping_add(1) => {
                self.meet(seg);
                self.phase = Phase::Open;
                (self.una, self.edge) = (1, 1 + u64::from(fields.window));
                (self.wl1, self.wl2) = (0, 1);
                Some(self.segment(dice, self.nxt, self.nxt))
            }
            Phase::Listen | Phase::SynSent => None,
            // RFC 5961 §4: a challenge ACK, whatever its number; before the handshake's end the same SYN-ACK.
            Phase::SynReceived if is_syn => Some(self.segment(dice, 0, 1)),
            Phase::Open if is_syn => Some(self.segment(dice, self.nxt, self.nxt)),
            Phase::SynReceived | Phase::Open => {
                self.take(seg);
                None
            }
        }
    }

    fn meet(&mut self, seg: &Segment) {
        self.peer_iss = seg.fields.seq;
        self.rcv_nxt = 1;
        self.rcv_edge = self.rcv_edge.max(1);
        if let (Some(own), Some(peer)) = (self.offer, seg.options.scale) {
            (self.scale, self.peer_scale) = (own, peer);
        } else {
            self.offer = None;
        }
    }

    /// RFC 9293 §3.10.7.4: acceptance, ACK, window, data, FIN.
    fn take(&mut self, seg: &Segment) {
        let fields = &seg.fields;
        let expected = self.peer_iss.wrapping_add(self.rcv_nxt as u32);
        let seq = self.rcv_nxt.wrapping_add_signed(i64::from(fields.seq.wrapping_sub(expected) as i32));
        let has_fin = fields.flags & tcp_flags::FIN != 0;
        let end = seq + u64::from(fields.payload_len) + u64::from(has_fin);
        let is_empty = end == seq;
        let fits = if is_empty {
            seq == self.rcv_nxt || (self.rcv_nxt..self.rcv_edge).contains(&seq)
        } else {
            seq < self.rcv_edge && end > self.rcv_nxt
        };
        if !fits {
            self.owes_ack = true;
            return;
        }
        let ahead = i64::from(fields.ack.wrapping_sub(self.iss.wrapping_add(self.una as u32)) as i32);
        let ack = self.una.wrapping_add_signed(ahead);
        if self.phase == Phase::SynReceived {
            if ack != 1 {
                return;
            }
            self.phase = Phase::Open;
        }
        assert!(ack <= self.nxt, "the path does not invent acknowledgements");
        if ahead >= 0 {
            self.una = ack;
            if self.wl1 < seq || (self.wl1 == seq && self.wl2 <= ack) {
                (self.wl1, self.wl2) = (seq, ack);
                self.edge = ack + (u64::from(fields.window) << self.peer_scale);
            }
        }
        if is_empty {
            return;
        }
        self.owes_ack = true;
        if has_fin {
            self.peer_fin = Some(end);
        }
        // A model of infinite memory: what reaches beyond the window is kept too.
        let longest = self.rcv_parts.entry(seq).or_insert(end);
        *longest = end.max(*longest);
        while let Some((&from, &to)) = self.rcv_parts.range(..=self.rcv_nxt).next_back() {
            self.rcv_parts.remove(&from);
            self.rcv_nxt = self.rcv_nxt.max(to);
        }
        self.rcv_edge = self.rcv_edge.max(self.rcv_nxt);
    }
}

/// One leg of the path: the next packet is one of the first few.
#[derive(Default)]
struct Leg(VecDeque<Segment>);

impl Leg {
    fn put(&mut self, seg: Segment, weather: Weather, dice: &mut Dice) {
        if dice.percent(weather.loss) {
            return;
        }
        self.0.push_back(seg);
        if dice.percent(weather.duplicates) {
            self.0.push_back(seg);
        }
    }

    fn get(&mut self, weather: Weather, dice: &mut Dice) -> Option<Segment> {
        let reach = (self.0.len() as u64).min(1 + weather.reorder);
        self.0.remove(dice.below(reach) as usize)
    }
}

/// How often each verdict was given.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    pub accepted: u32,
    pub old_duplicates: u32,
    pub syn_on_live: u32,
    pub overtaken: u32,
    pub old_fins: u32,
}

/// The whole arrangement.
pub struct Network {
    dice: Dice,
    weather: Weather,
    peers: [Peer; 2],
    before: [Leg; 2],
    behind: [Leg; 2],
    pub firewall: Trace,
    pub seen: Seen,
}

impl Network {
    pub fn new(seed: u64) -> Network {
        let mut dice = Dice::new(seed);
        let weather = Weather {
            loss: dice.below(20),
            duplicates: dice.below(20),
            reorder: dice.below(8) * dice.below(2),
        };
        let mut peers = [Peer::new(&mut dice, Phase::SynSent), Peer::new(&mut dice, Phase::Listen)];
        // A window that rounds to nothing moves a byte a probe: bounded work all the same.
        let bounds = peers.each_ref().map(|peer| 50 + 100 * (peer.window_max >> peer.offer.unwrap_or(0)));
        peers[0].data = peers[0].data.min(bounds[1]);
        peers[1].data = peers[1].data.min(bounds[0]);
        let (before, behind) = Default::default();
        Network { dice, weather, peers, before, behind, firewall: Trace::new(), seen: Seen::default() }
    }

    fn is_done(&self) -> bool {
        self.peers.iter().all(Peer::is_done)
    }

    /// Moves one packet or lets one endpoint do something.
    pub fn step(&mut self) {
        let dir = if self.dice.percent(50) { Dir::Initiator } else { Dir::Responder };
        let from = dir.index();
        match self.dice.below(3) {
            0 if self.before[from].0.len() < 16 && self.behind[from].0.len() < 16 => {
                if let Some(seg) = self.peers[from].act(&mut self.dice) {
                    self.before[from].put(seg, self.weather, &mut self.dice);
                }
            }
            0 | 1 => {
                if let Some(seg) = self.before[from].get(self.weather, &mut self.dice) {
                    self.filter(dir, seg);
                }
            }
            _ => {
                let Some(seg) = self.behind[from].get(self.weather, &mut self.dice) else { return };
                let to = dir.other().index();
                if let Some(answer) = self.peers[to].receive(&seg, &mut self.dice) {
                    self.before[to].put(answer, self.weather, &mut self.dice);
                }
            }
        }
    }

    fn filter(&mut self, dir: Dir, seg: Segment) {
        let before = self.firewall.conn;
        match self.firewall.judge(dir, &seg) {
            Ok(Verdict::Accept { .. }) => self.seen.accepted += 1,
            Ok(Verdict::PassUnlearned(Why::OldDuplicate)) => {
                self.seen.old_duplicates += 1;
                self.seen.old_fins += u32::from(seg.fields.flags & tcp_flags::FIN != 0);
            }
            Ok(Verdict::PassUnlearned(Why::SynOnLive)) => self.seen.syn_on_live += 1,
            Ok(Verdict::Invalid(Why::AckTooOld)) if self.weather.reorder > 0 => {
                self.seen.overtaken += 1;
                return;
            }
            surprise => {
                panic!("{dir:?} {seg:?} was judged {surprise:?}\non {before:#?}\nbetween {:#?}", self.peers)
            }
        }
        self.behind[dir.index()].put(seg, self.weather, &mut self.dice);
    }

    /// Until both ends have closed; panics if they never do.
    fn run(&mut self) -> Seen {
        for _ in 0..2_000_000 {
            if self.is_done() {
                return self.seen;
            }
            self.step();
        }
        panic!("stuck in {:?}: {:#?}", self.firewall.conn, self.peers);
    }

    /// Until the firewall sees the connection established with some data under way.
    pub fn run_into_the_middle(&mut self, steps: u32) {
        for _ in 0..2_000_000 {
            self.step();
            if self.firewall.conn.is_some_and(|conn| conn.state == TcpState::Established) {
                break;
            }
        }
        for _ in 0..steps {
            self.step();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_a_correct_endpoint_sends_passes(seed in any::<u64>()) {
        let mut network = Network::new(seed);
        let seen = network.run();
        if network.weather.reorder == 0 {
            prop_assert_eq!(seen.overtaken, 0);
        }
        if network.weather.reorder == 0 || seen.old_fins == 0 {
            prop_assert_eq!(network.firewall.now().state, TcpState::TimeWait);
        }
    }
}

#[test]
fn the_model_reaches_what_it_is_for() {
    let mut total = Seen::default();
    for seed in 0..100 {
        let seen = Network::new(seed).run();
        total.accepted += seen.accepted;
        total.old_duplicates += seen.old_duplicates;
        total.syn_on_live += seen.syn_on_live;
        total.overtaken += seen.overtaken;
    }
    assert!(total.accepted > 10_000, "{total:?}");
    assert!(total.old_duplicates > 100, "{total:?}");
    assert!(total.syn_on_live > 10, "{total:?}");
    assert!(total.overtaken < total.accepted / 2_000, "{total:?}");
}
