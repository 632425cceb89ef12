//! From rules to planes and vectors.

use std::collections::HashMap;

use super::check::{self, Families, PolicyError};
use super::classes::{self, AddressClasses, Classes, ClassesOfRules, LIMIT_BYTES, RuleBits, ServiceClasses};
use super::rule::{Decision, Rule, ZoneSet};
use super::slots::RuleSlots;
use super::{Addresses, Plane, Policy, WIDE};
use crate::ids::{RuleId, ZoneId};
use crate::routes::lpm::{self, Cell, Lpm4, Lpm6};

pub(super) fn compile(rules: &[Rule], slots: &mut RuleSlots) -> Result<Policy, PolicyError> {
    check::validate(rules)?;
    let source = [false, true].map(|v6| AddressClasses::new(rules, v6, |r| &r.source));
    let destination = [false, true].map(|v6| AddressClasses::new(rules, v6, |r| &r.destination));
    let ([source_v4, source_v6], [destination_v4, destination_v6]) = (source, destination);
    let source = [source_v4?, source_v6?];
    let destination = [destination_v4?, destination_v6?];
    let services = ServiceClasses::new(rules);
    let from = Zones::new(rules, |r| r.from);
    let to = Zones::new(rules, |r| r.to);

    let mut planes = Planes::default();
    let services_of_rules = ClassesOfRules::new(rules.len(), &services.classes)?;
    let mut pairs = [Vec::new(), Vec::new()];
    for (family, pairs) in pairs.iter_mut().enumerate() {
        let sources = ClassesOfRules::new(rules.len(), &source[family].classes)?;
        let destinations = ClassesOfRules::new(rules.len(), &destination[family].classes)?;
        let dimensions = [&sources, &destinations, &services_of_rules];
        let possible = of_family(rules, family == 1);
        let mut known = HashMap::new();
        for from in &from.groups.sets {
            for to in &to.groups.sets {
                let members = intersection(&[from, to, &possible]);
                let plane = match known.get(&members) {
                    Some(&plane) => plane,
                    None => {
                        let plane = planes.add(&members, dimensions)?;
                        known.insert(members, plane);
                        plane
                    }
                };
                pairs.push(plane);
            }
        }
    }

    // Nothing can fail from here on: the slots may change.
    let ids: Vec<RuleId> = rules.iter().map(|r| r.id).collect();
    let decisions = rules.iter().zip(slots.assign(&ids)).map(|(rule, slot)| decision(rule, slot)).collect();
    let mut by_id: Vec<(RuleId, u16)> = ids.iter().copied().zip(0..).collect();
    by_id.sort_unstable();
    let columns = to.groups.sets.len() as u16;
    Ok(Policy {
        source: tables(&source),
        destination: tables(&destination),
        services: services.tables,
        from: Box::new(from.group_of.map(|group| group * columns)),
        to: Box::new(to.group_of.map(|group| group as u8)),
        pairs,
        planes: planes.list,
        cells: planes.cells,
        vectors: planes.vectors,
        words: planes.words,
        members: planes.members,
        decisions,
        by_id,
        rules: rules.to_vec(),
        warnings: check::unreachable(rules),
    })
}

fn tables([v4, v6]: &[AddressClasses; 2]) -> Addresses {
    Addresses { v4: Lpm4::build(&v4.entries, v4.default), v6: Lpm6::build(&v6.entries, v6.default) }
}

fn decision(rule: &Rule, slot: u16) -> Decision {
    Decision {
        action: rule.action,
        rule: rule.id,
        slot,
        log: rule.log,
        replicate: rule.replicate,
        sync_after_s: rule.sync_after_s,
        group: rule.group,
    }
}

/// The rules that packets of one family can match.
fn of_family(rules: &[Rule], v6: bool) -> RuleBits {
    let mut bits = classes::none(rules.len());
    for (place, rule) in rules.iter().enumerate() {
        let (from, to) = (Families::of(&rule.source), Families::of(&rule.destination));
        if if v6 { from.v6 && to.v6 } else { from.v4 && to.v4 } {
            classes::add(&mut bits, place);
        }
    }
    bits
}

fn intersection(sets: &[&RuleBits]) -> RuleBits {
    let Some((first, rest)) = sets.split_first() else { return RuleBits::default() };
    let mut common = (*first).clone();
    for set in rest {
        common.iter_mut().zip(set.iter()).for_each(|(bits, other)| *bits &= other);
    }
    common
}

/// Zones by what the rules say of them.
struct Zones {
    groups: Classes,
    group_of: [u16; 256],
}

impl Zones {
    fn new(rules: &[Rule], side: impl Fn(&Rule) -> ZoneSet) -> Self {
        let mut groups = Classes::default();
        let group_of = std::array::from_fn(|zone| {
            let mut bits = classes::none(rules.len());
            for (place, rule) in rules.iter().enumerate() {
                if side(rule).contains(ZoneId(zone as u8)) {
                    classes::add(&mut bits, place);
                }
            }
            groups.class(&bits) as u16
        });
        Self { groups, group_of }
    }
}

/// The planes under construction.
#[derive(Default)]
struct Planes {
    list: Vec<Plane>,
    cells: Vec<Cell>,
    vectors: Vec<u64>,
    words: Vec<u64>,
    members: Vec<u16>,
    /// Where equal vectors of wide planes are already.
    known: HashMap<Vec<u64>, u64>,
    /// The vectors of the row under construction.
    scratch: Vec<u64>,
}

impl Planes {
    /// A plane of these rules; `dimensions` are source, destination and service.
    fn add(&mut self, members: &RuleBits, dimensions: [&ClassesOfRules; 3]) -> Result<u32, PolicyError> {
        let members: Vec<usize> = classes::places(members).collect();
        let [source, destination, service] = dimensions.map(|classes| self.row(classes, &members));
        let wide = if members.len() > 64 { WIDE } else { 0 };
        self.list.push(Plane { source, destination, service, members: self.members.len() as u32 | wide });
        self.members.extend(members.iter().map(|&place| place as u16));
        if self.memory_bytes() > LIMIT_BYTES {
            return Err(PolicyError::TooLarge { limit_mb: LIMIT_BYTES >> 20 });
        }
        Ok((self.list.len() - 1) as u32)
    }

    /// The row of class → vector for one dimension of a plane.
    fn row(&mut self, classes: &ClassesOfRules, members: &[usize]) -> u32 {
        let words = members.len().div_ceil(64).max(1);
        self.fill_scratch(classes, members, words);
        let row = if words == 1 { self.scratch.clone() } else { self.placed(words) };
        let start = self.cells.len();
        self.cells.resize(start + row.len().div_ceil(64), Cell::default());
        lpm::compress(&row, &mut self.cells[start..], &mut self.vectors);
        start as u32
    }

    /// Leaves in `scratch` the vector of each class, `words` words long, over the members as bits.
    fn fill_scratch(&mut self, classes: &ClassesOfRules, members: &[usize], words: usize) {
        self.scratch.clear();
        self.scratch.resize(classes.classes * words, 0);
        for (bit, &rule) in members.iter().enumerate() {
            let (word, mask) = (bit >> 6, 1 << (bit & 63));
            if classes.always[rule >> 6] >> (rule & 63) & 1 == 1 {
                self.scratch.iter_mut().skip(word).step_by(words).for_each(|bits| *bits |= mask);
            }
            for &class in classes.of(rule) {
                self.scratch[class as usize * words + word] |= mask;
            }
        }
    }

    /// Where the vectors in `scratch` are in `words`, put there if they are new.
    fn placed(&mut self, words: usize) -> Vec<u64> {
        let scratch = std::mem::take(&mut self.scratch);
        let mut row: Vec<u64> = Vec::with_capacity(scratch.len() / words);
        let mut last: &[u64] = &[];
        for vector in scratch.chunks(words) {
            match row.last() {
                Some(&value) if vector == last => row.push(value),
                _ => row.push(self.place(sparse(vector))),
            }
            last = vector;
        }
        self.scratch = scratch;
        row
    }

    fn place(&mut self, vector: Vec<u64>) -> u64 {
        let words = &mut self.words;
        *self.known.entry(vector).or_insert_with_key(|vector| {
            let offset = words.len() as u64;
            words.extend_from_slice(vector);
            offset
        })
    }

    fn memory_bytes(&self) -> usize {
        size_of_val(self.cells.as_slice())
            + size_of_val(self.vectors.as_slice())
            + size_of_val(self.words.as_slice())
            + size_of_val(self.members.as_slice())
    }
}

/// A summary word and the words that are not zero.
fn sparse(dense: &[u64]) -> Vec<u64> {
    let mut vector = vec![0];
    for (place, &word) in dense.iter().enumerate().filter(|&(_, &word)| word != 0) {
        vector[0] |= 1 << place;
        vector.push(word);
    }
    vector
}
