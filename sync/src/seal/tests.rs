use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::datagram::{Kind, VERSION};
use crate::ids::{Incarnation, PairId};

const A: NodeId = NodeId(1);

fn header() -> Header {
    Header {
        version: VERSION,
        kind: Kind::Data,
        pair: PairId(1),
        sender: A,
        path: PathId(0),
        incarnation: Incarnation(5),
        key_id: 1,
        counter: 0,
    }
}

fn pair(root: &Root) -> (Sealer, Opener) {
    let traffic = Purpose::Traffic;
    (Sealer::new(root, A, traffic, PathId(0)), Opener::new(root, A, traffic, PathId(0)))
}

fn sealed(sealer: &mut Sealer, body: &[u8]) -> Vec<u8> {
    let mut datagram = vec![0; HEADER + body.len() + TAG];
    datagram[HEADER..][..body.len()].copy_from_slice(body);
    assert_eq!(sealer.seal(&header(), &mut datagram, body.len()), Some(datagram.len()));
    datagram
}

fn open(opener: &mut Opener, datagram: &[u8]) -> Result<Vec<u8>, Rejection> {
    let mut datagram = datagram.to_vec();
    let header = Header::read(&datagram)?;
    opener.open(&header, &mut datagram).map(|body| body.to_vec())
}

#[test]
fn b17_a_sealed_body_shows_nothing_and_opens_once() {
    let (mut sealer, mut opener) = pair(&Root::new(b"salt", b"secret"));
    let body = [0x41; 64];
    let datagram = sealed(&mut sealer, &body);
    assert!(!datagram.windows(4).any(|bytes| bytes == [0x41; 4]));
    assert_eq!(open(&mut opener, &datagram), Ok(body.to_vec()));
    assert_eq!(open(&mut opener, &datagram), Err(Rejection::Replayed));
    assert_eq!(sealer.used(), 1);
}

#[test]
fn every_bit_of_a_datagram_is_authenticated() {
    let (mut sealer, mut opener) = pair(&Root::new(b"salt", b"secret"));
    let datagram = sealed(&mut sealer, b"body");
    for bit in 0..datagram.len() * 8 {
        let mut flipped = datagram.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(open(&mut opener, &flipped).is_err(), "bit {bit}");
    }
    // Nothing of that moved the window.
    assert_eq!(open(&mut opener, &datagram), Ok(b"body".to_vec()));
}

#[test]
fn a_key_serves_one_direction_one_purpose_and_one_path() {
    let root = Root::new(b"salt", b"secret");
    let (mut sealer, _) = pair(&root);
    let datagram = sealed(&mut sealer, b"body");
    for (node, purpose, path) in [
        (NodeId(2), Purpose::Traffic, PathId(0)),
        (A, Purpose::Heartbeat, PathId(0)),
        (A, Purpose::Traffic, PathId(1)),
    ] {
        let mut other = Opener::new(&root, node, purpose, path);
        assert_eq!(open(&mut other, &datagram), Err(Rejection::Forged));
    }
    for root in [Root::new(b"other", b"secret"), Root::new(b"salt", b"other")] {
        assert_eq!(open(&mut pair(&root).1, &datagram), Err(Rejection::Forged));
    }
}

#[test]
fn a_counter_from_before_the_window_is_too_old() {
    let (mut sealer, mut opener) = pair(&Root::new(b"salt", b"secret"));
    let first = sealed(&mut sealer, b"1");
    let second = sealed(&mut sealer, b"2");
    sealer.next = ReplayWindow::SPAN + 1;
    let ahead = sealed(&mut sealer, b"3");
    assert!(open(&mut opener, &ahead).is_ok());
    assert_eq!(open(&mut opener, &first), Err(Rejection::TooOld));
    assert_eq!(open(&mut opener, &second), Ok(b"2".to_vec()));
}

#[test]
fn a_key_without_counters_left_seals_nothing() {
    let (mut sealer, _) = pair(&Root::new(b"salt", b"secret"));
    sealer.next = MAX_COUNTER;
    sealed(&mut sealer, b"last");
    assert_eq!(sealer.seal(&header(), &mut [0; 64], 0), None);
}

#[test]
fn what_does_not_fit_is_not_sealed() {
    let (mut sealer, _) = pair(&Root::new(b"salt", b"secret"));
    assert_eq!(sealer.seal(&header(), &mut [0; 64], 25), None);
    assert_eq!(sealer.seal(&header(), &mut [0; 20], 0), None);
    assert_eq!(sealer.seal(&header(), &mut [0; 64], 24), Some(64));
}

proptest! {
    #[test]
    fn arbitrary_bytes_open_nothing(bytes in vec(any::<u8>(), 0..100), real_front: bool) {
        let (mut sealer, mut opener) = pair(&Root::new(b"salt", b"secret"));
        let mut datagram = if real_front { sealed(&mut sealer, b"")[..HEADER].to_vec() } else { vec![] };
        datagram.extend(bytes);
        prop_assert!(open(&mut opener, &datagram).is_err());
    }
}
