//! The daemon as a process: what it says when it cannot start, and how it starts, serves and ends.
//!
//! Ports are software rings, so that none of this needs root, huge pages or interfaces.
#![allow(clippy::unwrap_used, clippy::panic)]

use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(60);

/// A folder with a configuration, removed at the end.
struct Place {
    dir: PathBuf,
}

impl Place {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("us-startup-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        let place = Self { dir };
        place.write(&place.config());
        place
    }

    fn socket(&self) -> PathBuf {
        self.dir.join("a.sock")
    }

    fn file(&self) -> PathBuf {
        self.dir.join("a.toml")
    }

    fn config(&self) -> String {
        format!(
            r#"
[node]
name = "a"
control-socket = "{}"
[log]
format = "json"
[eal]
memory-mb = 64
huge-pages = "never"
mbufs = 4096
[workers]
count = 2
[sessions]
capacity = 10000
[[port]]
name = "lan"
device = "net_ring0"
zone = "lan"
addresses = ["10.1.0.1/24", "fd00:1::1/64"]
[[port]]
name = "wan"
device = "net_ring1"
zone = "wan"
addresses = ["10.2.0.1/24"]
[[rule]]
name = "out"
from = "lan"
to = "wan"
action = "allow"
"#,
            self.socket().display()
        )
    }

    fn write(&self, config: &str) {
        fs::write(self.file(), config).unwrap();
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_understudyd"));
        command
            .arg("--config")
            .arg(self.file())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs a daemon that is expected to end by itself. Exit code, and all that it wrote.
    fn run(&self, arguments: &[&str]) -> (i32, String) {
        let mut daemon = Daemon(self.command().args(arguments).spawn().unwrap());
        let code = daemon.wait();
        let mut text = String::new();
        daemon.0.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        daemon.0.stderr.take().unwrap().read_to_string(&mut text).unwrap();
        (code, text)
    }

    /// Starts the daemon and waits for its first answer.
    fn start(&self) -> Daemon {
        let mut daemon = Daemon(self.command().spawn().unwrap());
        let end = Instant::now() + LIMIT;
        while self.answer("status").is_none() {
            if let Some(status) = daemon.0.try_wait().unwrap() {
                let mut text = String::new();
                daemon.0.stderr.take().unwrap().read_to_string(&mut text).unwrap();
                panic!("the daemon ended with {status}: {text}");
            }
            assert!(Instant::now() < end, "not ready");
            std::thread::sleep(Duration::from_millis(5));
        }
        daemon
    }

    fn ask(&self, command: &str) -> Value {
        self.answer(command).unwrap()
    }

    /// Nothing while nobody answers: a daemon that starts again hangs up in between.
    fn answer(&self, command: &str) -> Option<Value> {
        let mut stream = UnixStream::connect(self.socket()).ok()?;
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.write_all(format!("{{\"v\":1,\"cmd\":\"{command}\"}}\n").as_bytes()).ok()?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).ok().filter(|length| *length > 0)?;
        let mut answer: Value = serde_json::from_str(&line).unwrap();
        Some(answer["data"].take())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// A daemon that does not outlive its test.
struct Daemon(Child);

impl Daemon {
    fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Its exit code.
    fn wait(&mut self) -> i32 {
        let end = Instant::now() + LIMIT;
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status.code().unwrap_or(-1);
            }
            assert!(Instant::now() < end, "the daemon does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + LIMIT;
    while !done() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_daemon_starts_answers_reloads_and_ends_in_order() {
    let place = Place::new("life");
    let mut daemon = place.start();
    assert_eq!(fs::metadata(place.socket()).unwrap().permissions().mode() & 0o777, 0o600);
    let status = place.ask("status");
    assert_eq!((&status["node"], &status["role"]), (&"a".into(), &"active".into()));
    assert_eq!(status["sessions"]["capacity"], 10_000);
    assert_eq!(
        (status["memory"]["page_bytes"].as_u64(), &status["eal"]["huge_pages"]),
        (Some(4096), &false.into())
    );
    assert!(status["warnings"].to_string().contains("ordinary pages"), "{}", status["warnings"]);

    // The second one on the same socket has no chance, and does no harm.
    let (code, text) = place.run(&[]);
    assert_eq!(code, 1);
    assert!(text.contains("another daemon answers on the control socket"), "{text}");

    place.write(&place.config().replace(r#"name = "out""#, r#"name = "outwards""#));
    daemon.signal(rustix::process::Signal::HUP);
    wait_for("the reload", || place.ask("status")["policy"]["epoch"] == 2);
    assert_eq!(place.ask("rules")["rules"][0]["name"], "outwards");
    place.write("broken");
    daemon.signal(rustix::process::Signal::HUP);
    wait_for("the refusal", || place.ask("status")["policy"]["last_reload"]["ok"] == false);
    assert_eq!(place.ask("rules")["rules"][0]["name"], "outwards");

    daemon.signal(rustix::process::Signal::TERM);
    assert_eq!(daemon.wait(), 0);
    assert!(!place.socket().exists());
    let mut log = String::new();
    daemon.0.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    let events: Vec<String> = log
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter_map(|object| Some(object["event"].as_str()?.to_owned()))
        .collect();
    for event in ["port-opened", "ready", "reloaded", "reload-failed", "stopped"] {
        assert!(events.iter().any(|e| e == event), "{event} in {log}");
    }
}

#[test]
fn idle_workers_turn_and_take_next_to_nothing() {
    let place = Place::new("idle");
    let daemon = place.start();
    let cpu_ticks = || -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", daemon.0.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    };
    std::thread::sleep(Duration::from_millis(500));
    let before = cpu_ticks();
    std::thread::sleep(Duration::from_secs(2));
    let spent = cpu_ticks() - before;
    // A tick is 10 ms: 200 of them would be one whole processor. Unoptimised builds need a few per cent.
    assert!(spent <= 50, "{spent} of 200 ticks");
    assert_eq!(place.ask("status")["workers"][0]["busy_permille"], 0);
}

#[test]
fn what_a_killed_daemon_left_behind_does_not_hinder_the_next() {
    let place = Place::new("killed");
    let mut daemon = place.start();
    daemon.signal(rustix::process::Signal::KILL);
    daemon.wait();
    assert!(place.socket().exists());
    let mut next = place.start();
    next.signal(rustix::process::Signal::INT);
    assert_eq!(next.wait(), 0);
}

#[test]
fn check_says_whether_a_configuration_is_right_and_starts_nothing() {
    let place = Place::new("check");
    let (code, text) = place.run(&["--check"]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("is right: 2 ports, 1 rules"), "{text}");
    place.write(&place.config().replace("action = \"allow\"", "action = \"alow\""));
    let (code, text) = place.run(&["--check"]);
    assert_eq!(code, 1);
    assert!(text.contains("alow") && text.contains("a.toml"), "{text}");
    assert!(!place.socket().exists());
}

#[test]
fn each_failure_to_start_says_what_where_and_what_to_do() {
    let place = Place::new("failures");
    let config = place.config();
    let cases = [
        (
            config.replace("net_ring1", "net_nonsense1"),
            "port `wan`: no driver is there for device `net_nonsense1`",
        ),
        (
            config.replace("net_ring1", "net_af_packet0,iface=nosuch0"),
            "port `wan`: device `net_af_packet0,iface=nosuch0`: there is no interface `nosuch0` in this network namespace",
        ),
        (config.replace("mbufs = 4096", "mbufs = 400000"), "400000 mbufs take about"),
        (
            config.replace("capacity = 10000", "capacity = 100000000").replace("\"never\"", "\"require\""),
            "MB of huge pages and the kernel does not have them",
        ),
        (config.replace("count = 2", "count = 2\ncpus = [0, 1022]"), "worker 1 cannot be pinned to CPU 1022"),
        (config.replace("[eal]", "[eal]\nargs = [\"--nonsense\"]"), "the EAL did not start"),
    ];
    for (config, message) in cases {
        place.write(&config);
        let (code, text) = place.run(&[]);
        assert_eq!(code, 1, "{message}: {text}");
        // Some of these the configuration's own check finds first; any of them must say it.
        assert!(text.contains(message), "wanted {message:?} in:\n{text}");
        assert!(!place.socket().exists(), "{message}");
    }
}

/// Somebody else takes the pages between the look and the start: here the EAL asks for more than there are.
#[test]
fn huge_pages_that_are_gone_when_the_eal_wants_them_are_missed_and_not_fatal() {
    let pages: u64 = fs::read_to_string("/proc/sys/vm/nr_hugepages").unwrap().trim().parse().unwrap();
    let place = Place::new("pages");
    let too_much = format!("[eal]\nargs = [\"-m\", \"{}\"]", (pages * 2).max(64) + 512);
    place.write(&place.config().replace("\"never\"", "\"auto\"").replace("[eal]", &too_much));
    let mut daemon = place.start();
    let status = place.ask("status");
    assert_eq!(&status["eal"]["huge_pages"], false);
    assert!(status["warnings"].to_string().contains("DPDK uses ordinary pages"), "{}", status["warnings"]);
    daemon.signal(rustix::process::Signal::TERM);
    assert_eq!(daemon.wait(), 0);
    let mut log = String::new();
    daemon.0.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    // With fewer free pages than it asks for by its configuration it does not even try.
    assert!(log.contains("second-try") || log.contains("MB are available"), "{log}");
    assert!(!place.socket().exists());
}

#[test]
fn a_configuration_that_is_not_there_is_named() {
    let place = Place::new("missing");
    fs::remove_file(place.file()).unwrap();
    let (code, text) = place.run(&[]);
    assert_eq!(code, 1);
    assert!(text.contains("cannot read the configuration") && text.contains("a.toml"), "{text}");
    assert!(text.contains("--config FILE"), "{text}");
}

#[test]
fn a_control_socket_that_cannot_be_is_refused_before_anything_else() {
    let place = Place::new("nosocket");
    fs::write(place.socket(), "somebody's file").unwrap();
    let (code, text) = place.run(&[]);
    assert_eq!(code, 1);
    assert!(text.contains("exists and is no socket"), "{text}");
    assert_eq!(fs::read_to_string(Path::new(&place.socket())).unwrap(), "somebody's file");
}
