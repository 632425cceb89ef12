//! A worker's thread: its name, its processor, its timer slack, its DPDK registration, its end.

use super::Worker;
use dpdk::{Eal, LcoreError, LcoreGuard};
use rustix::thread::{CpuSet, sched_setaffinity, set_current_timer_slack};
use std::io;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{Builder, JoinHandle};
use thiserror::Error;

/// A sleep of 50 µs must not become one of 100: the kernel's default slack is 50 µs.
const TIMER_SLACK_NS: u64 = 1_000;

/// Why a worker's thread did not start.
#[derive(Debug, Error)]
pub enum WorkerThreadError {
    /// No thread.
    #[error("cannot start the thread of worker {worker}: {source}")]
    Spawn {
        /// The worker.
        worker: usize,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The processor cannot be had.
    #[error(
        "worker {worker} cannot be pinned to CPU {cpu} ({source}); workers.cpus must name CPUs that this process \
         may use"
    )]
    Pin {
        /// The worker.
        worker: usize,
        /// As configured.
        cpu: u16,
        /// The kernel's answer.
        source: rustix::io::Errno,
    },
    /// DPDK has no place for it.
    #[error("worker {worker}: {source}")]
    Register {
        /// The worker.
        worker: usize,
        /// DPDK's answer.
        source: LcoreError,
    },
    /// It ended before it said anything.
    #[error("worker {worker} ended during its start; this is a defect of understudyd, please report it")]
    Gone {
        /// The worker.
        worker: usize,
    },
}

/// A running worker.
pub struct WorkerThread {
    handle: Option<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
}

impl WorkerThread {
    /// Starts a thread and waits until it is set up.
    pub fn start(worker: usize, body: Worker, eal: Eal, cpu: Option<u16>) -> Result<Self, WorkerThreadError> {
        let stop = Arc::new(AtomicBool::new(false));
        let (ready, is_ready) = channel();
        let stopping = Arc::clone(&stop);
        let handle = Builder::new()
            .name(format!("worker-{worker}"))
            .spawn(move || thread(worker, body, eal, cpu, &stopping, &ready))
            .map_err(|source| WorkerThreadError::Spawn { worker, source })?;
        let this = Self { handle: Some(handle), stop };
        wait_ready(worker, &is_ready)?;
        Ok(this)
    }

    /// True if the thread is gone, which it must not be before it is told to.
    pub fn is_finished(&self) -> bool {
        self.handle.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Tells the worker to end after its turn.
    pub fn tell_to_stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Ends the worker and waits for it. False if it had ended by a panic.
    pub fn stop(mut self) -> bool {
        self.join()
    }

    fn join(&mut self) -> bool {
        self.tell_to_stop();
        self.handle.take().is_none_or(|handle| handle.join().is_ok())
    }
}

impl Drop for WorkerThread {
    fn drop(&mut self) {
        self.join();
    }
}

fn wait_ready(
    worker: usize,
    ready: &Receiver<Result<(), WorkerThreadError>>,
) -> Result<(), WorkerThreadError> {
    ready.recv().unwrap_or(Err(WorkerThreadError::Gone { worker }))
}

fn thread(
    worker: usize,
    body: Worker,
    eal: Eal,
    cpu: Option<u16>,
    stop: &AtomicBool,
    ready: &Sender<Result<(), WorkerThreadError>>,
) {
    let _lcore = match set_up(worker, eal, cpu) {
        Ok(lcore) => lcore,
        Err(error) => {
            // Nobody listens only if the starter is gone as well.
            let _ = ready.send(Err(error));
            return;
        }
    };
    // Dropped before the registration: what it still holds goes back while the thread has its caches.
    let mut body = body;
    let _ = ready.send(Ok(()));
    body.run(stop);
}

fn set_up(worker: usize, eal: Eal, cpu: Option<u16>) -> Result<LcoreGuard, WorkerThreadError> {
    if let Some(cpu) = cpu {
        let mut set = CpuSet::new();
        let index = usize::from(cpu);
        let result = if index < CpuSet::MAX_CPU {
            set.set(index);
            sched_setaffinity(None, &set)
        } else {
            Err(rustix::io::Errno::INVAL)
        };
        result.map_err(|source| WorkerThreadError::Pin { worker, cpu, source })?;
    }
    // A kernel that refuses makes sleeps less exact and nothing worse.
    let _ = set_current_timer_slack(NonZeroU64::new(TIMER_SLACK_NS));
    LcoreGuard::register(eal).map_err(|source| WorkerThreadError::Register { worker, source })
}
