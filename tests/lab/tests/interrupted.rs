//! What is left to do for a program's other threads once one of them takes everything down. A test program
//! of its own: there is no way back.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::{process::Command, thread, time::Duration};

use lab::{
    LabError,
    exec::{self, Running},
    guard,
};

#[test]
fn what_was_started_ends_and_nothing_more_is_started() {
    let mut before = Running::start(Command::new("sleep").arg("60")).unwrap();
    let own = before.identity().unwrap();
    thread::spawn(guard::sweep_interrupted).join().unwrap().unwrap();
    assert!(!own.alive(), "what was started before");
    assert_eq!(before.wait(Duration::from_secs(1)).unwrap(), 128 + 15);
    let refused = |error: LabError, line: &str| {
        assert_eq!(error.to_string(), format!("start `{line}`: not any more, the lab was interrupted"));
    };
    refused(Running::start(Command::new("sleep").arg("60")).unwrap_err(), "sleep 60");
    refused(exec::run(&mut Command::new("true"), exec::SHORT).unwrap_err(), "true");
}
