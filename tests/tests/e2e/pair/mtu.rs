//! Does the sync link find out what it carries?

use std::{thread, time::Duration};

use lab::{
    Family, Host, LabOptions, PairSettings, SyncLink,
    faults::{self, Cable},
    frames::FrameTap,
    generator::Generator,
};
use tests::pair::{Mark, PairBench};

const SMALL: u16 = 1400;
/// Ethernet header, and what the switch sees of a frame of that many bytes of IP.
const SMALL_FRAME: usize = SMALL as usize + 14;
const SESSIONS: u32 = 3_000;

/// A pair that has the sync link alone for its sessions; its daemons do not run yet.
fn stopped() -> PairBench {
    let options = LabOptions::pair(PairSettings::default()).overlay("[pair]\nlan-fallback = false\n");
    PairBench::starting(options.without_daemon())
}

fn start(bench: &mut PairBench) {
    for host in Host::NODES {
        bench.node(host).spawn().unwrap();
    }
    for host in Host::NODES {
        bench.node(host).ready().unwrap();
    }
    bench.wait_ready(Host::A);
}

/// What node a says of the datagrams that the sync link takes.
fn datagram_bytes(bench: &mut PairBench, host: Host) -> u64 {
    let status = bench.operator(host).status().unwrap();
    let pair = status.pair.unwrap();
    pair.paths[0].datagram_bytes.unwrap_or(0)
}

/// Opens many sessions, so that datagrams are as large as they get, and tells the longest frame of the link.
fn longest_frame(bench: &mut PairBench, range: std::ops::Range<u32>) -> usize {
    let tap = FrameTap::start(Host::Switch, "sync0-a", |_| true).unwrap();
    let generator = Generator::new(Family::V4, SESSIONS).unwrap();
    let all = range.end as usize;
    generator.send(range, 20_000);
    bench.wait_ready(Host::A);
    bench.wait_equal(all * 9 / 10);
    tap.seen(|_| true).iter().map(|frame| frame.bytes.len()).max().unwrap_or(0)
}

#[test]
fn x_08_a_smaller_mtu_on_one_side_is_told_and_adapted_to() {
    let mut bench = stopped();
    faults::set_mtu(SyncLink::FIRST, Host::B, SMALL).unwrap();
    let mark = Mark::now();
    start(&mut bench);
    for host in Host::NODES {
        let event = bench.wait_event(host, mark, "path_mtu");
        assert!(event.line.contains("sync0"), "{event:?}");
        assert!(datagram_bytes(&mut bench, host) < SMALL.into(), "{host:?}");
    }
    let longest = longest_frame(&mut bench, 0..SESSIONS);
    // The full size is tried again now and then, but sessions do not go that way.
    assert!(longest > 1_000, "{longest}");
    assert_eq!(bench.roles(), ("active".into(), "standby".into()));
}

#[test]
fn x_08_a_link_that_shrinks_while_it_lives_goes_on_and_grows_again() {
    let mut bench = stopped();
    start(&mut bench);
    let full = datagram_bytes(&mut bench, Host::A);
    assert!(full > 1_400, "{full}");
    let longest = longest_frame(&mut bench, 0..SESSIONS / 2);
    assert!(longest > SMALL_FRAME, "{longest}");
    let mark = Mark::now();
    faults::set_mtu(SyncLink::FIRST, Host::B, SMALL).unwrap();
    let generator = Generator::new(Family::V4, SESSIONS).unwrap();
    generator.send(SESSIONS / 2..SESSIONS, 20_000);
    bench.wait_event(Host::A, mark, "path_mtu");
    bench.wait_ready(Host::A);
    bench.wait_equal(SESSIONS as usize * 9 / 10);
    assert!(datagram_bytes(&mut bench, Host::A) < SMALL.into());
    let names = bench.event_names(Host::A, mark);
    assert!(!names.contains("role_changed") && !names.contains("peer_gone"), "{names:?}");
    // Plugged in anew, it is tried anew.
    faults::set_mtu(SyncLink::FIRST, Host::B, 1500).unwrap();
    faults::cut(Cable::Sync(SyncLink::FIRST)).unwrap();
    thread::sleep(Duration::from_millis(600));
    faults::mend(Cable::Sync(SyncLink::FIRST)).unwrap();
    tests::eventually("full size", full, || datagram_bytes(&mut bench, Host::A));
}
