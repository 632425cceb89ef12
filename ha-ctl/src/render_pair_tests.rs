//! What operators see of the pair, in full.

use super::*;
use crate::render::status;
use crate::render::tests::{a_status, side};
use insta::assert_snapshot;
use proto::{
    Alarm, ComparedLine, Level, Mirror, PairKeys, PathKind, Progress, Protocol, RefusedSessions, Rejected,
    Role, RoleWord, SentRecords, SyncState, TerminateResult, TerminatedRow,
};
use std::collections::BTreeMap;

fn a_node(node_id: u32, role: Role) -> PairNode {
    PairNode {
        node_id,
        role,
        seen_term: 4,
        preferred: node_id == 0,
        quality: 100,
        able: true,
        forced_active: false,
        mirror: Mirror::Complete,
        incarnation: Some("00000000000000ff".into()),
        config_hash: "0123456789abcdef".into(),
        wire_version: 1,
        policy_generation: 3,
        workers: 2,
        held: [800, 300, 60, 20],
        entries: 1_180,
        digest: "fedcba9876543210".into(),
    }
}

fn a_path(name: &str, kind: PathKind, up: bool) -> PairPath {
    PairPath {
        name: name.into(),
        kind,
        up,
        link: true,
        carries_sync: true,
        in_use: kind == PathKind::SyncLink && up,
        heard_ms: up.then_some(40),
        rtt_us: up.then_some(312),
        datagram_bytes: up.then_some(1_472),
    }
}

fn a_pair() -> PairStatus {
    PairStatus {
        id: 7,
        term: 4,
        own: a_node(0, Role::Active),
        partner: Some(a_node(1, Role::Standby)),
        partner_state: PartnerState::Here,
        differs: vec![],
        word: RoleWord { forwards: true, lease: Lease::Running, lease_ms: Some(270) },
        paths: vec![a_path("sync0", PathKind::SyncLink, true), a_path("lan", PathKind::DataPort, true)],
        sync: SyncStatus {
            state: SyncState::InSync,
            proven: true,
            lag_ms: 2,
            protected: 1_180,
            unprotected: 17,
            dirty: 12,
            in_flight: 5,
            refused: vec![],
            progress: None,
            last_bulk: Some(Transfer { at_ms: 1_795_393_470_000, sessions: 1_150, took_ms: 31 }),
            last_repair: None,
            round_trip_us: 412,
            records_sent: 41_000,
            sent: vec![
                SentRecords { kind: "new".into(), records: 39_850, bytes: 2_000_000 },
                SentRecords { kind: "refresh".into(), records: 0, bytes: 0 },
                SentRecords { kind: "bulk".into(), records: 1_150, bytes: 60_000 },
            ],
            datagrams_sent: 2_100,
            bytes_sent: 2_090_000,
            datagrams_lost: 3,
            datagrams_received: 7,
            records_received: 0,
            records_applied: 0,
            damaged: 0,
        },
        keys: Some(PairKeys { key_id: 9, age_s: 12, renewals: 8, renewing: false }),
        rejected: vec![],
        alarms: vec![],
    }
}

/// The pair's part of `status`: facts and paths.
fn shown(pair: &PairStatus) -> String {
    let mut out = String::new();
    for (name, fact) in pair_facts(pair) {
        line(&mut out, format_args!("{name:<10}{fact}"));
    }
    out + "\n" + &paths(&pair.paths)
}

#[test]
fn s_20_a_pair_in_good_order() {
    assert_snapshot!(shown(&a_pair()), @r#"
    pair      7, term 4
    here      node 0: active, preferred, quality 100 %, forwards, lease 270ms
    partner   node 1: standby, quality 100 %, mirror complete
    sync      in sync over sync0, lag 2ms
              protected 1,180, unprotected 17: waiting 12, in flight 5
              last bulk 2026-11-23 00:24:30 UTC: 1,150 sessions in 31ms
              sent 41,000 records (new 39,850, bulk 1,150), 2.0 MiB in 2,100 datagrams, 3 lost
              received 0 records, 0 applied, round trip 0.41ms
    keys      number 9, 12.0s old, renewed 8 times

    PATH   KIND       STATE  LINK  SYNC         HEARD  ROUND TRIP  DATAGRAM
    sync0  sync link  up     up    in use    40ms ago      0.31ms   1,472 B
    lan    data port  up     up    possible  40ms ago      0.31ms   1,472 B
    "#);
}

#[test]
fn s_20_nothing_of_a_partner_that_is_not_heard_is_shown() {
    let mut pair = a_pair();
    pair.partner = None;
    pair.keys = None;
    pair.word = RoleWord { forwards: true, lease: Lease::Endless, lease_ms: None };
    pair.paths = vec![a_path("sync0", PathKind::SyncLink, false)];
    pair.sync.state = SyncState::Absent;
    pair.sync.last_bulk = None;
    let text = "the partner is silent on all paths".into();
    pair.alarms = vec![Alarm { name: "peer_gone".into(), text, at_ms: Some(1_795_393_470_000) }];
    assert_snapshot!(shown(&pair), @r#"
    pair      7, term 4
    here      node 0: active, preferred, quality 100 %, forwards, lease endless
    partner   not heard
    sync      absent, lag 2ms
              protected 1,180, unprotected 17: waiting 12, in flight 5
              sent 41,000 records (new 39,850, bulk 1,150), 2.0 MiB in 2,100 datagrams, 3 lost
              received 0 records, 0 applied, round trip 0.41ms
    ALARM     peer_gone: the partner is silent on all paths (since 2026-11-23 00:24:30 UTC)

    PATH   KIND       STATE  LINK  SYNC      HEARD  ROUND TRIP  DATAGRAM
    sync0  sync link  DOWN   up    possible  never           -         -
    "#);
}

#[test]
fn b_07_what_is_wrong_is_written_large() {
    let mut pair = a_pair();
    pair.own = PairNode { able: false, forced_active: true, quality: 63, ..a_node(0, Role::Isolated) };
    pair.word = RoleWord { forwards: false, lease: Lease::Running, lease_ms: Some(0) };
    pair.differs = vec!["rules".into(), "ports".into()];
    pair.rejected = vec![
        Rejected { reason: "forged".into(), datagrams: 1_500 },
        Rejected { reason: "replayed".into(), datagrams: 2 },
    ];
    pair.sync.state = SyncState::Bulk;
    pair.sync.progress = Some(Progress { done: 1, total: 3 });
    pair.sync.refused = vec![RefusedSessions { reason: "full".into(), sessions: 3 }];
    pair.sync.damaged = 1;
    pair.sync.last_repair = pair.sync.last_bulk;
    let text = "the nodes\x1b[31m differ".into();
    pair.alarms = vec![Alarm { name: "pair_differs".into(), text, at_ms: None }];
    let mut whole = a_status();
    whole.pair = Some(pair);
    whole.sessions.relaxed = 12;
    let text = status(&whole);
    assert!(!text.contains('\x1b'));
    let end = text.find("WORKER").unwrap();
    assert_snapshot!(&text[..end], @r#"
    node      a (understudyd 0.1.0)
    role      active
    uptime    2h 04m
    policy    epoch 3, 4 rules, loaded 2026-11-23 00:24:30 UTC
    sessions  1,200 of 262,144 (0.4 %), 3 half-open
              tcp 1,000 (12 with relaxed checks), udp 190, icmp 10, other 0
              created 41,000, expired 39,800, refused because full 0
    memory    48.0 MiB for sessions in huge pages of 2.0 MiB
    mbufs     512 of 16,384 (3.1 %), huge pages
    pair      7, term 4
    here      node 0: isolated, preferred, FORCED, NOT ABLE, quality 63 %, LEASE OVER: forwards nothing
    partner   node 1: standby, quality 100 %, mirror complete
    sync      bulk over sync0, 33.3 % done, lag 2ms
              protected 1,180, unprotected 17: waiting 12, in flight 5, refused (full) 3
              last bulk 2026-11-23 00:24:30 UTC: 1,150 sessions in 31ms
              last repair 2026-11-23 00:24:30 UTC: 1,150 sessions in 31ms
              sent 41,000 records (new 39,850, bulk 1,150), 2.0 MiB in 2,100 datagrams, 3 lost
              received 0 records, 0 applied, round trip 0.41ms
              DAMAGED places found and repaired: 1
    keys      number 9, 12.0s old, renewed 8 times
    rejected  datagrams: forged 1,500, replayed 2
    DIFFERS   the nodes differ in: rules, ports
    ALARM     pair_differs: the nodes [31m differ

    PATH   KIND       STATE  LINK  SYNC         HEARD  ROUND TRIP  DATAGRAM
    sync0  sync link  up     up    in use    40ms ago      0.31ms   1,472 B
    lan    data port  up     up    possible  40ms ago      0.31ms   1,472 B
    "#);
}

#[test]
fn x_03_proofs_and_comparisons() {
    let proof = Verified { equal: true, differing: 0, groups: vec![], sessions: 1_180, took_ms: 40 };
    assert_snapshot!(verified(&proof), @"equal: both nodes hold the same 1,180 sessions (proven in 40ms)");
    let proof = Verified { equal: false, differing: 3, groups: vec![0, 77], ..proof };
    assert_snapshot!(verified(&proof), @"DIFFERENT: 3 of 65,536 digests differed, in 2 of 256 groups (0, 77) (found in 40ms); they are being repaired, verify again");
    let many = Verified { groups: (0..200).collect(), ..proof.clone() };
    assert!(verified(&many).contains("200 of 256 groups (0, 1, 2, ") && verified(&many).contains("15, …)"));
    let row = |what: &str, own: &str, partner: &str, equal| ComparedLine {
        what: what.into(),
        own: own.into(),
        partner: partner.into(),
        equal,
    };
    let lines = vec![
        row("role", "active", "standby", true),
        row("configuration", "0123456789abcdef", "0123456789abcdee", false),
    ];
    let told = Compared { equal: false, lines, digests: Some(proof) };
    assert_snapshot!(compared(&told), @r#"
    WHAT           HERE              PARTNER
    role           active            standby
    configuration  0123456789abcdef  0123456789abcdee  DIFFERS
    DIFFERENT: 3 of 65,536 digests differed, in 2 of 256 groups (0, 77) (found in 40ms); they are being repaired, verify again
    "#);
    let told = Compared { digests: None, ..told };
    assert!(
        compared(&told)
            .ends_with("the digests were not compared: no path carries session sync, or it takes too long\n")
    );
}

#[test]
fn x_16_orders_say_what_was_done() {
    let over = SwitchedOver { role: Role::Standby, was: Role::Active, term: 5, took_ms: 12 };
    assert_snapshot!(switched_over(&over), @"the other node is active now; this one was active and is standby (term 5, 12ms)");
    let back = SwitchedOver { role: Role::Active, was: Role::Standby, ..over };
    assert!(switched_over(&back).starts_with("this node is active now; this one was standby"));
    assert_snapshot!(ordered(&Ordered { order: "resync".into(), role: Role::Active }), @"resync: done on this node (active); `ha-ctl status` shows how far it is");
    let asked = ordered(&Ordered { order: "resync".into(), role: Role::Standby });
    assert_snapshot!(asked, @"resync: the active node is asked to; `ha-ctl status` shows how far it is");
    assert_snapshot!(ordered(&Ordered { order: "force standby".into(), role: Role::Active }), @"force standby: done on this node (active); `ha-ctl status` shows what comes of it");
}

#[test]
fn x_22_events_are_a_line_each() {
    let gone = Event {
        id: 17,
        at_ms: 1_795_393_470_042,
        name: "role_changed".into(),
        level: Level::Warning,
        text: "standby became active (silence)".into(),
        fields: BTreeMap::from([("from".into(), "standby".into()), ("to".into(), "active".into())]),
    };
    assert_snapshot!(event(&gone), @"    17 2026-11-23 00:24:30.042Z warning role_changed: standby became active (silence) [from=standby to=active]");
    let bare = Event { level: Level::Error, fields: BTreeMap::new(), text: "two\nlines".into(), ..gone };
    assert_snapshot!(event(&bare), @"    17 2026-11-23 00:24:30.042Z ERROR   role_changed: two lines");
}

#[test]
fn b_33_terminated_sessions() {
    let row = |proto, from, to, rst| TerminatedRow {
        worker: 0,
        slot: 17,
        proto,
        from: side("10.1.0.10", from),
        to: side("10.2.0.10", to),
        result: if rst { TerminateResult::Removed } else { TerminateResult::Unconfirmed },
        rst_to_from: rst,
        rst_to_to: false,
    };
    let rows = vec![row(Protocol::TCP, 40_000, 80, true), row(Protocol::UDP, 5_353, 53, false)];
    assert_snapshot!(terminated(&Terminated { truncated: true, rows }), @r#"
    PROTO  FROM             TO            RESULT       RST TO FROM  RST TO TO
    tcp    10.1.0.10:40000  10.2.0.10:80  removed      sent         not sent
    udp    10.1.0.10:5353   10.2.0.10:53  unconfirmed  not sent     not sent
    more sessions match: repeat it, or raise --limit
    "#);
    assert_snapshot!(terminated(&Terminated { truncated: false, rows: vec![] }), @"no sessions match");
}

#[test]
fn x_22_top_shows_what_happened_between_two_looks() {
    let mut before = a_status();
    before.pair = Some(a_pair());
    let mut now = before.clone();
    now.uptime_ms += 2_000;
    now.ports[0].rx_packets += 20_000;
    now.ports[0].rx_bytes += 25_000_000;
    now.ports[1].tx_packets += 19_998;
    now.ports[1].tx_bytes += 250;
    now.sessions.created_total += 84;
    now.workers[0].packets += 20_000;
    now.pair.as_mut().unwrap().sync.records_sent += 90;
    assert_snapshot!(top(&View::new(Some(&before), &now)), @r#"
    a: active, partner standby, term 4
    traffic   in 10,000 packets/s 100.0 Mbit/s, out 9,999 packets/s 1.0 kbit/s
    sessions  1,200 of 262,144 (0.4 %), 42 created/s
    sync      in sync, lag 2ms, protected 1,180, unprotected 17, relaxed 0, 45 records/s
    path      sync0 up, carries sync, round trip 0.31ms
    path      lan up, round trip 0.31ms
    worker    0 busy 41.7 %, 10,000 packets/s, 1,200 sessions
    worker    1 busy 0.0 %, 0 packets/s, 0 sessions
    "#);
    let json = serde_json::to_value(View::new(Some(&before), &now)).unwrap();
    assert_eq!(json["interval_ms"], 2_000);
    assert_eq!(json["rates"]["rx_packets_per_s"], 10_000);
    assert_eq!(json["rates"]["created_per_s"], 42);
    assert_eq!(json["rates"]["records_per_s"], 45);
    assert_eq!((&json["role"], &json["partner_role"]), (&"active".into(), &"standby".into()));

    // The first look, and one at a daemon that started anew, have nothing to compare with.
    assert_snapshot!(top(&View::new(None, &a_status())), @r#"
    a: active
    sessions  1,200 of 262,144 (0.4 %)
    worker    0 busy 41.7 %, 1,200 sessions
    worker    1 busy 0.0 %, 0 sessions
    "#);
    now.uptime_ms = 5;
    let view = View::new(Some(&before), &now);
    assert_eq!((view.interval_ms, view.rates, view.workers[0].packets_per_s), (None, None, None));
    now.pair.as_mut().unwrap().partner = None;
    assert!(top(&View::new(None, &now)).starts_with("a: active, partner not heard, term 4\n"));
}

#[test]
fn s_17_a_planned_restart_is_not_an_absence() {
    let partner = |pair: &PairStatus| {
        let facts = pair_facts(pair);
        facts.into_iter().find(|(name, _)| *name == "partner").unwrap().1
    };
    let leaving = PairStatus { partner_state: PartnerState::Restarting, ..a_pair() };
    assert!(partner(&leaving).ends_with(", stops on purpose"), "{}", partner(&leaving));
    let gone = PairStatus { partner: None, ..leaving };
    assert_eq!(partner(&gone), "restarting: it stopped on purpose");
    let absent = PairStatus { partner_state: PartnerState::Absent, ..gone };
    assert_eq!(partner(&absent), "not heard");
}

#[test]
fn x_03_harm_says_what_it_did() {
    let from = side("10.1.0.10", 5_000);
    let to = side("10.2.0.10", 53);
    let harm = Damaged { damage: Damage::Add, worker: 1, slot: 7, proto: Protocol::UDP, from, to };
    assert_snapshot!(damaged(&harm), @"1/7 udp 10.1.0.10:5000 > 10.2.0.10:53: copied under another port; `ha-ctl events` tells when it is found");
}
