//! A set of handles (or buckets) that costs one bit each, whatever it holds: marks by loss, repair and
//! suspension live here and not in a list, so that memory stays flat however long the partner is away.

/// A set of numbers below a bound, with a fast way to the next one.
#[derive(Clone, Debug)]
pub(super) struct Marks {
    words: Vec<u64>,
    /// A bit for each word that is not zero.
    summary: Vec<u64>,
    len: u32,
    cursor: u32,
}

impl Marks {
    pub fn new(bound: u32) -> Self {
        let words = bound.div_ceil(64) as usize;
        Self { words: vec![0; words], summary: vec![0; words.div_ceil(64)], len: 0, cursor: 0 }
    }

    pub const fn len(&self) -> u32 {
        self.len
    }

    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn contains(&self, at: u32) -> bool {
        self.words.get(at as usize / 64).is_some_and(|word| word >> (at % 64) & 1 == 1)
    }

    /// Adds a number; false if it was there or lies beyond the bound.
    pub fn set(&mut self, at: u32) -> bool {
        let word_at = at as usize / 64;
        let Some(word) = self.words.get_mut(word_at) else { return false };
        let bit = 1 << (at % 64);
        if *word & bit != 0 {
            return false;
        }
        *word |= bit;
        self.summary[word_at / 64] |= 1 << (word_at % 64);
        self.len += 1;
        true
    }

    /// Removes a number; false if it was not there.
    pub fn clear(&mut self, at: u32) -> bool {
        if self.len == 0 {
            return false;
        }
        let word_at = at as usize / 64;
        let Some(word) = self.words.get_mut(word_at) else { return false };
        let bit = 1 << (at % 64);
        if *word & bit == 0 {
            return false;
        }
        *word &= !bit;
        if *word == 0 {
            self.summary[word_at / 64] &= !(1 << (word_at % 64));
        }
        self.len -= 1;
        true
    }

    pub fn clear_all(&mut self) {
        if self.len > 0 {
            self.words.fill(0);
            self.summary.fill(0);
        }
        (self.len, self.cursor) = (0, 0);
    }

    /// The lowest number that is not below `from`.
    pub fn next_from(&self, from: u32) -> Option<u32> {
        let at = from as usize / 64;
        let first = self.words.get(at)? & (u64::MAX << (from % 64));
        if first != 0 {
            return Some((at * 64) as u32 + first.trailing_zeros());
        }
        let mut upper = (at + 1) / 64;
        let mut mask = u64::MAX << ((at + 1) % 64);
        loop {
            let summary = self.summary.get(upper)? & mask;
            if summary != 0 {
                let at = upper * 64 + summary.trailing_zeros() as usize;
                return Some((at * 64) as u32 + self.words[at].trailing_zeros());
            }
            (upper, mask) = (upper + 1, u64::MAX);
        }
    }

    /// Removes the next number in turn: what was added behind the last one comes before the rest.
    pub fn take_next(&mut self) -> Option<u32> {
        if self.len == 0 {
            return None;
        }
        let found = self.next_from(self.cursor).or_else(|| self.next_from(0))?;
        self.clear(found);
        self.cursor = found + 1;
        Some(found)
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        let mut from = Some(0);
        std::iter::from_fn(move || {
            let found = self.next_from(from?);
            from = found.map(|at| at + 1);
            found
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_holds_what_a_set_holds(
            bound in 1_u32..20_000,
            steps in proptest::collection::vec((0_u8..4, 0_u32..20_000), 0..400),
        ) {
            let mut marks = Marks::new(bound);
            let mut oracle = BTreeSet::new();
            for (step, at) in steps {
                match step {
                    0 | 1 if at < bound => prop_assert_eq!(marks.set(at), oracle.insert(at)),
                    2 => prop_assert_eq!(marks.clear(at), oracle.remove(&at)),
                    3 => match marks.take_next() {
                        Some(at) => prop_assert!(oracle.remove(&at)),
                        None => prop_assert!(oracle.is_empty()),
                    },
                    _ => {}
                }
                prop_assert_eq!(marks.len() as usize, oracle.len());
                prop_assert_eq!(marks.next_from(at), oracle.range(at..).next().copied());
            }
            prop_assert_eq!(marks.iter().collect::<Vec<_>>(), oracle.iter().copied().collect::<Vec<_>>());
            prop_assert_eq!(marks.contains(bound - 1), oracle.contains(&(bound - 1)));
        }
    }
}
