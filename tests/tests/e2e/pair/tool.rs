//! Does the operator see and steer the pair with the tool alone?

use std::{thread, time::Duration};

use lab::{
    Family, Host, LabOptions, PairSettings, SyncLink,
    echo::EchoServer,
    exec,
    faults::{self, Cable},
    node::ha_ctl,
    probe::{RST, TcpTap},
    stream::{StreamKind, Streams},
};
use serde_json::Value;
use tests::pair::{Mark, PairBench};

const ECHO: u16 = 7007;

fn ask(bench: &mut PairBench, host: Host, arguments: &[&str]) -> Value {
    bench.operator(host).json(arguments).unwrap()
}

/// Waits until b is active and shows no partner: absent, not stale.
fn wait_alone(bench: &mut PairBench) {
    tests::eventually("role of b", "active".to_owned(), || bench.role(Host::B));
    // Role and view are told by two threads: the one may be a turn ahead.
    tests::eventually("partner", Value::Null, || ask(bench, Host::B, &["status"])["pair"]["partner"].clone());
}

#[test]
fn s_20_n_23_status_shows_both_nodes_and_nothing_of_a_dead_one() {
    let mut bench = PairBench::up();
    for (host, own, partner) in [(Host::A, "active", "standby"), (Host::B, "standby", "active")] {
        // The pair's view is as old as the last turn of its thread, the partner's line as its last heartbeat.
        tests::eventually("roles", [own, own, partner].map(Value::from), || {
            let status = ask(&mut bench, host, &["status"]);
            let pair = &status["pair"];
            [&status["role"], &pair["own"]["role"], &pair["partner"]["role"]].map(Clone::clone)
        });
        let status = ask(&mut bench, host, &["status"]);
        let pair = &status["pair"];
        assert_eq!(pair["own"]["preferred"], host == Host::A, "who is meant to be active, not who is");
        assert_eq!(pair["own"]["config_hash"], pair["partner"]["config_hash"]);
        assert_eq!(pair["id"], lab::topology::PAIR_ID);
        assert!(pair["keys"]["age_s"].is_u64(), "{pair}");
        // One is enough for a pair in sync; the others need a heartbeat each.
        let up = ["sync0", "lan", "wan"].map(|name| (Value::from(name), Value::from(true)));
        tests::eventually("paths", up.to_vec(), || {
            let paths = ask(&mut bench, host, &["status"])["pair"]["paths"].clone();
            let paths = paths.as_array().cloned().unwrap_or_default();
            paths.into_iter().map(|path| (path["name"].clone(), path["up"].clone())).collect()
        });
    }
    bench.kill(Host::A);
    wait_alone(&mut bench);
    let status = ask(&mut bench, Host::B, &["status"]);
    assert_eq!(status["pair"]["own"]["preferred"], false, "active, though the other one is preferred");
}

#[test]
fn n_13_n_14_n_18_b_35_tables_are_compared_verified_and_sent_again_on_command() {
    let mut bench = PairBench::up();
    let _server = EchoServer::start(Host::Server, ECHO).unwrap();
    let mut open = Family::BOTH.map(|family| tests::connections(family, ECHO, 30));
    bench.wait_equal(60);
    bench.wait_ready(Host::A);
    for host in [Host::A, Host::B] {
        let verified = ask(&mut bench, host, &["verify"]);
        assert_eq!((&verified["equal"], &verified["sessions"]), (&true.into(), &60.into()), "{verified}");
        // What the partner says of itself is as old as its last heartbeat.
        tests::eventually("compared", true, || {
            let compared = bench.operator(host).json::<Value>(&["compare"]).unwrap_or_default();
            let row = |what: &str| {
                let rows = compared["lines"].as_array().cloned().unwrap_or_default();
                rows.into_iter().find(|row| row["what"] == what).unwrap_or_default()
            };
            let tcp = row("tcp sessions");
            let proven = compared["digests"]["equal"] == true && compared["digests"]["sessions"] == 60;
            compared["equal"] == true && proven && tcp["own"] == "60" && tcp["partner"] == "60"
        });
    }
    let rows = |bench: &mut PairBench, host| bench.operator(host).sessions(&[]).unwrap().rows;
    assert!(rows(&mut bench, Host::A).iter().all(|row| row.replicated), "{:?}", rows(&mut bench, Host::A));
    assert!(
        rows(&mut bench, Host::B).iter().all(|row| row.sync == "from-sync"),
        "{:?}",
        rows(&mut bench, Host::B)
    );
    for host in [Host::A, Host::B] {
        let mark = tests::pair::Mark::now();
        bench.operator(host).run(&["resync"]).unwrap();
        bench.wait_event(Host::A, mark, "bulk_done");
        bench.wait_ready(Host::A);
        bench.wait_equal(60);
    }
    assert_eq!(bench.role(Host::B), "standby");
    assert!(open.iter_mut().all(|connections| connections.round(1) == 30));
}

#[test]
fn events_are_told_by_stable_names() {
    let mut bench = PairBench::up();
    let names = |bench: &mut PairBench, host| -> Vec<String> {
        let events = ask(bench, host, &["events"]);
        let rows = events["events"].as_array().cloned().unwrap_or_default();
        rows.iter().map(|event| event["name"].as_str().unwrap().to_owned()).collect()
    };
    faults::cut(Cable::Sync(SyncLink::FIRST)).unwrap();
    tests::eventually("path_down", true, || names(&mut bench, Host::A).contains(&"path_down".to_owned()));
    faults::mend_all().unwrap();
    bench.kill(Host::A);
    tests::eventually("role of b", "active".to_owned(), || bench.role(Host::B));
    let all = names(&mut bench, Host::B);
    for name in ["peer_confirmed", "path_up", "path_down", "peer_gone", "role_changed"] {
        assert!(all.contains(&name.to_owned()), "{name} in {all:?}");
    }
}

#[test]
fn every_view_of_a_pair_has_a_table_for_people() {
    let mut bench = PairBench::up();
    let socket = bench.node(Host::A).socket_path();
    for (arguments, word) in [
        (&["status"][..], "standby"),
        (&["compare"], "active"),
        (&["verify"], "equal"),
        (&["events"], "role_changed"),
    ] {
        let output = exec::check(ha_ctl(&socket).unwrap().args(arguments), exec::SHORT).unwrap();
        assert!(output.stdout.contains(word), "{arguments:?} lacks {word:?}:\n{}", output.stdout);
        assert!(serde_json::from_str::<Value>(&output.stdout).is_err(), "{arguments:?} is no table");
    }
}

#[test]
fn a_forced_standby_hands_over_and_stays_so_until_it_is_told_otherwise() {
    let mut bench = PairBench::up();
    let streams = Streams::start(&StreamKind::ALL, Duration::from_millis(1)).unwrap();
    bench.wait_equal(4);
    bench.wait_ready(Host::A);
    bench.operator(Host::A).run(&["force", "standby"]).unwrap();
    bench.wait_roles("standby", "active");
    thread::sleep(Duration::from_millis(500));
    assert_eq!(bench.roles(), ("standby".into(), "active".into()));
    bench.operator(Host::A).run(&["unforce"]).unwrap();
    bench.wait_ready(Host::B);
    assert_eq!(bench.roles(), ("standby".into(), "active".into()), "no preemption unless it is configured");
    for track in streams.tracks() {
        assert!(
            track.last().is_some_and(|last| last.at.elapsed() < Duration::from_millis(300)),
            "{:?}",
            track.kind()
        );
    }
}

#[test]
fn b_32_b_33_a_session_that_is_ended_on_command_says_what_its_ends_were_told() {
    let mut bench = PairBench::up();
    let server = EchoServer::start(Host::Server, ECHO).unwrap();
    let mut open = tests::connections(Family::V4, ECHO, 1);
    assert_eq!(open.round(0), 1);
    bench.wait_equal(1);
    bench.wait_ready(Host::A);
    let port = open.streams()[0].local_addr().unwrap().port();
    let tap = TcpTap::start(Host::Client, Family::V4).unwrap();
    let ended = ask(&mut bench, Host::A, &["terminate", "--port", &port.to_string()]);
    let [row] = &ended["rows"].as_array().unwrap()[..] else { panic!("one row: {ended}") };
    let resets = tap.wait(1, Duration::from_millis(500), |segment| segment.flags & RST != 0).len();
    assert_eq!(row["rst_to_from"], resets > 0, "the answer tells what the wire shows: {ended}");
    for host in Host::NODES {
        tests::eventually("sessions", 0, || bench.count(host, &["--port", &port.to_string()]));
    }
    if row["rst_to_to"] == true {
        tests::eventually("open at the server", 0, || server.open());
    }
}

/// The paths of all keys of a document; what several elements of a list have counts once.
fn keys(value: &Value, path: &str, into: &mut std::collections::BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                let path = format!("{path}.{key}");
                keys(value, &path, into);
                into.insert(path);
            }
        }
        Value::Array(elements) => elements.iter().for_each(|element| keys(element, path, into)),
        _ => {}
    }
}

#[test]
fn s_20_both_nodes_answer_with_the_same_keys_and_one_alone_leaves_out_its_partners() {
    let mut bench = PairBench::up();
    let _server = EchoServer::start(Host::Server, ECHO).unwrap();
    let mut open = tests::connections(Family::V4, ECHO, 5);
    bench.wait_equal(5);
    bench.wait_ready(Host::A);
    let of = |bench: &mut PairBench, host, arguments: &[&str]| {
        let mut all = std::collections::BTreeSet::new();
        keys(&ask(bench, host, arguments), "", &mut all);
        all
    };
    // What only the one who sends, or only the one who forwards, can know; and lists that may be empty.
    let own = |key: &String| {
        [
            ".pair.word.lease_ms",
            ".pair.sync.last_bulk",
            ".pair.sync.progress",
            ".pair.sync.verified",
            ".pair.rejected.",
            ".rules.last_hit_ms",
            ".pair.alarms.",
        ]
        .iter()
        .any(|own| key.starts_with(own))
    };
    for arguments in
        [&["status"][..], &["sessions"], &["counters"], &["rules"], &["neighbours"], &["routes"], &["events"]]
    {
        // What one has just learnt the other one is about to: a path, a neighbour.
        tests::eventually(&format!("keys of {arguments:?}"), Vec::<String>::new(), || {
            let (a, b) = (of(&mut bench, Host::A, arguments), of(&mut bench, Host::B, arguments));
            assert!(a.len() > 3, "{arguments:?}: {a:?}");
            a.symmetric_difference(&b).filter(|key| !own(key)).cloned().collect()
        });
    }
    let both = of(&mut bench, Host::B, &["status"]);
    bench.kill(Host::A);
    wait_alone(&mut bench);
    let alone = of(&mut bench, Host::B, &["status"]);
    assert!(
        both.contains(".pair.partner.role") && !alone.iter().any(|key| key.starts_with(".pair.partner.")),
        "{alone:?}"
    );
    let compared = bench.operator(Host::B).run(&["compare"]);
    assert!(compared.is_err(), "there is nothing to compare with: {compared:?}");
    assert_eq!(open.round(1), 5);
}

#[test]
fn s_17_status_tells_of_a_failed_link_and_how_far_a_bulk_is() {
    const SESSIONS: u32 = 60_000;
    let mut bench = PairBench::up();
    let generator = lab::generator::Generator::new(Family::V4, SESSIONS).unwrap();
    generator.fill(&bench.control(Host::A), SESSIONS, 40_000).unwrap();
    bench.kill(Host::B);
    faults::cut(Cable::Sync(SyncLink::FIRST)).unwrap();
    let own_path = |bench: &mut PairBench| ask(bench, Host::A, &["status"])["pair"]["paths"][0].clone();
    tests::eventually("link", Value::from(false), || own_path(&mut bench)["link"].clone());
    assert_eq!(own_path(&mut bench)["up"], false);
    // A long cable makes the bulk last.
    let long = lab::forwarder::Impairment { delay_ms: 80, ..Default::default() };
    faults::mend(Cable::Sync(SyncLink::FIRST)).unwrap();
    faults::impair(SyncLink::FIRST, long).unwrap();
    bench.start(Host::B);
    let mut seen: Vec<(u64, u64)> = Vec::new();
    let mut standby = std::collections::BTreeSet::new();
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while bench.view(Host::A).is_some_and(|view| !view.in_sync) {
        assert!(std::time::Instant::now() < deadline, "{seen:?}");
        let status = bench.control(Host::A).ask("status").unwrap();
        let progress = &status["pair"]["sync"]["progress"];
        if let (Some(done), Some(total)) = (progress["done"].as_u64(), progress["total"].as_u64()) {
            seen.push((done, total));
            standby.insert(bench.role(Host::B));
        }
    }
    assert!(!seen.is_empty() && seen.windows(2).all(|two| two[0].0 <= two[1].0), "{seen:?}");
    assert!(seen.iter().all(|(done, total)| done <= total && *total > 0), "{seen:?}");
    assert!(standby.contains("syncing") && !standby.contains("standby"), "{standby:?}");
}

/// Whoever harms the copy behind the stream's back is found out: each kind of damage is named, and mended
/// without anybody's doing.
#[test]
fn x_03_damage_to_the_copy_is_named_and_mended() {
    let options = LabOptions::pair(PairSettings::default()).overlay("[pair]\ndebug-verbs = true\n");
    let mut bench = PairBench::with(options);
    let _server = EchoServer::start(Host::Server, ECHO).unwrap();
    let mut open = Family::BOTH.map(|family| tests::connections(family, ECHO, 10));
    bench.wait_equal(20);
    bench.wait_ready(Host::A);
    let refused = bench.operator(Host::A).run(&["debug", "damage", "drop"]).unwrap_err();
    assert!(refused.to_string().contains("this node is active"), "{refused}");
    // One pass of the scrubber over sessions that are as they should be.
    thread::sleep(Duration::from_secs(2));
    for (how, name) in [("corrupt", "changed"), ("drop", "dropped"), ("add", "added")] {
        let mark = Mark::now();
        bench.operator(Host::B).run(&["debug", "damage", how]).unwrap();
        let event = bench.wait_event(Host::B, mark, "mirror_corrupt");
        assert!(event.has("damage", name), "{event:?}");
        bench.wait_equal(20);
        bench.wait_ready(Host::A);
        let verified = ask(&mut bench, Host::A, &["verify"]);
        assert_eq!((&verified["equal"], &verified["sessions"]), (&true.into(), &20.into()), "{verified}");
    }
    assert_eq!(open.each_mut().map(|some| some.round(1)), [10, 10]);
    assert_eq!(bench.roles(), ("active".into(), "standby".into()));
}
