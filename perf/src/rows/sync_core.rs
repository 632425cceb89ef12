//! What the sync core costs on either node, in one thread: real tables, real records, real seals, and
//! memory where the sync link would be.
//!
//! Each stage is timed by itself: reading and encoding, sealing, opening and decoding with all that an
//! acknowledgement takes, and the worker's storing. In the daemon they run on three threads of two
//! machines, so the slowest of them sets the rate.

use super::{Effort, Measured};
use crate::bed::SPARE;
use crate::figure::Figure;
use crate::flows::{Flows, Traffic};
use crate::load::Load;
use crate::rig::{Core, Ground, Part, Result, Rig, RigConfig};
use crate::subject::Subject;
use std::collections::VecDeque;
use std::time::{Duration, Instant};
use sync::datagram::{HEADER, Header, Kind, MAX_DATAGRAM, Purpose, TAG, VERSION};
use sync::ids::{Incarnation, Micros, NodeId, PairId, PathId, Term};
use sync::seal::{Opener, Root, Sealer};
use sync::stream::{Config, Peer, Stream};

/// Bytes of IPv4 and UDP in front of a datagram.
const IP_UDP: u64 = 28;
/// Datagrams under way in a turn, at most: what the daemon sends in one.
const SHARE: usize = 64;
/// A transfer that takes longer has come to a halt.
const PATIENCE: Duration = Duration::from_secs(120);

/// Clocks of each stage, and the records that went through it.
#[derive(Clone, Copy, Default)]
struct Clocks {
    /// Reading, encoding, acknowledgements, on the sender.
    send: u64,
    seal: u64,
    sent: u64,
    /// Opening and decoding, outcomes, acknowledgements, on the receiver.
    receive: u64,
    received: u64,
    /// The receiver's worker.
    store: u64,
    stored: u64,
}

impl Clocks {
    /// What has come on top of `earlier`.
    fn since(self, earlier: Clocks) -> Clocks {
        Clocks {
            send: self.send - earlier.send,
            seal: self.seal - earlier.seal,
            sent: self.sent - earlier.sent,
            receive: self.receive - earlier.receive,
            received: self.received - earlier.received,
            store: self.store - earlier.store,
            stored: self.stored - earlier.stored,
        }
    }

    fn add(&mut self, more: Clocks) {
        self.send += more.send;
        self.seal += more.seal;
        self.sent += more.sent;
        self.receive += more.receive;
        self.received += more.received;
        self.store += more.store;
        self.stored += more.stored;
    }
}

/// A bulk of all sessions from one table to another, so many times; the sender's and the receiver's costs
/// for each record.
pub fn sync_core(ground: &Ground, traffic: Traffic, sessions: u32, effort: Effort) -> Result<Vec<Measured>> {
    let (mut load, flows) = (Load::new(ground), Flows::new(traffic));
    let rig = |part| Rig::new(ground, RigConfig { slots: sessions + SPARE, rules: 10, part });
    let (mut active, mut stages, mut bytes) = (rig(Part::Active)?, Vec::new(), 0.0);
    load.open(&mut active, &flows, traffic, sessions)?;
    // Each run fills a table of its own, which the process keeps: few runs.
    for _ in 0..effort.runs.div_ceil(3) {
        let mut standby = rig(Part::Standby)?;
        let mut transfer = Transfer::new(&active, sessions + SPARE);
        transfer.run(&mut active, &mut standby)?;
        if standby.sessions() != u64::from(sessions) {
            return Err(format!("{} of {sessions} sessions arrived", standby.sessions()).into());
        }
        let sent = transfer.streams[0].status(transfer.now).counters;
        let wire = sent.bytes_sent + sent.datagrams_sent * ((HEADER + TAG) as u64 + IP_UDP);
        // What a busy machine makes the sender take for lost is sent again, and counts on both sides.
        let kinds = [sent.sent.bulk, sent.sent.lost, sent.sent.new, sent.sent.refresh, sent.sent.repair];
        bytes = wire as f64 / kinds.iter().map(|kind| kind.records).sum::<u64>() as f64;
        stages.push(transfer.undisturbed);
    }
    let per_record = |stage: fn(&Clocks) -> (u64, u64)| {
        let each = stages.iter().map(stage).map(|(clocks, records)| clocks as f64 / records as f64);
        Figure::of(each.collect())
    };
    let row = |name: &str, unit: &str, value| Measured {
        name: format!("sync, {}: {name}", traffic.name()),
        sessions: sessions.into(),
        unit: unit.into(),
        value,
        ceiling: None,
        page_bytes: active.page_bytes,
        hz: ground.hz(),
    };
    let (out, into) = (per_record(|c| (c.send + c.seal, c.sent)), per_record(|c| (c.receive, c.received)));
    Ok(vec![
        row("read and encode", "clocks/record", per_record(|c| (c.send, c.sent))),
        row("seal", "clocks/record", per_record(|c| (c.seal, c.sent))),
        row("open, decode, acknowledge", "clocks/record", into),
        row("store, by the worker", "clocks/record", per_record(|c| (c.store, c.stored))),
        row("sent", "records/s", out.rate(ground.hz())),
        row("received", "records/s", into.rate(ground.hz())),
        row("on the wire", "bytes/record", Figure { min: bytes, median: bytes, max: bytes }),
    ])
}

/// Two streams, their keys, and what is under way between them.
struct Transfer {
    streams: [Stream; 2],
    seals: [(Sealer, Opener); 2],
    /// Towards each node.
    flying: [VecDeque<Vec<u8>>; 2],
    spare: Vec<Vec<u8>>,
    clocks: Clocks,
    /// Of the steps in which the kernel let no other thread run in our place.
    undisturbed: Clocks,
    now: Micros,
}

/// How often the kernel has taken the processor from this thread.
fn preemptions() -> u64 {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("nonvoluntary_ctxt_switches:"));
    line.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
}

impl Transfer {
    fn new(rig: &Rig, handles: u32) -> Self {
        let now = rig.clock.micros(dpdk::cycles());
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
        for (at, stream) in streams.iter_mut().enumerate() {
            stream.link(true, now);
            stream.peer(Peer::Here { incarnation: Incarnation(2 - at as u64) }, now);
        }
        Self {
            streams,
            seals: [seals(0), seals(1)],
            flying: Default::default(),
            spare: Vec::new(),
            clocks: Clocks::default(),
            undisturbed: Clocks::default(),
            now,
        }
    }

    /// Until the digests are equal.
    fn run(&mut self, active: &mut Rig, standby: &mut Rig) -> Result<()> {
        let began = Instant::now();
        while !self.streams[0].proven() {
            let (before, preempted) = (self.clocks, preemptions());
            self.step(active, standby)?;
            if preemptions() == preempted {
                self.undisturbed.add(self.clocks.since(before));
            }
            if began.elapsed() > PATIENCE {
                return Err(format!("no proof: {:?}", self.streams[0].status(self.now)).into());
            }
        }
        Ok(())
    }

    fn step(&mut self, active: &mut Rig, standby: &mut Rig) -> Result<()> {
        let cycles = dpdk::cycles();
        self.now = active.clock.micros(cycles);
        let lead = active.core.as_mut().ok_or("the active node has no sync core")?;
        lead.changes.set_time(active.clock.ticks(cycles));
        let send = self.node(0, lead)?;
        self.clocks.send += send;

        let follow = standby.core.as_mut().ok_or("the standby has no sync core")?;
        follow.changes.set_time(standby.clock.ticks(cycles));
        let receive = self.node(1, follow)?;
        self.clocks.receive += receive;

        let meter = standby.firewall.meter();
        let before = meter.clocks();
        // As often as there is something to store: the daemon's worker turns all the time.
        for _ in 0..8 {
            standby.firewall.turn();
        }
        self.clocks.store += meter.clocks() - before;
        let [sender, receiver] = &self.streams;
        self.clocks.sent = sender.status(self.now).counters.sent.bulk.records;
        let received = receiver.status(self.now).counters;
        (self.clocks.received, self.clocks.stored) = (received.records_received, standby.sessions());
        active.firewall.turn();
        Ok(())
    }

    /// What came in, a turn, what goes out. Returns the clocks of all but sealing on the sender, and of
    /// everything on the receiver.
    fn node(&mut self, me: usize, core: &mut Core) -> Result<u64> {
        let Core { changes, owners, .. } = core;
        let (stream, (sealer, opener)) = (&mut self.streams[me], &mut self.seals[me]);
        let mut clocks = 0;
        while let Some(mut datagram) = self.flying[me].pop_front() {
            let began = dpdk::cycles();
            let header = Header::read(&datagram).map_err(|error| format!("a bad header: {error:?}"))?;
            let body = opener.open(&header, &mut datagram).map_err(|error| format!("{error:?}"))?;
            let read = match header.kind {
                Kind::Data => stream.data(self.now, body, owners),
                _ => stream.ack(self.now, body, changes, owners),
            };
            clocks += dpdk::cycles() - began;
            read.map_err(|error| format!("{error:?}"))?;
            self.spare.push(datagram);
        }
        let began = dpdk::cycles();
        stream.turn(self.now, changes, owners);
        clocks += dpdk::cycles() - began;
        while stream.poll_event().is_some() {}
        for _ in 0..SHARE {
            let mut datagram = self.spare.pop().unwrap_or_default();
            datagram.resize(MAX_DATAGRAM, 0);
            let began = dpdk::cycles();
            let space = datagram.get_mut(HEADER..).unwrap_or_default();
            let Some((kind, len)) = stream.transmit(self.now, changes, space) else {
                clocks += dpdk::cycles() - began;
                self.spare.push(datagram);
                break;
            };
            let between = dpdk::cycles();
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
            let len = sealer.seal(&header, &mut datagram, len).ok_or("a datagram that cannot be sealed")?;
            let end = dpdk::cycles();
            if me == 0 {
                clocks += between - began;
                self.clocks.seal += end - between;
            } else {
                clocks += end - began;
            }
            datagram.truncate(len);
            self.flying[1 - me].push_back(datagram);
        }
        Ok(clocks)
    }
}
