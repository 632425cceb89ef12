//! The policy: ordered rules over zones, addresses and services, first match wins, default deny.
//!
//! The new-session path asks it once per session, so it is compiled (decision 9). Every dimension maps a
//! value to a class: the set of rules that this value satisfies. Rules that can match at all between two
//! zones in one family form a *plane*; in it the classes of source, destination and service are bit
//! vectors over the plane's rules, in order, and the first common bit of three vectors is the first
//! matching rule. Most planes have 64 rules or fewer: a vector is one word. Otherwise it is a summary word,
//! which says which of its words are not zero, and these words only; 4,096 rules fit one summary, and
//! summaries are intersected first.
//!
//! Address lists are never multiplied into rules: a list of 100,000 prefixes makes one class more.
//! [`oracle`] says the same in a dozen lines and is what the compiled form is tested against.

mod check;
mod classes;
mod compile;
pub mod generate;
pub mod oracle;
mod rule;
mod services;
mod slots;

pub use check::{PolicyError, PolicyWarning};
pub use rule::{Action, Decision, Query, Rule, Service, ZoneSet};
pub use slots::{COUNTER_SLOTS, MAX_RULES, RuleSlots};

use crate::ids::RuleId;
use crate::routes::lpm::{Cell, Lpm4, Lpm6, Runs16};

/// The rules that can match between two zones in one family, and where their vectors are.
#[derive(Clone, Copy, Debug)]
struct Plane {
    /// Where the row of source classes starts in [`Policy::cells`].
    source: u32,
    /// The same for destination classes.
    destination: u32,
    /// The same for service classes.
    service: u32,
    /// The first of the plane's rules in [`Policy::members`], and [`WIDE`].
    members: u32,
}

/// Set in [`Plane::members`] if the plane has more than 64 rules.
const WIDE: u32 = 1 << 31;

/// Address → class, for one dimension.
#[derive(Clone, Debug)]
struct Addresses {
    v4: Lpm4,
    v6: Lpm6,
}

/// A compiled rule set, immutable.
#[derive(Clone, Debug)]
pub struct Policy {
    source: Addresses,
    destination: Addresses,
    /// Port → class for TCP, UDP and SCTP, and protocol → class for the rest.
    services: [Runs16; services::TABLES],
    /// Zone → the row of its group in `pairs`; a group is zones that no rule tells apart.
    from: Box<[u16; 256]>,
    /// Zone → the column of its group.
    to: Box<[u8; 256]>,
    /// Plane by family, then row and column.
    pairs: [Vec<u32>; 2],
    planes: Vec<Plane>,
    /// Rows of class → vector, as runs of classes with the same vector.
    cells: Vec<Cell>,
    /// The rows' values: the vector itself, or where it starts in `words` if the plane is wide.
    vectors: Vec<u64>,
    /// Vectors of wide planes: a summary word and the words that are not zero.
    words: Vec<u64>,
    /// The planes' rules: bit in a vector → place in `decisions`.
    members: Vec<u16>,
    decisions: Vec<Decision>,
    /// Places in `decisions`, ordered by the rules' ids.
    by_id: Vec<(RuleId, u16)>,
    rules: Vec<Rule>,
    warnings: Vec<PolicyWarning>,
}

impl Policy {
    /// Compiles `rules` and gives each a counter slot. `slots` changes only if that succeeds.
    pub fn compile(rules: &[Rule], slots: &mut RuleSlots) -> Result<Policy, PolicyError> {
        compile::compile(rules, slots)
    }

    /// What the policy says about the first packet of a session.
    pub fn classify(&self, query: &Query) -> Decision {
        *self.decide(query)
    }

    /// The same in line, for the path of new sessions.
    #[inline(always)]
    pub(crate) fn decide(&self, query: &Query) -> &Decision {
        self.first_match(query).unwrap_or(&Decision::DEFAULT_DENY)
    }

    #[inline(always)]
    fn first_match(&self, query: &Query) -> Option<&Decision> {
        let key = &query.key;
        let v6 = key.is_v6();
        let (row, column) = (self.from[usize::from(query.from.0)], self.to[usize::from(query.to.0)]);
        let pair = usize::from(row) + usize::from(column);
        let plane = self.planes.get(*self.pairs[usize::from(v6)].get(pair)? as usize)?;

        let (source, destination) = if v6 {
            let [s0, s1, d0, d1] = key.a.map(u64::from_be);
            let join = |high: u64, low: u64| u128::from(high) << 64 | u128::from(low);
            (self.source.v6.lookup(join(s0, s1)), self.destination.v6.lookup(join(d0, d1)))
        } else {
            let source = u32::from_be(key.a[0] as u32);
            let destination = u32::from_be((key.a[0] >> 32) as u32);
            (self.source.v4.lookup(source), self.destination.v4.lookup(destination))
        };
        let (table, place) = services::place(key, query.echo);
        let service = self.services[table & (services::TABLES - 1)].get(place);

        let source = self.vector(plane.source, source)?;
        let destination = self.vector(plane.destination, destination)?;
        let service = self.vector(plane.service, service)?;
        let bit = if plane.members & WIDE == 0 {
            let hits = source & destination & service;
            if hits == 0 {
                return None;
            }
            hits.trailing_zeros() as usize
        } else {
            let at = |offset: u64| self.words.get(offset as usize..);
            first_common(at(source)?, at(destination)?, at(service)?)?
        };
        let member = *self.members.get((plane.members & !WIDE) as usize + bit)?;
        self.decisions.get(usize::from(member))
    }

    /// The value of a class in a row.
    #[inline(always)]
    fn vector(&self, row: u32, class: u32) -> Option<u64> {
        let cell = self.cells.get((row + (class >> 6)) as usize)?;
        self.vectors.get(cell.place(class & 63)).copied()
    }

    /// The rules, in order.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// What each rule of [`Policy::rules`] decides, with its counter slot.
    pub fn decisions(&self) -> &[Decision] {
        &self.decisions
    }

    /// What the rule with this id decides: sessions are bound to rules by id (decision 27).
    pub fn rule(&self, id: RuleId) -> Option<&Decision> {
        let place = self.by_id.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        self.decisions.get(usize::from(self.by_id.get(place)?.1))
    }

    /// What looks like a mistake in the rules.
    pub fn warnings(&self) -> &[PolicyWarning] {
        &self.warnings
    }

    /// What classification reads, in bytes; the rules' text is not counted.
    pub fn memory_bytes(&self) -> usize {
        let addresses = |a: &Addresses| a.v4.memory_bytes() + a.v6.memory_bytes();
        addresses(&self.source)
            + addresses(&self.destination)
            + self.services.iter().map(Runs16::memory_bytes).sum::<usize>()
            + size_of_val(self.from.as_slice())
            + size_of_val(self.to.as_slice())
            + self.pairs.iter().map(|p| size_of_val(p.as_slice())).sum::<usize>()
            + size_of_val(self.planes.as_slice())
            + size_of_val(self.cells.as_slice())
            + size_of_val(self.vectors.as_slice())
            + size_of_val(self.words.as_slice())
            + size_of_val(self.members.as_slice())
            + size_of_val(self.decisions.as_slice())
    }
}

/// The first bit that all three vectors have.
#[inline(always)]
fn first_common(a: &[u64], b: &[u64], c: &[u64]) -> Option<usize> {
    let (summary_a, summary_b, summary_c) = (*a.first()?, *b.first()?, *c.first()?);
    let mut common = summary_a & summary_b & summary_c;
    while common != 0 {
        let word = common.trailing_zeros();
        let below = (1_u64 << word) - 1;
        // Word `word` lies behind the summary and the stored words before it.
        let stored = |vector: &[u64], summary: u64| {
            vector.get(1 + (summary & below).count_ones() as usize).copied().unwrap_or(0)
        };
        let hits = stored(a, summary_a) & stored(b, summary_b) & stored(c, summary_c);
        if hits != 0 {
            return Some((word << 6 | hits.trailing_zeros()) as usize);
        }
        common &= common - 1;
    }
    None
}

#[cfg(test)]
mod tests;
