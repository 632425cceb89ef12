//! The control thread's state: everything that is not a worker's.

use super::events::EventLog;
use super::link::LinkWatch;
use super::log::LogControl;
use super::meters::{BusyMeter, Hits, RuleMeter};
use super::names::Names;
use super::neighbours::Neighbourhood;
use super::orders::Orders;
use super::partner::Partner;
use super::server::{Reply, Responder, answer_line};
use super::sessions::{Context, SessionWalk};
use super::terminate::Terminations;
use super::view;
use crate::clock::Clock;
use crate::config::Config;
use crate::pair::CoreThread;
use crate::ruleset::Ruleset;
use crate::worker::WorkerThread;
use crate::worker::mailbox::{Mail, SmallFrame};
use crate::worker::stats::WorkerStats;
use dpdk::{Mempool, PortStats};
use engine::counters::Counters;
use engine::publish::Publisher;
use engine::snapshot::Snapshot;
use engine::table::SlotReader;
use engine::{Notice, PortId, RuleId};
use proto::{Command, Reload};
use rtrb::{Consumer, Producer};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use wire::MacAddr;

/// Notices taken from one worker before the others have their turn.
const NOTICES_IN_A_ROW: usize = 16;
/// How long notices are taken before other work has its turn.
const NOTICES_FOR: Duration = Duration::from_millis(2);
const SECOND: Duration = Duration::from_secs(1);
/// Between two looks at the links.
const LINKS_EVERY: Duration = Duration::from_millis(100);

/// What stays as it was at the start.
pub struct Facts {
    /// When the process started.
    pub started: Instant,
    /// Pages of the session table.
    pub page_bytes: u64,
    /// Bytes of the session table.
    pub table_bytes: u64,
    /// Whether packet buffers lie in huge pages.
    pub eal_huge_pages: bool,
    /// What an operator should know about the start.
    pub warnings: Vec<String>,
}

/// A data port, as far as the control thread has to do with it.
pub struct DataPort {
    /// The port: stopped and closed when dropped, after its queues.
    pub port: dpdk::Port,
    /// Its MAC address.
    pub mac: MacAddr,
    /// Its MTU.
    pub mtu: u16,
    /// The kernel interface that it sits on, if it does.
    pub interface: Option<String>,
    /// The link, as it was last seen.
    pub link_up: bool,
}

impl DataPort {
    /// A port that was just started.
    pub fn new(port: dpdk::Port, mac: MacAddr, mtu: u16, interface: Option<String>) -> Self {
        let link_up = port.link().is_ok_and(|link| link.up);
        Self { port, mac, mtu, interface, link_up }
    }

    /// Its counters; zeros where the driver refuses.
    pub fn stats(&self) -> PortStats {
        self.port.stats().unwrap_or_default()
    }
}

/// A worker, seen from outside.
pub struct WorkerLink {
    /// Its figures.
    pub stats: Arc<WorkerStats>,
    /// Its sessions, for reading.
    pub shard: SlotReader,
    /// Its counters.
    pub counters: Arc<Counters>,
    /// What it tells.
    pub notices: Consumer<Notice>,
    /// What it is told.
    pub mail: Producer<Mail>,
    /// The CPU that it is pinned to.
    pub cpu: Option<u16>,
    /// How busy it is.
    pub busy: BusyMeter,
    /// Its thread; none in tests that turn it by hand.
    pub thread: Option<WorkerThread>,
}

/// What [`Core::new`] is made of.
pub struct CoreParts {
    /// As at the start.
    pub facts: Facts,
    /// The configuration in force and its file.
    pub config: Config,
    /// Where SIGHUP finds the next one.
    pub config_path: PathBuf,
    /// What follows from it.
    pub ruleset: Ruleset,
    /// Where snapshots go; `snapshot` is the first one.
    pub publisher: Publisher<Snapshot>,
    /// What is published.
    pub snapshot: Arc<Snapshot>,
    /// By [`PortId`].
    pub ports: Vec<DataPort>,
    /// By worker.
    pub workers: Vec<WorkerLink>,
    /// Neighbours.
    pub neighbourhood: Neighbourhood,
    /// The time.
    pub clock: Clock,
    /// Packet buffers.
    pub pool: Mempool,
    /// The running log; none in tests.
    pub log: Option<LogControl>,
    /// The sync core, in a pair.
    pub partner: Option<Partner>,
}

/// The control thread's state.
pub struct Core {
    pub(super) facts: Facts,
    pub(super) config: Config,
    pub(super) config_path: PathBuf,
    pub(super) ruleset: Ruleset,
    pub(super) generation: u64,
    pub(super) publisher: Publisher<Snapshot>,
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) ports: Vec<DataPort>,
    pub(super) workers: Vec<WorkerLink>,
    pub(super) counters: Vec<Arc<Counters>>,
    pub(super) shards: Arc<[SlotReader]>,
    pub(super) neighbourhood: Neighbourhood,
    pub(super) names: Arc<Names>,
    pub(super) events: EventLog,
    pub(super) rule_meter: RuleMeter,
    pub(super) last_reload: Option<Reload>,
    /// Settings on disk that wait for a restart.
    pub(super) restart_needed: Vec<String>,
    pub(super) clock: Clock,
    pub(super) pool: Mempool,
    pub(super) log: Option<LogControl>,
    pub(super) partner: Option<Partner>,
    pub(super) links: Option<LinkWatch>,
    pub(super) orders: Orders,
    pub(super) terminations: Terminations,
    looked: Instant,
    links_looked: Instant,
    unreclaimed: bool,
}

impl Core {
    /// A control thread that has done nothing yet.
    pub fn new(parts: CoreParts) -> Self {
        let now = Instant::now();
        let links = parts.partner.iter().flat_map(|partner| partner.control.interfaces.iter().flatten());
        let ports = parts.ports.iter().filter_map(|port| port.interface.as_ref());
        let interfaces: Vec<String> = ports.chain(links).cloned().collect();
        Self {
            links: watch_links(interfaces),
            links_looked: now,
            generation: u64::from(parts.snapshot.generation),
            counters: parts.workers.iter().map(|worker| Arc::clone(&worker.counters)).collect(),
            shards: parts.workers.iter().map(|worker| worker.shard).collect(),
            names: Arc::new(Names::new(&parts.config, None)),
            events: EventLog::new(now),
            rule_meter: RuleMeter::new(engine::policy::COUNTER_SLOTS),
            last_reload: Some(Reload { at_ms: unix_ms(), ok: true, error: None }),
            restart_needed: Vec::new(),
            looked: now,
            unreclaimed: false,
            facts: parts.facts,
            config: parts.config,
            config_path: parts.config_path,
            ruleset: parts.ruleset,
            publisher: parts.publisher,
            snapshot: parts.snapshot,
            ports: parts.ports,
            workers: parts.workers,
            neighbourhood: parts.neighbourhood,
            clock: parts.clock,
            pool: parts.pool,
            log: parts.log,
            partner: parts.partner,
            orders: Orders::default(),
            terminations: Terminations::default(),
        }
    }

    /// The CPU that a worker is to be pinned to.
    pub fn worker_cpu(&self, worker: usize) -> Option<u16> {
        self.workers.get(worker).and_then(|worker| worker.cpu)
    }

    /// A worker's thread runs.
    pub fn worker_started(&mut self, worker: usize, thread: WorkerThread) {
        if let Some(worker) = self.workers.get_mut(worker) {
            worker.thread = Some(thread);
        }
    }

    /// The sync core's thread runs.
    pub fn sync_core_started(&mut self, thread: CoreThread) {
        if let Some(partner) = &mut self.partner {
            partner.thread = Some(thread);
        }
    }

    /// Says that packets are forwarded from now on.
    pub fn announce_ready(&self, took: Duration) {
        let Config { node, ports, rules, sessions, .. } = &self.config;
        tracing::info!(
            event = "ready",
            node = node.name,
            ports = ports.len(),
            rules = rules.len(),
            workers = self.workers.len(),
            sessions = sessions.capacity,
            page_bytes = self.facts.page_bytes,
            socket = node.control_socket.display().to_string(),
            start_ms = took.as_millis() as u64,
            "ready"
        );
    }

    /// Everything that is due: notices, questions, tables, figures. True if notices are left over.
    pub fn turn(&mut self, now: Instant) -> bool {
        let ticks = self.clock.ticks(dpdk::cycles());
        let left_over =
            self.take_notices((ticks, now)) | self.hear_partner(now) | self.turn_terminations(now);
        let (neighbourhood, workers) = (&mut self.neighbourhood, &mut self.workers);
        neighbourhood.tick(ticks, &mut |port, frame| post(workers, port, frame));
        if let Some(table) = self.neighbourhood.take_table(now) {
            let next = Snapshot { neighbours: Arc::new(table), ..Snapshot::clone(&self.snapshot) };
            self.publish(next);
        }
        if self.unreclaimed {
            self.unreclaimed = self.publisher.reclaim() > 0;
        }
        self.events.tick(now);
        if now.duration_since(self.links_looked) >= self.links_every() {
            self.links_looked = now;
            self.look_at_links();
            self.tell_links();
        }
        if now.duration_since(self.looked) >= SECOND {
            self.looked = now;
            self.look(now);
        }
        left_over
    }

    /// Workers' notices, in turn, for a while: a flood of them must not keep the operator waiting. What
    /// stays too long is lost where its ring fills up, and counted there.
    fn take_notices(&mut self, now: (engine::Ticks, Instant)) -> bool {
        let began = Instant::now();
        loop {
            let mut taken = 0;
            for at in 0..self.workers.len() {
                for _ in 0..NOTICES_IN_A_ROW {
                    let Some(Ok(notice)) = self.workers.get_mut(at).map(|worker| worker.notices.pop()) else {
                        break;
                    };
                    self.notice(&notice, now);
                    taken += 1;
                }
            }
            if taken == 0 || began.elapsed() >= NOTICES_FOR {
                return taken > 0;
            }
        }
    }

    /// True while news from workers are near and the next turn should come soon.
    pub fn is_hot(&self, now: Instant) -> bool {
        self.neighbourhood.is_hot(now)
    }

    /// In a pair a link that goes down counts at once.
    fn links_every(&self) -> Duration {
        if self.partner.is_some() { Duration::ZERO } else { LINKS_EVERY }
    }

    /// True if the sync core's thread is gone, which it must not be.
    pub fn lost_sync_core(&self) -> bool {
        let thread = self.partner.as_ref().and_then(|partner| partner.thread.as_ref());
        thread.is_some_and(CoreThread::is_finished)
    }

    /// A worker whose thread is gone, which must not be.
    pub fn lost_worker(&self) -> Option<usize> {
        self.workers.iter().position(|worker| worker.thread.as_ref().is_some_and(WorkerThread::is_finished))
    }

    /// Ends all workers, then closes all ports. False if a worker had ended by a panic.
    pub fn shut_down(self) -> bool {
        // First of all: nobody speaks for workers that end.
        drop(self.partner);
        let threads: Vec<WorkerThread> =
            self.workers.into_iter().filter_map(|worker| worker.thread).collect();
        threads.iter().for_each(WorkerThread::tell_to_stop);
        let panicked = threads.into_iter().map(WorkerThread::stop).filter(|orderly| !orderly).count();
        drop(self.ports);
        panicked == 0
    }

    fn notice(&mut self, notice: &Notice, now: (engine::Ticks, Instant)) {
        let (neighbourhood, workers) = (&mut self.neighbourhood, &mut self.workers);
        match notice {
            Notice::NeighbourWanted { .. } | Notice::NeighbourHeard { .. } => {
                neighbourhood.notice(notice, now, &mut |port, frame| post(workers, port, frame));
            }
            _ => {
                if let Notice::SessionReset { key, reset } = notice {
                    self.terminations.ended(key, *reset);
                }
                self.events.notice(notice, &self.names, now.1);
            }
        }
    }

    pub(super) fn publish(&mut self, next: Snapshot) {
        self.snapshot = Arc::new(next);
        self.publisher.publish(Arc::clone(&self.snapshot));
        self.unreclaimed = true;
    }

    /// Once a second.
    fn look(&mut self, now: Instant) {
        let cycles = dpdk::cycles();
        for (id, worker) in self.workers.iter_mut().enumerate() {
            let was_stuck = worker.busy.is_stuck();
            worker.busy.look(worker.stats.busy_cycles(), worker.stats.progress(), cycles);
            match (was_stuck, worker.busy.is_stuck()) {
                (false, true) => tracing::error!(
                    event = "worker-stuck",
                    worker = id,
                    "a worker has not finished a turn for a second"
                ),
                (true, false) => tracing::warn!(event = "worker-resumed", worker = id, "the worker goes on"),
                _ => {}
            }
        }
        let decided = self.ruleset.policy.decisions().iter().map(|decision| decision.slot);
        self.rule_meter.look(decided.chain([0]), &self.counters, now);
    }

    fn look_at_links(&mut self) {
        if let Some(links) = &mut self.links {
            links.update();
        }
        for (port, settings) in self.ports.iter_mut().zip(&self.config.ports) {
            let kernel = port.interface.as_deref().and_then(|name| self.links.as_ref()?.is_up(name));
            let up = kernel.unwrap_or_else(|| port.port.link().is_ok_and(|link| link.up));
            if up != std::mem::replace(&mut port.link_up, up) {
                let state = if up { "up" } else { "down" };
                tracing::warn!(event = "link", port = settings.name, state, "the link changed");
            }
        }
    }

    pub(super) fn rule_hits(&self, rule: RuleId) -> Hits {
        let slot = self.ruleset.slots.slot(rule);
        slot.map(|slot| self.rule_meter.hits(slot, &self.counters, Instant::now())).unwrap_or_default()
    }

    /// What an operator should know now.
    pub(super) fn warnings(&self) -> Vec<String> {
        let mut warnings = self.facts.warnings.clone();
        warnings.extend(self.config.warnings.iter().cloned());
        if let Some(Reload { ok: false, .. }) = self.last_reload {
            warnings.push("the configuration on disk is not in force: the last reload failed".to_owned());
        }
        if !self.restart_needed.is_empty() {
            warnings.push(format!(
                "these settings take effect after a restart: {}",
                self.restart_needed.join(", ")
            ));
        }
        for (id, worker) in self.workers.iter().enumerate() {
            if worker.busy.is_stuck() {
                warnings.push(format!("worker {id} is stuck: it has not finished a turn for a second"));
            }
        }
        warnings
    }
}

#[cfg(test)]
impl Core {
    pub(crate) fn event_total(&self, event: engine::counters::Event) -> u64 {
        view::event(self, event)
    }

    pub(crate) fn drop_total(&self, name: &str) -> u64 {
        let drops = view::counters(self).drops;
        drops.iter().find(|drop| drop.name == name).map(|drop| drop.packets).unwrap()
    }

    pub(crate) fn sessions_by_worker(&self) -> Vec<u64> {
        self.counters.iter().map(|counters| counters.sessions().iter().sum()).collect()
    }

    pub(crate) fn mail(&mut self, worker: usize, mail: Mail) {
        self.workers[worker].mail.push(mail).unwrap();
    }

    pub(crate) fn lost_mail(&self) -> u64 {
        self.workers.iter().map(|worker| worker.stats.lost_mail()).sum()
    }

    /// In place of the shards, one that is empty and large.
    pub(crate) fn enlarge_shard(&mut self, slots: u32) {
        let memory = engine::table::Memory::on_heap(slots).unwrap();
        let hash_key = engine::table::HashKey::new([1, 2, 3]);
        let config = engine::table::ShardConfig { half_open_max: 1, hash_key, term: 1 };
        self.shards = Arc::new([engine::table::Shard::new(memory, config, engine::Ticks(0)).reader()]);
    }

    pub(crate) fn set_config_path(&mut self, path: &std::path::Path) {
        self.config_path = path.to_owned();
    }

    pub(crate) fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }
}

impl Responder for Core {
    fn respond(&mut self, command: Command) -> Reply {
        let line = match command {
            Command::Status => answer_line(&view::status(self)),
            Command::Counters => answer_line(&view::counters(self)),
            Command::Rules => answer_line(&view::rules(self)),
            Command::Neighbours => answer_line(&view::neighbours(self)),
            Command::Routes => answer_line(&view::routes(self)),
            Command::Sessions(args) => {
                let context = Context {
                    shards: Arc::clone(&self.shards),
                    names: Arc::clone(&self.names),
                    timeouts: self.ruleset.timeouts,
                    clock: self.clock,
                    mirroring: self.mirroring(),
                };
                return Reply::Walk(Box::new(SessionWalk::new(context, args)));
            }
            Command::Terminate(args) => return self.terminate(args, Instant::now()),
            Command::Debug(args) => return self.damage(args),
            for_pair => return self.respond_for_pair(for_pair, Instant::now()),
        };
        Reply::Line(line)
    }
}

/// Hands a frame to worker 0, which has a transmit queue on every port. False if its mailbox is full.
fn post(workers: &mut [WorkerLink], port: PortId, frame: SmallFrame) -> bool {
    workers.first_mut().is_some_and(|worker| worker.mail.push(Mail::Send { port, frame }).is_ok())
}

/// Without it, ports on kernel interfaces show what their drivers say.
fn watch_links(interfaces: Vec<String>) -> Option<LinkWatch> {
    if interfaces.is_empty() {
        return None;
    }
    match LinkWatch::open(interfaces.into_iter()) {
        Ok(watch) => Some(watch),
        Err(error) => {
            tracing::warn!(event = "no-link-watch", %error, "the kernel's link states cannot be followed");
            None
        }
    }
}

/// Milliseconds since 1970.
pub(super) fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
