//! The EAL: DPDK's one-time start in a process.
//!
//! Three properties of `rte_eal_init` shape this module. It works once per process, for ever, even if it
//! fails halfway: so everything that can be checked is checked before. It pins the calling thread to one
//! processor, which threads started later inherit: so it gets the whole allowed set and the caller's
//! affinity is put back. And it permutes its arguments in place: so they are leaked on purpose.

use std::ffi::{CString, NulError, c_char};
use std::path::Path;
use std::ptr;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use thiserror::Error;

use crate::device::Device;
use crate::errno::Errno;
use crate::hugepages;

/// Proof that the EAL of this process runs. Copies are free; there is no way back, so nothing is ever
/// undone.
#[derive(Debug, Clone, Copy)]
pub struct Eal {
    inner: &'static Inner,
}

/// What the EAL starts with.
#[derive(Debug, Clone)]
pub struct EalConfig {
    /// Memory for mbufs and drivers, in megabytes.
    pub memory_mb: u32,
    /// Whether that memory comes from huge pages.
    pub huge_pages: HugePages,
    /// The processors that this process may use; empty: those that it may use now.
    pub allowed_cpus: Vec<usize>,
    /// A prefix for the EAL's runtime files; `None`: one that no other process has.
    pub file_prefix: Option<String>,
    /// Devices to be used. PCI devices must be named here, all others of the machine are left alone.
    /// Virtual devices may be named but are created by [`Port::open`](crate::Port::open) only.
    pub devices: Vec<Device>,
    /// Further EAL arguments, passed as they are, after ours.
    pub extra_args: Vec<String>,
    /// Let DPDK write its informational messages to stderr too, not only warnings and errors.
    pub verbose: bool,
}

/// Where the EAL's memory comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HugePages {
    /// Huge pages if there are enough and some to spare, else ordinary ones with a warning.
    Auto,
    /// Huge pages or an error.
    Require,
    /// Ordinary pages.
    Never,
}

/// Why the EAL did not start.
#[derive(Debug, Error)]
pub enum EalError {
    /// A second start in one process.
    #[error(
        "the EAL was started before in this process; it can be started once only: keep the first `Eal` value"
    )]
    AlreadyStarted,
    /// [`HugePages::Require`] and not enough of them.
    #[error(
        "{needed_mb} MB of huge pages are required and {available_mb} MB are available ({detail}); reserve more \
         (echo 512 > /proc/sys/vm/nr_hugepages), ask for less memory, or allow ordinary pages"
    )]
    NotEnoughHugePages {
        /// Wanted, rounded up to whole pages.
        needed_mb: u64,
        /// Free and not promised to anybody.
        available_mb: u64,
        /// The pools, page size by page size.
        detail: String,
    },
    /// Memory of zero bytes.
    #[error("the EAL needs memory for mbufs: give at least 16 MB, not {0}")]
    TooLittleMemory(u32),
    /// No processor that the EAL can run on.
    #[error("none of the allowed processors {allowed:?} can be used; this process may run on {available:?}")]
    NoCpu {
        /// As asked for.
        allowed: Vec<usize>,
        /// What the kernel lets this process use.
        available: Vec<usize>,
    },
    /// The thread's affinity could not be read or put back.
    #[error("cannot {what} the thread's processor affinity: {source}")]
    Affinity {
        /// "read" or "restore".
        what: &'static str,
        /// The kernel's answer.
        source: rustix::io::Errno,
    },
    /// An argument with a zero byte.
    #[error("an EAL argument holds a zero byte: {0}")]
    BadArgument(#[from] NulError),
    /// `rte_eal_init` failed.
    #[error(
        "the EAL did not start: {errno}; arguments were `{args}`; the lines that DPDK wrote to stderr say more. \
         A process cannot try again: correct the cause and restart it"
    )]
    Init {
        /// DPDK's reason.
        errno: Errno,
        /// The arguments.
        args: String,
    },
}

#[derive(Debug)]
struct Inner {
    warnings: Vec<String>,
    page_bytes: u64,
    huge_pages: bool,
    pci: Vec<Device>,
}

static EAL: OnceLock<Inner> = OnceLock::new();
static STARTED: AtomicU8 = AtomicU8::new(0);
/// Serialises everything on the control path that DPDK does not promise to be safe from two threads.
pub(crate) static CONTROL: Mutex<()> = Mutex::new(());

const MEMORY_MIN_MB: u32 = 16;

impl Default for EalConfig {
    fn default() -> Self {
        Self {
            memory_mb: 256,
            huge_pages: HugePages::Auto,
            allowed_cpus: Vec::new(),
            file_prefix: None,
            devices: Vec::new(),
            extra_args: Vec::new(),
            verbose: false,
        }
    }
}

impl Eal {
    /// Starts the EAL. Works once in a process; a second call fails and changes nothing.
    pub fn init(config: &EalConfig) -> Result<Self, EalError> {
        let plan = Plan::new(config)?;
        if STARTED.swap(1, Ordering::AcqRel) != 0 {
            return Err(EalError::AlreadyStarted);
        }
        let affinity =
            sched_getaffinity(None).map_err(|source| EalError::Affinity { what: "read", source })?;
        let result = start(&plan.args);
        // Also after a failure: the caller goes on to report it, on all of its processors.
        let restored = sched_setaffinity(None, &affinity);
        plan.remove_runtime_directory();
        result?;
        restored.map_err(|source| EalError::Affinity { what: "restore", source })?;

        let mut warnings = plan.warnings;
        let page_bytes = page_bytes().unwrap_or_else(|| {
            warnings.push("the page size of DPDK's memory could not be read".to_owned());
            0
        });
        let pci = config.devices.iter().filter(|d| d.is_pci()).cloned().collect();
        let inner = EAL.get_or_init(|| Inner { warnings, page_bytes, huge_pages: plan.huge_pages, pci });
        Ok(Self { inner })
    }

    /// The EAL, if it was started.
    pub fn get() -> Option<Self> {
        EAL.get().map(|inner| Self { inner })
    }

    /// What an operator should know about the way it started, one sentence each.
    pub fn warnings(&self) -> &'static [String] {
        &self.inner.warnings
    }

    /// The size of the pages that DPDK's memory is made of, in bytes, as found in its own tables.
    pub fn page_size(&self) -> u64 {
        self.inner.page_bytes
    }

    /// True if that memory is in huge pages.
    pub fn huge_pages(&self) -> bool {
        self.inner.huge_pages
    }

    pub(crate) fn allows(&self, device: &Device) -> bool {
        self.inner.pci.iter().any(|d| d.name() == device.name())
    }
}

/// The arguments, decided before anything irrevocable happens.
struct Plan {
    args: Vec<CString>,
    warnings: Vec<String>,
    huge_pages: bool,
    prefix: String,
}

impl Plan {
    fn new(config: &EalConfig) -> Result<Self, EalError> {
        if config.memory_mb < MEMORY_MIN_MB {
            return Err(EalError::TooLittleMemory(config.memory_mb));
        }
        let mut warnings = Vec::new();
        let huge_pages = choose_pages(config, &hugepages::pools(), &mut warnings)?;
        let cpus = choose_cpus(&config.allowed_cpus, &mut warnings)?;
        let prefix = config.file_prefix.clone().unwrap_or_else(unique_prefix);

        let mut args = vec!["understudy".to_owned()];
        args.push(format!("--lcores=0@({cpus})"));
        args.extend(["-m".to_owned(), config.memory_mb.to_string()]);
        if huge_pages {
            args.push("--in-memory".to_owned());
        } else {
            // Not with --in-memory, which 22.11 refuses here: ordinary pages are "legacy" memory.
            args.extend(["--no-huge".to_owned(), "--no-shconf".to_owned()]);
        }
        args.push(format!("--file-prefix={prefix}"));
        args.push("--no-telemetry".to_owned());
        args.push(format!("--log-level=*:{}", if config.verbose { "info" } else { "warning" }));
        let pci: Vec<&Device> = config.devices.iter().filter(|device| device.is_pci()).collect();
        if pci.is_empty() {
            // Without hardware no driver looks at physical addresses.
            args.extend(["--no-pci".to_owned(), "--iova-mode=va".to_owned()]);
        }
        args.extend(pci.iter().map(|device| format!("--allow={device}")));
        args.extend(config.extra_args.iter().cloned());
        let args = args.into_iter().map(CString::new).collect::<Result<_, _>>()?;
        Ok(Self { args, warnings, huge_pages, prefix })
    }

    /// The EAL makes a directory for files that it then never writes (no shared configuration).
    fn remove_runtime_directory(&self) {
        let root = match std::env::var("RUNTIME_DIRECTORY") {
            Ok(directory) => directory,
            Err(_) if rustix::process::getuid().is_root() => "/var/run".to_owned(),
            Err(_) => std::env::var("XDG_RUNTIME_DIR").unwrap_or_else(|_| "/tmp".to_owned()),
        };
        // Fails where it holds something after all; then it stays.
        let _ = std::fs::remove_dir(Path::new(&root).join("dpdk").join(&self.prefix));
    }
}

fn start(args: &[CString]) -> Result<(), EalError> {
    // The EAL permutes the array and keeps pointers into it for as long as the process lives.
    let args: &'static [CString] = args.to_vec().leak();
    let argv: &'static mut [*mut c_char] =
        args.iter().map(|arg| arg.as_ptr().cast_mut()).chain([ptr::null_mut()]).collect::<Vec<_>>().leak();
    let argc = i32::try_from(args.len()).unwrap_or(i32::MAX);
    // SAFETY: argv is a null-terminated array of argc zero-terminated strings, leaked, so all of it
    // outlives the call; the EAL permutes the pointers and does not write through them. STARTED makes
    // this the only call.
    let result = unsafe { dpdk_sys::rte_eal_init(argc, argv.as_mut_ptr()) };
    if result >= 0 {
        return Ok(());
    }
    match Errno::last() {
        Errno::ALREADY => Err(EalError::AlreadyStarted),
        errno => {
            let words: Vec<_> = args.iter().map(|arg| arg.to_string_lossy()).collect();
            Err(EalError::Init { errno, args: words.join(" ") })
        }
    }
}

fn choose_pages(
    config: &EalConfig,
    pools: &[hugepages::Pool],
    warnings: &mut Vec<String>,
) -> Result<bool, EalError> {
    let needed_mb = hugepages::needed_mb(pools, config.memory_mb);
    let available_mb = hugepages::available_mb(pools);
    let detail = hugepages::describe(pools);
    // An EAL that finds less than was seen here fails, and with it the process: the choice is free, so
    // that is not risked. A demand is tried if it can be met at all.
    let spare_mb = hugepages::spare_mb(needed_mb);
    match config.huge_pages {
        HugePages::Never => Ok(false),
        HugePages::Auto if available_mb >= needed_mb + spare_mb => Ok(true),
        HugePages::Require if available_mb >= needed_mb => Ok(true),
        HugePages::Require => Err(EalError::NotEnoughHugePages { needed_mb, available_mb, detail }),
        HugePages::Auto => {
            warnings.push(format!(
                "DPDK uses ordinary pages, which halves its speed: {needed_mb} MB of huge pages are needed, \
                 {spare_mb} MB to spare, and {available_mb} MB are available ({detail}); reserve more with \
                 `echo 512 > /proc/sys/vm/nr_hugepages` and restart"
            ));
            Ok(false)
        }
    }
}

/// The processor list for `--lcores`.
fn choose_cpus(allowed: &[usize], warnings: &mut Vec<String>) -> Result<String, EalError> {
    let set = sched_getaffinity(None).map_err(|source| EalError::Affinity { what: "read", source })?;
    let available: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect();
    let wanted = if allowed.is_empty() { &available } else { allowed };
    // The EAL knows no processors beyond its own limit; the caller's affinity, put back after the start,
    // still does.
    let usable: Vec<usize> = wanted
        .iter()
        .copied()
        .filter(|cpu| available.contains(cpu) && *cpu < dpdk_sys::RTE_MAX_LCORE as usize)
        .collect();
    if usable.is_empty() {
        return Err(EalError::NoCpu { allowed: wanted.to_vec(), available });
    }
    if !allowed.is_empty() && usable.len() < allowed.len() {
        warnings.push(format!("of the processors {allowed:?} only {usable:?} can be used by DPDK"));
    }
    Ok(usable.iter().map(usize::to_string).collect::<Vec<_>>().join(","))
}

fn unique_prefix() -> String {
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.subsec_nanos());
    format!("us-{}-{nanos}", std::process::id())
}

/// Looks at where an allocation really lies.
fn page_bytes() -> Option<u64> {
    // SAFETY: the EAL runs. The allocation is freed below and not used in between; the segment that
    // describes it is owned by the EAL and lives as long as the allocation does.
    unsafe {
        let memory = dpdk_sys::rte_malloc(ptr::null(), 64, 0);
        if memory.is_null() {
            return None;
        }
        let segment = dpdk_sys::rte_mem_virt2memseg(memory, ptr::null());
        let bytes = (!segment.is_null()).then(|| (*segment).hugepage_sz);
        dpdk_sys::rte_free(memory);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hugepages::Pool;

    fn args(config: &EalConfig) -> Vec<String> {
        Plan::new(config).unwrap().args.into_iter().map(|arg| arg.into_string().unwrap()).collect()
    }

    #[test]
    fn without_devices_no_pci_device_is_touched() {
        let args = args(&EalConfig { huge_pages: HugePages::Never, memory_mb: 64, ..EalConfig::default() });
        assert!(args.contains(&"--no-pci".to_owned()), "{args:?}");
        assert!(args.contains(&"--no-huge".to_owned()), "{args:?}");
        assert!(!args.contains(&"--in-memory".to_owned()), "22.11 refuses the pair: {args:?}");
        assert!(args.contains(&"--no-telemetry".to_owned()), "{args:?}");
        assert!(!args.iter().any(|arg| arg.starts_with("--allow")), "{args:?}");
    }

    #[test]
    fn named_pci_devices_are_the_only_ones_allowed() {
        let devices = vec!["01:00.0".parse().unwrap(), "net_null0".parse().unwrap()];
        let args = args(&EalConfig { devices, huge_pages: HugePages::Never, ..EalConfig::default() });
        let allowed: Vec<_> = args.iter().filter(|arg| arg.starts_with("--allow")).collect();
        assert_eq!(allowed, ["--allow=0000:01:00.0"]);
        assert!(!args.contains(&"--no-pci".to_owned()), "{args:?}");
    }

    #[test]
    fn huge_pages_are_used_if_there_are_enough_and_missed_with_a_warning() {
        let config = EalConfig { memory_mb: 256, ..EalConfig::default() };
        let pool = |available| [Pool { page_kib: 2048, total: 512, available }];
        let (enough, scarce, exact, few) = (pool(136), pool(135), pool(128), pool(127));

        let mut warnings = Vec::new();
        assert!(choose_pages(&config, &enough, &mut warnings).unwrap());
        assert_eq!(warnings, Vec::<String>::new());

        assert!(!choose_pages(&config, &few, &mut warnings).unwrap());
        assert_eq!(warnings.len(), 1);
        assert!(
            warnings[0].contains(
                "256 MB of huge pages are needed, 16 MB to spare, and 254 MB are available (127 of 512 pages of"
            ),
            "{warnings:?}"
        );
        // Others hold most of them: what is free now may be gone when the EAL asks for it.
        for pool in [scarce, exact, pool(0)] {
            assert!(!choose_pages(&config, &pool, &mut Vec::new()).unwrap());
        }

        let require = EalConfig { huge_pages: HugePages::Require, ..config.clone() };
        assert!(choose_pages(&require, &exact, &mut warnings).unwrap());
        assert!(matches!(
            choose_pages(&require, &few, &mut warnings),
            Err(EalError::NotEnoughHugePages { needed_mb: 256, available_mb: 254, .. })
        ));
        let never = EalConfig { huge_pages: HugePages::Never, ..config };
        assert!(!choose_pages(&never, &enough, &mut warnings).unwrap());
        assert_eq!(warnings.len(), 1, "asked for, so nothing to warn of");
    }

    #[test]
    fn arguments_that_cannot_work_are_refused_before_the_start() {
        let bad = EalConfig { extra_args: vec!["a\0b".to_owned()], ..EalConfig::default() };
        assert!(matches!(Plan::new(&bad), Err(EalError::BadArgument(_))));
        let nothing = EalConfig { memory_mb: 0, ..EalConfig::default() };
        assert!(matches!(Plan::new(&nothing), Err(EalError::TooLittleMemory(0))));
        let nowhere = EalConfig { allowed_cpus: vec![9999], ..EalConfig::default() };
        assert!(matches!(Plan::new(&nowhere), Err(EalError::NoCpu { .. })));
    }

    #[test]
    fn every_process_and_start_has_a_prefix_of_its_own() {
        let first = unique_prefix();
        std::thread::sleep(std::time::Duration::from_micros(10));
        assert_ne!(first, unique_prefix());
    }
}
