//! All sync links are dead, the data ports live: who does what, and what do the nodes say?

use std::{
    thread,
    time::{Duration, Instant},
};

use lab::{
    Family, Host, LabOptions, Network, PairSettings, SyncLink,
    echo::EchoServer,
    faults::{self, Cable},
    stream::{StreamKind, Streams},
};
use tests::pair::{Mark, PairBench};

const ECHO: u16 = 7007;

/// Cuts both sync links for a while, then kills the active node.
fn sever(length: Duration) {
    let settings = PairSettings { sync_links: 2, ..PairSettings::default() };
    let mut bench = PairBench::with(LabOptions::pair(settings).overlay("[pair]\nlan-fallback = false\n"));
    let _server = EchoServer::start(Host::Server, ECHO).unwrap();
    let streams = Streams::start(&StreamKind::ALL, Duration::from_millis(1)).unwrap();
    let mut before = tests::connections(Family::V4, ECHO, 10);
    assert_eq!(before.round(0), 10);
    bench.wait_equal(14);
    bench.wait_ready(Host::A);
    let (mark, severed) = (Mark::now(), Instant::now());
    for link in SyncLink::ALL {
        faults::cut(Cable::Sync(link)).unwrap();
    }
    for host in Host::NODES {
        bench.wait_event(host, mark, "hasync_connection_failed_timeout");
        let status = bench.control(host).ask("status").unwrap();
        let pair = &status["pair"];
        assert_eq!(pair["sync"]["state"], "suspended", "{pair}");
        assert_eq!(pair["sync"]["proven"], false, "{pair}");
        let alarms: Vec<_> = pair["alarms"].as_array().unwrap().iter().map(|alarm| &alarm["name"]).collect();
        assert_eq!(alarms, ["hasync_connection_failed_timeout"]);
        assert!(!pair["partner"].is_null(), "the partner lives: {pair}");
    }
    let mut during = tests::connections(Family::V6, ECHO, 10);
    while severed.elapsed() < length {
        assert_eq!(bench.roles(), ("active".into(), "standby".into()));
        thread::sleep(Duration::from_millis(250));
    }
    let view = bench.view(Host::A).unwrap();
    assert!((10..100).contains(&view.unprotected), "what is new since then is counted: {view:?}");
    let refused = bench.operator(Host::A).run(&["switchover"]).unwrap_err().to_string();
    assert!(refused.contains("exit code 1"), "{refused}");
    for host in Host::NODES {
        let names = bench.event_names(host, mark);
        assert!(!names.contains("role_changed") && !names.contains("peer_gone"), "{names:?}");
    }
    assert_eq!((before.round(1), during.round(1)), (10, 10));
    for (kind, missing) in streams.finish() {
        assert!(missing.is_empty(), "{kind:?}: {missing:?}");
    }
    // The death of the partner is another matter: then an old copy is better than none, and it is told.
    bench.kill(Host::A);
    bench.wait_event(Host::B, mark, "takeover_stale_mirror");
    tests::eventually("role of b", "active".to_owned(), || bench.role(Host::B));
    let status = bench.control(Host::B).ask("status").unwrap();
    let alarms = status["pair"]["alarms"].to_string();
    assert!(alarms.contains("takeover_stale_mirror"), "{alarms}");
    assert_eq!(before.round(2), 10);
}

#[test]
fn n_07_n_08_n_09_n_10_without_sync_links_roles_stay_and_a_kill_takes_over_with_an_alarm() {
    sever(Duration::from_secs(5));
}

#[test]
#[ignore = "a minute: make soak"]
fn n_08_a_minute_without_sync_links_moves_no_role_and_loses_no_packet() {
    sever(Duration::from_secs(60));
}

/// As documented: an old copy is for the death of the active node, not for a bad cable of it.
#[test]
fn n_10_without_sync_a_lost_data_link_moves_no_role_until_sync_is_back() {
    let options = LabOptions::pair(PairSettings { misses: 15, ..PairSettings::default() });
    let mut bench = PairBench::with(options.overlay("[pair]\nlan-fallback = false\n"));
    let _server = EchoServer::start(Host::Server, ECHO).unwrap();
    let mut open = tests::connections(Family::V4, ECHO, 10);
    bench.wait_equal(10);
    let mark = Mark::now();
    faults::cut(Cable::Sync(SyncLink::FIRST)).unwrap();
    bench.wait_event(Host::B, mark, "hasync_connection_failed_timeout");
    // Ten seconds after its start a node may give its role away again.
    thread::sleep(Duration::from_secs(9));
    faults::cut(Cable::Data(Network::Lan, Host::A)).unwrap();
    thread::sleep(Duration::from_secs(3));
    assert_eq!(bench.roles(), ("active".into(), "standby".into()));
    faults::mend(Cable::Sync(SyncLink::FIRST)).unwrap();
    bench.wait_ready(Host::B);
    for host in Host::NODES {
        let names = bench.event_names(host, mark);
        assert!(!names.contains("takeover_stale_mirror") && !names.contains("peer_gone"), "{names:?}");
        assert!(!names.contains("conflict_both_peers_active"), "{names:?}");
    }
    assert_eq!(open.round(1), 10);
}
