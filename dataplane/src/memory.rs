//! The memory that sessions live in: mapped once, before the EAL starts, and kept until the process ends.
//!
//! Huge pages first. Without them every lookup pays for a page walk besides its cache miss, so the next
//! best is what the kernel makes huge by itself, and ordinary pages are the last resort: each step down
//! leaves a warning that stays in `ha-ctl status` (decision 12). All pages are touched here, so that no
//! worker ever waits for one.

use crate::config::HugePages;
use memmap2::{Advice, MmapMut, MmapOptions};
use std::io;
use thiserror::Error;

/// A region of zeroed memory, there for ever.
pub struct Region {
    /// The memory: aligned to its pages.
    pub bytes: &'static mut [u8],
    /// The size of the pages that it really lies in.
    pub page_bytes: u64,
    /// What an operator should know about it.
    pub warning: Option<String>,
}

/// Why there is no memory for sessions.
#[derive(Debug, Error)]
pub enum MemoryError {
    /// Huge pages are a condition and there are too few.
    #[error(
        "sessions.capacity needs {needed_mb} MB of huge pages and the kernel does not have them ({source}); \
         reserve more (echo {pages} > /proc/sys/vm/nr_hugepages), lower sessions.capacity, or set eal.huge-pages \
         to \"auto\""
    )]
    NoHugePages {
        /// Megabytes wanted.
        needed_mb: u64,
        /// The same in pages of 2 MiB, with half as much again for packet buffers.
        pages: u64,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Not even ordinary pages.
    #[error("cannot map {needed_mb} MB for sessions: {source}; lower sessions.capacity")]
    NoMemory {
        /// Megabytes wanted.
        needed_mb: u64,
        /// The kernel's answer.
        source: io::Error,
    },
}

const HUGE_PAGE: usize = 2 << 20;
const SMALL_PAGE: u64 = 4096;

/// Maps `bytes` of zeroed memory.
pub fn map(bytes: usize, huge_pages: HugePages) -> Result<Region, MemoryError> {
    let len = bytes.next_multiple_of(HUGE_PAGE);
    let needed_mb = (len >> 20) as u64;
    if huge_pages != HugePages::Never {
        match MmapOptions::new().len(len).huge(Some(21)).populate().map_anon() {
            Ok(map) => {
                return Ok(Region { bytes: forever(map), page_bytes: HUGE_PAGE as u64, warning: None });
            }
            Err(source) if huge_pages == HugePages::Require => {
                let pages = (len / HUGE_PAGE * 3 / 2) as u64;
                return Err(MemoryError::NoHugePages { needed_mb, pages, source });
            }
            Err(_) => {}
        }
    }
    let map = MmapOptions::new()
        .len(len)
        .map_anon()
        .map_err(|source| MemoryError::NoMemory { needed_mb, source })?;
    if huge_pages != HugePages::Never {
        // Kernels without transparent huge pages refuse the advice; what came of it is read below.
        let _ = map.advise(Advice::HugePage);
    }
    let _ = map.advise(Advice::PopulateWrite);
    let start = map.as_ptr().addr();
    let bytes = forever(map);
    let transparent = transparent_share_permille(start, len);
    Ok(ordinary(bytes, transparent, needed_mb, huge_pages))
}

fn forever(map: MmapMut) -> &'static mut [u8] {
    let map: &'static mut MmapMut = Box::leak(Box::new(map));
    map
}

fn ordinary(
    bytes: &'static mut [u8],
    transparent_permille: u64,
    needed_mb: u64,
    wanted: HugePages,
) -> Region {
    let pages = bytes.len() / HUGE_PAGE;
    let advice = format!(
        "{needed_mb} MB are needed: reserve {pages} more pages than DPDK takes with \
         `echo N > /proc/sys/vm/nr_hugepages` and restart"
    );
    let (page_bytes, warning) = match (transparent_permille, wanted) {
        (900.., _) => {
            let what = "the session table lies in transparent huge pages, which the kernel may split";
            (HUGE_PAGE as u64, Some(format!("{what}; {advice}")))
        }
        (_, HugePages::Never) => {
            (SMALL_PAGE, Some("the session table lies in ordinary pages, as eal.huge-pages = \"never\" asks: lookups are slower".to_owned()))
        }
        _ => {
            let what = "the session table lies in ordinary pages, which slows every lookup";
            (SMALL_PAGE, Some(format!("{what}; {advice}")))
        }
    };
    Region { bytes, page_bytes, warning }
}

/// How much of the mapping at `start` the kernel has put into huge pages by itself.
fn transparent_share_permille(start: usize, len: usize) -> u64 {
    let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap_or_default();
    let huge_kb = transparent_kb(&smaps, start, len);
    huge_kb * 1000 / ((len as u64) >> 10).max(1)
}

/// Kilobytes of transparent huge pages in the mappings that lie in `start..start + len`. The kernel may
/// have merged our mapping with a neighbour or split it.
fn transparent_kb(smaps: &str, start: usize, len: usize) -> u64 {
    let mut inside = false;
    let mut sum = 0;
    for line in smaps.lines() {
        if let Some((from, to)) = address_range(line) {
            inside = from < start + len && to > start;
        } else if inside && let Some(rest) = line.strip_prefix("AnonHugePages:") {
            sum += rest.trim().trim_end_matches(" kB").parse().unwrap_or(0);
        }
    }
    sum
}

fn address_range(line: &str) -> Option<(usize, usize)> {
    let (from, to) = line.split_whitespace().next()?.split_once('-')?;
    Some((usize::from_str_radix(from, 16).ok()?, usize::from_str_radix(to, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_pages_are_zeroed_and_leave_a_warning() {
        let region = map(3_000_000, HugePages::Never).unwrap();
        assert_eq!(region.bytes.len(), 4 << 20);
        assert!(region.bytes.iter().all(|byte| *byte == 0));
        assert_eq!(region.page_bytes, 4096);
        assert!(region.warning.unwrap().contains("as eal.huge-pages = \"never\" asks"));
    }

    #[test]
    fn automatic_choice_always_has_memory() {
        let region = map(1, HugePages::Auto).unwrap();
        assert_eq!(region.bytes.len(), 2 << 20);
        assert_eq!(region.bytes.as_ptr().addr() % 4096, 0);
        assert!(region.page_bytes == 2 << 20 || region.warning.is_some(), "small pages are warned of");
    }

    #[test]
    fn more_than_the_machine_has_is_refused_with_words() {
        let error = map(1 << 50, HugePages::Require).err().unwrap().to_string();
        assert!(error.contains("sessions.capacity needs 1073741824 MB of huge pages"), "{error}");
        let error = map(1 << 50, HugePages::Auto).err().unwrap().to_string();
        assert!(error.starts_with("cannot map 1073741824 MB for sessions: "), "{error}");
    }

    #[test]
    fn the_kernels_own_huge_pages_are_counted_in_our_mapping_only() {
        let smaps = "\
55e0a0000000-55e0a0021000 rw-p 00000000 00:00 0 [heap]
Size:                132 kB
AnonHugePages:      1024 kB
7f0000000000-7f0000400000 rw-p 00000000 00:00 0
Size:               4096 kB
AnonHugePages:      2048 kB
VmFlags: rd wr mr mw me ac sd
7f0000400000-7f0000600000 rw-p 00000000 00:00 0
AnonHugePages:      2048 kB
";
        assert_eq!(transparent_kb(smaps, 0x7f00_0000_0000, 0x40_0000), 2048);
        assert_eq!(transparent_kb(smaps, 0x7f00_0000_0000, 0x60_0000), 4096);
        assert_eq!(transparent_kb(smaps, 0x7f00_0060_0000, 4096), 0);
        assert_eq!(transparent_kb("", 0, 1), 0);
    }
}
