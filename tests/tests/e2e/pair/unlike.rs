//! Two nodes that are not alike: what may differ does no harm, what must not is told by name.

use std::{process::Command, time::Duration};

use lab::{
    Family, Host, LabOptions, Network, PairSettings,
    config::NodeConfig,
    crowd::TcpCrowd,
    demo::pair::kill_active,
    echo::EchoServer,
    exec,
    stream::{StreamKind, Streams},
};
use serde_json::Value;
use tests::{
    connections,
    pair::{Mark, PairBench},
};

const ECHO: u16 = 7007;
const RECOVERY: Duration = Duration::from_secs(10);

/// A pair whose node b gets another configuration before anything runs.
fn with_b(change: impl FnOnce(&mut NodeConfig), prepare: impl FnOnce()) -> PairBench {
    let mut bench = PairBench::starting(LabOptions::pair(PairSettings::default()).without_daemon());
    let node = bench.node(Host::B);
    let mut config = node.read_config().unwrap();
    change(&mut config);
    node.write_config(&config.to_text().unwrap()).unwrap();
    prepare();
    for host in Host::NODES {
        bench.node(host).spawn().unwrap();
    }
    for host in Host::NODES {
        bench.node(host).ready().unwrap();
    }
    bench
}

/// Both nodes forward in turn, and nothing is lost on the way.
fn protects(bench: &mut PairBench) {
    bench.wait_ready(Host::A);
    let _server = EchoServer::start(Host::Server, ECHO).unwrap();
    let tcp = TcpCrowd::start(ECHO, 40, Duration::from_millis(50)).unwrap();
    let streams = Streams::start(&StreamKind::ALL, Duration::from_millis(2)).unwrap();
    bench.wait_equal(44);
    for active in Host::NODES {
        let kill = kill_active(bench.lab(), active).unwrap();
        let resumed = kill.at + kill.detected.unwrap();
        assert_eq!(tcp.wait_alive_since(resumed, RECOVERY), 40, "{:?}", tcp.members());
        for track in streams.tracks() {
            assert!(track.last().is_some_and(|last| last.at > resumed), "{:?}", track.kind());
        }
        bench.node(active).stop();
        bench.start(active);
        bench.wait_ready(active.partner());
        bench.wait_equal(44);
    }
}

#[test]
fn b_06_x_19_other_ports_and_other_workers_do_no_harm() {
    let mut bench = with_b(
        |config| {
            config.overlay("[workers]\ncount = 2\n").unwrap();
            for network in Network::BOTH {
                let device = format!("net_tap{},iface=tap-{}", network as u8, network.name());
                config.set_port(network.name(), "device", device).unwrap();
            }
        },
        || Network::BOTH.into_iter().for_each(tap_behind_the_cable),
    );
    assert!(bench.node(Host::B).log().contains("driver=\"net_tap\""));
    protects(&mut bench);
}

/// A TAP device in node b, joined to the cable by a bridge of the node's kernel. It is there before the
/// daemon and stays when that goes.
fn tap_behind_the_cable(network: Network) {
    let (name, cable) = (network.name(), network.link().node_interface);
    let ip = |arguments: &str| {
        let mut command = Command::new("ip");
        command.args(["-n", Host::B.namespace()]).args(arguments.split(' '));
        exec::check(&mut command, exec::SHORT).unwrap();
    };
    ip(&format!("link add join-{name} type bridge stp_state 0 forward_delay 0 mcast_snooping 0"));
    ip(&format!("link set join-{name} arp off"));
    let mut command = exec::on(Host::B, "ip");
    command.args(["tuntap", "add", "dev", &format!("tap-{name}"), "mode", "tap", "multi_queue"]);
    exec::check(&mut command, exec::SHORT).unwrap();
    for port in [cable, &format!("tap-{name}")] {
        ip(&format!("link set {port} master join-{name}"));
        ip(&format!("link set {port} up"));
    }
    ip(&format!("link set join-{name} up"));
}

/// Both nodes name the areas, the standby is not ready, and what it must not take it does not take.
fn differs(change: impl FnOnce(&mut NodeConfig), areas: &[&str], takes_sessions: bool) {
    let mark = Mark::now();
    let mut bench = with_b(change, || {});
    let _server = EchoServer::start(Host::Server, ECHO).unwrap();
    for host in Host::NODES {
        let event = bench.wait_event(host, mark, "pair_differs");
        assert!(areas.iter().all(|area| event.line.contains(area)), "{event:?}");
        let named = |status: Value| status["pair"]["differs"].clone();
        let expected: Vec<Value> = areas.iter().map(|area| (*area).into()).collect();
        tests::eventually("what differs", Value::from(expected), || {
            named(bench.control(host).ask("status").unwrap())
        });
    }
    tests::eventually("role of a", "active".to_owned(), || bench.role(Host::A));
    let mut open = connections(Family::V4, ECHO, 10);
    assert_eq!(open.round(0), 10);
    std::thread::sleep(Duration::from_millis(1500));
    let (role, taken) = (bench.role(Host::B), bench.count(Host::B, &[]));
    assert!(role != "active" && (takes_sessions || taken == 0), "b is {role} with {taken} sessions");
    let refused = bench.operator(Host::A).run(&["switchover"]).unwrap_err().to_string();
    assert!(refused.contains("exit code 1"), "{refused}");
    let compared = bench.operator(Host::B).run(&["compare"]).unwrap_err().to_string();
    assert!(compared.contains("exit code 4"), "{compared}");
    assert_eq!(open.round(1), 10);
}

#[test]
fn b_06_another_mtu_on_one_node_is_named() {
    differs(|config| config.set_port("wan", "mtu", 1400).unwrap(), &["ports"], false);
}

#[test]
fn b_06_b_07_other_zones_on_one_node_are_named_and_no_session_gets_there() {
    // The cables are swapped, or the zones: one looks like the other.
    let swap = |config: &mut NodeConfig| {
        config.set_port("lan", "zone", "wan").unwrap();
        config.set_port("wan", "zone", "lan").unwrap();
    };
    differs(swap, &["zones"], false);
}

#[test]
fn b_06_another_rule_on_one_node_is_named() {
    let rule =
        "[[rule]]\nname = \"x\"\nfrom = \"lan\"\nto = \"wan\"\naction = \"drop\"\nservices = [\"tcp/1\"]\n";
    differs(|config| config.rules_first(rule).unwrap(), &["rules"], true);
}
