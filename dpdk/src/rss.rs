//! The key of the receive-side hash.

use std::fmt;

use thiserror::Error;

/// A Toeplitz key, as long as any port wants it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RssKey {
    bytes: [u8; RssKey::MAX],
}

/// A key of no bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("an RSS key needs at least 40 bytes, not {0}")]
pub struct RssKeyError(pub usize);

impl RssKey {
    /// No port is known to want more.
    pub const MAX: usize = 64;
    const MIN: usize = 40;

    /// One 16-bit word, repeated: the hash then depends only on the exclusive-or of the tuple's 16-bit
    /// words, so both directions of a session hash alike (decision 5).
    pub fn symmetric(word: u16) -> Self {
        let mut bytes = [0; Self::MAX];
        for pair in bytes.chunks_exact_mut(2) {
            pair.copy_from_slice(&word.to_be_bytes());
        }
        Self { bytes }
    }

    /// A key given in full: 40 bytes, 52 for ports that want so many. Where a port wants more than there
    /// are, it goes on from the beginning.
    pub fn from_bytes(key: &[u8]) -> Result<Self, RssKeyError> {
        if key.len() < Self::MIN {
            return Err(RssKeyError(key.len()));
        }
        let mut bytes = [0; Self::MAX];
        for (to, from) in bytes.iter_mut().zip(key.iter().cycle()) {
            *to = *from;
        }
        Ok(Self { bytes })
    }

    /// The first `len` bytes, at most [`RssKey::MAX`].
    pub fn bytes(&self, len: usize) -> &[u8] {
        &self.bytes[..len.min(Self::MAX)]
    }
}

impl fmt::Debug for RssKey {
    /// The key steers traffic; who knows it can aim at one worker. So it is not written to logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RssKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_symmetric_key_repeats_its_word_in_network_order() {
        let key = RssKey::symmetric(0x6d5a);
        assert_eq!(key.bytes(4), [0x6d, 0x5a, 0x6d, 0x5a]);
        assert_eq!(key.bytes(52).len(), 52);
        assert_eq!(key.bytes(100).len(), 64);
        assert_eq!(format!("{key:?}"), "RssKey(..)");
    }

    #[test]
    fn a_given_key_is_kept_and_continued() {
        let given: Vec<u8> = (0..40).collect();
        let key = RssKey::from_bytes(&given).unwrap();
        assert_eq!(key.bytes(40), given);
        assert_eq!(key.bytes(42)[40..], [0, 1]);
        assert_eq!(RssKey::from_bytes(&given[..39]), Err(RssKeyError(39)));
        assert_eq!(RssKey::from_bytes(&[]), Err(RssKeyError(0)));
    }
}
