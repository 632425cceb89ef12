//! A comparison as tables that a page takes as they are, and as a picture.

use super::{
    Comparison, Cut, Row, Wire,
    bars::{Bar, Chart, Charts, Group},
    cut, figures,
    subject::System,
};
use crate::{measure::Figure, stream::StreamKind, topology::Family};

/// Colours of the systems, in their order.
const COLOURS: [&str; 3] = ["#1e8449", "#5b7fa6", "#a9b8c9"];

impl Comparison {
    /// For people and for the documentation: a table for each size, and one of the cuts.
    pub fn to_markdown(&self) -> String {
        let mut text = String::new();
        let mut sizes: Vec<u32> = Vec::new();
        for row in &self.rows {
            if !sizes.contains(&row.sessions) {
                sizes.push(row.sessions);
            }
        }
        for size in sizes {
            let rows: Vec<&Row> = self.rows.iter().filter(|row| row.sessions == size).collect();
            text += &size_table(size, &rows);
            for row in &rows {
                text += &row
                    .faults
                    .iter()
                    .map(|fault| format!("{}: {fault}\n\n", row.system))
                    .collect::<String>();
            }
        }
        text += &self.wire.as_ref().map(Wire::line).unwrap_or_default();
        text += &cut_table(&self.cuts);
        text += &self.faults.iter().map(|fault| format!("{fault}\n")).collect::<String>();
        text.trim_end().to_owned()
    }

    /// What matters most, as bars.
    pub fn to_svg(&self) -> String {
        let udp4 = figures::gap(StreamKind::Udp(Family::V4));
        let charts = [
            ("Gap of a UDP stream at a death, ms", udp4.as_str()),
            ("The slowest of 100 TCP connections at a death, ms", figures::SLOWEST),
            ("Full copy to the node that died, ms from its start", figures::RETURN),
            ("Sessions/s that reached the standby (100,000 offered)", figures::SYNCED),
            ("Processor time for syncing a session, us", figures::SYNC_CPU),
            ("64-byte packets/s forwarded", figures::FORWARDED),
            ("Processor time a packet, above a bare bridge, ns", figures::PACKET),
        ];
        let mut charts: Vec<Chart> =
            charts.into_iter().map(|(title, name)| self.chart(title, name)).collect();
        charts.push(self.cut_chart());
        charts.retain(|chart| !chart.groups.is_empty());
        let legend = System::ALL.iter().zip(COLOURS).map(|(system, colour)| (system.name().into(), colour));
        Charts {
            title: "Understudy beside nftables + conntrackd + keepalived (medians)".into(),
            legend: legend.collect(),
            charts,
        }
        .to_svg()
    }

    fn chart(&self, title: &str, name: &str) -> Chart {
        let mut groups: Vec<Group> = Vec::new();
        for row in &self.rows {
            let Some(figure) = row.figure(name) else { continue };
            let title = format!("{} sessions", thousands(f64::from(row.sessions)));
            if groups.last().is_none_or(|group| group.name != title) {
                groups.push(Group { name: title, bars: Vec::new() });
            }
            if let Some(group) = groups.last_mut() {
                group.bars.push(Bar {
                    value: figure.median,
                    text: number(figure.median),
                    colour: colour_of(row.system),
                });
            }
        }
        Chart { title: title.into(), groups }
    }

    fn cut_chart(&self) -> Chart {
        let of = |name: &str, count: fn(&Cut) -> usize| Group {
            name: name.into(),
            bars: self
                .cuts
                .iter()
                .filter(|cut| cut.silent && cut.fault.is_none())
                .filter(|cut| System::ALL.iter().any(|system| system.name() == cut.system))
                .map(|cut| Bar {
                    value: count(cut) as f64,
                    text: count(cut).to_string(),
                    colour: colour_of(cut.system),
                })
                .collect(),
        };
        let mut groups = vec![
            of(&format!("of {} UDP sessions", cut::UDP), |cut| cut.udp),
            of(&format!("of {} TCP connections", cut::TCP), |cut| cut.tcp),
        ];
        groups.retain(|group| !group.bars.is_empty());
        Chart { title: "Opened while the sync link passed nothing, alive after the death".into(), groups }
    }
}

fn colour_of(system: &str) -> &'static str {
    let place = System::ALL.iter().position(|known| known.name() == system);
    place.and_then(|place| COLOURS.get(place)).copied().unwrap_or("#888")
}

fn size_table(size: u32, rows: &[&Row]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for figure in rows.iter().flat_map(|row| &row.figures) {
        if !names.contains(&figure.name.as_str()) {
            names.push(&figure.name);
        }
    }
    let heads: Vec<&str> = rows.iter().map(|row| row.system).collect();
    let mut text = format!("| {} sessions | {} |\n", thousands(f64::from(size)), heads.join(" | "));
    text += &format!("|---{}|\n", "|---".repeat(rows.len()));
    for name in names {
        let cells: Vec<String> = rows.iter().map(|row| row.figure(name).map_or("-".into(), cell)).collect();
        text += &format!("| {name} | {} |\n", cells.join(" | "));
    }
    text + "\n"
}

fn cut_table(cuts: &[Cut]) -> String {
    let mut text = String::new();
    for (silent, how) in [(false, "cable pulled"), (true, "frames vanish, the link stays up")] {
        let mut cuts = cuts.iter().filter(|cut| cut.silent == silent).peekable();
        if cuts.peek().is_none() {
            continue;
        }
        text += &format!(
            "| sync link: {how} | UDP, of {} | TCP, of {} | what had warned before the death |\n|---|---|---|---|\n",
            cut::UDP,
            cut::TCP
        );
        for cut in cuts {
            let warned = if cut.warnings.is_empty() { "nothing".into() } else { cut.warnings.join("; ") };
            let warned = in_a_cell(&warned);
            text += &match &cut.fault {
                Some(fault) => format!("| {} | - | - | no figure: {} |\n", cut.system, in_a_cell(fault)),
                None => format!("| {} | {} | {} | {warned} |\n", cut.system, cut.udp, cut.tcp),
            };
        }
        text += "\n";
    }
    text
}

/// What others said, without what would end the cell or its row.
fn in_a_cell(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines.join("; ").replace('|', "\\|")
}

fn cell(figure: &Figure) -> String {
    let values = [figure.min, figure.median, figure.max].map(number);
    let values = if figure.runs == 1 { values[1].clone() } else { values.join(" / ") };
    format!("{values} {}", figure.unit).trim_end().to_owned()
}

/// With as many digits as say something.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => thousands(value.round()),
        size if size >= 10.0 && value.fract() != 0.0 => format!("{value:.1}"),
        _ if value.fract() == 0.0 => format!("{value:.0}"),
        _ => format!("{value:.2}"),
    }
}

fn thousands(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let grouped: Vec<String> =
        digits.as_bytes().rchunks(3).rev().map(|group| String::from_utf8_lossy(group).into_owned()).collect();
    format!("{}{}", if value < 0.0 { "-" } else { "" }, grouped.join(","))
}

impl Wire {
    pub(super) fn line(&self) -> String {
        format!(
            "A bare bridge in the node's place: {}, {} of the whole machine for a packet at 100,000/s.\n\n",
            cell(&self.forwarded),
            cell(&self.machine_ns)
        )
    }
}

impl Row {
    /// As it comes, for people who wait.
    pub(super) fn lines(&self) -> String {
        let figures = self.figures.iter().map(|figure| format!("  {}: {}", figure.name, cell(figure)));
        let faults = self.faults.iter().map(|fault| format!("  FAULT: {fault}"));
        figures.chain(faults).collect::<Vec<_>>().join("\n")
    }
}

impl Cut {
    /// As it comes, for people who wait.
    pub(super) fn line(&self) -> String {
        match &self.fault {
            Some(fault) => format!("  FAULT: {fault}"),
            None => format!("  {} UDP, {} TCP live on; warned: {:?}", self.udp, self.tcp, self.warnings),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn comparison() -> Comparison {
        let gap = figures::gap(StreamKind::Udp(Family::V4));
        let row = |system: System, values: Vec<f64>, faults| Row {
            system: system.name(),
            sessions: 100_000,
            figures: Figure::of(gap.clone(), "ms", values).into_iter().collect(),
            faults,
        };
        let cut = Cut {
            system: System::Direct.name(),
            silent: true,
            udp: 0,
            tcp: 0,
            warnings: Vec::new(),
            fault: None,
        };
        Comparison {
            rows: vec![
                row(System::Understudy, vec![250.0, 260.4, 299.0], Vec::new()),
                row(System::Direct, Vec::new(), vec!["ended early: it broke".into()]),
            ],
            wire: None,
            cuts: vec![cut],
            faults: Vec::new(),
        }
    }

    #[test]
    fn a_system_that_failed_is_a_column_and_a_line() {
        let text = comparison().to_markdown();
        for line in [
            "| 100,000 sessions | Understudy | conntrackd (no external cache) |",
            "| gap udp4 | 250 / 260 / 299 ms | - |",
            "conntrackd (no external cache): ended early: it broke",
            "| conntrackd (no external cache) | 0 | 0 | nothing |",
        ] {
            assert!(text.contains(line), "{line} missing in:\n{text}");
        }
        assert!(comparison().is_whole(), "what another system does is no fault of ours");
    }

    #[test]
    fn a_size_has_one_table_and_what_programs_say_stays_in_its_cell() {
        let mut found = comparison();
        found.rows.push(Row { sessions: 5, ..found.rows[0].clone() });
        found.rows.push(found.rows[0].clone());
        found.cuts[0].fault = Some("it ended\n--- log ---\n a | b\n\n".into());
        let text = found.to_markdown();
        assert_eq!(text.matches("| 100,000 sessions |").count(), 1, "{text}");
        assert!(text.contains("| - | - | no figure: it ended; --- log ---; a \\| b |"), "{text}");
        assert!(!found.to_svg().contains("of 200 UDP sessions"), "no bars, no chart");
    }

    #[test]
    fn the_picture_has_a_bar_for_each_figure() {
        let svg = comparison().to_svg();
        assert!(svg.contains(">260<") && svg.contains("100,000 sessions"), "{svg}");
        assert!(svg.len() < 60_000);
    }

    #[test]
    fn numbers_have_the_digits_that_say_something() {
        let all = [1_234_567.0, 100_000.4, 99.25, 100.0, 5.0, 0.123, -1_200.0].map(number);
        assert_eq!(all, ["1,234,567", "100,000", "99.2", "100", "5", "0.12", "-1,200"]);
    }
}
