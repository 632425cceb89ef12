//! Answers about the pair as text for people: pure functions, like the rest of [`super::render`].

use crate::format::{bytes, count, duration, endpoint, percent_of, permille, utc};
use crate::render::{clean, line, table};
use crate::top::View;
use proto::{
    Compared, Damage, Damaged, Event, Lease, Ordered, PairNode, PairPath, PairStatus, PartnerState, Role,
    SwitchedOver, SyncStatus, Terminated, Transfer, Verified,
};

/// The pair's lines of `ha-ctl status`: a name and a text each.
pub fn pair_facts(pair: &PairStatus) -> Vec<(&'static str, String)> {
    let mut facts = vec![
        ("pair", format!("{}, term {}", pair.id, pair.term)),
        ("here", format!("{}, {}", node(&pair.own), lease(pair))),
        (
            "partner",
            match (&pair.partner, pair.partner_state) {
                (Some(partner), state) => {
                    let leaving = if state == PartnerState::Restarting { ", stops on purpose" } else { "" };
                    format!("{}, mirror {}{leaving}", node(partner), partner.mirror)
                }
                (None, PartnerState::Restarting) => "restarting: it stopped on purpose".to_owned(),
                (None, _) => "not heard".to_owned(),
            },
        ),
    ];
    facts.extend(sync_facts(&pair.sync, &pair.paths));
    if let Some(keys) = &pair.keys {
        let renewing = if keys.renewing { ", being renewed" } else { "" };
        let age = duration(keys.age_s * 1_000);
        facts.push((
            "keys",
            format!("number {}, {age} old, renewed {} times{renewing}", keys.key_id, count(keys.renewals)),
        ));
    }
    if !pair.rejected.is_empty() {
        let reasons: Vec<String> =
            pair.rejected.iter().map(|row| format!("{} {}", row.reason, count(row.datagrams))).collect();
        facts.push(("rejected", format!("datagrams: {}", reasons.join(", "))));
    }
    if !pair.differs.is_empty() {
        facts.push(("DIFFERS", format!("the nodes differ in: {}", pair.differs.join(", "))));
    }
    let alarm = |alarm: &proto::Alarm| {
        let since = alarm.at_ms.map(|at| format!(" (since {})", utc(at))).unwrap_or_default();
        ("ALARM", format!("{}: {}{since}", alarm.name, alarm.text))
    };
    facts.extend(pair.alarms.iter().map(alarm));
    facts
}

fn node(node: &PairNode) -> String {
    let mut text = format!("node {}: {}", node.node_id, node.role);
    for (is_so, word) in
        [(node.preferred, "preferred"), (node.forced_active, "FORCED"), (!node.able, "NOT ABLE")]
    {
        if is_so {
            text += ", ";
            text += word;
        }
    }
    text + &format!(", quality {} %", node.quality)
}

fn lease(pair: &PairStatus) -> String {
    match (pair.word.forwards, pair.word.lease, pair.word.lease_ms) {
        (true, Lease::Running, Some(ms)) => format!("forwards, lease {}", duration(ms)),
        (true, _, _) => "forwards, lease endless".into(),
        (false, Lease::Running, _) => "LEASE OVER: forwards nothing".into(),
        (false, ..) => "forwards nothing".into(),
    }
}

fn sync_facts(sync: &SyncStatus, paths: &[PairPath]) -> Vec<(&'static str, String)> {
    let over = paths.iter().find(|path| path.in_use).map(|path| format!(" over {}", path.name));
    let progress =
        sync.progress.map(|progress| format!(", {} done", percent_of(progress.done, progress.total)));
    let refused: String = sync
        .refused
        .iter()
        .map(|row| format!(", refused ({}) {}", row.reason, count(row.sessions)))
        .collect();
    let mut facts = vec![
        (
            "sync",
            format!(
                "{}{}{}, lag {}",
                sync.state,
                over.unwrap_or_default(),
                progress.unwrap_or_default(),
                duration(sync.lag_ms)
            ),
        ),
        (
            "",
            format!(
                "protected {}, unprotected {}: waiting {}, in flight {}{refused}",
                count(sync.protected),
                count(sync.unprotected),
                count(sync.dirty),
                count(sync.in_flight)
            ),
        ),
    ];
    let transfer = |name: &str, transfer: &Transfer| {
        let Transfer { at_ms, sessions, took_ms } = *transfer;
        format!("last {name} {}: {} sessions in {}", utc(at_ms), count(sessions), duration(took_ms))
    };
    facts.extend(sync.last_bulk.iter().map(|bulk| ("", transfer("bulk", bulk))));
    facts.extend(sync.last_repair.iter().map(|repair| ("", transfer("repair", repair))));
    let kinds: Vec<String> = sync
        .sent
        .iter()
        .filter(|kind| kind.records > 0)
        .map(|kind| format!("{} {}", kind.kind, count(kind.records)))
        .collect();
    let kinds = if kinds.is_empty() { String::new() } else { format!(" ({})", kinds.join(", ")) };
    facts.push((
        "",
        format!(
            "sent {} records{kinds}, {} in {} datagrams, {} lost",
            count(sync.records_sent),
            bytes(sync.bytes_sent),
            count(sync.datagrams_sent),
            count(sync.datagrams_lost)
        ),
    ));
    facts.push((
        "",
        format!(
            "received {} records, {} applied, round trip {}",
            count(sync.records_received),
            count(sync.records_applied),
            micros(sync.round_trip_us)
        ),
    ));
    if sync.damaged > 0 {
        facts.push(("", format!("DAMAGED places found and repaired: {}", count(sync.damaged))));
    }
    facts
}

fn micros(us: u64) -> String {
    if us < 10_000 { format!("{}.{:02}ms", us / 1_000, us % 1_000 / 10) } else { duration(us / 1_000) }
}

/// The ways to the partner.
pub fn paths(paths: &[PairPath]) -> String {
    let mut rows = table(&["PATH", "KIND", "STATE", "LINK", "SYNC", ">HEARD", ">ROUND TRIP", ">DATAGRAM"]);
    let word = |is_so, yes: &str, no: &str| if is_so { yes.to_owned() } else { no.to_owned() };
    for path in paths {
        rows.row([
            path.name.clone(),
            path.kind.to_string(),
            word(path.up, "up", "DOWN"),
            word(path.link, "up", "down"),
            match (path.in_use, path.carries_sync) {
                (true, _) => "in use".into(),
                (false, true) => "possible".into(),
                (false, false) => "-".into(),
            },
            path.heard_ms.map_or("never".into(), |ms| format!("{} ago", duration(ms))),
            path.rtt_us.map_or("-".into(), micros),
            path.datagram_bytes.map_or("-".into(), |size| format!("{} B", count(size))),
        ]);
    }
    rows.text("no paths")
}

/// `ha-ctl verify`.
pub fn verified(verified: &Verified) -> String {
    let took = duration(verified.took_ms);
    if verified.equal {
        format!("equal: both nodes hold the same {} sessions (proven in {took})\n", count(verified.sessions))
    } else {
        format!(
            "DIFFERENT: {} of 65,536 digests differed{} (found in {took}); they are being repaired, verify again\n",
            count(verified.differing),
            groups(&verified.groups)
        )
    }
}

/// Where digests differ, as far as a line has room.
fn groups(groups: &[u32]) -> String {
    const SHOWN: usize = 16;
    if groups.is_empty() {
        return String::new();
    }
    let shown: Vec<String> = groups.iter().take(SHOWN).map(u32::to_string).collect();
    let more = if groups.len() > SHOWN { ", …" } else { "" };
    format!(", in {} of 256 groups ({}{more})", groups.len(), shown.join(", "))
}

/// `ha-ctl compare`.
pub fn compared(compared: &Compared) -> String {
    let mut rows = table(&["WHAT", "HERE", "PARTNER", ""]);
    for row in &compared.lines {
        let verdict = if row.equal { "" } else { "DIFFERS" };
        rows.row([row.what.clone(), row.own.clone(), row.partner.clone(), verdict.to_owned()]);
    }
    let digests = match &compared.digests {
        Some(digests) => verified(digests),
        None => "the digests were not compared: no path carries session sync, or it takes too long\n".into(),
    };
    rows.text("nothing was compared") + &digests
}

/// `ha-ctl resync`, `force`, `unforce`.
pub fn ordered(ordered: &Ordered) -> String {
    let next = match ordered.order.as_str() {
        "resync" => "`ha-ctl status` shows how far it is",
        _ => "`ha-ctl status` shows what comes of it",
    };
    let done = match (ordered.order.as_str(), ordered.role) {
        ("resync", role) if role != Role::Active => "the active node is asked to".to_owned(),
        (_, role) => format!("done on this node ({role})"),
    };
    clean(&format!("{}: {done}; {next}", ordered.order)) + "\n"
}

/// `ha-ctl switchover`.
pub fn switched_over(over: &SwitchedOver) -> String {
    let SwitchedOver { role, was, term, took_ms } = over;
    let who = if *role == Role::Active { "this node" } else { "the other node" };
    format!("{who} is active now; this one was {was} and is {role} (term {term}, {})\n", duration(*took_ms))
}

/// One line of `ha-ctl events`.
pub fn event(event: &Event) -> String {
    let fields: Vec<String> = event.fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let fields = if fields.is_empty() { String::new() } else { format!(" [{}]", fields.join(" ")) };
    let Event { id, level, name, text, .. } = event;
    let at = utc(event.at_ms);
    let at = at.strip_suffix(" UTC").unwrap_or(&at);
    clean(&format!("{id:>6} {at}.{:03}Z {level:<7} {name}: {text}{fields}", event.at_ms % 1_000)) + "\n"
}

/// `ha-ctl terminate`.
pub fn terminated(terminated: &Terminated) -> String {
    let mut rows = table(&["PROTO", "FROM", "TO", "RESULT", "RST TO FROM", "RST TO TO"]);
    let sent = |sent: bool| if sent { "sent".to_owned() } else { "not sent".to_owned() };
    for row in &terminated.rows {
        rows.row([
            row.proto.to_string(),
            endpoint(&row.from, row.proto),
            endpoint(&row.to, row.proto),
            row.result.to_string(),
            sent(row.rst_to_from),
            sent(row.rst_to_to),
        ]);
    }
    let mut out = rows.text("no sessions match");
    if terminated.truncated {
        line(&mut out, format_args!("more sessions match: repeat it, or raise --limit"));
    }
    out
}

/// `ha-ctl debug damage`.
pub fn damaged(damaged: &Damaged) -> String {
    let what = match damaged.damage {
        Damage::Corrupt => "changed",
        Damage::Drop => "taken away",
        Damage::Add => "copied under another port",
    };
    let Damaged { worker, slot, proto, from, to, .. } = damaged;
    let (from, to) = (endpoint(from, *proto), endpoint(to, *proto));
    format!("{worker}/{slot} {proto} {from} > {to}: {what}; `ha-ctl events` tells when it is found\n")
}

/// One view of `ha-ctl top`.
pub fn top(view: &View) -> String {
    let mut out = String::new();
    let partner = match (view.partner_role, &view.sync) {
        (Some(role), _) => format!(", partner {role}"),
        (None, Some(_)) => ", partner not heard".into(),
        (None, None) => String::new(),
    };
    let term = view.term.map(|term| format!(", term {term}")).unwrap_or_default();
    line(&mut out, format_args!("{}: {}{partner}{term}", clean(&view.node), view.role));
    if let Some(rates) = &view.rates {
        line(
            &mut out,
            format_args!(
                "traffic   in {} packets/s {}, out {} packets/s {}",
                count(rates.rx_packets_per_s),
                bits(rates.rx_bits_per_s),
                count(rates.tx_packets_per_s),
                bits(rates.tx_bits_per_s)
            ),
        );
    }
    let created = view.rates.map(|rates| format!(", {} created/s", count(rates.created_per_s)));
    line(
        &mut out,
        format_args!(
            "sessions  {} of {} ({}){}",
            count(view.sessions),
            count(view.capacity),
            percent_of(view.sessions, view.capacity),
            created.unwrap_or_default()
        ),
    );
    if let Some(sync) = &view.sync {
        let records = view.rates.map(|rates| format!(", {} records/s", count(rates.records_per_s)));
        line(
            &mut out,
            format_args!(
                "sync      {}, lag {}, protected {}, unprotected {}, relaxed {}{}",
                sync.state,
                duration(sync.lag_ms),
                count(sync.protected),
                count(sync.unprotected),
                count(sync.relaxed),
                records.unwrap_or_default()
            ),
        );
    }
    for path in &view.paths {
        let state = if path.up { "up" } else { "DOWN" };
        let used = if path.in_use { ", carries sync" } else { "" };
        let rtt = path.rtt_us.map(|us| format!(", round trip {}", micros(us))).unwrap_or_default();
        line(&mut out, format_args!("path      {} {state}{used}{rtt}", clean(&path.name)));
    }
    for worker in &view.workers {
        let rate = worker.packets_per_s.map(|rate| format!(", {} packets/s", count(rate)));
        line(
            &mut out,
            format_args!(
                "worker    {} busy {}{}, {} sessions",
                worker.id,
                permille(worker.busy_permille),
                rate.unwrap_or_default(),
                count(worker.sessions)
            ),
        );
    }
    for alarm in &view.alarms {
        line(&mut out, format_args!("ALARM     {}", clean(alarm)));
    }
    out
}

fn bits(per_s: u64) -> String {
    let (scaled, unit) = match per_s {
        0..1_000 => return format!("{per_s} bit/s"),
        1_000..1_000_000 => (per_s as f64 / 1e3, "kbit/s"),
        1_000_000..1_000_000_000 => (per_s as f64 / 1e6, "Mbit/s"),
        _ => (per_s as f64 / 1e9, "Gbit/s"),
    };
    format!("{scaled:.1} {unit}")
}

#[cfg(test)]
#[path = "render_pair_tests.rs"]
mod tests;
