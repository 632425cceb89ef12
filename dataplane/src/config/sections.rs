//! The plain sections: `[node]`, `[log]`, `[eal]`, `[workers]`, `[sessions]`, `[timeouts]`.

use super::model::{Eal, HugePages, Log, LogFormat, LogLevel, Node, Polling, Sessions, Workers};
use super::reader::{Reader, Section, Text, quoted};
use engine::Ticks;
use engine::track::Timeouts;
use std::collections::BTreeSet;
use std::path::PathBuf;

/// The longest path that fits a Unix socket address, its end byte left out (`sun_path`).
const MAX_SOCKET_PATH_BYTES: usize = 107;

/// The longest timeout, 12 days: wrapping ticks cannot compare much more.
const MAX_TIMEOUT_S: u32 = 12 * 24 * 3600;

// The product fits a tick span and a u32.
const _: () = assert!(MAX_TIMEOUT_S as u64 * 1_000 <= Ticks::MAX_SPAN_MS as u64);

/// What a packet buffer takes: 2,048 bytes of data, headroom, header, pool overhead, rounded up.
const MBUF_BYTES: u64 = 2_560;

/// The longest name of anything.
const MAX_NAME_CHARS: usize = 63;

pub(super) fn node(reader: &mut Reader, root: &mut Section<'_>) -> Option<Node> {
    let mut section = reader.section(root, "node");
    let name = reader.needed_text(
        &mut section,
        "name",
        "give the node a name, unique in the pair: [node] name = \"a\"",
    );
    let name = name.and_then(|text| checked_name(reader, "node name", &text));
    let socket = reader.text(&mut section, "control-socket");
    let control_socket = match socket {
        Some(text) => socket_path(reader, &text),
        None => Some(PathBuf::from("/run/understudy/understudyd.sock")),
    };
    section.finish(reader);
    Some(Node { name: name?, control_socket: control_socket? })
}

fn socket_path(reader: &mut Reader, text: &Text<'_>) -> Option<PathBuf> {
    let wrong = if !text.text.starts_with('/') {
        "is not an absolute path"
    } else if text.text.len() > MAX_SOCKET_PATH_BYTES {
        "is longer than the 107 bytes that a Unix socket address holds"
    } else if text.text.contains('\0') {
        "holds a NUL character"
    } else if text.text.ends_with('/') {
        "names a directory"
    } else {
        return Some(PathBuf::from(text.text));
    };
    let message = format!("control-socket {} {wrong}", quoted(text.text));
    reader.report(text.span.clone(), message, "write a short path such as \"/run/understudy/a.sock\"");
    None
}

pub(super) fn log(reader: &mut Reader, root: &mut Section<'_>) -> Log {
    let mut section = reader.section(root, "log");
    let levels = [LogLevel::Error, LogLevel::Warn, LogLevel::Info, LogLevel::Debug]
        .map(|level| (level.as_str(), level));
    let level = reader.choice(&mut section, "level", &levels).unwrap_or(LogLevel::Info);
    let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
    let format = reader.choice(&mut section, "format", &formats).unwrap_or(LogFormat::Text);
    section.finish(reader);
    Log { level, format }
}

pub(super) fn eal(reader: &mut Reader, root: &mut Section<'_>) -> Eal {
    let mut section = reader.section(root, "eal");
    let memory_mb = reader.number(&mut section, "memory-mb", "MiB", 32..=1_048_576, 256);
    let huge_pages =
        [("auto", HugePages::Auto), ("require", HugePages::Require), ("never", HugePages::Never)];
    let huge_pages = reader.choice(&mut section, "huge-pages", &huge_pages).unwrap_or(HugePages::Auto);
    let mbufs = reader.number(&mut section, "mbufs", "packet buffers", 1_024..=8_388_608, 16_384);
    let needed_mb = (u64::from(mbufs) * MBUF_BYTES).div_ceil(1 << 20);
    if needed_mb > u64::from(memory_mb) {
        let message = format!("{mbufs} mbufs take about {needed_mb} MiB, and memory-mb is {memory_mb}");
        reader.report(section.span.clone(), message, "raise memory-mb in [eal], or lower mbufs");
    }
    let mut args = Vec::new();
    for text in reader.texts(&mut section, "args") {
        if text.text.is_empty() || text.text.contains('\0') {
            let message = format!("EAL argument {} is empty or holds a NUL character", quoted(text.text));
            reader.report(
                text.span,
                message,
                "write one argument a string, as in [\"--log-level\", \"lib.eal:debug\"]",
            );
        } else {
            args.push(text.text.to_owned());
        }
    }
    section.finish(reader);
    Eal { memory_mb, huge_pages, mbufs, args }
}

pub(super) fn workers(reader: &mut Reader, root: &mut Section<'_>) -> Workers {
    let mut section = reader.section(root, "workers");
    let count = reader.number(&mut section, "count", "workers", 1..=16, 1);
    let polling = [Polling::Adaptive, Polling::Busy].map(|polling| (polling.as_str(), polling));
    let polling = reader.choice(&mut section, "polling", &polling).unwrap_or(Polling::Adaptive);
    let cpus = reader.numbers(&mut section, "cpus", "a CPU", 0..=1_023);
    let mut seen = BTreeSet::new();
    for (cpu, span) in &cpus {
        if !seen.insert(*cpu) {
            let message = format!("cpus in [workers] names CPU {cpu} twice");
            reader.report(span.clone(), message, "give each worker a CPU of its own");
        }
    }
    if let (Some((_, span)), true) = (cpus.last(), cpus.len() != count as usize) {
        let message = format!("cpus in [workers] has {} entries for {count} workers", cpus.len());
        reader.report(span.clone(), message, "name one CPU for each worker, or none at all");
    }
    section.finish(reader);
    // Both fit: their ranges say so.
    Workers { count: count as u8, polling, cpus: cpus.into_iter().map(|(cpu, _)| cpu as u16).collect() }
}

pub(super) fn sessions(reader: &mut Reader, root: &mut Section<'_>) -> Sessions {
    let mut section = reader.section(root, "sessions");
    let capacity = reader.number(&mut section, "capacity", "sessions", 1_024..=100_000_000, 262_144);
    let half_open_max = reader.number(&mut section, "half-open-max", "sessions", 1..=capacity, capacity / 4);
    section.finish(reader);
    Sessions { capacity, half_open_max }
}

pub(super) fn timeouts(reader: &mut Reader, root: &mut Section<'_>) -> Timeouts {
    let mut section = reader.section(root, "timeouts");
    let mut timeout = |key, default_ms: u32| {
        reader
            .optional_number(&mut section, key, "seconds", 1..=MAX_TIMEOUT_S)
            .map_or(default_ms, |s| s * 1_000)
    };
    let default = Timeouts::default();
    let timeouts = Timeouts {
        tcp_syn_ms: timeout("tcp-syn", default.tcp_syn_ms),
        tcp_established_ms: timeout("tcp-established", default.tcp_established_ms),
        tcp_closing_ms: timeout("tcp-closing", default.tcp_closing_ms),
        tcp_time_wait_ms: timeout("tcp-time-wait", default.tcp_time_wait_ms),
        tcp_close_ms: timeout("tcp-close", default.tcp_close_ms),
        udp_new_ms: timeout("udp-new", default.udp_new_ms),
        udp_ms: timeout("udp", default.udp_ms),
        icmp_ms: timeout("icmp", default.icmp_ms),
        other_new_ms: timeout("other-new", default.other_new_ms),
        other_ms: timeout("other", default.other_ms),
    };
    section.finish(reader);
    timeouts
}

/// A name that can stand in a command, a log line and a table: letters, digits, `-`, `_` and `.`.
pub(super) fn checked_name(reader: &mut Reader, what: &str, text: &Text<'_>) -> Option<String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if !text.text.is_empty() && text.text.len() <= MAX_NAME_CHARS && text.text.chars().all(fits) {
        return Some(text.text.to_owned());
    }
    let message = format!("the {what} {} cannot be used", quoted(text.text));
    reader.report(text.span.clone(), message, "write 1 to 63 ASCII letters, digits, \"-\", \"_\" or \".\"");
    None
}
