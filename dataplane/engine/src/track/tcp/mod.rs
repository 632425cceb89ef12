//! TCP tracking: the state machine of RFC 9293 §3.10.7 as seen from the middle, with window tracking after
//! Guido van Rooij ("Real Stateful TCP Packet Filtering in IP Filter", 2001), window scaling (RFC 7323) and
//! RFC 5961's handling of RST and SYN on live connections.
//!
//! ```text
//!              SYN                SYN-ACK                ACK
//!   (no flow) ─────► syn-sent ───────────► syn-received ─────► established
//!                       │ SYN from the responder                │ FIN
//!                       ▼                                       ▼       second FIN, first one acked
//!                simultaneous-open ──► established           fin-wait ────────────────┬─► last-ack
//!                                                               │ second FIN, none acked  │ both acked
//!       exact RST: any state ──► closed                         ▼                         ▼
//!                                                            closing ──► last-ack ──► time-wait
//! ```
//!
//! What the firewall knows of each half: the highest sequence number sent (`end`), the highest it may send
//! (`max_end`, the peer's ack + window), the highest ACK it has sent and the largest window it announced.
//! A segment is in order if all four of van Rooij's bounds hold:
//!
//! ```text
//!   I    end ≤ max_end(sender) + 2                      (a zero-window probe's byte, a FIN behind it)
//!   II   end ≥ end(sender) − max_window(receiver) − 4   (retransmissions, keep-alives)
//!   III  ack ≤ end(receiver)
//!   IV   ack ≥ end(receiver) − max_window(sender) − 4
//! ```
//!
//! All learning takes maxima, so that reordered and duplicated segments do no harm.

mod options;
mod pack;
pub(crate) mod relaxed;
mod rst;
mod slow;
mod syn;
mod window;

#[cfg(test)]
mod tests;

pub use options::SynOptions;
pub(crate) use pack::{HalfWords, KNOWN_SHIFT, advance, forgotten, is_relaxed, may_settle, settled};
pub use pack::{is_idle, state_of, track_packed};

use wire::{TcpFields, tcp_flags};

use super::{Dir, Verdict, Why};
use window::{Learned, View};

/// Where a connection stands. The numbers are what the session table stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum TcpState {
    /// The initiator's SYN was seen.
    SynSent = 0,
    /// The responder's SYN-ACK was seen.
    SynReceived = 1,
    /// Both ends have sent a SYN, and not both are acknowledged (RFC 9293 §3.5, figure 7).
    SimultaneousOpen = 2,
    /// Both SYNs are acknowledged.
    Established = 3,
    /// One end has sent its FIN; the other may go on sending (half-closed).
    FinWait = 4,
    /// Both have sent a FIN, none is acknowledged.
    Closing = 5,
    /// Both have sent a FIN, one is acknowledged.
    LastAck = 6,
    /// Both FINs are acknowledged.
    TimeWait = 7,
    /// Reset.
    Closed = 8,
}

impl TcpState {
    /// The name that operators see.
    pub fn name(self) -> &'static str {
        match self {
            TcpState::SynSent => "syn-sent",
            TcpState::SynReceived | TcpState::SimultaneousOpen => "syn-received",
            TcpState::Established => "established",
            TcpState::FinWait => "fin-wait",
            TcpState::Closing => "closing",
            TcpState::LastAck => "last-ack",
            TcpState::TimeWait => "time-wait",
            TcpState::Closed => "closed",
        }
    }

    /// True until the handshake is complete.
    #[inline(always)]
    pub fn is_half_open(self) -> bool {
        self < TcpState::Established
    }

    /// Replicated once the handshake is complete: one under way is repeated by the client.
    #[inline(always)]
    pub fn is_replicated(self) -> bool {
        !self.is_half_open()
    }

    /// Back from the stored number.
    #[inline(always)]
    pub fn from_bits(bits: u8) -> TcpState {
        match bits {
            0 => TcpState::SynSent,
            1 => TcpState::SynReceived,
            2 => TcpState::SimultaneousOpen,
            3 => TcpState::Established,
            4 => TcpState::FinWait,
            5 => TcpState::Closing,
            6 => TcpState::LastAck,
            7 => TcpState::TimeWait,
            _ => TcpState::Closed,
        }
    }
}

/// Bits of [`TcpConn::flags`]. Those of both directions come in pairs: `BIT << dir`.
pub mod conn_flags {
    /// This half's SYN offered window scaling.
    pub const SCALE: u16 = 1 << 0;
    /// This half's SYN permitted SACK.
    pub const SACK: u16 = 1 << 2;
    /// This half has sent its FIN: `end` lies behind it. While the half is not learned since a takeover: its
    /// candidate says so, which counts for nothing yet.
    pub const FIN: u16 = 1 << 4;
    /// This half's FIN was acknowledged.
    pub const FIN_ACKED: u16 = 1 << 6;
    /// This half's SYN was acknowledged.
    pub const SYN_ACKED: u16 = 1 << 8;
    /// `mark` and `mark_scale` mean something.
    pub const MARKED: u16 = 1 << 10;
    /// Nothing is in flight and nothing was said for a while: the numbers are exact (decision 39).
    pub const IDLE: u16 = 1 << 11;
}

/// What is known of one end's sending.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Half {
    /// Highest sequence number sent, plus length (SYN and FIN count one each).
    pub end: u32,
    /// Highest sequence number that it may send: the peer's highest ack + window. In `SynSent` the
    /// initiator's SYN alone, without data.
    pub max_end: u32,
    /// Highest ACK sent. Until the first one: the peer's initial sequence number.
    pub ack: u32,
    /// Largest window announced, in units of its scale, rounded up.
    pub max_window: u16,
    /// Window scale, 0 to 14; 0 unless both ends offered one.
    pub scale: u8,
}

impl Half {
    /// The largest window announced, in bytes: below 2^30.
    #[inline(always)]
    fn window_bytes(&self) -> u32 {
        u32::from(self.max_window) << (self.scale & 15)
    }
}

/// One connection: 128 bits of sequence space a half, packed by [`TcpConn::pack`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TcpConn {
    /// Where it stands.
    pub state: TcpState,
    /// See [`conn_flags`]; the lower 12 bits.
    pub flags: u16,
    /// The initiator's half, the responder's half.
    pub halves: [Half; 2],
    /// Sequence number of the initiator's unanswered SYN on a live session (or, in `SynSent`, the exact
    /// RST number of the responder's challenge ACK). 0 without `MARKED`.
    pub mark: u32,
    /// The scale that the marked SYN offered; [`NO_SCALE`] if none.
    pub mark_scale: u8,
    /// What is known of each half's numbers since a takeover.
    pub known: [Known; 2],
}

/// How much a half's numbers are worth (decision 39).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum Known {
    /// Seen, and confirmed by the other end: every segment is checked against them.
    #[default]
    Learned = 0,
    /// The other node's snapshot of a moving connection: nothing was seen since the takeover.
    Unknown = 1,
    /// A segment was seen since the takeover; the other end has not confirmed it.
    Provisional = 2,
    /// The other node's snapshot of an idle connection, checked as it stands.
    Exact = 3,
}

impl Known {
    #[inline(always)]
    fn from_bits(bits: u32) -> Known {
        match bits & 3 {
            0 => Known::Learned,
            1 => Known::Unknown,
            2 => Known::Provisional,
            _ => Known::Exact,
        }
    }

    /// True while the half's segments are checked against bounds instead of a window.
    pub fn is_relaxed(self) -> bool {
        matches!(self, Known::Unknown | Known::Provisional)
    }
}

/// No window scale option: fits the four bits that a scale has.
pub const NO_SCALE: u8 = 15;

/// A TCP segment as tracking sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Segment {
    /// The header's fields.
    pub fields: TcpFields,
    /// The options of a SYN or SYN-ACK; anything else may leave them empty.
    pub options: SynOptions,
}

/// What a segment is by its control bits; PSH, URG and the ECN bits (RFC 3168) do not matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Control {
    Syn,
    SynAck,
    Ack,
    Fin,
    Rst,
    Malformed(Why),
}

const CONTROL_MASK: u8 = tcp_flags::SYN | tcp_flags::FIN | tcp_flags::RST | tcp_flags::ACK;

impl Segment {
    /// Sequence number behind the payload; SYN and FIN not counted.
    #[inline(always)]
    fn payload_end(&self) -> u32 {
        self.fields.seq.wrapping_add(u32::from(self.fields.payload_len))
    }

    fn control(&self) -> Control {
        use tcp_flags::{ACK, FIN, RST, SYN};
        const SYN_ACK: u8 = SYN | ACK;
        const FIN_ACK: u8 = FIN | ACK;
        const RST_ACK: u8 = RST | ACK;
        match self.fields.flags & CONTROL_MASK {
            SYN => Control::Syn,
            SYN_ACK => Control::SynAck,
            ACK => Control::Ack,
            FIN_ACK => Control::Fin,
            RST | RST_ACK => Control::Rst,
            0 | FIN => Control::Malformed(Why::NoAck),
            _ => Control::Malformed(Why::BadFlags),
        }
    }
}

/// The first segment of an unknown flow: only a clean SYN opens a connection, nothing is picked up in
/// the middle. The reason names what came instead.
pub fn open(seg: &Segment) -> Result<TcpConn, Why> {
    match seg.control() {
        Control::Syn => Ok(syn::open(seg)),
        Control::SynAck => Err(Why::UnknownSynAck),
        Control::Ack => Err(Why::UnknownAck),
        Control::Fin => Err(Why::UnknownFin),
        Control::Rst => Err(Why::UnknownRst),
        Control::Malformed(why) => Err(why),
    }
}

/// Judges a segment of a known connection and learns from it. The caller stores the connection back
/// after every verdict (a SYN that passes unlearned leaves its mark).
#[inline(always)]
pub fn track(conn: &mut TcpConn, dir: Dir, seg: &Segment) -> Verdict {
    if conn.is_plain(&seg.fields)
        && let Some(learned) = conn.view(dir).fits(&seg.fields)
    {
        conn.learn(dir, &learned);
        return Verdict::Accept { changed: learned.is_far };
    }
    slow::track(conn, dir, seg)
}

impl TcpConn {
    #[inline(always)]
    fn is_plain(&self, fields: &TcpFields) -> bool {
        fields.flags & CONTROL_MASK == tcp_flags::ACK
            && self.state == TcpState::Established
            && self.flags & (conn_flags::MARKED | conn_flags::IDLE) == 0
            && self.known == [Known::Learned; 2]
    }

    #[inline(always)]
    fn half(&self, dir: Dir) -> &Half {
        match dir {
            Dir::Initiator => &self.halves[0],
            Dir::Responder => &self.halves[1],
        }
    }

    #[inline(always)]
    fn half_mut(&mut self, dir: Dir) -> &mut Half {
        match dir {
            Dir::Initiator => &mut self.halves[0],
            Dir::Responder => &mut self.halves[1],
        }
    }

    /// True if the flag is set for this half.
    #[inline(always)]
    fn has(&self, flag: u16, dir: Dir) -> bool {
        self.flags & flag << dir as u16 != 0
    }

    #[inline(always)]
    fn set(&mut self, flag: u16, dir: Dir) {
        self.flags |= flag << dir as u16;
    }

    /// The flags without those of candidates.
    fn believed(&self) -> u16 {
        let candidates =
            [Dir::Initiator, Dir::Responder].into_iter().filter(|dir| self.known(*dir).is_relaxed());
        candidates.fold(self.flags, |flags, dir| flags & !(conn_flags::FIN << dir as u16))
    }

    #[inline(always)]
    fn view(&self, dir: Dir) -> View {
        let (sender, receiver) = (self.half(dir), self.half(dir.other()));
        View {
            end: sender.end,
            max_end: sender.max_end,
            ack: sender.ack,
            max_window: sender.max_window,
            scale: sender.scale,
            peer_end: receiver.end,
            peer_max_end: receiver.max_end,
            peer_window: receiver.window_bytes(),
        }
    }

    #[inline(always)]
    fn learn(&mut self, dir: Dir, learned: &Learned) {
        let sender = self.half_mut(dir);
        sender.end = learned.end;
        sender.ack = learned.ack;
        sender.max_window = learned.max_window;
        self.half_mut(dir.other()).max_end = learned.peer_max_end;
    }

    /// As another node takes it over from its record.
    pub(crate) fn taken_over(mut self, idle: bool) -> TcpConn {
        self.flags &= !conn_flags::IDLE;
        if idle {
            self.flags |= conn_flags::IDLE;
        }
        self.known = [Dir::Initiator, Dir::Responder].map(|dir| match self.has(conn_flags::FIN, dir) {
            // Final.
            _ if matches!(self.state, TcpState::Closed | TcpState::TimeWait) => Known::Learned,
            _ if idle => Known::Exact,
            // Nothing comes behind a FIN.
            true => Known::Learned,
            false => Known::Unknown,
        });
        self
    }

    /// As another node is to hear of it.
    pub(crate) fn told(mut self) -> TcpConn {
        self.flags = self.believed() & !conn_flags::IDLE;
        self.known = [Known::Learned; 2];
        self
    }

    /// True if there is nothing to reset: the handshake is under way, or the connection is over.
    pub(crate) fn is_over_or_half_open(&self) -> bool {
        self.state.is_half_open() || matches!(self.state, TcpState::Closed | TcpState::TimeWait)
    }

    /// The numbers at which the initiator and the responder can be reset, if they are known exactly:
    /// nothing is in flight, so each end expects what the other one would send next.
    pub(crate) fn exact_resets(&self) -> Option<[u32; 2]> {
        let [i, r] = &self.halves;
        let is_exact = !self.known.iter().any(|known| known.is_relaxed()) && (i.ack, r.ack) == (r.end, i.end);
        is_exact.then_some([i.ack, r.ack])
    }

    /// What the other node hears of as soon as it changes.
    fn told_state(&self) -> (TcpState, u16, bool) {
        let is_relaxed = self.known.iter().any(|known| known.is_relaxed());
        (self.state, self.believed() & !conn_flags::MARKED, is_relaxed)
    }

    fn unmark(&mut self) {
        self.flags &= !conn_flags::MARKED;
        self.mark = 0;
        self.mark_scale = NO_SCALE;
    }
}
