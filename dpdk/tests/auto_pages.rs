//! Without enough huge pages the EAL starts on ordinary ones and says so. Alone in its file, like every
//! start.
#![allow(clippy::unwrap_used)]

use dpdk::{Eal, EalConfig, HugePages, Mempool, MempoolConfig};

#[test]
fn too_few_huge_pages_are_a_warning_and_not_a_failure() {
    // More than any machine has free in huge pages; ordinary pages are not touched before they are used.
    let memory_mb = free_huge_mb() + 64;
    let config = EalConfig { memory_mb, huge_pages: HugePages::Auto, ..EalConfig::default() };
    let eal = Eal::init(&config).unwrap();
    assert!(!eal.huge_pages());
    assert_eq!(eal.page_size(), 4096);
    assert_eq!(eal.warnings().len(), 1, "{:?}", eal.warnings());
    assert!(eal.warnings()[0].starts_with("DPDK uses ordinary pages"), "{:?}", eal.warnings());
    let pool = Mempool::create(eal, &MempoolConfig { capacity: 63, cache: 0, ..Default::default() }).unwrap();
    assert_eq!(pool.frame(b"still works").unwrap().to_vec(), b"still works");
}

fn free_huge_mb() -> u32 {
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap();
    let value = |key: &str| -> u32 {
        let line = meminfo.lines().find(|line| line.starts_with(key));
        line.and_then(|line| line.split_whitespace().nth(1)).and_then(|n| n.parse().ok()).unwrap_or(0)
    };
    value("HugePages_Total") * value("Hugepagesize") / 1024
}
