//! Processes by identity, not by number: a lab that cleans up after a crash reads a pid from a file, and
//! that number may belong to somebody else by then. The start time in `/proc/PID/stat` tells them apart, and
//! a pidfd taken before that check keeps them apart until the signal is sent.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

/// A process that cannot be mistaken for a later one with the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessRef {
    /// The number.
    pub pid: u32,
    /// Clock ticks between boot and the process's start.
    pub start_ticks: u64,
}

/// How a process came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stopped {
    /// It had ended by itself, with this exit code.
    Before(i32),
    /// It followed SIGTERM, with this exit code.
    Asked(i32),
    /// It did not, and was killed.
    Killed,
}

impl ProcessRef {
    /// The process that has this number now.
    pub fn of(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (_, start_ticks) = state_and_start(&stat)?;
        Some(Self { pid, start_ticks })
    }

    /// Whether it still runs. A zombie does not, unless it is only the first thread that has ended: the
    /// others may still hold what the process had.
    pub fn alive(self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid)).ok();
        let Some((state, start)) = stat.and_then(|stat| state_and_start(&stat)) else { return false };
        let ended = matches!(state, 'Z' | 'X') && self.threads() <= 1;
        start == self.start_ticks && !ended
    }

    fn threads(self) -> usize {
        fs::read_dir(format!("/proc/{}/task", self.pid)).map_or(0, Iterator::count)
    }

    /// Sends a signal; `false` when the process is gone.
    pub fn signal(self, signal: Signal) -> bool {
        let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) else { return false };
        let Ok(fd) = pidfd_open(pid, PidfdFlags::empty()) else { return false };
        // Only now: the descriptor holds whoever has the number, the check says whether it is ours.
        self.alive() && pidfd_send_signal(fd, signal).is_ok()
    }

    /// SIGTERM, and SIGKILL to what does not follow within the time. For processes that are not children.
    pub fn terminate(self, patience: Duration) -> bool {
        if !self.signal(Signal::TERM) || self.gone_within(patience) {
            return true;
        }
        self.signal(Signal::KILL);
        self.gone_within(Duration::from_secs(5))
    }

    /// Waits for the end.
    pub fn gone_within(self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        while self.alive() {
            if Instant::now() >= deadline {
                return false;
            }
            thread::sleep(Duration::from_millis(5));
        }
        true
    }

    /// Processor time used so far by all its threads.
    pub fn cpu_time(self) -> Option<Duration> {
        cpu_time(&fs::read_to_string(format!("/proc/{}/stat", self.pid)).ok()?)
    }

    /// Processor time used so far by its threads of that name; nothing where there are none.
    pub fn thread_cpu_time(self, name: &str) -> Option<Duration> {
        let stat =
            |thread| cpu_time(&fs::read_to_string(format!("/proc/{}/task/{thread}/stat", self.pid)).ok()?);
        let threads = self.threads_named(name);
        if threads.is_empty() { None } else { threads.into_iter().map(stat).sum() }
    }

    /// The numbers of its threads of that name.
    pub fn threads_named(self, name: &str) -> Vec<i32> {
        let Ok(tasks) = fs::read_dir(format!("/proc/{}/task", self.pid)) else { return Vec::new() };
        let of_name = tasks.flatten().filter(|task| {
            fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm.trim() == name)
        });
        of_name.filter_map(|task| task.file_name().to_str()?.parse().ok()).collect()
    }

    /// Resident memory in KiB.
    pub fn resident_kib(self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).ok()?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
        line.split_ascii_whitespace().nth(1)?.parse().ok()
    }
}

/// Processor time in a `stat` file.
fn cpu_time(stat: &str) -> Option<Duration> {
    let fields: Vec<&str> = after_name(stat)?.split_ascii_whitespace().collect();
    let ticks = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    let per_second = rustix::param::clock_ticks_per_second();
    Some(Duration::from_micros(ticks * 1_000_000 / per_second.max(1)))
}

/// What follows the program's name, which may itself hold spaces and brackets.
fn after_name(stat: &str) -> Option<&str> {
    Some(stat.rsplit_once(')')?.1)
}

fn state_and_start(stat: &str) -> Option<(char, u64)> {
    let mut fields = after_name(stat)?.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_name_with_brackets_does_not_confuse() {
        let stat =
            "42 (a) b (c) S 1 42 42 0 -1 4194304 1 0 0 0 7 8 0 0 20 0 1 0 12345 999 1 18446744073709551615";
        assert_eq!(state_and_start(stat), Some(('S', 12345)));
        assert_eq!(state_and_start("42 (cut"), None);
        assert_eq!(state_and_start("42 (cut) S 1 2"), None);
    }

    #[test]
    fn another_start_time_is_another_process() {
        let own = ProcessRef::of(std::process::id()).unwrap();
        assert!(own.alive());
        let other = ProcessRef { start_ticks: own.start_ticks + 1, ..own };
        assert!(!other.alive());
        assert!(!other.signal(Signal::TERM), "would have ended this test");
    }

    #[test]
    fn a_thread_that_is_not_there_has_used_no_time_that_could_be_told() {
        let own = ProcessRef::of(std::process::id()).unwrap();
        assert_eq!(own.thread_cpu_time("no-such-thread"), None);
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let named = thread::Builder::new().name("of-that-name".into());
        let thread = named.spawn(move || ended.recv().is_err()).unwrap();
        while own.threads_named("of-that-name").is_empty() {
            thread::yield_now();
        }
        assert!(own.thread_cpu_time("of-that-name").is_some());
        drop(end);
        thread.join().unwrap();
    }

    #[test]
    fn a_process_that_is_not_a_child_ends() {
        let mut child = std::process::Command::new("sleep").arg("30").spawn().unwrap();
        let identity = ProcessRef::of(child.id()).unwrap();
        assert!(identity.terminate(Duration::from_secs(5)));
        assert!(!identity.alive());
        child.wait().unwrap();
    }
}
