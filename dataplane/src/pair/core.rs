//! The sync core's loop: datagrams in, the pair's machine, datagrams and orders out.
//!
//! It is the only thread that speaks for the node (decision 32), so it waits for nobody: not for the disk
//! (a thread of its own writes the term), not for the control thread (events that find no room are
//! counted), not for a worker (a full ring is an answer).

use super::announce::Announcer;
use super::cell::{RoleCell, Split, WorkerCell};
use super::second::SecondOpinion;
use super::tables::{Changes, Owners};
use super::term_file::TermFile;
use super::transport::Transports;
use super::{Event, EventSink, Question, Shown, held};
use crate::clock::Clock;
use crate::config::Area;
use crate::worker::polling::Poller;
use crate::worker::stats::WorkerStats;
use engine::Ticks;
use engine::counters::Counters;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::time::Duration;
use sync::heartbeat::{self, Areas, Difference, MAX_WORKERS, ProgressWatch};
use sync::ids::{Micros, PathId, Term};
use sync::membership::{Fitness, Forwarding, Notice, Role};
use sync::pair::{self, Host, Order, Pair, Report};

/// Between two looks at the workers' progress.
const LOOK_EVERY: Micros = Micros::from_millis(20);
/// Between two status snapshots. Whoever asks whether the partner has everything asks for now: a mirror is
/// behind for less than a millisecond, so an answer that is older says nothing about it.
const SHOW_EVERY: Micros = Micros::from_millis(1);
/// Frames taken from the network in one go, at most, before the machine turns.
const INTAKE: usize = 4096;

/// A worker, as the core sees it.
pub struct WorkerSeen {
    /// What it confirms.
    pub cell: Arc<WorkerCell>,
    /// Its turns.
    pub stats: Arc<WorkerStats>,
    /// Its sessions by protocol, among others.
    pub counters: Arc<Counters>,
}

/// What the core is made of.
pub struct CoreParts {
    /// The machine.
    pub pair: Pair,
    /// Dirty rings, end rings, entries.
    pub changes: Changes,
    /// Install rings.
    pub owners: Owners,
    /// Ways to the partner.
    pub transports: Transports,
    /// The role, as workers see it.
    pub role: Arc<RoleCell>,
    /// What workers confirm.
    pub workers: Vec<WorkerSeen>,
    /// The term on disk.
    pub term_file: TermFile,
    /// Who is announced.
    pub announcer: Announcer,
    /// Who asks a silent partner.
    pub second: SecondOpinion,
    /// To the control thread.
    pub events: EventSink,
    /// From the control thread.
    pub questions: Receiver<Question>,
    /// What the control thread sees.
    pub shown: Arc<Shown>,
    /// What heartbeats say beside the machine's own.
    pub description: heartbeat::Report,
    /// How long a worker may stand still.
    pub patience: Micros,
    /// The time.
    pub clock: Clock,
    /// When to sleep.
    pub poller: Poller,
}

/// The sync core, to be run by its thread.
pub struct SyncCore {
    pair: Pair,
    host: Node,
    questions: Receiver<Question>,
    shown: Arc<Shown>,
    watch: ProgressWatch,
    /// The monitors' verdict, without the workers'.
    fitness: Fitness,
    told: Option<Fitness>,
    looked: Micros,
    shown_at: Option<Micros>,
    clock: Clock,
    poller: Poller,
}

/// The node around the machine.
struct Node {
    changes: Changes,
    owners: Owners,
    transports: Transports,
    role: Arc<RoleCell>,
    workers: Vec<WorkerSeen>,
    term_file: TermFile,
    announcer: Announcer,
    second: SecondOpinion,
    events: EventSink,
    description: heartbeat::Report,
    installing: Option<Term>,
    parking: bool,
    prepared: bool,
    /// Role and term that the control thread knows of.
    told: Option<(Role, Term)>,
    now: Micros,
    ticks: Ticks,
}

impl SyncCore {
    /// A core that has not turned yet.
    pub fn new(parts: CoreParts) -> Self {
        let host = Node {
            changes: parts.changes,
            owners: parts.owners,
            transports: parts.transports,
            role: parts.role,
            workers: parts.workers,
            term_file: parts.term_file,
            announcer: parts.announcer,
            second: parts.second,
            events: parts.events,
            description: parts.description,
            installing: None,
            parking: false,
            prepared: false,
            told: None,
            now: Micros(0),
            ticks: Ticks(0),
        };
        let fitness = Fitness { forwarding: Forwarding::Able, config_valid: true, quality: 100, activity: 0 };
        Self {
            pair: parts.pair,
            host,
            questions: parts.questions,
            shown: parts.shown,
            watch: ProgressWatch::new(parts.patience),
            fitness,
            told: None,
            looked: Micros(0),
            shown_at: None,
            clock: parts.clock,
            poller: parts.poller,
        }
    }

    /// Turns until `stop` is set.
    pub fn run(&mut self, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            let cycles = dpdk::cycles();
            let worked = self.turn(cycles);
            if let Some(rest) = self.poller.rest(worked, cycles) {
                let now = self.clock.micros(dpdk::cycles());
                let due = Duration::from_micros(self.pair.deadline().since(now).0);
                std::thread::sleep(rest.min(due));
            }
        }
    }

    /// One turn, begun at `cycles`. True if there was something to do.
    fn turn(&mut self, cycles: u64) -> bool {
        let now = self.clock.micros(cycles);
        self.host.now = now;
        self.host.ticks = self.clock.ticks(cycles);
        self.host.changes.set_time(self.host.ticks);
        let mut worked = self.receive(now);
        worked |= self.ask_and_answer(now);
        self.take_confirmations(now);
        if now.since(self.looked) >= LOOK_EVERY {
            self.looked = now;
            self.look(now);
        }
        self.seek_second_opinion(now);
        self.pair.turn(now, &mut self.host);
        worked |= self.host.changes.took_something() | self.host.owners.moved();
        self.host.announcer.send_due(now, &mut self.host.transports);
        worked |= self.host.transports.flush();
        self.show(now);
        worked
    }

    /// Everything that waits, up to a bound.
    fn receive(&mut self, now: Micros) -> bool {
        let mut taken = 0;
        while taken < INTAKE
            && let Some((path, mut frame)) = self.host.transports.next_frame()
        {
            taken += 1;
            if self.host.second.is_asking()
                && self.host.transports.is_answer(path, &frame, self.host.second.id())
            {
                self.host.second.answered();
                continue;
            }
            let Some((mac, datagram)) = self.host.transports.open(path, &mut frame) else { continue };
            if self.pair.handle(now, path, datagram, &mut self.host).is_ok() {
                self.host.transports.heard(path, mac, &self.host.role);
            }
        }
        taken > 0
    }

    /// While heartbeats are missing the partner is asked by ping, too (S-26).
    fn seek_second_opinion(&mut self, now: Micros) {
        let heard = self.pair.state().paths().iter().filter_map(heartbeat::Path::credit_at).max();
        let Some(sequence) = self.host.second.look(heard.map(|at| now.since(at)), now) else { return };
        if self.host.transports.ping(self.host.second.id(), sequence) {
            self.host.second.asked();
        }
    }

    fn ask_and_answer(&mut self, now: Micros) -> bool {
        let mut asked = false;
        while let Ok(question) = self.questions.try_recv() {
            asked = true;
            match question {
                Question::Report(Report::Fitness(fitness)) => {
                    self.fitness = fitness;
                    self.look(now);
                }
                Question::Report(report) => self.pair.report(report, now, &mut self.host),
                Question::Describe(description) => self.host.description = *description,
            }
        }
        asked
    }

    /// What workers and disk have done.
    fn take_confirmations(&mut self, now: Micros) {
        while let Some(written) = self.host.term_file.poll() {
            match written {
                Ok(term) => self.pair.report(Report::Persisted(term), now, &mut self.host),
                Err(what) => self.host.events.tell(Event::TermNotWritten(what)),
            }
        }
        if let Some(term) = self.host.installing
            && self.host.workers.iter().all(|seen| seen.cell.installed() == term.get())
        {
            self.host.installing = None;
            self.pair.report(Report::Installed(term), now, &mut self.host);
        }
        if self.host.parking && self.host.workers.iter().all(|seen| seen.cell.parked()) {
            self.host.parking = false;
            self.pair.report(Report::Parked, now, &mut self.host);
        }
        if std::mem::take(&mut self.host.prepared) {
            self.pair.report(Report::TargetPrepared, now, &mut self.host);
        }
    }

    /// The workers' progress, the node's fitness.
    fn look(&mut self, now: Micros) {
        let mut words = [0; MAX_WORKERS];
        let count = self.host.workers.len().min(MAX_WORKERS);
        for (word, seen) in words.iter_mut().zip(&self.host.workers) {
            *word = seen.stats.progress() as u32;
        }
        let stuck = self.watch.look(words.get(..count).unwrap_or_default(), now);
        self.host.description.held = held(self.host.workers.iter().map(|seen| &*seen.counters));
        self.host.description.workers = count as u8;
        self.host.description.progress = words;
        let forwarding = if stuck.is_some() { Forwarding::Fault } else { self.fitness.forwarding };
        let activity = self.host.workers.iter().map(|seen| seen.cell.activity()).sum();
        let fitness = Fitness { forwarding, activity, ..self.fitness };
        if self.told != Some(fitness) {
            self.told = Some(fitness);
            self.pair.report(Report::Fitness(fitness), now, &mut self.host);
        }
    }

    /// What the control thread sees. At the end of a turn: what this turn took and sent is in it.
    fn show(&mut self, now: Micros) {
        if self.shown_at.is_some_and(|at| now.since(at) < SHOW_EVERY) {
            return;
        }
        self.shown_at = Some(now);
        self.shown.count(self.host.transports.figures(), self.host.announcer.sent());
        self.shown.show(|| self.pair.status(now), now);
    }
}

impl Node {
    /// While this node is active apart from its partner, workers note whose sessions have traffic: that
    /// decides who stays when the nodes meet again, and what is merged (decisions 34 and 35).
    fn follow_split(&mut self, split: pair::Split) {
        if split.lasts {
            let [since, noticed] = [split.since, split.noticed].map(|at| self.tick_of(at));
            self.role.begin_apart(Split { since, noticed });
        } else {
            self.role.end_apart();
        }
    }

    /// The tick of a time before this turn, or the one before.
    fn tick_of(&self, at: Micros) -> Ticks {
        let ago_ms = self.now.since(at).0.div_ceil(1000).min(u64::from(Ticks::MAX_SPAN_MS));
        Ticks(self.ticks.0.wrapping_sub(ago_ms as u32))
    }
}

impl Host for Node {
    type Source = Changes;
    type Sink = Owners;

    fn tables(&mut self) -> (&mut Changes, &mut Owners) {
        (&mut self.changes, &mut self.owners)
    }

    fn send(&mut self, path: PathId, datagram: &[u8]) -> bool {
        self.transports.send(path, datagram)
    }

    fn carry_out(&mut self, order: Order) {
        match order {
            Order::Role(word) => {
                self.role.show(word);
                if word.role != Role::Active {
                    self.role.set_mirror_age(Micros(0));
                    self.announcer.stop();
                }
                let shown = (word.role, word.term);
                if self.told.replace(shown) != Some(shown) {
                    self.events.tell(Event::Role { role: word.role, term: word.term });
                }
            }
            Order::Persist(term) => self.term_file.write(term),
            Order::Install(term) => {
                self.role.ask_install(term);
                self.installing = Some(term);
            }
            Order::Attract => self.announcer.burst(self.now),
            Order::Announce => self.announcer.once(self.now),
            // Next hops are resolved as sessions arrive, and the policy changes by command only.
            Order::PrepareTarget => self.prepared = true,
            Order::Park => {
                self.role.set_park(true);
                self.parking = true;
            }
            Order::Unpark => {
                self.role.set_park(false);
                self.parking = false;
            }
            Order::Redirect(until) => {
                self.role.redirect(until);
                self.role.set_park(false);
                self.parking = false;
            }
            Order::Split(split) => self.follow_split(split),
            Order::Notice(Notice::PeerGone(loss)) => {
                self.events.tell(Event::PeerGone { loss, icmp: self.second.verdict() });
            }
            Order::Notice(notice) => self.events.tell(Event::Notice(notice)),
            Order::Stream(event) => self.events.tell(Event::Stream(event)),
            Order::Keys(event) => self.events.tell(Event::Keys(event)),
            Order::PathSize { path, size, expected } => {
                self.events.tell(Event::PathSize { path, size, expected });
            }
        }
    }

    fn mirror_age(&mut self, age: Micros) {
        self.role.set_mirror_age(age);
    }

    fn differs(&mut self, difference: Option<Difference>) {
        let areas = match difference {
            Some(Difference::Config(areas)) => areas,
            _ => Areas::default(),
        };
        self.owners.set_foreign(Area::changes_zones(areas));
    }

    fn describe(&self) -> heartbeat::Report {
        self.description.clone()
    }
}

#[cfg(test)]
mod tests;
