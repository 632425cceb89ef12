//! Ports from device strings: the null driver, and everything that can be wrong with a string.
#![allow(clippy::unwrap_used)]

use dpdk::{Burst, Device, Mempool, Port, PortConfig, PortError, RssKey, free_burst};
use wire::PacketBuf;

fn device(text: &str) -> Device {
    text.parse().unwrap()
}

#[dpdk::test(capacity = 511)]
fn a_null_port_gives_endless_bursts_and_swallows_them(pool: &Mempool) {
    let mut port = Port::open(pool.eal(), &device("net_null0,size=60")).unwrap();
    assert_eq!(port.info().driver, "net_null");
    let mut queues = port.start(&PortConfig::default(), pool).unwrap();
    let mut burst = Burst::new();
    for _ in 0..100 {
        assert_eq!(queues.rx[0].burst(&mut burst), 32);
        assert!(burst.iter().all(|mbuf| mbuf.bytes().len() == 60 && mbuf.dpdk_port() == port.dpdk_port()));
        assert_eq!(queues.tx[0].burst(&mut burst), 32);
    }
    let stats = port.stats().unwrap();
    assert_eq!((stats.rx_packets, stats.tx_packets), (3200, 3200));
}

#[dpdk::test(capacity = 31)]
fn a_null_port_stops_giving_when_the_pool_is_empty(pool: &Mempool) {
    let mut port = Port::open(pool.eal(), &device("net_null0")).unwrap();
    let mut queues = port.start(&PortConfig::default(), pool).unwrap();
    let mut burst = Burst::new();
    assert_eq!(queues.rx[0].burst(&mut burst), 0, "a burst of 32 does not fit a pool of 31");
    let mut few = arrayvec::ArrayVec::<dpdk::Mbuf, 16>::new();
    assert_eq!(queues.rx[0].burst(&mut few), 16);
    free_burst(&mut few);
}

#[dpdk::test]
fn features_are_on_where_the_port_has_them_and_only_there(pool: &Mempool) {
    let mut port = Port::open(pool.eal(), &device("net_null0")).unwrap();
    let info = port.info().clone();
    assert!(info.capabilities.rss, "the null driver keeps a key and a table: {info:?}");
    assert!(!info.capabilities.rx_ipv4_checksum, "{info:?}");
    let config = PortConfig { rss_key: Some(RssKey::symmetric(0x6d5a)), ..PortConfig::default() };
    let queues = port.start(&config, pool).unwrap();
    assert!(queues.features.rss);
    assert!(!queues.features.rx_ipv4_checksum && !queues.features.tx_l4_checksum);

    assert_eq!(info.reta_size, 128);
    port.set_reta(&[0; 128]).unwrap();
    port.set_reta(&[0; 2]).unwrap();
    for len in [0, 3, 256] {
        let error = port.set_reta(&vec![0; len]).unwrap_err();
        assert!(matches!(error, PortError::RetaSize { reta_size: 128, .. }), "{error}");
    }
}

#[dpdk::test]
fn without_a_key_there_is_no_rss(pool: &Mempool) {
    let mut port = Port::open(pool.eal(), &device("net_null0")).unwrap();
    let queues = port.start(&PortConfig::default(), pool).unwrap();
    assert!(!queues.features.rss && !queues.features.rx_rss_hash);
}

#[dpdk::test]
fn a_port_without_filters_says_so(pool: &Mempool) {
    let mut port = Port::open(pool.eal(), &device("net_null0")).unwrap();
    let _queues = port.start(&PortConfig::default(), pool).unwrap();
    let error = port.add_mac(wire::MacAddr([2, 0, 0, 0, 0, 1])).unwrap_err();
    assert!(matches!(error, PortError::Operation { what: "add an address filter", .. }), "{error}");
}

#[dpdk::test]
fn a_device_is_open_once_and_can_be_opened_again_after_it_was_dropped(pool: &Mempool) {
    let first = Port::open(pool.eal(), &device("net_null7")).unwrap();
    let error = Port::open(pool.eal(), &device("net_null7")).unwrap_err();
    assert!(matches!(error, PortError::AlreadyOpen(_)), "{error}");
    drop(first);
    for _ in 0..3 {
        let mut port = Port::open(pool.eal(), &device("net_null7")).unwrap();
        port.start(&PortConfig::default(), pool).unwrap();
    }
}

#[dpdk::test]
fn a_driver_that_does_not_exist_is_named(pool: &Mempool) {
    let error = Port::open(pool.eal(), &device("net_nonesuch0,a=1")).unwrap_err();
    assert!(matches!(&error, PortError::NoDriver(name) if name == "net_nonesuch0,a=1"), "{error}");
}

#[dpdk::test]
fn a_pci_device_that_was_not_named_at_the_start_is_not_touched(pool: &Mempool) {
    let error = Port::open(pool.eal(), &device("0000:01:00.0")).unwrap_err();
    assert!(matches!(&error, PortError::NotAllowed(name) if name == "0000:01:00.0"), "{error}");
}

#[dpdk::test]
fn an_af_packet_port_says_what_its_interface_lacks(pool: &Mempool) {
    let error = Port::open(pool.eal(), &device("net_af_packet0")).unwrap_err();
    assert!(matches!(error, PortError::NoInterfaceGiven { .. }), "{error}");
    let error = Port::open(pool.eal(), &device("net_af_packet0,iface=nonesuch")).unwrap_err();
    assert!(matches!(&error, PortError::NoInterface { iface, .. } if iface == "nonesuch"), "{error}");
    assert!(error.to_string().contains("nonesuch"), "{error}");
}
