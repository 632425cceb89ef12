//! What a session takes of memory: by what the process maps for a table, not by what a structure should take.

use super::{Effort, FEW_RULES, Measured};
use crate::figure::Figure;
use crate::rig::{Ground, Part, Result, Rig, RigConfig};
use sync::ids::Micros;
use sync::stream::{Config, Stream};

/// A table whose other memory (ports, rings, counters, policy) is as large.
const SMALL: u32 = 1_000;

/// Bytes that each further session takes: of a node alone, and of one in a pair with all its books.
pub fn memory(ground: &Ground, sessions: u32, effort: Effort) -> Result<Vec<Measured>> {
    let (mut rows, mut kept) = (Vec::new(), Vec::new());
    for (part, name) in [(Part::Alone, "one node"), (Part::Active, "a node of a pair")] {
        let (mut runs, mut page_bytes) = (Vec::new(), 0);
        for _ in 0..effort.runs.min(3) {
            let mut taken = |slots| -> Result<u64> {
                let before = mapped()?;
                let node = Node::new(ground, slots, part)?;
                page_bytes = node.rig.page_bytes;
                // What is given back would be taken again without being mapped.
                kept.push(node);
                Ok(mapped()?.saturating_sub(before))
            };
            let (small, large) = (taken(SMALL)?, taken(SMALL + sessions)?);
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

/// What a daemon has for its sessions.
struct Node {
    rig: Rig,
    _stream: Option<Stream>,
}

impl Node {
    fn new(ground: &Ground, slots: u32, part: Part) -> Result<Self> {
        let rig = Rig::as_shipped(ground, RigConfig { slots, rules: FEW_RULES, part })?;
        let is_paired = part == Part::Active;
        let stream = is_paired.then(|| Stream::new(Config::default(), [9; 16], slots, Micros(0)));
        Ok(Self { rig, _stream: stream })
    }
}

/// Bytes that the process has mapped, touched or not, huge pages included.
fn mapped() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmSize:")).ok_or("no VmSize")?;
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kilobytes << 10)
}
