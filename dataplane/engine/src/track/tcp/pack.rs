//! The connection as the session table keeps it: four 64-bit words and 32 bits, lower part first.
//!
//! ```text
//!   word 0  end(i) 32 | max_end(i) 32
//!   word 1  end(r) 32 | max_end(r) 32
//!   word 2  ack(i) 32 | max_window(i) 16 | mark, low half
//!   word 3  ack(r) 32 | max_window(r) 16 | mark, high half
//!   meta    state 4 | flags 12 | scale(i) 4 | scale(r) 4 | mark_scale 4 | known(i) 2 | known(r) 2
//! ```
//!
//! A half has two words, so that a segment's direction chooses words and no bits inside them:
//! [`advance`] runs the ordinary case on the words of sender and receiver as they are.

use wire::{TcpFields, tcp_flags};

use super::super::{Dir, Verdict};
use super::window::View;
use super::{CONTROL_MASK, Half, Known, Segment, TcpConn, TcpState, conn_flags, slow};

const STATE_MASK: u32 = 0xf;
const FLAGS_SHIFT: u32 = 4;
const FLAGS_MASK: u32 = 0xfff;
const SCALE_SHIFT: u32 = 16;
const MARK_SCALE_SHIFT: u32 = 24;
/// What is known of both halves since a takeover; zero from here on if all is.
pub(crate) const KNOWN_SHIFT: u32 = 28;
/// Bits of `meta` that must look like this for the hot path: established, no SYN marked, not idle, both
/// halves learned.
const PLAIN_MASK: u32 =
    STATE_MASK | ((conn_flags::MARKED | conn_flags::IDLE) as u32) << FLAGS_SHIFT | 0xf << KNOWN_SHIFT;

impl TcpConn {
    /// As the table's words.
    #[inline(always)]
    pub fn pack(&self) -> ([u64; 4], u32) {
        let [i, r] = &self.halves;
        let words = [
            join(i.end, i.max_end),
            join(r.end, r.max_end),
            join(i.ack, u32::from(i.max_window) | self.mark << 16),
            join(r.ack, u32::from(r.max_window) | self.mark & HIGH_HALF),
        ];
        let meta = self.state as u32
            | (u32::from(self.flags) & FLAGS_MASK) << FLAGS_SHIFT
            | (u32::from(i.scale) & 15) << SCALE_SHIFT
            | (u32::from(r.scale) & 15) << (SCALE_SHIFT + 4)
            | (u32::from(self.mark_scale) & 15) << MARK_SCALE_SHIFT
            | (self.known[0] as u32) << KNOWN_SHIFT
            | (self.known[1] as u32) << (KNOWN_SHIFT + 2);
        (words, meta)
    }

    /// Back from the table's words.
    #[inline(always)]
    pub fn unpack(words: &[u64; 4], meta: u32) -> TcpConn {
        let [(end_i, max_end_i), (end_r, max_end_r), (ack_i, said_i), (ack_r, said_r)] = words.map(split);
        let scale = |dir: u32| (meta >> (SCALE_SHIFT + 4 * dir) & 15) as u8;
        TcpConn {
            state: state_of(meta),
            flags: (meta >> FLAGS_SHIFT & FLAGS_MASK) as u16,
            halves: [
                Half {
                    end: end_i,
                    max_end: max_end_i,
                    ack: ack_i,
                    max_window: said_i as u16,
                    scale: scale(0),
                },
                Half {
                    end: end_r,
                    max_end: max_end_r,
                    ack: ack_r,
                    max_window: said_r as u16,
                    scale: scale(1),
                },
            ],
            mark: said_i >> 16 | said_r & HIGH_HALF,
            mark_scale: (meta >> MARK_SCALE_SHIFT & 15) as u8,
            known: [Known::from_bits(meta >> KNOWN_SHIFT), Known::from_bits(meta >> (KNOWN_SHIFT + 2))],
        }
    }
}

/// The state alone, for timeouts and display.
#[inline(always)]
pub fn state_of(meta: u32) -> TcpState {
    TcpState::from_bits((meta & STATE_MASK) as u8)
}

/// True if the packed numbers are exact because nothing is in flight.
pub fn is_idle(meta: u32) -> bool {
    meta >> FLAGS_SHIFT & u32::from(conn_flags::IDLE) != 0
}

/// True while a half's numbers are not confirmed since a takeover.
pub(crate) fn is_relaxed(meta: u32) -> bool {
    let half = |shift: u32| Known::from_bits(meta >> shift).is_relaxed();
    half(KNOWN_SHIFT) || half(KNOWN_SHIFT + 2)
}

/// The numbers were another node's to follow for a while, which has told nothing of them: the state of a
/// connection that has to be learned again, `None` if there is nothing to learn.
#[cold]
pub(crate) fn forgotten(words: &[u64; 4], meta: u32) -> Option<u32> {
    let conn = TcpConn::unpack(words, meta);
    let forgotten = conn.taken_over(false);
    let is_open = !conn.state.is_half_open() && conn.known == [Known::Learned; 2];
    (is_open && forgotten.known != conn.known).then(|| forgotten.pack().1)
}

/// The state of a connection in which nothing is in flight, with its numbers marked as exact; `None` if
/// they are not, or are marked already.
#[cold]
pub(crate) fn settled(words: &[u64; 4], meta: u32) -> Option<u32> {
    let conn = TcpConn::unpack(words, meta);
    let [i, r] = &conn.halves;
    let is_settled = may_settle(meta) && (i.ack, r.ack) == (r.end, i.end);
    is_settled.then_some(meta | u32::from(conn_flags::IDLE) << FLAGS_SHIFT)
}

/// True for a connection that [`settled`] may say something about when it falls silent.
pub(crate) fn may_settle(meta: u32) -> bool {
    matches!(state_of(meta), TcpState::Established | TcpState::FinWait)
        && meta & PLAIN_MASK & !STATE_MASK == 0
}

/// [`super::track`] on packed words, in place: the same verdict and the same result.
#[inline(always)]
pub fn track_packed(words: &mut [u64; 4], meta: &mut u32, dir: Dir, seg: &Segment) -> Verdict {
    let (own, peer) = (dir.index(), dir.other().index());
    let sender = HalfWords { reach: words[own], said: words[2 + own] };
    let receiver = HalfWords { reach: words[peer], said: words[2 + peer] };
    match advance(sender, receiver, *meta, dir, &seg.fields) {
        Some(Advance { sender, receiver_reach, is_far }) => {
            (words[own], words[2 + own], words[peer]) = (sender.reach, sender.said, receiver_reach);
            Verdict::Accept { changed: is_far }
        }
        None => track_unpacked(words, meta, dir, seg),
    }
}

/// One half as it is stored.
#[derive(Clone, Copy)]
pub(crate) struct HalfWords {
    /// `end` and `max_end`.
    pub reach: u64,
    /// `ack` and `max_window`; above them half of the mark, which stays.
    pub said: u64,
}

/// What an ordinary segment makes of the words.
pub(crate) struct Advance {
    /// The sender's half.
    pub sender: HalfWords,
    /// The receiver's `reach`; what it said stays.
    pub receiver_reach: u64,
    /// The other node is to hear of it.
    pub is_far: bool,
}

/// The ordinary case alone: a segment without control bits that fits an established connection. It is
/// accepted. `None` for everything else.
#[inline(always)]
pub(crate) fn advance(
    sender: HalfWords,
    receiver: HalfWords,
    meta: u32,
    dir: Dir,
    fields: &TcpFields,
) -> Option<Advance> {
    if !is_plain(meta, fields) {
        return None;
    }
    let learned = view(sender, receiver, meta, dir).fits(fields)?;
    let reach = sender.reach & !LOW | u64::from(learned.end);
    let said = sender.said & !SAID | u64::from(learned.ack) | u64::from(learned.max_window) << 32;
    let receiver_reach = receiver.reach & LOW | u64::from(learned.peer_max_end) << 32;
    Some(Advance { sender: HalfWords { reach, said }, receiver_reach, is_far: learned.is_far })
}

#[cold]
#[inline(never)]
fn track_unpacked(words: &mut [u64; 4], meta: &mut u32, dir: Dir, seg: &Segment) -> Verdict {
    let mut conn = TcpConn::unpack(words, *meta);
    let verdict = slow::track(&mut conn, dir, seg);
    (*words, *meta) = conn.pack();
    verdict
}

#[inline(always)]
fn is_plain(meta: u32, fields: &TcpFields) -> bool {
    (meta & PLAIN_MASK == TcpState::Established as u32) & (fields.flags & CONTROL_MASK == tcp_flags::ACK)
}

#[inline(always)]
fn view(sender: HalfWords, receiver: HalfWords, meta: u32, dir: Dir) -> View {
    let ((end, max_end), (ack, said)) = (split(sender.reach), split(sender.said));
    let ((peer_end, peer_max_end), (_, peer_said)) = (split(receiver.reach), split(receiver.said));
    let scale = |dir: Dir| meta >> (SCALE_SHIFT + 4 * dir as u32) & 15;
    View {
        end,
        max_end,
        ack,
        max_window: said as u16,
        scale: scale(dir) as u8,
        peer_end,
        peer_max_end,
        peer_window: (peer_said & 0xffff) << scale(dir.other()),
    }
}

const LOW: u64 = 0xffff_ffff;
/// What a half said last: `ack` and `max_window`.
const SAID: u64 = 0xffff_ffff_ffff;
const HIGH_HALF: u32 = 0xffff_0000;

#[inline(always)]
fn join(low: u32, high: u32) -> u64 {
    u64::from(low) | u64::from(high) << 32
}

#[inline(always)]
fn split(word: u64) -> (u32, u32) {
    (word as u32, (word >> 32) as u32)
}
