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
use rtrb::{Consumer, Producer, RingBuffer};
use sync::datagram::{HEADER, Header, Kind, MAX_DATAGRAM, Purpose, VERSION};
use sync::ids::{Incarnation, Micros, NodeId, PairId, PathId, Term};
use sync::seal::{Opener, Root, Sealer};
use sync::stream::{Config, Event, Peer, Stream};

/// Datagrams under way in a turn, at most: what the daemon sends in one.
const SHARE: usize = 64;
/// Datagrams on the link, at most: more than may be under way.
const LINK: usize = 4096;
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
    pub fn step(
        &mut self,
        active: &mut impl Node,
        standby: &mut impl Node,
        watch: &mut impl Watch,
    ) -> Result<()> {
        let ticks = active.ticks(self.now);
        active.turn(ticks);
        let [leader, follower] = &mut self.ends;
        leader.turn(self.now, ticks, active.core()?, watch)?;
        let ticks = standby.ticks(self.now);
        follower.turn(self.now, ticks, standby.core()?, watch)?;
        // As often as there is something to store: the daemon's worker turns all the time.
        watch.see(Stage::Store, || while standby.turn(ticks) {});
        self.now = self.now.after(watch.step_took().max(LEAST_STEP));
        Ok(())
    }
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
