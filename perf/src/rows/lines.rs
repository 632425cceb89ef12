//! What of a packet's clocks is the memory's: the lines that a packet of an established session must touch, in a
//! table as large, in pages as large, a burst at a time, and nothing else of its work.
//!
//! A packet has a line of the index and two of the entry, and what the index says is needed to ask for the
//! entry. If the table is larger than what the processor has translations for, each of both places also costs
//! a walk through page tables. The same lines are therefore touched a second time in an order in which those
//! of a burst lie in one page of each: as far from the processor, with a walk for all instead of one for each.

use super::{Effort, Measured, PER_PACKET, in_turn};
use crate::figure::Turns;
use crate::load::Order;
use crate::rig::{Ground, Result};
use dataplane::config::HugePages;
use dataplane::memory;
use dpdk::BURST;
use engine::table::{Memory, prefetch_line};
use zerocopy::FromBytes;

/// Packets between two looks at the clock.
const PACKETS: usize = 2048;

/// Clocks for the lines of a packet, anywhere and in one page a burst.
pub fn lines(ground: &Ground, sessions: u32, effort: Effort) -> Result<Vec<Measured>> {
    let mut table = Table::new(sessions)?;
    let page_bytes = table.page_bytes;
    let mut order = Order::new(sessions);
    let mut places = Vec::with_capacity(PACKETS);
    let figures: [_; 2] = in_turn(effort, |subject, packets, turns| {
        for _ in 0..packets.div_ceil(PACKETS as u64) {
            places.clear();
            let numbers = order.by_ref().take(PACKETS);
            match subject {
                0 => places.extend(numbers.map(|number| table.anywhere(number))),
                _ => places.extend(numbers.enumerate().map(|(at, number)| table.together(at, number))),
            }
            table.touch(&places, turns);
        }
        Ok(())
    })?;
    let names = ["memory of a packet: its three lines", "memory of a packet: a page for a burst"];
    let rows = names.into_iter().zip(figures).map(|(name, value)| Measured {
        name: name.to_owned(),
        sessions: sessions.into(),
        unit: PER_PACKET.into(),
        value,
        ceiling: None,
        page_bytes,
        hz: ground.hz(),
    });
    Ok(rows.collect())
}

/// A cache line.
type Line = [u64; 8];

/// The places of a packet: a line of the index, and its entry.
type Place = (usize, usize);

/// Memory laid out as a table's, which means nothing.
struct Table {
    index: &'static mut [Line],
    entries: &'static mut [[Line; 2]],
    page_bytes: u64,
    /// Where the burst is: the first places of a page of the index and of one of the entries.
    page: Place,
}

impl Table {
    fn new(sessions: u32) -> Result<Self> {
        let (slots, lines) = (sessions as usize, Memory::index_bytes(sessions) / size_of::<Line>());
        // Each begins with a page.
        let [index, entries] = [lines * size_of::<Line>(), slots * size_of::<[Line; 2]>()]
            .map(|bytes| memory::map(bytes, HugePages::Auto));
        let (index, entries, cut) = (index?, entries?, "the table does not fit its memory");
        let page_bytes = index.page_bytes.min(entries.page_bytes);
        let (index, _) = <[Line]>::mut_from_prefix_with_elems(index.bytes, lines).map_err(|_| cut)?;
        let (entries, _) =
            <[[Line; 2]]>::mut_from_prefix_with_elems(entries.bytes, slots).map_err(|_| cut)?;
        Ok(Self { index, entries, page_bytes, page: (0, 0) })
    }

    /// Of a session.
    fn anywhere(&self, number: u32) -> Place {
        (self.mixed(number), number as usize)
    }

    /// Of the `at`th packet: in the pages of the first packet of its burst.
    fn together(&mut self, at: usize, number: u32) -> Place {
        let place = self.anywhere(number);
        let in_page = |first: usize, place: usize, size: usize, all: usize| {
            let length = (self.page_bytes as usize / size).min(all);
            // The last page may be too few lines.
            let page = (place / length).min((all / length).saturating_sub(1));
            let first = if at.is_multiple_of(BURST) { page * length } else { first };
            (first, first + place % length)
        };
        let (index, line) = in_page(self.page.0, place.0, size_of::<Line>(), self.index.len());
        let (entries, entry) = in_page(self.page.1, place.1, size_of::<[Line; 2]>(), self.entries.len());
        self.page = (index, entries);
        (line, entry)
    }

    /// The line of the index that a session is in: any, but always the same.
    fn mixed(&self, number: u32) -> usize {
        let hash = u64::from(number.wrapping_mul(0x9e37_79b1));
        ((hash * self.index.len() as u64) >> 32) as usize
    }

    /// Touches them as the worker does: all lines of the index, then all entries, then one after the other.
    fn touch(&mut self, places: &[Place], turns: &mut Turns) {
        let began = dpdk::cycles();
        for burst in places.chunks(BURST) {
            for (line, _) in burst {
                if let Some(line) = self.index.get(*line) {
                    prefetch_line(line, 0);
                }
            }
            let mut found = [0; BURST];
            for ((line, entry), found) in burst.iter().zip(&mut found) {
                // Nothing is written there, so it is nothing, which the processor must read to know.
                let said = self.index.get(*line).map_or(0, |[said, ..]| *said);
                *found = entry + said as usize;
                if let Some(entry) = self.entries.get(*found) {
                    prefetch_line(entry, 0);
                    prefetch_line(entry, size_of::<Line>());
                }
            }
            for found in &found[..burst.len()] {
                if let Some([key, state]) = self.entries.get_mut(*found) {
                    state[0] = state[0].wrapping_add(key[0]).wrapping_add(1);
                }
            }
        }
        turns.add(dpdk::cycles() - began, places.len() as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn all_sessions_have_their_lines_and_those_of_a_burst_may_share_a_page() {
        let sessions = 100_000;
        let mut table = Table::new(sessions).unwrap();
        let places: Vec<Place> =
            Order::new(sessions).take(sessions as usize).map(|n| table.anywhere(n)).collect();
        table.touch(&places, &mut Turns::default());
        assert!(table.entries.iter().all(|[_, state]| state[0] == 1));
        let together: Vec<Place> =
            Order::new(sessions).take(PACKETS).enumerate().map(|(at, n)| table.together(at, n)).collect();
        let distinct =
            |of: &[Place], place: fn(&Place) -> usize| of.iter().map(place).collect::<BTreeSet<_>>().len();
        let (lines, entries) = (table.page_bytes as usize / 64, table.page_bytes as usize / 128);
        assert!(lines >= BURST && entries >= BURST);
        for burst in together.chunks(BURST) {
            assert!(
                burst.iter().all(|(line, entry)| *line < table.index.len() && *entry < table.entries.len())
            );
            let of = |size: usize, place: fn(&Place) -> usize| {
                distinct(burst, place) > BURST / 4
                    && burst.iter().all(|at| place(at) / size == place(&burst[0]) / size)
            };
            assert!(of(lines, |place| place.0) && of(entries, |place| place.1), "{burst:?}");
        }
    }
}
