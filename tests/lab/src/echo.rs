//! An echo server and many connections to it, as real sockets in the lab's namespaces.
//!
//! A socket belongs for life to the namespace it was made in, so server and clients live in the calling
//! program: only their making happens inside. The server answers TCP and UDP on one port, both families.

use std::{
    io::{ErrorKind, Read, Write},
    net::{IpAddr, Ipv6Addr, SocketAddr, TcpStream as StdStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use mio::{
    Events, Interest, Poll, Token, Waker,
    net::{TcpListener, TcpStream, UdpSocket},
};

use crate::{
    error::{LabError, Result},
    netns,
    topology::{Family, Host},
};

const LISTENER: Token = Token(0);
const DATAGRAMS: Token = Token(1);
const WAKE: Token = Token(2);
const FIRST_CONNECTION: usize = 3;
/// More than any test opens; beyond it, connections are closed at once.
const CONNECTIONS_MAX: usize = 20_000;

/// An echo server on a host.
#[derive(Debug)]
pub struct EchoServer {
    counts: Arc<Counts>,
    waker: Waker,
    thread: Option<thread::JoinHandle<()>>,
    port: u16,
}

#[derive(Debug, Default)]
struct Counts {
    stop: AtomicBool,
    accepted: AtomicUsize,
    open: AtomicUsize,
    datagrams: AtomicUsize,
}

impl EchoServer {
    /// Listens on a port of a host, TCP and UDP, both families.
    pub fn start(host: Host, port: u16) -> Result<Self> {
        let any = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port);
        let sockets = netns::within(host, || Ok((TcpListener::bind(any)?, UdpSocket::bind(any)?)))?;
        let what = format!("echo server on port {port}");
        let (mut listener, mut datagrams) = sockets.map_err(LabError::io(&what))?;
        let poll = Poll::new().map_err(LabError::io(&what))?;
        let registry = poll.registry();
        registry.register(&mut listener, LISTENER, Interest::READABLE).map_err(LabError::io(&what))?;
        registry.register(&mut datagrams, DATAGRAMS, Interest::READABLE).map_err(LabError::io(&what))?;
        let waker = Waker::new(registry, WAKE).map_err(LabError::io(&what))?;
        let counts = Arc::new(Counts::default());
        let service = Service { poll, listener, datagrams, connections: Vec::new(), counts: counts.clone() };
        let thread = thread::Builder::new()
            .name(format!("echo-{port}"))
            .spawn(move || service.run())
            .map_err(LabError::io(&what))?;
        Ok(Self { counts, waker, thread: Some(thread), port })
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Connections accepted so far.
    pub fn accepted(&self) -> usize {
        self.counts.accepted.load(Ordering::Relaxed)
    }

    /// Connections open now.
    pub fn open(&self) -> usize {
        self.counts.open.load(Ordering::Relaxed)
    }

    /// Datagrams answered so far.
    pub fn datagrams(&self) -> usize {
        self.counts.datagrams.load(Ordering::Relaxed)
    }
}

impl Drop for EchoServer {
    fn drop(&mut self) {
        self.counts.stop.store(true, Ordering::Relaxed);
        let _ = self.waker.wake();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Service {
    poll: Poll,
    listener: TcpListener,
    datagrams: UdpSocket,
    connections: Vec<Option<Connection>>,
    counts: Arc<Counts>,
}

struct Connection {
    stream: TcpStream,
    /// Read but not yet written back.
    pending: Vec<u8>,
    /// The other side has sent its last byte.
    finished: bool,
}

impl Service {
    fn run(mut self) {
        let mut events = Events::with_capacity(1024);
        while !self.counts.stop.load(Ordering::Relaxed) {
            match self.poll.poll(&mut events, Some(Duration::from_millis(500))) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => return,
            }
            for event in &events {
                match event.token() {
                    LISTENER => self.accept(),
                    DATAGRAMS => self.answer_datagrams(),
                    WAKE => {}
                    Token(number) => self.serve(number - FIRST_CONNECTION),
                }
            }
        }
    }

    fn accept(&mut self) {
        while let Ok((mut stream, _)) = self.listener.accept() {
            self.counts.accepted.fetch_add(1, Ordering::Relaxed);
            let free = self.connections.iter().position(Option::is_none);
            let place = free.unwrap_or(self.connections.len());
            if place >= CONNECTIONS_MAX {
                continue;
            }
            let interest = Interest::READABLE | Interest::WRITABLE;
            if self.poll.registry().register(&mut stream, Token(FIRST_CONNECTION + place), interest).is_err()
            {
                continue;
            }
            let _ = stream.set_nodelay(true);
            let connection = Some(Connection { stream, pending: Vec::new(), finished: false });
            if place == self.connections.len() {
                self.connections.push(connection);
            } else {
                self.connections[place] = connection;
            }
            self.counts.open.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn answer_datagrams(&self) {
        let mut buffer = [0; 65_536];
        while let Ok((length, from)) = self.datagrams.recv_from(&mut buffer) {
            if self.datagrams.send_to(&buffer[..length], from).is_ok() {
                self.counts.datagrams.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn serve(&mut self, place: usize) {
        let Some(Some(connection)) = self.connections.get_mut(place) else { return };
        if !connection.pump() {
            self.connections[place] = None;
            self.counts.open.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Connection {
    /// Moves what can be moved now; `false` when the connection is over.
    fn pump(&mut self) -> bool {
        let mut buffer = [0; 16_384];
        loop {
            while !self.pending.is_empty() {
                match self.stream.write(&self.pending) {
                    Ok(written) => drop(self.pending.drain(..written)),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                    Err(_) => return false,
                }
            }
            if self.finished {
                return false;
            }
            match self.stream.read(&mut buffer) {
                Ok(0) => self.finished = true,
                Ok(length) => self.pending.extend_from_slice(&buffer[..length]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(_) => return false,
            }
        }
    }
}

/// Connections that are open at the same time.
#[derive(Debug)]
pub struct Connections {
    streams: Vec<StdStream>,
}

impl Connections {
    /// Opens connections from a host, one after the other, and keeps them all open.
    pub fn open(host: Host, to: SocketAddr, count: usize, limit: Duration) -> Result<Self> {
        let opened = netns::within(host, || -> std::io::Result<Vec<StdStream>> {
            (0..count)
                .map(|_| {
                    let stream = StdStream::connect_timeout(&to, limit)?;
                    stream.set_nodelay(true)?;
                    stream.set_read_timeout(Some(limit))?;
                    stream.set_write_timeout(Some(limit))?;
                    Ok(stream)
                })
                .collect()
        })?;
        Ok(Self { streams: opened.map_err(LabError::io(format!("connect to {to}")))? })
    }

    /// Connections that were opened elsewhere.
    pub fn of(streams: Vec<StdStream>) -> Self {
        Self { streams }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.streams.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }

    /// The sockets themselves.
    pub fn streams(&mut self) -> &mut [StdStream] {
        &mut self.streams
    }

    /// Hands the sockets over.
    pub fn take(&mut self) -> Vec<StdStream> {
        std::mem::take(&mut self.streams)
    }

    /// Sends something different on each, all before the first answer is read, and counts the connections
    /// whose echo came back exactly.
    pub fn round(&mut self, number: u32) -> usize {
        let payload = |index: usize| format!("round {number} connection {index:06} ").repeat(8).into_bytes();
        let sent: Vec<bool> = self
            .streams
            .iter_mut()
            .enumerate()
            .map(|(index, stream)| stream.write_all(&payload(index)).is_ok())
            .collect();
        let mut exact = 0;
        for (index, stream) in self.streams.iter_mut().enumerate() {
            let expected = payload(index);
            let mut answer = vec![0; expected.len()];
            exact += usize::from(sent[index] && stream.read_exact(&mut answer).is_ok() && answer == expected);
        }
        exact
    }
}

/// A UDP socket of a host, connected to a port of the server.
pub fn udp_socket(host: Host, family: Family, port: u16) -> Result<std::net::UdpSocket> {
    let (own, to) = (host.address(family), SocketAddr::new(family.server(), port));
    let own = own.ok_or_else(|| LabError::Unsupported(format!("{} has no address", host.name())))?;
    let socket = netns::within(host, || {
        let socket = std::net::UdpSocket::bind(SocketAddr::new(own, 0))?;
        socket.connect(to)?;
        socket.set_read_timeout(Some(Duration::from_secs(2)))?;
        Ok(socket)
    })?;
    socket.map_err(LabError::io(format!("UDP socket to {to}")))
}

/// Sends a datagram and tells whether the same came back.
pub fn udp_round_trip(socket: &std::net::UdpSocket, payload: &[u8]) -> std::io::Result<bool> {
    let mut answer = vec![0; payload.len() + 1];
    socket.send(payload)?;
    let length = socket.recv(&mut answer)?;
    Ok(answer[..length] == *payload)
}
