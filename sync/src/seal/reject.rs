//! Why datagrams were refused, and how many for each reason.

use crate::datagram::HeaderError;

/// Why a datagram had no effect.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Rejection {
    /// Shorter than header and tag, or longer than any datagram.
    Truncated,
    /// It does not begin as ours do.
    NotOurs,
    /// Written for later releases only.
    WrongVersion,
    /// A kind that this release does not know.
    WrongKind,
    /// Another pair's.
    WrongPair,
    /// It bears this node's own id: somebody sent our datagram back.
    Reflected,
    /// From neither node of the pair.
    WrongSender,
    /// A path that is not configured.
    WrongPath,
    /// Not of the incarnation that the key belongs to.
    WrongIncarnation,
    /// A key that this node never had or has forgotten.
    WrongKey,
    /// A key that was replaced.
    ExpiredKey,
    /// A counter that was seen.
    Replayed,
    /// A counter from before the replay window.
    TooOld,
    /// The tag is not right: changed on the way, or sealed by somebody else.
    Forged,
    /// Authentic, and its body says nothing.
    Malformed,
    /// A handshake message that answers nothing which is going on.
    Stale,
    /// A handshake message too soon after the last one.
    RateLimited,
}

impl Rejection {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 17] = [
        Self::Truncated,
        Self::NotOurs,
        Self::WrongVersion,
        Self::WrongKind,
        Self::WrongPair,
        Self::Reflected,
        Self::WrongSender,
        Self::WrongPath,
        Self::WrongIncarnation,
        Self::WrongKey,
        Self::ExpiredKey,
        Self::Replayed,
        Self::TooOld,
        Self::Forged,
        Self::Malformed,
        Self::Stale,
        Self::RateLimited,
    ];

    /// The counter's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Truncated => "truncated",
            Self::NotOurs => "not-ours",
            Self::WrongVersion => "wrong-version",
            Self::WrongKind => "wrong-kind",
            Self::WrongPair => "wrong-pair",
            Self::Reflected => "reflected",
            Self::WrongSender => "wrong-sender",
            Self::WrongPath => "wrong-path",
            Self::WrongIncarnation => "wrong-incarnation",
            Self::WrongKey => "wrong-key",
            Self::ExpiredKey => "expired-key",
            Self::Replayed => "replayed",
            Self::TooOld => "too-old",
            Self::Forged => "forged",
            Self::Malformed => "malformed",
            Self::Stale => "stale-handshake",
            Self::RateLimited => "rate-limited",
        }
    }
}

impl From<HeaderError> for Rejection {
    fn from(error: HeaderError) -> Self {
        match error {
            HeaderError::Truncated => Self::Truncated,
            HeaderError::Magic => Self::NotOurs,
            HeaderError::Version => Self::WrongVersion,
            HeaderError::Kind => Self::WrongKind,
        }
    }
}

/// A counter for each [`Rejection`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Rejections([u64; Rejection::ALL.len()]);

impl Rejections {
    /// Counts one.
    pub fn count(&mut self, reason: Rejection) {
        self.0[reason as usize] += 1;
    }

    /// How many were refused for `reason`.
    #[must_use]
    pub fn of(&self, reason: Rejection) -> u64 {
        self.0[reason as usize]
    }

    /// How many were refused.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Every reason with its count, zeros included.
    pub fn iter(&self) -> impl Iterator<Item = (Rejection, u64)> + '_ {
        Rejection::ALL.into_iter().map(|reason| (reason, self.of(reason)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_own_counter_and_name() {
        let mut rejections = Rejections::default();
        for (n, reason) in Rejection::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, n);
            (0..=n).for_each(|_| rejections.count(reason));
        }
        assert!(rejections.iter().enumerate().all(|(n, (_, count))| count == n as u64 + 1));
        let names: std::collections::BTreeSet<_> = Rejection::ALL.map(Rejection::name).into();
        assert_eq!((names.len(), rejections.total()), (17, 17 * 18 / 2));
    }
}
