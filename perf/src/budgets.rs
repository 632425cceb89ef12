//! What was promised, next to what was measured.

use crate::rows::Measured;
use serde::Serialize;

/// One promise.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Budget {
    /// Of what.
    pub name: String,
    /// The median that was measured.
    pub value: f64,
    /// Of both.
    pub unit: String,
    /// What must be reached.
    pub budget: f64,
    /// What should be.
    pub aim: Option<f64>,
    /// Whether what must be is.
    pub met: bool,
}

/// Whether more is better.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Better {
    Less,
    More,
}

/// The promises that the rows say something about.
pub fn budgets(rows: &[Measured]) -> Vec<Budget> {
    let find = |name: &str, sessions: u64| {
        let row = rows.iter().find(|row| row.name == name && (sessions == 0 || row.sessions == sessions));
        row.map(|row| row.value.median)
    };
    let mut all = Vec::new();
    let mut add = |name: &str, value: Option<f64>, unit: &str, (budget, aim), better| {
        let Some(value) = value else { return };
        let met = if better == Better::Less { value <= budget } else { value >= budget };
        all.push(Budget { name: name.to_owned(), value, unit: unit.to_owned(), budget, aim, met });
    };
    for (label, sessions, limits) in [
        ("1 k", 1_000, (90.0, Some(70.0))),
        ("100 k", 100_000, (120.0, Some(90.0))),
        ("1 M", 1_000_000, (150.0, Some(120.0))),
        ("10 M", 10_000_000, (200.0, Some(160.0))),
    ] {
        let value = find("established tcp4", sessions);
        let name = format!("established TCP packet, {label} sessions");
        add(&name, value, "clocks", limits, Better::Less);
    }
    let new = find("new tcp4, 1000 rules", 0);
    add("new session, 1,000 rules", new, "clocks", (400.0, Some(300.0)), Better::Less);
    let told = find("telling a partner of a new udp4", 0);
    add("replicating a new session, worker", told, "clocks", (60.0, Some(40.0)), Better::Less);
    let out = find("sync, tcp4: sent", 0);
    add("sync core, sealed and sent", out, "records/s", (2e6, Some(5e6)), Better::More);
    let into = find("sync, tcp4: received", 0);
    add("sync core, received", into, "records/s", (2e6, Some(5e6)), Better::More);
    let bulk = find("bulk, tcp4: two processors", 1_000_000);
    add("bulk sync of 1 M sessions", bulk, "ms", (500.0, Some(250.0)), Better::Less);
    let takeover = find("takeover, tcp4: order to first packet", 10_000_000);
    add("takeover beyond detection, 10 M sessions", takeover, "ms", (5.0, None), Better::Less);
    let [tcp, udp] = ["sync, tcp4: on the wire", "sync, udp4: on the wire"].map(|name| find(name, 0));
    add("wire bytes of a TCP session", tcp, "bytes", (56.0, None), Better::Less);
    add("wire bytes of a UDP session", udp, "bytes", (40.0, None), Better::Less);
    let bytes = find("memory of a session, a node of a pair", 0);
    add("memory of an IPv4 session, everything", bytes, "bytes", (192.0, Some(160.0)), Better::Less);
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figure::Figure;

    fn row(name: &str, sessions: u64, value: f64) -> Measured {
        Measured {
            name: name.into(),
            sessions,
            unit: String::new(),
            value: Figure::of(vec![0.0, value, 1e9]),
            ceiling: None,
            page_bytes: 0,
            hz: 1.0,
        }
    }

    #[test]
    fn medians_are_held_against_promises_and_what_was_not_measured_is_not_judged() {
        let rows = [
            row("established tcp4", 1_000, 90.0),
            row("established tcp4", 1_000_000, 150.1),
            row("telling a partner of a new udp4", 1_000_000, 60.0),
            row("sync, tcp4: sent", 1_000_000, 1.9e6),
        ];
        let judged: Vec<_> = budgets(&rows).into_iter().map(|b| (b.name, b.value, b.met)).collect();
        let expected = [
            ("established TCP packet, 1 k sessions", 90.0, true),
            ("established TCP packet, 1 M sessions", 150.1, false),
            ("replicating a new session, worker", 60.0, true),
            ("sync core, sealed and sent", 1.9e6, false),
        ];
        assert_eq!(judged, expected.map(|(name, value, met)| (name.to_owned(), value, met)));
    }
}
