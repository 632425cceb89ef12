//! Steering: which bucket, and so which worker, a packet belongs to.
//!
//! Receive-side scaling hashes a packet with Toeplitz over the tuple source address, destination address,
//! source port, destination port. With a key that repeats one 16-bit word, the 32-bit window that belongs
//! to an input bit depends only on the bit's position modulo 16, so the hash depends only on the XOR of
//! all 16-bit words of the tuple. Two things follow. The hash is symmetric: both directions of a flow meet
//! at one worker. And source NAT can *solve* for a port whose replies fall into the same bucket, on both
//! nodes of a pair and for any number of workers (decision 5).
//!
//! The word comes from the pair's configuration, since both nodes must agree. It must have an odd number
//! of one bits: only then is the map from folded tuple to hash one-to-one, and no bucket stays empty.

use crate::desc::Kind;
use crate::key::{FlowKey, Proto};

/// Buckets that the hash space is divided into, pair-wide.
pub const BUCKETS: usize = 128;

/// The longest RSS key that a port takes; shorter keys are prefixes.
pub const KEY_BYTES: usize = 52;

/// A symmetric Toeplitz key, with its tables.
#[derive(Debug, Clone)]
pub struct ToeplitzKey {
    word: u16,
    /// Hash halves of the folded tuple's high and low byte.
    high: [u16; 256],
    low: [u16; 256],
}

impl ToeplitzKey {
    /// The word of the key that drivers commonly offer as "symmetric": 6d5a repeated.
    pub const DEFAULT_WORD: u16 = 0x6d5a;

    /// A key of one repeated word; `None` if the word has an even number of one bits.
    pub const fn new(word: u16) -> Option<Self> {
        if word.count_ones() % 2 == 1 { Some(Self::tables(word)) } else { None }
    }

    /// The word that is repeated.
    pub const fn word(&self) -> u16 {
        self.word
    }

    /// The key as a port takes it; 40-byte ports take the first 40.
    pub fn key_bytes(&self) -> [u8; KEY_BYTES] {
        let [high, low] = self.word.to_be_bytes();
        std::array::from_fn(|i| if i % 2 == 0 { high } else { low })
    }

    /// The hash of a tuple whose 16-bit words have this XOR. Both halves of the hash are equal.
    #[inline(always)]
    pub fn hash_folded(&self, xor16: u16) -> u32 {
        let [high, low] = xor16.to_be_bytes();
        let half = self.high[usize::from(high)] ^ self.low[usize::from(low)];
        u32::from(half) << 16 | u32::from(half)
    }

    /// What a port computes for a packet of this kind with RSS over TCP and UDP ports: TCP and UDP with
    /// ports, everything else, fragments above all, by the address pair only.
    #[inline(always)]
    pub fn steering_hash(&self, key: &FlowKey, kind: Kind) -> u32 {
        let ports = if matches!(kind, Kind::Tcp | Kind::Udp) { fold_ports(key) } else { 0 };
        self.hash_folded(fold_addresses(key) ^ ports)
    }

    /// The same for a key as [`crate::parse()`] makes it and a session holds it, without knowing the kind:
    /// of the protocols whose keys have ports, only TCP's and UDP's are hashed.
    #[inline(always)]
    pub fn flow_hash(&self, key: &FlowKey) -> u32 {
        let ports = if matches!(key.proto(), Proto::TCP | Proto::UDP) { fold_ports(key) } else { 0 };
        self.hash_folded(fold_addresses(key) ^ ports)
    }

    const fn tables(word: u16) -> Self {
        let mut key = ToeplitzKey { word, high: [0; 256], low: [0; 256] };
        let mut byte = 0;
        while byte < 256 {
            let mut bit = 0;
            while bit < 8 {
                // Input bit i counts from the most significant; its window is the key from bit i on.
                if byte >> (7 - bit) & 1 == 1 {
                    key.high[byte] ^= word.rotate_left(bit);
                    key.low[byte] ^= word.rotate_left(bit + 8);
                }
                bit += 1;
            }
            byte += 1;
        }
        key
    }
}

impl Default for ToeplitzKey {
    fn default() -> Self {
        Self::tables(Self::DEFAULT_WORD)
    }
}

/// The bucket of a steering hash.
#[inline(always)]
pub fn bucket(hash: u32) -> u8 {
    (hash & (BUCKETS as u32 - 1)) as u8
}

/// The XOR of both addresses' 16-bit words.
#[inline(always)]
pub fn fold_addresses(key: &FlowKey) -> u16 {
    let x = key.a[0] ^ key.a[1] ^ key.a[2] ^ key.a[3];
    let x = x ^ x >> 32;
    let x = x ^ x >> 16;
    // Address words hold the bytes as on the wire.
    u16::from_be(x as u16)
}

/// The XOR of both ports.
#[inline(always)]
pub fn fold_ports(key: &FlowKey) -> u16 {
    key.sport() ^ key.dport()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Addr;
    use proptest::prelude::*;

    /// Toeplitz by its definition, bit by bit over the port's input tuple.
    fn reference(key: &[u8], input: &[u8]) -> u32 {
        let bit = |bytes: &[u8], i: usize| u32::from(bytes[i / 8] >> (7 - i % 8) & 1);
        let window = |at: usize| (0..32).fold(0u32, |w, i| w << 1 | bit(key, at + i));
        (0..input.len() * 8).filter(|i| bit(input, *i) == 1).fold(0, |hash, i| hash ^ window(i))
    }

    fn tuple(key: &FlowKey, with_ports: bool) -> Vec<u8> {
        let mut input = Vec::new();
        for addr in [key.src(), key.dst()] {
            match addr {
                Addr::V4(a) => input.extend_from_slice(&a),
                Addr::V6(a) => input.extend_from_slice(&a),
            }
        }
        if with_ports {
            input.extend_from_slice(&key.sport().to_be_bytes());
            input.extend_from_slice(&key.dport().to_be_bytes());
        }
        input
    }

    #[test]
    fn reference_gives_the_published_vectors() {
        // Microsoft's RSS verification suite: IPv4 with ports, IPv4 only.
        let key = [
            0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0,
            0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c,
            0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
        ];
        let flow = FlowKey::v4([66, 9, 149, 187], [161, 142, 100, 80], Proto::TCP, 2794, 1766);
        assert_eq!(reference(&key, &tuple(&flow, true)), 0x51cc_c178);
        assert_eq!(reference(&key, &tuple(&flow, false)), 0x323e_8fc2);
    }

    #[test]
    fn words_with_an_even_number_of_ones_are_refused() {
        assert!(ToeplitzKey::new(0xffff).is_none());
        assert!(ToeplitzKey::new(0).is_none());
        assert!(ToeplitzKey::new(ToeplitzKey::DEFAULT_WORD).is_some());
    }

    #[test]
    fn every_hash_half_and_every_bucket_is_reached_equally_often() {
        for word in [ToeplitzKey::DEFAULT_WORD, 1, 0x8000, 0xfffe, 0x1234] {
            let Some(key) = ToeplitzKey::new(word) else { continue };
            let mut seen = vec![false; 65_536];
            let mut buckets = [0u32; BUCKETS];
            for folded in 0..=u16::MAX {
                let hash = key.hash_folded(folded);
                assert!(!std::mem::replace(&mut seen[usize::from(hash as u16)], true));
                buckets[usize::from(bucket(hash))] += 1;
            }
            assert_eq!(buckets, [512; BUCKETS], "word {word:04x}");
        }
    }

    #[test]
    fn parsed_keys_hash_alike_with_and_without_their_kind() {
        use crate::craft::Frame;
        let (src, dst) = ([10, 1, 0, 10], [10, 2, 0, 10]);
        let key = ToeplitzKey::default();
        for frame in [
            Frame::tcp(src, dst, 40_000, 80),
            Frame::udp(src, dst, 5_353, 53),
            Frame::udp(src, dst, 5_353, 53).payload_len(8).fragment(0, true),
            Frame::echo_request(src, dst, 0x1234, 1),
            Frame::echo_reply(src, dst, 0x1234, 1),
            Frame::ip(src, dst, Proto::GRE).payload_len(8),
        ] {
            let bytes = frame.bytes();
            let desc = crate::parse(&bytes, bytes.len()).unwrap();
            assert_eq!(key.flow_hash(&desc.key), key.steering_hash(&desc.key, desc.kind), "{desc:?}");
        }
    }

    fn flow() -> impl Strategy<Value = FlowKey> {
        let v4 = (any::<[u8; 4]>(), any::<[u8; 4]>(), any::<u16>(), any::<u16>())
            .prop_map(|(s, d, sp, dp)| FlowKey::v4(s, d, Proto::TCP, sp, dp));
        let v6 = (any::<[u8; 16]>(), any::<[u8; 16]>(), any::<u16>(), any::<u16>())
            .prop_map(|(s, d, sp, dp)| FlowKey::v6(s, d, Proto::TCP, sp, dp));
        prop_oneof![v4, v6]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..Default::default() })]

        #[test]
        fn hash_equals_the_definition_and_is_symmetric(flow in flow(), word in any::<u16>()) {
            // An odd number of ones: set the last bit so.
            let key = ToeplitzKey::new(word).or(ToeplitzKey::new(word ^ 1)).unwrap();
            let bytes = key.key_bytes();
            for kind in [Kind::Tcp, Kind::Udp, Kind::OtherIp, Kind::EchoRequest, Kind::Fragment] {
                let with_ports = matches!(kind, Kind::Tcp | Kind::Udp);
                let hash = key.steering_hash(&flow, kind);
                prop_assert_eq!(hash, reference(&bytes, &tuple(&flow, with_ports)));
                prop_assert_eq!(hash, key.steering_hash(&flow.reversed(), kind));
            }
        }

        #[test]
        fn a_port_can_be_solved_for_any_bucket(flow in flow(), target in 0u8..128) {
            let key = ToeplitzKey::default();
            let port = (1024..=u16::MAX).find(|port| {
                let tail = flow.tail & !0xffff | u64::from(*port);
                bucket(key.steering_hash(&FlowKey { tail, ..flow }, Kind::Tcp)) == target
            });
            prop_assert!(port.is_some());
        }
    }
}
