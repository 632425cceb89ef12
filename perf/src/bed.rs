//! A firewall without ports: an engine with one shard, a policy, and neighbours that are there.

use crate::flows::{Flows, Kind, Step, Traffic};
use crate::world;
use dataplane::config::HugePages;
use engine::counters::{Counters, DropReason};
use engine::policy::COUNTER_SLOTS;
use engine::table::{HashKey, Memory, Shard, ShardConfig};
use engine::track::Timeouts;
use engine::{Burst, Engine, EngineConfig, PacketIo, PortId, Snapshot, Ticks, WorkerId};
use std::sync::Arc;
use wire::{HeapBuf, PacketBuf};

/// Slots that handshakes under way must not fill.
pub const SPARE: u32 = 96;

/// What a bed is for.
#[derive(Clone, Copy, Debug)]
pub struct BedConfig {
    /// Slots of the table.
    pub slots: u32,
    /// Rules of the policy; the last one admits the traffic.
    pub rules: usize,
    /// Whether changes go to a (drained) ring as with a partner.
    pub replicate: bool,
}

/// The sink: what the engine sends goes back to the generator's pool.
#[derive(Default)]
pub struct Sink {
    /// Frames that came out, until somebody takes them back.
    pub sent: Vec<HeapBuf>,
}

impl PacketIo for Sink {
    type Buf = HeapBuf;

    fn alloc(&mut self) -> Option<HeapBuf> {
        Some(HeapBuf::new())
    }

    #[inline(always)]
    fn send(&mut self, _: PortId, frame: HeapBuf) {
        self.sent.push(frame);
    }

    fn hand_over(&mut self, _: WorkerId, _: PortId, _: HeapBuf) -> bool {
        false
    }
}

/// The firewall, its surroundings, and the pool of frames.
pub struct Bed {
    /// The engine under test.
    pub engine: Engine<HeapBuf>,
    /// Its counters.
    pub counters: Arc<Counters>,
    /// What it knows.
    pub snapshot: Snapshot,
    /// Where its frames go.
    pub sink: Sink,
    /// Bytes of the pages that its table lies in.
    pub page_bytes: u64,
    dirty: Option<(engine::table::dirty::DirtyFlags<'static>, rtrb::Consumer<u32>)>,
    pool: Vec<HeapBuf>,
    _notices: rtrb::Consumer<engine::Notice>,
}

impl Bed {
    /// A bed with an empty table.
    pub fn new(config: BedConfig) -> Result<Bed, Box<dyn std::error::Error>> {
        let region = dataplane::memory::map(Memory::bytes(config.slots), HugePages::Auto)?;
        let memory = Memory::carve(region.bytes, config.slots).ok_or("the region does not fit")?;
        let shard_config = ShardConfig {
            half_open_max: config.slots,
            hash_key: HashKey::new([0x1357_9bdf_0246_8ace, 0xfdb9_7531_eca8_6420, 0x0123_4567_89ab_cdef]),
            term: 1,
        };
        let mut shard = Shard::new(memory, shard_config, Ticks(0));
        let dirty = config.replicate.then(|| shard.track_changes());
        let counters = Arc::new(Counters::new(COUNTER_SLOTS));
        let (tx, notices) = rtrb::RingBuffer::new(1_024);
        let engine_config =
            EngineConfig { worker: WorkerId(0), counters: counters.clone(), notices: tx, pending_max: 256 };
        Ok(Bed {
            engine: Engine::new(engine_config, shard),
            counters,
            snapshot: world::snapshot(config.rules, Timeouts::default())?,
            sink: Sink { sent: Vec::with_capacity(64) },
            page_bytes: region.page_bytes,
            dirty,
            pool: (0..512).map(|_| HeapBuf::new()).collect(),
            _notices: notices,
        })
    }

    /// Fills a burst with the flows' packets at this step.
    pub fn load(
        &mut self,
        burst: &mut Burst<HeapBuf>,
        flows: &Flows,
        step: Step,
        numbers: impl Iterator<Item = u32>,
    ) {
        self.pool.append(&mut self.sink.sent);
        for flow in numbers.take(burst.remaining_capacity()) {
            let mut frame = self.pool.pop().unwrap_or_default();
            frame.set_len(128);
            if let Some(len) = flows.write(frame.bytes_mut(), flow, step) {
                frame.set_len(len);
            }
            burst.push(frame);
        }
    }

    /// Takes the burst through the engine.
    #[inline(always)]
    pub fn run(&mut self, now: Ticks, ingress: PortId, burst: &mut Burst<HeapBuf>) {
        self.engine.process(now, &self.snapshot, ingress, burst, &mut self.sink);
        self.engine.housekeep(now, &self.snapshot, &mut self.sink);
        self.engine.tell_changes();
    }

    /// What a sync core would do with the marks: pop and clear.
    pub fn drain_marks(&mut self) -> usize {
        let Some((flags, ring)) = &mut self.dirty else { return 0 };
        let mut drained = 0;
        while let Ok(slot) = ring.pop() {
            flags.take(slot);
            drained += 1;
        }
        drained
    }

    /// Opens `count` sessions through the engine, handshakes and all.
    pub fn open_sessions(&mut self, flows: &Flows, traffic: Traffic, count: u32) {
        let mut burst = Burst::new();
        for first in (0..count).step_by(engine::BURST) {
            for kind in Kind::opening(traffic) {
                let last = count.min(first + engine::BURST as u32);
                self.load(&mut burst, flows, kind.step, first..last);
                self.run(Ticks(0), kind.port, &mut burst);
            }
            self.drain_marks();
        }
    }

    /// What was dropped, by reason, for error messages.
    pub fn drops(&self) -> String {
        drops(&self.counters)
    }

    /// Sessions in the table.
    pub fn sessions(&self) -> u32 {
        self.engine.shard().population().in_use.iter().sum()
    }
}

/// What was dropped, by reason.
pub fn drops(counters: &Counters) -> String {
    let reasons = DropReason::all().filter(|reason| counters.drops(*reason) > 0);
    reasons
        .map(|reason| format!("{} {}", counters.drops(reason), reason.name()))
        .collect::<Vec<_>>()
        .join(", ")
}
