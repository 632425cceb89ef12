//! This node as one of a pair: the sync core's thread and its ends to workers and control thread.
//!
//! ```text
//!   workers ── dirty slots, ends, captured frames, outcomes ──►┐
//!   workers ◄── role word, records to apply, frames to send ───┤ sync core ◄──► sync links
//!   control ── reports, commands, description ────────────────►│   (sync::pair::Pair)
//!   control ◄── events, status ────────────────────────────────┘
//! ```
//!
//! | module | its job |
//! |---|---|
//! | [`core`] | the loop and what the machine's orders become |
//! | [`cell`] | single words between core and workers: role, install, park |
//! | [`tables`] | the machine's view of the session tables, through rings |
//! | [`record`] | session ⇄ record |
//! | [`transport`], [`envelope`] | datagrams on sync links and data ports |
//! | [`announce`] | gratuitous ARP and unsolicited neighbour advertisements |
//! | [`second`] | whether a silent partner answers ping |
//! | [`term_file`] | the term on disk |

pub mod announce;
pub mod cell;
pub mod core;
pub mod envelope;
pub mod record;
pub mod second;
pub mod tables;
pub mod term_file;
mod thread;
pub mod transport;

pub use thread::CoreThread;
pub use transport::Figures;

use engine::counters::Counters;
use second::Opinion;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use sync::heartbeat::{self, PROTOCOLS};
use sync::ids::{Micros, PathId, Term};
use sync::membership::{Loss, Notice, Role};
use sync::pair::{PairStatus, Report};

/// Sessions by protocol over all workers, as heartbeats count them.
pub fn held<'c>(workers: impl Iterator<Item = &'c Counters>) -> [u32; PROTOCOLS] {
    let mut held = [0_u64; PROTOCOLS];
    for counters in workers {
        held.iter_mut().zip(counters.sessions()).for_each(|(sum, sessions)| *sum += sessions);
    }
    held.map(|sessions| u32::try_from(sessions).unwrap_or(u32::MAX))
}

/// Events that wait for the control thread, at most.
const EVENTS: usize = 4096;

/// What the sync core tells the control thread.
#[derive(Clone, Debug)]
pub enum Event {
    /// The role or the term changed.
    Role {
        /// The role.
        role: Role,
        /// The term.
        term: Term,
    },
    /// The decision maker.
    Notice(Notice),
    /// The partner is silent on all paths.
    PeerGone {
        /// Why.
        loss: Loss,
        /// Whether it answers ping.
        icmp: Opinion,
    },
    /// The stream.
    Stream(sync::stream::Event),
    /// The keys.
    Keys(sync::keys::Event),
    /// A path takes smaller datagrams than its link promises.
    PathSize {
        /// The path.
        path: PathId,
        /// Bytes that pass.
        size: usize,
        /// Bytes that the link promises.
        expected: usize,
    },
    /// The disk refused.
    TermNotWritten(String),
}

/// What the control thread tells the sync core.
#[derive(Clone, Debug)]
pub enum Question {
    /// Something happened, or an operator wants something.
    Report(Report),
    /// What heartbeats are to say from now on: hash, policy generation.
    Describe(Box<heartbeat::Report>),
}

/// The core's end of the events: what finds no room is counted.
#[derive(Clone, Debug)]
pub struct EventSink {
    events: SyncSender<Event>,
    lost: Arc<AtomicU64>,
}

impl EventSink {
    /// A bounded channel, and the count of what was lost.
    pub fn channel() -> (Self, Receiver<Event>, Arc<AtomicU64>) {
        let (events, receiver) = sync_channel(EVENTS);
        let lost = Arc::new(AtomicU64::new(0));
        (Self { events, lost: Arc::clone(&lost) }, receiver, lost)
    }

    /// Tells without waiting.
    pub fn tell(&self, event: Event) {
        if self.events.try_send(event).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The machine's status, as the control thread last saw it, and what the core counts beside it.
#[derive(Debug, Default)]
pub struct Shown {
    status: Mutex<Option<(Micros, PairStatus)>>,
    unsent: AtomicU64,
    foreign: AtomicU64,
    announced: AtomicU64,
}

impl Shown {
    /// Replaces the status, unless somebody is just reading it.
    pub fn show(&self, status: impl FnOnce() -> PairStatus, now: Micros) {
        if let Ok(mut shown) = self.status.try_lock() {
            *shown = Some((now, status()));
        }
    }

    /// What happened to frames, and how many announcements were sent.
    pub fn count(&self, frames: Figures, announced: u64) {
        self.unsent.store(frames.unsent, Ordering::Relaxed);
        self.foreign.store(frames.foreign, Ordering::Relaxed);
        self.announced.store(announced, Ordering::Relaxed);
    }

    /// What [`Shown::count`] was told last.
    pub fn counted(&self) -> (Figures, u64) {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let frames = Figures { unsent: load(&self.unsent), foreign: load(&self.foreign) };
        (frames, load(&self.announced))
    }

    /// The last status and its time; `None` before the first.
    pub fn last(&self) -> Option<(Micros, PairStatus)> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
