//! What the pair reaches, in numbers: gaps of takeovers and switchovers, bulk sync, bytes on the wire. Each
//! measurement prints a table and, if asked, one line of JSON; what it must reach stands beside.

pub mod bulk;
pub mod compare;
pub mod takeover;
pub mod wire;

use std::time::Duration;

use serde::Serialize;

use crate::{guard::LabOptions, pair::PairSettings, report::table};

/// Median and range of a figure over the runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figure {
    /// What it is.
    pub name: String,
    /// Its unit.
    pub unit: &'static str,
    /// The smallest.
    pub min: f64,
    /// The middle one.
    pub median: f64,
    /// The largest.
    pub max: f64,
    /// How many there were.
    pub runs: usize,
    /// What it must reach, in words.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub must: String,
}

impl Figure {
    /// Of all runs; `None` without any.
    pub fn of(name: impl Into<String>, unit: &'static str, mut values: Vec<f64>) -> Option<Self> {
        values.retain(|value| value.is_finite());
        let middle = median(&mut values)?;
        let rounded = |value: f64| (value * 100.0).round() / 100.0;
        Some(Self {
            name: name.into(),
            unit,
            min: rounded(*values.first()?),
            median: rounded(middle),
            max: rounded(*values.last()?),
            runs: values.len(),
            must: String::new(),
        })
    }

    /// With what it must reach.
    #[must_use]
    pub fn must(mut self, must: impl Into<String>) -> Self {
        self.must = must.into();
        self
    }
}

/// The middle of what was measured, which it sorts; between the two in the middle where there are two.
pub(crate) fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    let lower = *values.get((values.len() - 1) / 2)?;
    Some(lower.midpoint(upper))
}

/// A time in milliseconds.
pub(crate) fn ms(span: Duration) -> f64 {
    span.as_secs_f64() * 1000.0
}

/// A measurement's result.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    /// What was measured, and how.
    pub title: String,
    /// The figures.
    pub figures: Vec<Figure>,
    /// What went otherwise than it should.
    pub faults: Vec<String>,
}

impl Figures {
    /// For people.
    pub fn table(&self) -> String {
        let rows = self.figures.iter().map(|figure| {
            let value = |value: f64| format!("{value} {}", figure.unit);
            vec![
                figure.name.clone(),
                value(figure.min),
                value(figure.median),
                value(figure.max),
                figure.runs.to_string(),
                figure.must.clone(),
            ]
        });
        let faults: String = self.faults.iter().map(|fault| format!("\nFAULT: {fault}")).collect();
        let head = ["figure", "min", "median", "max", "runs", "must"];
        format!("{}\n{}{faults}", self.title, table(&head, rows))
    }

    /// For programs: one line.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"))
    }
}

/// What a lab for measuring is like.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The pair.
    pub pair: PairSettings,
    /// Sessions in the table beside those of the streams.
    pub sessions: u32,
    /// Further options.
    pub options: LabOptions,
}

impl Setting {
    /// The lab's options: room for the sessions, which stay until they are ended.
    pub fn lab_options(&self) -> LabOptions {
        let capacity = (self.sessions + self.sessions / 8).max(16_384) + 8_192;
        let mut options = LabOptions { nodes: 2, pair: self.pair.clone(), ..self.options.clone() };
        options.overlays.insert(
            0,
            format!("[sessions]\ncapacity = {capacity}\n[timeouts]\nudp-new = 7200\nudp = 7200\n"),
        );
        options
    }
}

/// Sessions opened in a second by the generator: what the lab's rings take without losing many.
pub const FILL_PER_SECOND: u32 = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_middle_and_edges_of_what_was_measured() {
        let figure = Figure::of("gap", "ms", vec![3.0, 1.0, f64::NAN, 2.0]).unwrap().must("under 4");
        assert_eq!((figure.min, figure.median, figure.max, figure.runs), (1.0, 2.0, 3.0, 3));
        assert_eq!(Figure::of("none", "ms", vec![f64::NAN]), None);
        assert_eq!(Figure::of("even", "ms", vec![9.0, 1.0, 2.0, 4.0]).map(|figure| figure.median), Some(3.0));
        let figures = Figures { title: "t".into(), figures: vec![figure], faults: vec!["broken".into()] };
        assert!(figures.table().contains("under 4") && figures.table().ends_with("FAULT: broken"));
        let json: serde_json::Value = serde_json::from_str(&figures.to_json()).unwrap();
        assert_eq!(json["figures"][0]["median"], 2.0);
    }
}
