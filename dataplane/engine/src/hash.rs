//! The one multiplication that tables of addresses and flows are hashed with.

/// Both halves of the product, so that each bit of the result depends on all bits of `a`. Secret only if `b`
/// is.
#[inline(always)]
pub(crate) fn fold(a: u64, b: u64) -> u64 {
    let wide = u128::from(a) * u128::from(b);
    wide as u64 ^ (wide >> 64) as u64
}

/// An odd factor for [`fold`] where nobody outside can choose what is hashed.
pub(crate) const FACTOR: u64 = 0xa076_1d64_78bd_642f;
/// What keeps a zero from being hashed to zero by [`FACTOR`].
pub(crate) const OFFSET: u64 = 0x9e37_79b9_7f4a_7c15;
