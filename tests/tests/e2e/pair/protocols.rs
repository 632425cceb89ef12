//! Do sessions without ports, and those with an identifier in place of one, outlive their node as well?

use std::{process::Stdio, thread, time::Duration};

use lab::{
    Family, Host, LabOptions, PairSettings,
    demo::pair::kill_active,
    exec::{self, Running},
    raw::RawTalk,
    state::RUN_DIR,
};
use tests::pair::PairBench;

const GRE: u8 = 47;
const OSPF: u8 = 89;

#[test]
fn b_03_s_08_other_protocols_survive_the_kill() {
    let rule = format!(
        "[[rule]]\nname = \"others\"\nfrom = \"lan\"\nto = \"wan\"\nservices = [\"proto/{GRE}\", \"proto/{OSPF}\"]\naction = \"allow\"\n"
    );
    let mut bench = PairBench::with(LabOptions::pair(PairSettings::default()).rules_first(rule));
    let kinds = Family::BOTH.map(|family| [GRE, OSPF].map(|protocol| (family, protocol)));
    let talks: Vec<_> = kinds
        .concat()
        .into_iter()
        .map(|(family, protocol)| (family, protocol, RawTalk::open(family, protocol).unwrap()))
        .collect();
    for (family, protocol, talk) in &talks {
        assert!(!talk.tell(1), "{family:?} {protocol}: nothing comes in by itself");
        assert!(talk.ask(2), "{family:?} {protocol}");
    }
    bench.wait_equal(4);
    bench.wait_ready(Host::A);
    for protocol in [GRE, OSPF] {
        assert_eq!(bench.count(Host::B, &["--proto", &protocol.to_string()]), 2);
    }
    kill_active(bench.lab(), Host::A).unwrap();
    for (family, protocol, talk) in &talks {
        // From outside: without its session it would not pass.
        assert!(talk.tell(3), "{family:?} {protocol}");
        assert!(talk.ask(4), "{family:?} {protocol}");
    }
    assert_eq!(bench.operator(Host::B).status().unwrap().sessions.created_total, 0);
    assert_eq!(bench.count(Host::B, &[]), 4);
}

#[test]
fn b_03_ping_keeps_its_identifier_through_the_kill() {
    let mut bench = PairBench::up();
    let output = std::path::Path::new(RUN_DIR).join("ping");
    let mut pings: Vec<_> = Family::BOTH
        .into_iter()
        .zip(["4242", "4343"])
        .map(|(family, id)| {
            let file = std::fs::File::create(output.with_extension(id)).unwrap();
            let mut command = exec::on(Host::Client, "ping");
            command.args([family.switch(), "-n", "-i", "0.05", "-c", "60", "-e", id]);
            command.arg(family.server().to_string());
            command.stdin(Stdio::null()).stdout(file).stderr(Stdio::null());
            (id, Running::start(&mut command).unwrap())
        })
        .collect();
    bench.wait_equal(2);
    let kill = kill_active(bench.lab(), Host::A).unwrap();
    assert!(kill.detected.is_some());
    thread::sleep(Duration::from_millis(300));
    for (id, _) in &pings {
        let rows = bench.operator(Host::B).sessions(&["--port", id]).unwrap().rows;
        assert_eq!(rows.len(), 1, "{rows:?}");
        assert!(rows[0].from.port.to_string() == *id || rows[0].to.port.to_string() == *id, "{rows:?}");
    }
    for (id, ping) in &mut pings {
        assert_eq!(ping.wait(Duration::from_secs(15)).unwrap(), 0, "{id}");
        let text = std::fs::read_to_string(output.with_extension(id)).unwrap();
        let answers = text.lines().filter(|line| line.contains("icmp_seq=")).count();
        // 300 ms of silence are six of them; the rest is for a slow machine.
        assert!((40..60).contains(&answers), "{text}");
    }
    assert_eq!(bench.operator(Host::B).status().unwrap().sessions.created_total, 0);
}
