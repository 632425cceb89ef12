//! A picture of an outage: packets per slice of time, a row for each stream, with the moments that matter
//! marked across all rows.

use std::{fmt::Write as _, path::Path, time::Duration};

use crate::{
    error::Result,
    svg::{self, escape},
};

/// A row of the picture.
#[derive(Clone, Debug)]
pub struct Series {
    /// Its name.
    pub name: String,
    /// What is said beside it, such as its longest silence.
    pub note: String,
    /// Packets in each slice.
    pub counts: Vec<u32>,
}

/// A moment that is marked across all rows.
#[derive(Clone, Debug)]
pub struct Mark {
    /// Milliseconds from the moment that the picture is about.
    pub at_ms: f64,
    /// What happened.
    pub label: String,
    /// Colour.
    pub colour: &'static str,
}

/// What is drawn.
#[derive(Clone, Debug)]
pub struct Picture {
    /// Over everything.
    pub title: String,
    /// Where the first slice begins, in milliseconds from the moment that the picture is about.
    pub start_ms: f64,
    /// Width of a slice.
    pub slice: Duration,
    /// The rows.
    pub series: Vec<Series>,
    /// The moments.
    pub marks: Vec<Mark>,
}

const LEFT: f64 = 110.0;
const WIDTH: f64 = 1000.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 64.0;
const ROW: f64 = 92.0;
const GAP: f64 = 14.0;
const BOTTOM: f64 = 44.0;

impl Picture {
    /// As SVG text.
    pub fn to_svg(&self) -> String {
        let slices = self.series.iter().map(|series| series.counts.len()).max().unwrap_or(0).max(1);
        let slice_ms = self.slice.as_secs_f64() * 1000.0;
        let span_ms = slice_ms * slices as f64;
        let x = |ms: f64| LEFT + (ms - self.start_ms) / span_ms * WIDTH;
        let bottom = TOP + self.series.len() as f64 * (ROW + GAP) - GAP;
        let (width, height) = (LEFT + WIDTH + RIGHT, bottom + BOTTOM);
        let mut shapes = String::new();
        for (row, series) in self.series.iter().enumerate() {
            let base = TOP + row as f64 * (ROW + GAP) + ROW;
            self.draw_row(&mut shapes, series, base, slices);
        }
        self.draw_axis(&mut shapes, &x, span_ms, bottom);
        for (index, mark) in self.marks.iter().enumerate() {
            let at = x(mark.at_ms);
            // Labels of moments close together go over one another, not into one another.
            let y = 38.0 + 13.0 * (index % 2) as f64;
            let _ = writeln!(
                shapes,
                "<line x1=\"{at:.1}\" y1=\"{:.1}\" x2=\"{at:.1}\" y2=\"{bottom:.1}\" stroke=\"{1}\" \
                 stroke-dasharray=\"4 3\"/>\n<text x=\"{2:.1}\" y=\"{y:.1}\" fill=\"{1}\">{3}</text>",
                y + 4.0,
                mark.colour,
                at + 4.0,
                escape(&mark.label)
            );
        }
        svg::document((width, height), (LEFT, 22.0), &self.title, &shapes)
    }

    fn draw_row(&self, shapes: &mut String, series: &Series, base: f64, slices: usize) {
        let highest = series.counts.iter().copied().max().unwrap_or(0).max(1);
        // A burst of retransmissions must not press everything else flat: what is higher is cut off.
        let mut filled: Vec<u32> = series.counts.iter().copied().filter(|count| *count > 0).collect();
        filled.sort_unstable();
        let usual = filled.get(filled.len() / 2).copied().unwrap_or(1);
        let full = highest.min(usual.saturating_mul(3)).max(1);
        let bar = WIDTH / slices as f64;
        let _ = writeln!(
            shapes,
            "<rect x=\"{LEFT}\" y=\"{:.1}\" width=\"{WIDTH}\" height=\"{ROW}\" fill=\"#f4f6f8\"/>\n\
             <text x=\"8\" y=\"{:.1}\" font-weight=\"bold\" fill=\"#111\">{}</text>\n\
             <text x=\"8\" y=\"{:.1}\" fill=\"#555\">{}</text>\n\
             <text x=\"8\" y=\"{:.1}\" fill=\"#999\">max {highest}</text>",
            base - ROW,
            base - ROW + 22.0,
            escape(&series.name),
            base - ROW + 40.0,
            escape(&series.note),
            base - 6.0,
        );
        for (place, count) in series.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            let height = f64::from((*count).min(full)) / f64::from(full) * (ROW - 6.0);
            let _ = writeln!(
                shapes,
                "<rect x=\"{:.2}\" y=\"{:.2}\" width=\"{:.2}\" height=\"{height:.2}\" fill=\"#2b6cb0\"/>",
                LEFT + place as f64 * bar,
                base - height,
                (bar - 0.6).max(0.4),
            );
        }
    }

    fn draw_axis(&self, shapes: &mut String, x: &impl Fn(f64) -> f64, span_ms: f64, bottom: f64) {
        let step = [10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0]
            .into_iter()
            .find(|step| span_ms / step <= 16.0)
            .unwrap_or(10_000.0);
        let mut tick = (self.start_ms / step).ceil() * step;
        while tick <= self.start_ms + span_ms {
            let _ = writeln!(
                shapes,
                "<line x1=\"{0:.1}\" y1=\"{bottom:.1}\" x2=\"{0:.1}\" y2=\"{1:.1}\" stroke=\"#888\"/>\n\
                 <text x=\"{0:.1}\" y=\"{2:.1}\" text-anchor=\"middle\" fill=\"#555\">{tick:.0} ms</text>",
                x(tick),
                bottom + 5.0,
                bottom + 19.0,
            );
            tick += step;
        }
        let _ = writeln!(
            shapes,
            "<text x=\"{LEFT}\" y=\"{:.1}\" fill=\"#555\">packets per {} ms, as they arrived</text>",
            bottom + 36.0,
            self.slice.as_millis()
        );
    }

    /// Writes it to a file, whose folder is made if it is not there.
    pub fn write(&self, path: &Path) -> Result<()> {
        svg::write(path, &self.to_svg())
    }
}

/// The same as one line of text, for a terminal: each character as many packets as it is high.
pub fn sparkline(counts: &[u32]) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let highest = counts.iter().copied().max().unwrap_or(0).max(1);
    counts
        .iter()
        .map(|count| match count {
            0 => ' ',
            // Never above 7: count <= highest.
            count => BARS[usize::try_from(u64::from(*count) * 7 / u64::from(highest)).unwrap_or(7).min(7)],
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_has_a_bar_for_each_slice_with_packets_and_its_marks() {
        let picture = Picture {
            title: "a < b".into(),
            start_ms: -100.0,
            slice: Duration::from_millis(10),
            series: vec![Series {
                name: "udp4".into(),
                note: "gap 30 ms".into(),
                counts: vec![10, 0, 0, 0, 9],
            }],
            marks: vec![Mark { at_ms: -90.0, label: "killed".into(), colour: "#c00" }],
        };
        let svg = picture.to_svg();
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
        assert_eq!(svg.matches("fill=\"#2b6cb0\"").count(), 2);
        for text in ["a &lt; b", "udp4", "gap 30 ms", "killed", "packets per 10 ms"] {
            assert!(svg.contains(text), "{text} missing");
        }
    }

    #[test]
    fn a_sparkline_shows_the_hole() {
        assert_eq!(sparkline(&[10, 10, 0, 5, 10]), "██ ▄█");
        assert_eq!(sparkline(&[]), "");
    }
}
