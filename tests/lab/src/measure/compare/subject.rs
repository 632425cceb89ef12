//! What is compared, behind one door: a pair that is filled, killed, revived and asked.

use std::{
    collections::HashSet,
    thread,
    time::{Duration, Instant},
};

use rustix::{
    process::{Pid, Signal},
    thread::{CpuSet, sched_setaffinity},
};

use crate::{
    demo::pair::wait_pair,
    error::{LabError, Result},
    growth::Growth,
    guard::{Lab, LabOptions},
    measure::Setting,
    netns,
    pair::PairSettings,
    pairview::PairView,
    process::ProcessRef,
    rival::{Cache, Rival, RivalOptions, wait_for_role},
    topology::Host,
};

/// How long anything may take to be whole.
const LONG: Duration = Duration::from_secs(60);
/// Sessions that may be missing of so many without the mirror counting as incomplete: what came and went in
/// the moment of the question.
const SLACK_OF: u64 = 10_000;
const SLACK: u64 = 4;
/// How long the last of them are waited for when nearly all are there.
const LAST: Duration = Duration::from_secs(10);
/// The server's port of the connections that are looked at.
pub(super) const ECHO_PORT: u16 = 7450;

/// What is compared, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum System {
    /// Our own pair.
    Understudy,
    /// conntrackd, into the kernel's table at once.
    Direct,
    /// conntrackd's default: a cache that is committed at a takeover.
    Cached,
}

impl System {
    pub(super) const ALL: [System; 3] = [System::Understudy, System::Direct, System::Cached];

    pub(super) const fn name(self) -> &'static str {
        match self {
            System::Understudy => "Understudy",
            System::Direct => "conntrackd (no external cache)",
            System::Cached => "conntrackd (external cache)",
        }
    }

    /// Puts it up with room for so many sessions; node a is the active one.
    pub(super) fn up(self, sessions: u32, patience: Duration) -> Result<Box<dyn Subject>> {
        Ok(match self {
            System::Understudy => Box::new(Own::up(sessions, patience, true)?),
            System::Direct => Box::new(Kernel::up(Cache::None, patience)?),
            System::Cached => Box::new(Kernel::up(Cache::External, patience)?),
        })
    }
}

/// How far a standby is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Mirrored {
    /// Sessions that it lacks although nothing more comes; 0 when it is complete.
    pub(super) missing: u64,
    /// How long it took.
    pub(super) took: Duration,
}

/// A pair under test; node a is the active one at first.
pub(super) trait Subject {
    /// Sessions on a node.
    fn sessions(&mut self, node: Host) -> Result<u64>;
    /// Waits until a standby was told of so many, or no more come; how many.
    fn wait_mirrored(&mut self, standby: Host, wanted: u64) -> Result<Growth>;
    /// Processor time spent on syncing so far, on both nodes.
    fn sync_cpu(&mut self) -> Result<Duration>;
    /// Waits until the active node's partner is ready to take over, or as ready as it gets, and says how long
    /// that took from a moment on.
    fn settle(&mut self, active: Host, since: Instant) -> Result<Mirrored>;
    /// The node's machine dies: its programs, and its cables to all others; when.
    fn kill(&mut self, node: Host) -> Result<Instant>;
    /// It is back and has forgotten everything; when its programs were started.
    fn revive(&mut self, node: Host) -> Result<Instant>;
    /// How long making a mirror usable takes, where that is a step of its own.
    fn commit(&mut self, standby: Host) -> Result<Option<Duration>>;
    /// Keeps a node's forwarding on one processor, or lets it go again.
    fn pin(&mut self, node: Host, processor: Option<usize>) -> Result<()>;
    /// What warns an operator now, looked for on both nodes; `since` is a number of lines of each log.
    fn warnings(&mut self, since: &LogPlace) -> Result<Vec<String>>;
    /// How long the logs are.
    fn log_place(&mut self) -> Result<LogPlace>;
}

/// Lines of each log of each node.
pub(super) type LogPlace = Vec<usize>;

/// Our own pair.
pub(super) struct Own {
    lab: Lab,
}

impl Own {
    /// `fallback`: whether data ports carry the sessions when no sync link does, which is the default.
    pub(super) fn up(sessions: u32, patience: Duration, fallback: bool) -> Result<Self> {
        // Huge pages are the machine's, and whoever else measures may take them between one start and the next.
        let mut options = LabOptions { patience, ..LabOptions::default() };
        options = options.overlay("[eal]\nhuge-pages = \"never\"\n");
        if !fallback {
            options = options.overlay("[pair]\nlan-fallback = false\n");
        }
        let setting = Setting { pair: PairSettings::default(), sessions, options };
        let mut lab = Lab::up(&setting.lab_options())?;
        wait_pair(&mut lab, Host::A)?;
        Ok(Self { lab })
    }

    fn view(&mut self, node: Host) -> Result<PairView> {
        Ok(PairView::of(&self.lab.node_at(node)?.control().ask("status")?))
    }

    fn process(&mut self, node: Host) -> Result<ProcessRef> {
        let process = self.lab.node_at(node)?.process();
        process.ok_or_else(|| LabError::Config(format!("node {} does not run", node.name())))
    }

    fn log_lines(&mut self) -> Result<Vec<Vec<String>>> {
        Host::NODES
            .iter()
            .map(|node| Ok(self.lab.node_at(*node)?.log().lines().map(str::to_owned).collect()))
            .collect()
    }
}

impl Subject for Own {
    fn sessions(&mut self, node: Host) -> Result<u64> {
        Ok(self.view(node)?.sessions)
    }

    fn wait_mirrored(&mut self, standby: Host, wanted: u64) -> Result<Growth> {
        let deadline = Instant::now() + LONG;
        let mut have = Growth::new(Instant::now());
        loop {
            let (active, standby) = (self.view(standby.partner())?, self.view(standby)?);
            let now = Instant::now();
            have.see(standby.sessions, now);
            if standby.sessions >= wanted && active.unprotected == 0 {
                // Only now are they more than there: they are acknowledged.
                return Ok(Growth { since: now, ..have });
            }
            if now > deadline {
                return Ok(have);
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Our sync cores, and all of node b: its worker does nothing but store.
    fn sync_cpu(&mut self) -> Result<Duration> {
        let sender = self.process(Host::A)?.thread_cpu_time("sync-core");
        let receiver = self.process(Host::B)?.cpu_time();
        let both = sender.zip(receiver).map(|(sender, receiver)| sender + receiver);
        both.ok_or_else(|| LabError::Config("a node does not say what its sync core has used".into()))
    }

    fn settle(&mut self, active: Host, since: Instant) -> Result<Mirrored> {
        wait_pair(&mut self.lab, active)?;
        let took = since.elapsed();
        let (has, mirror) = (self.view(active)?.sessions, self.view(active.partner())?.sessions);
        Ok(Mirrored { missing: missing(has, mirror), took })
    }

    fn kill(&mut self, node: Host) -> Result<Instant> {
        let process = self.process(node)?;
        let at = Instant::now();
        if !process.signal(Signal::KILL) {
            return Err(LabError::Config(format!("node {} was dead already", node.name())));
        }
        netns::plug(node, false)?;
        Ok(at)
    }

    fn revive(&mut self, node: Host) -> Result<Instant> {
        self.lab.node_at(node)?.stop();
        netns::plug(node, true)?;
        let started = Instant::now();
        self.lab.start(node)?;
        Ok(started)
    }

    fn commit(&mut self, _: Host) -> Result<Option<Duration>> {
        Ok(None)
    }

    fn pin(&mut self, node: Host, processor: Option<usize>) -> Result<()> {
        let workers = self.process(node)?.threads_named("worker-0");
        if workers.is_empty() {
            return Err(LabError::Config(format!("node {} has no thread worker-0", node.name())));
        }
        for thread in workers {
            sched_setaffinity(Pid::from_raw(thread), &processors(processor))
                .map_err(LabError::errno("keep a worker on a processor"))?;
        }
        Ok(())
    }

    fn warnings(&mut self, since: &LogPlace) -> Result<Vec<String>> {
        let said = |what: &serde_json::Value| what.as_str().unwrap_or("?").to_owned();
        let mut found = Vec::new();
        for node in Host::NODES {
            let status = self.lab.node_at(node)?.control().ask("status")?;
            let pair = &status["pair"];
            if node == Host::A {
                let state = said(&pair["sync"]["state"]);
                found.push(format!("status: sync {state}, {} unprotected", pair["sync"]["unprotected"]));
            }
            let alarms = pair["alarms"].as_array().into_iter().flatten();
            found.extend(alarms.map(|alarm| format!("alarm {}", said(&alarm["name"]))));
        }
        let logs = self.log_lines()?;
        for (log, since) in logs.iter().zip(since) {
            let fresh = log.iter().skip(*since).filter_map(|line| line.split_once(" event=\""));
            found.extend(fresh.filter_map(|(_, rest)| Some(format!("event {}", rest.split('"').next()?))));
        }
        let mut told = HashSet::new();
        found.retain(|warning| told.insert(warning.clone()));
        Ok(found)
    }

    fn log_place(&mut self) -> Result<LogPlace> {
        Ok(self.log_lines()?.iter().map(Vec::len).collect())
    }
}

/// One processor, or all of them.
pub(super) fn processors(only: Option<usize>) -> CpuSet {
    let mut set = CpuSet::new();
    match only {
        Some(processor) => set.set(processor),
        None => (0..CpuSet::MAX_CPU).for_each(|processor| set.set(processor)),
    }
    set
}

fn missing(has: u64, mirror: u64) -> u64 {
    let missing = has.saturating_sub(mirror);
    if missing <= slack(has) { 0 } else { missing }
}

const fn slack(sessions: u64) -> u64 {
    SLACK + sessions / SLACK_OF
}

/// What comes with the distribution.
pub(super) struct Kernel {
    pair: Rival,
    cache: Cache,
}

impl Kernel {
    pub(super) fn up(cache: Cache, patience: Duration) -> Result<Self> {
        Ok(Self { pair: Rival::up(RivalOptions { cache, advert_ms: 100 }, patience)?, cache })
    }

    fn log_lines(&self) -> Result<Vec<Vec<String>>> {
        let logs = Host::NODES.iter().map(|node| self.pair.logs(*node)).collect::<Result<Vec<_>>>()?;
        Ok(logs.into_iter().flatten().map(|log| log.lines().map(str::to_owned).collect()).collect())
    }
}

impl Subject for Kernel {
    fn sessions(&mut self, node: Host) -> Result<u64> {
        self.pair.sessions(node)
    }

    fn wait_mirrored(&mut self, standby: Host, wanted: u64) -> Result<Growth> {
        self.pair.wait_mirrored(standby, wanted, LONG)
    }

    fn sync_cpu(&mut self) -> Result<Duration> {
        self.pair.cpu()
    }

    /// All of them, to the last: what is looked at after a death are the youngest.
    fn settle(&mut self, active: Host, since: Instant) -> Result<Mirrored> {
        wait_for_role(active)?;
        let standby = active.partner();
        let wanted = self.pair.to_tell(active)?;
        let mut told = self.pair.wait_mirrored(standby, wanted.saturating_sub(slack(wanted)), LONG)?;
        let deadline = Instant::now() + LAST;
        loop {
            let (wanted, have) = (self.pair.to_tell(active)?, self.pair.mirrored(standby)?);
            let now = Instant::now();
            told.see(have, now);
            if have >= wanted || now > deadline {
                // Those few that never come are waited for, and that is no part of what the others took.
                let end = if have >= wanted { now } else { told.since };
                let took = end.saturating_duration_since(since);
                return Ok(Mirrored { missing: missing(wanted, have), took });
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn kill(&mut self, node: Host) -> Result<Instant> {
        self.pair.kill(node)
    }

    fn revive(&mut self, node: Host) -> Result<Instant> {
        self.pair.revive(node)
    }

    fn commit(&mut self, standby: Host) -> Result<Option<Duration>> {
        if self.cache == Cache::None {
            return Ok(None);
        }
        self.settle(standby.partner(), Instant::now())?;
        self.pair.command(standby, "-c").map(Some)
    }

    fn pin(&mut self, node: Host, processor: Option<usize>) -> Result<()> {
        self.pair.steer(node, processor)
    }

    fn warnings(&mut self, since: &LogPlace) -> Result<Vec<String>> {
        let logs = self.log_lines()?;
        let fresh = logs.iter().zip(since).flat_map(|(log, since)| log.iter().skip(*since));
        // Without moment and process, so that the same said twice is one.
        let mut said: Vec<String> = fresh
            .map(|line| {
                format!(
                    "log: {}",
                    line.rsplit_once("(pid=").map_or(line.as_str(), |(_, rest)| {
                        rest.split_once(") ").map_or(rest, |(_, said)| said)
                    })
                )
            })
            .collect();
        said.sort();
        said.dedup();
        Ok(said)
    }

    fn log_place(&mut self) -> Result<LogPlace> {
        Ok(self.log_lines()?.iter().map(Vec::len).collect())
    }
}
