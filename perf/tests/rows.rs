//! Every row of the table at a small size: it measures what it says, in JSON that can be believed.
#![allow(clippy::unwrap_used)]

use serde_json::Value;
use std::process::Command;

/// Lines of JSON.
fn row(args: &str) -> Vec<Value> {
    let output = Command::new(env!("CARGO_BIN_EXE_perf"))
        .args(["row", "--runs", "2", "--packets", "16384"])
        .args(args.split(' '))
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{args}: {stderr}");
    let stdout = String::from_utf8(output.stdout).unwrap();
    stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn number(of: &Value, path: &str) -> f64 {
    of.pointer(path).and_then(Value::as_f64).unwrap_or(f64::NAN)
}

/// Names and units are these, and each figure has an order.
fn check(rows: &[Value], expected: &[(&str, &str)]) {
    let got: Vec<_> =
        rows.iter().map(|row| (row["name"].as_str().unwrap(), row["unit"].as_str().unwrap())).collect();
    assert_eq!(got, expected);
    for row in rows {
        let [min, median, max] = ["/value/min", "/value/median", "/value/max"].map(|at| number(row, at));
        assert!(min <= median && median <= max && number(row, "/hz") > 1e8, "{row:#}");
    }
}

#[test]
fn established_sessions_have_a_ceiling_that_costs_less() {
    for traffic in ["tcp4", "udp6"] {
        let rows = row(&format!("established {traffic} 2000"));
        check(&rows, &[(&format!("established {traffic}"), "clocks/packet")]);
        let [value, ceiling] = ["/value/median", "/ceiling/median"].map(|at| number(&rows[0], at));
        assert!(ceiling > 0.0 && value > ceiling, "{:#}", rows[0]);
        assert_eq!(rows[0]["sessions"], 2_000);
    }
}

#[test]
fn a_worker_with_its_own_processor_does_the_same() {
    let rows = row("established tcp4 2000 --two-cores");
    check(&rows, &[("established tcp4, two cores", "clocks/packet")]);
}

#[test]
fn new_sessions_are_measured_with_and_without_a_partner() {
    let rows = row("new udp4 4000 --rules 100 --partner");
    let expected = [
        ("new udp4, 100 rules", "clocks/session"),
        ("new udp4, 100 rules, partner", "clocks/session"),
        ("telling a partner of a new udp4", "clocks/session"),
    ];
    check(&rows, &expected);
    let median = |at: usize| number(&rows[at], "/value/median");
    assert!(median(0) > 0.0 && median(1) > 0.0, "{rows:#?}");
}

#[test]
fn replication_is_measured_off_on_and_busy() {
    let rows = row("replication udp4 4000");
    let expected = ["no partner", "partner", "partner, 100 k new sessions/s"];
    let expected = expected.map(|name| format!("replication, udp4: {name}"));
    check(&rows, &expected.each_ref().map(|name| (name.as_str(), "clocks/packet")));
    assert!(rows.iter().all(|row| row["ceiling"] == rows[0]["ceiling"]), "of the same moments");
}

#[test]
fn connections_of_a_mix_begin_and_end() {
    let rows = row("mixed 200 --slots 100000 --packets-per-flow 4");
    let name = "mixed: 4 packets a connection, 64 B";
    check(&rows, &[(name, "clocks/packet"), (&format!("{name}, whole"), "clocks/connection")]);
    // Half of them are TCP with a handshake, four data packets, a FIN from either end and its answer.
    let packets = number(&rows[1], "/value/median") / number(&rows[0], "/value/median");
    assert!((6.0..12.0).contains(&packets), "{packets} packets a connection");
    assert!(number(&rows[0], "/ceiling/median") > 0.0);
}

#[test]
fn packets_are_timed_at_two_rates_beside_the_ceiling() {
    let rows = row("latency udp4 1000 --burst 48");
    assert_eq!(rows.len(), 10);
    for (part, rows) in [("50", &rows[..5]), ("90", &rows[5..])] {
        let name = |what| format!("latency, udp4, bursts of 48, {part} % load: {what}");
        let names = ["passed", "p50", "p99", "p99.9", "max"].map(name);
        let units = ["packets/s", "us", "us", "us", "us"];
        let expected: Vec<_> = names.iter().map(String::as_str).zip(units).collect();
        check(rows, &expected);
        for at in ["/value/median", "/ceiling/median"] {
            let quantiles: Vec<f64> = rows[1..].iter().map(|row| number(row, at)).collect();
            assert!(quantiles.is_sorted() && quantiles[0] > 0.0, "{at}: {quantiles:?}");
        }
    }
}

#[test]
fn workers_on_several_processors_are_held_against_one() {
    let rows = row("scaling udp4 2000");
    check(
        &rows[..2],
        &[
            ("scaling, udp4: 1 worker, each", "clocks/packet"),
            ("scaling, udp4: 1 worker, together", "packets/s"),
        ],
    );
    let several = std::thread::available_parallelism().unwrap().get() > 1;
    assert_eq!(rows.len() > 2, several);
    if several {
        assert_eq!(
            (rows[4]["name"].as_str(), rows[4]["unit"].as_str()),
            (Some("scaling, udp4: 2 workers against one"), Some("times"))
        );
        assert_eq!(rows[2]["sessions"], 4_000);
    }
}

#[test]
fn memory_is_what_was_mapped() {
    let rows = row("memory 200000");
    check(
        &rows,
        &[("memory of a session, one node", "bytes"), ("memory of a session, a node of a pair", "bytes")],
    );
    let median = |at: usize| number(&rows[at], "/value/median");
    let least = engine::table::Memory::bytes(200_000) as f64 / 200_000.0;
    // A huge page more or less is 10 bytes here.
    assert!((least - 11.0..least + 11.0).contains(&median(0)), "{} {least}", median(0));
    assert!(median(1) > median(0) && median(1) < 2.0 * least, "{rows:#?}");
}

#[test]
fn a_run_ends_in_one_object_with_rows_and_budgets() {
    let output = Command::new(env!("CARGO_BIN_EXE_perf"))
        .args(["run", "--json", "--quick", "--only", "established tcp4 1000", "--max-sessions", "1000"])
        .output()
        .unwrap();
    assert!(output.status.success(), "whatever the budgets say");
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert_eq!(stdout.lines().count(), 1);
    let report: Value = serde_json::from_str(&stdout).unwrap();
    let [row, ..] = report["rows"].as_array().unwrap().as_slice() else { unreachable!("{report:#}") };
    let [clocks, ceiling] = ["/value/median", "/ceiling/median"].map(|at| number(row, at));
    assert!((number(row, "/ratio") - clocks / ceiling).abs() < 1e-9);
    assert!((number(row, "/millions_per_second") - number(row, "/hz") / clocks / 1e6).abs() < 1e-9);
    let budget = &report["budgets"][0];
    assert_eq!(budget["name"], "established TCP packet, 1 k sessions");
    assert_eq!(budget["met"], number(budget, "/value") <= number(budget, "/budget"));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("1 of 2: established tcp4 1000"), "{stderr}");
}
