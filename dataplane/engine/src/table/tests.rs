//! The shard against a model: a hash map of keys.
#![allow(clippy::unwrap_used, clippy::panic)]

use super::*;
use crate::ids::{GroupId, RuleId, ZoneId};
use crate::neighbour::NextHop;
use crate::session;
use crate::time::Ticks;
use crate::track::{Dir, FlowState, Segment, SynOptions, Timeouts, tcp};
use proptest::prelude::*;
use std::collections::HashMap;
use wire::{FlowKey, Proto, TcpFields, tcp_flags};

const BINDING: Binding = Binding { rule: RuleId(7), generation: 3, zones: [ZoneId(0), ZoneId(1)] };
const PATH: Path =
    Path { next_hops: [NextHop(5), NextHop::NONE], group: GroupId(2), flags: flags::REPLICATE };

fn shard(slots: u32, half_open_max: u32) -> Shard {
    let config = ShardConfig { half_open_max, hash_key: HashKey::new([11, 22, 33]), term: 5 };
    Shard::new(Memory::on_heap(slots).unwrap(), config, Ticks(0))
}

fn key(n: u32, v6: bool, proto: Proto) -> FlowKey {
    let [a, b, c, d] = n.to_be_bytes();
    if v6 {
        FlowKey::v6([0xfd; 16], [0xfd, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, a, b, c, d], proto, n as u16, 80)
    } else {
        FlowKey::v4([10, b, c, d], [192, 168, a, 1], proto, n as u16, 80)
    }
}

fn create(shard: &mut Shard, key: FlowKey, now: Ticks) -> Result<Slot, TableFull> {
    let keys = [key, key.reversed()];
    let hashes = [shard.hash(&keys[0]), shard.hash(&keys[1])];
    let state = if key.proto() == Proto::TCP {
        let fields = TcpFields { seq: 1, flags: tcp_flags::SYN, header_len: 20, ..TcpFields::default() };
        tcp::open(&Segment { fields, options: SynOptions::default() }).unwrap().pack().1
    } else {
        FlowState::New.bits().into()
    };
    let new = NewSession {
        keys: &keys,
        hashes,
        binding: BINDING,
        path: PATH,
        windows: [0; 4],
        state,
        first_len: 60,
        half_open: key.proto() == Proto::TCP,
        next_check: session::deadline(key.proto(), state, now, &Timeouts::default()),
        of_age: now,
    };
    shard.create(&new, now)
}

fn find(shard: &Shard, key: &FlowKey) -> Option<(Slot, Dir)> {
    shard.find(key, shard.hash(key))
}

fn age(shard: &mut Shard, now: Ticks) -> usize {
    let timeouts = Timeouts::default();
    shard.housekeep(
        now,
        |entry| {
            let life = session::life(entry, None, &timeouts);
            if now.reached(life.deadline) { Due::Expire } else { Due::Again(life) }
        },
        |_, _| {},
    )
}

#[test]
fn both_directions_find_the_session_and_the_view_tells_it_whole() {
    let mut shard = shard(1_024, 100);
    for v6 in [false, true] {
        let key = key(1, v6, Proto::UDP).with_vrf(3);
        let slot = create(&mut shard, key, Ticks(9)).unwrap();
        assert_eq!(find(&shard, &key), Some((slot, Dir::Initiator)));
        assert_eq!(find(&shard, &key.reversed()), Some((slot, Dir::Responder)));
        assert_eq!(find(&shard, &key.with_vrf(4)), None, "another VRF");
        let view = shard.reader().read(slot).unwrap();
        assert_eq!(view.keys, [key, key.reversed()]);
        assert_eq!((view.binding, view.path, view.last_seen), (BINDING, PATH, Ticks(9)));
        assert_eq!(view.version >> 44, 5, "the term");
        assert_eq!((view.bytes, view.packets), ([60, 0], [1, 0]));
    }
    assert_eq!(shard.population().in_use, [0, 2, 0, 0]);
}

#[test]
fn counters_count_by_direction() {
    let mut shard = shard(16, 4);
    let slot = create(&mut shard, key(1, false, Proto::UDP), Ticks(0)).unwrap();
    let entry = shard.entry(slot).unwrap();
    for (dir, len, times) in [(Dir::Initiator, 100, 3), (Dir::Responder, 1_500, 2)] {
        for _ in 0..times {
            let mut hot = entry.hot();
            hot.state = 0x8765_4321;
            hot.count(dir, len);
            entry.store_counted(&hot, Ticks(77));
        }
    }
    let view = shard.reader().read(slot).unwrap();
    assert_eq!((view.bytes, view.packets), ([360, 3_000], [4, 2]));
    assert_eq!((view.state, view.last_seen), (0x8765_4321, Ticks(77)));
}

/// Decision 17: a tuple that is created again is newer than it ever was.
#[test]
fn a_reused_tuple_is_newer() {
    let mut shard = shard(16, 4);
    let key = key(1, false, Proto::UDP);
    let slot = create(&mut shard, key, Ticks(0)).unwrap();
    for _ in 0..50 {
        shard.changed(slot, true);
    }
    let old = shard.reader().read(slot).unwrap().version;
    assert!(shard.terminate(slot, Ticks(1)) && !shard.terminate(slot, Ticks(1)));
    assert_eq!(find(&shard, &key), None);
    let slot = create(&mut shard, key, Ticks(2)).unwrap();
    assert!(shard.reader().read(slot).unwrap().version > old);
}

#[test]
fn a_shard_fills_to_its_last_slot_and_refuses_then() {
    let mut shard = shard(50_000, 10);
    for n in 0..50_000 {
        create(&mut shard, key(n, n % 3 == 0, Proto::UDP), Ticks(0))
            .unwrap_or_else(|_| panic!("session {n}"));
    }
    assert_eq!(create(&mut shard, key(50_000, false, Proto::UDP), Ticks(0)), Err(TableFull));
    for n in (0..50_000).step_by(7) {
        let key = key(n, n % 3 == 0, Proto::UDP);
        assert!(find(&shard, &key).is_some() && find(&shard, &key.reversed()).is_some(), "session {n}");
    }
}

#[test]
fn memory_per_session_stays_within_the_budget() {
    let per_session = Memory::bytes(1 << 20) as f64 / f64::from(1 << 20);
    assert!((156.0..157.0).contains(&per_session), "{per_session} bytes; docs say 156.1");
}

#[test]
fn idle_sessions_expire_and_their_slots_serve_again() {
    let mut shard = shard(2_000, 10);
    for n in 0..2_000 {
        create(&mut shard, key(n, false, Proto::UDP), Ticks(0)).unwrap();
    }
    let mut gone = 0;
    for now in (0..29_000).step_by(50) {
        gone += age(&mut shard, Ticks(now));
    }
    assert_eq!(gone, 0, "nobody leaves early");
    for now in (29_000..32_500).step_by(50) {
        gone += age(&mut shard, Ticks(now));
    }
    assert_eq!((gone, shard.population().in_use), (2_000, [0; 4]));
    for n in 0..2_000 {
        create(&mut shard, key(n + 9_000, false, Proto::UDP), Ticks(40_000)).unwrap();
    }
}

#[test]
fn a_session_in_use_is_looked_at_again_later() {
    let mut shard = shard(64, 10);
    let key = key(1, false, Proto::UDP);
    let slot = create(&mut shard, key, Ticks(0)).unwrap();
    let entry = shard.entry(slot).unwrap();
    for now in (0..100_000).step_by(50) {
        entry.store_counted(&entry.hot(), Ticks(now));
        age(&mut shard, Ticks(now));
    }
    assert!(find(&shard, &key).is_some());
    for now in (100_000..131_500).step_by(50) {
        age(&mut shard, Ticks(now));
    }
    assert!(find(&shard, &key).is_none());
}

#[test]
fn b_20_a_flood_of_syns_pushes_out_only_half_open_sessions() {
    let mut shard = shard(1_000, 200);
    for n in 0..500 {
        create(&mut shard, key(n, false, Proto::UDP), Ticks(0)).unwrap();
    }
    for n in 1_000..5_000 {
        create(&mut shard, key(n, false, Proto::TCP), Ticks(1)).unwrap();
        if n % 32 == 0 {
            age(&mut shard, Ticks(1));
        }
    }
    age(&mut shard, Ticks(1));
    let population = shard.population();
    assert_eq!((population.in_use[Class::Udp as usize], population.half_open), (500, 200));
    assert_eq!(population.in_use[Class::Tcp as usize], 200);
    assert!((0..500).all(|n| find(&shard, &key(n, false, Proto::UDP)).is_some()));
    assert!((4_800..5_000).all(|n| find(&shard, &key(n, false, Proto::TCP)).is_some()), "the youngest stay");
}

#[test]
fn a_full_table_evicts_half_open_sessions_and_never_others() {
    let mut shard = shard(256, 256);
    for n in 0..200 {
        create(&mut shard, key(n, false, Proto::UDP), Ticks(0)).unwrap();
    }
    let mut refused = 0;
    for n in 1_000..2_000 {
        let proto = if n % 2 == 0 { Proto::TCP } else { Proto::UDP };
        refused += usize::from(create(&mut shard, key(n, false, proto), Ticks(0)).is_err());
        age(&mut shard, Ticks(0));
    }
    assert!(refused > 0, "a table full of others refuses");
    assert!((0..200).all(|n| find(&shard, &key(n, false, Proto::UDP)).is_some()));
    assert_eq!(shard.population().half_open, shard.population().in_use[Class::Tcp as usize]);
}

#[test]
fn changes_are_announced_once_and_local_sessions_never() {
    let mut shard = shard(64, 10);
    let (flags_seen, mut ring) = shard.track_changes();
    let slot = create(&mut shard, key(1, false, Proto::UDP), Ticks(0)).unwrap();
    shard.announce(slot);
    shard.changed(slot, true);
    shard.tell_changes();
    assert_eq!((ring.pop().ok(), ring.pop().ok()), (Some(slot.0), None));
    flags_seen.take(slot.0);
    shard.changed(slot, false);
    shard.tell_changes();
    assert_eq!(ring.pop().ok(), None, "a handshake is not announced");
    for hidden in [0, flags::REPLICATE | flags::YOUNG] {
        shard.entry(slot).unwrap().update(|e| e.path(Path { flags: hidden, ..PATH }));
        shard.changed(slot, true);
        shard.tell_changes();
        assert_eq!(ring.pop().ok(), None);
    }
}

#[derive(Clone, Debug)]
enum Op {
    Create(u32),
    End(u32),
    Find(u32),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0..400_u32).prop_map(Op::Create),
        2 => (0..400_u32).prop_map(Op::End),
        2 => (0..400_u32).prop_map(Op::Find),
    ]
}

proptest! {
    /// Any sequence of creations and ends leaves exactly what a map would hold.
    #[test]
    fn the_table_behaves_like_a_map(ops in proptest::collection::vec(op(), 1..1_500), seed in any::<[u64; 3]>()) {
        let config = ShardConfig { half_open_max: 64, hash_key: HashKey::new(seed), term: 0 };
        let mut shard = Shard::new(Memory::on_heap(256).unwrap(), config, Ticks(0));
        let mut model = HashMap::new();
        for op in ops {
            match op {
                Op::Create(n) => {
                    let key = key(n, n % 2 == 0, Proto::UDP);
                    if find(&shard, &key).is_none() {
                        match create(&mut shard, key, Ticks(0)) {
                            Ok(slot) => prop_assert_eq!(model.insert(n, slot), None),
                            Err(TableFull) => prop_assert_eq!(model.len(), 256),
                        }
                    }
                }
                Op::End(n) => {
                    if let Some(slot) = model.remove(&n) {
                        prop_assert!(shard.terminate(slot, Ticks(0)));
                    }
                }
                Op::Find(n) => {
                    let key = key(n, n % 2 == 0, Proto::UDP);
                    prop_assert_eq!(find(&shard, &key), model.get(&n).map(|slot| (*slot, Dir::Initiator)));
                    prop_assert_eq!(find(&shard, &key.reversed()), model.get(&n).map(|slot| (*slot, Dir::Responder)));
                }
            }
            prop_assert_eq!(shard.population().in_use[Class::Udp as usize] as usize, model.len());
        }
        let in_use = (0..shard.slots()).filter(|slot| shard.reader().read(Slot(*slot)).is_some()).count();
        prop_assert_eq!(in_use, model.len());
    }
}
