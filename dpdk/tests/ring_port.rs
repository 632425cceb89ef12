//! Packets through real queues of a port made of rings, bit for bit.
#![allow(clippy::unwrap_used)]

use arrayvec::ArrayVec;
use dpdk::testing::{RingPort, RingPortError, drain};
use dpdk::{Burst, Mbuf, Mempool, Port, PortConfig, PortError, Queues, free_burst};
use wire::PacketBuf;

fn started(pool: &Mempool, queues: u16, places: u32) -> (RingPort, Port, Queues) {
    let (ring, mut port) = RingPort::create(pool.eal(), queues, places).unwrap();
    let config = PortConfig { rx_queues: queues, tx_queues: queues, ..PortConfig::default() };
    let queues = port.start(&config, pool).unwrap();
    (ring, port, queues)
}

/// A frame that no other number makes.
fn pattern(number: usize, len: usize) -> Vec<u8> {
    (0..len).map(|i| (i.wrapping_mul(31) ^ number.wrapping_mul(131)) as u8).collect()
}

#[dpdk::test(capacity = 63)]
fn frames_come_through_bit_for_bit_and_in_order(pool: &Mempool) {
    let (mut ring, port, mut queues) = started(pool, 1, 64);
    let frames: Vec<Vec<u8>> = (0..20).map(|n| pattern(n, 60 + n * 73)).collect();
    for frame in &frames {
        ring.inject(pool.frame(frame).unwrap()).unwrap();
    }
    assert_eq!(pool.in_use(), 20);

    let mut burst = Burst::new();
    assert_eq!(queues.rx[0].burst(&mut burst), 20);
    let received: Vec<&[u8]> = burst.iter().map(|mbuf| mbuf.bytes()).collect();
    assert_eq!(received, frames);
    assert_eq!(queues.rx[0].burst(&mut Burst::new()), 0, "the ring is empty now");

    assert_eq!(queues.tx[0].burst(&mut burst), 20);
    assert!(burst.is_empty());
    let sent: Vec<Vec<u8>> = std::iter::from_fn(|| ring.collect()).map(|mbuf| mbuf.to_vec()).collect();
    assert_eq!(sent, frames);

    let stats = port.stats().unwrap();
    assert_eq!((stats.rx_packets, stats.tx_packets, stats.tx_errors), (20, 20, 0));
}

#[dpdk::test(capacity = 127)]
fn a_burst_takes_no_more_than_it_has_room_for(pool: &Mempool) {
    let (mut ring, _port, mut queues) = started(pool, 1, 128);
    for n in 0..100 {
        ring.inject(pool.frame(&pattern(n, 64)).unwrap()).unwrap();
    }
    let mut small = ArrayVec::<Mbuf, 8>::new();
    assert_eq!(queues.rx[0].burst(&mut small), 8);
    assert_eq!(queues.rx[0].burst(&mut small), 0, "full");
    free_burst(&mut small);
    assert_eq!(pool.in_use(), 92);

    let mut burst = ArrayVec::<Mbuf, 64>::new();
    assert_eq!(queues.rx[0].burst(&mut burst), 32, "never more than a burst");
    assert_eq!(queues.rx[0].burst(&mut burst), 32, "appended");
    let numbers: Vec<Vec<u8>> = burst.iter().map(PacketBuf::bytes).map(<[u8]>::to_vec).collect();
    let expected: Vec<Vec<u8>> = (8..72).map(|n| pattern(n, 64)).collect();
    assert_eq!(numbers, expected);
    free_burst(&mut burst);
    assert_eq!(drain::<64>(&mut queues.rx[0]).len(), 28);
    assert_eq!(pool.in_use(), 0);
}

#[dpdk::test(capacity = 63)]
fn what_does_not_fit_the_port_stays_with_the_caller_in_order(pool: &Mempool) {
    let (mut ring, _port, mut queues) = started(pool, 1, 8);
    let mut burst: Burst = (0..10).map(|n| pool.frame(&pattern(n, 64)).unwrap()).collect();
    assert_eq!(queues.tx[0].burst(&mut burst), 7, "a ring of eight places holds seven");
    let left: Vec<Vec<u8>> = burst.iter().map(Mbuf::to_vec).collect();
    assert_eq!(left, [pattern(7, 64), pattern(8, 64), pattern(9, 64)]);
    assert_eq!(queues.tx[0].burst(&mut burst), 0);
    assert_eq!(burst.len(), 3);

    assert_eq!(ring.collect().unwrap().bytes(), pattern(0, 64));
    assert_eq!(queues.tx[0].burst(&mut burst), 1);
    assert_eq!(burst.len(), 2);
    free_burst(&mut burst);
    assert_eq!(pool.in_use(), 7);
    let sent: Vec<Vec<u8>> = std::iter::from_fn(|| ring.collect()).map(|mbuf| mbuf.to_vec()).collect();
    assert_eq!(sent, (1..8).map(|n| pattern(n, 64)).collect::<Vec<_>>());
}

#[dpdk::test(capacity = 127)]
fn bursts_pass_a_ring_as_far_as_there_is_room(pool: &Mempool) {
    let (mut ring, _port, mut queues) = started(pool, 1, 64);
    let mut burst = ArrayVec::<Mbuf, 70>::new();
    burst.extend((0..70).map(|n| pool.frame(&pattern(n, 64)).unwrap()));
    assert_eq!(ring.inject_burst(&mut burst), 63);
    assert_eq!((ring.waiting(), burst.len()), (63, 7));
    assert_eq!(burst[0].bytes(), pattern(63, 64));
    free_burst(&mut burst);

    let mut received = drain::<64>(&mut queues.rx[0]);
    assert_eq!((received.len(), ring.waiting()), (63, 0));
    assert_eq!(queues.tx[0].burst(&mut received), 63);
    let mut sent = ArrayVec::<Mbuf, 40>::new();
    assert_eq!(ring.collect_burst(&mut sent), 40);
    assert_eq!(ring.collect_burst(&mut sent), 0, "no room");
    let numbers: Vec<Vec<u8>> = sent.iter().map(Mbuf::to_vec).collect();
    assert_eq!(numbers, (0..40).map(|n| pattern(n, 64)).collect::<Vec<_>>());
    free_burst(&mut sent);
    assert_eq!(ring.collect_burst(&mut sent), 23);
    assert_eq!(ring.inject_burst(&mut ArrayVec::<Mbuf, 4>::new()), 0);
}

#[dpdk::test(capacity = 63)]
fn a_full_ring_gives_the_injected_packet_back(pool: &Mempool) {
    let (mut ring, _port, _queues) = started(pool, 1, 4);
    for n in 0..3 {
        ring.inject(pool.frame(&pattern(n, 64)).unwrap()).unwrap();
    }
    let back = ring.inject(pool.frame(b"one too many").unwrap()).unwrap_err();
    assert_eq!(back.bytes(), b"one too many");
    let back = ring.inject_on(1, back).unwrap_err();
    assert_eq!(back.bytes(), b"one too many", "there is no queue 1");
    assert_eq!(pool.in_use(), 4);
}

#[dpdk::test(capacity = 63)]
fn queues_are_separate_and_may_move_to_threads(pool: &Mempool) {
    let (mut ring, _port, queues) = started(pool, 2, 16);
    for queue in 0..2 {
        ring.inject_on(queue, pool.frame(&pattern(usize::from(queue), 64)).unwrap()).unwrap();
    }
    std::thread::scope(|scope| {
        for (mut rx, mut tx) in queues.rx.into_iter().zip(queues.tx) {
            scope.spawn(move || {
                let mut burst = Burst::new();
                assert_eq!(rx.burst(&mut burst), 1);
                assert_eq!(burst[0].bytes(), pattern(usize::from(rx.index()), 64));
                assert_eq!(tx.burst(&mut burst), 1);
            });
        }
    });
    for queue in 0..2 {
        assert_eq!(ring.collect_from(queue).unwrap().bytes(), pattern(usize::from(queue), 64));
        assert!(ring.collect_from(queue).is_none());
    }
}

#[dpdk::test(capacity = 63)]
fn segments_pass_the_port_as_a_chain_and_become_one_frame(pool: &Mempool) {
    let (mut ring, _port, mut queues) = started(pool, 1, 8);
    let whole = pattern(1, 1500);
    let mut head = pool.frame(&whole[..100]).unwrap();
    head.chain(pool.frame(&whole[100..1400]).unwrap()).unwrap();
    head.chain(pool.frame(&whole[1400..]).unwrap()).unwrap();
    ring.inject(head).unwrap();
    assert_eq!(pool.in_use(), 3);

    let mut burst = Burst::new();
    assert_eq!(queues.rx[0].burst(&mut burst), 1);
    assert_eq!((burst[0].segment_count(), burst[0].frame_len()), (3, 1500));
    assert_eq!(burst[0].bytes(), &whole[..100]);
    assert!(queues.tx[0].multi_segment());
    assert_eq!(queues.tx[0].burst(&mut burst), 1);

    let mut sent = ring.collect().unwrap();
    assert_eq!(sent.to_vec(), whole);
    assert!(sent.linearise());
    assert_eq!(pool.in_use(), 1, "the other segments went back");
    assert_eq!(sent.bytes(), whole);
}

#[dpdk::test(capacity = 63)]
fn packets_left_anywhere_go_back_when_the_port_goes(pool: &Mempool) {
    let (mut ring, port, mut queues) = started(pool, 1, 16);
    for n in 0..4 {
        ring.inject(pool.frame(&pattern(n, 64)).unwrap()).unwrap();
    }
    let mut burst: Burst = (0..3).map(|n| pool.frame(&pattern(n, 64)).unwrap()).collect();
    assert_eq!(queues.tx[0].burst(&mut burst), 3);
    drop((ring, port));
    assert_eq!(pool.in_use(), 7, "the queues keep the port and its rings");
    assert_eq!(drain::<8>(&mut queues.rx[0]).len(), 4, "and it still works");
    drop(queues);
    assert_eq!(pool.in_use(), 0);
}

#[dpdk::test]
fn a_port_starts_once_and_with_queues_that_it_has(pool: &Mempool) {
    let (_ring, mut port) = RingPort::create(pool.eal(), 1, 8).unwrap();
    assert_eq!(port.info().driver, "net_ring");
    assert_eq!((port.info().rx_queues_max, port.info().tx_queues_max), (1, 1));
    let two = PortConfig { rx_queues: 2, ..PortConfig::default() };
    let error = port.start(&two, pool).unwrap_err();
    assert!(
        matches!(error, PortError::QueueCount { direction: "receive", wanted: 2, max: 1, .. }),
        "{error}"
    );
    let none = PortConfig { tx_queues: 0, ..PortConfig::default() };
    let error = port.start(&none, pool).unwrap_err();
    assert!(
        matches!(error, PortError::QueueCount { direction: "transmit", wanted: 0, max: 1, .. }),
        "{error}"
    );
    let queues = port.start(&PortConfig::default(), pool).unwrap();
    let error = port.start(&PortConfig::default(), pool).unwrap_err();
    assert!(matches!(error, PortError::AlreadyStarted(_)), "{error}");
    assert!(port.link().unwrap().up);
    drop(queues);
}

#[dpdk::test]
fn promiscuous_mode_and_address_filters_can_be_changed_while_it_runs(pool: &Mempool) {
    let (_ring, port, _queues) = started(pool, 1, 8);
    assert!(port.is_promiscuous(), "the default");
    port.set_promiscuous(false).unwrap();
    assert!(!port.is_promiscuous());
    let virtual_mac = wire::MacAddr([0, 0, 0x5e, 0, 1, 7]);
    port.add_mac(virtual_mac).unwrap();
}

#[dpdk::test]
fn ring_ports_of_no_shape_are_refused(pool: &Mempool) {
    for (queues, places) in [(0, 8), (17, 8), (1, 0), (1, 1), (1, 12)] {
        let error = RingPort::create(pool.eal(), queues, places).unwrap_err();
        assert!(matches!(error, RingPortError::Shape { .. }), "{error}");
    }
}

#[dpdk::test]
fn ports_can_be_made_again_and_again(pool: &Mempool) {
    for _ in 0..100 {
        let (mut ring, _port, mut queues) = started(pool, 1, 8);
        ring.inject(pool.frame(b"again").unwrap()).unwrap();
        assert_eq!(drain::<8>(&mut queues.rx[0]).len(), 1);
    }
}
