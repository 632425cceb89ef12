//! The EAL on huge pages. One test to a file: each start needs a process of its own.
#![allow(clippy::unwrap_used, clippy::panic)]

use dpdk::testing::RingPort;
use dpdk::{Burst, Eal, EalConfig, EalError, HugePages, Mempool, MempoolConfig, PortConfig};
use wire::PacketBuf;

#[test]
fn packets_flow_on_huge_pages_and_nothing_is_left_in_the_file_system() {
    let before = EalConfig { memory_mb: 1 << 20, huge_pages: HugePages::Require, ..EalConfig::default() };
    let error = Eal::init(&before).unwrap_err();
    assert!(matches!(error, EalError::NotEnoughHugePages { needed_mb: 1_048_576, .. }), "{error}");

    let config = EalConfig { memory_mb: 64, huge_pages: HugePages::Require, ..EalConfig::default() };
    let eal = Eal::init(&config).unwrap_or_else(|error| {
        panic!("this test needs 64 MB of huge pages (scripts/setup prepares them): {error}")
    });
    assert!(eal.huge_pages());
    assert!(eal.page_size() >= 2 << 20, "{} bytes", eal.page_size());
    assert_eq!(eal.warnings(), Vec::<String>::new());

    let config = MempoolConfig { capacity: 1023, cache: 0, ..MempoolConfig::default() };
    let pool = Mempool::create(eal, &config).unwrap();
    let (mut ring, mut port) = RingPort::create(eal, 1, 64).unwrap();
    let mut queues = port.start(&PortConfig::default(), &pool).unwrap();
    ring.inject(pool.frame(b"on a huge page").unwrap()).unwrap();
    let mut burst = Burst::new();
    assert_eq!(queues.rx[0].burst(&mut burst), 1);
    assert_eq!(burst[0].bytes(), b"on a huge page");
    assert_eq!(queues.tx[0].burst(&mut burst), 1);
    assert_eq!(ring.collect().unwrap().bytes(), b"on a huge page");
    assert_eq!(pool.in_use(), 0);

    let ours = format!("us-{}-", std::process::id());
    for directory in ["/dev/hugepages", "/var/run/dpdk"] {
        let left: Vec<_> = std::fs::read_dir(directory)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .filter(|name| name.starts_with(&ours))
            .collect();
        assert_eq!(left, Vec::<String>::new(), "{directory}");
    }
}
