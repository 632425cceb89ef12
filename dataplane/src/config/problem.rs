//! What is wrong with a configuration: each problem with its place and with what to do about it.

use miette::{Diagnostic, LabeledSpan, NamedSource, SourceCode};
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

/// Why there is no configuration. Rendered by `miette` it quotes the file; [`ConfigError::lines`] gives one
/// plain line a problem, for logs and for `ha-ctl status`.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {}: {reason}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says; not called `source`, for the message has it already.
        reason: std::io::Error,
    },
    /// Not a regular file: reading a pipe or a device could last for ever.
    #[error("the configuration {} is not a regular file", path.display())]
    NotAFile {
        /// The file.
        path: PathBuf,
    },
    /// The file is too long to be one of ours.
    #[error("the configuration {} is longer than {} bytes", path.display(), super::MAX_FILE_BYTES)]
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// TOML is UTF-8.
    #[error("the configuration {} is not UTF-8 text: byte {at} begins no character", path.display())]
    NotText {
        /// The file.
        path: PathBuf,
        /// The first byte that does not fit, counted from 0.
        at: usize,
    },
    /// The text was read and its content cannot be used.
    #[error(transparent)]
    Invalid(Box<Invalid>),
}

impl ConfigError {
    /// One line for each problem, each complete in itself.
    pub fn lines(&self) -> Vec<String> {
        match self {
            ConfigError::Invalid(invalid) => invalid.lines(),
            other => vec![other.to_string()],
        }
    }
}

impl Diagnostic for ConfigError {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        match self {
            ConfigError::Read { .. } => Some(Box::new("name an existing, readable file with --config FILE")),
            ConfigError::NotAFile { .. } | ConfigError::TooLong { .. } | ConfigError::NotText { .. } => {
                Some(Box::new("name a configuration in TOML; docs/understudyd.example.toml is one"))
            }
            ConfigError::Invalid(invalid) => invalid.help(),
        }
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        match self {
            ConfigError::Invalid(invalid) => invalid.source_code(),
            _ => None,
        }
    }

    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn Diagnostic> + 'a>> {
        match self {
            ConfigError::Invalid(invalid) => invalid.related(),
            _ => None,
        }
    }
}

/// A text with at least one problem.
#[derive(Debug)]
pub struct Invalid {
    source: NamedSource<String>,
    problems: Vec<Problem>,
    /// Problems that were found and are not in the list.
    omitted: usize,
}

/// More problems than these help nobody; the rest is counted.
const MAX_PROBLEMS: usize = 50;

impl Invalid {
    pub(super) fn new(name: &str, text: &str, mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|problem| (problem.span.start, problem.span.end));
        let omitted = problems.len().saturating_sub(MAX_PROBLEMS);
        problems.truncate(MAX_PROBLEMS);
        Self { source: NamedSource::new(name, text.to_owned()), problems, omitted }
    }

    /// The problems, in the order of the text.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.problems.iter().map(|problem| self.line(problem)).collect();
        if self.omitted > 0 {
            lines.push(format!("{}: {} more problems are not listed", self.source.name(), self.omitted));
        }
        lines
    }

    fn line(&self, problem: &Problem) -> String {
        let (line, column) = position(self.source.inner(), problem.span.start);
        let Problem { message, help, .. } = problem;
        let place = format!("{}:{line}:{column}", self.source.name());
        if help.is_empty() { format!("{place}: {message}") } else { format!("{place}: {message} ({help})") }
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.problems.len() + self.omitted;
        let plural = if count == 1 { "problem" } else { "problems" };
        write!(f, "the configuration {} has {count} {plural}", self.source.name())?;
        if self.omitted > 0 {
            write!(f, ", of which these are the first {}", self.problems.len())?;
        }
        Ok(())
    }
}

impl std::error::Error for Invalid {}

impl Diagnostic for Invalid {
    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&self.source)
    }

    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn Diagnostic> + 'a>> {
        Some(Box::new(self.problems.iter().map(|problem| problem as &dyn Diagnostic)))
    }
}

/// One thing that is wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// What is wrong.
    pub message: String,
    /// What to do; empty where the message says it all.
    pub help: String,
    /// Where: bytes of the text.
    pub span: Range<usize>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Problem {}

impl Diagnostic for Problem {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        (!self.help.is_empty()).then(|| Box::new(&self.help) as Box<dyn fmt::Display>)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let label = LabeledSpan::new_with_span(Some("here".into()), self.span.clone());
        Some(Box::new(std::iter::once(label)))
    }
}

/// Line and column of a byte, both from 1, the column in characters.
fn position(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = before.bytes().filter(|&byte| byte == b'\n').count() + 1;
    let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
    (line, column)
}
