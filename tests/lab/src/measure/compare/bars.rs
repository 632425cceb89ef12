//! Charts of bars in groups.

use std::fmt::Write as _;

use crate::svg::{self, escape};

/// One value.
pub(super) struct Bar {
    pub(super) value: f64,
    pub(super) text: String,
    pub(super) colour: &'static str,
}

/// Values that belong side by side.
pub(super) struct Group {
    pub(super) name: String,
    pub(super) bars: Vec<Bar>,
}

/// A chart with a scale of its own.
pub(super) struct Chart {
    pub(super) title: String,
    pub(super) groups: Vec<Group>,
}

/// A page of them.
pub(super) struct Charts {
    pub(super) title: String,
    /// Names and their colours.
    pub(super) legend: Vec<(String, &'static str)>,
    pub(super) charts: Vec<Chart>,
}

const COLUMNS: usize = 2;
const WIDTH: usize = 500;
const MARGIN: usize = 16;
const TOP: usize = 70;
const TITLE: usize = 26;
const BAR: usize = 15;
const NAME: usize = 18;
/// Room right of the longest bar for its number.
const NUMBER: usize = 90;

impl Chart {
    fn height(&self) -> usize {
        TITLE + self.groups.iter().map(|group| NAME + group.bars.len() * BAR + 4).sum::<usize>() + 14
    }
}

impl Charts {
    /// As SVG text.
    pub(super) fn to_svg(&self) -> String {
        let rows: Vec<&[Chart]> = self.charts.chunks(COLUMNS).collect();
        let height_of = |row: &[Chart]| row.iter().map(Chart::height).max().unwrap_or(0);
        let height = TOP + rows.iter().map(|row| height_of(row)).sum::<usize>() + MARGIN;
        let width = COLUMNS * (WIDTH + MARGIN) + MARGIN;
        let mut shapes = String::new();
        let mut x = MARGIN;
        for (name, colour) in &self.legend {
            let _ = writeln!(
                shapes,
                "<rect x=\"{x}\" y=\"38\" width=\"12\" height=\"12\" fill=\"{colour}\"/>\
                 <text x=\"{}\" y=\"48\" fill=\"#111\">{}</text>",
                x + 17,
                escape(name)
            );
            x += 40 + name.len() * 7;
        }
        let mut y = TOP;
        for row in rows {
            for (column, chart) in row.iter().enumerate() {
                draw(&mut shapes, chart, MARGIN + column * (WIDTH + MARGIN), y);
            }
            y += height_of(row);
        }
        svg::document((width as f64, height as f64), (MARGIN as f64, 24.0), &self.title, &shapes)
    }
}

fn draw(shapes: &mut String, chart: &Chart, x: usize, mut y: usize) {
    let bars = chart.groups.iter().flat_map(|group| &group.bars);
    let longest = bars.map(|bar| bar.value).fold(0.0, f64::max);
    let scale = if longest > 0.0 { (WIDTH - NUMBER) as f64 / longest } else { 0.0 };
    let _ = writeln!(
        shapes,
        "<text x=\"{x}\" y=\"{}\" font-weight=\"bold\" fill=\"#111\">{}</text>",
        y + 14,
        escape(&chart.title)
    );
    y += TITLE;
    for group in &chart.groups {
        let _ =
            writeln!(shapes, "<text x=\"{x}\" y=\"{}\" fill=\"#555\">{}</text>", y + 12, escape(&group.name));
        y += NAME;
        for bar in &group.bars {
            let width = (bar.value * scale).max(1.0);
            let _ = writeln!(
                shapes,
                "<rect x=\"{x}\" y=\"{y}\" width=\"{width:.1}\" height=\"{}\" fill=\"{}\"/>\
                 <text x=\"{:.1}\" y=\"{}\" fill=\"#111\">{}</text>",
                BAR - 3,
                bar.colour,
                x as f64 + width + 5.0,
                y + 11,
                escape(&bar.text)
            );
            y += BAR;
        }
        y += 4;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_bar_leaves_room_for_its_number() {
        let bar = |value| Bar { value, text: format!("{value}"), colour: "#123456" };
        let chart = |values: Vec<f64>| Chart {
            title: "a < b".into(),
            groups: vec![Group { name: "group".into(), bars: values.into_iter().map(bar).collect() }],
        };
        let charts = vec![chart(vec![10.0, 5.0]), chart(vec![0.0]), chart(Vec::new())];
        let svg = Charts { title: "t".into(), legend: vec![("x".into(), "#123456")], charts }.to_svg();
        assert!(
            svg.contains("a &lt; b") && svg.contains(&format!("width=\"{:.1}\"", (WIDTH - NUMBER) as f64))
        );
        assert_eq!(svg.matches("fill=\"#123456\"").count(), 4);
        assert!(svg.ends_with("</svg>\n"));
    }
}
