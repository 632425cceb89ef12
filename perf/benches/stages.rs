//! The stages one by one, under criterion: parse, index lookup, TCP tracking, insert, expire, and the whole
//! engine over bursts. `cargo bench -p perf`; `BENCH_SESSIONS_MAX` bounds the largest table.

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use engine::table::Slot;
use engine::track::{Dir, Segment, SynOptions, tcp};
use engine::{BURST, Burst, Ticks};
use perf::bed::{Bed, BedConfig, SPARE};
use perf::flows::{Flows, Shuffle, Step, Traffic};
use perf::world::{LAN, WAN};
use std::hint::black_box;
use wire::{HeapBuf, TcpFields, tcp_flags};

const SIZES: [u32; 4] = [1_000, 100_000, 1_000_000, 10_000_000];

fn sizes() -> impl Iterator<Item = u32> {
    let max = std::env::var("BENCH_SESSIONS_MAX").ok().and_then(|max| max.parse().ok()).unwrap_or(u32::MAX);
    SIZES.into_iter().filter(move |size| *size <= max)
}

fn bed(slots: u32) -> Bed {
    match Bed::new(BedConfig { slots, rules: 1_000, replicate: false }) {
        Ok(bed) => bed,
        Err(error) => {
            eprintln!("no bed of {slots} sessions: {error}");
            std::process::exit(1)
        }
    }
}

fn parse(c: &mut Criterion) {
    let mut group = c.benchmark_group("parse");
    group.throughput(Throughput::Elements(1));
    for traffic in [Traffic::Tcp4, Traffic::Udp4, Traffic::Tcp6, Traffic::Udp6] {
        let mut frame = [0; 128];
        let len = Flows::new(traffic).write(&mut frame, 5, Step::FromInitiator).unwrap_or(0);
        let mut desc = wire::Desc::EMPTY;
        group.bench_function(traffic.name(), |b| {
            b.iter(|| wire::parse_into(&mut desc, black_box(&frame[..len]), len, false));
        });
    }
}

fn lookup(c: &mut Criterion) {
    let mut group = c.benchmark_group("lookup");
    group.throughput(Throughput::Elements(BURST as u64));
    for sessions in sizes() {
        let (mut bed, flows) = (bed(sessions), Flows::new(Traffic::Udp4));
        bed.open_sessions(&flows, Traffic::Udp4, sessions);
        let (order, mut number) = (Shuffle::new(sessions), 0_u32);
        group.bench_function(BenchmarkId::from_parameter(sessions), |b| {
            b.iter(|| {
                let shard = bed.engine.shard();
                let keys: [_; BURST] = std::array::from_fn(|n| flows.key(order.flow(number + n as u32)));
                number = number.wrapping_add(BURST as u32);
                let hashes = keys.map(|key| shard.hash(&key));
                hashes.iter().for_each(|hash| shard.prefetch_index(*hash));
                hashes.iter().for_each(|hash| _ = black_box(shard.prefetch_entry(*hash)));
                keys.iter().zip(hashes).filter(|(key, hash)| shard.find(key, *hash).is_some()).count()
            });
        });
    }
}

fn track(c: &mut Criterion) {
    let mut group = c.benchmark_group("track");
    let fields =
        |seq, ack, flags| TcpFields { seq, ack, window: 64_000, flags, header_len: 20, payload_len: 0 };
    let segment = |fields| Segment { fields, options: SynOptions::default() };
    let Ok(mut conn) = tcp::open(&segment(fields(1_000, 0, tcp_flags::SYN))) else { return };
    tcp::track(&mut conn, Dir::Responder, &segment(fields(2_000, 1_001, tcp_flags::SYN | tcp_flags::ACK)));
    tcp::track(&mut conn, Dir::Initiator, &segment(fields(1_001, 2_001, tcp_flags::ACK)));
    let (mut words, mut meta) = conn.pack();
    let ack = segment(fields(1_001, 2_001, tcp_flags::ACK));
    group.bench_function("tcp established", |b| {
        b.iter(|| tcp::track_packed(&mut words, &mut meta, Dir::Initiator, black_box(&ack)));
    });
}

fn insert_and_expire(c: &mut Criterion) {
    let mut group = c.benchmark_group("sessions");
    let (slots, flows) = (100_000, Flows::new(Traffic::Udp4));
    group.throughput(Throughput::Elements(slots.into()));
    group.sample_size(10);
    group.bench_function("insert 100k", |b| {
        b.iter_batched_ref(
            || bed(slots),
            |bed| bed.open_sessions(&flows, Traffic::Udp4, slots),
            BatchSize::PerIteration,
        );
    });
    group.bench_function("expire 100k", |b| {
        b.iter_batched_ref(
            || {
                let mut bed = bed(slots);
                bed.open_sessions(&flows, Traffic::Udp4, slots);
                bed
            },
            |bed| {
                let mut now = 200_000;
                while bed.sessions() > 0 {
                    bed.run(Ticks(now), LAN, &mut Burst::new());
                    now += 1;
                }
            },
            BatchSize::PerIteration,
        );
    });
    group.throughput(Throughput::Elements(BURST as u64));
    group.bench_function("terminate and insert again", |b| {
        let mut bed = bed(slots);
        bed.open_sessions(&flows, Traffic::Udp4, slots);
        let mut burst = Burst::new();
        let mut victim = 0;
        b.iter(|| {
            for n in 0..BURST as u32 {
                bed.engine.terminate(Slot((victim + n) % slots), Ticks(0));
            }
            bed.load(
                &mut burst,
                &flows,
                Step::FromInitiator,
                (victim..victim + BURST as u32).map(|n| n % slots),
            );
            victim = (victim + BURST as u32) % slots;
            bed.run(Ticks(0), LAN, &mut burst);
        });
    });
}

fn engine_bursts(c: &mut Criterion) {
    let mut group = c.benchmark_group("engine");
    group.throughput(Throughput::Elements(BURST as u64));
    for traffic in [Traffic::Tcp4, Traffic::Udp4, Traffic::Tcp6, Traffic::Udp6] {
        for sessions in sizes() {
            let (mut bed, flows) = (bed(sessions + SPARE), Flows::new(traffic));
            bed.open_sessions(&flows, traffic, sessions);
            let (order, mut number) = (Shuffle::new(sessions), 0_u32);
            let mut burst: Burst<HeapBuf> = Burst::new();
            group.bench_function(BenchmarkId::new(traffic.name(), sessions), |b| {
                // Only the engine's part is timed; the generator works between the bursts.
                b.iter_custom(|iterations| {
                    let mut spent = std::time::Duration::ZERO;
                    for _ in 0..iterations {
                        let (step, port) = match number & 32 {
                            0 => (Step::FromInitiator, LAN),
                            _ => (Step::FromResponder, WAN),
                        };
                        let numbers = (0..BURST as u32).map(|n| order.flow(number.wrapping_add(n)));
                        bed.load(&mut burst, &flows, step, numbers);
                        number = number.wrapping_add(BURST as u32);
                        let start = std::time::Instant::now();
                        bed.run(Ticks(1), port, &mut burst);
                        spent += start.elapsed();
                    }
                    spent
                });
            });
            if bed.sink.sent.len() != BURST {
                eprintln!("not a burst of forwarded packets: {}", bed.drops());
                std::process::exit(1)
            }
        }
    }
}

criterion_group!(benches, parse, lookup, track, insert_and_expire, engine_bursts);
criterion_main!(benches);
