//! An af_packet port against the kernel's own network stack, over a veth pair in a network namespace that
//! exists for this test's thread only and vanishes with it. Needs root.
#![allow(unsafe_code, clippy::unwrap_used, clippy::panic)]

use std::net::UdpSocket;
use std::process::Command;
use std::time::{Duration, Instant};

use dpdk::testing::drain;
use dpdk::{Device, Mbuf, Mempool, Port, PortConfig, Queues, RxQueue};
use rustix::thread::{UnshareFlags, unshare_unsafe};
use wire::PacketBuf;

const KERNEL: &str = "192.0.2.2";
const PORT: &str = "192.0.2.1";
const PORT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// Ethernet, IPv4 without options, UDP.
const UDP_HEADERS: usize = 14 + 20 + 8;

fn ip(args: &str) {
    run("ip", args);
}

fn run(program: &str, args: &str) {
    let output = Command::new(program).args(args.split(' ')).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args}: {error}");
}

/// Moves this thread into a new network namespace with `us0` (for the port) and `us1` (the kernel's end).
fn enter_namespace() {
    assert!(
        rustix::process::geteuid().is_root(),
        "this test makes a network namespace and needs root: run the tests as root"
    );
    // SAFETY: only the network namespace changes; file descriptors are not touched.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.unwrap();
    ip("link set lo up");
    ip("link add us0 type veth peer name us1");
    ip("link set us0 address 02:00:00:00:00:01");
    for end in ["us0", "us1"] {
        run("ethtool", &format!("-K {end} tx off"));
        ip(&format!("link set {end} up"));
    }
    ip(&format!("addr add {KERNEL}/24 dev us1"));
    ip(&format!("neigh add {PORT} lladdr 02:00:00:00:00:01 nud permanent dev us1"));
}

fn started(pool: &Mempool) -> (Port, Queues) {
    let device: Device = "net_af_packet0,iface=us0".parse().unwrap();
    let mut port = Port::open(pool.eal(), &device).unwrap();
    let queues = port.start(&PortConfig::default(), pool).unwrap();
    (port, queues)
}

/// The next UDP frame to destination port 4242; the kernel's own chatter is passed over.
fn next_udp(rx: &mut RxQueue) -> Mbuf {
    let deadline = Instant::now() + Duration::from_secs(5);
    while Instant::now() < deadline {
        let found = drain::<32>(rx).into_iter().find(|mbuf| {
            let frame = mbuf.bytes();
            frame.len() > UDP_HEADERS
                && frame[12..14] == [8, 0]
                && frame[23] == 17
                && frame[36..38] == [0x10, 0x92]
        });
        match found {
            Some(mbuf) => return mbuf,
            None => std::thread::sleep(Duration::from_micros(200)),
        }
    }
    panic!("no UDP frame within five seconds");
}

/// Turns a datagram round. Sums do not depend on order, so no checksum changes.
fn reflect(frame: &mut [u8]) {
    let (to, from) = frame.split_at_mut(6);
    to.swap_with_slice(&mut from[..6]);
    let (from, to) = frame[26..].split_at_mut(4);
    from.swap_with_slice(&mut to[..4]);
    let (from, to) = frame[34..].split_at_mut(2);
    from.swap_with_slice(&mut to[..2]);
}

#[dpdk::test(capacity = 2047)]
fn datagrams_from_the_kernel_arrive_and_answers_are_accepted(pool: &Mempool) {
    enter_namespace();
    let (port, mut queues) = started(pool);
    assert_eq!(port.info().driver, "net_af_packet");
    assert_eq!(port.info().mac, wire::MacAddr(PORT_MAC));
    assert!(port.link().unwrap().up, "af_packet says so whatever lies below");
    assert!(port.is_promiscuous());

    let socket = UdpSocket::bind((KERNEL, 2121)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket.connect((PORT, 4242)).unwrap();
    for len in [1, 18, 100, 999, 1472] {
        let payload: Vec<u8> = (0..len).map(|i| (i * 7 + len) as u8).collect();
        socket.send(&payload).unwrap();
        let mut frame = next_udp(&mut queues.rx[0]);
        assert_eq!(&frame.bytes()[UDP_HEADERS..][..len], payload);
        assert_eq!(frame.bytes()[..6], PORT_MAC);

        reflect(frame.bytes_mut());
        let mut burst = arrayvec::ArrayVec::<Mbuf, 1>::from([frame]);
        assert_eq!(queues.tx[0].burst(&mut burst), 1);
        let mut answer = [0; 2048];
        let received = socket.recv(&mut answer).unwrap();
        assert_eq!(answer[..received], payload, "the kernel checked both checksums");
    }
    let stats = port.stats().unwrap();
    assert_eq!((stats.tx_packets, stats.tx_errors, stats.rx_no_mbuf), (5, 0, 0), "{stats:?}");
    assert!(stats.rx_packets >= 5, "{stats:?}");
}

#[dpdk::test(capacity = 2047)]
fn a_chain_of_segments_leaves_as_one_frame(pool: &Mempool) {
    enter_namespace();
    let (_port, mut queues) = started(pool);
    let socket = UdpSocket::bind((KERNEL, 2121)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket.connect((PORT, 4242)).unwrap();
    socket.send(&[0xa5; 600]).unwrap();
    let mut frame = next_udp(&mut queues.rx[0]);
    reflect(frame.bytes_mut());

    let bytes = frame.to_vec();
    let mut chain = pool.frame(&bytes[..50]).unwrap();
    chain.chain(pool.frame(&bytes[50..400]).unwrap()).unwrap();
    chain.chain(pool.frame(&bytes[400..]).unwrap()).unwrap();
    let mut burst = arrayvec::ArrayVec::<Mbuf, 1>::from([chain]);
    assert!(queues.tx[0].multi_segment());
    assert_eq!(queues.tx[0].burst(&mut burst), 1);
    let mut answer = [0; 2048];
    assert_eq!(socket.recv(&mut answer).unwrap(), 600);
    assert_eq!(answer[..600], [0xa5; 600]);
}

#[dpdk::test(capacity = 2047)]
fn an_interface_can_be_opened_again_after_the_port_was_dropped(pool: &Mempool) {
    enter_namespace();
    let socket = UdpSocket::bind((KERNEL, 2121)).unwrap();
    socket.connect((PORT, 4242)).unwrap();
    for round in 0..3 {
        let (_port, mut queues) = started(pool);
        socket.send(&[round; 64]).unwrap();
        assert_eq!(next_udp(&mut queues.rx[0]).bytes()[UDP_HEADERS..][..64], [round; 64]);
    }
}

#[dpdk::test(capacity = 63)]
fn an_mtu_that_af_packet_cannot_carry_is_refused(pool: &Mempool) {
    enter_namespace();
    let device: Device = "net_af_packet0,iface=us0".parse().unwrap();
    let mut port = Port::open(pool.eal(), &device).unwrap();
    assert_eq!(port.info().mtu_max, 1500);
    let error = port.start(&PortConfig { mtu: 1501, ..PortConfig::default() }, pool).unwrap_err();
    assert!(matches!(error, dpdk::PortError::Mtu { mtu: 1501, max: 1500, .. }), "{error}");
}
