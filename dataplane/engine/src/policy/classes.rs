//! From values to classes: sets of rules, each known by a number.

use std::collections::HashMap;

use ipnet::IpNet;

use super::check::PolicyError;
use super::rule::Rule;
use super::services;
use crate::routes;
use crate::routes::lpm::{Entry, PREFIXES_MAX, Runs16};

/// What the parts of a policy that can grow may take, each.
pub(super) const LIMIT_BYTES: usize = 256 << 20;

/// A set of rules as bits.
pub(super) type RuleBits = Box<[u64]>;

/// The places of the bits in a set.
pub(super) fn places(bits: &[u64]) -> impl Iterator<Item = usize> {
    bits.iter().enumerate().flat_map(|(word, &bits)| {
        std::iter::successors(Some(bits), |rest| Some(rest & rest.wrapping_sub(1)))
            .take_while(|&rest| rest != 0)
            .map(move |rest| word << 6 | rest.trailing_zeros() as usize)
    })
}

/// Adds rule `place` to a set.
pub(super) fn add(bits: &mut [u64], place: usize) {
    if let Some(word) = bits.get_mut(place >> 6) {
        *word |= 1 << (place & 63);
    }
}

/// An empty set for `rules` rules.
pub(super) fn none(rules: usize) -> RuleBits {
    vec![0; rules.div_ceil(64).max(1)].into_boxed_slice()
}

/// The classes of a dimension: equal sets are one class.
#[derive(Default)]
pub(super) struct Classes {
    pub(super) sets: Vec<RuleBits>,
    numbers: HashMap<RuleBits, u32>,
}

impl Classes {
    /// The class of this set.
    pub(super) fn class(&mut self, set: &[u64]) -> u32 {
        if let Some(&number) = self.numbers.get(set) {
            return number;
        }
        let number = self.sets.len() as u32;
        self.sets.push(set.into());
        self.numbers.insert(set.into(), number);
        number
    }
}

/// The classes of each rule: the other way round, for cutting planes out of them.
pub(super) struct ClassesOfRules {
    /// How many classes there are.
    pub(super) classes: usize,
    /// The rules that every class has.
    pub(super) always: RuleBits,
    /// The classes of the other rules.
    lists: Vec<u32>,
    /// Where each rule's list starts, and where the last one ends.
    starts: Vec<usize>,
}

impl ClassesOfRules {
    pub(super) fn new(rules: usize, classes: &Classes) -> Result<Self, PolicyError> {
        let mut always = classes.sets.first().cloned().unwrap_or_default();
        for set in &classes.sets {
            always.iter_mut().zip(set.iter()).for_each(|(always, bits)| *always &= bits);
        }
        let others = |set: &RuleBits| -> RuleBits {
            set.iter().zip(always.iter()).map(|(bits, always)| bits & !always).collect()
        };
        // Count, then fill.
        let mut ends = vec![0; rules + 1];
        for set in &classes.sets {
            places(&others(set)).for_each(|rule| ends[rule] += 1);
        }
        let mut total = 0;
        for end in &mut ends {
            total += std::mem::replace(end, total);
        }
        if total * size_of::<u32>() > LIMIT_BYTES {
            return Err(PolicyError::TooLarge { limit_mb: LIMIT_BYTES >> 20 });
        }
        let starts = ends.clone();
        let mut lists = vec![0; total];
        for (class, set) in classes.sets.iter().enumerate() {
            for rule in places(&others(set)) {
                lists[ends[rule]] = class as u32;
                ends[rule] += 1;
            }
        }
        Ok(Self { classes: classes.sets.len(), always, lists, starts })
    }

    /// The classes that have `rule`; none if all have it.
    pub(super) fn of(&self, rule: usize) -> &[u32] {
        &self.lists[self.starts[rule]..self.starts[rule + 1]]
    }
}

/// The classes of one family's addresses, and the sorted prefixes that lead to them.
pub(super) struct AddressClasses {
    pub(super) classes: Classes,
    pub(super) entries: Vec<Entry>,
    pub(super) default: u32,
}

impl AddressClasses {
    /// The classes of the lists that `side` picks from the rules, over the addresses of one family.
    pub(super) fn new(
        rules: &[Rule],
        v6: bool,
        side: impl Fn(&Rule) -> &[IpNet],
    ) -> Result<Self, PolicyError> {
        let mut classes = Classes::default();
        let mut base = none(rules.len());
        let mut prefixes: Vec<Entry> = Vec::new();
        for (place, rule) in rules.iter().enumerate() {
            let list = side(rule);
            if list.is_empty() {
                add(&mut base, place);
            }
            let of_family = list.iter().filter(|p| matches!(p, IpNet::V6(_)) == v6);
            prefixes.extend(of_family.map(|p| routes::entry(p, place as u32)));
        }
        if prefixes.len() > PREFIXES_MAX {
            return Err(PolicyError::TooLarge { limit_mb: LIMIT_BYTES >> 20 });
        }
        prefixes.sort_unstable();

        let default = classes.class(&base);
        let mut entries: Vec<Entry> = Vec::new();
        // The prefixes around the current one, outermost first, each with its set and class.
        let mut around: Vec<(Entry, RuleBits, u32)> = Vec::new();
        for group in prefixes.chunk_by(|a, b| a.left == b.left && a.len == b.len) {
            let Some(&prefix) = group.first() else { continue };
            while around.last().is_some_and(|(outer, ..)| !outer.covers(&prefix)) {
                around.pop();
            }
            let (mut set, outer_class) = match around.last() {
                Some((_, set, class)) => (set.clone(), *class),
                None => (base.clone(), default),
            };
            for entry in group {
                add(&mut set, entry.value as usize);
            }
            let class = classes.class(&set);
            if class != outer_class {
                entries.push(Entry { value: class, ..prefix });
            }
            around.push((prefix, set, class));
            if classes.sets.len() * size_of_val(&*base) > LIMIT_BYTES {
                return Err(PolicyError::TooLarge { limit_mb: LIMIT_BYTES >> 20 });
            }
        }
        Ok(Self { classes, entries, default })
    }
}

/// The classes of services, and the tables that lead to them.
pub(super) struct ServiceClasses {
    pub(super) classes: Classes,
    pub(super) tables: [Runs16; services::TABLES],
}

impl ServiceClasses {
    pub(super) fn new(rules: &[Rule]) -> Self {
        // Where rules begin and end to apply, over all service numbers.
        let mut turns: Vec<(u32, u32)> = Vec::new();
        for (place, rule) in rules.iter().enumerate() {
            for (low, high) in services::spans(&rule.services) {
                turns.extend([(low, place as u32), (high + 1, place as u32)]);
            }
        }
        turns.sort_unstable();

        let mut classes = Classes::default();
        let mut set = none(rules.len());
        let mut slots = vec![classes.class(&set); services::TABLES << 16];
        let mut turns = turns.chunk_by(|a, b| a.0 == b.0).peekable();
        while let Some(turn) = turns.next() {
            for &(_, place) in turn {
                set[place as usize >> 6] ^= 1 << (place & 63);
            }
            let number = |turn: &[(u32, u32)]| turn.first().map_or(slots.len(), |t| t.0 as usize);
            let (low, end) = (number(turn), turns.peek().map_or(slots.len(), |next| number(next)));
            slots[low..end].fill(classes.class(&set));
        }
        let tables = std::array::from_fn(|table| Runs16::new(&slots[table << 16..(table + 1) << 16]));
        Self { classes, tables }
    }
}
