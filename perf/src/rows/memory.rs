//! What a session takes of memory: by what the process maps for a table, not by what a structure should take.

use super::{Effort, Measured};
use crate::figure::Figure;
use crate::rig::{Ground, Part, Result, Rig, RigConfig};
use sync::ids::Micros;
use sync::stream::{Config, Stream};

/// A table whose other memory (ports, rings, counters, policy) is as large.
const SMALL: u32 = 1_000;

/// Bytes that each further session takes: of a node alone, and of one in a pair with all its books.
pub fn memory(ground: &Ground, sessions: u32, effort: Effort) -> Result<Vec<Measured>> {
    let mut rows = Vec::new();
    for (part, name) in [(Part::Alone, "one node"), (Part::Active, "a node of a pair")] {
        let (mut runs, mut page_bytes) = (Vec::new(), 0);
        // It hardly varies, and every run keeps its tables.
        for _ in 0..effort.runs.min(3) {
            let [small, _] = taken(ground, SMALL, part)?;
            let [large, page] = taken(ground, SMALL + sessions, part)?;
            page_bytes = page;
            runs.push(large.saturating_sub(small) as f64 / f64::from(sessions));
        }
        rows.push(Measured {
            name: format!("memory of a session, {name}"),
            sessions: sessions.into(),
            unit: "bytes".into(),
            value: Figure::of(runs),
            ceiling: None,
            page_bytes,
            hz: ground.hz(),
        });
    }
    Ok(rows)
}

/// Bytes that the process maps for a node with so many slots, and those of a page of its table.
fn taken(ground: &Ground, slots: u32, part: Part) -> Result<[u64; 2]> {
    let before = mapped()?;
    let rig = Rig::new(ground, RigConfig { slots, rules: 10, part })?;
    let stream = (part == Part::Active).then(|| Stream::new(Config::default(), [9; 16], slots, Micros(0)));
    let taken = mapped()?.saturating_sub(before);
    drop(stream);
    Ok([taken, rig.page_bytes])
}

/// Bytes that the process has mapped, touched or not, huge pages included.
fn mapped() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmSize:")).ok_or("no VmSize")?;
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kilobytes << 10)
}
