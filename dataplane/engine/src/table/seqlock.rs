//! The seqlock of a session entry (decision 2): the owner writes without waiting, everybody else reads a
//! consistent copy or learns that it could not.
//!
//! The protected data are `AtomicU64` words with Relaxed loads and stores, which are plain moves on
//! every machine that we build for; a seqlock over ordinary fields would be undefined behaviour.
//! The sequence is the upper half of one of the words, so that the owner's time stamp in the lower half
//! costs no store of its own.

use crate::atomics::{AtomicU64, Ordering, fence};

const STEP: u64 = 1 << 32;

/// Owner: announces a change. `low` becomes the word's lower half. Returns what [`end`] needs.
#[inline(always)]
pub(crate) fn begin(sequence: &AtomicU64, low: u32) -> u64 {
    let odd = (sequence.load(Ordering::Relaxed) & !u64::from(u32::MAX)).wrapping_add(STEP) | u64::from(low);
    sequence.store(odd, Ordering::Relaxed);
    // The words' stores may not become visible before the odd sequence does.
    fence(Ordering::Release);
    odd
}

/// Owner: the change is complete.
#[inline(always)]
pub(crate) fn end(sequence: &AtomicU64, odd: u64) {
    sequence.store(odd.wrapping_add(STEP), Ordering::Release);
}

/// Reader: one attempt to copy all of `words`, of which `words[sequence]` holds the sequence. `None`
/// while the owner is in the middle of a change; the caller tries again later, never spins for ever.
#[inline]
pub(crate) fn read<const N: usize>(words: &[AtomicU64; N], sequence: usize) -> Option<[u64; N]> {
    let before = words[sequence].load(Ordering::Acquire);
    if before & STEP != 0 {
        return None;
    }
    let mut copy = [0; N];
    for (to, from) in copy.iter_mut().zip(words) {
        *to = from.load(Ordering::Relaxed);
    }
    fence(Ordering::Acquire);
    (words[sequence].load(Ordering::Relaxed) == before).then_some(copy)
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use crate::atomics::Arc;

    /// A reader never sees half of a change, whatever the interleaving.
    #[test]
    fn loom_seqlock_reader_sees_whole_changes_only() {
        loom::model(|| {
            let words: Arc<[AtomicU64; 3]> =
                Arc::new([AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0)]);
            let owner = {
                let words = words.clone();
                loom::thread::spawn(move || {
                    for value in 1..=2 {
                        let odd = begin(&words[0], value);
                        words[1].store(u64::from(value), Ordering::Relaxed);
                        words[2].store(u64::from(value) * 10, Ordering::Relaxed);
                        end(&words[0], odd);
                    }
                })
            };
            if let Some([_, a, b]) = read(&words, 0) {
                assert_eq!(b, a * 10, "torn read");
            }
            assert!(owner.join().is_ok());
            let Some([sequence, a, b]) = read(&words, 0) else { panic!("nobody writes any more") };
            assert_eq!((sequence >> 32, sequence as u32, a, b), (4, 2, 2, 20));
        });
    }
}
