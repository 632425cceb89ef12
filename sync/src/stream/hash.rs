//! What a session weighs in a digest.
//!
//! A bucket is chosen by the key alone, so that a delete, which knows nothing else, finds it. The weight
//! goes over the key, the reply key and the version, not over the TCP numbers: those move with each packet
//! and are sent as they are at the moment of sending, so that a record that is sent again in the same
//! version has others, of which the partner keeps the first. A version names one state, and what arrived
//! under it was authenticated; whether memory still holds it is what [`Hasher::check`] is for, which goes
//! over everything and is compared with itself only.
//!
//! Keys are hashed by SipHash-1-3 under a key of the pair: whoever opens sessions cannot aim at a bucket. The rest of
//! the weight is folded over that hash, which nobody outside knows.

use crate::record::{Addresses, Key, Session, State, TcpSnapshot, Tuple};

/// Buckets of a digest.
pub(super) const BUCKETS: usize = 1 << 16;
/// Where the bucket stands in a weight.
const BUCKET_SHIFT: u32 = 48;

/// The bucket of a weight.
pub(super) const fn bucket_of(word: u64) -> u16 {
    (word >> BUCKET_SHIFT) as u16
}

/// Hashes under the pair's digest key.
#[derive(Clone, Debug)]
pub(super) struct Hasher {
    key: [u64; 2],
}

impl Hasher {
    pub fn new(key: [u8; 16]) -> Self {
        let [low, high] = zerocopy::transmute!(key);
        Self { key: [u64::from_le_bytes(low), u64::from_le_bytes(high)] }
    }

    /// The bucket of a key.
    pub fn bucket(&self, key: &Key) -> u16 {
        bucket_of(self.key_hash(key))
    }

    /// The weight of a session: never 0, its bucket in the upper bits.
    #[inline]
    pub fn word(&self, session: &Session) -> u64 {
        let key = self.key_hash(&session.key);
        let [k0, k1] = self.key;
        let mut sum = Fold(key, k0);
        sum.words(k1, session.version.0);
        let same_family = session.key.tuple.addresses.is_v6();
        if let Some(reply) = session.reply.filter(|reply| reply.addresses.is_v6() == same_family) {
            sum.tuple(&reply);
        }
        let spread = sum.0 >> (64 - BUCKET_SHIFT);
        u64::from(bucket_of(key)) << BUCKET_SHIFT | spread.max(1)
    }

    /// Everything that a mirrored session holds, for finding changes in memory: what a canonical record says,
    /// without the policy's generation. It never leaves this process, so speed decides over its function.
    pub fn check(&self, session: &Session) -> u32 {
        let [k0, k1] = self.key.map(|half| half | 1);
        let Session { key, version, group, rule, zones, .. } = session;
        let named = [key.proto, key.vrf, group.0, zones[0], zones[1], 0, 0, 0];
        let mut sum = Fold(k0, k1);
        sum.words(version.0, rule.id.into());
        sum.words(u64::from_le_bytes(named), 0);
        sum.tuple(&key.tuple);
        let same_family = key.tuple.addresses.is_v6();
        if let Some(reply) = session.reply.filter(|reply| reply.addresses.is_v6() == same_family) {
            sum.words(1, 2);
            sum.tuple(&reply);
        }
        match &session.state {
            State::Tcp(tcp) => sum.tcp(tcp),
            State::Flow(state) => sum.words(u64::from(*state), 3),
        }
        sum.0 as u32
    }

    #[inline(always)]
    fn key_hash(&self, key: &Key) -> u64 {
        let mut sip = Sip::new(self.key);
        sip.word(u64::from(key.proto) | u64::from(key.vrf) << 8);
        self.tuple(&mut sip, &key.tuple);
        sip.finish()
    }

    #[inline(always)]
    fn tuple(&self, sip: &mut Sip, tuple: &Tuple) {
        let ports = u64::from(tuple.ports[0]) | u64::from(tuple.ports[1]) << 16;
        match &tuple.addresses {
            Addresses::V4([source, destination]) => {
                sip.word(u64::from(u32::from_le_bytes(*source)) | ports << 32);
                sip.word(u64::from(u32::from_le_bytes(*destination)));
            }
            Addresses::V6(both) => {
                for address in both {
                    let [low, high]: [[u8; 8]; 2] = zerocopy::transmute!(*address);
                    sip.word(u64::from_le_bytes(low));
                    sip.word(u64::from_le_bytes(high));
                }
                sip.word(ports | 1 << 63);
            }
        }
    }
}

/// Multiplies and folds, under two odd keys.
struct Fold(u64, u64);

impl Fold {
    #[inline(always)]
    fn words(&mut self, a: u64, b: u64) {
        let wide = u128::from(self.0 ^ a) * u128::from(self.1 ^ b);
        // What went in before stays in, whatever is multiplied by zero.
        self.0 = (wide as u64 ^ (wide >> 64) as u64).wrapping_add(self.0.rotate_left(29));
    }

    #[inline(always)]
    fn tuple(&mut self, tuple: &Tuple) {
        let ports = u64::from(tuple.ports[0]) | u64::from(tuple.ports[1]) << 16;
        match &tuple.addresses {
            Addresses::V4(both) => {
                let [source, destination] = both.map(u32::from_le_bytes).map(u64::from);
                self.words(source | destination << 32, ports);
            }
            Addresses::V6(both) => {
                for address in both {
                    let [low, high]: [[u8; 8]; 2] = zerocopy::transmute!(*address);
                    self.words(u64::from_le_bytes(low), u64::from_le_bytes(high));
                }
                self.words(ports, 4);
            }
        }
    }

    #[inline(always)]
    fn tcp(&mut self, tcp: &TcpSnapshot) {
        let [i, r] = &tcp.halves;
        let pair = |high: u32, low: u32| u64::from(high) << 32 | u64::from(low);
        // As much of each as a record says.
        let state = u32::from(tcp.state & 15) | u32::from(tcp.flags & 0xfff) << 4;
        let scales = u32::from(i.scale & 15) | u32::from(r.scale & 15) << 4 | u32::from(tcp.idle) << 8;
        let (mark, mark_scale) =
            tcp.mark.map_or((0, 0), |(mark, scale)| (mark, 1 << 8 | u32::from(scale & 15)));
        self.words(pair(i.end, r.end), pair(i.max_end, r.max_end));
        self.words(pair(i.ack, r.ack), pair(i.max_window.into(), r.max_window.into()));
        self.words(pair(state, scales), pair(mark, mark_scale));
    }
}

/// SipHash-1-3 over whole words.
struct Sip {
    v: [u64; 4],
    words: u64,
}

impl Sip {
    fn new([k0, k1]: [u64; 2]) -> Self {
        Self {
            v: [
                k0 ^ 0x736f_6d65_7073_6575,
                k1 ^ 0x646f_7261_6e64_6f6d,
                k0 ^ 0x6c79_6765_6e65_7261,
                k1 ^ 0x7465_6462_7974_6573,
            ],
            words: 0,
        }
    }

    #[inline(always)]
    fn round(&mut self) {
        let [mut a, mut b, mut c, mut d] = self.v;
        a = a.wrapping_add(b);
        c = c.wrapping_add(d);
        b = b.rotate_left(13) ^ a;
        d = d.rotate_left(16) ^ c;
        a = a.rotate_left(32);
        c = c.wrapping_add(b);
        a = a.wrapping_add(d);
        b = b.rotate_left(17) ^ c;
        d = d.rotate_left(21) ^ a;
        c = c.rotate_left(32);
        self.v = [a, b, c, d];
    }

    #[inline(always)]
    fn word(&mut self, word: u64) {
        self.v[3] ^= word;
        self.round();
        self.v[0] ^= word;
        self.words += 1;
    }

    #[inline(always)]
    fn finish(mut self) -> u64 {
        let last = self.words << 59;
        self.word(last);
        self.v[2] ^= 0xff;
        for _ in 0..3 {
            self.round();
        }
        self.v[0] ^ self.v[1] ^ self.v[2] ^ self.v[3]
    }
}

#[cfg(test)]
mod tests {
    use std::hash::Hasher as _;

    use proptest::prelude::*;

    use super::*;
    use crate::ids::Version;
    use crate::record::arbitrary::session;
    use crate::record::{Canonical, Lifetime, Record};

    proptest! {
        /// The standard library's default hasher is SipHash-1-3 under the key of zeros.
        #[test]
        fn it_is_siphash_1_3(words: Vec<u64>) {
            let mut sip = Sip::new([0, 0]);
            let mut theirs = std::collections::hash_map::DefaultHasher::new();
            for word in words {
                sip.word(word);
                theirs.write(&word.to_le_bytes());
            }
            prop_assert_eq!(sip.finish(), theirs.finish());
        }

        #[test]
        fn a_weight_follows_key_and_version_only(session in session(), counter: u64) {
            let hasher = Hasher::new([7; 16]);
            let word = hasher.word(&session);
            prop_assert_eq!(bucket_of(word), hasher.bucket(&session.key));
            let mut later = session;
            (later.remaining, later.age_s, later.counters) = (Lifetime::MAX, Some(1), None);
            prop_assert_eq!(hasher.check(&later), hasher.check(&session));
            if let crate::record::State::Tcp(tcp) = &mut later.state {
                tcp.halves[0].end = tcp.halves[0].end.wrapping_add(1);
                prop_assert_ne!(hasher.check(&later), hasher.check(&session));
            }
            prop_assert_eq!(hasher.word(&later), word);
            later.version = Version(counter);
            prop_assert_eq!(hasher.word(&later) == word, later.version == session.version);
            prop_assert_ne!(Hasher::new([8; 16]).word(&session), word);
        }

        /// What a record says differently, the check sees, and nothing else. Keys are derived and have no
        /// pattern: a multiplier like 0x0707…07 would hardly mix.
        #[test]
        fn a_check_follows_what_a_record_says(
            one in session(), other in session(), part in 0_usize..8, key: [u8; 16]
        ) {
            let mut changed = one;
            match part {
                0 => changed.key = other.key,
                1 => changed.reply = other.reply,
                2 => changed.version = other.version,
                3 => changed.group = other.group,
                4 => changed.rule = other.rule,
                5 => changed.zones = other.zones,
                6 => changed.state = other.state,
                _ => (changed.remaining, changed.two_way, changed.counters) = (other.remaining, other.two_way, None),
            }
            let said = |mut session: Session| {
                session.rule.generation = 0;
                Canonical::of(&Record::Session(session)).as_bytes().to_vec()
            };
            let hasher = Hasher::new(key);
            prop_assert_eq!(hasher.check(&one) == hasher.check(&changed), said(one) == said(changed));
        }
    }
}
