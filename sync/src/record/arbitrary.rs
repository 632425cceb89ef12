//! Records of all shapes, for property tests of this crate.

use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::ids::Term;

pub fn tuple(v6: bool) -> BoxedStrategy<Tuple> {
    if v6 {
        any::<([[u8; 16]; 2], [u16; 2])>()
            .prop_map(|(a, ports)| Tuple { addresses: Addresses::V6(a), ports })
            .boxed()
    } else {
        any::<([[u8; 4]; 2], [u16; 2])>()
            .prop_map(|(a, ports)| Tuple { addresses: Addresses::V4(a), ports })
            .boxed()
    }
}

pub fn version() -> impl Strategy<Value = Version> {
    (0..=Term::MAX.get(), any::<u64>()).prop_map(|(term, counter)| {
        // Few terms are frequent: those that a datagram shares.
        let term = if counter & 1 == 0 { term & 3 } else { term };
        Version::new(Term::new(term).unwrap(), counter)
    })
}

pub fn group() -> impl Strategy<Value = GroupId> {
    prop_oneof![Just(GroupId(0)), any::<u8>().prop_map(GroupId)]
}

fn half() -> impl Strategy<Value = TcpHalf> {
    (any::<u32>(), any::<u32>(), any::<u32>(), any::<u16>(), 0_u8..16)
        .prop_map(|(end, max_end, ack, max_window, scale)| TcpHalf { end, max_end, ack, max_window, scale })
}

prop_compose! {
    /// Both halves anywhere, or as two ends that talk to each other.
    fn halves()(
        mut halves in [half(), half()],
        near: bool,
        lag in any::<[u16; 2]>(),
        room in any::<[u16; 2]>(),
    ) -> [TcpHalf; 2] {
        if near {
            for (own, peer) in [(0, 1), (1, 0)] {
                halves[own].ack = halves[peer].end.wrapping_sub(u32::from(lag[own]));
            }
            for (own, peer) in [(0, 1), (1, 0)] {
                let room = u32::from(room[own]) << halves[peer].scale;
                halves[own].max_end = halves[peer].ack.wrapping_add(room);
            }
        }
        halves
    }
}

fn state() -> impl Strategy<Value = State> {
    let mark = option::of((any::<u32>(), 0_u8..16));
    prop_oneof![
        any::<u8>().prop_map(State::Flow),
        (0_u8..16, 0_u16..4096, halves(), mark, any::<bool>()).prop_map(
            |(state, flags, halves, mark, idle)| State::Tcp(TcpSnapshot { state, flags, halves, mark, idle })
        ),
    ]
}

fn key(v6: bool) -> impl Strategy<Value = Key> {
    (tuple(v6), any::<u8>(), prop_oneof![Just(0), any::<u8>()]).prop_map(|(tuple, proto, vrf)| Key {
        tuple,
        proto,
        vrf,
    })
}

fn counters() -> impl Strategy<Value = Counters> {
    ([0_u64..1 << 48, 0_u64..1 << 48], any::<[u32; 2]>())
        .prop_map(|(bytes, packets)| Counters { bytes, packets })
}

pub fn session() -> impl Strategy<Value = Session> {
    any::<bool>().prop_flat_map(|v6| {
        let fixed = (key(v6), option::of(tuple(v6)), version(), group(), any::<(u32, u16)>());
        let rest = (
            any::<[u8; 2]>(),
            0_u64..200_000_000,
            state(),
            any::<bool>(),
            option::of(any::<u32>()),
            option::of(counters()),
        );
        (fixed, rest).prop_map(|((mut key, reply, version, group, (id, generation)), rest)| {
            let (zones, remaining_ms, state, two_way, age_s, counters) = rest;
            if matches!(state, State::Tcp(_)) {
                key.proto = TCP;
            }
            Session {
                key,
                reply,
                version,
                group,
                rule: RuleRef { id, generation: generation & 3 },
                zones,
                remaining: Lifetime::from_ms(remaining_ms),
                state,
                two_way,
                age_s,
                counters,
            }
        })
    })
}

pub fn record() -> impl Strategy<Value = Record> {
    let any_key = any::<bool>().prop_flat_map(key).boxed();
    prop_oneof![
        3 => session().prop_map(Record::Session),
        1 => (any_key.clone(), version(), group(), any::<bool>())
            .prop_map(|(key, version, group, exact)| Record::Delete(Delete { key, version, group, exact })),
        1 => (any_key, version(), group())
            .prop_map(|(key, version, group)| Record::Mention(Mention { key, version, group })),
    ]
}

pub fn shared() -> impl Strategy<Value = Shared> {
    (0_u32..4, 0_u16..4, group()).prop_map(|(term, generation, group)| Shared {
        term: Term::new(term).unwrap(),
        generation,
        group,
    })
}
