//! The worker loop on ports made of rings: bit for bit, and every mbuf back in its pool.

use super::mailbox::{Harm, Mail, SmallFrame};
use crate::harness::{CLIENT, CLIENT_MAC, LAN, Rig, SERVER, SERVER_MAC, Shape, WAN};
use dpdk::Mempool;
use engine::counters::Event;
use wire::craft::Frame;
use wire::tcp_flags::{ACK, PSH, SYN};

fn syn() -> Frame {
    Frame::tcp(CLIENT, SERVER, 40_000, 80).seq(1_000).ack(0).flags(SYN)
}

fn syn_ack() -> Frame {
    Frame::tcp(SERVER, CLIENT, 80, 40_000).seq(9_000).ack(1_001).flags(SYN | ACK)
}

fn data(len: usize) -> Frame {
    Frame::tcp(CLIENT, SERVER, 40_000, 80).seq(1_001).ack(9_001).flags(PSH | ACK).payload_len(len)
}

/// What must come out of the WAN port when `frame` went into the LAN port.
fn forwarded(rig: &Rig, port: usize, frame: Frame) -> Vec<u8> {
    let to = if port == WAN { SERVER_MAC } else { CLIENT_MAC };
    frame.eth(rig.macs[port], to).ttl(63).bytes()
}

#[dpdk::test(capacity = 1023)]
fn d_02_a_handshake_and_data_pass_bit_exact_once_neighbours_answer(pool: &Mempool) {
    let mut rig = Rig::new(pool, &Shape::default(), "");

    // SYN: the server's MAC address is not known, so the firewall asks and keeps the packet.
    rig.arrive(LAN, syn());
    rig.settle();
    let question = rig.left(WAN, 1);
    let expected = Frame::arp_request(rig.macs[WAN], [10, 2, 0, 1], SERVER).bytes();
    assert_eq!(question.len(), 1);
    assert_eq!(question[0][..expected.len()], expected);

    // The answer lets it go.
    rig.arrive_on(WAN, 0, &Frame::arp_reply(SERVER_MAC, SERVER, rig.macs[WAN], [10, 2, 0, 1]));
    rig.settle();
    assert_eq!(rig.left(WAN, 1), [forwarded(&rig, WAN, syn())]);

    // SYN-ACK: the same on the other side.
    rig.arrive(WAN, syn_ack());
    rig.settle();
    assert_eq!(rig.left(LAN, 1).len(), 1, "who has 10.1.0.10?");
    rig.arrive_on(LAN, 0, &Frame::arp_reply(CLIENT_MAC, CLIENT, rig.macs[LAN], [10, 1, 0, 1]));
    rig.settle();
    assert_eq!(rig.left(LAN, 1), [forwarded(&rig, LAN, syn_ack())]);

    // ACK with data, of all sizes that fit a link.
    for len in [0, 1, 7, 536, 1_460] {
        rig.arrive(LAN, data(len));
        rig.settle();
        assert_eq!(rig.left(WAN, 1), [forwarded(&rig, WAN, data(len))], "{len} bytes");
    }
    assert_eq!((rig.event(Event::Created), rig.event(Event::Forwarded)), (1, 7));
    assert_eq!(rig.event(Event::PendingQueued), 2);
}

#[dpdk::test(capacity = 1023)]
fn what_the_policy_does_not_allow_does_not_pass(pool: &Mempool) {
    let mut rig = Rig::new(pool, &Shape::default(), "");
    rig.introduce_hosts();
    rig.arrive(WAN, Frame::tcp(SERVER, CLIENT, 80, 40_000).seq(1).ack(0).flags(SYN));
    rig.arrive(WAN, syn_ack());
    rig.settle();
    assert_eq!((rig.left(LAN, 1).len(), rig.left(WAN, 1).len()), (0, 0));
    assert_eq!(rig.drops("policy-drop"), 1, "the SYN: default deny");
    assert_eq!(rig.event(Event::Created), 0);
}

/// Flows whose packets all come in at worker 0 are worked on by their owners, and come out once.
fn spread_over_two_workers(pool: &Mempool, queues: u16) {
    let mut rig = Rig::new(pool, &Shape { workers: 2, queues, places: 512 }, "");
    rig.introduce_hosts();
    let flows: Vec<u16> = (0..100).map(|n| 20_000 + n * 7).collect();
    let udp = |port: u16| Frame::udp(CLIENT, SERVER, port, 53).payload(b"which worker?");
    for port in &flows {
        rig.arrive(LAN, udp(*port));
    }
    rig.settle();
    let mut left = rig.left(WAN, queues);
    let mut expected: Vec<Vec<u8>> = flows.iter().map(|port| forwarded(&rig, WAN, udp(*port))).collect();
    left.sort();
    expected.sort();
    assert_eq!(left, expected);

    let handed = rig.event(Event::HandedOver);
    assert!((30..=70).contains(&handed), "about half of 100 flows belong to worker 1: {handed}");
    assert_eq!(rig.core.sessions_by_worker(), [100 - handed, handed]);

    // Replies come in at whichever queue: here all at worker 1's, where there is one.
    for port in &flows {
        let reply = Frame::udp(SERVER, CLIENT, 53, *port).payload(b"this one");
        let frame = reply.eth(SERVER_MAC, rig.macs[WAN]);
        rig.arrive_on(WAN, queues - 1, &frame);
    }
    rig.settle();
    assert_eq!(rig.left(LAN, queues).len(), 100);
    assert_eq!(rig.event(Event::Created), 100, "replies found their sessions");
    let handed_back = rig.event(Event::HandedOver) - handed;
    assert_eq!(
        handed_back,
        if queues == 2 { 100 - handed } else { handed },
        "X-19: one owner for both directions"
    );
    assert_eq!((rig.drops("worker-ring-full"), rig.drops("transmit-full")), (0, 0));
}

#[dpdk::test(capacity = 2047)]
fn x_19_two_workers_share_flows_over_the_mesh(pool: &Mempool) {
    spread_over_two_workers(pool, 2);
}

#[dpdk::test(capacity = 2047)]
fn x_19_a_worker_without_a_transmit_queue_sends_through_the_one_that_has_it(pool: &Mempool) {
    spread_over_two_workers(pool, 1);
}

#[dpdk::test(capacity = 2047)]
fn what_a_full_queue_does_not_take_is_counted_and_freed(pool: &Mempool) {
    // A ring of 64 places holds 63 packets.
    let mut rig = Rig::new(pool, &Shape { places: 64, ..Shape::default() }, "");
    rig.introduce_hosts();
    let udp = Frame::udp(CLIENT, SERVER, 5_000, 53);
    for _ in 0..3 {
        for _ in 0..32 {
            rig.arrive(LAN, udp.clone());
        }
        rig.settle();
    }
    assert_eq!(rig.left(WAN, 1).len(), 63);
    assert_eq!(rig.drops("transmit-full"), 96 - 63);
}

#[dpdk::test(capacity = 2047)]
fn a_full_mesh_ring_is_counted_and_freed(pool: &Mempool) {
    let mut rig = Rig::new(pool, &Shape { workers: 2, queues: 2, places: 2048 }, "");
    rig.introduce_hosts();
    // A flow of worker 1's, which does not turn.
    let port = (0..).map(|n| 30_000 + n).find(|port| rig.owner_of(CLIENT, SERVER, *port, 53) == 1).unwrap();
    for _ in 0..1_500 {
        rig.arrive(LAN, Frame::udp(CLIENT, SERVER, port, 53));
    }
    for _ in 0..50 {
        rig.workers[0].turn(dpdk::cycles());
    }
    assert_eq!((rig.event(Event::HandedOver), rig.drops("worker-ring-full")), (1_024, 476));
    rig.settle();
    assert_eq!(rig.left(WAN, 2).len(), 1_024);
}

#[dpdk::test(capacity = 1023)]
fn the_control_thread_can_end_a_session_by_mail(pool: &Mempool) {
    let mut rig = Rig::new(pool, &Shape::default(), "");
    rig.introduce_hosts();
    rig.arrive(LAN, Frame::udp(CLIENT, SERVER, 5_000, 53));
    rig.settle();
    assert_eq!(rig.core.sessions_by_worker(), [1]);
    // The lowest slot is handed out first.
    rig.core.mail(0, Mail::Terminate(engine::table::Slot(0)));
    rig.settle();
    assert_eq!(rig.core.sessions_by_worker(), [0]);
}

#[dpdk::test(capacity = 63)]
fn mail_without_a_buffer_is_lost_and_counted(pool: &Mempool) {
    let mut rig = Rig::new(pool, &Shape::default(), "");
    let all: Vec<_> = std::iter::from_fn(|| pool.alloc()).collect();
    let frame = SmallFrame::new(&[0xff; 60]).unwrap();
    rig.core.mail(0, Mail::Send { port: engine::PortId(0), frame });
    rig.settle();
    drop(all);
    assert_eq!((rig.left(LAN, 1).len(), rig.core.lost_mail()), (0, 1));
    rig.core.mail(0, Mail::Send { port: engine::PortId(0), frame });
    rig.core.mail(0, Mail::Send { port: engine::PortId(9), frame });
    rig.settle();
    assert_eq!(rig.left(LAN, 1), [vec![0xff; 60]], "and nothing for a port that is not there");
}

#[dpdk::test(capacity = 1023)]
fn threads_start_work_and_stop(pool: &Mempool) {
    let mut rig = Rig::new(pool, &Shape { workers: 2, queues: 2, places: 512 }, "");
    rig.introduce_hosts();
    for (id, worker) in std::mem::take(&mut rig.workers).into_iter().enumerate() {
        let thread = super::WorkerThread::start(id, worker, pool.eal(), None).unwrap();
        rig.core.worker_started(id, thread);
    }
    for n in 0..50 {
        rig.arrive(LAN, Frame::udp(CLIENT, SERVER, 1_000 + n, 53));
    }
    let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
    let mut left = 0;
    while left < 50 {
        left += rig.left(WAN, 2).len();
        assert!(std::time::Instant::now() < end, "{left} of 50 came out");
    }
    assert_eq!(rig.core.lost_worker(), None);
    let Rig { core, wires, .. } = rig;
    assert!(core.shut_down());
    drop(wires);
}

#[dpdk::test(capacity = 63)]
fn a_worker_is_not_pinned_to_a_cpu_that_is_not_there(pool: &Mempool) {
    let mut rig = Rig::new(pool, &Shape::default(), "");
    let worker = rig.workers.remove(0);
    let error = super::WorkerThread::start(0, worker, pool.eal(), Some(1_023)).err().unwrap().to_string();
    assert!(error.starts_with("worker 0 cannot be pinned to CPU 1023"), "{error}");
}

#[dpdk::test(capacity = 1023)]
fn x_03_harm_is_done_to_one_copy_and_nobody_is_told(pool: &Mempool) {
    let mut rig = Rig::new(pool, &Shape::default(), "");
    rig.introduce_hosts();
    rig.arrive(LAN, Frame::udp(CLIENT, SERVER, 5_000, 53));
    rig.settle();
    let parts = &mut rig.workers[0].parts;
    let now = parts.clock.ticks(dpdk::cycles());
    let reader = parts.engine.shard().reader();
    let sessions = || -> Vec<_> {
        (0..reader.slots()).filter_map(|slot| Some((slot, reader.read(engine::table::Slot(slot))?))).collect()
    };
    let mut harm = |slot, how| {
        let snapshot = parts.snapshots.current().0;
        super::partner::harm(&mut parts.engine, snapshot, now, engine::table::Slot(slot), how);
    };
    let (slot, before) = sessions().swap_remove(0);
    harm(slot, Harm::Drop);
    assert_eq!(sessions().len(), 1, "an active node's sessions are its users'");

    rig.workers[0].parts.engine.set_role(engine::RoleView::Standby, now);
    let parts = &mut rig.workers[0].parts;
    let mut harm = |slot, how| {
        let snapshot = parts.snapshots.current().0;
        super::partner::harm(&mut parts.engine, snapshot, now, engine::table::Slot(slot), how);
    };
    harm(slot, Harm::Corrupt);
    let (slot, changed) = sessions().swap_remove(0);
    assert_eq!((changed.keys, changed.version), (before.keys, before.version));
    assert_ne!(changed.binding.rule, before.binding.rule);
    harm(slot, Harm::Add);
    let both = sessions();
    assert_eq!(both.len(), 2);
    assert!(both.iter().any(|(_, view)| view.keys == before.keys), "the first one is still there");
    harm(slot, Harm::Drop);
    assert_eq!(sessions().len(), 1);
    harm(slot, Harm::Drop);
    assert_eq!(sessions().len(), 1, "there is nothing at that place");
}
