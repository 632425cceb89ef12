//! What a check found, how it is shown while it runs, and the report at the end.

use std::{
    io::{IsTerminal, Write},
    time::{Duration, Instant},
};

use serde::Serialize;

use crate::{error::Result, report::table, topology::Family};

/// What a check expected and found.
#[derive(Clone, Debug)]
pub struct Finding {
    /// What should be.
    pub expected: String,
    /// What is.
    pub measured: String,
    /// Sessions opened by the check and sessions counted by `ha-ctl`.
    pub sessions: Option<(u64, u64)>,
    /// Whether the check itself went as it should; the session count is judged apart.
    pub good: bool,
}

/// One line of the report.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// What was checked.
    pub check: String,
    /// In which family; absent where it does not matter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub family: Option<&'static str>,
    /// What should be.
    pub expected: String,
    /// What is.
    pub measured: String,
    /// Sessions that the check opened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sessions_opened: Option<u64>,
    /// Sessions that `ha-ctl` counted for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sessions_counted: Option<u64>,
    /// Whether all is as it should be.
    pub passed: bool,
    /// How long it took.
    pub took_ms: u64,
}

/// Everything that the demo found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Whether every check passed.
    pub passed: bool,
    /// The checks.
    pub checks: Vec<Row>,
    /// Sessions at the end, by protocol and state, as `ha-ctl` has them.
    pub sessions: proto::SessionCounts,
    /// Drop reasons that counted something.
    pub drops: Vec<(String, u64)>,
    /// From the first namespace to the last.
    pub took_ms: u64,
}

impl Report {
    /// Draws the sum.
    pub fn new(
        checks: Vec<Row>,
        sessions: proto::SessionCounts,
        drops: Vec<(String, u64)>,
        took: Duration,
    ) -> Self {
        let passed = !checks.is_empty() && checks.iter().all(|row| row.passed);
        Self { passed, checks, sessions, drops, took_ms: millis(took) }
    }

    /// Whether all is as it should be.
    pub fn passed(&self) -> bool {
        self.passed
    }

    /// For people.
    pub fn table(&self) -> String {
        let rows = self.checks.iter().map(|row| {
            let sessions = match (row.sessions_opened, row.sessions_counted) {
                (Some(opened), Some(counted)) => format!("{opened} / {counted}"),
                _ => String::new(),
            };
            vec![
                row.check.clone(),
                row.family.unwrap_or("").into(),
                row.expected.clone(),
                row.measured.clone(),
                sessions,
                if row.passed { "ok".into() } else { "FAILED".into() },
            ]
        });
        let head = ["check", "family", "expected", "measured", "opened / in ha-ctl", "verdict"];
        let states: Vec<String> = self
            .sessions
            .by_state
            .iter()
            .map(|count| format!("{} {} {}", count.sessions, count.proto, count.state))
            .collect();
        let drops: Vec<String> =
            self.drops.iter().map(|(name, packets)| format!("{name} {packets}")).collect();
        let failed = self.checks.iter().filter(|row| !row.passed).count();
        let verdict = match failed {
            0 => format!("all {} checks passed", self.checks.len()),
            _ => format!("{failed} of {} checks FAILED", self.checks.len()),
        };
        format!(
            "{}\nha-ctl sessions --count: {} ({})\nha-ctl counters, packets dropped: {}\n{verdict} in {:.1} s",
            table(&head, rows),
            self.sessions.total,
            states.join(", "),
            if drops.is_empty() { "none".into() } else { drops.join(", ") },
            self.took_ms as f64 / 1000.0,
        )
    }

    /// For programs: one line.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self)
            .unwrap_or_else(|error| format!("{{\"passed\":false,\"error\":\"{error}\"}}"))
    }
}

/// Shows on standard error what is going on; standard output is for the result.
#[derive(Debug)]
pub struct Progress {
    terminal: bool,
}

impl Default for Progress {
    fn default() -> Self {
        Self { terminal: std::io::stderr().is_terminal() }
    }
}

impl Progress {
    /// A step without a verdict of its own.
    pub fn step<T>(&mut self, name: &str, action: impl FnOnce() -> Result<T>) -> Result<T> {
        self.begin(name);
        let started = Instant::now();
        let result = action();
        self.end(
            if result.is_ok() { "·" } else { "✗" },
            name,
            &format!("{} ms", started.elapsed().as_millis()),
        );
        result
    }

    /// A check: what it finds, or why it could not be carried out, becomes a row.
    pub fn check(
        &mut self,
        name: &str,
        family: Option<Family>,
        action: impl FnOnce() -> Result<Finding>,
    ) -> Row {
        let title = family.map_or_else(|| name.to_owned(), |family| format!("{name}, {}", family.name()));
        self.begin(&title);
        let started = Instant::now();
        let finding = action().unwrap_or_else(|error| Finding {
            expected: "to be carried out".into(),
            measured: error.to_string(),
            sessions: None,
            good: false,
        });
        let counted = finding.sessions.is_none_or(|(opened, counted)| opened == counted);
        let row = Row {
            check: name.into(),
            family: family.map(Family::name),
            expected: finding.expected,
            measured: finding.measured,
            sessions_opened: finding.sessions.map(|(opened, _)| opened),
            sessions_counted: finding.sessions.map(|(_, counted)| counted),
            passed: finding.good && counted,
            took_ms: millis(started.elapsed()),
        };
        self.end(if row.passed { "✓" } else { "✗" }, &title, &row.measured);
        row
    }

    fn begin(&self, title: &str) {
        if self.terminal {
            eprint!("… {title}");
            let _ = std::io::stderr().flush();
        }
    }

    fn end(&self, mark: &str, title: &str, note: &str) {
        // On a terminal the line that was begun is overwritten.
        let start = if self.terminal { "\r\x1b[K" } else { "" };
        eprintln!("{start}{mark} {title}: {note}");
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::LabError;

    fn finding(good: bool, sessions: Option<(u64, u64)>) -> Finding {
        Finding { expected: "x".into(), measured: "y".into(), sessions, good }
    }

    fn report(rows: Vec<Row>) -> Report {
        let sessions = proto::SessionCounts { total: 0, by_state: Vec::new() };
        Report::new(rows, sessions, vec![("policy".into(), 3)], Duration::from_millis(1500))
    }

    #[test]
    fn a_wrong_session_count_fails_a_good_check() {
        let mut progress = Progress { terminal: false };
        let row = progress.check("c", Some(Family::V4), || Ok(finding(true, Some((2, 3)))));
        assert!(!row.passed);
        let row = progress.check("c", Some(Family::V4), || Ok(finding(true, Some((2, 2)))));
        assert!(row.passed);
    }

    #[test]
    fn what_could_not_be_carried_out_has_failed() {
        let mut progress = Progress { terminal: false };
        let row = progress.check("c", None, || Err(LabError::NotRoot));
        assert!(!row.passed);
        assert!(row.measured.contains("needs root"), "{}", row.measured);
    }

    #[test]
    fn one_failed_check_fails_the_report() {
        let mut progress = Progress { terminal: false };
        let good = progress.check("a", None, || Ok(finding(true, None)));
        let bad = progress.check("b", None, || Ok(finding(false, None)));
        assert!(report(vec![good.clone()]).passed());
        let both = report(vec![good, bad]);
        assert!(!both.passed());
        assert!(both.table().ends_with("1 of 2 checks FAILED in 1.5 s"), "{}", both.table());
        let json: serde_json::Value = serde_json::from_str(&both.to_json()).unwrap();
        assert_eq!(json["passed"], false);
        assert_eq!(json["checks"][1]["check"], "b");
        assert!(!report(Vec::new()).passed(), "a demo that checked nothing has shown nothing");
    }
}
