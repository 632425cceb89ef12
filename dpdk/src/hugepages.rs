//! What the kernel has in huge pages, read before the EAL starts: an EAL that fails for want of memory
//! cannot be started a second time in the same process, so the choice must be right at once.
//!
//! Between the look and the start another process may take pages. Our own processes take turns
//! ([`PageTurn`]); for all others there is a margin ([`spare_mb`]).

use std::fs::{self, File};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

const SYSFS: &str = "/sys/kernel/mm/hugepages";
/// How long a turn is waited for. Whoever may read the directory may also hold its lock.
const PATIENCE: Duration = Duration::from_secs(5);

/// This process's turn at looking how many huge pages are free and taking them, until it is dropped. A
/// courtesy: without it the start goes on as well, and may find less than it saw.
#[derive(Debug)]
#[must_use]
pub struct PageTurn {
    /// Locked while it is open.
    _directory: Option<File>,
}

impl PageTurn {
    /// Waits for other processes that are at it, some seconds at most.
    pub fn wait() -> Self {
        Self { _directory: lock(Path::new(SYSFS), PATIENCE) }
    }
}

fn lock(directory: &Path, patience: Duration) -> Option<File> {
    let file = File::open(directory).ok()?;
    let began = Instant::now();
    while file.try_lock().is_err() {
        if began.elapsed() >= patience {
            return None;
        }
        sleep(Duration::from_millis(5));
    }
    Some(file)
}

/// Huge pages of one size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pool {
    pub page_kib: u64,
    pub total: u64,
    /// Free and not promised to an earlier mapping.
    pub available: u64,
}

impl Pool {
    fn available_mb(&self) -> u64 {
        self.available.saturating_mul(self.page_kib) / 1024
    }
}

/// All pools of this machine; empty where the kernel has no huge pages.
pub(crate) fn pools() -> Vec<Pool> {
    read_pools(Path::new(SYSFS))
}

/// Megabytes that an EAL can have in huge pages now.
pub(crate) fn available_mb(pools: &[Pool]) -> u64 {
    pools.iter().map(Pool::available_mb).sum()
}

/// Whole megabytes rounded up to a page's size, as the EAL will take them.
pub(crate) fn needed_mb(pools: &[Pool], memory_mb: u32) -> u64 {
    let smallest_mb = pools.iter().filter(|p| p.available > 0).map(|p| p.page_kib / 1024).min();
    u64::from(memory_mb).next_multiple_of(smallest_mb.unwrap_or(2).max(1))
}

/// Megabytes that are to be left over for others that take pages at the same moment.
pub(crate) fn spare_mb(needed_mb: u64) -> u64 {
    (needed_mb / 16).max(16)
}

/// One line for people: what is configured and what is free.
pub(crate) fn describe(pools: &[Pool]) -> String {
    if pools.is_empty() {
        return "this kernel offers no huge pages".to_owned();
    }
    let sizes =
        pools.iter().map(|p| format!("{} of {} pages of {} KiB free", p.available, p.total, p.page_kib));
    sizes.collect::<Vec<_>>().join(", ")
}

fn read_pools(root: &Path) -> Vec<Pool> {
    let Ok(entries) = fs::read_dir(root) else { return Vec::new() };
    let mut pools: Vec<Pool> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name();
            let page_kib = name.to_str()?.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
            let number = |file: &str| -> Option<u64> {
                fs::read_to_string(entry.path().join(file)).ok()?.trim().parse().ok()
            };
            let free = number("free_hugepages")?;
            let available = free.saturating_sub(number("resv_hugepages").unwrap_or(0));
            Some(Pool { page_kib, total: number("nr_hugepages")?, available })
        })
        .collect();
    pools.sort_by_key(|pool| pool.page_kib);
    pools
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO_MB: Pool = Pool { page_kib: 2048, total: 512, available: 100 };
    const ONE_GB: Pool = Pool { page_kib: 1_048_576, total: 1, available: 1 };

    #[test]
    fn memory_of_all_page_sizes_adds_up() {
        assert_eq!(available_mb(&[TWO_MB, ONE_GB]), 200 + 1024);
        assert_eq!(available_mb(&[]), 0);
    }

    #[test]
    fn an_odd_size_is_rounded_up_to_whole_pages() {
        assert_eq!(needed_mb(&[TWO_MB], 63), 64);
        assert_eq!(needed_mb(&[ONE_GB], 63), 1024);
        assert_eq!(needed_mb(&[], 63), 64);
    }

    #[test]
    fn reserved_pages_are_not_available_and_odd_files_are_passed_over() {
        let root = std::env::temp_dir().join(format!("us-hugepages-{}", std::process::id()));
        let pool = root.join("hugepages-2048kB");
        fs::create_dir_all(&pool).unwrap();
        fs::create_dir_all(root.join("something-else")).unwrap();
        for (file, text) in [("nr_hugepages", "10\n"), ("free_hugepages", "7\n"), ("resv_hugepages", "3\n")] {
            fs::write(pool.join(file), text).unwrap();
        }
        let pools = read_pools(&root);
        fs::remove_dir_all(&root).unwrap();
        assert_eq!(pools, [Pool { page_kib: 2048, total: 10, available: 4 }]);
        assert_eq!(describe(&pools), "4 of 10 pages of 2048 KiB free");
    }

    #[test]
    fn processes_take_turns_and_none_waits_for_ever() {
        let directory = std::env::temp_dir().join(format!("us-turns-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let first = lock(&directory, Duration::ZERO).unwrap();
        assert!(lock(&directory, Duration::from_millis(20)).is_none());
        drop(first);
        assert!(lock(&directory, Duration::ZERO).is_some());
        fs::remove_dir_all(&directory).unwrap();
        assert!(lock(&directory, Duration::ZERO).is_none(), "a kernel without huge pages");
    }

    #[test]
    fn a_kernel_without_huge_pages_is_an_empty_list() {
        assert_eq!(read_pools(Path::new("/nonexistent")), []);
        assert_eq!(describe(&[]), "this kernel offers no huge pages");
    }
}
