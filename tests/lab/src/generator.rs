//! Very many sessions: single datagrams from the client to as many different ports of the server as it takes.
//! Ordinary sockets do it, since an unconnected one reaches all ports of its peer.

use std::{
    net::UdpSocket,
    thread,
    time::{Duration, Instant},
};

use crate::{
    control::Control,
    error::{LabError, Result},
    netns,
    pairview::PairView,
    topology::{Family, Host},
};

/// The first of the destination ports that are used: none of those where the lab's servers listen.
pub const FIRST_PORT: u32 = 20_000;
const PORTS: u32 = 45_000;
/// Datagrams between two looks at the clock.
const BATCH: usize = 64;

/// A generator of sessions.
#[derive(Debug)]
pub struct Generator {
    sockets: Vec<UdpSocket>,
    family: Family,
}

impl Generator {
    /// Prepares for a number of sessions.
    pub fn new(family: Family, sessions: u32) -> Result<Self> {
        let count = sessions.div_ceil(PORTS);
        let sockets = netns::within(Host::Client, || {
            (0..count).map(|_| UdpSocket::bind((family.client(), 0))).collect::<std::io::Result<Vec<_>>>()
        })?;
        Ok(Self { sockets: sockets.map_err(LabError::io("bind the generator's sockets"))?, family })
    }

    /// The ports of a session: the client's and the server's.
    pub fn ports(&self, number: u32) -> Option<(u16, u16)> {
        let socket = self.sockets.get((number / PORTS) as usize)?;
        let to = u16::try_from(FIRST_PORT + number % PORTS).ok()?;
        Some((socket.local_addr().ok()?.port(), to))
    }

    /// Sends one datagram on each of a range of sessions, so many a second at most.
    pub fn send(&self, sessions: std::ops::Range<u32>, per_second: u32) {
        let started = Instant::now();
        for (sent, number) in sessions.enumerate() {
            let (socket, port) = (number / PORTS, FIRST_PORT + number % PORTS);
            let to = (self.family.server(), u16::try_from(port).unwrap_or(u16::MAX));
            if let Some(socket) = self.sockets.get(socket as usize) {
                // Now and then an answer of the server's kernel waits as an error: the next call sends.
                if socket.send_to(b"x", to).is_err() {
                    let _ = socket.send_to(b"x", to);
                }
            }
            if sent.is_multiple_of(BATCH) {
                let due = started + Duration::from_secs_f64(sent as f64 / f64::from(per_second));
                thread::sleep(due.saturating_duration_since(Instant::now()));
            }
        }
    }

    /// Opens sessions until a node has so many, and says how long that took.
    pub fn fill(&self, node: &Control, sessions: u32, per_second: u32) -> Result<Duration> {
        self.fill_until(sessions, per_second, || Ok(PairView::of(&node.ask("status")?).sessions))
    }

    /// The same for whatever can tell how many sessions it has.
    pub fn fill_until(
        &self,
        sessions: u32,
        per_second: u32,
        mut count: impl FnMut() -> Result<u64>,
    ) -> Result<Duration> {
        let started = Instant::now();
        let mut have = 0;
        // What a full ring lost on the way is sent again; what has arrived is only refreshed.
        for _ in 0..8 {
            self.send(0..sessions, per_second);
            thread::sleep(Duration::from_millis(100));
            have = count()?;
            if have >= u64::from(sessions) {
                return Ok(started.elapsed());
            }
        }
        Err(LabError::Config(format!("only {have} of {sessions} sessions came about")))
    }
}
