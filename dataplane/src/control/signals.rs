//! What the operating system asks of the daemon.
//!
//! Handlers only set a flag; the control thread looks every few milliseconds anyway.

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The flags.
pub struct Signals {
    end: Arc<AtomicBool>,
    reload: Arc<AtomicBool>,
}

impl Signals {
    /// Installs the handlers.
    pub fn install() -> io::Result<Self> {
        let signals = Self { end: Arc::default(), reload: Arc::default() };
        flag::register(SIGTERM, Arc::clone(&signals.end))?;
        flag::register(SIGINT, Arc::clone(&signals.end))?;
        flag::register(SIGHUP, Arc::clone(&signals.reload))?;
        Ok(signals)
    }

    /// True once SIGTERM or SIGINT has come.
    pub fn end(&self) -> bool {
        self.end.load(Ordering::Relaxed)
    }

    /// True if SIGHUP has come since the last call.
    pub fn take_reload(&self) -> bool {
        self.reload.swap(false, Ordering::Relaxed)
    }
}
