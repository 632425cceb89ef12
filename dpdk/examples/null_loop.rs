//! What a packet costs in this crate and the null driver alone: receive a burst, read and write each
//! packet's first line, transmit it. The floor under everything that a worker does.
//!
//! `cargo run --release -p dpdk --example null_loop [-- never]` (`never`: without huge pages)

use std::error::Error;

use dpdk::{Burst, Eal, EalConfig, HugePages, LcoreGuard, Mempool, MempoolConfig, Port, PortConfig};
use dpdk::{cycles, tsc_hz};
use wire::PacketBuf;

/// Short enough that most rounds are not interrupted.
const BURSTS: u32 = 1_000;
const ROUNDS: usize = 1_001;

fn main() -> Result<(), Box<dyn Error>> {
    let huge_pages = match std::env::args().nth(1).as_deref() {
        Some("never") => HugePages::Never,
        _ => HugePages::Auto,
    };
    let eal = Eal::init(&EalConfig { huge_pages, memory_mb: 64, ..EalConfig::default() })?;
    for warning in eal.warnings() {
        eprintln!("warning: {warning}");
    }
    let pool = Mempool::create(eal, &MempoolConfig { capacity: 8191, ..MempoolConfig::default() })?;
    let mut port = Port::open(eal, &"net_null0,size=64".parse()?)?;
    let mut queues = port.start(&PortConfig::default(), &pool)?;
    let _guard = LcoreGuard::register(eal)?;
    println!("{}, pages of {} KiB", dpdk::version(), eal.page_size() / 1024);

    let mut burst = Burst::new();
    let mut rounds: Vec<f64> = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let (start, mut packets) = (cycles(), 0);
        for _ in 0..BURSTS {
            packets += queues.rx[0].burst(&mut burst);
            for mbuf in &mut burst {
                if let [first, second, ..] = mbuf.bytes_mut() {
                    *first = second.wrapping_add(1);
                }
            }
            queues.tx[0].burst(&mut burst);
        }
        rounds.push((cycles() - start) as f64 / packets as f64);
    }
    rounds.sort_by(f64::total_cmp);
    for (name, clocks) in [("least", rounds[0]), ("median", rounds[ROUNDS / 2])] {
        println!("{name:6} {clocks:6.1} clocks, {:5.1} ns a packet", clocks * 1e9 / tsc_hz(eal) as f64);
    }
    Ok(())
}
