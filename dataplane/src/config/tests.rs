//! Whole configurations: what is read from them, and what is said about wrong ones.

use super::*;
use engine::policy::{Action, Service};
use engine::{GroupId, RuleId};
use std::net::IpAddr;
use wire::{Addr, Proto};

pub(super) const EXAMPLE: &str = include_str!("../../../docs/understudyd.example.toml");
const REFERENCE: &str = include_str!("../../../docs/configuration.md");

/// The least that is a configuration.
pub(super) const SMALL: &str = r#"
[node]
name = "a"
[[port]]
name = "lan"
device = "net_af_packet0,iface=lan0"
zone = "lan"
addresses = ["10.1.0.1/24", "fd00:1::1/64"]
[[port]]
name = "wan"
device = "net_af_packet1,iface=wan0"
zone = "wan"
addresses = ["10.2.0.1/24", "fd00:2::1/64"]
"#;

pub(super) const RULE: &str = "[[rule]]\nname = \"r\"\nfrom = \"lan\"\nto = \"wan\"\naction = \"allow\"\n";

/// The example with its pair, which is commented out there.
pub(super) fn example_pair() -> String {
    let with = |line: &str| match line.strip_prefix('#') {
        Some(rest) if !rest.is_empty() && !rest.starts_with(' ') => rest.to_owned(),
        _ => line.to_owned(),
    };
    let text: Vec<String> = EXAMPLE.lines().map(with).collect();
    text.join("\n")
}

pub(super) fn small_with(more: &str) -> String {
    format!("{SMALL}{more}")
}

pub(super) fn parsed(text: &str) -> Config {
    Config::parse("t", text).unwrap_or_else(|error| panic!("{:#?}", error.lines()))
}

pub(super) fn lines(text: &str) -> Vec<String> {
    match Config::parse("t", text) {
        Ok(config) => panic!("it was accepted: {config:#?}"),
        Err(error) => error.lines(),
    }
}

/// Exactly one problem, and it says this.
#[track_caller]
pub(super) fn one_problem(text: &str, expected: &str) {
    let lines = lines(text);
    assert_eq!(lines.len(), 1, "{lines:#?}");
    assert!(lines[0].contains(expected), "{lines:#?}\ndo not contain {expected:?}");
}

fn net(text: &str) -> ipnet::IpNet {
    text.parse().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn x_12_any_zone_does_not_open_the_firewall_itself() {
    let to = |value: &str| {
        let text =
            format!("{SMALL}[[rule]]\nname = \"r\"\nfrom = \"any\"\nto = {value}\naction = \"allow\"\n");
        Config::parse("test.toml", &text).unwrap().rules[0].to
    };
    assert!(!to("\"any\"").contains(ZoneId::SELF));
    assert!(to("[\"any\", \"self\"]").contains(ZoneId::SELF));
    assert_eq!(to("[\"any\", \"self\"]"), to("[\"self\", \"any\"]"));
}

#[test]
fn the_example_is_read_as_it_stands() {
    let config = parsed(EXAMPLE);
    assert_eq!(
        (config.node.name.as_str(), config.node.control_socket.to_str()),
        ("a", Some("/run/understudy/a.sock"))
    );
    assert_eq!(config.log, Log { level: LogLevel::Info, format: LogFormat::Text });
    assert_eq!(config.eal, Eal { memory_mb: 256, huge_pages: HugePages::Auto, mbufs: 16_384, args: vec![] });
    assert_eq!(config.workers, Workers { count: 1, polling: Polling::Adaptive, cpus: vec![] });
    assert_eq!(config.sessions, Sessions { capacity: 262_144, half_open_max: 65_536 });
    assert_eq!(config.zones, ["lan", "wan"]);
    let lan = Port {
        name: "lan".into(),
        device: Device::Vdev("net_af_packet0,iface=lan0".into()),
        zone: ZoneId(0),
        addresses: vec![net("10.1.0.1/24"), net("fd00:1::1/64")],
        mtu: 1500,
        pair: None,
    };
    assert_eq!(config.ports[0], lan);
    assert_eq!((config.ports[1].zone, config.ports[1].device.name()), (ZoneId(1), "net_af_packet1"));
    assert_eq!(
        config.static_routes,
        [
            StaticRoute { to: net("10.3.0.0/16"), via: ip("10.2.0.254"), port: PortId(1) },
            StaticRoute { to: net("::/0"), via: ip("fd00:2::fe"), port: PortId(1) },
        ]
    );
    let names: Vec<&str> = config.rules.iter().map(|rule| rule.name.as_str()).collect();
    assert_eq!(names, ["ping-the-firewall", "no-telnet", "dns", "lan-to-wan"]);
    let only = |zone: ZoneId| ZoneSet::from(zone);
    let last = Rule {
        id: RuleId::from_name("lan-to-wan"),
        name: "lan-to-wan".into(),
        from: only(ZoneId(0)),
        to: only(ZoneId(1)),
        source: vec![net("10.1.0.0/24"), net("fd00:1::/64")],
        destination: vec![],
        services: vec![Service::Proto(Proto::TCP), Service::Proto(Proto::UDP), Service::IcmpEcho],
        action: Action::Allow,
        log: false,
        replicate: true,
        sync_after_s: 0,
        group: GroupId(0),
    };
    assert_eq!(config.rules[3], last);
    let ping = &config.rules[0];
    assert_eq!((&ping.from, &ping.to, ping.replicate), (&ZoneSet::TRANSIT, &only(ZoneId::SELF), false));
    let telnet = &config.rules[1];
    assert_eq!(telnet.services, [Service::Ports { proto: Proto::TCP, low: 23, high: 23 }]);
    assert_eq!((telnet.action, telnet.log), (Action::Reject, true));
    assert_eq!(config.rules[2].sync_after_s, 5);
}

#[test]
fn what_is_left_out_has_its_default() {
    let config = parsed(SMALL);
    let example = parsed(EXAMPLE);
    // The example spells the defaults out.
    assert_eq!(config.log, example.log);
    assert_eq!(config.eal, example.eal);
    assert_eq!(config.workers, example.workers);
    assert_eq!(config.sessions, example.sessions);
    assert_eq!(config.timeouts, example.timeouts);
    assert_eq!(config.ports, example.ports);
    assert_eq!(config.node.control_socket.to_str(), Some("/run/understudy/understudyd.sock"));
    assert_eq!((config.rules.len(), config.static_routes.len()), (0, 0));

    let config = parsed(&small_with(RULE));
    let rule = &config.rules[0];
    assert_eq!((rule.source.len(), rule.destination.len(), rule.services.len()), (0, 0, 0));
    assert_eq!((rule.log, rule.replicate, rule.sync_after_s), (false, true, 0), "replicated by default");
    assert_eq!(parsed(&small_with("[sessions]\ncapacity = 2048\n")).sessions.half_open_max, 512);
}

#[test]
fn b_04_sessions_are_replicated_unless_a_rule_says_otherwise() {
    assert!(parsed(&small_with(RULE)).rules[0].replicate);
    let off = format!("{RULE}transparent-failover = false\n");
    assert!(!parsed(&small_with(&off)).rules[0].replicate);
}

#[test]
fn every_key_is_documented() {
    let mut reader = Reader::default();
    let _ = read(&mut reader, &example_pair());
    assert!(reader.keys.len() > 60, "{:?}", reader.keys);
    let documented: Vec<&str> = REFERENCE
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .map(|(key, _)| key)
        .collect();
    let is_table = |key: &str| {
        reader.keys.iter().any(|other| other.strip_prefix(key).is_some_and(|rest| rest.starts_with('.')))
    };
    for key in reader.keys.iter().filter(|key| key.contains('.') && !is_table(key)) {
        assert!(documented.contains(&key.as_str()), "docs/configuration.md has no row for {key}");
    }
    for key in documented {
        assert!(reader.keys.contains(key), "docs/configuration.md has a row for {key}, which nothing reads");
    }
}

#[test]
fn x_12_all_problems_of_a_file_are_named_at_once() {
    let text = r#"
colour = "blue"
[node]
name = "a b"
[log]
levle = "info"
format = "xml"
[workers]
count = 17
polling = true
cpus = 3
[timeouts]
udp = 0
icmp = 1_036_801
[[port]]
name = "lan"
device = "lan0"
zone = "self"
addresses = ["10.1.0.1", "10.1.0.0/24", "10.1.0.255/24", "nonsense"]
mtu = 99
[[rule]]
name = "r"
from = "lan"
to = []
source = ["10.1.0.1/24"]
services = ["tcp/http", "tcp/9-8"]
action = "permit"
"#;
    let lines = lines(text);
    let expected = [
        "t:2:1: unknown key \"colour\" in the file",
        "t:4:8: the node name \"a b\" cannot be used",
        "t:6:1: unknown key \"levle\" in [log] (did you mean level?)",
        "t:7:10: format in [log] is \"xml\" (write one of [\"text\", \"json\"])",
        "t:9:9: count in [workers] is out of its range (write a whole number of workers from 1 to 16)",
        "t:10:11: polling in [workers] is true or false, not a string",
        "t:11:8: cpus in [workers] is a whole number, not a list",
        "t:13:7: udp in [timeouts] is out of its range (write a whole number of seconds from 1 to 1036800)",
        "t:14:8: icmp in [timeouts] is out of its range",
        "t:17:10: device \"lan0\" in [[port]] \"lan\" is neither a PCI address nor a virtual device (for the kernel's \
         interface lan0 write \"net_af_packet0,iface=lan0\")",
        "t:18:8: no port can be in the zone \"self\"",
        "t:19:14: address \"10.1.0.1\" lacks its prefix length",
        "t:19:26: 10.1.0.0/24 cannot be a port's address: it is the network itself",
        "t:19:41: 10.1.0.255/24 cannot be a port's address: it is the network's broadcast address",
        "t:19:58: \"nonsense\" is no address with a prefix length",
        "t:20:7: mtu in [[port]] \"lan\" is out of its range (write a whole number of bytes from 576 to 9216)",
        "t:21:1: to in [[rule]] \"r\" is missing or empty",
        "t:25:11: 10.1.0.1/24 has bits set behind its prefix length (write \"10.1.0.0/24\" for the network or \
         \"10.1.0.1\" for the one address)",
        "t:26:13: service \"tcp/http\" has no port numbers",
        "t:26:25: service \"tcp/9-8\" runs backwards (write tcp/8-9)",
        "t:27:10: action in [[rule]] \"r\" is \"permit\"",
    ];
    assert_eq!(lines.len(), expected.len(), "{lines:#?}");
    for (line, expected) in lines.iter().zip(expected) {
        assert!(line.starts_with(expected), "{line}\ndoes not begin with\n{expected}");
    }
}

#[test]
fn problems_are_shown_in_their_place() {
    let error = Config::parse("fw.toml", &small_with("[log]\nlevle = \"info\"\n")).unwrap_err();
    let handler =
        miette::GraphicalReportHandler::new_themed(miette::GraphicalTheme::unicode_nocolor()).with_width(100);
    let mut shown = String::new();
    handler.render_report(&mut shown, &error).unwrap();
    for part in [
        "the configuration fw.toml has 1 problem",
        "unknown key \"levle\"",
        "[fw.toml:15:1]",
        "levle = \"info\"",
        "did you mean level?",
    ] {
        assert!(shown.contains(part), "{part:?} is not in\n{shown}");
    }
}

#[test]
fn syntax_errors_are_all_named_and_nothing_else_is_judged() {
    let lines = lines("[node\nname = \"a\"\n[log]\nlevel = info\n");
    assert!(lines.len() >= 2, "{lines:#?}");
    assert!(lines[0].starts_with("t:1:") && lines[1].starts_with("t:4:"), "{lines:#?}");
    assert!(lines.iter().all(|line| line.contains("not TOML")), "{lines:#?}");
}

#[test]
fn a_long_list_of_problems_is_cut_and_counted() {
    let many: String = (0..80).map(|n| format!("unknown-{n} = 1\n")).collect();
    let lines = lines(&format!("{many}{SMALL}"));
    assert_eq!(lines.len(), 51);
    assert_eq!(lines[50], "t: 30 more problems are not listed");
}

#[test]
fn ports_must_be_apart() {
    let port = |name: &str, device: &str, address: &str| {
        format!(
            "[[port]]\nname = \"{name}\"\ndevice = \"{device}\"\nzone = \"dmz\"\naddresses = [\"{address}\"]\n"
        )
    };
    let check =
        |name, device, address, expected| one_problem(&small_with(&port(name, device, address)), expected);
    check("lan", "net_af_packet2,iface=d0", "10.4.0.1/24", "a second port is called \"lan\"");
    check(
        "dmz",
        "net_af_packet1,iface=d0",
        "10.4.0.1/24",
        "\"net_af_packet1\" is used by [[port]] \"wan\" and by [[port]] \"dmz\"",
    );
    check("dmz", "net_af_packet2,iface=lan0", "10.4.0.1/24", "\"iface=lan0\" is used by [[port]] \"lan\"");
    check("dmz", "net_af_packet2,iface=d0", "10.1.0.129/25", "overlaps with 10.1.0.1/24 on port \"lan\"");
    check("dmz", "net_af_packet2,iface=d0", "10.0.0.1/8", "overlaps with 10.1.0.1/24 on port \"lan\"");
    check("dmz", "net_af_packet2,iface=d0", "fd00:2::2/64", "overlaps with fd00:2::1/64 on port \"wan\"");
    let dmz = port("dmz", "net_af_packet2,iface=d0", "10.4.0.1/24");
    let twice = dmz.replace("\"10.4.0.1/24\"", "\"10.4.0.1/24\", \"10.4.0.1/25\"");
    one_problem(&small_with(&twice), "10.4.0.1 stands twice on port \"dmz\"");
    let two_in_one_net = dmz.replace("\"10.4.0.1/24\"", "\"10.4.0.1/24\", \"10.4.0.2/24\"");
    assert_eq!(parsed(&small_with(&two_in_one_net)).zones, ["dmz", "lan", "wan"]);
}

#[test]
fn a_port_can_have_these_addresses_only() {
    let with = |address: &str| SMALL.replace("10.2.0.1/24", address);
    for address in ["192.0.2.0/31", "192.0.2.1/32", "2001:db8::/127", "2001:db8::1/128", "203.0.113.254/24"] {
        let config = parsed(&with(address));
        assert_eq!(config.ports[1].addresses[0], net(address));
    }
    for (address, expected) in [
        ("0.0.0.0/24", "is the unspecified address"),
        ("224.0.0.1/24", "is a multicast address"),
        ("ff02::1/64", "is a multicast address"),
        ("127.0.0.1/8", "is a loopback address"),
        ("169.254.1.1/16", "is link-local"),
        ("fe80::1/64", "is link-local"),
        ("10.9.0.1/0", "prefix of length 0"),
        ("2001:db8::/64", "is the network itself"),
        ("10.9.0.1/33", "is no address with a prefix length"),
        ("10.9.0.01/24", "is no address with a prefix length"),
        ("10.9.0.1/+24", "is no address with a prefix length"),
    ] {
        one_problem(&with(address), expected);
    }
    one_problem(
        &SMALL.replace("[\"10.2.0.1/24\", \"fd00:2::1/64\"]", "[]"),
        "addresses in [[port]] \"wan\" is missing",
    );
    one_problem(
        &SMALL.replace("zone = \"wan\"", "zone = \"wan\"\nmtu = 1279"),
        "MTU of at least 1280 (RFC 8200",
    );
    let v4_only =
        SMALL.replace(", \"fd00:2::1/64\"", "").replace("zone = \"wan\"", "zone = \"wan\"\nmtu = 576");
    assert_eq!(parsed(&v4_only).ports[1].mtu, 576);
}

#[test]
fn devices_are_pci_addresses_or_virtual_ones() {
    let device = |text: &str| {
        let text = SMALL.replace("net_af_packet1,iface=wan0", text);
        Config::parse("t", &text).map(|config| config.ports[1].device.clone()).map_err(|error| error.lines())
    };
    let pci = |text: &str| Ok(Device::Pci(text.into()));
    assert_eq!(device("0000:03:00.0"), pci("0000:03:00.0"));
    assert_eq!(device("3:A.1"), pci("0000:03:0a.1"));
    assert_eq!(device("10000:e1:1f.7"), pci("10000:e1:1f.7"));
    for text in
        ["net_tap0,iface=t0,mac=fixed", "net_ring0", "net_memif1,role=server,socket=/run/m.sock", "eth_null0"]
    {
        assert_eq!(device(text), Ok(Device::Vdev(text.into())));
    }
    for text in [
        "",
        "net_",
        "wan0",
        "net_af packet",
        "net_af_packet1,",
        "net_x,iface=a b",
        "0000:03:20.0",
        "03:00.8",
        "03:00",
        "1:2:3:4.0",
    ] {
        let lines = device(text).unwrap_err();
        assert!(lines.len() == 1 && lines[0].contains("neither a PCI address"), "{text:?} {lines:?}");
    }
}

#[test]
fn gateways_lie_on_a_link() {
    let route = |to: &str, via: &str| small_with(&format!("[[route]]\nto = \"{to}\"\nvia = \"{via}\"\n"));
    let config = parsed(&route("0.0.0.0/0", "10.1.0.254"));
    assert_eq!(
        config.static_routes,
        [StaticRoute { to: net("0.0.0.0/0"), via: ip("10.1.0.254"), port: PortId(0) }]
    );
    one_problem(&route("10.3.0.0/16", "10.4.0.1"), "gateway 10.4.0.1 is in no port's network");
    one_problem(&route("10.3.0.0/16", "10.2.0.1"), "is the firewall's own address on port \"wan\"");
    one_problem(&route("10.3.0.0/16", "10.2.0.255"), "is no host: it is the network's broadcast address");
    one_problem(&route("10.3.0.0/16", "fd00:2::fe"), "a gateway of the other family");
    one_problem(&route("10.3.0.1/16", "10.2.0.254"), "write \"10.3.0.0/16\"");
    one_problem(&route("10.2.0.0/24", "10.2.0.254"), "10.2.0.0/24 has a route or a port already");
    one_problem(&route("10.3.0.0/16", "gw"), "gateway \"gw\" is no address");
    let twice = format!(
        "{}[[route]]\nto = \"10.3.0.0/16\"\nvia = \"10.2.0.253\"\n",
        route("10.3.0.0/16", "10.2.0.254")
    );
    one_problem(&twice, "has a route or a port already");
    // A port that could not be read is the one problem: its networks are not missed as well.
    one_problem(
        &route("10.3.0.0/16", "10.2.0.254").replace("10.2.0.1/24", "10.2.0.1"),
        "lacks its prefix length",
    );
}

#[test]
fn rules_say_what_they_mean() {
    let rule = |more: &str| small_with(&format!("{RULE}{more}\n"));
    let twice = format!("{RULE}{RULE}");
    one_problem(&small_with(&twice), "a second rule is called \"r\"");
    one_problem(&rule("").replace("\"r\"", "\"default-deny\""), "the name of the rule behind all rules");
    one_problem(&rule("").replace("from = \"lan\"", "from = \"self\""), "names the firewall itself");
    one_problem(
        &rule("").replace("to = \"wan\"", "to = \"wann\""),
        "no port is in zone \"wann\" (did you mean \"wan\"?",
    );
    one_problem(
        &rule("").replace("to = \"wan\"", "to = 7"),
        "to in [[rule]] \"r\" is a whole number, not a string",
    );
    one_problem(&rule("").replace("action = \"allow\"\n", ""), "action in [[rule]] \"r\" is missing");
    one_problem(&rule("destinatoin = [\"10.2.0.10\"]"), "did you mean destination?");
    one_problem(&rule("source = [\"10.1.0.0/24\", \"10.1.0.0/24\"]"), "source holds 10.1.0.0/24 twice");
    one_problem(
        &rule("source = [\"10.1.0.0/24\"]\ndestination = [\"fd00:2::/64\"]"),
        "have no family in common",
    );
    one_problem(&rule("log = \"yes\""), "log in [[rule]] \"r\" is a string, neither true nor false");
    let config = parsed(&rule("source = \"10.1.0.10\"\nservices = \"udp/1000-2000\""));
    assert_eq!(config.rules[0].source, [net("10.1.0.10/32")]);
    assert_eq!(config.rules[0].services, [Service::Ports { proto: Proto::UDP, low: 1000, high: 2000 }]);
    let config = parsed(&rule("source = \"any\"\nservices = [\"tcp/80\", \"any\"]"));
    assert_eq!((config.rules[0].source.len(), config.rules[0].services.len()), (0, 0));
    let config = parsed(&rule("services = [\"proto/47\", \"tcp/80\", \"icmp-echo\", \"tcp/80\"]"));
    let tcp_80 = Service::Ports { proto: Proto::TCP, low: 80, high: 80 };
    assert_eq!(config.rules[0].services, [Service::Proto(Proto::GRE), tcp_80, Service::IcmpEcho]);
    for service in [
        "",
        "http",
        "tcp/",
        "tcp/+80",
        "tcp/65536",
        "udp/1-",
        "icmp-echo/8",
        "proto/",
        "proto/256",
        "proto/+6",
        "tcp/1-2-3",
    ] {
        one_problem(&rule(&format!("services = [\"{service}\"]")), "service ");
    }
}

#[test]
fn a_faulty_port_does_not_make_its_rules_faulty() {
    let text = small_with(RULE).replace("net_af_packet1,iface=wan0", "wan0");
    one_problem(&text, "device \"wan0\" in [[port]] \"wan\"");
}

#[test]
fn two_rule_names_with_one_id_are_refused() {
    // Found by search over FNV-1a: the ids of these names are equal.
    let (one, other) = ("costarring", "liquid");
    assert_eq!(engine::RuleId::from_name(one), engine::RuleId::from_name(other));
    let rules = format!("{}{}", RULE.replace("\"r\"", "\"costarring\""), RULE.replace("\"r\"", "\"liquid\""));
    one_problem(&small_with(&rules), "the names \"costarring\" and \"liquid\" have the same id");
}

#[test]
fn numbers_that_belong_together_are_checked_together() {
    one_problem(
        &small_with("[eal]\nmbufs = 1_000_000\n"),
        "1000000 mbufs take about 2442 MiB, and memory-mb is 256",
    );
    one_problem(
        &small_with("[workers]\ncount = 2\ncpus = [1]\n"),
        "cpus in [workers] has 1 entries for 2 workers",
    );
    one_problem(&small_with("[workers]\ncount = 2\ncpus = [1, 1]\n"), "names CPU 1 twice");
    one_problem(
        &small_with("[sessions]\ncapacity = 2048\nhalf-open-max = 2049\n"),
        "half-open-max in [sessions] is out of",
    );
    one_problem(&small_with("[eal]\nargs = [\"\"]\n"), "EAL argument \"\" is empty");
    let config = parsed(&small_with("[workers]\ncount = 2\ncpus = [1, 0x3]\npolling = \"busy\"\n"));
    assert_eq!(config.workers, Workers { count: 2, polling: Polling::Busy, cpus: vec![1, 3] });
    assert_eq!(parsed(&small_with("[timeouts]\nudp = 1_036_800\n")).timeouts.udp_ms, 12 * 24 * 3_600_000);
}

#[test]
fn control_sockets_fit_an_address() {
    let with =
        |path: &str| SMALL.replace("name = \"a\"", &format!("name = \"a\"\ncontrol-socket = \"{path}\""));
    let longest = format!("/{}", "s".repeat(106));
    assert_eq!(parsed(&with(&longest)).node.control_socket.as_os_str().len(), 107);
    one_problem(&with(&format!("{longest}s")), "is longer than the 107 bytes");
    one_problem(&with("a.sock"), "is not an absolute path");
    one_problem(&with("/run/"), "names a directory");
    one_problem(&with("/run/\\u0000"), "holds a NUL character");
}

#[test]
fn ports_are_at_most_32() {
    let port = |n: usize| {
        format!(
            "[[port]]\nname = \"p{n}\"\ndevice = \"net_ring{n}\"\nzone = \"z{n}\"\naddresses = [\"10.{n}.0.1/16\"]\n"
        )
    };
    let ports = |count| format!("[node]\nname = \"a\"\n{}", (0..count).map(port).collect::<String>());
    assert_eq!(parsed(&ports(32)).zones.len(), 32);
    one_problem(&ports(33), "there are 33 ports (at most 32 can be used)");
    one_problem("[node]\nname = \"a\"\n", "there is no port");
    let lines = lines("");
    assert!(
        lines[0].contains("name in [node] is missing") && lines[1].contains("there is no port"),
        "{lines:#?}"
    );
}

#[test]
fn routes_are_the_ports_networks_and_the_static_ones() {
    let shared_net = EXAMPLE.replacen("\"10.1.0.1/24\"", "\"10.1.0.1/24\", \"10.1.0.2/24\"", 1);
    let route = |to, port, via: Option<&str>| Route {
        prefix: net(to),
        port: PortId(port),
        gateway: via.map_or(Gateway::OnLink, |via| Gateway::Via(Addr::from(ip(via)))),
    };
    let expected = [
        route("10.1.0.0/24", 0, None),
        route("fd00:1::/64", 0, None),
        route("10.2.0.0/24", 1, None),
        route("fd00:2::/64", 1, None),
        route("10.3.0.0/16", 1, Some("10.2.0.254")),
        route("::/0", 1, Some("fd00:2::fe")),
    ];
    for text in [EXAMPLE, &shared_net] {
        assert_eq!(parsed(text).routes(), expected);
    }
    let table = Routes::build(&parsed(EXAMPLE).routes()).unwrap();
    assert_eq!(table.lookup(Addr::from(ip("10.3.9.9"))).map(|hit| hit.port), Some(PortId(1)));
    assert_eq!(table.lookup(Addr::from(ip("192.0.2.1"))), None);
}

#[test]
fn rules_and_services_read_back_as_they_were_written() {
    let config = parsed(EXAMPLE);
    assert_eq!(config.policy_rules(), config.rules);
    assert_eq!(config.timeouts(), Timeouts::default());
    let names = |zones| config.zone_names(zones);
    assert_eq!(names(config.rules[0].to), ["self"]);
    assert_eq!(names(config.rules[3].from), ["lan"]);
    assert!(names(config.rules[0].from).is_empty(), "any");
    for text in ["tcp", "udp", "tcp/80", "udp/1000-2000", "icmp-echo", "proto/47", "tcp/0-65535"] {
        let config = parsed(&small_with(&format!("{RULE}services = \"{text}\"\n")));
        assert_eq!(service_text(&config.rules[0].services[0]), text);
    }
    assert_eq!(service_text(&Service::Any), "any");
}

#[test]
fn a_rule_that_is_never_reached_is_worth_a_warning() {
    let nothing: [&str; 0] = [];
    assert_eq!(parsed(EXAMPLE).warnings, nothing);
    assert_eq!(parsed(SMALL).warnings, ["there is no rule: nothing passes the firewall; add a [[rule]]"]);
    let hidden = format!("{RULE}{}services = \"tcp/80\"\n", RULE.replace("\"r\"", "\"hidden\""));
    let warnings = parsed(&small_with(&hidden)).warnings;
    assert!(
        warnings.len() == 1 && warnings[0].starts_with("rule `hidden` is never reached: rule `r`"),
        "{warnings:?}"
    );
}

#[test]
fn frames_that_a_device_cuts_are_worth_a_warning() {
    let jumbo = EXAMPLE.replacen("mtu = 1500", "mtu = 9000", 1);
    let expected = "port \"lan\" has an MTU of 9000, and net_af_packet carries 1500 bytes; lower the MTU";
    assert_eq!(parsed(&jumbo).warnings, [expected]);
    let nothing: [&str; 0] = [];
    assert_eq!(parsed(&jumbo.replace("net_af_packet0,iface=lan0", "0000:03:00.0")).warnings, nothing);
}

#[test]
fn more_rules_than_the_policy_holds_are_refused() {
    let rule = |n: usize| RULE.replace("\"r\"", &format!("\"r{n}\""));
    let rules = |count| small_with(&(0..count).map(rule).collect::<String>());
    assert_eq!(parsed(&rules(4096)).rules.len(), 4096);
    one_problem(&rules(4097), "4097 rules, at most 4096 are possible");
}

#[test]
fn a_reload_names_what_needs_a_restart() {
    let running = parsed(EXAMPLE);
    let changed = |from: &str, to: &str| {
        assert!(EXAMPLE.contains(from), "{from}");
        parsed(&EXAMPLE.replacen(from, to, 1)).diff_restart_needed(&running)
    };
    let nothing: [&str; 0] = [];
    assert_eq!(changed("level = \"info\"", "level = \"debug\""), nothing);
    assert_eq!(changed("udp = 120", "udp = 60"), nothing);
    assert_eq!(changed("via = \"10.2.0.254\"", "via = \"10.2.0.253\""), nothing);
    assert_eq!(changed("services = [\"tcp/23\"]", "services = [\"tcp/24\"]"), nothing);
    assert_eq!(changed("count = 1 ", "count = 2 "), ["workers.count"]);
    assert_eq!(changed("name = \"a\"", "name = \"b\""), ["node.name"]);
    assert_eq!(changed("a.sock", "b.sock"), ["node.control-socket"]);
    assert_eq!(changed("memory-mb = 256", "memory-mb = 257"), ["eal.memory-mb"]);
    assert_eq!(changed("capacity = 262144", "capacity = 524288"), ["sessions.capacity"]);
    assert_eq!(changed("mtu = 1500", "mtu = 1400"), ["mtu of port \"lan\""]);
    assert_eq!(changed("iface=lan0", "iface=lan1"), ["device of port \"lan\""]);
    // The zone's number changes for both ports, its name for one.
    let renamed = EXAMPLE.replace("\"wan\"", "\"abroad\"").replace("name = \"abroad\"", "name = \"wan\"");
    assert_eq!(parsed(&renamed).diff_restart_needed(&running), ["zone of port \"wan\""]);
    let one_port_less =
        format!("[node]\n{}", &SMALL[SMALL.find("name = \"a\"").unwrap()..SMALL.rfind("[[port]]").unwrap()]);
    let named = parsed(&one_port_less).diff_restart_needed(&running);
    assert_eq!(named, ["node.control-socket", "the list of ports (lan in place of lan, wan)"]);
}
