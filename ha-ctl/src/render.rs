//! Answers as tables for people: pure functions from data to text.

use crate::format::{bytes, count, duration, endpoint, list, percent_of, permille, utc};
use crate::render_pair::{pair_facts, paths};
use comfy_table::{Cell, CellAlignment, Row, Table, presets};
use proto::{Counters, Neighbours, Policy, Routes, Rules, SessionCounts, Sessions, Status};
use std::fmt::Write;

/// `ha-ctl status`.
pub fn status(status: &Status) -> String {
    let mut out = String::new();
    let sessions = &status.sessions;
    let pages = if status.memory.page_bytes > 4_096 { "huge pages" } else { "ordinary pages" };
    let mut facts = vec![
        ("node", format!("{} (understudyd {})", status.node, status.version)),
        ("role", status.role.to_string()),
        ("uptime", duration(status.uptime_ms)),
        ("policy", policy(&status.policy)),
        (
            "sessions",
            format!(
                "{} of {} ({}), {} half-open",
                count(sessions.in_use),
                count(sessions.capacity),
                percent_of(sessions.in_use, sessions.capacity),
                count(sessions.half_open)
            ),
        ),
        (
            "",
            format!(
                "tcp {}{}, udp {}, icmp {}, other {}",
                count(sessions.tcp),
                match sessions.relaxed {
                    0 => String::new(),
                    relaxed => format!(" ({} with relaxed checks)", count(relaxed)),
                },
                count(sessions.udp),
                count(sessions.icmp),
                count(sessions.other)
            ),
        ),
        (
            "",
            format!(
                "created {}, expired {}, refused because full {}",
                count(sessions.created_total),
                count(sessions.expired_total),
                count(sessions.refused_full_total)
            ),
        ),
        (
            "memory",
            format!(
                "{} for sessions in {} of {}",
                bytes(status.memory.table_bytes),
                pages,
                bytes(status.memory.page_bytes)
            ),
        ),
        (
            "mbufs",
            format!(
                "{} of {} ({}), {}",
                count(status.mbufs.in_use),
                count(status.mbufs.total),
                percent_of(status.mbufs.in_use, status.mbufs.total),
                if status.eal.huge_pages { "huge pages" } else { "ordinary pages" }
            ),
        ),
    ];
    facts.extend(status.pair.iter().flat_map(pair_facts));
    facts.extend(status.warnings.iter().map(|warning| ("WARNING", warning.clone())));
    for (name, fact) in facts {
        line(&mut out, format_args!("{name:<10}{}", clean(&fact)));
    }

    if let Some(pair) = &status.pair {
        out.push('\n');
        out += &paths(&pair.paths);
    }
    out.push('\n');
    let mut workers = table(&["WORKER", "CPU", "POLLING", ">BUSY", ">SESSIONS", ">PACKETS", ">BURSTS"]);
    for worker in &status.workers {
        workers.row([
            worker.id.to_string(),
            worker.cpu.map_or("any".into(), |cpu| cpu.to_string()),
            worker.polling.clone(),
            permille(worker.busy_permille),
            count(worker.sessions),
            count(worker.packets),
            count(worker.bursts),
        ]);
    }
    out += &workers.text("no workers");

    out.push('\n');
    let mut ports = table(&[
        "PORT",
        "ZONE",
        "LINK",
        ">MTU",
        "MAC",
        ">RX",
        ">RX BYTES",
        ">TX",
        ">TX BYTES",
        ">MISSED",
        ">TX DROPPED",
        "DEVICE",
    ]);
    for port in &status.ports {
        ports.row([
            port.name.clone(),
            port.zone.clone(),
            if port.link { "up".into() } else { "down".into() },
            port.mtu.to_string(),
            port.mac.clone(),
            count(port.rx_packets),
            bytes(port.rx_bytes),
            count(port.tx_packets),
            bytes(port.tx_bytes),
            count(port.rx_missed),
            count(port.tx_dropped),
            port.device.clone(),
        ]);
    }
    out += &ports.text("no ports");
    for port in &status.ports {
        line(&mut out, format_args!("{}: {}", clean(&port.name), clean(&port.addresses.join(", "))));
    }
    out
}

fn policy(policy: &Policy) -> String {
    let mut text = format!("epoch {}, {} rules", policy.epoch, count(policy.rules.into()));
    match &policy.last_reload {
        Some(reload) if reload.ok => {
            let _ = write!(text, ", loaded {}", utc(reload.at_ms));
        }
        Some(reload) => {
            let why = reload.error.as_deref().unwrap_or("no reason given");
            let _ = write!(text, "; RELOAD REFUSED {}: {why}", utc(reload.at_ms));
        }
        None => {}
    }
    text
}

/// `ha-ctl sessions`.
pub fn sessions(sessions: &Sessions) -> String {
    let mut rows = table(&[
        "PROTO",
        "FROM",
        "TO",
        "ZONES",
        "RULE",
        "STATE",
        ">IDLE",
        ">EXPIRES",
        ">PKTS OUT",
        ">PKTS BACK",
        ">OUT",
        ">BACK",
        "SYNC",
    ]);
    for session in &sessions.rows {
        rows.row([
            session.proto.to_string(),
            endpoint(&session.from, session.proto),
            endpoint(&session.to, session.proto),
            format!("{} > {}", session.from_zone, session.to_zone),
            session.rule.clone(),
            session.state.clone(),
            duration(session.idle_ms),
            duration(session.expires_ms),
            count(session.packets.fwd),
            count(session.packets.rev),
            bytes(session.bytes.fwd),
            bytes(session.bytes.rev),
            session.sync.clone(),
        ]);
    }
    let mut out = rows.text("no sessions match");
    if sessions.truncated {
        let shown = sessions.rows.len();
        line(
            &mut out,
            format_args!("only {shown} are shown: narrow the filters, raise --limit, or use --count"),
        );
    }
    out
}

/// `ha-ctl sessions --count`.
pub fn session_counts(counts: &SessionCounts) -> String {
    let mut rows = table(&["PROTO", "STATE", ">SESSIONS"]);
    for entry in &counts.by_state {
        rows.row([entry.proto.to_string(), entry.state.clone(), count(entry.sessions)]);
    }
    rows.row(["all".into(), String::new(), count(counts.total)]);
    rows.text("")
}

/// `ha-ctl counters`.
pub fn counters(counters: &Counters, nonzero: bool) -> String {
    let mut drops = table(&["DROPPED BECAUSE", ">PACKETS", "MEANING"]);
    for drop in counters.drops.iter().filter(|drop| !nonzero || drop.packets > 0) {
        drops.row([drop.name.clone(), count(drop.packets), drop.meaning.clone()]);
    }
    let mut other = table(&["COUNTER", ">VALUE", "MEANING"]);
    for counter in counters.other.iter().filter(|counter| !nonzero || counter.value > 0) {
        other.row([counter.name.clone(), count(counter.value), counter.meaning.clone()]);
    }
    format!("{}\n{}", drops.text("no packet was dropped"), other.text("nothing else was counted"))
}

/// `ha-ctl rules`.
pub fn rules(rules: &Rules) -> String {
    let mut rows = table(&[
        ">#",
        "RULE",
        "FROM",
        "TO",
        "SOURCE",
        "DESTINATION",
        "SERVICES",
        "ACTION",
        "OPTIONS",
        ">SESSIONS",
        ">DENIED",
        ">LAST HIT",
    ]);
    for (place, rule) in rules.rules.iter().enumerate() {
        let mut options = Vec::new();
        if rule.log {
            options.push("log".to_owned());
        }
        if rule.action == "allow" && !rule.transparent_failover {
            options.push("local".into());
        } else if rule.sync_after_s > 0 {
            options.push(format!("sync after {} s", rule.sync_after_s));
        }
        rows.row([
            (place + 1).to_string(),
            rule.name.clone(),
            list(&rule.from),
            list(&rule.to),
            list(&rule.source),
            list(&rule.destination),
            list(&rule.services),
            rule.action.clone(),
            options.join(", "),
            count(rule.sessions_created),
            count(rule.packets_denied),
            rule.last_hit_ms.map_or("never".into(), |ms| format!("{} ago", duration(ms))),
        ]);
    }
    let mut out = rows.text("no rules");
    line(&mut out, format_args!("policy epoch {}; the first rule that matches decides", rules.epoch));
    out
}

/// `ha-ctl neighbours`.
pub fn neighbours(neighbours: &Neighbours) -> String {
    let mut rows = table(&["ADDRESS", "PORT", "MAC", "STATE", ">CONFIRMED"]);
    for neighbour in &neighbours.neighbours {
        rows.row([
            neighbour.address.to_string(),
            neighbour.port.clone(),
            neighbour.mac.clone().unwrap_or_else(|| "-".into()),
            neighbour.state.clone(),
            neighbour.age_ms.map_or("never".into(), |ms| format!("{} ago", duration(ms))),
        ]);
    }
    rows.text("no neighbours are known")
}

/// `ha-ctl routes`.
pub fn routes(routes: &Routes) -> String {
    let mut rows = table(&["TO", "VIA", "PORT", "SOURCE"]);
    for route in &routes.routes {
        rows.row([
            route.to.clone(),
            route.via.map_or("on link".into(), |via| via.to_string()),
            route.port.clone(),
            route.source.to_string(),
        ]);
    }
    rows.text("no routes")
}

/// A table without lines: it reads well, and `awk` and `grep` can work on it.
pub(crate) struct Rows {
    table: Table,
    right: Vec<bool>,
}

/// A table with these headings; those that begin with `>` stand over numbers.
pub(crate) fn table(headings: &[&str]) -> Rows {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(headings.iter().map(|heading| heading.trim_start_matches('>')));
    Rows { table, right: headings.iter().map(|heading| heading.starts_with('>')).collect() }
}

impl Rows {
    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.table.add_row(Row::from(cells.iter().map(|cell| Cell::new(clean(cell))).collect::<Vec<_>>()));
    }

    /// The table, or `empty` in its place if it has no rows.
    pub(crate) fn text(mut self, empty: &str) -> String {
        if self.table.is_empty() {
            return format!("{empty}\n");
        }
        for (place, &right) in self.right.iter().enumerate() {
            if let Some(column) = self.table.column_mut(place) {
                column.set_padding((0, 2));
                if right {
                    column.set_cell_alignment(CellAlignment::Right);
                }
            }
        }
        self.table.trim_fmt() + "\n"
    }
}

pub(crate) fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = out.write_fmt(text);
    out.push('\n');
}

/// Text that a terminal cannot be steered with: control characters become spaces.
pub(crate) fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
#[path = "render_tests.rs"]
pub(crate) mod tests;
