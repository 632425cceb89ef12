//! Refusals: a code for programs, a message and a hint for people.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Why the daemon did not do what it was asked.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Error {
    /// For programs; stable.
    pub code: ErrorCode,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    #[serde(default)]
    pub hint: String,
}

impl Error {
    /// A refusal.
    pub fn new(code: ErrorCode, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: hint.into() }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.message)
    }
}

impl std::error::Error for Error {}

/// The kinds of refusal.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorCode {
    /// The line is no request: no JSON object, or a field is missing or has the wrong type.
    BadRequest,
    /// An argument's value is out of its range or not understood.
    BadArgument,
    /// The request's `v` is one that this daemon does not speak.
    UnsupportedVersion,
    /// There is no such command in this version.
    UnknownCommand,
    /// The line is longer than [`crate::MAX_REQUEST_BYTES`].
    TooLong,
    /// The daemon has too many clients or is starting; the same request may succeed later.
    Busy,
    /// The node is not one of a pair.
    NoPair,
    /// The partner is not heard.
    NoPartner,
    /// The pair's rules forbid it now.
    NotNow,
    /// It did not come about in time; it may yet.
    TimedOut,
    /// The daemon failed at it; its log says more.
    Internal,
    /// A code that this client does not know: its daemon is newer.
    #[serde(untagged)]
    Other(String),
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ErrorCode::BadRequest => "bad-request",
            ErrorCode::BadArgument => "bad-argument",
            ErrorCode::UnsupportedVersion => "unsupported-version",
            ErrorCode::UnknownCommand => "unknown-command",
            ErrorCode::TooLong => "too-long",
            ErrorCode::Busy => "busy",
            ErrorCode::NoPair => "no-pair",
            ErrorCode::NoPartner => "no-partner",
            ErrorCode::NotNow => "not-now",
            ErrorCode::TimedOut => "timed-out",
            ErrorCode::Internal => "internal",
            ErrorCode::Other(code) => code,
        })
    }
}
