//! Round trips, arbitrary bytes, mutations, a later release's records, and the size of what is common.

use proptest::collection::vec;
use proptest::prelude::*;

use super::arbitrary::{record, shared};
use super::*;
use crate::ids::Term;

fn established() -> Session {
    Session {
        key: Key {
            tuple: Tuple { addresses: Addresses::V4([[10, 1, 0, 10], [10, 2, 0, 10]]), ports: [40_000, 443] },
            proto: TCP,
            vrf: 0,
        },
        reply: None,
        version: Version::new(Term::new(6).unwrap(), 1_234_567),
        group: GroupId(0),
        rule: RuleRef { id: 0xdead_beef, generation: 9 },
        zones: [0, 1],
        remaining: Lifetime::from_ms(7_440_000),
        state: State::Tcp(TcpSnapshot {
            state: 3,
            flags: 0x30f,
            halves: [
                TcpHalf { end: 1_000, max_end: 1_000 + (502 << 7), ack: 77_000, max_window: 229, scale: 7 },
                TcpHalf { end: 77_000, max_end: 77_000 + (229 << 7), ack: 1_000, max_window: 502, scale: 7 },
            ],
            mark: None,
            idle: false,
        }),
        two_way: false,
        age_s: None,
        counters: None,
    }
}

fn same() -> Shared {
    Shared { term: Term::new(6).unwrap(), generation: 9, group: GroupId(0) }
}

fn encode(records: &[Record], shared: Shared) -> Vec<u8> {
    let mut buf = vec![0; 65_536];
    let mut writer = RecordWriter::new(&mut buf, shared);
    for record in records {
        assert!(writer.push(record));
    }
    let used = writer.len();
    buf.truncate(used);
    buf
}

fn decode(bytes: &[u8], shared: Shared) -> (Vec<Record>, Skipped) {
    let mut records = Records::new(bytes, shared);
    let found = records.by_ref().collect();
    (found, records.skipped())
}

#[test]
fn what_is_common_takes_the_bytes_that_the_budget_gives_it() {
    let tcp = established();
    let udp = Session { key: Key { proto: 17, ..tcp.key }, state: State::Flow(1), ..tcp };
    assert_eq!(encode(&[Record::Session(tcp)], same()).len(), 3 + 51);
    assert_eq!(encode(&[Record::Session(udp)], same()).len(), 3 + 30);
    let delete = Delete { key: tcp.key, version: tcp.version, group: tcp.group, exact: false };
    assert_eq!(encode(&[Record::Delete(delete)], same()).len(), 3 + 21);
    // The second of a kind needs no run of its own; another term, generation and group are paid for.
    assert_eq!(encode(&[Record::Session(tcp), Record::Session(tcp)], same()).len(), 3 + 2 * 51);
    let strange = Shared { group: GroupId(1), ..Shared::default() };
    assert_eq!(encode(&[Record::Session(tcp)], strange).len(), 3 + 51 + 4 + 2 + 1);
}

#[test]
fn a_busy_connection_keeps_its_exact_numbers() {
    let mut busy = established();
    if let State::Tcp(tcp) = &mut busy.state {
        tcp.halves[1].end = tcp.halves[1].end.wrapping_add(3_000_000);
        tcp.halves[0].max_end += 5;
    }
    let bytes = encode(&[Record::Session(busy)], same());
    assert_eq!(bytes.len(), 3 + 51 + 16);
    assert_eq!(decode(&bytes, same()), (vec![Record::Session(busy)], Skipped::default()));
}

#[test]
fn a_full_buffer_takes_nothing_more_and_stays_readable() {
    let record = Record::Session(established());
    let mut buf = [0xaa; 3 + 51 + 50];
    let mut writer = RecordWriter::new(&mut buf, same());
    assert!(writer.push(&record));
    assert!(!writer.push(&record));
    assert!(!writer.push_raw(200, &[0; 48]));
    assert!(!writer.push_raw(200, &[0; 256]));
    assert!(writer.push_raw(200, &[0; 47]));
    assert_eq!((writer.len(), writer.records(), writer.is_empty()), (104, 2, false));
    assert_eq!(decode(&buf, same()), (vec![record], Skipped { unknown: 1, ..Skipped::default() }));
}

#[test]
fn a_run_ends_at_255_and_the_next_one_begins() {
    let records = vec![Record::Session(established()); 600];
    let bytes = encode(&records, same());
    assert_eq!(bytes.len(), 600 * 51 + 3 * 3);
    assert_eq!(decode(&bytes, same()), (records, Skipped::default()));
}

#[test]
fn a_reply_of_the_other_family_is_not_written() {
    let mut session = established();
    session.reply = Some(Tuple { addresses: Addresses::V6([[1; 16]; 2]), ports: [1, 2] });
    let bytes = encode(&[Record::Session(session)], same());
    session.reply = None;
    assert_eq!(decode(&bytes, same()).0, [Record::Session(session)]);
}

/// what a later release may do to a record, this one reads past.
#[test]
fn x18_a_later_releases_records_are_read_as_far_as_they_are_known() {
    let record = Record::Session(established());
    let body = &encode(&[record], same())[3..];
    let mut later = body.to_vec();
    later[1] |= 0x80; // flag bit 15, unknown here, announces a part that is appended
    later.extend([1, 2, 3, 4, 5]);
    let mut buf = [0; 512];
    let mut writer = RecordWriter::new(&mut buf, same());
    assert!(writer.push_raw(kinds::TCP, &later));
    assert!(writer.push_raw(63, &[9; 40])); // a kind that is not known
    assert!(writer.push_raw(63, &[9; 40]));
    assert!(writer.push_raw(63, &[])); // an empty body is one too
    assert!(writer.push_raw(kinds::TCP, body));
    let used = writer.len();
    assert_eq!(
        decode(&buf[..used], same()),
        (vec![record, record], Skipped { unknown: 3, malformed: 0, torn: 0 })
    );
}

#[test]
fn short_bodies_and_cut_runs_are_counted_and_the_rest_is_read() {
    let record = Record::Session(established());
    let body = &encode(&[record], same())[3..];
    let mut buf = [0; 512];
    let mut writer = RecordWriter::new(&mut buf, same());
    assert!(writer.push_raw(kinds::TCP, &body[..50])); // one byte short
    let mut announces = body.to_vec();
    announces[0] |= 1 << 1; // a reply that is not there
    assert!(writer.push_raw(kinds::TCP, &announces));
    let mut term = body.to_vec();
    term[0] |= 1 << 2;
    term.extend((1_u32 << 20).to_le_bytes()); // a term beyond 20 bits
    assert!(writer.push_raw(kinds::TCP, &term));
    assert!(writer.push(&record));
    let used = writer.len();
    assert_eq!(decode(&buf[..used], same()), (vec![record], Skipped { malformed: 3, ..Skipped::default() }));
    // Cut anywhere in the last body: that one is lost, those before it are not.
    let (found, skipped) = decode(&buf[..used - 1], same());
    assert_eq!((found.len(), skipped), (0, Skipped { malformed: 3, torn: 1, unknown: 0 }));
}

#[test]
fn a_run_of_nothing_costs_its_header_and_no_time() {
    let bytes = [1, 0, 0].repeat(1_000);
    assert_eq!(decode(&bytes, same()), (vec![], Skipped::default()));
    // The worst that few bytes can ask for: 255 empty bodies a run.
    let bytes = [1, 0, 255].repeat(100);
    assert_eq!(decode(&bytes, same()), (vec![], Skipped { malformed: 25_500, ..Skipped::default() }));
}

#[test]
fn a_digest_sees_state_and_nothing_that_runs() {
    let bytes = |session: Session| Canonical::of(&Record::Session(session)).as_bytes().to_vec();
    let base = established();
    let running = Session {
        remaining: Lifetime::from_ms(1),
        age_s: Some(3),
        two_way: true,
        counters: Some(Counters { bytes: [1, 2], packets: [3, 4] }),
        ..base
    };
    assert_eq!(bytes(running), bytes(base));
    let State::Tcp(mut tcp) = base.state else { unreachable!("it is TCP") };
    tcp.halves[1].ack += 1;
    for other in [
        Session { version: Version(base.version.0 + 1), ..base },
        Session { group: GroupId(1), ..base },
        Session { zones: [0, 2], ..base },
        Session { rule: RuleRef { generation: 8, ..base.rule }, ..base },
        Session { key: Key { vrf: 1, ..base.key }, ..base },
        Session { reply: Some(base.key.tuple), ..base },
        Session { state: State::Tcp(tcp), ..base },
    ] {
        assert_ne!(bytes(other), bytes(base), "{other:?}");
    }
}

proptest! {
    /// Longest records of all: the body under construction never overflows.
    #[test]
    fn every_record_has_canonical_bytes(record in record()) {
        let bytes = Canonical::of(&record).as_bytes().to_vec();
        let run = Run { kind: bytes[0], body: &bytes[1..] };
        let read = Record::decode(run, &Shared::default());
        prop_assert_eq!(read.map(|read| *read.key()), Some(*record.key()));
    }

    #[test]
    fn records_come_back_as_they_went(records in vec(record(), 0..20), shared in shared()) {
        let bytes = encode(&records, shared);
        prop_assert_eq!(decode(&bytes, shared), (records, Skipped::default()));
    }

    #[test]
    fn appended_parts_are_cut(record in record(), shared in shared(), tail in vec(any::<u8>(), 0..30)) {
        let bytes = encode(&[record], shared);
        let body = [&bytes[3..], &tail].concat();
        let run = Run { kind: bytes[0], body: &body };
        prop_assert_eq!(Record::decode(run, &shared), Some(record));
    }

    #[test]
    fn no_prefix_of_a_body_is_taken_for_it(record in record(), shared in shared(), cut in any::<prop::sample::Index>()) {
        let bytes = encode(&[record], shared);
        let body = &bytes[3..];
        let run = Run { kind: bytes[0], body: &body[..cut.index(body.len())] };
        prop_assert_eq!(Record::decode(run, &shared), None);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..300), shared in shared()) {
        let (found, skipped) = decode(&bytes, shared);
        let seen = found.len() as u32 + skipped.unknown + skipped.malformed;
        prop_assert!(seen <= (bytes.len() as u32 / 3) * 255);
    }

    /// What is read from damaged bytes can be written again and reads the same: no decoder state leaks
    /// between records, and no value is out of the range that the types promise.
    #[test]
    fn a_mutation_yields_records_that_are_still_records(
        records in vec(record(), 1..6),
        shared in shared(),
        flips in vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut bytes = encode(&records, shared);
        let len = bytes.len();
        for (at, xor) in flips {
            bytes[at.index(len)] ^= xor;
        }
        let (found, _) = decode(&bytes, shared);
        let again = encode(&found, shared);
        prop_assert_eq!(decode(&again, shared), (found, Skipped::default()));
    }
}
