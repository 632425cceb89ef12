//! A crowd of sessions that must all live on: TCP connections that echo numbered records, and UDP sessions
//! over which only the server speaks.
//!
//! A connection's records are numbered and checked one by one, so "survived" means that not one byte was
//! lost, doubled, changed or swapped, and that it went on.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use mio::{Events, Interest, Poll, Token, net::TcpStream};

use crate::{
    background::Background,
    echo::Connections,
    error::{LabError, Result},
    stream::udp_session,
    topology::{Family, Host},
};

const RECORD: usize = 16;
/// Records under way on a connection; a stalled one waits instead of filling buffers.
const WINDOW: u64 = 256;

/// What is known of one connection.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its family.
    pub family: Family,
    /// Its port on the client.
    pub client_port: u16,
    /// Records that came back as they were sent.
    pub echoed: u64,
    /// When the last of them came.
    pub last: Instant,
    /// The longest time between two of them.
    pub longest: Duration,
    /// Why it ended, if it did.
    pub ended: Option<String>,
}

/// TCP connections that echo numbered records until this value is gone.
#[derive(Debug)]
pub struct TcpCrowd {
    members: Arc<Mutex<Vec<Member>>>,
    echoes: Arc<Mutex<Vec<Instant>>>,
    _thread: Background,
}

impl TcpCrowd {
    /// Opens connections, half of them in each family, and begins to send, a record each per interval.
    pub fn start(port: u16, count: usize, interval: Duration) -> Result<Self> {
        let mut lines = Vec::with_capacity(count);
        for (family, share) in [(Family::V4, count.div_ceil(2)), (Family::V6, count / 2)] {
            let to = SocketAddr::new(family.server(), port);
            let mut opened = Connections::open(Host::Client, to, share, Duration::from_secs(10))?;
            for stream in opened.take() {
                lines.push(Line::new(stream, family)?);
            }
        }
        let members = Arc::new(Mutex::new(lines.iter().map(|line| line.member.clone()).collect()));
        let echoes = Arc::new(Mutex::new(Vec::with_capacity(1 << 16)));
        let (sink, moments) = (members.clone(), echoes.clone());
        let work = move |stop: &AtomicBool| run(lines, interval, &sink, &moments, stop);
        Ok(Self { members, echoes, _thread: Background::start("tcp-crowd", work)? })
    }

    /// All connections as they are now.
    pub fn members(&self) -> Vec<Member> {
        self.members.lock().map(|members| members.clone()).unwrap_or_default()
    }

    /// Connections that have echoed something since a moment and have not ended.
    pub fn alive_since(&self, moment: Instant) -> usize {
        self.members().iter().filter(|member| member.ended.is_none() && member.last > moment).count()
    }

    /// Waits until all have echoed something since a moment, or time is up; how many have.
    pub fn wait_alive_since(&self, moment: Instant, limit: Duration) -> usize {
        wait_all(self.members().len(), limit, || self.alive_since(moment))
    }

    /// The moments at which records came back, of all connections together.
    pub fn echoes(&self) -> Vec<Instant> {
        self.echoes.lock().map(|echoes| echoes.clone()).unwrap_or_default()
    }
}

struct Line {
    stream: TcpStream,
    member: Member,
    number: u32,
    sent: u64,
    /// Not yet taken by the kernel.
    outgoing: Vec<u8>,
    /// The beginning of a record.
    incoming: Vec<u8>,
}

impl Line {
    fn new(stream: std::net::TcpStream, family: Family) -> Result<Self> {
        let failed = || LabError::io("set up a connection of the crowd");
        stream.set_nonblocking(true).map_err(failed())?;
        let client_port = stream.local_addr().map_err(failed())?.port();
        let member = Member {
            family,
            client_port,
            echoed: 0,
            last: Instant::now(),
            longest: Duration::ZERO,
            ended: None,
        };
        let stream = TcpStream::from_std(stream);
        let number = u32::from(client_port) << 8 | family as u32;
        Ok(Self { stream, member, number, sent: 0, outgoing: Vec::new(), incoming: Vec::new() })
    }

    fn record(&self, seq: u64) -> [u8; RECORD] {
        let mut record = [0x5a; RECORD];
        record[..4].copy_from_slice(&self.number.to_be_bytes());
        record[4..12].copy_from_slice(&seq.to_be_bytes());
        record
    }

    fn say_next(&mut self) {
        if self.member.ended.is_some() || self.sent - self.member.echoed >= WINDOW {
            return;
        }
        let record = self.record(self.sent);
        self.sent += 1;
        self.outgoing.extend_from_slice(&record);
        self.flush();
    }

    fn flush(&mut self) {
        while !self.outgoing.is_empty() && self.member.ended.is_none() {
            match self.stream.write(&self.outgoing) {
                Ok(written) => drop(self.outgoing.drain(..written)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => self.member.ended = Some(error.to_string()),
            }
        }
    }

    fn hear(&mut self, moments: &mut Vec<Instant>) {
        let mut buffer = [0; 4096];
        while self.member.ended.is_none() {
            match self.stream.read(&mut buffer) {
                Ok(0) => self.member.ended = Some("closed by the server".into()),
                Ok(length) => self.incoming.extend_from_slice(&buffer[..length]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => self.member.ended = Some(error.to_string()),
            }
        }
        let now = Instant::now();
        while self.incoming.len() >= RECORD {
            let expected = self.record(self.member.echoed);
            if self.incoming[..RECORD] != expected {
                let got = &self.incoming[..RECORD];
                self.member.ended = Some(format!("record {}: got {got:02x?}", self.member.echoed));
                return;
            }
            self.incoming.drain(..RECORD);
            self.member.echoed += 1;
            self.member.longest = self.member.longest.max(now.saturating_duration_since(self.member.last));
            self.member.last = now;
            moments.push(now);
        }
    }
}

fn run(
    mut lines: Vec<Line>,
    interval: Duration,
    members: &Mutex<Vec<Member>>,
    echoes: &Mutex<Vec<Instant>>,
    stop: &AtomicBool,
) {
    let Ok(mut poll) = Poll::new() else { return };
    for (place, line) in lines.iter_mut().enumerate() {
        let interest = Interest::READABLE | Interest::WRITABLE;
        if let Err(error) = poll.registry().register(&mut line.stream, Token(place), interest) {
            line.member.ended = Some(error.to_string());
        }
    }
    // Spread over the interval, so that the crowd is a hum and not a drum.
    let step = interval / u32::try_from(lines.len().max(1)).unwrap_or(u32::MAX);
    let (mut next, mut turn) = (Instant::now(), 0);
    // Silent while the last of them were opened, but not for lack of an echo.
    lines.iter_mut().for_each(|line| line.member.last = next);
    let mut events = Events::with_capacity(1024);
    let mut moments = Vec::new();
    while !stop.load(Ordering::Relaxed) && !lines.is_empty() {
        let now = Instant::now();
        while next <= now {
            lines[turn].say_next();
            turn = (turn + 1) % lines.len();
            next += step;
            if now.saturating_duration_since(next) > interval {
                next = now;
            }
        }
        let pause = next.saturating_duration_since(now).max(Duration::from_millis(1));
        if poll.poll(&mut events, Some(pause)).is_err() {
            continue;
        }
        for event in &events {
            let Some(line) = lines.get_mut(event.token().0) else { continue };
            line.flush();
            line.hear(&mut moments);
            if let Ok(mut members) = members.lock() {
                members[event.token().0].clone_from(&line.member);
            }
        }
        if !moments.is_empty()
            && let Ok(mut echoes) = echoes.lock()
        {
            echoes.append(&mut moments);
        }
    }
}

/// UDP sessions that clients opened and over which only the server speaks: what arrives after a takeover
/// came through a session that was replicated.
#[derive(Debug)]
pub struct UdpCrowd {
    sessions: Vec<Arc<UdpMember>>,
    _thread: Background,
}

#[derive(Debug)]
struct UdpMember {
    client: UdpSocket,
    server: UdpSocket,
    to: SocketAddr,
    last_ms: AtomicU64,
}

/// The first of the server's ports that a UDP crowd uses.
pub const UDP_CROWD_PORT: u16 = 7200;

impl UdpCrowd {
    /// Opens sessions, half of them in each family, and begins to send, a datagram each per interval.
    pub fn start(count: usize, interval: Duration) -> Result<Self> {
        let mut sessions = Vec::with_capacity(count);
        for (family, share) in [(Family::V4, count.div_ceil(2)), (Family::V6, count / 2)] {
            for number in 0..share {
                let port = UDP_CROWD_PORT + u16::try_from(number).unwrap_or(u16::MAX - UDP_CROWD_PORT);
                let (server, to, client) = udp_session(family, port)?;
                client.set_nonblocking(true).map_err(LabError::io("set up a UDP session"))?;
                sessions.push(Arc::new(UdpMember { client, server, to, last_ms: AtomicU64::new(0) }));
            }
        }
        let all = sessions.clone();
        let thread = Background::start("udp-crowd", move |stop| {
            while !stop.load(Ordering::Relaxed) {
                for member in &all {
                    let _ = member.server.send_to(b"still there", member.to);
                }
                thread::sleep(interval);
                let mut buffer = [0; 64];
                for member in &all {
                    while member.client.recv(&mut buffer).is_ok() {
                        member.last_ms.store(now_ms(), Ordering::Relaxed);
                    }
                }
            }
        })?;
        Ok(Self { sessions, _thread: thread })
    }

    /// How many sessions there are.
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// Sessions over which something came since a moment.
    pub fn alive_since(&self, moment: Instant) -> usize {
        let since = now_ms().saturating_sub(u64::try_from(moment.elapsed().as_millis()).unwrap_or(u64::MAX));
        self.sessions.iter().filter(|member| member.last_ms.load(Ordering::Relaxed) > since).count()
    }

    /// Waits until something came over all of them since a moment, or time is up; over how many it did.
    pub fn wait_alive_since(&self, moment: Instant, limit: Duration) -> usize {
        wait_all(self.len(), limit, || self.alive_since(moment))
    }
}

/// Waits until all are alive, or time is up; how many are.
fn wait_all(all: usize, limit: Duration, alive: impl Fn() -> usize) -> usize {
    let deadline = Instant::now() + limit;
    loop {
        let alive = alive();
        if alive == all || Instant::now() >= deadline {
            return alive;
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// Milliseconds of a clock that only this program knows.
fn now_ms() -> u64 {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    // Never 0, which says "nothing yet".
    u64::try_from(START.get_or_init(Instant::now).elapsed().as_millis()).unwrap_or(u64::MAX) + 1
}
