//! The pair's share in the guard: sessions from one real table to another through two streams, as the
//! sync cores and the standby's worker do it, in time that passes by hand.

use super::cases::{ground, rig};
use super::{Result, counted};
use crate::flows::{Flows, Traffic};
use crate::load::Load;
use crate::rig::{Core, Part, Rig};
use crate::subject::Subject;
use std::collections::VecDeque;
use sync::datagram::{Kind, MAX_DATAGRAM};
use sync::ids::{Incarnation, Micros, Term};
use sync::stream::{Config, Peer, Stream};

/// What of it is counted; the unit is a record, or a session that the scrubber looks at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stage {
    /// Reading, encoding, taking acknowledgements.
    Send,
    /// Decoding, handing over, acknowledging.
    Receive,
    /// The worker that owns the session.
    Store,
    /// The scrubber where sessions are made.
    ScrubActive,
    /// The scrubber where they are mirrored.
    ScrubStandby,
}

/// Sessions that are mirrored.
const SESSIONS: u32 = 6_400;
/// What a step takes.
const STEP: Micros = Micros(200);
/// Datagrams of a step, at most.
const SHARE: usize = 64;
/// More steps than any transfer needs.
const STEPS: usize = 100_000;
/// A pass of the scrubber so short that its looks are what a turn consists of.
const PASS: Micros = Micros::from_millis(40);
/// Slots beside the sessions.
const HANDLES: u32 = SESSIONS + crate::bed::SPARE;

/// Mirrors all sessions, and counts a stage of it.
pub(super) fn mirror(stage: Stage) -> Result<u64> {
    let ground = ground()?;
    let (mut load, flows) = (Load::new(&ground), Flows::new(Traffic::Tcp4));
    let rigs = [rig(&ground, SESSIONS, Part::Active)?, rig(&ground, SESSIONS, Part::Standby)?];
    let mut pair = Pair::new(rigs, stage);
    load.open(&mut pair.rigs[0], &flows, Traffic::Tcp4, SESSIONS)?;
    pair.until(|pair| pair.streams[0].proven())?;
    if pair.rigs[1].sessions() != u64::from(SESSIONS) {
        return Err(format!("{} of {SESSIONS} sessions arrived", pair.rigs[1].sessions()).into());
    }
    match stage {
        Stage::Send => Ok(pair.streams[0].status(pair.now).counters.sent.bulk.records),
        Stage::Receive | Stage::Store => Ok(pair.streams[1].status(pair.now).counters.records_received),
        Stage::ScrubActive => pair.scrub(0),
        Stage::ScrubStandby => pair.scrub(1),
    }
}

struct Pair {
    streams: [Stream; 2],
    rigs: [Rig; 2],
    /// Towards each node.
    flying: [VecDeque<(Kind, Vec<u8>)>; 2],
    now: Micros,
    stage: Stage,
    /// Where the scrubber is watched.
    scrubs: Option<usize>,
}

impl Pair {
    fn new(rigs: [Rig; 2], stage: Stage) -> Self {
        let now = Micros(1_000_000);
        let mut config = Config::default();
        if matches!(stage, Stage::ScrubActive | Stage::ScrubStandby) {
            config.scrub_pass = PASS;
        }
        let mut streams = [(); 2].map(|()| Stream::new(config, [9; 16], HANDLES, now));
        let term = Term::new(2).unwrap_or_default();
        streams[0].lead(term, now);
        streams[1].follow(term, now);
        for (at, stream) in streams.iter_mut().enumerate() {
            stream.link(true, now);
            stream.peer(Peer::Here { incarnation: Incarnation(2 - at as u64) }, now);
        }
        Self { streams, rigs, flying: Default::default(), now, stage, scrubs: None }
    }

    fn until(&mut self, done: impl Fn(&Self) -> bool) -> Result<()> {
        for _ in 0..STEPS {
            if done(self) {
                return Ok(());
            }
            self.step()?;
        }
        Err(format!("it came to a halt: {:?}", self.streams[0].status(self.now)).into())
    }

    /// The scrubber's looks at a node, over one pass.
    fn scrub(&mut self, node: usize) -> Result<u64> {
        let scrubbed = |pair: &Self| pair.streams[node].status(pair.now).counters.scrubbed;
        let before = scrubbed(self);
        self.scrubs = Some(node);
        self.until(|pair| scrubbed(pair) - before >= u64::from(HANDLES))?;
        Ok(scrubbed(self) - before)
    }

    fn step(&mut self) -> Result<()> {
        self.now = self.now.after(STEP);
        self.node(0)?;
        self.node(1)?;
        let is_counted = self.stage == Stage::Store && self.transfers();
        let [active, standby] = &mut self.rigs;
        counted_if(is_counted, || standby.firewall.turn());
        active.firewall.turn();
        Ok(())
    }

    /// Not everything has arrived: what comes afterwards is a comparison, no record's cost.
    fn transfers(&self) -> bool {
        self.rigs[1].sessions() < SESSIONS.into()
    }

    /// What came in, a turn, what goes out.
    fn node(&mut self, me: usize) -> Result<()> {
        let is_counted = match self.stage {
            Stage::Send => me == 0 && self.transfers(),
            Stage::Receive => me == 1 && self.transfers(),
            _ => false,
        };
        let scrubs = self.scrubs == Some(me);
        let (now, stream) = (self.now, &mut self.streams[me]);
        let Some(Core { changes, owners, .. }) = &mut self.rigs[me].core else {
            return Err("a node without a sync core".into());
        };
        while let Some((kind, body)) = self.flying[me].pop_front() {
            let read = counted_if(is_counted, || match kind {
                Kind::Data => stream.data(now, &body, owners),
                _ => stream.ack(now, &body, changes, owners),
            });
            read.map_err(|error| format!("{error:?}"))?;
        }
        counted_if(is_counted || scrubs, || stream.turn(now, changes, owners));
        while stream.poll_event().is_some() {}
        let mut body = [0; MAX_DATAGRAM];
        for _ in 0..SHARE {
            let sent = counted_if(is_counted, || stream.transmit(now, changes, &mut body));
            let Some((kind, len)) = sent else { break };
            self.flying[1 - me].push_back((kind, body.get(..len).unwrap_or_default().to_vec()));
        }
        Ok(())
    }
}

fn counted_if<R>(is_counted: bool, work: impl FnOnce() -> R) -> R {
    if is_counted { counted(work) } else { work() }
}
