//! The guard as a program: its cases run, and its verdicts say what to do.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::process::{Command, Output};

fn perf(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_perf"));
    command.args(args);
    command
}

/// Against a baseline of its own.
fn guard_against(baseline: &str, test: &str) -> Output {
    let file = std::env::temp_dir().join(format!("perf-guard-{test}-{}.json", std::process::id()));
    std::fs::write(&file, baseline).unwrap();
    let output =
        perf(&["guard", "--only", "parse tcp4", "--baseline", file.to_str().unwrap()]).output().unwrap();
    std::fs::remove_file(&file).unwrap();
    output
}

#[test]
fn every_case_does_what_it_counts() {
    let baseline = concat!(env!("CARGO_MANIFEST_DIR"), "/guard.json");
    let baseline: BTreeMap<String, f64> =
        serde_json::from_str(&std::fs::read_to_string(baseline).unwrap()).unwrap();
    for case in baseline.keys() {
        let output = perf(&["guard-case", case]).output().unwrap();
        let stdout = String::from_utf8(output.stdout).unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(stdout.trim().parse::<u64>().is_ok_and(|operations| operations > 0), "{case}: {stderr}");
    }
}

#[test]
fn a_regression_fails_with_the_case_both_counts_and_what_to_do() {
    let output = guard_against(r#"{"parse tcp4": 10.0}"#, "worse");
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    for part in ["parse tcp4: ", "the baseline has 10.0", "5 % are allowed", "perf guard --accept"] {
        assert!(stderr.contains(part), "{part}: {stderr}");
    }
}

#[test]
fn what_costs_no_more_passes() {
    let output = guard_against(r#"{"parse tcp4": 1000000.0}"#, "better");
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && stdout.contains("guard: 1 passed, 0 failed"), "{stdout}");
}

#[test]
fn without_valgrind_it_says_where_that_comes_from() {
    let output = perf(&["guard", "--only", "parse tcp4"]).env("PATH", "").output().unwrap();
    assert!(!output.status.success());
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("apt-get install valgrind"), "{stderr}");
}
