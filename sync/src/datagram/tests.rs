use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::ids::{GroupId, Seq, Term};
use crate::record::Shared;

fn header() -> Header {
    Header {
        version: VERSION,
        kind: Kind::Data,
        pair: PairId(7),
        sender: NodeId(1),
        path: PathId(2),
        incarnation: Incarnation(0x1122_3344_5566_7788),
        key_id: 0x0a0b,
        counter: 0x0102_0304_0506,
    }
}

fn datagram(header: &Header) -> Vec<u8> {
    [&header.to_wire()[..], &[0; TAG]].concat()
}

#[test]
fn a_header_comes_back_as_it_went() {
    assert_eq!(Header::read(&datagram(&header())), Ok(header()));
}

#[test]
fn what_is_wrong_with_a_header_has_a_name() {
    let whole = datagram(&header());
    let with = |at: usize, byte: u8| {
        let mut bytes = whole.clone();
        bytes[at] = byte;
        Header::read(&bytes)
    };
    assert_eq!(Header::read(&whole[..39]), Err(HeaderError::Truncated));
    assert_eq!(Header::read(&[0; MAX_DATAGRAM + 1]), Err(HeaderError::Truncated));
    assert_eq!(with(0, b'x'), Err(HeaderError::Magic));
    assert_eq!(with(2, 0), Err(HeaderError::Version));
    assert_eq!(with(3, VERSION + 1), Err(HeaderError::Version));
    assert_eq!(with(4, 0), Err(HeaderError::Kind));
}

/// a later release says so, and is understood as long as it allows it.
#[test]
fn x18_a_later_version_is_read_if_it_does_not_need_a_later_reader() {
    let later = Header { version: VERSION + 9, ..header() };
    assert_eq!(Header::read(&datagram(&later)), Ok(later));
}

#[test]
fn every_kind_survives_the_wire() {
    for wire in 0..=255 {
        if let Some(kind) = Kind::from_wire(wire) {
            assert_eq!(kind as u8, wire);
        }
    }
    assert_eq!((0..=255).filter_map(Kind::from_wire).count(), 6);
}

#[test]
fn a_prefix_of_a_later_release_may_be_longer() {
    let prefix = Prefix {
        seq: Seq(1_000),
        floor: Seq(990),
        shared: Shared { term: Term::new(5).unwrap(), generation: 7, group: GroupId(1) },
    };
    let mut body = [0; 40];
    assert_eq!(prefix.write(&mut body).map(|rest| rest.len()), Some(20));
    assert_eq!(Prefix::read(&body), Ok((prefix, &[0; 20][..])));
    body[0] = 30;
    assert_eq!(Prefix::read(&body), Ok((prefix, &[0; 10][..])));
    body[0] = 41;
    assert_eq!(Prefix::read(&body), Err(Malformed));
    body[0] = 19;
    assert_eq!(Prefix::read(&body), Err(Malformed));
    assert_eq!(Prefix::read(&body[..19]), Err(Malformed));
    assert!(prefix.write(&mut [0; 19]).is_none());
    let behind = Prefix { floor: Seq(1_001), ..prefix };
    assert!(behind.write(&mut body).is_none());
    body[0] = 20;
    body[16..20].fill(0xff); // a floor before the first number
    assert_eq!(Prefix::read(&body), Err(Malformed));
}

#[test]
fn an_ack_covers_what_it_counts_and_what_its_bits_say() {
    let ack = Ack { cumulative: Seq(100), window: 5, bitmap: &[0b0000_0101, 0x80], runs: &[] };
    let covered: Vec<u64> = (98..130).filter(|&seq| ack.covers(Seq(seq))).collect();
    assert_eq!(covered, [98, 99, 100, 101, 103, 116]);
    assert!(!ack.covers(Seq(u64::MAX)));
    let mut body = [0; 64];
    let ack = Ack { runs: &[64, 1, 1, 9], ..ack };
    let used = ack.write(&mut body).unwrap();
    assert_eq!((used, Ack::read(&body[..used])), (Ack::LEN + 2 + 4, Ok(ack)));
    assert_eq!(ack.write(&mut [0; Ack::LEN + 5]), None);
    assert_eq!(Ack { bitmap: &[0; 256], ..ack }.write(&mut [0; 512]), None);
    assert_eq!(Ack::read(&body[..Ack::LEN + 1]), Err(Malformed));
}

#[test]
fn a_probe_fills_its_datagram() {
    let probe = Probe { step: ProbeStep::Reply, token: 77 };
    let mut body = [0xff; 1_360];
    assert_eq!(probe.write(&mut body), Some(1_360));
    assert_eq!(Probe::read(&body), Ok(probe));
    assert!(body[Probe::LEN..].iter().all(|&byte| byte == 0));
    assert_eq!(Probe::read(&body[..15]), Err(Malformed));
    body[0] = 3;
    assert_eq!(Probe::read(&body), Err(Malformed));
    assert_eq!(probe.write(&mut [0; 15]), None);
}

proptest! {
    #[test]
    fn arbitrary_bodies_never_panic(bytes in vec(any::<u8>(), 0..80), seq: u64) {
        let _ = (Header::read(&bytes), Prefix::read(&bytes), Probe::read(&bytes));
        if let Ok(ack) = Ack::read(&bytes) {
            let _ = ack.covers(Seq(seq));
        }
    }
}
