use super::super::later::{Promise, promise};
use super::*;
use mio::{Events, Poll};
use proto::{SessionsArgs, WaitArgs};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::os::unix::net as std_net;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

/// Answers `status` with a word and `sessions` with as many numbers as its limit says. `switchover` is
/// promised and kept a little later, `verify` is promised and never kept.
struct Oracle {
    answered: Arc<AtomicUsize>,
    promised: Vec<(Instant, Promise)>,
    unwanted: Arc<AtomicUsize>,
}

impl Oracle {
    fn turn(&mut self) {
        let wanted = self.promised.len();
        self.promised.retain(|(_, promise)| promise.is_wanted());
        self.unwanted.fetch_add(wanted - self.promised.len(), Ordering::Relaxed);
        while let Some(at) = self.promised.iter().position(|(due, _)| *due <= Instant::now()) {
            self.promised.remove(at).1.keep(answer_line(&"done"));
        }
    }
}

impl Responder for Oracle {
    fn respond(&mut self, command: Command) -> Reply {
        self.answered.fetch_add(1, Ordering::Relaxed);
        match command {
            Command::Sessions(SessionsArgs { limit, .. }) => {
                Reply::Walk(Box::new(Numbers { next: 0, limit }))
            }
            Command::Switchover(WaitArgs { timeout_ms }) => {
                let now = Instant::now();
                let late = refusal_line(Error::new(ErrorCode::TimedOut, "too late", ""));
                // A limit of 300 ms is too short for what takes 400.
                let takes = Duration::from_millis(if timeout_ms < 400 { 400 } else { 30 });
                let (kept, later) = promise(now + Duration::from_millis(timeout_ms.into()), late);
                self.promised.push((now + takes, kept));
                Reply::Later(later)
            }
            Command::Verify(_) => {
                let never = Instant::now() + Duration::from_secs(600);
                let (kept, later) = promise(never, Vec::new());
                self.promised.push((never, kept));
                Reply::Later(later)
            }
            other => Reply::Line(answer_line(&other.name())),
        }
    }
}

struct Numbers {
    next: u32,
    limit: u32,
}

impl Walk for Numbers {
    fn step(&mut self, out: &mut Vec<u8>) -> bool {
        if self.next == 0 {
            out.extend_from_slice(br#"{"v":1,"ok":true,"data":[0"#);
        }
        for _ in 0..100 {
            self.next += 1;
            if self.next == self.limit {
                out.extend_from_slice(b"]}\n");
                return true;
            }
            // A hundred bytes each.
            out.extend_from_slice(format!(",{:099}", 1).replace(",0", ",1").as_bytes());
        }
        false
    }
}

/// A server on a thread of its own.
struct Harness {
    shared: Shared,
    thread: Option<JoinHandle<()>>,
}

#[derive(Clone)]
struct Shared {
    path: PathBuf,
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    connected: Arc<AtomicUsize>,
    /// Added to the server's idea of the time, in seconds.
    ahead_s: Arc<AtomicUsize>,
    /// Promises whose client was let go.
    unwanted: Arc<AtomicUsize>,
}

impl std::ops::Deref for Harness {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.shared
    }
}

impl Harness {
    fn start(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("us-server-{name}-{}.sock", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let listener = std_net::UnixListener::bind(&path).unwrap();
        listener.set_nonblocking(true).unwrap();
        let (stop, answered, connected, ahead_s, unwanted) = Default::default();
        let shared = Shared { path, stop, answered, connected, ahead_s, unwanted };
        let served = shared.clone();
        let thread = std::thread::spawn(move || served.serve(listener));
        Self { shared, thread: Some(thread) }
    }
}

impl Shared {
    fn serve(&self, listener: std_net::UnixListener) {
        let mut poll = Poll::new().unwrap();
        let registry = poll.registry().try_clone().unwrap();
        let mut server = Server::new(listener, registry, Token(10)).unwrap();
        let mut oracle =
            Oracle { answered: self.answered.clone(), promised: Vec::new(), unwanted: self.unwanted.clone() };
        let mut events = Events::with_capacity(64);
        let mut busy = false;
        while !self.stop.load(Ordering::Relaxed) {
            let wait = Duration::from_millis(if busy { 0 } else { 2 });
            poll.poll(&mut events, Some(wait)).unwrap();
            for event in &events {
                server.event(event.token(), event.is_readable());
            }
            let ahead = self.ahead_s.load(Ordering::Relaxed) as u64;
            oracle.turn();
            busy = server.turn(&mut oracle, Instant::now() + Duration::from_secs(ahead));
            self.connected.store(server.clients(), Ordering::Relaxed);
        }
    }

    fn connect(&self) -> std_net::UnixStream {
        let stream = std_net::UnixStream::connect(&self.path).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(10))).unwrap();
        stream
    }

    fn wait_unwanted(&self, count: usize) {
        let end = Instant::now() + Duration::from_secs(10);
        while self.unwanted.load(Ordering::Relaxed) != count {
            assert!(Instant::now() < end, "whoever would have known is not told");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn wait_connected(&self, count: usize) {
        let end = Instant::now() + Duration::from_secs(10);
        while self.connected.load(Ordering::Relaxed) != count {
            assert!(
                Instant::now() < end,
                "{} connected, not {count}",
                self.connected.load(Ordering::Relaxed)
            );
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Harness {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.stop.store(true, Ordering::Relaxed);
            thread.join().unwrap();
            let _ = std::fs::remove_file(&self.shared.path);
        }
    }
}

const STATUS: &[u8] = b"{\"v\":1,\"cmd\":\"status\"}\n";

fn read_line(stream: &std_net::UnixStream) -> String {
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    line
}

fn code(line: &str) -> String {
    let value: Value = serde_json::from_str(line).unwrap();
    assert_eq!(value["ok"], false, "{line}");
    value["error"]["code"].as_str().unwrap().to_owned()
}

#[test]
fn a_request_in_pieces_is_answered_once_it_is_whole() {
    let harness = Harness::start("pieces");
    let mut stream = harness.connect();
    for byte in STATUS {
        assert_eq!(harness.answered.load(Ordering::Relaxed), 0);
        stream.write_all(&[*byte]).unwrap();
    }
    assert_eq!(read_line(&stream), "{\"v\":1,\"ok\":true,\"data\":\"status\"}\n");
}

#[test]
fn many_requests_in_one_write_are_answered_in_order() {
    let harness = Harness::start("pipelined");
    let mut stream = harness.connect();
    let names: Vec<&str> = ["status", "rules", "counters"].into_iter().cycle().take(100).collect();
    let requests: String = names.iter().map(|name| format!("{{\"v\":1,\"cmd\":\"{name}\"}}\n")).collect();
    stream.write_all(requests.as_bytes()).unwrap();
    let mut reader = BufReader::new(&stream);
    for name in names {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        assert_eq!(line, format!("{{\"v\":1,\"ok\":true,\"data\":\"{name}\"}}\n"));
    }
}

#[test]
fn the_answer_comes_although_the_client_will_say_no_more() {
    let harness = Harness::start("shutdown");
    let mut stream = harness.connect();
    stream.write_all(STATUS).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut all = String::new();
    stream.read_to_string(&mut all).unwrap();
    assert_eq!(all, "{\"v\":1,\"ok\":true,\"data\":\"status\"}\n");
    harness.wait_connected(0);
}

#[test]
fn garbage_is_answered_with_a_reason_and_the_connection_goes_on() {
    let harness = Harness::start("garbage");
    let mut stream = harness.connect();
    for garbage in [&b"\xff\xfe\0\n"[..], b"\n", b"{}\n", b"{\"v\":1,\"cmd\":7}\n", b"[[[[[[\n"] {
        stream.write_all(garbage).unwrap();
        assert_eq!(code(&read_line(&stream)), "bad-request", "{garbage:?}");
    }
    stream.write_all(STATUS).unwrap();
    assert!(read_line(&stream).contains("status"));
}

#[test]
fn half_a_line_and_a_hang_up_leave_nothing_behind() {
    let harness = Harness::start("half");
    for _ in 0..200 {
        harness.connect().write_all(b"{\"v\":1,").unwrap();
    }
    harness.wait_connected(0);
    assert_eq!(harness.answered.load(Ordering::Relaxed), 0);
}

#[test]
fn a_line_that_is_too_long_is_refused_and_closed() {
    let harness = Harness::start("long");
    let mut stream = harness.connect();
    stream.write_all(&vec![b'x'; MAX_REQUEST_BYTES]).unwrap();
    assert_eq!(code(&read_line(&stream)), "too-long");
    harness.wait_connected(0);
}

#[test]
fn the_client_after_the_last_place_is_told_so_and_idle_ones_make_room_later() {
    let harness = Harness::start("many");
    let clients: Vec<_> = (0..CLIENTS_MAX).map(|_| harness.connect()).collect();
    harness.wait_connected(CLIENTS_MAX);
    let refused = harness.connect();
    assert_eq!(code(&read_line(&refused)), "busy");

    for mut client in clients.iter().take(CLIENTS_MAX) {
        client.write_all(STATUS).unwrap();
        assert!(read_line(client).contains("status"), "those who are in are served");
    }
    harness.ahead_s.store(6, Ordering::Relaxed);
    let mut late = harness.connect();
    late.write_all(STATUS).unwrap();
    assert!(read_line(&late).contains("status"), "an idle one had to go");
    harness.wait_connected(CLIENTS_MAX);
}

#[test]
fn a_slow_reader_holds_up_nobody_and_gets_everything() {
    let harness = Harness::start("slow");
    let mut slow = harness.connect();
    slow.write_all(b"{\"v\":1,\"cmd\":\"sessions\",\"limit\":60000}\n").unwrap();
    // Others are served while six megabytes wait to be taken.
    for _ in 0..100 {
        let mut other = harness.connect();
        other.write_all(STATUS).unwrap();
        assert!(read_line(&other).contains("status"));
    }
    let line = read_line(&slow);
    assert!(line.ends_with("]}\n"));
    assert_eq!(line.matches(',').count(), 59_999 + 2);
}

#[test]
fn a_reader_that_never_reads_is_disconnected() {
    let harness = Harness::start("stalled");
    let mut stalled = harness.connect();
    stalled.write_all(b"{\"v\":1,\"cmd\":\"sessions\",\"limit\":60000}\n").unwrap();
    harness.wait_connected(1);
    let end = Instant::now() + Duration::from_secs(10);
    while harness.answered.load(Ordering::Relaxed) == 0 {
        assert!(Instant::now() < end);
        std::thread::sleep(Duration::from_millis(1));
    }
    std::thread::sleep(Duration::from_millis(50));
    harness.ahead_s.store(9, Ordering::Relaxed);
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(harness.connected.load(Ordering::Relaxed), 1, "not before its time");
    harness.ahead_s.store(11, Ordering::Relaxed);
    harness.wait_connected(0);
}

#[test]
fn a_client_that_only_asks_and_never_reads_does_not_grow() {
    let harness = Harness::start("asks");
    let mut stream = harness.connect();
    stream.set_nonblocking(true).unwrap();
    let requests = STATUS.repeat(1_000);
    let mut sent = 0;
    let end = Instant::now() + Duration::from_secs(2);
    while Instant::now() < end && sent < 100_000_000 {
        match stream.write(&requests) {
            Ok(count) => sent += count,
            Err(_) => std::thread::sleep(Duration::from_millis(1)),
        }
        if harness.answered.load(Ordering::Relaxed) > 0 && sent > 3_000_000 {
            break;
        }
    }
    // What it could send is what two socket buffers and one request line hold.
    assert!(sent < 3_000_000, "the server read {sent} bytes of requests whose answers nobody takes");
}

const SWITCHOVER: &[u8] = b"{\"v\":1,\"cmd\":\"switchover\"}\n";
const NEVER: &[u8] = b"{\"v\":1,\"cmd\":\"verify\"}\n";

#[test]
fn x_16_what_takes_time_is_answered_when_it_is_done_and_holds_up_nobody() {
    let harness = Harness::start("later");
    let mut patient = harness.connect();
    let mut waiting = harness.connect();
    waiting.write_all(NEVER).unwrap();
    let before = Instant::now();
    patient.write_all(&[SWITCHOVER, STATUS].concat()).unwrap();
    for _ in 0..20 {
        let mut other = harness.connect();
        other.write_all(STATUS).unwrap();
        assert!(read_line(&other).contains("status"));
    }
    let mut reader = BufReader::new(&patient);
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    assert_eq!(line, "{\"v\":1,\"ok\":true,\"data\":\"done\"}\n");
    assert!(before.elapsed() >= Duration::from_millis(30));
    line.clear();
    reader.read_line(&mut line).unwrap();
    assert!(line.contains("status"), "the next request has waited for its turn: {line}");
}

#[test]
fn a_promise_that_is_late_is_a_refusal_and_the_connection_goes_on() {
    let harness = Harness::start("late");
    let mut stream = harness.connect();
    stream.write_all(b"{\"v\":1,\"cmd\":\"switchover\",\"timeout_ms\":300}\n").unwrap();
    assert_eq!(code(&read_line(&stream)), "timed-out");
    stream.write_all(STATUS).unwrap();
    assert!(read_line(&stream).contains("status"));
    harness.wait_unwanted(1);
}

#[test]
fn who_hangs_up_while_waiting_is_let_go_and_who_only_says_no_more_is_answered() {
    let harness = Harness::start("hangup");
    let mut half = harness.connect();
    half.write_all(SWITCHOVER).unwrap();
    half.shutdown(std::net::Shutdown::Write).unwrap();
    let mut all = String::new();
    half.read_to_string(&mut all).unwrap();
    assert_eq!(all, "{\"v\":1,\"ok\":true,\"data\":\"done\"}\n");
    drop(half);

    let clients: Vec<_> = (0..CLIENTS_MAX)
        .map(|_| {
            let mut stream = harness.connect();
            stream.write_all(NEVER).unwrap();
            stream
        })
        .collect();
    harness.wait_connected(CLIENTS_MAX);
    // They wait for an answer: none of them is idle and has to make room.
    harness.ahead_s.store(60, Ordering::Relaxed);
    assert_eq!(code(&read_line(&harness.connect())), "busy");
    assert_eq!(harness.connected.load(Ordering::Relaxed), CLIENTS_MAX);
    drop(clients);
    harness.wait_connected(0);
    harness.wait_unwanted(CLIENTS_MAX);
}
