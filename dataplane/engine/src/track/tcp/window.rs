//! Van Rooij's four bounds, in wrapping arithmetic.

use wire::TcpFields;

use super::super::Why;

/// Bytes after which a connection's numbers are told again.
pub(super) const TOLD_EVERY: u32 = 1 << 28;
/// Below the lower bounds: a keep-alive's `una − 1`, a probe's byte and a FIN outside the window.
const SLACK: u32 = 4;
/// Above the upper bound: a zero-window probe's byte and a FIN behind it.
pub(super) const PROBE: u32 = 2;
/// Old duplicates may be this much older than the window allows, however small it is.
const MIN_BACKWARD: u32 = 66_000;
/// No bound reaches further than this, so that comparisons stay unambiguous.
const MAX_REACH: u32 = 1 << 30;

/// True if `a` lies behind `b` in sequence space (RFC 9293 §3.4).
#[inline(always)]
pub(super) fn after(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) > 0
}

/// True if `value` lies in `low..=high`, going up from `low`.
#[inline(always)]
pub(super) fn within(value: u32, low: u32, high: u32) -> bool {
    value.wrapping_sub(low) <= high.wrapping_sub(low)
}

#[inline(always)]
fn latest(a: u32, b: u32) -> u32 {
    if after(a, b) { a } else { b }
}

/// Both halves as a segment's sender and receiver, for one direction.
#[derive(Debug, Clone, Copy)]
pub(super) struct View {
    pub end: u32,
    pub max_end: u32,
    pub ack: u32,
    pub max_window: u16,
    pub scale: u8,
    pub peer_end: u32,
    pub peer_max_end: u32,
    pub peer_window: u32,
}

/// What an accepted segment teaches: the new values of the sender's half and of the receiver's `max_end`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Learned {
    pub end: u32,
    pub ack: u32,
    pub max_window: u16,
    pub peer_max_end: u32,
    /// The half has entered another stretch of [`TOLD_EVERY`] bytes: the other node hears where it is.
    pub is_far: bool,
}

/// A segment that does not fit all bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Misfit {
    /// Near enough that the end host's own answer is the right one.
    Pass(Why),
    /// Not of this connection.
    Refuse(Why),
}

impl View {
    #[inline(always)]
    pub(super) fn own_window(&self) -> u32 {
        u32::from(self.max_window) << (self.scale & 15)
    }

    /// The hot path: what the segment teaches, if all four bounds hold.
    #[inline(always)]
    pub(super) fn fits(&self, fields: &TcpFields) -> Option<Learned> {
        let end = fields.seq.wrapping_add(u32::from(fields.payload_len));
        let low = self.end.wrapping_sub(self.peer_window).wrapping_sub(SLACK);
        let high = self.max_end.wrapping_add(PROBE);
        let ack_span = self.own_window().wrapping_add(SLACK);
        let ack_low = self.peer_end.wrapping_sub(ack_span);
        // One branch, not two: `&` on purpose.
        let fits = within(end, low, high) & (fields.ack.wrapping_sub(ack_low) <= ack_span);
        fits.then(|| self.learn(end, fields))
    }

    #[inline(always)]
    fn learn(&self, end: u32, fields: &TcpFields) -> Learned {
        let reach = fields.ack.wrapping_add(u32::from(fields.window) << (self.scale & 15));
        let end = latest(end, self.end);
        Learned {
            end,
            is_far: (end ^ self.end) >= TOLD_EVERY,
            ack: latest(fields.ack, self.ack),
            max_window: fields.window.max(self.max_window),
            peer_max_end: latest(reach, self.peer_max_end),
        }
    }

    /// Why a segment did not fit, and whether it may pass all the same. Old duplicates reach back twice
    /// the window, an overshoot ahead once: the receiver discards both and answers with an ACK.
    #[cold]
    pub(super) fn misfit(&self, fields: &TcpFields) -> Misfit {
        let end = fields.seq.wrapping_add(u32::from(fields.payload_len));
        let oldest = self.end.wrapping_sub(backward(self.peer_window));
        let high = self.max_end.wrapping_add(PROBE);
        if after(fields.ack, self.peer_end) {
            return Misfit::Refuse(Why::AckUnsent);
        }
        let ack_oldest = self.peer_end.wrapping_sub(backward(self.own_window()));
        let ack_span = self.own_window().wrapping_add(SLACK);
        let is_ack_old = self.peer_end.wrapping_sub(fields.ack) > ack_span;
        // New data never comes with an old acknowledgement: what is older overtook nothing.
        if after(ack_oldest, fields.ack) || (is_ack_old && after(end, self.end)) {
            return Misfit::Refuse(Why::AckTooOld);
        }
        if within(end, oldest, high) {
            Misfit::Pass(Why::OldDuplicate)
        } else if end.wrapping_sub(high) <= self.peer_window.min(MAX_REACH) {
            Misfit::Pass(Why::Overshoot)
        } else if after(end, self.end) {
            Misfit::Refuse(Why::SeqTooNew)
        } else {
            Misfit::Refuse(Why::SeqTooOld)
        }
    }

    /// Bounds I and II alone, for a half whose peer's numbers are not known.
    pub(super) fn judge_seq(&self, fields: &TcpFields) -> Result<(), Misfit> {
        let end = fields.seq.wrapping_add(u32::from(fields.payload_len));
        let low = self.end.wrapping_sub(self.peer_window).wrapping_sub(SLACK);
        let high = self.max_end.wrapping_add(PROBE);
        let oldest = self.end.wrapping_sub(backward(self.peer_window));
        Err(if within(end, low, high) {
            return Ok(());
        } else if within(end, oldest, high) {
            Misfit::Pass(Why::OldDuplicate)
        } else if end.wrapping_sub(high) <= self.peer_window.min(MAX_REACH) {
            Misfit::Pass(Why::Overshoot)
        } else if after(end, self.end) {
            Misfit::Refuse(Why::SeqTooNew)
        } else {
            Misfit::Refuse(Why::SeqTooOld)
        })
    }

    /// Bounds III and IV alone.
    pub(super) fn judge_ack(&self, fields: &TcpFields) -> Result<(), Misfit> {
        let age = self.peer_end.wrapping_sub(fields.ack);
        Err(if age <= self.own_window().wrapping_add(SLACK) {
            return Ok(());
        } else if after(fields.ack, self.peer_end) {
            Misfit::Refuse(Why::AckUnsent)
        } else if age <= backward(self.own_window()) {
            Misfit::Pass(Why::OldDuplicate)
        } else {
            Misfit::Refuse(Why::AckTooOld)
        })
    }

    /// True if a number of the sender's past, at most `backward` old, or its `end` itself.
    pub(super) fn is_past(&self, end: u32) -> bool {
        within(end, self.end.wrapping_sub(backward(self.peer_window)), self.end)
    }

    /// The same for an acknowledgement of the peer's data.
    pub(super) fn is_past_ack(&self, ack: u32) -> bool {
        within(ack, self.peer_end.wrapping_sub(backward(self.own_window())), self.peer_end)
    }
}

pub(super) fn backward(window: u32) -> u32 {
    window.saturating_mul(2).clamp(MIN_BACKWARD, MAX_REACH + SLACK)
}
