//! What the demo of the pair found, as a table for people and as the one line of JSON that programs read.

use serde::Serialize;

use crate::report::table;

/// The line of JSON, field for field.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verdict {
    /// Which node was killed.
    pub killed: &'static str,
    /// From the signal to the other node's word that it is active.
    pub detection_ms: Option<f64>,
    /// Longest silence of the one-millisecond streams.
    pub gap_ms: Gaps,
    /// Sessions before and after.
    pub sessions: Sessions,
    /// Whether the download that was under way is whole.
    pub download_ok: bool,
    /// Forged segments far outside the window that passed after the takeover.
    pub out_of_window_accepted: u64,
    /// Sessions whose TCP checks are still relaxed at the end.
    pub relaxed_left: Option<u64>,
}

/// Longest silence of each stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Gaps {
    /// Datagrams from the server over IPv4.
    pub udp4: f64,
    /// The same over IPv6.
    pub udp6: f64,
    /// Echo replies.
    pub icmp: f64,
}

/// Survivors of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Sessions {
    /// Connections that echo numbered records.
    pub tcp: Survival,
    /// Sessions over which only the server speaks.
    pub udp: Survival,
    /// Pings.
    pub icmp: Survival,
}

/// How many there were and how many lived on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Survival {
    /// Before the kill.
    pub before: usize,
    /// Of these, after it.
    pub survived: usize,
}

impl Survival {
    /// Whether there were any and all lived on.
    pub fn complete(self) -> bool {
        self.before > 0 && self.survived == self.before
    }
}

/// A line of the table.
#[derive(Clone, Debug)]
pub struct Line {
    /// What was looked at.
    pub what: String,
    /// What should be.
    pub expected: String,
    /// What is.
    pub measured: String,
    /// Whether that is good.
    pub good: bool,
}

/// Everything that the demo of the pair found.
#[derive(Clone, Debug)]
pub struct PairReport {
    /// The line for programs.
    pub verdict: Verdict,
    /// The lines for people.
    pub lines: Vec<Line>,
    /// Where the picture is.
    pub picture: String,
}

impl PairReport {
    /// Whether every established session survived both, and everything else held.
    pub fn passed(&self) -> bool {
        !self.lines.is_empty() && self.lines.iter().all(|line| line.good)
    }

    /// For people.
    pub fn table(&self) -> String {
        let rows = self.lines.iter().map(|line| {
            let verdict = if line.good { "ok" } else { "FAILED" };
            vec![line.what.clone(), line.expected.clone(), line.measured.clone(), verdict.into()]
        });
        let failed = self.lines.iter().filter(|line| !line.good).count();
        let sum = match failed {
            0 => "every established session survived the kill and the switchover".into(),
            _ => format!("{failed} of {} FAILED", self.lines.len()),
        };
        format!(
            "{}\npicture: {}\n{sum}",
            table(&["what", "expected", "measured", "verdict"], rows),
            self.picture
        )
    }

    /// For programs: one line.
    pub fn to_json(&self) -> String {
        serde_json::to_string(&self.verdict).unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_json_is_as_promised() {
        let tcp = Survival { before: 200, survived: 200 };
        let two = Survival { before: 2, survived: 1 };
        let verdict = Verdict {
            killed: "a",
            detection_ms: Some(260.5),
            gap_ms: Gaps { udp4: 270.0, udp6: 271.0, icmp: 272.0 },
            sessions: Sessions { tcp, udp: two, icmp: two },
            download_ok: true,
            out_of_window_accepted: 0,
            relaxed_left: Some(0),
        };
        let report = PairReport { verdict, lines: Vec::new(), picture: String::new() };
        assert_eq!(
            report.to_json(),
            "{\"killed\":\"a\",\"detection_ms\":260.5,\"gap_ms\":{\"udp4\":270.0,\"udp6\":271.0,\"icmp\":272.0},\
             \"sessions\":{\"tcp\":{\"before\":200,\"survived\":200},\"udp\":{\"before\":2,\"survived\":1},\
             \"icmp\":{\"before\":2,\"survived\":1}},\"download_ok\":true,\"out_of_window_accepted\":0,\"relaxed_left\":0}"
        );
        assert!(tcp.complete() && !two.complete() && !Survival::default().complete());
        assert!(!report.passed(), "a demo that looked at nothing has shown nothing");
    }
}
