//! A thread that works beside the one that wants it, until the value that stands for it goes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use crate::error::{LabError, Result};

/// The thread; it is told to end, and waited for, when this value goes.
#[derive(Debug)]
pub(crate) struct Background {
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Background {
    /// Starts it. It looks at what it is given every now and then, and ends once that is true.
    pub(crate) fn start(name: &str, work: impl FnOnce(&AtomicBool) + Send + 'static) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let end = stop.clone();
        let thread = thread::Builder::new()
            .name(name.into())
            .spawn(move || work(&end))
            .map_err(LabError::io(format!("start the thread {name}")))?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_has_ended_when_its_value_is_gone() {
        let turns = Arc::new(AtomicBool::new(false));
        let ended = turns.clone();
        let thread = Background::start("turns", move |stop| {
            while !stop.load(Ordering::Relaxed) {
                thread::yield_now();
            }
            ended.store(true, Ordering::SeqCst);
        });
        drop(thread.unwrap());
        assert!(turns.load(Ordering::SeqCst));
    }
}
