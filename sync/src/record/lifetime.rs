//! Remaining time in two bytes: 12 bits of milliseconds shifted by 4 bits, so up to 37 hours to one part
//! in 4,096. A lifetime is a timeout minus a silence; nobody needs its last millisecond.

/// A span of time, rounded down to what the wire can say.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Lifetime(u32);

const MANTISSA_BITS: u32 = 12;

impl Lifetime {
    /// The longest: 37 hours.
    pub const MAX: Self = Self(((1 << MANTISSA_BITS) - 1) << 15);

    /// The longest expressible lifetime that is not longer than `ms`.
    #[must_use]
    pub const fn from_ms(ms: u64) -> Self {
        if ms >= Self::MAX.0 as u64 {
            return Self::MAX;
        }
        let ms = ms as u32;
        let shift = Self::shift(ms);
        Self(ms >> shift << shift)
    }

    /// In milliseconds.
    #[must_use]
    pub const fn as_ms(self) -> u64 {
        self.0 as u64
    }

    const fn shift(ms: u32) -> u32 {
        (u32::BITS - ms.leading_zeros()).saturating_sub(MANTISSA_BITS)
    }

    pub(super) const fn to_wire(self) -> u16 {
        let shift = Self::shift(self.0);
        (shift << MANTISSA_BITS) as u16 | (self.0 >> shift) as u16
    }

    pub(super) const fn from_wire(wire: u16) -> Self {
        Self(((wire & 0xfff) as u32) << (wire >> MANTISSA_BITS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ordinary_timeouts_lose_little() {
        for (ms, kept) in
            [(0, 0), (4_095, 4_095), (30_000, 30_000), (7_440_000, 7_438_336), (u64::MAX, 134_184_960)]
        {
            assert_eq!(Lifetime::from_ms(ms).as_ms(), kept, "{ms} ms");
        }
    }

    proptest! {
        #[test]
        fn the_wire_gives_back_what_it_was_given(ms in 0_u64..200_000_000, wire: u16) {
            let life = Lifetime::from_ms(ms);
            prop_assert_eq!(Lifetime::from_wire(life.to_wire()), life);
            prop_assert!(life.as_ms() <= ms);
            prop_assert!(ms > Lifetime::MAX.as_ms() || ms - life.as_ms() <= ms / 2_048);
            // A value that no encoder writes is still one lifetime, in range.
            prop_assert!(Lifetime::from_wire(wire) <= Lifetime::MAX);
        }
    }
}
