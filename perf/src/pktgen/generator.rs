//! The machine: which packet leaves next, and what an arrival leads to.

use super::flow::{Flow, Phase};
use super::frame::{self, Heard, Packet, STAMP};
use super::latency::{Latency, stamp};
use super::{Pace, Side};
use crate::flows::{Shuffle, Traffic, key};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use wire::ether::Link;
use wire::tcp::Control;
use wire::{craft, tcp_flags};

/// Flows in all, at most: their numbers are in 24 bits of an address.
pub const FLOWS_MAX: u32 = 1 << 24;
/// Bytes of one end under way, at most: half the window that both ends announce.
const UNDER_WAY_MAX: u32 = 32_000;
const WINDOW: u16 = 64_000;
/// After so long without progress something is sent again.
const RETRY_MS: u32 = 200;
/// So often, then the connection is given up.
const TRIES: u8 = 5;
/// Flows looked at for one packet, at most.
const LOOKS: usize = 8;

/// Frame sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sizes {
    /// All frames as long, in bytes with check sequence: 64 for the shortest.
    Fixed(u16),
    /// Seven of 64 bytes, four of 594, one of 1,518.
    Imix,
}

/// What a generator sends.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Flows; each is one connection at a time.
    pub flows: u32,
    /// What they carry, in turn.
    pub traffic: Vec<Traffic>,
    /// Frame sizes of data.
    pub sizes: Sizes,
    /// Data packets of a connection, both ends together, before it closes and the flow opens another one; 0
    /// never closes.
    pub packets_per_flow: u32,
    /// Connections begun in a second, at most; 0 is no limit.
    pub new_per_second: f64,
    /// MAC addresses at either side, by [`Side`].
    pub links: [Link; 2],
    /// The clock's rate.
    pub hz: f64,
    /// Every how many data packets one is timed; 0 is none.
    pub timed_every: u32,
}

/// What has happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Packets written.
    pub sent: u64,
    /// Bytes of them, with check sequences.
    pub sent_bytes: u64,
    /// Packets that came out of the other side.
    pub arrived: u64,
    /// Connections that were begun.
    pub begun: u64,
    /// Connections that opened.
    pub opened: u64,
    /// Connections that closed as they should.
    pub closed: u64,
    /// Packets sent again.
    pub again: u64,
    /// Connections given up.
    pub given_up: u64,
    /// Packets of connections that are over.
    pub stale: u64,
    /// Frames that are not the generator's.
    pub foreign: u64,
}

/// What a frame was that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// A packet of ours.
    Ours,
    /// Something else: neighbours, errors.
    Foreign,
}

/// The generator of both ends.
pub struct Generator {
    plan: Plan,
    flows: Vec<Flow>,
    /// Answers that are due, by side.
    due: [VecDeque<u32>; 2],
    shuffle: Shuffle,
    /// How many flows were looked at, by side.
    looked: [u32; 2],
    opening: Pace,
    untimed: u32,
    imix: usize,
    /// What has happened.
    pub counts: Counts,
    /// How long timed packets took.
    pub latency: Latency,
}

impl Generator {
    /// A generator without connections. `None` for no flow, too many, or no kind of traffic.
    pub fn new(plan: Plan) -> Option<Self> {
        if plan.flows == 0 || plan.flows > FLOWS_MAX || plan.traffic.is_empty() {
            return None;
        }
        Some(Self {
            flows: vec![Flow::NEW; plan.flows as usize],
            due: [VecDeque::new(), VecDeque::new()],
            shuffle: Shuffle::new(plan.flows),
            looked: [0, plan.flows / 2],
            // A tenth of a second's worth may begin at once.
            opening: Pace::new(plan.new_per_second, (plan.new_per_second / 10.0) as u32 + 1, plan.hz),
            untimed: 0,
            imix: 0,
            counts: Counts::default(),
            latency: Latency::new()?,
            plan,
        })
    }

    /// Flows whose connection is open.
    pub fn open(&self) -> usize {
        self.flows.iter().filter(|flow| flow.phase == Phase::Open).count()
    }

    /// From now on connections close after so many data packets.
    pub fn close_after(&mut self, packets: u32) {
        self.plan.packets_per_flow = packets;
        self.flows.iter_mut().for_each(|flow| flow.left = flow.left.min(packets));
    }

    /// The MAC addresses became known.
    pub fn set_link(&mut self, side: Side, link: Link) {
        self.plan.links[side as usize] = link;
    }

    /// Writes the next packet of a side; returns its length. `None` if nothing is to be sent now.
    pub fn next(&mut self, side: Side, now: u64, out: &mut [u8]) -> Option<usize> {
        if let Some(number) = self.due[side as usize].pop_front() {
            return self.emit(number, side, now, out);
        }
        for _ in 0..LOOKS {
            let looked = &mut self.looked[side as usize];
            let number = self.shuffle.flow(*looked);
            *looked = looked.wrapping_add(1);
            if let Some(len) = self.visit(number, side, now, out) {
                return Some(len);
            }
        }
        None
    }

    /// A frame came out of a side.
    pub fn arrived(&mut self, side: Side, now: u64, bytes: &[u8]) -> Arrival {
        let Some(heard) = frame::read(bytes, side).filter(|heard| heard.flow < self.plan.flows) else {
            self.counts.foreign += 1;
            return Arrival::Foreign;
        };
        self.counts.arrived += 1;
        if heard.stamp != 0 {
            self.latency.record(heard.stamp, now);
        }
        let traffic = self.traffic(heard.flow);
        let Some(flow) = self.flows.get(heard.flow as usize).copied() else { return Arrival::Ours };
        if key(traffic, heard.flow, flow.life).sport() != heard.port {
            self.counts.stale += 1;
            return Arrival::Ours;
        }
        let from = side.other();
        if traffic.is_tcp() {
            self.segment_arrived(&heard, flow, from, now);
        } else {
            self.datagram_arrived(heard.flow, flow, from, now);
        }
        Arrival::Ours
    }

    fn segment_arrived(&mut self, heard: &Heard, mut flow: Flow, from: Side, now: u64) {
        let tcp = &heard.desc.tcp;
        let controls = tcp.flags & (tcp_flags::SYN | tcp_flags::FIN);
        let expected = match flow.phase {
            Phase::Asked | Phase::Answering => controls == tcp_flags::SYN,
            Phase::Leaving | Phase::Following => controls == tcp_flags::FIN,
            Phase::Confirming | Phase::Left => controls == 0 && tcp.payload_len == 0,
            Phase::Closed | Phase::Open => false,
        };
        let end = craft::end_seq(&heard.desc);
        let [arrived, sent] = [flow.arrived[from as usize], flow.sent[from as usize]];
        let reach = end.wrapping_sub(arrived);
        // Only what is under way can arrive; anything else is a copy of what was here before.
        if reach > 0 && reach <= sent.wrapping_sub(arrived) {
            flow.arrived[from as usize] = end;
        }
        flow.moved = self.ms(now);
        if expected && flow.phase.sender() == Some(from) {
            self.advance(heard.flow, flow, now);
        } else {
            self.store(heard.flow, flow);
        }
    }

    fn datagram_arrived(&mut self, number: u32, mut flow: Flow, from: Side, now: u64) {
        if flow.phase == Phase::Open {
            flow.arrived[from as usize] = flow.arrived[from as usize].wrapping_add(1);
            self.store(number, flow);
        } else if flow.phase.sender() == Some(from) && flow.phase != Phase::Closed {
            self.advance(number, flow, now);
        }
    }

    /// The packet of the flow's phase has arrived.
    fn advance(&mut self, number: u32, mut flow: Flow, now: u64) {
        let is_tcp = self.traffic(number).is_tcp();
        flow.phase = match flow.phase {
            // A datagram's answer needs no confirmation.
            Phase::Answering if !is_tcp => Phase::Open,
            phase => phase.next(),
        };
        (flow.moved, flow.tries) = (self.ms(now), 0);
        match flow.phase {
            Phase::Open => {
                self.counts.opened += 1;
                // First connections end one after the other, so that later ones do not all begin at once.
                flow.left = match self.plan.packets_per_flow {
                    0 => 0,
                    packets if flow.life == 0 => 1 + number.wrapping_mul(0x9e37_79b1) % packets,
                    packets => packets,
                };
            }
            Phase::Closed => {
                self.counts.closed += 1;
                flow.life = flow.life.wrapping_add(1);
            }
            phase => {
                if let Some(sender) = phase.sender() {
                    self.due[sender as usize].push_back(number);
                }
            }
        }
        self.store(number, flow);
    }

    /// Whatever a flow has to say on a side when it is its turn.
    fn visit(&mut self, number: u32, side: Side, now: u64, out: &mut [u8]) -> Option<usize> {
        let mut flow = self.flows.get(number as usize).copied()?;
        match flow.phase {
            Phase::Open => self.data(number, flow, side, now, out),
            phase if phase.sender() != Some(side) => None,
            Phase::Closed => {
                if self.opening.take(now, 1) == 0 {
                    return None;
                }
                self.counts.begun += 1;
                flow.phase = Phase::Asked;
                flow.arrived =
                    [number.wrapping_mul(0x9e37_79b9) ^ u32::from(flow.life), number ^ 0x5bd1_e995];
                flow.sent = flow.arrived;
                self.store(number, flow);
                self.emit(number, side, now, out)
            }
            _ if self.is_overdue(&flow, now) => {
                self.counts.again += 1;
                flow.tries += 1;
                if flow.tries > TRIES {
                    self.counts.given_up += 1;
                    self.store(number, Flow { life: flow.life.wrapping_add(1), ..Flow::NEW });
                    return None;
                }
                self.store(number, flow);
                self.emit(number, side, now, out)
            }
            _ => None,
        }
    }

    /// A data packet of an open connection, or its FIN.
    fn data(&mut self, number: u32, mut flow: Flow, side: Side, now: u64, out: &mut [u8]) -> Option<usize> {
        let (traffic, endless) = (self.traffic(number), self.plan.packets_per_flow == 0);
        let is_done = flow.left == 0 && !endless;
        if !traffic.is_tcp() {
            if is_done && (flow.is_quiet() || self.is_overdue(&flow, now)) {
                self.counts.closed += 1;
                self.store(number, Flow { life: flow.life.wrapping_add(1), ..Flow::NEW });
                return None;
            }
            if is_done {
                return None;
            }
            flow.left = flow.left.saturating_sub(1);
            // Datagrams, not bytes: nothing but their arrival is waited for.
            flow.sent[side as usize] = flow.sent[side as usize].wrapping_add(1);
            flow.moved = self.ms(now);
            self.store(number, flow);
            let payload = self.payload(traffic);
            return self.write(number, side, now, (0, payload), out);
        }
        let under_way = flow.under_way(side);
        if under_way > 0 && self.is_overdue(&flow, now) {
            self.counts.again += 1;
            flow.moved = self.ms(now);
            self.store(number, flow);
            let most = self.payload(traffic).max(STAMP) as u32;
            return self.write(
                number,
                side,
                now,
                (flow.arrived[side as usize], under_way.min(most) as usize),
                out,
            );
        }
        if is_done {
            if side == Side::Lan && flow.is_quiet() {
                flow.phase = Phase::Leaving;
                self.store(number, flow);
                return self.emit(number, side, now, out);
            }
            return None;
        }
        let payload = self.payload(traffic) as u32;
        if under_way + payload > UNDER_WAY_MAX {
            return None;
        }
        let seq = flow.sent[side as usize];
        flow.sent[side as usize] = seq.wrapping_add(payload);
        (flow.left, flow.moved) = (flow.left.saturating_sub(1), self.ms(now));
        self.store(number, flow);
        self.write(number, side, now, (seq, payload as usize), out)
    }

    /// The packet of the flow's phase: everything but data.
    fn emit(&mut self, number: u32, side: Side, now: u64, out: &mut [u8]) -> Option<usize> {
        let mut flow = self.flows.get(number as usize).copied()?;
        let at = side as usize;
        flow.moved = self.ms(now);
        let seq = match flow.phase {
            // SYN and FIN take a number of their own, the same each time they are sent.
            Phase::Asked | Phase::Answering | Phase::Leaving | Phase::Following => {
                let seq = flow.arrived[at];
                flow.sent[at] = seq.wrapping_add(1);
                seq
            }
            _ => flow.sent[at],
        };
        self.store(number, flow);
        let payload = if self.traffic(number).is_tcp() { 0 } else { self.payload(self.traffic(number)) };
        self.write(number, side, now, (seq, payload), out)
    }

    fn write(
        &mut self,
        number: u32,
        side: Side,
        now: u64,
        (seq, payload): (u32, usize),
        out: &mut [u8],
    ) -> Option<usize> {
        let flow = self.flows.get(number as usize)?;
        let initiators = key(self.traffic(number), number, flow.life);
        let key = if side == Side::Lan { initiators } else { initiators.reversed() };
        let flags = match flow.phase {
            Phase::Asked => tcp_flags::SYN,
            Phase::Answering => tcp_flags::SYN | tcp_flags::ACK,
            Phase::Leaving | Phase::Following => tcp_flags::FIN | tcp_flags::ACK,
            _ if payload > 0 => tcp_flags::PSH | tcp_flags::ACK,
            _ => tcp_flags::ACK,
        };
        let ack = if flow.phase == Phase::Asked { 0 } else { flow.arrived[side.other() as usize] };
        let stamp = if self.is_timed(payload) { stamp(now) } else { 0 };
        let control = Control { seq, ack, flags, window: WINDOW };
        let link = self.plan.links[side as usize];
        let len = frame::write(out, &Packet { key: &key, link, control, payload, stamp })?;
        self.counts.sent += 1;
        self.counts.sent_bytes += len as u64 + 4;
        Some(len)
    }

    fn is_timed(&mut self, payload: usize) -> bool {
        if self.plan.timed_every == 0 || payload < STAMP {
            return false;
        }
        self.untimed += 1;
        let timed = self.untimed >= self.plan.timed_every;
        if timed {
            self.untimed = 0;
        }
        timed
    }

    /// Bytes of payload of the next data packet.
    fn payload(&mut self, traffic: Traffic) -> usize {
        const IMIX: [u16; 12] = [64, 594, 64, 64, 594, 64, 1_518, 64, 594, 64, 594, 64];
        let size = match self.plan.sizes {
            Sizes::Fixed(size) => size,
            Sizes::Imix => {
                self.imix = (self.imix + 1) % IMIX.len();
                IMIX[self.imix]
            }
        };
        usize::from(size).saturating_sub(4 + frame::headers(traffic)).max(STAMP)
    }

    fn is_overdue(&self, flow: &Flow, now: u64) -> bool {
        self.ms(now).wrapping_sub(flow.moved) > RETRY_MS
    }

    fn ms(&self, now: u64) -> u32 {
        (now as f64 * 1e3 / self.plan.hz) as u64 as u32
    }

    fn traffic(&self, number: u32) -> Traffic {
        let kinds = &self.plan.traffic;
        kinds.get(number as usize % kinds.len()).copied().unwrap_or(Traffic::Udp4)
    }

    fn store(&mut self, number: u32, flow: Flow) {
        if let Some(place) = self.flows.get_mut(number as usize) {
            *place = flow;
        }
    }
}
