//! What a signal changes: from then on one thread takes everything down, and nobody else starts anything.
//!
//! A program that was just started is in no namespace yet, so no list of what runs there shows it; and what
//! others do while everything is taken down would come back up behind it. So there is one door. Whoever
//! starts a program, takes the right to have a lab, or changes a setting of the whole machine does it inside,
//! and what it started is known when it leaves. The thread that takes everything down closes the door first:
//! what was started before is known by then, and what comes later is refused.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    thread::{self, ThreadId},
    time::Duration,
};

use crate::{
    error::{LabError, Result},
    process::ProcessRef,
};

/// The room behind the door.
pub(crate) struct Room {
    closed_by: Option<ThreadId>,
    /// This program has the right to have a lab.
    pub(crate) holds: bool,
    started: Vec<ProcessRef>,
}

static ROOM: Mutex<Room> = Mutex::new(Room { closed_by: None, holds: false, started: Vec::new() });

/// What is to be taken down.
#[derive(Debug)]
pub(crate) struct Left {
    /// There may be a lab.
    pub(crate) holds: bool,
    /// Programs that this one has started and that may still run.
    pub(crate) started: Vec<ProcessRef>,
}

impl Room {
    fn refuses(&self) -> bool {
        self.closed_by.is_some_and(|closer| closer != thread::current().id())
    }

    /// A program was started.
    pub(crate) fn started(&mut self, process: ProcessRef) {
        self.started.retain(|process| process.alive());
        self.started.push(process);
    }

    /// Whatever was started so far may outlive this program.
    pub(crate) fn forget(&mut self) {
        self.started.clear();
    }
}

/// Does something that must not happen any more once everything is taken down.
pub(crate) fn unless_interrupted<T>(what: &str, action: impl FnOnce(&mut Room) -> T) -> Result<T> {
    let mut room = room();
    if room.refuses() {
        return Err(LabError::Interrupted(what.into()));
    }
    Ok(action(&mut room))
}

/// Fails once another thread takes everything down.
pub(crate) fn check(what: &str) -> Result<()> {
    unless_interrupted(what, |_| ())
}

/// From now on only the calling thread starts anything.
pub(crate) fn close() -> Left {
    let mut room = room();
    room.closed_by = Some(thread::current().id());
    Left { holds: room.holds, started: std::mem::take(&mut room.started) }
}

/// Where another thread takes everything down, waits until that one ends the program: whoever returns from
/// `main` before would cut it short.
pub fn wait_for_end() {
    // It takes seconds. Should it have failed altogether, nobody is served by waiting for ever.
    for _ in 0..120 {
        if !room().refuses() {
            return;
        }
        thread::sleep(Duration::from_secs(1));
    }
}

fn room() -> MutexGuard<'static, Room> {
    // Its parts are whole after each statement.
    ROOM.lock().unwrap_or_else(PoisonError::into_inner)
}
