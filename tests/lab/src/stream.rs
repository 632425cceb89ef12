//! Streams of numbered packets, one a millisecond, and when each of them arrived: what an outage is measured
//! with.
//!
//! The UDP streams go from the server to the client over a session that the client opened beforehand, and
//! the client stays silent from then on: not one packet passes without that session. Silence is measured
//! where the packets arrive, by that side's monotonic clock.

use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::net::{RecvFlags, SendFlags, ipproto, recv, sendto, sockopt::set_socket_recv_buffer_size_force};

use crate::{
    checksum,
    error::{LabError, Result},
    exec, netns, raw,
    topology::{Family, Host},
};

/// What a stream consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum StreamKind {
    /// Datagrams from the server to the client.
    Udp(Family),
    /// Echo requests of the client and the server's replies.
    Icmp(Family),
}

impl StreamKind {
    /// All of them.
    pub const ALL: [StreamKind; 4] = [
        StreamKind::Udp(Family::V4),
        StreamKind::Udp(Family::V6),
        StreamKind::Icmp(Family::V4),
        StreamKind::Icmp(Family::V6),
    ];

    /// Name in tables and JSON.
    pub const fn name(self) -> &'static str {
        match self {
            StreamKind::Udp(Family::V4) => "udp4",
            StreamKind::Udp(Family::V6) => "udp6",
            StreamKind::Icmp(Family::V4) => "icmp",
            StreamKind::Icmp(Family::V6) => "icmp6",
        }
    }
}

/// A packet that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// When.
    pub at: Instant,
    /// Its number, from 0.
    pub seq: u64,
}

/// What is known of one stream.
#[derive(Debug)]
pub struct Track {
    kind: StreamKind,
    arrivals: Mutex<Vec<Arrival>>,
    sent: AtomicU64,
}

/// The longest time without a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Silence {
    /// Its beginning: the last packet before it.
    pub since: Instant,
    /// Its length.
    pub length: Duration,
}

impl Track {
    fn new(kind: StreamKind) -> Self {
        Self { kind, arrivals: Mutex::new(Vec::with_capacity(1 << 16)), sent: AtomicU64::new(0) }
    }

    /// What it consists of.
    pub fn kind(&self) -> StreamKind {
        self.kind
    }

    /// Packets sent so far; also the number of the next one.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Acquire)
    }

    /// Packets that arrived so far.
    pub fn received(&self) -> usize {
        self.arrivals.lock().map_or(0, |arrivals| arrivals.len())
    }

    /// The latest arrival.
    pub fn last(&self) -> Option<Arrival> {
        self.arrivals.lock().ok().and_then(|arrivals| arrivals.last().copied())
    }

    /// Whether one arrived after a moment.
    pub fn alive_since(&self, moment: Instant) -> bool {
        self.last().is_some_and(|last| last.at > moment)
    }

    fn arrived(&self, seq: u64) {
        if let Ok(mut arrivals) = self.arrivals.lock() {
            arrivals.push(Arrival { at: Instant::now(), seq });
        }
    }

    /// All arrivals in order.
    pub fn arrivals(&self) -> Vec<Arrival> {
        self.arrivals.lock().map(|arrivals| arrivals.clone()).unwrap_or_default()
    }

    /// The arrivals after a moment, without looking at all of them.
    pub fn arrivals_since(&self, moment: Instant) -> Vec<Arrival> {
        let Ok(arrivals) = self.arrivals.lock() else { return Vec::new() };
        let recent = arrivals.iter().rev().take_while(|arrival| arrival.at > moment).count();
        arrivals[arrivals.len() - recent..].to_vec()
    }

    /// The longest silence that touches a span of time. One that has not ended counts up to the span's end.
    pub fn longest_silence(&self, from: Instant, to: Instant) -> Silence {
        longest_silence(&self.arrivals(), from, to)
    }

    /// Which packets of a range of numbers did not arrive.
    pub fn missing(&self, from: u64, to: u64) -> Vec<u64> {
        let mut seen = vec![false; usize::try_from(to.saturating_sub(from)).unwrap_or(0)];
        for arrival in self.arrivals() {
            let place = arrival.seq.checked_sub(from).and_then(|place| usize::try_from(place).ok());
            if let Some(seen) = place.and_then(|place| seen.get_mut(place)) {
                *seen = true;
            }
        }
        (from..to).zip(seen).filter(|(_, seen)| !seen).map(|(seq, _)| seq).collect()
    }

    /// Packets in each slice of a span of time.
    pub fn slices(&self, from: Instant, width: Duration, count: usize) -> Vec<u32> {
        slices(self.arrivals().iter().map(|arrival| arrival.at), from, width, count)
    }
}

fn longest_silence(arrivals: &[Arrival], from: Instant, to: Instant) -> Silence {
    let before = arrivals.iter().rev().find(|arrival| arrival.at <= from).map_or(from, |arrival| arrival.at);
    let inside = arrivals.iter().map(|arrival| arrival.at).filter(|at| *at > from && *at <= to);
    let mut longest = Silence { since: before, length: Duration::ZERO };
    let mut last = before;
    for at in inside.chain([to]) {
        let length = at.saturating_duration_since(last);
        if length > longest.length {
            longest = Silence { since: last, length };
        }
        last = at;
    }
    longest
}

/// Counts moments in each slice of a span of time.
pub fn slices(
    moments: impl Iterator<Item = Instant>,
    from: Instant,
    width: Duration,
    count: usize,
) -> Vec<u32> {
    let mut counts = vec![0; count];
    for at in moments {
        let Some(offset) = at.checked_duration_since(from) else { continue };
        let place = usize::try_from(offset.as_nanos() / width.as_nanos().max(1)).unwrap_or(usize::MAX);
        if let Some(slice) = counts.get_mut(place) {
            *slice += 1;
        }
    }
    counts
}

/// Streams that flow until this value is gone.
#[derive(Debug)]
pub struct Streams {
    tracks: Vec<Arc<Track>>,
    stop: Arc<AtomicBool>,
    pause: Arc<AtomicBool>,
    threads: Vec<thread::JoinHandle<()>>,
}

/// The server's port of the UDP streams.
pub const STREAM_PORT: u16 = 7100;
/// How long a stream may take to come about.
const OPEN_LIMIT: Duration = Duration::from_secs(10);
const PAYLOAD_BYTES: usize = 64;

impl Streams {
    /// Opens the sessions of streams and begins to send, a packet each per interval.
    pub fn start(kinds: &[StreamKind], interval: Duration) -> Result<Self> {
        let mut streams = Self {
            tracks: Vec::new(),
            stop: Arc::new(AtomicBool::new(false)),
            pause: Arc::new(AtomicBool::new(false)),
            threads: Vec::new(),
        };
        let mut senders: Vec<(Arc<Track>, Sender)> = Vec::new();
        for kind in kinds {
            let track = Arc::new(Track::new(*kind));
            let (sender, receiver) = open(*kind)?;
            let (sink, stop) = (track.clone(), streams.stop.clone());
            streams.threads.push(thread::spawn(move || {
                prefer_this_thread();
                receiver.run(&sink, &stop);
            }));
            streams.tracks.push(track.clone());
            senders.push((track, sender));
        }
        let (stop, pause) = (streams.stop.clone(), streams.pause.clone());
        streams.threads.push(thread::spawn(move || {
            prefer_this_thread();
            send_all(&senders, interval, &stop, &pause);
        }));
        let deadline = Instant::now() + OPEN_LIMIT;
        while streams.tracks.iter().any(|track| track.received() < 10) {
            if Instant::now() >= deadline {
                let silent: Vec<_> = streams.tracks.iter().filter(|track| track.received() < 10).collect();
                let names: Vec<_> = silent.iter().map(|track| track.kind.name()).collect();
                return Err(LabError::Timeout {
                    what: format!("streams {}", names.join(", ")),
                    after: OPEN_LIMIT,
                });
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(streams)
    }

    /// All tracks, in the order asked for.
    pub fn tracks(&self) -> &[Arc<Track>] {
        &self.tracks
    }

    /// The track of a kind.
    pub fn track(&self, kind: StreamKind) -> Option<&Track> {
        self.tracks.iter().find(|track| track.kind == kind).map(Arc::as_ref)
    }

    /// Waits until all of them go on after a moment.
    pub fn wait_alive_since(&self, moment: Instant, limit: Duration) -> Result<()> {
        exec::wait_for("streams to go on", limit, || {
            self.tracks.iter().all(|track| track.alive_since(moment)).then_some(())
        })
    }

    /// Stops sending, waits for what is under way, and tells what of each stream never arrived.
    pub fn finish(&self) -> Vec<(StreamKind, Vec<u64>)> {
        self.pause.store(true, Ordering::SeqCst);
        thread::sleep(Duration::from_millis(300));
        self.tracks.iter().map(|track| (track.kind, track.missing(0, track.sent()))).collect()
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// What measures should not wait for what is measured: with two cores for everything, the scheduler's turns
/// would else show up as outages.
pub fn prefer_this_thread() {
    let _ = rustix::process::setpriority_process(None, -15);
}

fn send_all(senders: &[(Arc<Track>, Sender)], interval: Duration, stop: &AtomicBool, pause: &AtomicBool) {
    let mut next = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        if !pause.load(Ordering::Relaxed) {
            for (track, sender) in senders {
                let seq = track.sent.load(Ordering::Relaxed);
                // A number is spent whether or not the kernel took the packet: not sent is lost.
                track.sent.store(seq + 1, Ordering::Release);
                sender.send(seq);
            }
        }
        next += interval;
        let now = Instant::now();
        match next.checked_duration_since(now) {
            Some(pause) => thread::sleep(pause),
            // Late: a few are made up for, the rest of a long pause is not.
            None if now - next > interval * 5 => next = now,
            None => {}
        }
    }
}

#[derive(Debug)]
enum Sender {
    Udp { socket: UdpSocket, to: SocketAddr },
    Icmp { socket: Arc<OwnedFd>, to: IpAddr, id: u16 },
}

#[derive(Debug)]
enum Receiver {
    Udp(UdpSocket),
    Icmp { socket: Arc<OwnedFd>, family: Family, id: u16 },
}

fn open(kind: StreamKind) -> Result<(Sender, Receiver)> {
    match kind {
        StreamKind::Udp(family) => {
            let (socket, to, client) = udp_session(family, STREAM_PORT)?;
            Ok((Sender::Udp { socket, to }, Receiver::Udp(client)))
        }
        StreamKind::Icmp(family) => {
            let socket = Arc::new(icmp_socket(family)?);
            let id = 0x5500 | family as u16;
            let sender = Sender::Icmp { socket: socket.clone(), to: family.server(), id };
            Ok((sender, Receiver::Icmp { socket, family, id }))
        }
    }
}

/// A session from the client to the server: the server's socket, the client's address and its socket.
pub(crate) fn udp_session(family: Family, port: u16) -> Result<(UdpSocket, SocketAddr, UdpSocket)> {
    let bind = |host, port| {
        let address = if host == Host::Server { family.server() } else { family.client() };
        netns::within(host, || UdpSocket::bind((address, port)))?.map_err(LabError::io("bind a UDP socket"))
    };
    let (server, client) = (bind(Host::Server, port)?, bind(Host::Client, 0)?);
    let open = || -> std::io::Result<SocketAddr> {
        client.set_read_timeout(Some(Duration::from_millis(50)))?;
        server.set_read_timeout(Some(Duration::from_millis(200)))?;
        let mut buffer = [0; 64];
        // The first datagrams may wait for a neighbour, or be lost while the pair comes up.
        for _ in 0..50 {
            client.send_to(b"open", (family.server(), port))?;
            if let Ok((_, from)) = server.recv_from(&mut buffer) {
                return Ok(from);
            }
        }
        Err(std::io::ErrorKind::TimedOut.into())
    };
    let from = open().map_err(LabError::io(format!("open a UDP session over {}", family.name())))?;
    Ok((server, from, client))
}

fn icmp_socket(family: Family) -> Result<OwnedFd> {
    let protocol = if family == Family::V4 { ipproto::ICMP } else { ipproto::ICMPV6 };
    let socket = raw::socket(Host::Client, family, protocol)?;
    let _ = set_socket_recv_buffer_size_force(&socket, 4 << 20);
    Ok(socket)
}

const ECHO_REQUEST: [u8; 2] = [8, 128];
const ECHO_REPLY: [u8; 2] = [0, 129];

impl Sender {
    fn send(&self, seq: u64) {
        let mut payload = [0; PAYLOAD_BYTES];
        payload[..8].copy_from_slice(&seq.to_be_bytes());
        match self {
            Sender::Udp { socket, to } => drop(socket.send_to(&payload, to)),
            Sender::Icmp { socket, to, id } => {
                let message = echo_request(*to, *id, seq, &payload);
                let _ = sendto(socket, &message, SendFlags::empty(), &SocketAddr::new(*to, 0));
            }
        }
    }
}

/// An echo request; in IPv6 the kernel adds the checksum.
fn echo_request(to: IpAddr, id: u16, seq: u64, payload: &[u8]) -> Vec<u8> {
    let mut message = vec![ECHO_REQUEST[usize::from(to.is_ipv6())], 0, 0, 0];
    message.extend(id.to_be_bytes());
    message.extend((seq as u16).to_be_bytes());
    message.extend_from_slice(payload);
    if to.is_ipv4() {
        let checksum = checksum::of(&message);
        message[2..4].copy_from_slice(&checksum.to_be_bytes());
    }
    message
}

impl Receiver {
    fn run(&self, track: &Track, stop: &AtomicBool) {
        let mut buffer = [0; 2048];
        while !stop.load(Ordering::Relaxed) {
            let seq = match self {
                Receiver::Udp(socket) => {
                    socket.recv(&mut buffer).ok().and_then(|length| number_of(&buffer[..length]))
                }
                Receiver::Icmp { socket, family, id } => recv(socket, &mut buffer[..], RecvFlags::empty())
                    .ok()
                    .and_then(|(length, _)| echo_reply(*family, *id, &buffer[..length])),
            };
            if let Some(seq) = seq {
                track.arrived(seq);
            }
        }
    }
}

fn number_of(payload: &[u8]) -> Option<u64> {
    payload.first_chunk().map(|bytes| u64::from_be_bytes(*bytes))
}

/// The number in an echo reply to one of ours. IPv4 raw sockets show the IP header, IPv6 ones do not.
fn echo_reply(family: Family, id: u16, packet: &[u8]) -> Option<u64> {
    let header = if family == Family::V4 { usize::from(packet.first()? & 15) * 4 } else { 0 };
    let message = packet.get(header..)?;
    let ours = *message.first()? == ECHO_REPLY[usize::from(family == Family::V6)]
        && message.get(4..6)? == id.to_be_bytes();
    if ours { number_of(message.get(8..)?) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrivals(start: Instant, at_ms: &[u64]) -> Vec<Arrival> {
        at_ms
            .iter()
            .enumerate()
            .map(|(seq, ms)| Arrival { at: start + Duration::from_millis(*ms), seq: seq as u64 })
            .collect()
    }

    #[test]
    fn the_longest_silence_is_found_also_at_the_edges() {
        let start = Instant::now();
        let ms = |ms| start + Duration::from_millis(ms);
        let all = arrivals(start, &[0, 10, 20, 320, 330]);
        let silence = longest_silence(&all, ms(5), ms(330));
        assert_eq!((silence.since, silence.length), (ms(20), Duration::from_millis(300)));
        // One that began before the span counts whole, one that goes on counts up to the span's end.
        assert_eq!(longest_silence(&all, ms(100), ms(330)).length, Duration::from_millis(300));
        assert_eq!(longest_silence(&all, ms(325), ms(1330)).length, Duration::from_millis(1000));
        assert_eq!(longest_silence(&[], ms(0), ms(50)).length, Duration::from_millis(50));
    }

    #[test]
    fn what_is_missing_is_named_and_what_comes_twice_is_not() {
        let track = Track::new(StreamKind::Udp(Family::V4));
        for seq in [0, 1, 3, 3, 5] {
            track.arrived(seq);
        }
        assert_eq!(track.missing(0, 6), [2, 4]);
        assert_eq!(track.missing(3, 4), Vec::<u64>::new());
    }

    #[test]
    fn slices_count_what_falls_into_them() {
        let start = Instant::now();
        let moments = [0, 1, 9, 10, 25, 99].map(|ms| start + Duration::from_millis(ms));
        assert_eq!(slices(moments.into_iter(), start, Duration::from_millis(10), 3), [3, 1, 1]);
    }

    #[test]
    fn only_replies_to_our_own_requests_count() {
        let mut packet = vec![0x45; 20];
        packet.extend([0, 0, 0, 0, 0x55, 0, 0, 1]);
        packet.extend(77_u64.to_be_bytes());
        assert_eq!(echo_reply(Family::V4, 0x5500, &packet), Some(77));
        assert_eq!(echo_reply(Family::V4, 0x5501, &packet), None);
        packet[20] = 8;
        assert_eq!(echo_reply(Family::V4, 0x5500, &packet), None);
        assert_eq!(echo_reply(Family::V6, 1, &[]), None);
        let request = echo_request(Family::V4.server(), 7, 9, &[1; 8]);
        assert_eq!(checksum::of(&request), 0, "a good checksum");
    }
}
