//! The same course for Understudy and for what a user would run instead, one after the other, on the same
//! cables: how fast sessions reach the standby and what that costs, how many packets a node passes on and what
//! that costs, how long a node that has nothing needs, how long streams are silent when the active machine
//! dies and what lives on, and what a cut of the sync link does.
//!
//! Whatever one system does, the others are measured: what goes wrong is a line of its table.

mod bars;
mod course;
mod cut;
mod progress;
mod rates;
mod show;
mod subject;

use std::{path::Path, time::Duration};

use serde::Serialize;

pub use self::{cut::Cut, subject::System};
use self::{cut::Kind, progress::Progress, rates::Rates};
use super::Figure;
use crate::{error::Result, interrupt, svg};

/// Names of what is measured, as they stand in tables and JSON.
mod figures {
    use crate::stream::StreamKind;

    pub(super) const CONNECTIONS: &str = "TCP connections of 100 that lived on";
    pub(super) const STALL: &str = "all TCP together without an echo";
    pub(super) const SLOWEST: &str = "the slowest of them without an echo";
    pub(super) const LOST: &str = "sessions lost at a death";
    pub(super) const SYNCED: &str = "sessions a second that reached the standby";
    pub(super) const SYNC_CPU: &str = "processor time for syncing, both nodes";
    pub(super) const NEVER: &str = "sessions that never reached the standby";
    pub(super) const COPY: &str = "full copy to a node that has nothing, no traffic";
    pub(super) const RETURN: &str = "full copy to the node that died, under traffic";
    pub(super) const TOLD: &str = "100 new connections until the standby has them";
    pub(super) const COMMIT: &str = "commit of the cache";
    pub(super) const FORWARDED: &str = "64-byte packets forwarded, as many as possible offered";
    pub(super) const OFFERED: &str = "of so many offered";
    pub(super) const PACKET: &str = "processor time for a packet at 100,000/s, above a bare bridge";
    pub(super) const ARRIVED: &str = "of 100,000 packets/s arrived";

    pub(super) fn gap(kind: StreamKind) -> String {
        format!("gap {}", kind.name())
    }
}

/// What is asked of a comparison.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Sizes of the table.
    pub sessions: Vec<u32>,
    /// Deaths for each system with a table of that size; the last one is for all further sizes.
    pub runs: Vec<u32>,
    /// Who goes through it.
    pub systems: Vec<System>,
    /// Whether nothing else is done: no bare bridge, hence no forwarding, and no cuts.
    pub courses_only: bool,
    /// How long to wait for another lab's end.
    pub patience: Duration,
}

impl Plan {
    fn has_cut(&self, kind: Kind) -> bool {
        !self.courses_only && self.systems.contains(&kind.system())
    }
}

/// All that was found.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// A row for each system and size.
    pub rows: Vec<Row>,
    /// What everything but a node forwards.
    pub wire: Option<Wire>,
    /// After cuts of the sync link.
    pub cuts: Vec<Cut>,
    /// What went wrong beside them.
    pub faults: Vec<String>,
}

/// One system with a table of one size.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The system.
    pub system: &'static str,
    /// Sessions in its table.
    pub sessions: u32,
    /// What was measured.
    pub figures: Vec<Figure>,
    /// What went otherwise than it should.
    pub faults: Vec<String>,
}

/// A bare bridge in the node's place.
#[derive(Clone, Debug, Serialize)]
pub struct Wire {
    /// Packets a second that arrived.
    pub forwarded: Figure,
    /// Processor time of the whole machine for a packet at the steady rate, generator and all.
    pub machine_ns: Figure,
}

/// Goes through everything; only an interrupt ends it.
pub fn run(plan: &Plan) -> Result<Comparison> {
    let mut found = Comparison { rows: Vec::new(), wire: None, cuts: Vec::new(), faults: Vec::new() };
    let courses: Vec<(u32, System, u32)> = plan
        .sessions
        .iter()
        .enumerate()
        .flat_map(|(place, sessions)| {
            let runs = plan.runs.get(place).or(plan.runs.last()).copied().unwrap_or(1);
            plan.systems.iter().map(move |system| (*sessions, *system, runs))
        })
        .collect();
    let cuts: Vec<Kind> = Kind::ALL.into_iter().filter(|kind| plan.has_cut(*kind)).collect();
    let steps = courses.iter().map(|(sessions, _, runs)| expected(*sessions, *runs));
    let mut progress = Progress::of(
        (!plan.courses_only).then_some(WIRE).into_iter().chain(steps).chain(cuts.iter().map(|_| CUT)),
    );
    if !plan.courses_only {
        progress.begin("forwarding over a bare bridge", WIRE);
        match rates::wire(1_000, plan.patience).map(Wire::of) {
            Ok(Some(wire)) => {
                eprintln!("  {}", wire.line().trim_end());
                found.wire = Some(wire);
            }
            Ok(None) => found.fault("a bare bridge: nothing passed".into()),
            Err(error) => found.fault(format!("a bare bridge: {error}")),
        }
    }
    for (sessions, system, runs) in courses {
        interrupt::check("go on comparing")?;
        progress.begin(&format!("{sessions} sessions, {}", system.name()), expected(sessions, runs));
        let mut row = Row { system: system.name(), sessions, figures: Vec::new(), faults: Vec::new() };
        let result = system
            .up(sessions, plan.patience)
            .and_then(|mut subject| course::run(subject.as_mut(), runs, found.wire.as_ref(), &mut row));
        if let Err(error) = result {
            row.faults.push(format!("ended early: {error}"));
        }
        eprintln!("{}", row.lines());
        found.rows.push(row);
    }
    for kind in cuts {
        interrupt::check("go on comparing")?;
        progress.begin(&format!("cut of the sync link, {}", kind.name()), CUT);
        let cut = cut::run(kind, plan);
        eprintln!("{}", cut.line());
        found.cuts.push(cut);
    }
    interrupt::check("show what was found")?;
    Ok(found)
}

const WIRE: Duration = Duration::from_secs(12);
const CUT: Duration = Duration::from_secs(12);

/// What a course is expected to take.
fn expected(sessions: u32, runs: u32) -> Duration {
    Duration::from_secs_f64(20.0 + f64::from(runs) * 3.5 + f64::from(sessions) / 15_000.0)
}

impl Wire {
    fn of(rates: Rates) -> Option<Self> {
        Some(Self {
            forwarded: Figure::of("64-byte packets over a bare bridge", "/s", rates.forwarded)?,
            machine_ns: Figure::of("processor time of the whole machine", "ns/packet", rates.machine_ns)?,
        })
    }

    /// Notes what a node adds to it.
    fn compare(&self, rates: Rates, row: &mut Row) {
        row.add(figures::FORWARDED, "/s", rates.forwarded);
        row.add(figures::OFFERED, "/s", rates.offered);
        // Whatever else ran can only have added to it.
        let above = rates.machine_ns.iter().map(|ns| ns - self.machine_ns.min).collect();
        row.add(figures::PACKET, "ns", above);
        row.add(figures::ARRIVED, "%", rates.arrived);
    }
}

impl Row {
    fn add(&mut self, name: &str, unit: &'static str, values: Vec<f64>) {
        self.figures.extend(Figure::of(name, unit, values));
    }

    fn figure(&self, name: &str) -> Option<&Figure> {
        self.figures.iter().find(|figure| figure.name == name)
    }
}

impl Comparison {
    fn fault(&mut self, fault: String) {
        eprintln!("  FAULT: {fault}");
        self.faults.push(fault);
    }

    /// Whether our own pair went through all of it as it should.
    pub fn is_whole(&self) -> bool {
        let own = |system: &str| system.starts_with(System::Understudy.name());
        self.faults.is_empty()
            && self.rows.iter().filter(|row| own(row.system)).all(|row| row.faults.is_empty())
            && self.cuts.iter().filter(|cut| own(cut.system)).all(|cut| cut.fault.is_none())
    }

    /// For programs: one line.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"))
    }

    /// Writes the picture, whose folder is made if it is not there.
    pub fn draw(&self, path: &Path) -> Result<()> {
        svg::write(path, &self.to_svg())
    }
}
