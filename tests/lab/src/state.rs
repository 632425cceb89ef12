//! What is up, written down where the next program finds it, and the lock that keeps two labs apart.
//!
//! The namespaces have fixed names, so a machine has room for one lab. Who builds or holds one takes an
//! exclusive `flock` (the kernel drops it when its holder dies, however it dies); others wait and say for
//! whom. A lab put up by `lab up` outlives its program and holds no lock: the state file tells it from the
//! remains of a crash.

use std::{
    fs,
    fs::{File, OpenOptions},
    io::{ErrorKind, Seek, Write},
    os::fd::IntoRawFd,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::{
    error::{LabError, Result},
    interrupt,
    process::ProcessRef,
};

/// Everything that a lab keeps on disk is below this folder.
pub const RUN_DIR: &str = "/run/understudy-lab";

/// What is known of a lab.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LabState {
    /// Format of this file.
    pub version: u32,
    /// Who put it up.
    pub owner: ProcessRef,
    /// Put up by `lab up`, to stay when that program ends.
    pub detached: bool,
    /// Its nodes.
    pub nodes: Vec<NodeState>,
}

/// What is known of a node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NodeState {
    /// The node's name in its configuration.
    pub name: String,
    /// Its network namespace.
    pub namespace: String,
    /// The daemon, while it was last seen running.
    pub process: Option<ProcessRef>,
    /// Its control socket.
    pub control_socket: PathBuf,
    /// Its configuration.
    pub config: PathBuf,
    /// Where its standard error goes.
    pub log: PathBuf,
}

impl LabState {
    /// Current format.
    pub const VERSION: u32 = 1;

    /// Reads the state file; `None` when there is none, or none of this format.
    pub fn load() -> Option<Self> {
        let text = fs::read_to_string(state_path()).ok()?;
        serde_json::from_str::<Self>(&text).ok().filter(|state| state.version == Self::VERSION)
    }

    /// Writes the state file, whole or not at all.
    pub fn store(&self) -> Result<()> {
        let text = serde_json::to_string_pretty(self).map_err(|error| LabError::Config(error.to_string()))?;
        let fresh = Path::new(RUN_DIR).join("lab.json.new");
        fs::write(&fresh, text + "\n").map_err(LabError::io("write the lab's state"))?;
        fs::rename(&fresh, state_path()).map_err(LabError::io("write the lab's state"))
    }

    /// Whether somebody is still there to whom this lab belongs: its owner, or, detached, its daemons.
    pub fn in_use(&self) -> bool {
        if self.detached {
            self.nodes.iter().any(|node| node.process.is_some_and(ProcessRef::alive))
        } else {
            self.owner.alive()
        }
    }
}

/// Removes everything but the lock file, which others may hold open.
pub fn clear() -> Result<()> {
    let Ok(entries) = fs::read_dir(RUN_DIR) else { return Ok(()) };
    let mut outcome = Ok(());
    for path in entries.flatten().map(|entry| entry.path()).filter(|path| *path != lock_path()) {
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        // Somebody else may have been first.
        if let Err(error) = removed
            && error.kind() != ErrorKind::NotFound
        {
            outcome = Err(LabError::io(format!("remove {}", path.display()))(error));
        }
    }
    outcome
}

fn state_path() -> PathBuf {
    Path::new(RUN_DIR).join("lab.json")
}

fn lock_path() -> PathBuf {
    Path::new(RUN_DIR).join("lock")
}

/// The exclusive right to build, hold or remove a lab on this machine.
#[derive(Debug)]
pub struct LabLock {
    file: Option<File>,
}

impl Drop for LabLock {
    fn drop(&mut self) {
        let file = self.file.take();
        let given_back = interrupt::unless_interrupted("unlock the lab", |room| room.holds = false);
        if given_back.is_err() {
            // Whoever takes everything down still needs it; it goes with the program.
            file.map(IntoRawFd::into_raw_fd);
        }
    }
}

impl LabLock {
    /// Gives the right back although the lab is up: it is to outlive this program.
    pub fn leave(self) -> Result<()> {
        interrupt::unless_interrupted("leave the lab up", |room| {
            room.holds = false;
            room.forget();
        })
    }

    /// Takes the lock, waiting for another holder and telling `notice` about it now and then.
    pub fn take(patience: Duration, mut notice: impl FnMut(&str)) -> Result<Self> {
        fs::create_dir_all(RUN_DIR).map_err(LabError::io(format!("create {RUN_DIR}")))?;
        let mut file = OpenOptions::new()
            .create(true)
            .read(true)
            .write(true)
            .truncate(false)
            .open(lock_path())
            .map_err(LabError::io("open the lab's lock"))?;
        let started = Instant::now();
        let mut told: Option<Instant> = None;
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(rustix::io::Errno::WOULDBLOCK) => {}
                Err(error) => return Err(LabError::errno("lock the lab")(error)),
            }
            let message = || format!("another lab is running here ({})", holder());
            if started.elapsed() >= patience {
                return Err(LabError::Busy(format!("{}: gave up after {} s", message(), patience.as_secs())));
            }
            if told.is_none_or(|last| last.elapsed() >= Duration::from_secs(15)) {
                notice(&format!("{}; waiting for its end", message()));
                told = Some(Instant::now());
            }
            thread::sleep(Duration::from_millis(50));
        }
        // For the message above, in the programs that wait for us.
        let _ = file.set_len(0);
        let _ = file.rewind();
        let _ = writeln!(file, "{} {}", std::process::id(), own_name());
        interrupt::unless_interrupted("hold the lab", |room| room.holds = true)?;
        Ok(Self { file: Some(file) })
    }
}

fn holder() -> String {
    let text = fs::read_to_string(lock_path()).unwrap_or_default();
    match text.trim().split_once(' ') {
        Some((pid, name)) => format!("process {pid}, {name}"),
        None => "process unknown".into(),
    }
}

fn own_name() -> String {
    std::env::current_exe()
        .ok()
        .and_then(|path| path.file_name().map(|name| name.to_string_lossy().into_owned()))
        .unwrap_or_else(|| "lab".into())
}
