//! The answers about the pair as they stand on the wire. Programs read these names, alarms hang on them.

use super::*;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

#[track_caller]
fn golden<T: Serialize + DeserializeOwned + PartialEq + fmt::Debug>(typed: &T, wire: Value) {
    assert_eq!(serde_json::to_value(typed).unwrap(), wire);
    assert_eq!(&serde_json::from_value::<T>(wire).unwrap(), typed);
}

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
        held: [800, 150, 40, 10],
        entries: 990,
        digest: "fedcba9876543210".into(),
    }
}

fn a_node_on_the_wire(node_id: u32, role: &str) -> Value {
    json!({
        "node_id": node_id, "role": role, "seen_term": 4, "preferred": node_id == 0, "quality": 100, "able": true,
        "forced_active": false, "mirror": "complete", "incarnation": "00000000000000ff",
        "config_hash": "0123456789abcdef", "wire_version": 1, "policy_generation": 3, "workers": 2,
        "held": [800, 150, 40, 10], "entries": 990, "digest": "fedcba9876543210"
    })
}

fn a_sync() -> SyncStatus {
    SyncStatus {
        state: SyncState::InSync,
        proven: true,
        lag_ms: 2,
        protected: 990,
        unprotected: 10,
        dirty: 4,
        in_flight: 5,
        refused: vec![RefusedSessions { reason: "full".into(), sessions: 1 }],
        progress: Some(Progress { done: 5, total: 10 }),
        last_bulk: Some(Transfer { at_ms: 7, sessions: 900, took_ms: 31 }),
        last_repair: None,
        round_trip_us: 412,
        records_sent: 12,
        sent: vec![SentRecords { kind: "new".into(), records: 12, bytes: 612 }],
        datagrams_sent: 3,
        bytes_sent: 700,
        datagrams_lost: 1,
        datagrams_received: 9,
        records_received: 8,
        records_applied: 6,
        damaged: 0,
    }
}

#[test]
fn s_20_the_pair() {
    let status = PairStatus {
        id: 7,
        term: 4,
        own: a_node(0, Role::Active),
        partner: Some(a_node(1, Role::Standby)),
        partner_state: PartnerState::Here,
        differs: vec!["rules".into()],
        word: RoleWord { forwards: true, lease: Lease::Running, lease_ms: Some(270) },
        paths: vec![PairPath {
            name: "sync0".into(),
            kind: PathKind::SyncLink,
            up: true,
            link: true,
            carries_sync: true,
            in_use: true,
            heard_ms: Some(40),
            rtt_us: Some(310),
            datagram_bytes: Some(1472),
        }],
        sync: a_sync(),
        keys: Some(PairKeys { key_id: 3, age_s: 12, renewals: 2, renewing: false }),
        rejected: vec![Rejected { reason: "forged".into(), datagrams: 5 }],
        alarms: vec![Alarm { name: "peer_gone".into(), text: "silent".into(), at_ms: Some(9) }],
    };
    let wire = json!({
        "id": 7, "term": 4, "own": a_node_on_the_wire(0, "active"), "partner": a_node_on_the_wire(1, "standby"),
        "partner_state": "here", "differs": ["rules"],
        "word": {"forwards": true, "lease": "running", "lease_ms": 270},
        "paths": [{"name": "sync0", "kind": "sync-link", "up": true, "link": true, "carries_sync": true,
            "in_use": true, "heard_ms": 40, "rtt_us": 310, "datagram_bytes": 1472}],
        "sync": {"state": "in-sync", "proven": true, "lag_ms": 2, "protected": 990, "unprotected": 10, "dirty": 4,
            "in_flight": 5, "refused": [{"reason": "full", "sessions": 1}], "progress": {"done": 5, "total": 10},
            "last_bulk": {"at_ms": 7, "sessions": 900, "took_ms": 31}, "round_trip_us": 412, "records_sent": 12,
            "sent": [{"kind": "new", "records": 12, "bytes": 612}], "datagrams_sent": 3, "bytes_sent": 700,
            "datagrams_lost": 1, "datagrams_received": 9, "records_received": 8, "records_applied": 6,
            "damaged": 0},
        "keys": {"key_id": 3, "age_s": 12, "renewals": 2, "renewing": false},
        "rejected": [{"reason": "forged", "datagrams": 5}],
        "alarms": [{"name": "peer_gone", "text": "silent", "at_ms": 9}]
    });
    golden(&status, wire);
    // A partner that is not heard is absent, not stale.
    let alone = PairStatus { partner: None, keys: None, ..status };
    let wire = serde_json::to_value(&alone).unwrap();
    assert!(wire.get("partner").is_none() && wire.get("keys").is_none());
    assert_eq!(serde_json::from_value::<PairStatus>(wire).unwrap(), alone);
}

#[test]
fn x_22_orders_and_events() {
    let verified = Verified { equal: false, differing: 3, groups: vec![0, 77], sessions: 1_000, took_ms: 40 };
    golden(
        &verified,
        json!({"equal": false, "differing": 3, "groups": [0, 77], "sessions": 1000, "took_ms": 40}),
    );
    let line = ComparedLine { what: "sessions".into(), own: "5".into(), partner: "4".into(), equal: false };
    golden(
        &Compared { equal: false, lines: vec![line], digests: None },
        json!({"equal": false, "lines": [{"what": "sessions", "own": "5", "partner": "4", "equal": false}]}),
    );
    let ordered = Ordered { order: "resync".into(), role: Role::Active };
    golden(&ordered, json!({"order": "resync", "role": "active"}));
    let over = SwitchedOver { role: Role::Standby, was: Role::Active, term: 5, took_ms: 12 };
    golden(&over, json!({"role": "standby", "was": "active", "term": 5, "took_ms": 12}));
    let event = Event {
        id: 17,
        at_ms: 1_795_393_470_000,
        name: "peer_gone".into(),
        level: Level::Error,
        text: "the partner is silent on all paths".into(),
        fields: BTreeMap::from([("path".into(), "sync0".into())]),
    };
    golden(
        &Events { node: "a".into(), boot: "ff".into(), last: 17, gap: false, events: vec![event] },
        json!({"node": "a", "boot": "ff", "last": 17, "gap": false, "events": [{"id": 17, "at_ms": 1795393470000_u64,
            "name": "peer_gone", "level": "error", "text": "the partner is silent on all paths",
            "fields": {"path": "sync0"}}]}),
    );
    let side = |address: &str, port| Endpoint { address: address.parse().unwrap(), port };
    let row = TerminatedRow {
        worker: 0,
        slot: 17,
        proto: Protocol::TCP,
        from: side("10.1.0.10", 40_000),
        to: side("10.2.0.10", 80),
        result: TerminateResult::Removed,
        rst_to_from: false,
        rst_to_to: true,
    };
    let damaged = Damaged {
        damage: Damage::Corrupt,
        worker: 1,
        slot: 7,
        proto: Protocol::UDP,
        from: side("10.1.0.10", 5_000),
        to: side("10.2.0.10", 53),
    };
    golden(
        &damaged,
        json!({"damage": "corrupt", "worker": 1, "slot": 7, "proto": "udp",
            "from": {"address": "10.1.0.10", "port": 5000}, "to": {"address": "10.2.0.10", "port": 53}}),
    );
    golden(
        &Terminated { truncated: true, rows: vec![row] },
        json!({"truncated": true, "rows": [{"worker": 0, "slot": 17, "proto": "tcp",
            "from": {"address": "10.1.0.10", "port": 40000}, "to": {"address": "10.2.0.10", "port": 80},
            "result": "removed", "rst_to_from": false, "rst_to_to": true}]}),
    );
}

#[test]
fn words_of_newer_daemons_are_unknown_and_no_error() {
    fn read<T: DeserializeOwned>() -> T {
        serde_json::from_str("\"of-the-future\"").unwrap()
    }
    assert_eq!(read::<Mirror>(), Mirror::Unknown);
    assert_eq!(read::<PartnerState>(), PartnerState::Unknown);
    assert_eq!(read::<SyncState>(), SyncState::Unknown);
    assert_eq!(read::<Lease>(), Lease::Unknown);
    assert_eq!(read::<PathKind>(), PathKind::Unknown);
    assert_eq!(read::<Level>(), Level::Unknown);
    assert_eq!(read::<TerminateResult>(), TerminateResult::Unknown);
}
