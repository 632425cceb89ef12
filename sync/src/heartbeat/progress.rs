//! Finds a worker that no longer turns.
//!
//! Each worker bumps a word once a burst. A worker that hangs keeps its share of the sessions from
//! passing while the node as a whole looks alive, so the sync core watches the words and calls the node
//! unfit when one of them stood still (decision 32). After the watcher itself was away it grants a full
//! patience again: words that it did not look at prove nothing.

use super::MAX_WORKERS;
use crate::ids::Micros;

/// The progress words as they were last seen to move.
#[derive(Clone, Debug)]
pub struct ProgressWatch {
    patience: Micros,
    words: [u32; MAX_WORKERS],
    moved_at: [Micros; MAX_WORKERS],
    looked_at: Option<Micros>,
}

impl ProgressWatch {
    /// A watch that calls a worker stuck after `patience` without a step.
    #[must_use]
    pub const fn new(patience: Micros) -> Self {
        Self { patience, words: [0; MAX_WORKERS], moved_at: [Micros(0); MAX_WORKERS], looked_at: None }
    }

    /// Looks at the words of the workers; the first that is stuck, if any. Words behind
    /// [`MAX_WORKERS`] are not looked at.
    pub fn look(&mut self, words: &[u32], now: Micros) -> Option<usize> {
        let was_away = self.looked_at.is_none_or(|at| now.since(at) >= self.patience);
        self.looked_at = Some(now);
        let mut stuck = None;
        for (worker, (&word, (seen, moved_at))) in
            words.iter().zip(self.words.iter_mut().zip(self.moved_at.iter_mut())).enumerate()
        {
            if was_away || word != *seen {
                *seen = word;
                *moved_at = now;
            } else if now.since(*moved_at) >= self.patience && stuck.is_none() {
                stuck = Some(worker);
            }
        }
        stuck
    }

    /// The words as last seen, for the heartbeat.
    #[must_use]
    pub const fn words(&self) -> &[u32; MAX_WORKERS] {
        &self.words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Micros {
        Micros::from_millis(ms)
    }

    #[test]
    fn decision_32_a_stuck_worker_is_named() {
        let mut watch = ProgressWatch::new(ms(100));
        assert_eq!(watch.look(&[1, 1], ms(10)), None);
        assert_eq!(watch.look(&[2, 2], ms(60)), None);
        assert_eq!(watch.look(&[3, 2], ms(120)), None);
        assert_eq!(watch.look(&[4, 2], ms(160)), Some(1));
        assert_eq!(watch.look(&[5, 3], ms(170)), None);
        assert_eq!(watch.words()[..2], [5, 3]);
    }

    #[test]
    fn a_watcher_that_was_away_blames_nobody() {
        let mut watch = ProgressWatch::new(ms(100));
        watch.look(&[1], ms(0));
        assert_eq!(watch.look(&[1], ms(5_000)), None);
        assert_eq!(watch.look(&[1], ms(5_050)), None);
        assert_eq!(watch.look(&[1], ms(5_100)), Some(0));
        let many = [1; MAX_WORKERS + 9];
        assert_eq!(ProgressWatch::new(ms(1)).look(&many, ms(0)), None);
    }
}
