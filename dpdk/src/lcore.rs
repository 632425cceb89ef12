//! Threads that poll, and the clock they poll by.

use std::marker::PhantomData;

use thiserror::Error;

use crate::eal::{CONTROL, Eal};
use crate::errno::Errno;

/// While it lives, this thread has an lcore id and with it its own cache in every mempool: an allocation
/// costs a third of what it costs without. To be held by every worker.
#[derive(Debug)]
pub struct LcoreGuard {
    id: u32,
    /// False if the thread had an id before (the one that started the EAL): that one stays.
    registered: bool,
    /// Bound to its thread.
    _not_send: PhantomData<*mut ()>,
}

/// Why a thread got no lcore id.
#[derive(Debug, Error)]
#[error(
    "this thread cannot be registered with DPDK: {errno}; at most {max} threads can be, the main thread included",
    max = dpdk_sys::RTE_MAX_LCORE
)]
pub struct LcoreError {
    /// DPDK's reason.
    pub errno: Errno,
}

impl LcoreGuard {
    /// Registers the calling thread.
    pub fn register(_eal: Eal) -> Result<Self, LcoreError> {
        let _control = CONTROL.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        // SAFETY: reads a thread-local integer.
        let before = unsafe { dpdk_sys::us_lcore_id() };
        if before != dpdk_sys::US_LCORE_ID_ANY {
            return Ok(Self { id: before, registered: false, _not_send: PhantomData });
        }
        // SAFETY: the EAL runs and this thread has no lcore id yet.
        if unsafe { dpdk_sys::rte_thread_register() } != 0 {
            return Err(LcoreError { errno: Errno::last() });
        }
        // SAFETY: reads a thread-local integer.
        let id = unsafe { dpdk_sys::us_lcore_id() };
        Ok(Self { id, registered: true, _not_send: PhantomData })
    }

    /// The id, unique among the threads registered now.
    pub fn id(&self) -> u32 {
        self.id
    }
}

impl Drop for LcoreGuard {
    fn drop(&mut self) {
        if self.registered {
            let _control = CONTROL.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            // SAFETY: this thread was registered by this guard, which cannot leave it. What its caches
            // hold stays in them and is found by the next thread with the same id.
            unsafe { dpdk_sys::rte_thread_unregister() };
        }
    }
}

/// Arithmetic that touches no memory: twelve instructions a round, of which six at a time do not wait for each
/// other. It takes all that a core can issue, so it takes longer while somebody else uses the same core.
#[inline(always)]
pub fn keep_busy(rounds: u32) {
    for _ in 0..rounds {
        // Of plain Rust the compiler would make vectors, or nothing.
        #[cfg(target_arch = "x86_64")]
        // SAFETY: changes six registers that are declared, and the flags; touches no memory.
        unsafe {
            core::arch::asm!(
                "xor {a}, {n}", "xor {b}, {n}", "xor {c}, {n}", "xor {d}, {n}", "xor {e}, {n}", "xor {f}, {n}",
                "xor {a}, {n}", "xor {b}, {n}", "xor {c}, {n}", "xor {d}, {n}", "xor {e}, {n}", "xor {f}, {n}",
                a = inout(reg) 1_u64 => _, b = inout(reg) 2_u64 => _, c = inout(reg) 3_u64 => _,
                d = inout(reg) 4_u64 => _, e = inout(reg) 5_u64 => _, f = inout(reg) 6_u64 => _,
                n = in(reg) 7_u64, options(nomem, nostack),
            );
        }
        #[cfg(target_arch = "aarch64")]
        // SAFETY: changes six registers that are declared; touches no memory.
        unsafe {
            core::arch::asm!(
                "eor {a}, {a}, {n}", "eor {b}, {b}, {n}", "eor {c}, {c}, {n}",
                "eor {d}, {d}, {n}", "eor {e}, {e}, {n}", "eor {f}, {f}, {n}",
                "eor {a}, {a}, {n}", "eor {b}, {b}, {n}", "eor {c}, {c}, {n}",
                "eor {d}, {d}, {n}", "eor {e}, {e}, {n}", "eor {f}, {f}, {n}",
                a = inout(reg) 1_u64 => _, b = inout(reg) 2_u64 => _, c = inout(reg) 3_u64 => _,
                d = inout(reg) 4_u64 => _, e = inout(reg) 5_u64 => _, f = inout(reg) 6_u64 => _,
                n = in(reg) 7_u64, options(nomem, nostack),
            );
        }
    }
}

/// The processor's time-stamp counter. Not ordered against the instructions around it.
#[inline(always)]
pub fn cycles() -> u64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 processor has the instruction and Linux leaves it to user space.
    unsafe {
        core::arch::x86_64::_rdtsc()
    }
    #[cfg(target_arch = "aarch64")]
    {
        let count: u64;
        // SAFETY: reads the virtual counter, which Linux leaves to user space; touches no memory.
        unsafe { core::arch::asm!("mrs {}, cntvct_el0", out(reg) count, options(nomem, nostack)) };
        count
    }
}

/// How many [`cycles`] make a second. The EAL measured it at its start.
pub fn tsc_hz(_eal: Eal) -> u64 {
    // SAFETY: the EAL runs; reads a variable that it set at its start.
    unsafe { dpdk_sys::rte_get_tsc_hz() }
}
