//! All sessions from one table to another: real tables, real records, real seals, and memory where the sync
//! link would be.
//!
//! Both nodes live on one thread, stage by stage, and a [`Watch`] sees each stage by itself: sending (with
//! all that an acknowledgement takes), sealing, receiving (with opening and acknowledging), storing. In the
//! daemon they run on three threads of two machines, so the slowest sets the rate; the time that the
//! machines see passes as it would there. Otherwise what is paced by time, above all the scrubber, would
//! weigh as much again as there are stages.

use crate::rig::Result;
use dataplane::pair::tables::{Changes, Owners};
use engine::Ticks;
use std::collections::VecDeque;
use sync::datagram::{HEADER, Header, Kind, MAX_DATAGRAM, Purpose, VERSION};
use sync::ids::{Incarnation, Micros, NodeId, PairId, PathId, Term};
use sync::seal::{Opener, Root, Sealer};
use sync::stream::{Config, Event, Peer, Stream};

/// Datagrams under way in a turn, at most: what the daemon sends in one.
const SHARE: usize = 64;
/// What stands behind the stream's bulk of a step in the daemon: nobody is faster than this.
const LEAST_STEP: Micros = Micros(20);

/// What is looked at by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// Reading, encoding, acknowledgements, on the active node.
    Send,
    /// Sealing there.
    Seal,
    /// Everything on the standby but its workers.
    Receive,
    /// The standby's worker.
    Store,
}

/// Sees every stage of a step.
pub trait Watch {
    /// Runs a piece of a stage.
    fn see<R>(&mut self, stage: Stage, work: impl FnOnce() -> R) -> R;
    /// How long the step took that ended just now, were each thread's work done by a thread.
    fn step_took(&mut self) -> Micros;
}

/// A node whose sync core is played.
pub trait Node {
    /// The sync core's ends.
    fn core(&mut self) -> Result<(&mut Changes, &mut Owners)>;
    /// The tick of a time of the machines.
    fn ticks(&self, now: Micros) -> Ticks;
    /// A turn of its worker; false if there was nothing to do.
    fn turn(&mut self, now: Ticks) -> bool;
}

/// Two streams, their keys, and what is under way between them.
pub struct Transfer {
    /// The active node's and the standby's.
    pub streams: [Stream; 2],
    seals: [(Sealer, Opener); 2],
    /// Towards each node.
    flying: [VecDeque<Vec<u8>>; 2],
    spare: Vec<Vec<u8>>,
    /// The time of both nodes.
    pub now: Micros,
    /// What happened on the active node since somebody looked.
    pub events: Vec<Event>,
}

impl Transfer {
    /// A leader with everything to send and a follower without memory.
    pub fn new(handles: u32) -> Self {
        let now = Micros::from_secs(1);
        let root = Root::new(b"perf", b"no secret");
        let seals = |me: u8| {
            let sealer = Sealer::new(&root, NodeId(me), Purpose::Traffic, PathId(0));
            (sealer, Opener::new(&root, NodeId(1 - me), Purpose::Traffic, PathId(0)))
        };
        let stream = || Stream::new(Config::default(), [9; 16], handles, now);
        let mut streams = [stream(), stream()];
        let term = Term::new(2).unwrap_or_default();
        streams[0].lead(term, now);
        streams[1].follow(term, now);
        let mut transfer = Self {
            streams,
            seals: [seals(0), seals(1)],
            flying: Default::default(),
            spare: Vec::new(),
            now,
            events: Vec::new(),
        };
        transfer.link(true);
        for (at, stream) in transfer.streams.iter_mut().enumerate() {
            stream.peer(Peer::Here { incarnation: Incarnation(2 - at as u64) }, now);
        }
        transfer
    }

    /// The link comes or goes; what was on it is lost.
    pub fn link(&mut self, up: bool) {
        for (stream, flying) in self.streams.iter_mut().zip(&mut self.flying) {
            stream.link(up, self.now);
            self.spare.extend(flying.drain(..));
        }
    }

    /// A turn of everybody.
    pub fn step(
        &mut self,
        active: &mut impl Node,
        standby: &mut impl Node,
        watch: &mut impl Watch,
    ) -> Result<()> {
        let ticks = active.ticks(self.now);
        active.turn(ticks);
        self.node(0, ticks, active.core()?, watch)?;
        let ticks = standby.ticks(self.now);
        self.node(1, ticks, standby.core()?, watch)?;
        // As often as there is something to store: the daemon's worker turns all the time.
        watch.see(Stage::Store, || while standby.turn(ticks) {});
        self.now = self.now.after(watch.step_took().max(LEAST_STEP));
        Ok(())
    }

    /// What came in, a turn, what goes out.
    fn node(
        &mut self,
        me: usize,
        now: Ticks,
        (changes, owners): (&mut Changes, &mut Owners),
        watch: &mut impl Watch,
    ) -> Result<()> {
        changes.set_time(now);
        let stage = if me == 0 { Stage::Send } else { Stage::Receive };
        let (stream, (sealer, opener)) = (&mut self.streams[me], &mut self.seals[me]);
        while let Some(mut datagram) = self.flying[me].pop_front() {
            watch.see(stage, || -> Result<()> {
                let header = Header::read(&datagram).map_err(|error| format!("a bad header: {error:?}"))?;
                let body = opener.open(&header, &mut datagram).map_err(|error| format!("{error:?}"))?;
                let read = match header.kind {
                    Kind::Data => stream.data(self.now, body, owners),
                    _ => stream.ack(self.now, body, changes, owners),
                };
                Ok(read.map_err(|error| format!("{error:?}"))?)
            })?;
            self.spare.push(datagram);
        }
        watch.see(stage, || stream.turn(self.now, changes, owners));
        while let Some(event) = stream.poll_event() {
            if me == 0 {
                self.events.push(event);
            }
        }
        for _ in 0..SHARE {
            let mut datagram = self.spare.pop().unwrap_or_default();
            datagram.resize(MAX_DATAGRAM, 0);
            let space = datagram.get_mut(HEADER..).unwrap_or_default();
            let Some((kind, len)) = watch.see(stage, || stream.transmit(self.now, changes, space)) else {
                self.spare.push(datagram);
                break;
            };
            let header = Header {
                version: VERSION,
                kind,
                pair: PairId(1),
                sender: NodeId(me as u8),
                path: PathId(0),
                incarnation: Incarnation(1 + me as u64),
                key_id: 0,
                counter: 0,
            };
            let stage = if me == 0 { Stage::Seal } else { Stage::Receive };
            let sealed = watch.see(stage, || sealer.seal(&header, &mut datagram, len));
            datagram.truncate(sealed.ok_or("a datagram that cannot be sealed")?);
            self.flying[1 - me].push_back(datagram);
        }
        Ok(())
    }
}

/// Clocks of each stage.
#[derive(Clone, Copy, Default, Debug)]
pub struct Clocks {
    /// By [`Stage`].
    pub of: [u64; 4],
    step: [u64; 4],
    hz: f64,
}

impl Clocks {
    /// Of a processor with so many a second.
    pub fn new(hz: f64) -> Self {
        Self { hz, ..Self::default() }
    }

    /// Of one stage.
    pub fn stage(&self, stage: Stage) -> u64 {
        self.of[stage as usize]
    }
}

impl Watch for Clocks {
    #[inline(always)]
    fn see<R>(&mut self, stage: Stage, work: impl FnOnce() -> R) -> R {
        let began = dpdk::cycles();
        let result = work();
        let clocks = dpdk::cycles() - began;
        self.of[stage as usize] += clocks;
        self.step[stage as usize] += clocks;
        result
    }

    fn step_took(&mut self) -> Micros {
        let [send, seal, receive, store] = std::mem::take(&mut self.step);
        Micros(((send + seal).max(receive).max(store) as f64 / self.hz * 1e6) as u64)
    }
}
