//! The control thread with a whole daemon on rings: what it answers, and what a reload changes.

use super::server::{Reply, Responder};
use crate::harness::{CLIENT, CONFIG, LAN, Rig, SERVER, Shape, WAN};
use dpdk::Mempool;
use engine::counters::{DropReason, Event};
use proto::{
    Command, Damage, DebugArgs, ErrorCode, EventsArgs, ForceArgs, ForcedRole, SessionsArgs, TerminateArgs,
    TerminateResult, Terminated, WaitArgs,
};
use serde_json::Value;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use wire::craft::Frame;
use wire::tcp_flags::{ACK, SYN};

/// The answer's `data`.
fn ask(rig: &mut Rig, command: Command) -> Value {
    let mut answer = whole_answer(rig, command);
    assert_eq!((&answer["v"], &answer["ok"]), (&1.into(), &true.into()));
    answer["data"].take()
}

/// Why it is refused.
fn refused(rig: &mut Rig, command: Command) -> proto::Error {
    let mut answer = whole_answer(rig, command);
    assert_eq!(answer["ok"], false, "{answer}");
    serde_json::from_value(answer["error"].take()).unwrap()
}

fn whole_answer(rig: &mut Rig, command: Command) -> Value {
    let line = match rig.core.respond(command) {
        Reply::Line(line) => line,
        Reply::Walk(mut walk) => {
            let mut line = Vec::new();
            while !walk.step(&mut line) {}
            line
        }
        Reply::Later(mut later) => loop {
            rig.settle();
            if let Some(line) = later.poll(Instant::now()) {
                break line;
            }
        },
    };
    assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1, "one line");
    serde_json::from_slice(&line).unwrap()
}

fn sessions(rig: &mut Rig, args: SessionsArgs) -> Value {
    ask(rig, Command::Sessions(args))
}

/// A TCP connection, two UDP flows and a ping.
fn traffic(rig: &mut Rig) {
    rig.introduce_hosts();
    rig.arrive(LAN, Frame::tcp(CLIENT, SERVER, 40_000, 80).seq(1).ack(0).flags(SYN));
    rig.settle();
    rig.arrive(WAN, Frame::tcp(SERVER, CLIENT, 80, 40_000).seq(9).ack(2).flags(SYN | ACK));
    rig.settle();
    rig.arrive(LAN, Frame::tcp(CLIENT, SERVER, 40_000, 80).seq(2).ack(10));
    rig.arrive(LAN, Frame::udp(CLIENT, SERVER, 5_000, 53));
    rig.arrive(LAN, Frame::udp(CLIENT, SERVER, 5_001, 53));
    rig.arrive(LAN, Frame::echo_request(CLIENT, SERVER, 77, 1));
    rig.settle();
    assert_eq!(rig.event(Event::Created), 4);
}

/// A configuration file of the test's own.
struct File(PathBuf);

impl File {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("us-reload-{name}-{}.toml", std::process::id())))
    }

    fn write(&self, text: &str) {
        std::fs::write(&self.0, format!("{text}\n[workers]\ncount = 1\n")).unwrap();
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[dpdk::test(capacity = 1023)]
fn status_tells_the_node_as_it_is(pool: &Mempool) {
    let mut rig = Rig::new(pool, &Shape::default(), "");
    traffic(&mut rig);
    let status = ask(&mut rig, Command::Status);
    let typed: proto::Status = serde_json::from_value(status.clone()).unwrap();
    assert_eq!((typed.node.as_str(), typed.role), ("rig", proto::Role::Active));
    assert_eq!((typed.policy.epoch, typed.policy.rules), (1, 1));
    assert!(typed.policy.last_reload.unwrap().ok);
    assert_eq!(typed.warnings, ["a rig"]);
    let usage = &typed.sessions;
    assert_eq!((usage.in_use, usage.tcp, usage.udp, usage.icmp, usage.half_open), (4, 1, 2, 1, 0));
    assert_eq!((usage.capacity, usage.created_total, usage.refused_full_total), (4096, 4, 0));
    let names: Vec<&str> = typed.ports.iter().map(|port| port.name.as_str()).collect();
    assert_eq!(names, ["lan", "wan"]);
    assert_eq!(typed.ports[0].addresses, ["10.1.0.1/24", "fd00:1::1/64"]);
    // ARP request, SYN, ACK, two datagrams, a ping.
    assert_eq!((typed.ports[0].rx_packets, typed.ports[0].tx_dropped, typed.ports[0].link), (6, 0, true));
    assert_eq!((typed.workers.len(), typed.workers[0].packets, typed.workers[0].sessions), (1, 8, 4));
    assert_eq!(typed.mbufs.total, 1023);
}

#[dpdk::test(capacity = 1023)]
fn sessions_are_listed_filtered_counted_and_limited(pool: &Mempool) {
    let mut rig = Rig::new(pool, &Shape { workers: 2, queues: 2, places: 512 }, "");
    traffic(&mut rig);

    let all = sessions(&mut rig, SessionsArgs::default());
    assert_eq!((all["rows"].as_array().unwrap().len(), &all["truncated"]), (4, &false.into()));

    let tcp = SessionsArgs { proto: Some(proto::Protocol::TCP), ..SessionsArgs::default() };
    let rows: proto::Sessions = serde_json::from_value(sessions(&mut rig, tcp)).unwrap();
    let row = &rows.rows[0];
    assert_eq!((row.from.port, row.to.port, row.state.as_str()), (40_000, 80, "established"));
    assert_eq!((row.from_zone.as_str(), row.to_zone.as_str(), row.rule.as_str()), ("lan", "wan", "out"));
    assert_eq!((row.packets.fwd, row.packets.rev, row.sync.as_str()), (2, 1, "no(no partner)"));
    assert!(row.idle_ms < 60_000 && row.expires_ms > 7_300_000, "{row:?}");

    let mut count_of = |args: SessionsArgs| sessions(&mut rig, args)["rows"].as_array().unwrap().len();
    assert_eq!(count_of(SessionsArgs { port: Some(53), ..SessionsArgs::default() }), 2);
    assert_eq!(count_of(SessionsArgs { port: Some(5_001), ..SessionsArgs::default() }), 1);
    assert_eq!(count_of(SessionsArgs { state: Some("new".into()), ..SessionsArgs::default() }), 3);
    let address = |text: &str| Some(text.parse().unwrap());
    assert_eq!(count_of(SessionsArgs { address: address("10.2.0.0/24"), ..SessionsArgs::default() }), 4);
    assert_eq!(count_of(SessionsArgs { address: address("10.3.0.0/24"), ..SessionsArgs::default() }), 0);

    let limited = sessions(&mut rig, SessionsArgs { limit: 3, ..SessionsArgs::default() });
    assert_eq!((limited["rows"].as_array().unwrap().len(), &limited["truncated"]), (3, &true.into()));
    let exact = sessions(&mut rig, SessionsArgs { limit: 4, ..SessionsArgs::default() });
    assert_eq!(exact["truncated"], false);

    let counts = sessions(&mut rig, SessionsArgs { count: true, ..SessionsArgs::default() });
    let counts: proto::SessionCounts = serde_json::from_value(counts).unwrap();
    assert_eq!(counts.total, 4);
    let list: Vec<(String, &str, u64)> =
        counts.by_state.iter().map(|c| (c.proto.to_string(), c.state.as_str(), c.sessions)).collect();
    assert_eq!(list, [("icmp".into(), "new", 1), ("tcp".into(), "established", 1), ("udp".into(), "new", 2)]);
}

#[dpdk::test(capacity = 1023)]
fn every_drop_reason_has_its_counter_zeros_included(pool: &Mempool) {
    let mut rig = Rig::new(pool, &Shape::default(), "");
    rig.introduce_hosts();
    rig.arrive(WAN, Frame::udp(SERVER, CLIENT, 1, 2));
    rig.settle();
    let counters: proto::Counters = serde_json::from_value(ask(&mut rig, Command::Counters)).unwrap();
    assert_eq!(counters.drops.len(), DropReason::COUNT);
    for drop in &counters.drops {
        assert_eq!(drop.packets, u64::from(drop.name == "policy-drop"), "{}", drop.name);
        assert!(!drop.meaning.is_empty(), "{}", drop.name);
    }
    let mut names: Vec<&str> = counters
        .drops
        .iter()
        .map(|d| d.name.as_str())
        .chain(counters.other.iter().map(|c| c.name.as_str()))
        .collect();
    names.sort_unstable();
    let all = names.len();
    names.dedup();
    assert_eq!(names.len(), all, "each name once");
}

#[dpdk::test(capacity = 1023)]
fn rules_count_what_they_did_and_the_default_deny_stands_last(pool: &Mempool) {
    let mut rig = Rig::new(pool, &Shape::default(), "");
    traffic(&mut rig);
    rig.arrive(WAN, Frame::udp(SERVER, CLIENT, 1, 2));
    rig.settle();
    let rules: proto::Rules = serde_json::from_value(ask(&mut rig, Command::Rules)).unwrap();
    let list: Vec<_> = rules
        .rules
        .iter()
        .map(|rule| (rule.name.as_str(), rule.sessions_created, rule.packets_denied))
        .collect();
    assert_eq!(list, [("out", 4, 0), ("default-deny", 0, 1)]);
    assert_eq!(
        (&rules.rules[0].from, &rules.rules[0].services),
        (&vec!["lan".to_owned()], &vec!["tcp".to_owned(), "udp".into(), "icmp-echo".into()])
    );
    assert!(rules.rules.iter().all(|rule| rule.last_hit_ms.is_some()));
}

#[dpdk::test(capacity = 1023)]
fn neighbours_and_routes_are_told_by_name(pool: &Mempool) {
    let more = "[[route]]\nto = \"10.3.0.0/16\"\nvia = \"10.2.0.254\"\n";
    let mut rig = Rig::new(pool, &Shape::default(), more);
    rig.introduce_hosts();
    let neighbours: proto::Neighbours = serde_json::from_value(ask(&mut rig, Command::Neighbours)).unwrap();
    let list: Vec<_> = neighbours
        .neighbours
        .iter()
        .map(|n| (n.address.to_string(), n.port.as_str(), n.state.as_str()))
        .collect();
    assert_eq!(list, [("10.1.0.10".into(), "lan", "reachable"), ("10.2.0.10".into(), "wan", "reachable")]);
    let routes: proto::Routes = serde_json::from_value(ask(&mut rig, Command::Routes)).unwrap();
    let list: Vec<_> =
        routes.routes.iter().map(|r| format!("{} {:?} {} {}", r.to, r.via, r.port, r.source)).collect();
    assert!(list.contains(&"10.3.0.0/16 Some(10.2.0.254) wan static".to_owned()), "{list:?}");
    assert!(list.contains(&"fd00:1::/64 None lan connected".to_owned()), "{list:?}");
    assert_eq!(list.len(), 5);
}

#[dpdk::test(capacity = 1023)]
fn a_reload_puts_new_rules_into_force_and_ends_what_they_refuse(pool: &Mempool) {
    let file = File::new("rules");
    let mut rig = Rig::new(pool, &Shape::default(), "");
    rig.core.set_config_path(&file.0);
    traffic(&mut rig);
    assert_eq!(rig.left(WAN, 1).len(), 5);

    file.write(&CONFIG.replace(r#"services = ["tcp", "udp", "icmp-echo"]"#, r#"services = ["tcp"]"#));
    rig.core.reload();
    rig.settle();
    let status = ask(&mut rig, Command::Status);
    assert_eq!(
        (&status["policy"]["epoch"], &status["policy"]["last_reload"]["ok"]),
        (&2.into(), &true.into())
    );

    // The TCP session goes on under the new policy, the UDP one ends at its next packet.
    rig.arrive(LAN, Frame::tcp(CLIENT, SERVER, 40_000, 80).seq(2).ack(10).payload(b"go on"));
    rig.arrive(LAN, Frame::udp(CLIENT, SERVER, 5_000, 53));
    rig.settle();
    assert_eq!(rig.left(WAN, 1).len(), 1);
    assert_eq!(
        (rig.event(Event::Rebound), rig.event(Event::Terminated), rig.event(Event::Created)),
        (2, 1, 4)
    );

    // The rule kept its counters over the reload.
    let rules: proto::Rules = serde_json::from_value(ask(&mut rig, Command::Rules)).unwrap();
    assert_eq!((rules.epoch, rules.rules[0].sessions_created), (2, 4));
}

#[dpdk::test(capacity = 1023)]
fn a_reload_that_cannot_be_leaves_everything_as_it_was_and_says_so(pool: &Mempool) {
    let file = File::new("refused");
    let mut rig = Rig::new(pool, &Shape::default(), "");
    rig.core.set_config_path(&file.0);
    traffic(&mut rig);
    rig.left(WAN, 1);
    for (text, reason) in [
        ("this is no TOML".to_owned(), "is not TOML"),
        (CONFIG.replace(r#"action = "allow""#, r#"action = "alow""#), "alow"),
        (
            CONFIG.replace("10.2.0.1/24", "10.9.0.1/24"),
            "ports and zones cannot change while the daemon runs: addresses of port \"wan\"",
        ),
        (
            CONFIG.replace(r#"zone = "wan""#, r#"zone = "dmz""#).replace(r#"to = "wan""#, r#"to = "dmz""#),
            "zone of port \"wan\"",
        ),
    ] {
        file.write(&text);
        rig.core.reload();
        rig.settle();
        let status = ask(&mut rig, Command::Status);
        let reload = &status["policy"]["last_reload"];
        assert_eq!((&status["policy"]["epoch"], &reload["ok"]), (&1.into(), &false.into()), "{reason}");
        assert!(reload["error"].as_str().unwrap().contains(reason), "{reason}: {}", reload["error"]);
        assert!(
            status["warnings"].to_string().contains("the configuration on disk is not in force"),
            "{status}"
        );
        rig.arrive(LAN, Frame::udp(CLIENT, SERVER, 5_000, 53));
        rig.settle();
        assert_eq!(rig.left(WAN, 1).len(), 1, "traffic goes on: {reason}");
    }
    std::fs::remove_file(&file.0).unwrap();
    rig.core.reload();
    let status = ask(&mut rig, Command::Status);
    assert!(
        status["policy"]["last_reload"]["error"]
            .as_str()
            .unwrap()
            .starts_with("cannot read the configuration")
    );

    file.write(CONFIG);
    rig.core.reload();
    let status = ask(&mut rig, Command::Status);
    assert_eq!((&status["policy"]["epoch"], status["warnings"].as_array().unwrap().len()), (&2.into(), 1));
}

#[dpdk::test(capacity = 1023)]
fn what_needs_a_restart_is_named_and_the_rest_takes_effect(pool: &Mempool) {
    let file = File::new("restart");
    let mut rig = Rig::new(pool, &Shape::default(), "");
    rig.core.set_config_path(&file.0);
    let changed = CONFIG
        .replace("capacity = 4096", "capacity = 8192")
        .replace(r#"name = "out""#, r#"name = "outwards""#);
    for _ in 0..2 {
        file.write(&changed);
        rig.core.reload();
        let status = ask(&mut rig, Command::Status);
        assert_eq!(status["policy"]["last_reload"]["ok"], true);
        assert_eq!(status["sessions"]["capacity"], 4096);
        let warnings = status["warnings"].to_string();
        assert!(warnings.contains("take effect after a restart: sessions.capacity"), "{warnings}");
        let rules = ask(&mut rig, Command::Rules);
        assert_eq!(rules["rules"][0]["name"], "outwards");
    }
}

#[dpdk::test(capacity = 1023)]
fn old_snapshots_are_freed_once_the_worker_has_let_go(pool: &Mempool) {
    let file = File::new("reclaim");
    let mut rig = Rig::new(pool, &Shape::default(), "");
    rig.core.set_config_path(&file.0);
    file.write(CONFIG);
    let first = std::sync::Arc::downgrade(&rig.core.snapshot().policy);
    rig.core.reload();
    assert!(!rig.core.turn(Instant::now()));
    assert!(first.upgrade().is_some(), "the worker has not turned yet");
    rig.settle();
    assert!(first.upgrade().is_none());
}

#[dpdk::test(capacity = 2047)]
fn a_scan_of_the_network_keeps_nobody_waiting(pool: &Mempool) {
    let mut rig = Rig::new(pool, &Shape { places: 1024, ..Shape::default() }, "");
    rig.introduce_hosts();
    let mut longest = Duration::ZERO;
    for last in 0..=255_u8 {
        for port in 0..8 {
            rig.arrive(LAN, Frame::udp(CLIENT, [10, 2, 0, last], 1_000 + port, 53));
        }
        rig.workers[0].turn(dpdk::cycles());
        let began = Instant::now();
        rig.core.turn(began);
        longest = longest.max(began.elapsed());
        rig.left(WAN, 1);
    }
    rig.settle();
    assert!(longest < Duration::from_millis(250), "{longest:?}");
    // Every address but the broadcast ones and our own is asked for or known.
    let neighbours = ask(&mut rig, Command::Neighbours);
    assert_eq!(neighbours["neighbours"].as_array().unwrap().len(), 1 + 254 - 1);
    rig.left(WAN, 1);
}

#[dpdk::test(capacity = 1023)]
fn a_walk_through_a_large_table_is_cut_into_short_steps(pool: &Mempool) {
    let mut rig = Rig::new(pool, &Shape::default(), "");
    rig.core.enlarge_shard(1_000_000);
    let Reply::Walk(mut walk) =
        rig.core.respond(Command::Sessions(SessionsArgs { count: true, ..SessionsArgs::default() }))
    else {
        panic!("a walk");
    };
    let (mut out, mut steps, mut longest) = (Vec::new(), 1, Duration::ZERO);
    loop {
        let began = Instant::now();
        let done = walk.step(&mut out);
        longest = longest.max(began.elapsed());
        if done {
            break;
        }
        steps += 1;
    }
    assert!(steps >= 3, "{steps} steps");
    assert!(
        longest < Duration::from_millis(250),
        "{longest:?}: a step is a millisecond, and the machine is shared"
    );
    assert_eq!(out, b"{\"v\":1,\"ok\":true,\"data\":{\"total\":0,\"by_state\":[]}}\n");
}

#[dpdk::test(capacity = 1023)]
fn a_node_that_stands_alone_has_no_pair_to_steer(pool: &Mempool) {
    let mut rig = Rig::new(pool, &Shape::default(), "");
    let status = ask(&mut rig, Command::Status);
    assert!(status.get("pair").is_none());
    for command in [
        Command::Verify(WaitArgs::default()),
        Command::Compare(WaitArgs::default()),
        Command::Debug(DebugArgs { damage: Damage::Drop, session: None }),
        Command::Resync,
        Command::Switchover(WaitArgs::default()),
        Command::Force(ForceArgs { role: ForcedRole::Active }),
        Command::Unforce,
        Command::Events(EventsArgs { wait_ms: 60_000, ..EventsArgs::default() }),
    ] {
        let error = refused(&mut rig, command);
        assert_eq!(error.code, ErrorCode::NoPair);
        assert!(error.message.contains("no [pair]") && error.hint.contains("docs/pair.md"), "{error:?}");
    }
}

fn terminate(rig: &mut Rig, args: TerminateArgs) -> Terminated {
    let args = TerminateArgs { limit: if args.limit == 0 { 100 } else { args.limit }, ..args };
    serde_json::from_value(ask(rig, Command::Terminate(args))).unwrap()
}

#[dpdk::test(capacity = 1023)]
fn b_33_sessions_end_on_command_and_the_answer_says_which_ends_know(pool: &Mempool) {
    let mut rig = Rig::new(pool, &Shape::default(), "");
    traffic(&mut rig);
    rig.left(LAN, 1);
    rig.left(WAN, 1);
    // Nothing is in flight on the connection: the numbers of both resets are known.
    let tcp = TerminateArgs { proto: Some(proto::Protocol::TCP), ..TerminateArgs::default() };
    let ended = terminate(&mut rig, tcp.clone());
    assert_eq!((ended.rows.len(), ended.truncated), (1, false));
    let row = &ended.rows[0];
    assert_eq!((row.result, row.rst_to_from, row.rst_to_to), (TerminateResult::Removed, true, true));
    assert_eq!((row.from.port, row.to.port), (40_000, 80));
    assert_eq!((rig.left(LAN, 1).len(), rig.left(WAN, 1).len()), (1, 1), "a reset to each end");
    assert_eq!(terminate(&mut rig, tcp).rows, [], "it is gone");

    let one = ask(&mut rig, Command::Sessions(SessionsArgs { port: Some(5_001), ..SessionsArgs::default() }));
    let session = serde_json::from_value(one["rows"][0].clone()).unwrap();
    let ended = terminate(&mut rig, TerminateArgs { session: Some(session), ..TerminateArgs::default() });
    let row = &ended.rows[0];
    assert_eq!((ended.rows.len(), row.from.port, row.result), (1, 5_001, TerminateResult::Removed));
    assert!(!row.rst_to_from && !row.rst_to_to, "UDP knows no reset");

    let ended = terminate(&mut rig, TerminateArgs { all: true, limit: 1, ..TerminateArgs::default() });
    assert_eq!((ended.rows.len(), ended.truncated), (1, true));
    let ended = terminate(&mut rig, TerminateArgs { all: true, ..TerminateArgs::default() });
    assert_eq!((ended.rows.len(), ended.truncated), (1, false));
    assert_eq!(rig.core.sessions_by_worker(), [0]);
}

#[dpdk::test(capacity = 1023)]
fn b_33_more_sessions_than_a_worker_ends_at_a_time_end_all_the_same(pool: &Mempool) {
    let mut rig = Rig::new(pool, &Shape::default(), "");
    rig.introduce_hosts();
    for port in 0..600 {
        rig.arrive(LAN, Frame::udp(CLIENT, SERVER, 10_000 + port, 53));
        if port % 32 == 31 {
            rig.settle();
            rig.left(WAN, 1);
        }
    }
    rig.settle();
    assert_eq!(rig.core.sessions_by_worker(), [600]);
    let which = TerminateArgs { port: Some(53), limit: 1_000, ..TerminateArgs::default() };
    let ended = terminate(&mut rig, which);
    assert_eq!(ended.rows.iter().filter(|row| row.result == TerminateResult::Removed).count(), 600);
    assert_eq!(rig.core.sessions_by_worker(), [0]);
}
