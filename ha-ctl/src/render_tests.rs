//! What operators see, in full.

use super::*;
use insta::assert_snapshot;
use proto::{
    Counter, DropCounter, Eal, Endpoint, Family, MbufUsage, Memory, Neighbour, PerDirection, Port, Protocol,
    Reload, Role, Route, RouteSource, Rule, SessionCount, SessionRow, SessionUsage, Worker,
};

pub(crate) fn a_status() -> Status {
    Status {
        node: "a".into(),
        version: "0.1.0".into(),
        role: Role::Active,
        uptime_ms: 7_440_000,
        policy: Policy {
            epoch: 3,
            rules: 4,
            last_reload: Some(Reload { at_ms: 1_795_393_470_000, ok: true, error: None }),
        },
        memory: Memory { page_bytes: 2 << 20, table_bytes: 50_331_648 },
        eal: Eal { huge_pages: true },
        warnings: vec![],
        workers: vec![
            Worker {
                id: 0,
                cpu: Some(2),
                polling: "busy".into(),
                busy_permille: 417,
                bursts: 1_000,
                packets: 31_416,
                sessions: 1_200,
            },
            Worker {
                id: 1,
                cpu: None,
                polling: "adaptive".into(),
                busy_permille: 0,
                bursts: 0,
                packets: 0,
                sessions: 0,
            },
        ],
        ports: vec![
            a_port("lan", "net_af_packet0,iface=lan0", &["10.1.0.1/24", "fd00:1::1/64"], true),
            a_port("wan", "0000:03:00.0", &["10.2.0.1/24"], false),
        ],
        sessions: SessionUsage {
            in_use: 1_200,
            capacity: 262_144,
            half_open: 3,
            tcp: 1_000,
            udp: 190,
            icmp: 10,
            other: 0,
            relaxed: 0,
            created_total: 41_000,
            expired_total: 39_800,
            refused_full_total: 0,
        },
        mbufs: MbufUsage { in_use: 512, total: 16_384 },
        pair: None,
    }
}

fn a_port(name: &str, device: &str, addresses: &[&str], link: bool) -> Port {
    Port {
        name: name.into(),
        device: device.into(),
        zone: name.into(),
        mac: "02:00:5e:10:00:01".into(),
        mtu: 1500,
        link,
        addresses: addresses.iter().map(|address| (*address).to_owned()).collect(),
        rx_packets: 1_234_567,
        rx_bytes: 1_500_000_000,
        tx_packets: 7,
        tx_bytes: 420,
        rx_missed: 0,
        tx_dropped: 12,
    }
}

pub(crate) fn side(address: &str, port: u16) -> Endpoint {
    Endpoint { address: address.parse().unwrap(), port }
}

fn a_session(proto: Protocol, from: Endpoint, to: Endpoint, state: &str) -> SessionRow {
    SessionRow {
        worker: 0,
        slot: 17,
        proto,
        family: if from.address.is_ipv4() { Family::Ipv4 } else { Family::Ipv6 },
        from,
        to,
        from_zone: "lan".into(),
        to_zone: "wan".into(),
        rule: "lan-to-wan".into(),
        state: state.into(),
        idle_ms: 250,
        expires_ms: 7_439_750,
        packets: PerDirection { fwd: 12, rev: 70_000 },
        bytes: PerDirection { fwd: 840, rev: 104_857_600 },
        version: 99,
        group: 0,
        replicated: false,
        sync: "no(no partner)".into(),
    }
}

fn some_sessions() -> Sessions {
    let rows = vec![
        a_session(Protocol::TCP, side("10.1.0.10", 40_000), side("10.2.0.10", 80), "established"),
        a_session(Protocol::UDP, side("fd00:1::10", 5353), side("fd00:2::10", 53), "replied"),
        a_session(Protocol::ICMPV6, side("fd00:1::10", 7), side("fd00:2::10", 7), "new"),
        a_session(Protocol(47), side("10.1.0.10", 0), side("10.2.0.10", 0), "replied"),
    ];
    Sessions { truncated: true, rows }
}

fn a_rule(name: &str, action: &str) -> Rule {
    Rule {
        name: name.into(),
        id: 7,
        from: vec!["lan".into()],
        to: vec!["wan".into()],
        source: vec![],
        destination: vec![],
        services: vec![],
        action: action.into(),
        log: false,
        transparent_failover: true,
        sync_after_s: 0,
        sessions_created: 0,
        packets_denied: 0,
        last_hit_ms: None,
    }
}

#[test]
fn s_20_status() {
    assert_snapshot!(status(&a_status()), @r#"
    node      a (understudyd 0.1.0)
    role      active
    uptime    2h 04m
    policy    epoch 3, 4 rules, loaded 2026-11-23 00:24:30 UTC
    sessions  1,200 of 262,144 (0.4 %), 3 half-open
              tcp 1,000, udp 190, icmp 10, other 0
              created 41,000, expired 39,800, refused because full 0
    memory    48.0 MiB for sessions in huge pages of 2.0 MiB
    mbufs     512 of 16,384 (3.1 %), huge pages

    WORKER  CPU  POLLING     BUSY  SESSIONS  PACKETS  BURSTS
    0       2    busy      41.7 %     1,200   31,416   1,000
    1       any  adaptive   0.0 %         0        0       0

    PORT  ZONE  LINK   MTU  MAC                       RX  RX BYTES  TX  TX BYTES  MISSED  TX DROPPED  DEVICE
    lan   lan   up    1500  02:00:5e:10:00:01  1,234,567   1.4 GiB   7     420 B       0          12  net_af_packet0,iface=lan0
    wan   wan   down  1500  02:00:5e:10:00:01  1,234,567   1.4 GiB   7     420 B       0          12  0000:03:00.0
    lan: 10.1.0.1/24, fd00:1::1/64
    wan: 10.2.0.1/24
    "#);
}

#[test]
fn x_12_a_refused_reload_is_in_the_status() {
    let mut data = a_status();
    data.role = Role::Fault;
    data.memory.page_bytes = 4_096;
    data.eal.huge_pages = false;
    data.policy.last_reload = Some(Reload {
        at_ms: 1_795_393_470_000,
        ok: false,
        error: Some("fw.toml:7:3: unknown key \"sorce\"\n(did you mean source?)".into()),
    });
    data.warnings = vec!["no huge pages: lookups are slower; see scripts/setup".into()];
    data.workers.clear();
    data.ports.clear();
    assert_snapshot!(status(&data), @r#"
    node      a (understudyd 0.1.0)
    role      fault
    uptime    2h 04m
    policy    epoch 3, 4 rules; RELOAD REFUSED 2026-11-23 00:24:30 UTC: fw.toml:7:3: unknown key "sorce" (did you mean source?)
    sessions  1,200 of 262,144 (0.4 %), 3 half-open
              tcp 1,000, udp 190, icmp 10, other 0
              created 41,000, expired 39,800, refused because full 0
    memory    48.0 MiB for sessions in ordinary pages of 4.0 KiB
    mbufs     512 of 16,384 (3.1 %), ordinary pages
    WARNING   no huge pages: lookups are slower; see scripts/setup

    no workers

    no ports
    "#);
}

#[test]
fn b_35_sessions() {
    assert_snapshot!(sessions(&some_sessions()), @r#"
    PROTO   FROM               TO               ZONES      RULE        STATE         IDLE  EXPIRES  PKTS OUT  PKTS BACK    OUT       BACK  SYNC
    tcp     10.1.0.10:40000    10.2.0.10:80     lan > wan  lan-to-wan  established  250ms   2h 03m        12     70,000  840 B  100.0 MiB  no(no partner)
    udp     [fd00:1::10]:5353  [fd00:2::10]:53  lan > wan  lan-to-wan  replied      250ms   2h 03m        12     70,000  840 B  100.0 MiB  no(no partner)
    icmpv6  fd00:1::10 id 7    fd00:2::10 id 7  lan > wan  lan-to-wan  new          250ms   2h 03m        12     70,000  840 B  100.0 MiB  no(no partner)
    gre     10.1.0.10          10.2.0.10        lan > wan  lan-to-wan  replied      250ms   2h 03m        12     70,000  840 B  100.0 MiB  no(no partner)
    only 4 are shown: narrow the filters, raise --limit, or use --count
    "#);
    assert_snapshot!(sessions(&Sessions { truncated: false, rows: vec![] }), @"no sessions match");
}

#[test]
fn session_counts_end_in_their_sum() {
    let entry = |proto, state: &str, sessions| SessionCount { proto, state: state.into(), sessions };
    let by_state = vec![
        entry(Protocol::TCP, "established", 1_000),
        entry(Protocol::TCP, "syn-sent", 3),
        entry(Protocol::UDP, "replied", 190),
        entry(Protocol(253), "new", 1),
    ];
    assert_snapshot!(session_counts(&SessionCounts { total: 1_194, by_state }), @r#"
    PROTO  STATE        SESSIONS
    tcp    established     1,000
    tcp    syn-sent            3
    udp    replied           190
    253    new                 1
    all                    1,194
    "#);
    assert_snapshot!(session_counts(&SessionCounts { total: 0, by_state: vec![] }), @r#"
    PROTO  STATE  SESSIONS
    all                  0
    "#);
}

#[test]
fn counters_with_and_without_zeros() {
    let drop =
        |name: &str, packets| DropCounter { name: name.into(), meaning: "a rule says so".into(), packets };
    let other = |name: &str, value| Counter { name: name.into(), meaning: "what it says".into(), value };
    let data = Counters {
        drops: vec![drop("policy-denied", 12_345), drop("ttl-exceeded", 0)],
        other: vec![other("arp-replies", 0), other("bursts", 7)],
    };
    assert_snapshot!(counters(&data, false), @r#"
    DROPPED BECAUSE  PACKETS  MEANING
    policy-denied     12,345  a rule says so
    ttl-exceeded           0  a rule says so

    COUNTER      VALUE  MEANING
    arp-replies      0  what it says
    bursts           7  what it says
    "#);
    assert_snapshot!(counters(&data, true), @r#"
    DROPPED BECAUSE  PACKETS  MEANING
    policy-denied     12,345  a rule says so

    COUNTER  VALUE  MEANING
    bursts       7  what it says
    "#);
    assert_snapshot!(counters(&Counters { drops: vec![], other: vec![] }, true), @r#"
    no packet was dropped

    nothing else was counted
    "#);
}

#[test]
fn rules_in_order_with_what_they_did() {
    let allow = Rule {
        source: vec!["10.1.0.0/24".into(), "fd00:1::/64".into()],
        services: vec!["tcp".into(), "udp".into(), "icmp-echo".into()],
        sync_after_s: 5,
        sessions_created: 41_000,
        last_hit_ms: Some(1_500),
        ..a_rule("lan-to-wan", "allow")
    };
    let local = Rule { to: vec!["self".into()], transparent_failover: false, ..a_rule("ping", "allow") };
    let reject = Rule {
        services: vec!["tcp/23".into()],
        log: true,
        packets_denied: 9,
        ..a_rule("no-telnet", "reject")
    };
    let deny =
        Rule { id: 0, from: vec![], to: vec![], packets_denied: 1_234, ..a_rule("default-deny", "drop") };
    assert_snapshot!(rules(&Rules { epoch: 3, rules: vec![allow, local, reject, deny] }), @r#"
    #  RULE          FROM  TO    SOURCE                   DESTINATION  SERVICES           ACTION  OPTIONS         SESSIONS  DENIED  LAST HIT
    1  lan-to-wan    lan   wan   10.1.0.0/24 fd00:1::/64  any          tcp udp icmp-echo  allow   sync after 5 s    41,000       0  1.5s ago
    2  ping          lan   self  any                      any          any                allow   local                  0       0     never
    3  no-telnet     lan   wan   any                      any          tcp/23             reject  log                    0       9     never
    4  default-deny  any   any   any                      any          any                drop                           0   1,234     never
    policy epoch 3; the first rule that matches decides
    "#);
}

#[test]
fn neighbours_known_and_asked_for() {
    let known = Neighbour {
        address: "10.1.0.10".parse().unwrap(),
        port: "lan".into(),
        mac: Some("02:00:5e:10:00:01".into()),
        state: "reachable".into(),
        age_ms: Some(12_300),
    };
    let asked = Neighbour {
        address: "fd00:2::10".parse().unwrap(),
        port: "wan".into(),
        mac: None,
        state: "incomplete".into(),
        age_ms: None,
    };
    assert_snapshot!(neighbours(&Neighbours { neighbours: vec![known, asked] }), @r#"
    ADDRESS     PORT  MAC                STATE       CONFIRMED
    10.1.0.10   lan   02:00:5e:10:00:01  reachable   12.3s ago
    fd00:2::10  wan   -                  incomplete      never
    "#);
}

#[test]
fn routes_on_link_and_by_gateway() {
    let route = |to: &str, via: Option<&str>, source| Route {
        to: to.into(),
        via: via.map(|via| via.parse().unwrap()),
        port: "wan".into(),
        source,
    };
    let data = Routes {
        routes: vec![
            route("10.2.0.0/24", None, RouteSource::Connected),
            route("::/0", Some("fd00:2::fe"), RouteSource::Static),
        ],
    };
    assert_snapshot!(routes(&data), @r#"
    TO           VIA         PORT  SOURCE
    10.2.0.0/24  on link     wan   connected
    ::/0         fd00:2::fe  wan   static
    "#);
}

#[test]
fn nothing_in_an_answer_steers_the_terminal() {
    let mut data = some_sessions();
    data.rows[0].rule = "evil\u{1b}[2Jrule\nline".into();
    let shown = sessions(&data);
    assert!(shown.contains("evil [2Jrule line") && !shown.contains('\u{1b}'), "{shown}");
    assert_eq!(shown.lines().count(), 6);
}
