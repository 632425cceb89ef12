//! From rules to planes and vectors.

use std::collections::HashMap;

use super::check::{self, Families, PolicyError};
use super::classes::{self, AddressClasses, Classes, LIMIT_BYTES, RuleBits, ServiceClasses};
use super::rule::{Decision, Rule, ZoneSet};
use super::slots::RuleSlots;
use super::{Addresses, Plane, Policy};
use crate::ids::{RuleId, ZoneId};
use crate::routes::lpm::Lpm;

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
    let mut pairs = [Vec::new(), Vec::new()];
    for (family, pairs) in pairs.iter_mut().enumerate() {
        let dimensions = [&source[family].classes, &destination[family].classes, &services.classes];
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
    let columns = to.groups.sets.len() as u16;
    Ok(Policy {
        source: tables(&source),
        destination: tables(&destination),
        services: services.tables,
        from: Box::new(from.group_of.map(|group| group * columns)),
        to: Box::new(to.group_of.map(|group| group as u8)),
        pairs,
        planes: planes.list,
        offsets: planes.offsets,
        words: planes.words,
        members: planes.members,
        decisions,
        rules: rules.to_vec(),
        warnings: check::unreachable(rules),
    })
}

fn tables([v4, v6]: &[AddressClasses; 2]) -> Addresses {
    Addresses { v4: Lpm::build(&v4.entries, v4.default), v6: Lpm::build(&v6.entries, v6.default) }
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
    offsets: Vec<u32>,
    words: Vec<u64>,
    members: Vec<u16>,
    /// Where equal vectors are already.
    known: HashMap<Vec<u64>, u32>,
}

impl Planes {
    /// A plane of these rules; `dimensions` are source, destination and service.
    fn add(&mut self, members: &RuleBits, dimensions: [&Classes; 3]) -> Result<u32, PolicyError> {
        let before: Vec<u32> = members
            .iter()
            .scan(0, |count, bits| Some(std::mem::replace(count, *count + bits.count_ones())))
            .collect();
        let [source, destination, service] = dimensions.map(|classes| {
            let row = self.offsets.len() as u32;
            for set in &classes.sets {
                let vector = vector(set, members, &before);
                let offset = self.place(vector);
                self.offsets.push(offset);
            }
            row
        });
        let plane = Plane { source, destination, service, members: self.members.len() as u32 };
        self.members.extend(classes::places(members).map(|place| place as u16));
        self.list.push(plane);
        let bytes = size_of_val(self.offsets.as_slice())
            + size_of_val(self.words.as_slice())
            + size_of_val(self.members.as_slice());
        if bytes > LIMIT_BYTES {
            return Err(PolicyError::TooLarge { limit_mb: LIMIT_BYTES >> 20 });
        }
        Ok((self.list.len() - 1) as u32)
    }

    fn place(&mut self, vector: Vec<u64>) -> u32 {
        let words = &mut self.words;
        *self.known.entry(vector).or_insert_with_key(|vector| {
            let offset = words.len() as u32;
            words.extend_from_slice(vector);
            offset
        })
    }
}

/// The members of a plane that are in `set`, as a summary word and the words that are not zero.
fn vector(set: &RuleBits, members: &RuleBits, before: &[u32]) -> Vec<u64> {
    let mut vector = vec![0];
    for ((&set, &members), &before) in set.iter().zip(members.iter()).zip(before) {
        let mut rest = set & members;
        while rest != 0 {
            let bit = rest & rest.wrapping_neg();
            rest ^= bit;
            let place = before + (members & (bit - 1)).count_ones();
            let word = 1 << (place >> 6);
            if vector[0] & word == 0 {
                vector[0] |= word;
                vector.push(0);
            }
            if let Some(last) = vector.last_mut() {
                *last |= 1 << (place & 63);
            }
        }
    }
    vector
}
