//! The session table: one shard a worker, one writer a shard.
//!
//! [`Shard`] is the owner's view: it looks up, creates, ends and expires sessions. [`SlotReader`] is
//! everybody else's. The memory is one region that the caller provides, zeroed, once and for ever
//! ([`Memory`]); nothing is allocated afterwards.
//!
//! This is the only module of the engine that may use `unsafe`, and it does for one thing: prefetching.
#![allow(unsafe_code)]

pub mod dirty;
#[cfg(not(loom))]
mod entry;
#[cfg(not(loom))]
mod index;
#[cfg(not(loom))]
mod memory;
#[cfg_attr(loom, allow(dead_code))]
mod seqlock;
#[cfg(not(loom))]
mod shard;
#[cfg(all(test, not(loom)))]
mod tests;
#[cfg(not(loom))]
mod timers;

#[cfg(not(loom))]
pub use entry::{Binding, Path, Read, SessionView, Slot, SlotReader, flags};
#[cfg(not(loom))]
pub(crate) use entry::{Bound, Entry, Hot};
#[cfg(not(loom))]
pub use index::{HashKey, KeyHash, MAX_SLOTS};
#[cfg(not(loom))]
pub use memory::Memory;
#[cfg(not(loom))]
pub(crate) use shard::{Adopted, Due, End};
#[cfg(not(loom))]
pub use shard::{Class, Ended, Guess, NewSession, Population, Shard, ShardConfig, TableFull};

/// Asks for the cache line of an element; out of range asks for nothing.
#[cfg(not(loom))]
#[inline(always)]
pub(crate) fn prefetch_read<T>(slice: &[T], at: usize) {
    if let Some(element) = slice.get(at) {
        prefetch_line(element, 0);
    }
}

/// Asks for the line that lies `offset` bytes into `element`.
#[cfg(not(loom))]
#[inline(always)]
pub fn prefetch_line<T>(element: &T, offset: usize) {
    debug_assert!(offset < size_of::<T>().max(1));
    let line = std::ptr::from_ref(element).cast::<i8>().wrapping_add(offset);
    // SAFETY: a prefetch reads nothing and cannot fault, whatever the address; this one lies inside
    // `element` anyway.
    unsafe { core::arch::x86_64::_mm_prefetch::<{ core::arch::x86_64::_MM_HINT_T0 }>(line) };
}
