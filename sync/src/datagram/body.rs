//! The fixed parts of bodies. Each begins with or implies its length, so that a later release can append.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::ids::{GroupId, Seq, Term};
use crate::record::Shared;

/// A body that was sealed properly and yet says nothing: counted, never answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Malformed;

/// In front of the records of a data datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Prefix {
    /// The datagram's place in the sender's stream.
    pub seq: Seq,
    /// The lowest number still outstanding: what is below it is refused and counts as passed.
    pub floor: Seq,
    /// What its records have in common.
    pub shared: Shared,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct PrefixWire {
    length: u8,
    group: u8,
    generation: U16,
    /// 20 bits; the upper 12 are spare and ignored.
    term: U32,
    seq: U64,
    /// `seq - floor`.
    floor_lag: U32,
}

impl Prefix {
    /// Bytes of a prefix.
    pub const LEN: usize = size_of::<PrefixWire>();

    /// Writes the prefix and returns the space for records: `None` if there is none.
    pub fn write<'b>(&self, body: &'b mut [u8]) -> Option<&'b mut [u8]> {
        let lag = u32::try_from(self.seq.0.checked_sub(self.floor.0)?).ok()?;
        let wire = PrefixWire {
            length: Self::LEN as u8,
            group: self.shared.group.0,
            generation: self.shared.generation.into(),
            term: self.shared.term.get().into(),
            seq: self.seq.0.into(),
            floor_lag: lag.into(),
        };
        let (front, rest) = body.split_at_mut_checked(Self::LEN)?;
        front.copy_from_slice(wire.as_bytes());
        Some(rest)
    }

    /// Reads a prefix; with it come the records' bytes.
    ///
    /// # Errors
    /// [`Malformed`] if it is too short or its floor lies before the first number.
    pub fn read(body: &[u8]) -> Result<(Self, &[u8]), Malformed> {
        let (wire, _) = PrefixWire::ref_from_prefix(body).map_err(|_| Malformed)?;
        let length = usize::from(wire.length);
        if length < Self::LEN {
            return Err(Malformed);
        }
        let records = body.get(length..).ok_or(Malformed)?;
        let seq = wire.seq.get();
        let floor = seq.checked_sub(u64::from(wire.floor_lag.get())).ok_or(Malformed)?;
        let term = Term::new(wire.term.get() & Term::MAX.get()).ok_or(Malformed)?;
        let shared = Shared { term, generation: wire.generation.get(), group: GroupId(wire.group) };
        Ok((Self { seq: Seq(seq), floor: Seq(floor), shared }, records))
    }
}

/// What the receiver of a stream has applied (decision 21).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Ack<'a> {
    /// Everything up to this number is applied or passed.
    pub cumulative: Seq,
    /// How many more records the fullest install ring takes.
    pub window: u32,
    /// Bit i (bit 0 of byte 0 first): number `cumulative + 1 + i` is applied. At most 255 bytes.
    pub bitmap: &'a [u8],
    /// Runs (see [`crate::record::Runs`]): refused records and whatever else comes with an ack.
    pub runs: &'a [u8],
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct AckWire {
    length: u8,
    bitmap: u8,
    spare: [u8; 2],
    window: U32,
    cumulative: U64,
}

impl<'a> Ack<'a> {
    /// Bytes of an ack without bitmap and runs.
    pub const LEN: usize = size_of::<AckWire>();

    /// Writes the ack and returns its length: `None` if it does not fit.
    pub fn write(&self, body: &mut [u8]) -> Option<usize> {
        let wire = AckWire {
            length: Self::LEN as u8,
            bitmap: u8::try_from(self.bitmap.len()).ok()?,
            spare: [0; 2],
            window: self.window.into(),
            cumulative: self.cumulative.0.into(),
        };
        let mut used = 0;
        for part in [wire.as_bytes(), self.bitmap, self.runs] {
            body.get_mut(used..used + part.len())?.copy_from_slice(part);
            used += part.len();
        }
        Some(used)
    }

    /// Reads an ack.
    ///
    /// # Errors
    /// [`Malformed`] if it is shorter than it says.
    pub fn read(body: &'a [u8]) -> Result<Self, Malformed> {
        let (wire, _) = AckWire::ref_from_prefix(body).map_err(|_| Malformed)?;
        let length = usize::from(wire.length);
        if length < Self::LEN {
            return Err(Malformed);
        }
        let rest = body.get(length..).ok_or(Malformed)?;
        let (bitmap, runs) = rest.split_at_checked(usize::from(wire.bitmap)).ok_or(Malformed)?;
        Ok(Self { cumulative: Seq(wire.cumulative.get()), window: wire.window.get(), bitmap, runs })
    }

    /// True if the ack covers `seq`.
    #[must_use]
    pub fn covers(&self, seq: Seq) -> bool {
        let Some(beyond) = seq.0.checked_sub(self.cumulative.0).and_then(|d| d.checked_sub(1)) else {
            return true;
        };
        let byte = usize::try_from(beyond / 8).ok().and_then(|at| self.bitmap.get(at));
        byte.is_some_and(|byte| byte >> (beyond & 7) & 1 == 1)
    }
}

/// Question or answer of a path's self-test.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProbeStep {
    /// "Answer in the same size."
    Request,
    /// The answer.
    Reply,
}

/// A datagram of a certain size: whether it arrives is the message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Probe {
    /// Question or answer.
    pub step: ProbeStep,
    /// Chosen by who asks, given back by who answers.
    pub token: u64,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct ProbeWire {
    step: u8,
    spare: [u8; 7],
    token: U64,
}

impl Probe {
    /// Bytes of a probe without padding.
    pub const LEN: usize = size_of::<ProbeWire>();

    /// Fills `body` with the probe and zeros: `None` if it is too small.
    pub fn write(&self, body: &mut [u8]) -> Option<usize> {
        let step = match self.step {
            ProbeStep::Request => 1,
            ProbeStep::Reply => 2,
        };
        let wire = ProbeWire { step, spare: [0; 7], token: self.token.into() };
        let (front, padding) = body.split_at_mut_checked(Self::LEN)?;
        front.copy_from_slice(wire.as_bytes());
        padding.fill(0);
        Some(body.len())
    }

    /// Reads a probe; its size is the body's.
    ///
    /// # Errors
    /// [`Malformed`] if it is too short or neither question nor answer.
    pub fn read(body: &[u8]) -> Result<Self, Malformed> {
        let (wire, _) = ProbeWire::ref_from_prefix(body).map_err(|_| Malformed)?;
        let step = match wire.step {
            1 => ProbeStep::Request,
            2 => ProbeStep::Reply,
            _ => return Err(Malformed),
        };
        Ok(Self { step, token: wire.token.get() })
    }
}
