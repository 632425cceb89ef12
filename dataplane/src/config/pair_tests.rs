//! Configurations of a pair.

use super::tests::{EXAMPLE, example_pair, lines, one_problem, parsed};
use super::*;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use sync::ids::{Micros, NodeId, PairId, PathId};
use sync::keys::SecretKey;

/// A folder with key files, removed at the end.
struct Keys {
    folder: PathBuf,
}

impl Keys {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("us-pair-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        let keys = Self { folder };
        keys.write("a.key", &format!("{}\n", own().to_text()), 0o600);
        keys
    }

    fn write(&self, name: &str, content: &str, mode: u32) {
        let path = self.folder.join(name);
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    /// The example as a pair with a key file that is there.
    fn example(&self) -> String {
        let partner = SecretKey::from_random([7; 32]).public().to_string();
        let text = example_pair().replace("/etc/understudy", &self.folder.display().to_string());
        let key = text.lines().find(|line| line.starts_with("partner-key")).unwrap().to_owned();
        text.replace(&key, &format!("partner-key = \"{partner}\""))
    }

    /// The example with one line replaced; the line is named by what it begins with.
    #[track_caller]
    fn with(&self, line: &str, replacement: &str) -> String {
        let text = self.example();
        let old =
            text.lines().find(|candidate| candidate.starts_with(line)).unwrap_or_else(|| panic!("{line}"));
        text.replacen(&format!("{old}\n"), &format!("{replacement}\n"), 1)
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn own() -> SecretKey {
    SecretKey::from_random([5; 32])
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn the_example_of_a_pair_is_read_as_it_stands() {
    let keys = Keys::new("example");
    let config = parsed(&keys.example());
    let pair = config.pair.as_ref().unwrap();
    let expected = PairSettings {
        id: PairId(7),
        node: NodeId(0),
        preferred: NodeId(0),
        key: NodeKey { file: keys.folder.join("a.key"), public: own().public(), secret: own() },
        partner_key: SecretKey::from_random([7; 32]).public(),
        steering_key: 27_994,
        state_dir: "/var/lib/understudy".into(),
        on_active_restart: sync::membership::OnActiveRestart::Reclaim,
        takeover_incomplete: true,
        preempt: false,
        boot_delay_ms: 3_000,
        lan_fallback: true,
        lan_fallback_mbit: 100,
        resync_rate: None,
        debug_verbs: false,
        heartbeat: Heartbeat { interval_ms: 100, misses: 3, port: 801 },
        stream_port: 689,
        links: vec![SyncLink {
            name: "sync0".into(),
            device: Device::Vdev("net_af_packet2,iface=sync0".into()),
            address: ip("169.254.77.1"),
            partner: ip("169.254.77.2"),
            mtu: 1500,
        }],
    };
    assert_eq!(pair, &expected);
    assert_eq!(pair.partner(), NodeId(1));
    assert_eq!(pair.virtual_mac().0, [0, 0, 0x5e, 0, 1, 7]);
    assert_eq!(pair.steering().word(), 0x6d5a);
    assert_eq!(config.ports[0].pair, Some(PairAddresses { own: ip("10.1.0.2"), partner: ip("10.1.0.3") }));
    assert!(!format!("{config:?}").contains("0505"), "a secret key is never shown");
}

#[test]
fn what_is_left_out_of_a_pair_has_its_default() {
    let keys = Keys::new("defaults");
    let text = keys.example();
    let needed = ["id ", "node-id", "secret-key-file", "partner-key", "name", "device", "address", "partner"];
    let (before, pair) = text.split_once("[pair]\n").unwrap();
    let short: Vec<&str> = pair
        .lines()
        .filter(|line| line.starts_with("[[") || needed.iter().any(|key| line.starts_with(key)))
        .collect();
    assert!(short.len() < 12, "{short:#?}");
    assert_eq!(parsed(&format!("{before}[pair]\n{}", short.join("\n"))), parsed(&text));
}

#[test]
fn paths_are_numbered_links_first() {
    let keys = Keys::new("paths");
    let config = parsed(&keys.with("lan-fallback =", "lan-fallback = false"));
    let paths: Vec<_> = config
        .pair_paths()
        .into_iter()
        .map(|path| (path.id, path.name, path.kind, path.carries_sync))
        .collect();
    assert_eq!(
        paths,
        [
            (PathId(0), "sync0".to_owned(), PathKind::SyncLink(0), true),
            (PathId(1), "lan".to_owned(), PathKind::DataPort(PortId(0)), false),
            (PathId(2), "wan".to_owned(), PathKind::DataPort(PortId(1)), false),
        ]
    );
    let membership = config.membership().unwrap();
    assert_eq!(membership.check(), Ok(()));
    assert_eq!((membership.node, membership.partner, membership.preferred), (NodeId(0), NodeId(1), true));
    assert_eq!((membership.paths, membership.interval), (vec![true, false, false], Micros::from_millis(100)));
    let other = parsed(&keys.with("node-id", "node-id = 1"));
    assert_eq!(other.membership().map(|membership| membership.preferred), Some(false));
    assert!(parsed(EXAMPLE).pair_paths().is_empty() && parsed(EXAMPLE).membership().is_none());
}

#[test]
fn s_17_a_pair_without_a_way_is_refused() {
    let keys = Keys::new("ways");
    let linkless = |text: String| text.split_once("[[pair.link]]").unwrap().0.to_owned();
    let portless = |text: String| {
        let kept = text
            .lines()
            .filter(|line| !line.starts_with("node-address") && !line.starts_with("partner-address"));
        kept.collect::<Vec<_>>().join("\n")
    };
    assert_eq!(parsed(&linkless(keys.example())).pair_paths().len(), 2);
    assert_eq!(parsed(&portless(keys.example())).pair_paths().len(), 1);
    one_problem(&linkless(portless(keys.example())), "no path leads to the partner (add a [[pair.link]]");
    let no_lan = linkless(keys.with("lan-fallback =", "lan-fallback = false"));
    one_problem(&no_lan, "session sync has no path: there is no sync link, and lan-fallback is false");
}

#[test]
fn b_17_keys_are_judged_before_they_are_used() {
    let keys = Keys::new("keys");
    let file = |content: &str, mode: u32| {
        keys.write("a.key", content, mode);
        lines(&keys.example()).remove(0)
    };
    let secret = own().to_text();
    let says = |line: String, expected: &str| assert!(line.contains(expected), "{line}\nlacks {expected}");
    says(file(&secret, 0o640), "can be used by others than its owner (mode 0640) (run: chmod 600 ");
    says(file(&own().public().to_string(), 0o600), "holds no secret key: a secret key begins with `secret:`");
    says(file("", 0o600), "holds no secret key: a key has 64 hexadecimal digits, this has 0 characters");
    says(file(&"\u{e9}".repeat(3), 0o600), "holds no secret key");
    says(file(&format!("{secret}{}", " ".repeat(1_024)), 0o600), "holds more than a key");
    keys.write("a.key", &secret, 0o400);
    assert!(parsed(&keys.example()).pair.is_some(), "stricter than 0600 will do");
    std::fs::remove_file(keys.folder.join("a.key")).unwrap();
    let missing = lines(&keys.example()).remove(0);
    says(missing.clone(), "cannot be read: No such file");
    says(missing, &format!("(make it with: ha-ctl keygen --out {}/a.key)", keys.folder.display()));
    std::fs::create_dir(keys.folder.join("a.key")).unwrap();
    says(lines(&keys.example()).remove(0), "is not a regular file");
    says(
        lines(&keys.with("secret-key-file", "secret-key-file = \"a.key\"")).remove(0),
        "is not an absolute path",
    );
}

#[test]
fn b_17_the_partners_key_is_the_partners() {
    let keys = Keys::new("partner");
    let with = |key: &str| keys.with("partner-key", &format!("partner-key = \"{key}\""));
    one_problem(&with(&own().public().to_string()), "partner-key is this node's own key (write what");
    let pasted = with(&own().to_text());
    one_problem(&pasted, "partner-key is no public key: this is a secret key");
    assert!(!lines(&pasted)[0].contains("0505"), "a pasted secret is not repeated in logs");
    one_problem(&with(&"00".repeat(32)), "protect nothing");
    one_problem(&with("12"), "this has 2 characters");
    one_problem(
        &keys.with("partner-key", ""),
        "partner-key in [pair] is missing (write what `ha-ctl keygen --show",
    );
}

#[test]
fn b_06_nodes_have_addresses_of_their_own_in_the_ports_networks() {
    let keys = Keys::new("addresses");
    let own = |text: &str| keys.with("node-address", &format!("node-address = \"{text}\""));
    one_problem(&own("10.1.0.1"), "node-address 10.1.0.1 is a shared address of the port");
    one_problem(&own("fd00:1::1"), "node-address fd00:1::1 is a shared address of the port");
    one_problem(&own("10.9.0.2"), "node-address 10.9.0.2 is in no network of the port");
    one_problem(&own("10.2.0.2"), "node-address 10.2.0.2 is in no network of the port");
    one_problem(&own("10.1.0.255"), "is no host: it is the network's broadcast address");
    one_problem(&own("10.1.0.2/24"), "node-address \"10.1.0.2/24\" is no address");
    one_problem(&own("10.1.0.3"), "node-address and partner-address in [[port]] \"lan\" are the same");
    one_problem(
        &own("fd00:1::2"),
        "node-address and partner-address in [[port]] \"lan\" lie in different networks",
    );
    one_problem(
        &keys.with("node-address", ""),
        "node-address in [[port]] \"lan\" is missing, and partner-address is",
    );
    one_problem(
        &keys.with("via = \"10.2.0.254\"", "via = \"10.2.0.3\""),
        "is a node's own address on port \"wan\"",
    );
    let alone =
        EXAMPLE.replace("#node-address", "node-address").replace("#partner-address", "partner-address");
    let lines = lines(&alone);
    assert_eq!(lines.len(), 2);
    assert!(
        lines[0].contains("node-address in [[port]] \"lan\" is for a pair, and there is no [pair]"),
        "{lines:?}"
    );
    // A port that could not be read whole is the one problem.
    one_problem(
        &keys.with("addresses = [\"10.1.0.1/24\"", "addresses = [\"10.1.0.1\"]"),
        "lacks its prefix length",
    );
    let v6 = own("fd00:1::2").replacen("\"10.1.0.3\"", "\"fd00:1::3\"", 1);
    assert_eq!(parsed(&v6).pair_paths()[1].address, ip("fd00:1::2"));
}

#[test]
fn numbers_of_a_pair_fit_together() {
    let keys = Keys::new("numbers");
    one_problem(&keys.with("id = 7", "id = 0"), "id in [pair] is out of its range");
    one_problem(&keys.with("id = 7", ""), "id in [pair] is missing (number the pair");
    one_problem(&keys.with("node-id", "node-id = 2"), "node-id in [pair] is out of its range");
    one_problem(&keys.with("node-id", ""), "node-id in [pair] is missing");
    let even = "steering-key 27995 has an even number of one bits (10) (use 27994, or leave it out";
    one_problem(&keys.with("steering-key", "steering-key = 27995"), even);
    one_problem(&keys.with("steering-key", "steering-key = 0"), "steering-key in [pair] is out of its range");
    one_problem(&keys.with("port = 801", "port = 689"), "heartbeats and the stream both use UDP port 689");
    one_problem(&keys.with("state-dir", "state-dir = \"lib\""), "state-dir \"lib\" is not an absolute path");
    one_problem(&keys.with("on-active-restart", "on-active-restart = \"purg\""), "did you mean \"purge\"?");
    one_problem(&keys.with("preempt", "prempt = true"), "did you mean preempt?");
    one_problem(
        &keys.with("misses", "mises = 3"),
        "unknown key \"mises\" in [pair.heartbeat] (did you mean misses?)",
    );
    assert_eq!(
        parsed(&keys.with("resync-rate", "resync-rate = 70")).pair.unwrap().resync_rate.unwrap().get(),
        70
    );
}

#[test]
fn b_28_a_dead_time_leaves_room_for_its_margin() {
    let keys = Keys::new("dead");
    let times = |interval: u32, misses: u32| {
        let text = keys.with("interval-ms", &format!("interval-ms = {interval}"));
        text.replace("misses = 3 ", &format!("misses = {misses} "))
    };
    for (interval, misses) in [(100, 2), (10, 3), (5, 4), (20, 2), (10_000, 20)] {
        let config = parsed(&times(interval, misses));
        let membership = config.membership().unwrap();
        assert_eq!(membership.check(), Ok(()));
        let lease = membership.dead().since(membership.margin);
        assert!(lease.0 * 2 >= membership.interval.0 * 3, "{interval} x {misses}");
    }
    let short = "3 misses of 5 ms are 15 ms, too short for the margin of 10 ms (write misses = 4 or more";
    one_problem(&times(5, 3), short);
    one_problem(&times(10, 2), "(write misses = 3 or more");
}

#[test]
fn sync_links_keep_away_from_ports_and_from_each_other() {
    let keys = Keys::new("links");
    let with = |line: &str, replacement: &str| {
        let text = keys.example();
        let (before, link) = text.split_once("[[pair.link]]").unwrap();
        assert!(link.contains(line), "{line}");
        format!("{before}[[pair.link]]{}", link.replace(line, replacement))
    };
    let link = |name: &str, device: &str, address: &str, partner: &str| {
        format!(
            "{}\n[[pair.link]]\nname = \"{name}\"\ndevice = \"{device}\"\naddress = \"{address}\"\npartner = \"{partner}\"\n",
            keys.example()
        )
    };
    let second = link("sync1", "net_af_packet3,iface=sync1", "fd00:77::1", "fd00:77::2");
    assert_eq!(parsed(&second).pair_paths()[1].name, "sync1");
    one_problem(&with("\"sync0\"", "\"lan\""), "a port or another sync link is called \"lan\" already");
    one_problem(
        &with("net_af_packet2", "net_af_packet1"),
        "\"net_af_packet1\" is used by [[port]] \"wan\" and by [[pair.link]] \"sync0\"",
    );
    one_problem(&with("iface=sync0", "iface=wan0"), "\"iface=wan0\" is used by [[port]] \"wan\"");
    one_problem(
        &with("169.254.77.2", "169.254.77.1"),
        "address and partner in [[pair.link]] \"sync0\" are the same",
    );
    one_problem(&with("169.254.77.2", "fe80::2"), "are of different families");
    one_problem(
        &with("169.254.77.1", "10.1.0.9"),
        "address 10.1.0.9 of a sync link lies in the network of port \"lan\"",
    );
    one_problem(&with("169.254.77.1", "224.0.0.1"), "is a multicast address");
    one_problem(&with("169.254.77.1", "169.254.77.1/30"), "address \"169.254.77.1/30\" is no address");
    one_problem(&with("mtu = 1500", "mtu = 99"), "mtu in [[pair.link]] \"sync0\" is out of its range");
    let v6 = with("169.254.77", "fe80:").replace("fe80:.", "fe80::");
    assert_eq!(parsed(&v6).pair.unwrap().links[0].address, ip("fe80::1"));
    let small_v6 =
        v6.split_once("[[pair.link]]").map(|(a, b)| format!("{a}[[pair.link]]{}", b.replace("1500", "1000")));
    one_problem(&small_v6.unwrap(), "has IPv6 addresses and an MTU of 1000");
    one_problem(
        &link("sync1", "net_af_packet3,iface=sync1", "169.254.77.1", "169.254.77.2"),
        "a second sync link runs from 169.254.77.1 to 169.254.77.2",
    );
    let third = format!(
        "{second}[[pair.link]]\nname = \"sync2\"\ndevice = \"net_ring7\"\naddress = \"fd00:78::1\"\npartner = \"fd00:78::2\"\n"
    );
    one_problem(&third, "there are 3 sync links (at most 2 can be used)");
    one_problem(
        &keys.example().replace("[[pair.link]]", "[pair.link]"),
        "pair.link is a table, not a list of tables (write [[pair.link]]",
    );
}

#[test]
fn x_12_all_problems_of_a_pair_are_named_at_once() {
    let keys = Keys::new("all");
    let text = keys
        .example()
        .replace("id = 7 ", "id = 700 ")
        .replace("a.key", "b.key")
        .replace("steering-key = 27994", "steering-key = 3")
        .replace("interval-ms = 100", "interval-ms = 1")
        .replace("\"169.254.77.2\"", "\"here\"")
        .replace("node-address = \"10.2.0.2\"", "node-address = \"10.2.0.1\"");
    let lines = lines(&text);
    let expected = [
        "node-address 10.2.0.1 is a shared",
        "id in [pair] is out",
        "b.key\" cannot be read",
        "steering-key 3 has",
        "interval-ms in [pair.heartbeat] is out",
        "partner \"here\" is no address",
    ];
    assert_eq!(lines.len(), expected.len(), "{lines:#?}");
    for (line, expected) in lines.iter().zip(expected) {
        assert!(line.contains(expected), "{line}\nlacks {expected}");
    }
}

#[test]
fn b_07_the_hash_follows_what_must_be_equal_and_nothing_else() {
    let keys = Keys::new("hash");
    let ours = parsed(&keys.example());
    let changed = |line: &str, replacement: &str| {
        let theirs = parsed(&keys.with(line, replacement));
        let areas = differing(&ours, &theirs);
        assert_eq!(ours.pair_hash() == theirs.pair_hash(), areas.is_empty(), "{line}");
        areas
    };
    let nothing: [Area; 0] = [];
    for (line, replacement) in [
        ("name = \"a\"", "name = \"b\""),
        ("level", "level = \"debug\""),
        ("count = 1", "count = 4"),
        ("capacity", "capacity = 524288"),
        ("device = \"net_af_packet0", "device = \"0000:03:00.0\""),
        ("node-id", "node-id = 1"),
        ("node-address = \"10.1", "node-address = \"10.1.0.9\""),
        ("partner-address = \"10.1", "partner-address = \"10.1.0.9\""),
        ("address = \"169", "address = \"169.254.77.9\""),
        ("state-dir", "state-dir = \"/tmp\""),
        ("preempt", "preempt = true"),
        ("source = [\"10.1.0.0/24\", \"fd00:1::/64\"]", "source = [\"fd00:1::/64\", \"10.1.0.0/24\"]"),
    ] {
        assert_eq!(changed(line, replacement), nothing, "{line}");
    }
    for (line, replacement, area) in [
        ("services = [\"tcp/23\"]", "services = [\"tcp/24\"]", Area::Rules),
        ("sync-after-s = 5", "sync-after-s = 6", Area::Rules),
        ("transparent-failover = false", "transparent-failover = true", Area::Rules),
        ("udp = 120", "udp = 121", Area::Timeouts),
        ("via = \"10.2.0.254\"", "via = \"10.2.0.253\"", Area::Routes),
        ("mtu = 1500", "mtu = 1400", Area::Ports),
        ("addresses = [\"10.2", "addresses = [\"10.2.0.9/24\", \"fd00:2::1/64\"]", Area::Ports),
        ("id = 7", "id = 8", Area::Pair),
        ("steering-key", "steering-key = 1", Area::Pair),
        ("misses", "misses = 4", Area::Pair),
        ("interval-ms", "interval-ms = 50", Area::Pair),
    ] {
        assert_eq!(changed(line, replacement), [area], "{line}");
    }
    // Ports swapped: the same names in the other order, with the networks that belong to them.
    let text = keys.example();
    let start = text.find("[[port]]").unwrap();
    let middle = text.rfind("[[port]]").unwrap();
    let end = text.find("[[route]]").unwrap();
    let swapped = format!("{}{}{}{}", &text[..start], &text[middle..end], &text[start..middle], &text[end..]);
    assert_eq!(differing(&ours, &parsed(&swapped)), [Area::Zones, Area::Ports]);
    // The names of the zones swapped in the ports alone.
    let crossed = text.replace("zone = \"lan\"", "zone = \"x\"").replace("zone = \"wan\"", "zone = \"lan\"");
    let crossed = crossed.replace("zone = \"x\"", "zone = \"wan\"");
    assert_eq!(differing(&ours, &parsed(&crossed)), [Area::Zones]);
}

/// As heartbeats tell it.
fn differing(ours: &Config, theirs: &Config) -> Vec<Area> {
    let areas = ours.pair_areas().short().differing(&theirs.pair_areas().short());
    Area::of(areas).collect()
}

/// Two releases compare this number: whatever changes it makes every pair differ during an upgrade. Zones, routes, pair and
/// the whole were computed by another program after the module's notes.
#[test]
fn the_hash_of_the_example_is_pinned() {
    let keys = Keys::new("pinned");
    let areas = parsed(&keys.example()).pair_areas();
    let expected = [
        0xd674_71ae_a0ef_471a,
        0xfdcf_1927_8d05_9b47,
        0xa22b_a417_8d37_0115,
        0x445e_0738_d43e_6bea,
        0xbfb9_0cb1_367a_47be,
        0x701a_5e32_1aba_c625,
    ];
    assert_eq!(areas, AreaHashes(expected), "{:016x?}", areas.0);
    assert_eq!(areas.all(), 0x94d0_6306_da73_6ef9, "{:016x}", areas.all());
}

#[test]
fn a_reload_never_changes_the_pair() {
    let keys = Keys::new("reload");
    keys.write("b.key", &SecretKey::from_random([6; 32]).to_text(), 0o600);
    let running = parsed(&keys.example());
    let changed =
        |line: &str, replacement: &str| parsed(&keys.with(line, replacement)).diff_restart_needed(&running);
    let other_key = SecretKey::from_random([8; 32]).public();
    let key_file = format!("secret-key-file = \"{}/b.key\"", keys.folder.display());
    for (line, replacement, name) in [
        ("id = 7", "id = 8", "pair.id"),
        ("node-id", "node-id = 1", "pair.node-id"),
        ("preferred", "preferred = 1", "pair.preferred"),
        ("secret-key-file", &key_file, "pair.secret-key-file"),
        ("partner-key", &format!("partner-key = \"{other_key}\""), "pair.partner-key"),
        ("steering-key", "steering-key = 1", "pair.steering-key"),
        ("state-dir", "state-dir = \"/tmp\"", "pair.state-dir"),
        ("on-active-restart", "on-active-restart = \"purge\"", "pair.on-active-restart"),
        ("takeover-incomplete", "takeover-incomplete = false", "pair.takeover-incomplete"),
        ("preempt", "preempt = true", "pair.preempt"),
        ("boot-delay-ms", "boot-delay-ms = 0", "pair.boot-delay-ms"),
        ("lan-fallback =", "lan-fallback = false", "pair.lan-fallback"),
        ("lan-fallback-mbit", "lan-fallback-mbit = 10", "pair.lan-fallback-mbit"),
        ("resync-rate", "resync-rate = 70", "pair.resync-rate"),
        ("interval-ms", "interval-ms = 50", "pair.heartbeat.interval-ms"),
        ("misses", "misses = 4", "pair.heartbeat.misses"),
        ("port = 801", "port = 802", "pair.heartbeat.port"),
        ("port = 689", "port = 690", "pair.stream.port"),
        ("address = \"169", "address = \"169.254.77.9\"", "pair.link"),
        ("node-address = \"10.1", "node-address = \"10.1.0.9\"", "node-address of port \"lan\""),
        ("partner-address = \"10.1", "partner-address = \"10.1.0.9\"", "partner-address of port \"lan\""),
    ] {
        assert_eq!(changed(line, replacement), [name]);
    }
    let alone = parsed(EXAMPLE).diff_restart_needed(&running);
    assert_eq!(alone.last().unwrap(), "the section [pair]");
}

proptest::proptest! {
    /// Values of every type in every place of a pair.
    #[test]
    fn no_value_of_a_pair_makes_it_panic(
        line in proptest::prelude::any::<proptest::sample::Index>(),
        value in "(-?[0-9]{1,20}|[0-9]\\.[0-9]|true|1979-05-27|\\[\\]|\\[\\[1\\]\\]|\\{\\}|\"[0-9a-f:./,_-]{0,24}\"|\"\\\\u0000\")",
    ) {
        let mut lines: Vec<String> = example_pair().lines().map(str::to_owned).collect();
        let keyed: Vec<usize> = (0..lines.len()).filter(|n| lines[*n].contains(" = ") && !lines[*n].starts_with('#')).collect();
        let at = keyed[line.index(keyed.len())];
        let key = lines[at].split(" = ").next().unwrap().to_owned();
        lines[at] = format!("{key} = {value}");
        let _ = Config::parse("t", &lines.join("\n"));
    }
}
