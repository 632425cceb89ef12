//! All sessions from one table to another: real tables, real records, real seals, and memory where the sync
//! link would be.
//!
//! Both nodes live on one thread, stage by stage, and a [`Watch`] sees each stage by itself: sending (with
//! all that an acknowledgement takes), sealing, receiving (with opening and acknowledging), storing. In the
//! daemon they run on three threads of two machines, so the slowest sets the rate; the time that the
//! machines see passes as it would there. Otherwise what is paced by time, above all the scrubber, would
//! weigh as much again as there are stages.

use crate::quiet::{Probe, preemptions, thread_id};
use crate::rig::{Result, Rig};
use dataplane::pair::tables::{Changes, Owners};
use engine::Ticks;
use rtrb::{Consumer, Producer, RingBuffer};
use std::time::{Duration, Instant};
use sync::datagram::{HEADER, Header, Kind, MAX_DATAGRAM, Purpose, VERSION};
use sync::ids::{Incarnation, Micros, NodeId, PairId, PathId, Term};
use sync::seal::{Opener, Root, Sealer};
use sync::stream::{Config, Event, Peer, Stream};

/// Datagrams under way in a turn, at most: what the daemon sends in one.
const SHARE: usize = 64;
/// Datagrams on the link, at most: more than may be under way.
const LINK: usize = 4096;
/// Whatever takes longer has come to a halt.
pub const PATIENCE: Duration = Duration::from_secs(120);
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

/// A datagram on its way, or an empty one on its way back.
struct Datagram {
    bytes: Box<[u8; MAX_DATAGRAM]>,
    len: usize,
}

/// One node's stream and keys, and its end of the link. Ends may live on threads of their own.
pub struct End {
    /// The machine.
    pub stream: Stream,
    me: u8,
    sealer: Sealer,
    opener: Opener,
    inbox: Consumer<Datagram>,
    outbox: Producer<Datagram>,
    /// Empty ones from the other end, and to it.
    empties: Consumer<Datagram>,
    back: Producer<Datagram>,
    spare: Option<Datagram>,
    /// What happened since somebody looked.
    pub events: Vec<Event>,
}

impl End {
    /// What came in, a turn, what goes out. True if anything did.
    pub fn turn(
        &mut self,
        now: Micros,
        ticks: Ticks,
        (changes, owners): (&mut Changes, &mut Owners),
        watch: &mut impl Watch,
    ) -> Result<bool> {
        changes.set_time(ticks);
        let Self { stream, me, sealer, opener, inbox, outbox, empties, back, spare, events } = self;
        let stage = if *me == 0 { Stage::Send } else { Stage::Receive };
        let mut moved = false;
        while let Ok(mut datagram) = inbox.pop() {
            moved = true;
            watch.see(stage, || -> Result<()> {
                let bytes = datagram.bytes.get_mut(..datagram.len).unwrap_or_default();
                let header = Header::read(bytes).map_err(|error| format!("a bad header: {error:?}"))?;
                let body = opener.open(&header, bytes).map_err(|error| format!("{error:?}"))?;
                let read = match header.kind {
                    Kind::Data => stream.data(now, body, owners),
                    _ => stream.ack(now, body, changes, owners),
                };
                Ok(read.map_err(|error| format!("{error:?}"))?)
            })?;
            // There is room for all that were ever sent.
            let _ = back.push(datagram);
        }
        watch.see(stage, || stream.turn(now, changes, owners));
        while let Some(event) = stream.poll_event() {
            events.push(event);
        }
        for _ in 0..SHARE {
            let empty = || Datagram { bytes: Box::new([0; MAX_DATAGRAM]), len: 0 };
            let mut datagram = spare.take().or_else(|| empties.pop().ok()).unwrap_or_else(empty);
            let space = datagram.bytes.get_mut(HEADER..).unwrap_or_default();
            let Some((kind, len)) = watch.see(stage, || stream.transmit(now, changes, space)) else {
                *spare = Some(datagram);
                break;
            };
            moved = true;
            let header = Header {
                version: VERSION,
                kind,
                pair: PairId(1),
                sender: NodeId(*me),
                path: PathId(0),
                incarnation: Incarnation(1 + u64::from(*me)),
                key_id: 0,
                counter: 0,
            };
            let stage = if *me == 0 { Stage::Seal } else { Stage::Receive };
            let sealed = watch.see(stage, || sealer.seal(&header, &mut datagram.bytes[..], len));
            datagram.len = sealed.ok_or("a datagram that cannot be sealed")?;
            // A full link loses datagrams, as links do.
            let _ = outbox.push(datagram);
        }
        Ok(moved)
    }
}

/// The two ends and their time.
pub struct Transfer {
    /// The active node's and the standby's.
    pub ends: [End; 2],
    /// The time of both nodes.
    pub now: Micros,
}

impl Transfer {
    /// A leader with everything to send and a follower without memory.
    pub fn new(handles: u32) -> Self {
        let now = Micros::from_secs(1);
        let root = Root::new(b"perf", b"no secret");
        let [there, back, empties_there, empties_back] = [(); 4].map(|()| RingBuffer::new(LINK));
        let end = |me: u8, (outbox, inbox), (back, empties)| End {
            stream: Stream::new(Config::default(), [9; 16], handles, now),
            me,
            sealer: Sealer::new(&root, NodeId(me), Purpose::Traffic, PathId(0)),
            opener: Opener::new(&root, NodeId(1 - me), Purpose::Traffic, PathId(0)),
            inbox,
            outbox,
            empties,
            back,
            spare: None,
            events: Vec::new(),
        };
        let mut ends = [
            end(0, (there.0, back.1), (empties_back.0, empties_there.1)),
            end(1, (back.0, there.1), (empties_there.0, empties_back.1)),
        ];
        let term = Term::new(2).unwrap_or_default();
        ends[0].stream.lead(term, now);
        ends[1].stream.follow(term, now);
        let mut transfer = Self { ends, now };
        transfer.link(true);
        for (at, end) in transfer.ends.iter_mut().enumerate() {
            end.stream.peer(Peer::Here { incarnation: Incarnation(2 - at as u64) }, now);
        }
        transfer
    }

    /// The link comes or goes; what was on it is lost.
    pub fn link(&mut self, up: bool) {
        for end in &mut self.ends {
            end.stream.link(up, self.now);
            while end.inbox.pop().is_ok() {}
        }
    }

    /// A turn of everybody.
    pub fn step(&mut self, active: &mut Rig, standby: &mut Rig, watch: &mut impl Watch) -> Result<()> {
        let ticks = active.ticks();
        active.turn();
        let [leader, follower] = &mut self.ends;
        leader.turn(self.now, ticks, active.core()?, watch)?;
        let ticks = standby.ticks();
        follower.turn(self.now, ticks, standby.core()?, watch)?;
        // As often as there is something to store: the daemon's worker turns all the time.
        watch.see(Stage::Store, || while standby.turn() {});
        self.now = self.now.after(watch.step_took().max(LEAST_STEP));
        Ok(())
    }

    /// Turns until the digests are equal; `each` learns what every step took.
    pub fn prove(
        &mut self,
        active: &mut Rig,
        standby: &mut Rig,
        hz: f64,
        mut each: impl FnMut(Step),
    ) -> Result<()> {
        let (began, mut watch, mut probe) = (Instant::now(), Clocks::new(hz), Probe::default());
        let mut preempted = preemptions(thread_id());
        while !self.ends[0].stream.proven() {
            let (now, clocks, records) = (self.now, watch.of, self.records(standby));
            self.step(active, standby, &mut watch)?;
            let before = std::mem::replace(&mut preempted, preemptions(thread_id()));
            let moment = match probe.quiet_since() {
                _ if before != preempted => Moment::Interrupted,
                true => Moment::Quiet,
                false => Moment::Shared,
            };
            let since = |then: [u64; 4], now: [u64; 4]| std::array::from_fn(|stage| now[stage] - then[stage]);
            let (clocks, records) = (since(clocks, watch.of), since(records, self.records(standby)));
            each(Step { took: self.now.since(now), clocks, records, moment });
            if began.elapsed() > PATIENCE {
                return Err(format!("no proof: {:?}", self.ends[0].stream.status(self.now)).into());
            }
        }
        Ok(())
    }

    /// By [`Stage`].
    fn records(&self, standby: &Rig) -> [u64; 4] {
        let [sender, receiver] = &self.ends;
        let sent = sender.stream.status(self.now).counters.sent.bulk.records;
        [sent, sent, receiver.stream.status(self.now).counters.records_received, standby.sessions()]
    }
}

/// A step of [`Transfer::prove`].
pub struct Step {
    /// How long it took, were each thread's work done by a thread.
    pub took: Micros,
    /// Clocks of each [`Stage`].
    pub clocks: [u64; 4],
    /// Records that went through each.
    pub records: [u64; 4],
    /// Who else used the processor.
    pub moment: Moment,
}

/// Who else used the processor for a while.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Moment {
    /// Nobody.
    Quiet,
    /// A stranger on the other hyperthread.
    Shared,
    /// The kernel let another thread run.
    Interrupted,
}

/// Nobody looks.
pub struct Unwatched;

impl Watch for Unwatched {
    fn see<R>(&mut self, _: Stage, work: impl FnOnce() -> R) -> R {
        work()
    }

    fn step_took(&mut self) -> Micros {
        LEAST_STEP
    }
}

/// Clocks of each stage.
#[derive(Default)]
struct Clocks {
    of: [u64; 4],
    step: [u64; 4],
    hz: f64,
}

impl Clocks {
    fn new(hz: f64) -> Self {
        Self { hz, ..Self::default() }
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
