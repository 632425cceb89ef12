//! The answers as they stand on the wire. Programs read these names: a change here breaks them, unless it adds.

use super::*;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::fmt::Debug;

/// `wire` is read as `typed`, and `typed` is written as `wire`; nothing breaks when a newer daemon adds fields.
#[track_caller]
fn golden<T: Serialize + DeserializeOwned + PartialEq + Debug>(typed: &T, wire: Value) {
    assert_eq!(serde_json::to_value(typed).unwrap(), wire);
    assert_eq!(&serde_json::from_value::<T>(wire.clone()).unwrap(), typed);
    let mut newer = wire;
    add_fields(&mut newer);
    assert_eq!(&serde_json::from_value::<T>(newer).unwrap(), typed);
}

/// A field that nobody knows, in every object.
fn add_fields(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.values_mut().for_each(add_fields);
            fields.insert("colour".into(), json!({"of": ["the", "future"]}));
        }
        Value::Array(items) => items.iter_mut().for_each(add_fields),
        _ => {}
    }
}

#[test]
fn s_20_status() {
    let status = Status {
        node: "a".into(),
        version: "0.1.0".into(),
        role: Role::Active,
        uptime_ms: 60_000,
        policy: Policy {
            epoch: 2,
            rules: 4,
            last_reload: Some(Reload { at_ms: 7, ok: false, error: Some("no".into()) }),
        },
        memory: Memory { page_bytes: 4096, table_bytes: 50_331_648 },
        eal: Eal { huge_pages: false },
        warnings: vec!["no huge pages".into()],
        workers: vec![Worker {
            id: 0,
            cpu: Some(2),
            polling: "busy".into(),
            busy_permille: 417,
            bursts: 10,
            packets: 320,
            sessions: 5,
        }],
        ports: vec![Port {
            name: "lan".into(),
            device: "net_af_packet0,iface=lan0".into(),
            zone: "lan".into(),
            mac: "02:00:00:00:00:01".into(),
            mtu: 1500,
            link: true,
            addresses: vec!["10.1.0.1/24".into()],
            rx_packets: 1,
            rx_bytes: 2,
            tx_packets: 3,
            tx_bytes: 4,
            rx_missed: 5,
            tx_dropped: 6,
        }],
        sessions: SessionUsage {
            in_use: 5,
            capacity: 262_144,
            half_open: 1,
            tcp: 3,
            udp: 1,
            icmp: 1,
            other: 0,
            relaxed: 2,
            created_total: 9,
            expired_total: 4,
            refused_full_total: 0,
        },
        mbufs: MbufUsage { in_use: 12, total: 16_384 },
        pair: None,
    };
    golden(
        &status,
        json!({
            "node": "a", "version": "0.1.0", "role": "active", "uptime_ms": 60000,
            "policy": {"epoch": 2, "rules": 4, "last_reload": {"at_ms": 7, "ok": false, "error": "no"}},
            "memory": {"page_bytes": 4096, "table_bytes": 50331648},
            "eal": {"huge_pages": false},
            "warnings": ["no huge pages"],
            "workers": [{"id": 0, "cpu": 2, "polling": "busy", "busy_permille": 417, "bursts": 10, "packets": 320,
                "sessions": 5}],
            "ports": [{"name": "lan", "device": "net_af_packet0,iface=lan0", "zone": "lan", "mac": "02:00:00:00:00:01",
                "mtu": 1500, "link": true, "addresses": ["10.1.0.1/24"], "rx_packets": 1, "rx_bytes": 2,
                "tx_packets": 3, "tx_bytes": 4, "rx_missed": 5, "tx_dropped": 6}],
            "sessions": {"in_use": 5, "capacity": 262144, "half_open": 1, "tcp": 3, "udp": 1, "icmp": 1, "other": 0, "relaxed": 2,
                "created_total": 9, "expired_total": 4, "refused_full_total": 0},
            "mbufs": {"in_use": 12, "total": 16384}
        }),
    );
}

#[test]
fn b_35_sessions() {
    let side = |address: &str, port| Endpoint { address: address.parse().unwrap(), port };
    let row = SessionRow {
        worker: 1,
        slot: 17,
        proto: Protocol::TCP,
        family: Family::Ipv6,
        from: side("fd00:1::10", 40_000),
        to: side("fd00:2::10", 80),
        from_zone: "lan".into(),
        to_zone: "wan".into(),
        rule: "lan-to-wan".into(),
        state: "established".into(),
        idle_ms: 250,
        expires_ms: 7_439_750,
        packets: PerDirection { fwd: 12, rev: 70 },
        bytes: PerDirection { fwd: 840, rev: 104_857 },
        version: 17_592_186_044_416,
        group: 0,
        replicated: false,
        sync: "no(no partner)".into(),
    };
    let wire = json!({
        "worker": 1, "slot": 17, "proto": "tcp", "family": "ipv6",
        "from": {"address": "fd00:1::10", "port": 40000}, "to": {"address": "fd00:2::10", "port": 80},
        "from_zone": "lan", "to_zone": "wan", "rule": "lan-to-wan", "state": "established",
        "idle_ms": 250, "expires_ms": 7439750,
        "packets": {"fwd": 12, "rev": 70}, "bytes": {"fwd": 840, "rev": 104857},
        "version": 17592186044416_u64, "group": 0, "replicated": false, "sync": "no(no partner)"
    });
    golden(&Sessions { truncated: true, rows: vec![row] }, json!({"truncated": true, "rows": [wire]}));

    let by_state = vec![SessionCount { proto: Protocol(253), state: "new".into(), sessions: 3 }];
    golden(
        &SessionCounts { total: 3, by_state },
        json!({"total": 3, "by_state": [{"proto": "253", "state": "new", "sessions": 3}]}),
    );
}

#[test]
fn the_largest_list_of_sessions_fits_the_longest_line() {
    // Every text as long as the configuration and the engine let it be, every number as long as its type.
    let name = "n".repeat(63);
    let side =
        Endpoint { address: "2001:db8:1111:2222:3333:4444:5555:6666".parse().unwrap(), port: u16::MAX };
    let both = PerDirection { fwd: u64::MAX, rev: u64::MAX };
    let row = SessionRow {
        worker: u32::MAX,
        slot: u32::MAX,
        proto: Protocol::ICMPV6,
        family: Family::Ipv6,
        from: side,
        to: side,
        from_zone: name.clone(),
        to_zone: name.clone(),
        rule: name.clone(),
        state: name.clone(),
        idle_ms: u64::MAX,
        expires_ms: u64::MAX,
        packets: both,
        bytes: both,
        version: u64::MAX,
        group: u32::MAX,
        replicated: false,
        sync: name,
    };
    let row_bytes = serde_json::to_vec(&row).unwrap().len() + 1;
    let line_bytes = crate::MAX_SESSION_ROWS as usize * row_bytes + 1_024;
    assert!(line_bytes <= crate::MAX_RESPONSE_BYTES, "{row_bytes} bytes a row make {line_bytes}");
}

#[test]
fn counters_rules_neighbours_and_routes() {
    golden(
        &Counters {
            drops: vec![DropCounter { name: "no-route".into(), meaning: "no route".into(), packets: 1 }],
            other: vec![Counter { name: "bursts".into(), meaning: "bursts".into(), value: 2 }],
        },
        json!({
            "drops": [{"name": "no-route", "meaning": "no route", "packets": 1}],
            "other": [{"name": "bursts", "meaning": "bursts", "value": 2}]
        }),
    );
    let rule = Rule {
        name: "lan-to-wan".into(),
        id: 4_000_000_000,
        from: vec!["lan".into()],
        to: vec!["wan".into()],
        source: vec!["10.1.0.0/24".into()],
        destination: vec![],
        services: vec!["tcp/80".into()],
        action: "allow".into(),
        log: true,
        transparent_failover: true,
        sync_after_s: 5,
        sessions_created: 9,
        packets_denied: 0,
        last_hit_ms: Some(100),
    };
    golden(
        &Rules { epoch: 2, rules: vec![rule] },
        json!({"epoch": 2, "rules": [{
            "name": "lan-to-wan", "id": 4000000000_u64, "from": ["lan"], "to": ["wan"], "source": ["10.1.0.0/24"],
            "destination": [], "services": ["tcp/80"], "action": "allow", "log": true, "transparent_failover": true,
            "sync_after_s": 5, "sessions_created": 9, "packets_denied": 0, "last_hit_ms": 100
        }]}),
    );
    let neighbour = Neighbour {
        address: "10.1.0.10".parse().unwrap(),
        port: "lan".into(),
        mac: None,
        state: "incomplete".into(),
        age_ms: Some(250),
    };
    golden(
        &Neighbours { neighbours: vec![neighbour] },
        json!({"neighbours": [{"address": "10.1.0.10", "port": "lan", "state": "incomplete", "age_ms": 250}]}),
    );
    let via = Some("10.2.0.254".parse().unwrap());
    golden(
        &Routes {
            routes: vec![Route {
                to: "0.0.0.0/0".into(),
                via,
                port: "wan".into(),
                source: RouteSource::Static,
            }],
        },
        json!({"routes": [{"to": "0.0.0.0/0", "via": "10.2.0.254", "port": "wan", "source": "static"}]}),
    );
}

#[test]
fn words_of_newer_daemons_are_unknown_and_no_error() {
    assert_eq!(serde_json::from_str::<Role>("\"witness\"").unwrap(), Role::Unknown);
    assert_eq!(serde_json::from_str::<RouteSource>("\"bgp\"").unwrap(), RouteSource::Unknown);
}

#[test]
fn protocols_are_names_where_there_are_usual_ones() {
    for number in 0..=u8::MAX {
        let text = Protocol(number).to_string();
        assert_eq!(text.parse(), Ok(Protocol(number)), "{text}");
        assert_eq!(number.to_string().parse(), Ok(Protocol(number)));
    }
    assert_eq!("TCP".parse(), Ok(Protocol::TCP));
    assert!(
        "".parse::<Protocol>().is_err()
            && "256".parse::<Protocol>().is_err()
            && "tpc".parse::<Protocol>().is_err()
    );
}
