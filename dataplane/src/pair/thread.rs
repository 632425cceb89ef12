//! The sync core's thread.

use super::core::SyncCore;
use dpdk::{Eal, LcoreGuard};
use rustix::thread::set_current_timer_slack;
use std::io;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};

/// As for workers: a sleep of 50 µs must not become one of 100.
const TIMER_SLACK_NS: u64 = 1_000;

/// A running sync core.
pub struct CoreThread {
    handle: Option<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
}

impl CoreThread {
    /// Starts the thread.
    ///
    /// # Errors
    /// If the kernel has none.
    pub fn start(mut core: SyncCore, eal: Eal) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        let handle = Builder::new().name("sync-core".into()).spawn(move || {
            // A kernel that refuses makes sleeps less exact and nothing worse.
            let _ = set_current_timer_slack(NonZeroU64::new(TIMER_SLACK_NS));
            // Without a place in DPDK's list the thread has no cache of packet buffers: slower, not wrong.
            let _lcore = LcoreGuard::register(eal);
            core.run(&stopping);
            drop(core);
        })?;
        Ok(Self { handle: Some(handle), stop })
    }

    /// True if the thread is gone, which it must not be before it is told to.
    pub fn is_finished(&self) -> bool {
        self.handle.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Drop for CoreThread {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(handle) = self.handle.take() {
            // A panic there was reported by the thread itself.
            let _ = handle.join();
        }
    }
}
