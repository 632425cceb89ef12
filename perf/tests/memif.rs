//! The generator and a reflector as two processes, with shared memory between them.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Ends the process if the test fails before it does.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn perf(command: &str, role: &str, directory: &Path, more: &[&str]) -> Process {
    let device = |number: u8| {
        let socket = directory.join(format!("{number}.sock"));
        format!("net_memif{number},role={role},id={number},socket={},socket-abstract=no", socket.display())
    };
    let child = Command::new(env!("CARGO_BIN_EXE_perf"))
        .args([command, "--no-huge", "--memory-mb", "64", "--lan", &device(0), "--wan", &device(1)])
        .args(more)
        .stdout(Stdio::piped())
        .spawn();
    Process(child.unwrap())
}

#[test]
fn connections_pass_another_process() {
    let directory = std::env::temp_dir().join(format!("perf-memif-{}", std::process::id()));
    std::fs::create_dir(&directory).unwrap();
    let _reflector = perf("reflect", "server", &directory, &["--seconds", "60"]);
    while !directory.join("1.sock").exists() {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let generator = ["--flows", "1000", "--seconds", "4", "--rate", "20000", "--json"];
    let mut generator = perf("pktgen", "client", &directory, &generator);
    let mut text = String::new();
    std::io::Read::read_to_string(&mut generator.0.stdout.take().unwrap(), &mut text).unwrap();
    let summary: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    std::fs::remove_dir_all(&directory).unwrap();
    // A reflector tracks nothing, so every connection opens, those begun before the link was up at a
    // second try.
    let number = |name: &str| summary["counts"][name].as_u64().unwrap();
    assert!(number("opened") == 1_000, "{summary:#}");
    assert!(number("arrived") > 10_000 && number("foreign") == 0, "{summary:#}");
    assert!(summary["latency"]["p50_us"].as_f64().unwrap() > 0.0, "{summary:#}");
}
