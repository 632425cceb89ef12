//! The control thread: the operator's socket, signals, neighbours, snapshots, the log.
//!
//! It is on no packet's path and on no liveness path: workers go on with the snapshot that they have when
//! it is slow. It may allocate, log and call the system, but it must not wait for anybody: neighbour
//! resolution lives here, too.

mod core;
mod debug;
mod events;
mod happenings;
mod later;
mod link;
pub mod log;
mod meters;
mod names;
pub mod neighbours;
mod orders;
mod pair_view;
mod partner;
mod reload;
pub mod server;
mod sessions;
pub mod signals;
pub mod socket;
mod terminate;
mod view;

pub use self::core::{Core, CoreParts, DataPort, Facts, WorkerLink};
pub use meters::BusyMeter;
pub use partner::Partner;

use mio::{Events, Poll, Token};
use server::Server;
use signals::Signals;
use std::io;
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

/// Between two turns while an answer from the network may be near.
const HOT_TURN: Duration = Duration::from_millis(2);
/// Between two turns otherwise: the longest that a first packet waits before its next hop is asked for.
const IDLE_TURN: Duration = Duration::from_millis(10);

/// Why the control thread ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was asked to.
    Asked,
    /// A worker's thread is gone.
    WorkerLost(usize),
    /// The sync core's thread is gone.
    SyncCoreLost,
}

/// Runs until somebody asks for the end.
pub fn run(core: &mut Core, listener: UnixListener, signals: &Signals) -> io::Result<Ended> {
    let mut poll = Poll::new()?;
    let mut server = Server::new(listener, poll.registry().try_clone()?, Token(0))?;
    let mut events = Events::with_capacity(128);
    let mut busy = false;
    loop {
        let now = Instant::now();
        let wait = match (busy, core.is_hot(now)) {
            (true, _) => Duration::ZERO,
            (false, true) => HOT_TURN,
            (false, false) => IDLE_TURN,
        };
        match poll.poll(&mut events, Some(wait)) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        for event in &events {
            server.event(event.token(), event.is_readable() || event.is_read_closed() || event.is_error());
        }
        if signals.end() && core.may_end(Instant::now()) {
            return Ok(Ended::Asked);
        }
        if signals.take_reload() {
            core.reload();
        }
        let now = Instant::now();
        busy = core.turn(now);
        busy |= server.turn(core, now);
        if let Some(worker) = core.lost_worker() {
            return Ok(Ended::WorkerLost(worker));
        }
        if core.lost_sync_core() {
            return Ok(Ended::SyncCoreLost);
        }
    }
}

#[cfg(test)]
mod tests;
