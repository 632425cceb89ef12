//! The connection as the session table keeps it: four 64-bit words and 32 bits, lower part first.
//!
//! ```text
//!   word 0  end(i)          | max_end(i)
//!   word 1  end(r)          | max_end(r)
//!   word 2  ack(i)          | ack(r)
//!   word 3  max_window(i) 16| max_window(r) 16 | mark
//!   meta    state 4 | flags 12 | scale(i) 4 | scale(r) 4 | mark_scale 4 | known(i) 2 | known(r) 2
//! ```
//!
//! [`track_packed`] runs the ordinary case on the words themselves, so that the hot path neither unpacks
//! nor packs.

use wire::{TcpFields, tcp_flags};

use super::super::{Dir, Verdict};
use super::window::{Learned, View};
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
            join(i.ack, r.ack),
            join(u32::from(i.max_window) | u32::from(r.max_window) << 16, self.mark),
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
        let [(end_i, max_end_i), (end_r, max_end_r), (ack_i, ack_r), (windows, mark)] = words.map(split);
        let scale = |dir: u32| (meta >> (SCALE_SHIFT + 4 * dir) & 15) as u8;
        TcpConn {
            state: state_of(meta),
            flags: (meta >> FLAGS_SHIFT & FLAGS_MASK) as u16,
            halves: [
                Half {
                    end: end_i,
                    max_end: max_end_i,
                    ack: ack_i,
                    max_window: windows as u16,
                    scale: scale(0),
                },
                Half {
                    end: end_r,
                    max_end: max_end_r,
                    ack: ack_r,
                    max_window: (windows >> 16) as u16,
                    scale: scale(1),
                },
            ],
            mark,
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
    match track_plain(words, *meta, dir, &seg.fields) {
        Some(is_far) => Verdict::Accept { changed: is_far },
        None => track_unpacked(words, meta, dir, seg),
    }
}

/// The ordinary case alone: a segment without control bits that fits an established connection. It is
/// accepted; true if the other node is to hear of it. `None`, with nothing written, for everything else.
#[inline(always)]
pub(crate) fn track_plain(words: &mut [u64; 4], meta: u32, dir: Dir, fields: &TcpFields) -> Option<bool> {
    if !is_plain(meta, fields) {
        return None;
    }
    let learned = view(words, meta, dir).fits(fields)?;
    learn(words, dir, &learned);
    Some(learned.is_far)
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

/// The four words as sender and receiver. Both orders lie in fixed places: shifts and rotations choose,
/// no branch.
#[inline(always)]
fn view(words: &[u64; 4], meta: u32, dir: Dir) -> View {
    let (own, peer) = (dir as usize, 1 - dir as usize);
    let (end, max_end) = split(words[own]);
    let (peer_end, peer_max_end) = split(words[peer]);
    let windows = words[3] as u32;
    let scale = |half: usize| meta >> (SCALE_SHIFT as usize + 4 * half) & 15;
    View {
        end,
        max_end,
        ack: (words[2] >> (32 * own)) as u32,
        max_window: (windows >> (16 * own)) as u16,
        scale: scale(own) as u8,
        peer_end,
        peer_max_end,
        peer_window: (windows >> (16 * peer) & 0xffff) << scale(peer),
    }
}

#[inline(always)]
fn learn(words: &mut [u64; 4], dir: Dir, learned: &Learned) {
    let (own, peer) = (dir as usize, 1 - dir as usize);
    words[own] = words[own] & !LOW | u64::from(learned.end);
    words[peer] = words[peer] & LOW | u64::from(learned.peer_max_end) << 32;
    words[2] = words[2] & !(LOW << (32 * own)) | u64::from(learned.ack) << (32 * own);
    words[3] = words[3] & !(0xffff << (16 * own)) | u64::from(learned.max_window) << (16 * own);
}

const LOW: u64 = 0xffff_ffff;

#[inline(always)]
fn join(low: u32, high: u32) -> u64 {
    u64::from(low) | u64::from(high) << 32
}

#[inline(always)]
fn split(word: u64) -> (u32, u32) {
    (word as u32, (word >> 32) as u32)
}
