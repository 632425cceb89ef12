//! What can go wrong while a lab is put up, used or taken down. Each message says what to do next where
//! there is something to do, because the reader is mostly a person before a terminal.

use std::{io, path::PathBuf, time::Duration};

/// Failure of a lab operation.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// Namespaces, veths and packet sockets are root's.
    #[error("the lab needs root (namespaces, veths, packet sockets): run it with sudo")]
    NotRoot,
    /// Asked for something that is not built yet.
    #[error("unsupported: {0}")]
    Unsupported(String),
    /// A program that the lab runs is not there.
    #[error("{program} not found; {hint}")]
    MissingProgram {
        /// Name or path that was looked for.
        program: String,
        /// How to get it.
        hint: String,
    },
    /// A command ended with something other than success.
    #[error("`{line}` failed ({status}): {stderr}")]
    Command {
        /// The command line as run.
        line: String,
        /// Its exit status.
        status: String,
        /// The end of what it said.
        stderr: String,
    },
    /// Something did not happen in time.
    #[error("{what}: not within {} ms", after.as_millis())]
    Timeout {
        /// What was waited for.
        what: String,
        /// For how long.
        after: Duration,
    },
    /// A system call failed.
    #[error("{what}: {source}")]
    Io {
        /// What was attempted.
        what: String,
        /// The system's answer.
        source: io::Error,
    },
    /// A lab is up already and belongs to somebody else.
    #[error("{0}")]
    Busy(String),
    /// The daemon did not come up, or went away.
    #[error("understudyd of node {node}: {what}\n--- end of {} ---\n{log_tail}", log.display())]
    Daemon {
        /// Which node.
        node: String,
        /// What happened.
        what: String,
        /// Its log file.
        log: PathBuf,
        /// The last lines of it.
        log_tail: String,
    },
    /// The control socket answered something unexpected, or nothing.
    #[error("control socket {}: {what}", socket.display())]
    Control {
        /// Path of the socket.
        socket: PathBuf,
        /// What happened.
        what: String,
    },
    /// A signal has come, and everything is being taken down.
    #[error("{0}: not any more, the lab was interrupted")]
    Interrupted(String),
    /// A configuration cannot be read or merged.
    #[error("configuration: {0}")]
    Config(String),
    /// A program's output was not what its version promises.
    #[error("{what}: cannot make sense of: {text}")]
    Output {
        /// Whose output.
        what: String,
        /// The beginning of it.
        text: String,
    },
}

impl LabError {
    /// Wraps a system error with what was attempted.
    pub fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    /// As [`LabError::io`], for calls that return a bare errno.
    pub fn errno(what: impl Into<String>) -> impl FnOnce(rustix::io::Errno) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source: source.into() }
    }

    /// Output that could not be understood, shortened.
    pub fn output(what: impl Into<String>, text: &str) -> Self {
        Self::Output { what: what.into(), text: text.chars().take(400).collect() }
    }
}

/// Result of lab operations.
pub type Result<T> = std::result::Result<T, LabError>;
