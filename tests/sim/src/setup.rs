//! Everything that a course is made of, before it begins.

use crate::link::Quality;
use crate::tables::{Defect, Size};
use sync::datagram::Kind;
use sync::ids::{Micros, NodeId};
use sync::membership::{Command, Config, OnActiveRestart};
use sync::{keys, stream};

/// What goes wrong, or is asked for.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Fault {
    /// A direction of a path stops to carry anything; `from` names the sender, none means both.
    Cut {
        /// Which path.
        path: usize,
        /// Who is not heard any more.
        from: Option<usize>,
        /// Both ends see that their link is down.
        carrier: bool,
    },
    /// A path works again, as it did in the beginning.
    Mend {
        /// Which path.
        path: usize,
    },
    /// A path becomes worse, or better, in both directions.
    Quality {
        /// Which path.
        path: usize,
        /// How it works from now on.
        quality: Quality,
    },
    /// A node ends, its memory with it.
    Crash {
        /// Which node.
        node: usize,
        /// Its stable storage is lost too.
        disk: bool,
    },
    /// It starts again.
    Start {
        /// Which node.
        node: usize,
    },
    /// A whole node stops for so long.
    Freeze {
        /// Which node.
        node: usize,
        /// For how long.
        us: u64,
    },
    /// Its sync core hangs for so long, its workers run on.
    Hang {
        /// Which node.
        node: usize,
        /// For how long.
        us: u64,
    },
    /// One worker hangs for so long.
    Stick {
        /// Which node.
        node: usize,
        /// Which worker.
        worker: usize,
        /// For how long.
        us: u64,
    },
    /// A node loses its networks, or has them again.
    Isolate {
        /// Which node.
        node: usize,
        /// Whether it is cut off.
        off: bool,
    },
    /// Its quality becomes that.
    Fitness {
        /// Which node.
        node: usize,
        /// 0..=100.
        quality: u8,
    },
    /// An operator asks.
    Command {
        /// Which node.
        node: usize,
        /// For what.
        command: Command,
    },
    /// An operator compares both tables.
    Verify {
        /// On which node.
        node: usize,
    },
    /// An operator sends everything again.
    Resync {
        /// On which node.
        node: usize,
    },
    /// Something changes (0), drops (1) or adds (2) a session behind the protocol's back.
    Damage {
        /// On which node.
        node: usize,
        /// How.
        kind: u8,
    },
    /// Datagrams of one kind never arrive any more, on any path; none ends it.
    LoseKind(Option<Kind>),
    /// Somebody sends a node's recorded heartbeats once more.
    Replay {
        /// Whose.
        node: usize,
    },
    /// The users' packets per second from now on.
    Load {
        /// Packets per second.
        rate: u32,
    },
}

/// A way between the nodes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PathSetup {
    /// Sessions may go over it.
    pub carries_sync: bool,
    /// How it works in the beginning.
    pub quality: Quality,
    /// What its ends believe to be its largest payload.
    pub expected: usize,
    /// Bytes of sessions a second that it is used for; 0 for no limit.
    pub byte_rate: u64,
}

impl PathSetup {
    /// A sync link.
    pub const SYNC: Self =
        Self { carries_sync: true, quality: Quality::CABLE, expected: 1_472, byte_rate: 0 };
    /// A data network.
    pub const DATA: Self = Self { carries_sync: false, ..Self::SYNC };
}

/// What users do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Load {
    /// Packets a second.
    pub rate: u32,
    /// Different flows, of which some are open.
    pub flows: u32,
    /// Sessions that are opened first and stay; every packet of theirs is counted.
    pub steady: u32,
    /// Time between two packets of all steady sessions together.
    pub steady_every_us: u64,
    /// Of a thousand packets, how many end their session.
    pub ends: u32,
    /// Flows of a thousand under a rule that keeps them local; as many are too young for a while.
    pub local: u32,
    /// Sessions of a thousand that no partner can take: a zone that it does not have.
    pub untakable: u32,
    /// The minimum age of those that have one.
    pub min_age_us: u64,
}

/// A course before it begins.
#[derive(Clone, Debug)]
pub struct Setup {
    /// What all chance follows from.
    pub seed: u64,
    /// The tables of each node.
    pub sizes: [Size; 2],
    /// The ways between them, in order of preference.
    pub paths: Vec<PathSetup>,
    /// The decision maker's settings; node and partner are filled in.
    pub membership: Config,
    /// The stream's.
    pub stream: stream::Config,
    /// The keys'.
    pub keys: keys::Timing,
    /// How much faster each clock runs, in millionths.
    pub drift_ppm: [i64; 2],
    /// When each node starts; never, if that is far away.
    pub start_at: [u64; 2],
    /// The users.
    pub load: Load,
    /// Reads of the tables that find a busy owner, of a thousand.
    pub busy: u32,
    /// What goes wrong when.
    pub plan: Vec<(u64, Fault)>,
    /// When the faults end.
    pub faults_end: u64,
    /// Nodes with a broken table.
    pub defects: [Option<Defect>; 2],
    /// Nodes whose workers do not obey the end of a lease.
    pub ignores_lease: [bool; 2],
    /// Nodes that never show their workers that they are active.
    pub never_active: [bool; 2],
    /// Datagrams of that kind never arrive, on any path.
    pub lost_kind: Option<Kind>,
    /// Heartbeats are recorded, for [`Fault::Replay`].
    pub record: bool,
    /// So many sessions there must be in the end, that the comparison says something.
    pub at_least: usize,
}

impl Setup {
    /// A pair with heartbeats every 10 ms and otherwise as it comes; no faults.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let size = Size { workers: 2, slots: 128, ring: 64, ends: 64 };
        Self {
            seed,
            sizes: [size; 2],
            paths: vec![PathSetup::SYNC, PathSetup::DATA],
            membership: quick_membership(10),
            stream: stream::Config {
                verify_every: Micros::from_millis(100),
                scrub_pass: Micros::from_millis(150),
                ..stream::Config::default()
            },
            keys: keys::Timing {
                renew_every: Micros::from_millis(400),
                overlap: Micros::from_millis(60),
                retry: Micros::from_millis(10),
                patience: Micros::from_millis(500),
            },
            drift_ppm: [0, 0],
            start_at: [0, 1_000],
            load: Load {
                rate: 2_000,
                flows: 128,
                steady: 8,
                steady_every_us: 1_000,
                ends: 150,
                local: 80,
                untakable: 0,
                min_age_us: 30_000,
            },
            busy: 10,
            plan: Vec::new(),
            faults_end: 0,
            defects: [None; 2],
            ignores_lease: [false; 2],
            never_active: [false; 2],
            lost_kind: None,
            record: false,
            at_least: 8,
        }
    }

    /// The same with the defaults of a pair as it is installed: heartbeats of 100 ms.
    #[must_use]
    pub fn as_installed(seed: u64) -> Self {
        let setup = Self::new(seed);
        Self {
            membership: Config::new(NodeId(0), NodeId(1)),
            keys: keys::Timing::default(),
            stream: stream::Config::default(),
            ..setup
        }
    }

    /// The same with a fault more.
    #[must_use]
    pub fn with(mut self, at_ms: u64, fault: Fault) -> Self {
        self.plan.push((at_ms * 1_000, fault));
        let lasts = match fault {
            Fault::Freeze { us, .. } | Fault::Hang { us, .. } | Fault::Stick { us, .. } => us,
            _ => 0,
        };
        self.faults_end = self.faults_end.max(at_ms * 1_000 + lasts);
        self
    }

    /// Time between two heartbeats.
    #[must_use]
    pub const fn interval(&self) -> u64 {
        self.membership.interval.0
    }

    /// After how long a silent partner is dead.
    #[must_use]
    pub const fn dead(&self) -> u64 {
        self.membership.dead().0
    }
}

/// A decision maker whose times all follow from a quick heartbeat.
#[must_use]
pub fn quick_membership(interval_ms: u64) -> Config {
    let of = |intervals: u64| Micros::from_millis(interval_ms * intervals);
    Config {
        interval: of(1),
        misses: 3,
        margin: Micros::from_millis(interval_ms * 3 / 10),
        boot_delay: of(30),
        recover_limit: of(30),
        forget: of(100),
        on_active_restart: OnActiveRestart::Reclaim,
        settle: of(5),
        hold_down: of(10),
        flap_limit: 7,
        flap_window: of(300),
        prepare_limit: of(20),
        grant_limit: of(4),
        confirm_limit: of(2),
        announce_every: of(50),
        redirect: of(100),
        alarm_every: of(50),
        ..Config::new(NodeId(0), NodeId(1))
    }
}
