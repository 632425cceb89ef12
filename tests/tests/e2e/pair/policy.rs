//! What a rule says of its sessions' failover, when it says something else later.

use std::time::Duration;

use lab::{
    Family, Host, LabOptions, PairSettings,
    demo::pair::kill_active,
    echo::{Connections, EchoServer},
};
use tests::{connections, pair::PairBench};

const SWITCHED_ON: u16 = 7011;
const SWITCHED_OFF: u16 = 7012;

fn rule(port: u16, transparent: bool) -> String {
    format!(
        "[[rule]]\nname = \"switched-{port}\"\nfrom = \"lan\"\nto = \"wan\"\nservices = [\"tcp/{port}\"]\naction = \"allow\"\ntransparent-failover = {transparent}\n"
    )
}

fn rules(on: bool) -> String {
    rule(SWITCHED_ON, on) + &rule(SWITCHED_OFF, !on)
}

/// Turns both rules over on both nodes, the running daemons reading their files anew.
fn turn_over(bench: &mut PairBench) {
    for host in [Host::B, Host::A] {
        let node = bench.node(host);
        let mut config = node.read_config().unwrap();
        config.drop_rules(&[&format!("switched-{SWITCHED_ON}"), &format!("switched-{SWITCHED_OFF}")]);
        config.rules_first(&rules(true)).unwrap();
        node.write_config(&config.to_text().unwrap()).unwrap();
        assert_eq!(node.reload().unwrap()["last_reload"]["ok"], true);
    }
}

fn mirrored(bench: &mut PairBench, port: u16) -> u64 {
    bench.count(Host::B, &["--port", &port.to_string()])
}

fn alive(some: &mut Connections, round: u32) -> usize {
    for stream in some.streams() {
        stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    }
    some.round(round)
}

#[test]
fn b_34_turning_a_rules_failover_over_is_for_new_sessions() {
    let mut bench = PairBench::with(LabOptions::pair(PairSettings::default()).rules_first(rules(false)));
    let _servers = [SWITCHED_ON, SWITCHED_OFF].map(|port| EchoServer::start(Host::Server, port).unwrap());
    let [mut local, mut shared] = [SWITCHED_ON, SWITCHED_OFF].map(|port| connections(Family::V4, port, 4));
    assert_eq!((local.round(0), shared.round(0)), (4, 4));
    bench.wait_ready(Host::A);
    tests::eventually("mirrored", (0, 4), || {
        (mirrored(&mut bench, SWITCHED_ON), mirrored(&mut bench, SWITCHED_OFF))
    });
    turn_over(&mut bench);
    let [mut fresh_shared, mut fresh_local] =
        [SWITCHED_ON, SWITCHED_OFF].map(|port| connections(Family::V6, port, 3));
    // Each session is asked for in the new policy at its next packet: that changes nothing of this.
    assert_eq!((local.round(1), shared.round(1)), (4, 4));
    assert_eq!((fresh_shared.round(1), fresh_local.round(1)), (3, 3));
    bench.wait_ready(Host::A);
    tests::eventually("mirrored", (3, 4), || {
        (mirrored(&mut bench, SWITCHED_ON), mirrored(&mut bench, SWITCHED_OFF))
    });
    let synced = |bench: &mut PairBench, port: u16| {
        let rows = bench.operator(Host::A).sessions(&["--port", &port.to_string()]).unwrap().rows;
        rows.iter().filter(|row| row.sync == "yes").count()
    };
    assert_eq!((synced(&mut bench, SWITCHED_ON), synced(&mut bench, SWITCHED_OFF)), (3, 4));
    // A session that goes on being mirrored is told of as it changes.
    let mut closing = shared.take();
    closing.truncate(3);
    tests::eventually("mirrored and established", 3, || {
        bench.count(Host::B, &["--port", &SWITCHED_OFF.to_string(), "--state", "established"])
    });
    assert_eq!(bench.roles(), ("active".into(), "standby".into()));
    kill_active(bench.lab(), Host::A).unwrap();
    let mut shared = Connections::of(closing);
    assert_eq!((alive(&mut shared, 2), alive(&mut fresh_shared, 2)), (3, 3));
    assert_eq!((alive(&mut local, 2), alive(&mut fresh_local, 2)), (0, 0), "as documented");
}
