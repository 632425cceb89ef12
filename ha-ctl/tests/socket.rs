//! The program against real sockets: daemons that answer, refuse, stammer, fall silent and lie.
// Helpers outside of test functions may unwrap as tests do.
#![allow(clippy::unwrap_used)]

use proto::{
    Command as Wish, Error, ErrorCode, EventsArgs, Protocol, Request, Response, SessionsArgs, WaitArgs,
    to_line,
};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// A socket path of this test's own, gone when the test ends.
struct Place(PathBuf);

impl Place {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("ha-ctl-test-{}-{number}.sock", std::process::id()));
        let _ = std::fs::remove_file(&path);
        Self(path)
    }

    fn listen(&self) -> UnixListener {
        UnixListener::bind(&self.0).unwrap()
    }

    /// Serves one client: its request line goes to `serve`, along with the stream.
    fn serve_one<T: Send + 'static>(
        &self,
        serve: impl FnOnce(Vec<u8>, UnixStream) -> T + Send + 'static,
    ) -> JoinHandle<T> {
        let listener = self.listen();
        thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut line = Vec::new();
            BufReader::new(&stream).read_until(b'\n', &mut line).unwrap();
            serve(line, stream)
        })
    }

    /// Answers one client with these bytes and closes.
    fn answer(&self, bytes: impl Into<Vec<u8>>) -> JoinHandle<Request> {
        let bytes = bytes.into();
        self.serve_one(move |line, mut stream| {
            stream.write_all(&bytes).unwrap();
            Request::parse(&line).unwrap()
        })
    }
}

impl Place {
    /// Answers clients one after the other, each with its line, and returns what they asked.
    fn answer_all(&self, lines: Vec<Vec<u8>>) -> JoinHandle<Vec<Wish>> {
        let listener = self.listen();
        thread::spawn(move || {
            let serve = |bytes: Vec<u8>| {
                let (mut stream, _) = listener.accept().unwrap();
                let mut line = Vec::new();
                BufReader::new(&stream).read_until(b'\n', &mut line).unwrap();
                stream.write_all(&bytes).unwrap();
                Request::parse(&line).unwrap().command
            };
            lines.into_iter().map(serve).collect()
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn ha_ctl(socket: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ha-ctl"));
    command.env_remove("UNDERSTUDY_SOCKET").arg("--socket").arg(socket).args(arguments).stdin(Stdio::null());
    command
}

fn run(socket: &Path, arguments: &[&str]) -> Output {
    ha_ctl(socket, arguments).output().unwrap()
}

fn out(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

/// It failed with this code, wrote nothing to standard output, and this to standard error.
#[track_caller]
fn failed(output: &Output, code: i32, parts: &[&str]) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert_eq!(out(output), "");
    for part in parts {
        assert!(stderr.contains(part), "{part:?} is not in {stderr}");
    }
}

fn routes() -> Value {
    json!({"routes": [{"to": "10.1.0.0/24", "port": "lan", "source": "connected", "metric": 7}], "more": [1, 2]})
}

fn ok_line(data: &Value) -> Vec<u8> {
    to_line(&Response::answer(data)).unwrap()
}

#[test]
fn x_22_a_table_for_people_and_json_for_programs() {
    let place = Place::new();
    let daemon = place.answer(ok_line(&routes()));
    let output = run(&place.0, &["routes"]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(out(&output), "TO           VIA      PORT  SOURCE\n10.1.0.0/24  on link  lan   connected\n");
    assert_eq!(daemon.join().unwrap(), Request::new(Wish::Routes));

    // What a newer daemon adds is not lost, and order is kept.
    let place = Place::new();
    let daemon = place.answer(ok_line(&routes()));
    let output = run(&place.0, &["routes", "--json=line"]);
    let expected =
        r#"{"routes":[{"to":"10.1.0.0/24","port":"lan","source":"connected","metric":7}],"more":[1,2]}"#;
    assert_eq!(out(&output), format!("{expected}\n"));
    daemon.join().unwrap();

    let place = Place::new();
    let daemon = place.answer(ok_line(&routes()));
    let output = run(&place.0, &["--json", "routes"]);
    assert!(out(&output).lines().count() > 5, "{}", out(&output));
    assert_eq!(serde_json::from_str::<Value>(out(&output)).unwrap(), routes());
    daemon.join().unwrap();
}

#[test]
fn filters_go_to_the_daemon() {
    let place = Place::new();
    let daemon = place.answer(ok_line(&json!({"truncated": false, "rows": []})));
    let output = run(&place.0, &["sessions", "--proto", "tcp", "--address", "10.1.0.0/24", "--limit", "5"]);
    assert_eq!(out(&output), "no sessions match\n");
    let expected = SessionsArgs {
        limit: 5,
        proto: Some(Protocol::TCP),
        address: Some("10.1.0.0/24".parse().unwrap()),
        ..SessionsArgs::default()
    };
    assert_eq!(daemon.join().unwrap(), Request::new(Wish::Sessions(expected)));
}

#[test]
fn counting_is_another_question() {
    let place = Place::new();
    let counts = json!({"total": 3, "by_state": [{"proto": "udp", "state": "new", "sessions": 3}]});
    let daemon = place.answer(ok_line(&counts));
    let output = run(&place.0, &["sessions", "--count"]);
    assert_eq!(out(&output), "PROTO  STATE  SESSIONS\nudp    new           3\nall                  3\n");
    assert_eq!(
        daemon.join().unwrap(),
        Request::new(Wish::Sessions(SessionsArgs { count: true, ..SessionsArgs::default() }))
    );
}

#[test]
fn the_socket_can_stand_in_the_environment() {
    let place = Place::new();
    let daemon = place.answer(ok_line(&routes()));
    let output =
        Command::new(env!("CARGO_BIN_EXE_ha-ctl")).env("UNDERSTUDY_SOCKET", &place.0).arg("routes").output();
    assert_eq!(output.unwrap().status.code(), Some(0));
    daemon.join().unwrap();
}

#[test]
fn a_refusal_is_exit_code_1_with_what_to_do() {
    let place = Place::new();
    let error =
        Error::new(ErrorCode::UnknownCommand, "there is no command \"routes\"", "commands are status");
    let daemon = place.answer(to_line(&Response::<Value>::refusal(error)).unwrap());
    failed(
        &run(&place.0, &["routes", "--json"]),
        1,
        &["there is no command \"routes\"", "commands are status"],
    );
    daemon.join().unwrap();
}

#[test]
fn a_daemon_of_another_version_is_named() {
    // It refuses in its own version: that is understood.
    let place = Place::new();
    let line = r#"{"v":2,"ok":false,"error":{"code":"unsupported-version","message":"version 1 is not spoken here"}}"#;
    let daemon = place.answer(format!("{line}\n"));
    failed(&run(&place.0, &["status"]), 1, &["version 1 is not spoken here"]);
    daemon.join().unwrap();
    // It answers in its own version: what that means is not known.
    let place = Place::new();
    let daemon = place.answer("{\"v\":2,\"ok\":true,\"data\":{}}\n");
    failed(
        &run(&place.0, &["status"]),
        3,
        &["version 2 of the control protocol", "version 1", "installed with"],
    );
    daemon.join().unwrap();
}

#[test]
fn wrong_command_lines_are_exit_code_2() {
    let place = Place::new();
    failed(&run(&place.0, &["dance"]), 2, &["dance"]);
    failed(
        &run(&place.0, &["sessions", "--address", "10.1.0.0/33"]),
        2,
        &["neither an address nor a prefix"],
    );
}

#[test]
fn without_a_daemon_it_says_which_socket_and_what_to_do() {
    let place = Place::new();
    let path = place.0.display().to_string();
    failed(&run(&place.0, &["status"]), 3, &[&path, "No such file", "is understudyd running?", "--socket"]);
    drop(place.listen());
    failed(&run(&place.0, &["status"]), 3, &[&path, "Connection refused", "nobody listens there"]);
    let long = PathBuf::from(format!("/{}", "x".repeat(200)));
    failed(&run(&long, &["status"]), 3, &["cannot reach understudyd", "--socket"]);
}

#[test]
fn answers_that_are_none_are_told_apart() {
    for (bytes, part) in [
        (&b"\xff\xfe\x00 garbage\n"[..], "it is not JSON"),
        (b"\n", "it is not JSON"),
        (b"[]\n", "names no version"),
        (b"{\"v\":\"1\"}\n", "names no version"),
        (b"{\"v\":1,\"ok\":true}\n", "neither data nor an error"),
        (b"{\"v\":1}\n", "missing field"),
        (b"{\"v\":1,\"ok\":true,\"data\":{\"routes\":7}}\n", "invalid type"),
        (b"{\"v\":1,\"ok\":true,\"da", "closed the connection after 20 bytes"),
        (b"", "closed the connection after 0 bytes"),
    ] {
        let place = Place::new();
        let daemon = place.answer(bytes);
        failed(&run(&place.0, &["routes"]), 3, &["the answer cannot be read", part]);
        daemon.join().unwrap();
    }
}

#[test]
fn deeply_nested_garbage_does_not_exhaust_the_stack() {
    let place = Place::new();
    let daemon = place.answer(["[".repeat(1_000_000), "\n".into()].concat());
    failed(&run(&place.0, &["routes"]), 3, &["it is not JSON", "recursion limit"]);
    daemon.join().unwrap();
}

#[test]
fn silence_ends_after_the_timeout() {
    let place = Place::new();
    let daemon = place.serve_one(|_, mut stream| {
        // Holds the connection until the client gives up.
        stream.read_to_end(&mut Vec::new()).unwrap();
    });
    let before = Instant::now();
    failed(
        &run(&place.0, &["status", "--timeout", "0.3"]),
        3,
        &["has not answered within 0.3 s", "--timeout"],
    );
    let took = before.elapsed();
    assert!(took >= Duration::from_millis(300) && took < Duration::from_secs(4), "{took:?}");
    daemon.join().unwrap();
}

#[test]
fn a_trickle_does_not_stretch_the_timeout() {
    let place = Place::new();
    let daemon = place.serve_one(|_, mut stream| {
        while stream.write_all(b"{").is_ok() {
            thread::sleep(Duration::from_millis(20));
        }
    });
    let before = Instant::now();
    failed(&run(&place.0, &["status", "--timeout", "0.3"]), 3, &["has not answered within 0.3 s"]);
    assert!(before.elapsed() < Duration::from_secs(4));
    daemon.join().unwrap();
}

#[test]
fn a_daemon_that_does_not_accept_is_silence_too() {
    let place = Place::new();
    let _listener = place.listen();
    // Connections are taken by the kernel until the backlog is full; then connecting itself waits.
    failed(&run(&place.0, &["status", "--timeout", "0.3"]), 3, &["has not answered within 0.3 s"]);
}

#[test]
fn an_answer_in_pieces_is_one_answer() {
    let place = Place::new();
    let daemon = place.serve_one(|_, mut stream| {
        for piece in ok_line(&routes()).chunks(7) {
            stream.write_all(piece).unwrap();
            thread::sleep(Duration::from_millis(2));
        }
    });
    assert_eq!(run(&place.0, &["routes"]).status.code(), Some(0));
    daemon.join().unwrap();
}

#[test]
fn a_daemon_that_refuses_without_reading_is_understood() {
    let place = Place::new();
    let listener = place.listen();
    let daemon = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let error = Error::new(ErrorCode::Busy, "there are too many clients", "ask again");
        stream.write_all(&to_line(&Response::<Value>::refusal(error)).unwrap()).unwrap();
    });
    let output = run(&place.0, &["status"]);
    daemon.join().unwrap();
    // Closing with an unread request may reset the connection and take the answer along.
    match output.status.code() {
        Some(1) => failed(&output, 1, &["there are too many clients"]),
        _ => failed(&output, 3, &["understudyd"]),
    }
}

#[test]
fn a_long_list_survives_a_reader_that_leaves() {
    let place = Place::new();
    let row = json!({
        "worker": 0, "slot": 1, "proto": "tcp", "family": "ipv4",
        "from": {"address": "10.1.0.10", "port": 40000}, "to": {"address": "10.2.0.10", "port": 80},
        "from_zone": "lan", "to_zone": "wan", "rule": "lan-to-wan", "state": "established",
        "idle_ms": 0, "expires_ms": 1, "packets": {"fwd": 1, "rev": 2}, "bytes": {"fwd": 1, "rev": 2},
        "version": 1, "group": 0, "replicated": false, "sync": "no(no partner)"
    });
    let many = json!({"truncated": false, "rows": vec![row; 20_000]});
    let daemon = place.answer(ok_line(&many));
    let mut child =
        ha_ctl(&place.0, &["sessions"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = [0; 10];
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut first).unwrap();
    drop(stdout);
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(0), ""));
    daemon.join().unwrap();
}

fn refusal_line(code: ErrorCode, message: &str, hint: &str) -> Vec<u8> {
    to_line(&Response::<Value>::refusal(Error::new(code, message, hint))).unwrap()
}

#[test]
fn x_03_a_proof_that_fails_is_exit_code_4() {
    for (equal, code, text) in [(true, 0, "equal: both"), (false, 4, "DIFFERENT: 2 of")] {
        let place = Place::new();
        let proof =
            json!({"equal": equal, "differing": if equal { 0 } else { 2 }, "sessions": 9, "took_ms": 1});
        let daemon = place.answer(ok_line(&proof));
        let output = run(&place.0, &["verify", "--timeout", "0.5"]);
        assert_eq!(output.status.code(), Some(code));
        assert!(out(&output).starts_with(text), "{}", out(&output));
        assert_eq!(daemon.join().unwrap().command, Wish::Verify(WaitArgs { timeout_ms: 500 }));

        let place = Place::new();
        let compared = json!({"equal": equal, "lines": []});
        let daemon = place.answer(ok_line(&compared));
        let output = run(&place.0, &["compare", "--json=line"]);
        assert_eq!(output.status.code(), Some(code));
        assert_eq!(serde_json::from_str::<Value>(out(&output)).unwrap(), compared);
        daemon.join().unwrap();
    }
}

#[test]
fn x_16_a_switchover_waits_until_it_is_done_or_refused() {
    let place = Place::new();
    let daemon = place.serve_one(|line, mut stream| {
        // Longer than the client's own timeout, not longer than it lets the daemon have.
        thread::sleep(Duration::from_millis(700));
        let data = json!({"role": "standby", "was": "active", "term": 5, "took_ms": 700});
        stream.write_all(&ok_line(&data)).unwrap();
        Request::parse(&line).unwrap().command
    });
    let output = run(&place.0, &["switchover", "--timeout", "0.5"]);
    assert_eq!(
        out(&output),
        "the other node is active now; this one was active and is standby (term 5, 700ms)\n"
    );
    assert_eq!(daemon.join().unwrap(), Wish::Switchover(WaitArgs { timeout_ms: 500 }));

    let place = Place::new();
    let what = "the switchover is refused: the partner's copy of the sessions is not proven equal";
    let daemon = place.answer(refusal_line(ErrorCode::NotNow, what, "see status"));
    failed(&run(&place.0, &["switchover", "--json"]), 1, &[what, "see status"]);
    daemon.join().unwrap();

    let place = Place::new();
    let what = "this node is not one of a pair: its configuration has no [pair]";
    let daemon = place.answer(refusal_line(ErrorCode::NoPair, what, "docs/pair.md says how"));
    failed(&run(&place.0, &["force", "active"]), 1, &[what, "docs/pair.md"]);
    daemon.join().unwrap();
}

fn an_event(id: u64) -> Value {
    json!({"id": id, "at_ms": 1000 * id, "name": "peer_gone", "level": "error", "text": "silent", "fields": {}})
}

fn some_events(boot: &str, last: u64, ids: &[u64]) -> Vec<u8> {
    let events: Vec<Value> = ids.iter().map(|id| an_event(*id)).collect();
    ok_line(&json!({"node": "a", "boot": boot, "last": last, "gap": false, "events": events}))
}

#[test]
fn x_22_events_are_followed_across_a_restart_without_missing_one() {
    let place = Place::new();
    let lines = vec![
        some_events("one", 2, &[1, 2]),
        // Nothing happened while it waited.
        some_events("one", 2, &[]),
        some_events("one", 3, &[3]),
        // Another process: its first event has a number that was seen already.
        some_events("two", 1, &[]),
        some_events("two", 1, &[1]),
        refusal_line(ErrorCode::Busy, "that is all", ""),
    ];
    let daemon = place.answer_all(lines);
    let output = run(&place.0, &["events", "--follow", "--json"]);
    assert_eq!(output.status.code(), Some(1), "the last answer");
    let ids: Vec<Value> =
        out(&output).lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["id"].take()).collect();
    assert_eq!(ids, [1, 2, 3, 1]);
    let asked: Vec<u64> = daemon
        .join()
        .unwrap()
        .into_iter()
        .map(|wish| match wish {
            Wish::Events(EventsArgs { since, wait_ms, .. }) => {
                assert_eq!(wait_ms, 10_000);
                since
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(asked, [0, 2, 2, 3, 0, 1]);

    let place = Place::new();
    let daemon = place.answer(some_events("one", 2, &[2]));
    let output = run(&place.0, &["events", "--since", "1"]);
    assert_eq!(out(&output), "     2 1970-01-01 00:00:02.000Z ERROR   peer_gone: silent\n");
    daemon.join().unwrap();
}

fn a_status(uptime_ms: u64, rx_packets: u64) -> Vec<u8> {
    ok_line(&json!({
        "node": "a", "version": "0.1.0", "role": "active", "uptime_ms": uptime_ms,
        "policy": {"epoch": 1, "rules": 1, "last_reload": null},
        "memory": {"page_bytes": 4096, "table_bytes": 1}, "eal": {"huge_pages": false}, "warnings": [],
        "workers": [],
        "ports": [{"name": "lan", "device": "d", "zone": "lan", "mac": "m", "mtu": 1500, "link": true,
            "addresses": [], "rx_packets": rx_packets, "rx_bytes": 0, "tx_packets": 0, "tx_bytes": 0,
            "rx_missed": 0, "tx_dropped": 0}],
        "sessions": {"in_use": 1, "capacity": 10, "half_open": 0, "tcp": 1, "udp": 0, "icmp": 0, "other": 0,
            "created_total": 1, "expired_total": 0, "refused_full_total": 0},
        "mbufs": {"in_use": 0, "total": 1}
    }))
}

#[test]
fn x_22_top_ends_after_its_count_with_an_object_a_line() {
    let place = Place::new();
    let daemon = place.answer_all(vec![a_status(1_000, 0), a_status(2_000, 500), a_status(4_000, 1_500)]);
    let before = Instant::now();
    let output = run(&place.0, &["top", "--count", "3", "--interval", "0.1", "--json"]);
    assert!(before.elapsed() >= Duration::from_millis(200));
    assert_eq!(output.status.code(), Some(0));
    let rates: Vec<Value> = out(&output)
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["rates"]["rx_packets_per_s"].take())
        .collect();
    assert_eq!(rates, [Value::Null, 500.into(), 500.into()]);
    assert_eq!(daemon.join().unwrap(), [Wish::Status, Wish::Status, Wish::Status]);

    let place = Place::new();
    let daemon = place.answer_all(vec![a_status(1_000, 0)]);
    let output = run(&place.0, &["top", "--count", "1"]);
    assert_eq!(
        out(&output),
        "a: active\nsessions  1 of 10 (10.0 %)\n\n",
        "no control characters into a pipe"
    );
    daemon.join().unwrap();
}

#[test]
fn b_33_terminate_needs_to_know_what() {
    let place = Place::new();
    failed(&run(&place.0, &["terminate"]), 2, &["required"]);
    let daemon = place.answer(ok_line(&json!({"truncated": false, "rows": []})));
    assert_eq!(out(&run(&place.0, &["terminate", "--port", "22"])), "no sessions match\n");
    assert!(
        matches!(daemon.join().unwrap().command, Wish::Terminate(args) if args.port == Some(22) && !args.all)
    );
}
