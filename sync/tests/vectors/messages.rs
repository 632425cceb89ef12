//! What each message looks like, and that it is read back as what it was.

use sync::datagram::{Ack, HEADER, Header, Kind, Prefix, Probe, ProbeStep, Purpose, TAG, VERSION};
use sync::ids::{GroupId, Incarnation, Micros, NodeId, PairId, PathId, Seq, Term, Version};
use sync::keys::{Entropy, Identity, Keys, SecretKey, Timing};
use sync::record::{
    Addresses, Counters, Delete, Key, Lifetime, Mention, Record, RecordWriter, Records, RuleRef, Session,
    Shared, Skipped, State, TcpHalf, TcpSnapshot, Tuple,
};
use sync::seal::{Opener, Root, Sealer};

use super::Vectors;

const SHARED: Shared = Shared { term: term(6), generation: 9, group: GroupId(0) };

const fn term(term: u32) -> Term {
    match Term::new(term) {
        Some(term) => term,
        None => Term::MAX,
    }
}

fn version() -> Version {
    Version::new(term(6), 0x0123_4567_89ab)
}

fn v4() -> Tuple {
    Tuple { addresses: Addresses::V4([[10, 1, 0, 10], [10, 2, 0, 20]]), ports: [40_000, 443] }
}

fn v6() -> Tuple {
    let address = |last| {
        let mut address = [0; 16];
        (address[0], address[1], address[15]) = (0xfd, 0x01, last);
        address
    };
    Tuple { addresses: Addresses::V6([address(1), address(2)]), ports: [40_000, 53] }
}

pub fn tcp4() -> Session {
    let half = |end, peer: u32, window, scale| TcpHalf {
        end,
        max_end: end + (502 << 7),
        ack: peer,
        max_window: window,
        scale,
    };
    Session {
        key: Key { tuple: v4(), proto: 6, vrf: 0 },
        reply: None,
        version: version(),
        group: GroupId(0),
        rule: RuleRef { id: 0xdead_beef, generation: 9 },
        zones: [0, 1],
        remaining: Lifetime::from_ms(7_440_000),
        state: State::Tcp(TcpSnapshot {
            state: 3,
            flags: 0x30f,
            halves: [half(0x0100_0000, 0x0200_0000, 502, 7), half(0x0200_0000, 0x0100_0000, 502, 7)],
            mark: None,
            idle: false,
        }),
        two_way: false,
        age_s: None,
        counters: None,
    }
}

pub fn udp4() -> Session {
    let key = Key { proto: 17, ..tcp4().key };
    Session { key, remaining: Lifetime::from_ms(120_000), state: State::Flow(1), ..tcp4() }
}

/// Everything that a session may have.
fn everything(tuple: Tuple) -> Session {
    let busy = TcpSnapshot {
        state: 4,
        flags: 0xabc,
        halves: [
            TcpHalf { end: 1, max_end: 0x8000_0001, ack: 0xffff_0000, max_window: 3, scale: 14 },
            TcpHalf { end: 0xffff_ffff, max_end: 5, ack: 7, max_window: 0xffff, scale: 0 },
        ],
        mark: Some((0x1122_3344, 15)),
        idle: true,
    };
    Session {
        key: Key { tuple, proto: 6, vrf: 3 },
        reply: Some(Tuple { ports: [443, 50_000], ..tuple.reversed() }),
        version: Version::new(term(5), 77),
        group: GroupId(2),
        rule: RuleRef { id: 0xdead_beef, generation: 8 },
        zones: [0, 255],
        state: State::Tcp(busy),
        two_way: true,
        age_s: Some(86_400),
        counters: Some(Counters { bytes: [0x0102_0304_0506, 7], packets: [8, 0xffff_ffff] }),
        ..tcp4()
    }
}

fn records() -> [(&'static str, Record); 9] {
    let delete = Delete { key: tcp4().key, version: version(), group: GroupId(0), exact: false };
    let named = Key { tuple: v6(), proto: 58, vrf: 1 };
    [
        ("tcp4", Record::Session(tcp4())),
        ("udp4", Record::Session(udp4())),
        ("udp6", Record::Session(Session { key: Key { tuple: v6(), ..udp4().key }, ..udp4() })),
        ("tcp4-everything", Record::Session(everything(v4()))),
        ("tcp6-everything", Record::Session(everything(v6()))),
        ("delete4", Record::Delete(delete)),
        (
            "delete6-exact",
            Record::Delete(Delete { key: named, version: Version::new(term(1), 2), exact: true, ..delete }),
        ),
        ("mention4", Record::Mention(Mention { key: udp4().key, version: version(), group: GroupId(0) })),
        ("mention6", Record::Mention(Mention { key: named, version: version(), group: GroupId(9) })),
    ]
}

fn header(kind: Kind) -> Header {
    Header {
        version: VERSION,
        kind,
        pair: PairId(7),
        sender: NodeId(1),
        path: PathId(2),
        incarnation: Incarnation(0x1122_3344_5566_7788),
        key_id: 0x0a0b,
        counter: 0,
    }
}

fn root() -> Root {
    Root::new(b"the salt of the vectors", b"the secret of the vectors")
}

fn opened(datagram: &[u8]) -> (Header, Vec<u8>) {
    let mut datagram = datagram.to_vec();
    let header = Header::read(&datagram).expect("a header");
    let mut opener = Opener::new(&root(), header.sender, header.kind.purpose(), header.path);
    let body = opener.open(&header, &mut datagram).expect("an authentic datagram");
    (header, body.to_vec())
}

#[test]
fn x18_every_message_of_version_1_is_what_it_was() {
    let mut vectors = Vectors::open("v1.txt");
    for (name, record) in records() {
        let mut buf = [0; 256];
        let mut writer = RecordWriter::new(&mut buf, SHARED);
        assert!(writer.push(&record));
        let used = writer.len();
        vectors.check(name, &buf[..used]);
        let mut read = Records::new(&buf[..used], SHARED);
        assert_eq!((read.next(), read.next(), read.skipped()), (Some(record), None, Skipped::default()));
    }

    let mut body = vec![0; 256];
    let prefix =
        Prefix { seq: Seq(0x0102_0304_0506_0708), floor: Seq(0x0102_0304_0506_0700), shared: SHARED };
    prefix.write(&mut body).expect("room");
    vectors.check("prefix", &body[..Prefix::LEN]);
    assert_eq!(Prefix::read(&body[..Prefix::LEN]), Ok((prefix, &[][..])));

    let ack =
        Ack { cumulative: Seq(0x1_0000_0001), window: 4_096, bitmap: &[1, 2, 128], runs: &[64, 1, 1, 5] };
    let used = ack.write(&mut body).expect("room");
    vectors.check("ack", &body[..used]);
    assert_eq!(Ack::read(&body[..used]), Ok(ack));

    for (name, step) in [("probe-request", ProbeStep::Request), ("probe-reply", ProbeStep::Reply)] {
        let probe = Probe { step, token: 0x0807_0605_0403_0201 };
        probe.write(&mut body[..40]).expect("room");
        vectors.check(name, &body[..40]);
        assert_eq!(Probe::read(&body[..40]), Ok(probe));
    }
    sealed(&mut vectors);
    handshake(&mut vectors);
    vectors.finish();
}

/// Whole datagrams, one of each purpose that has derived keys.
fn sealed(vectors: &mut Vectors) {
    for (name, kind) in [("sealed-data", Kind::Data), ("sealed-heartbeat", Kind::Heartbeat)] {
        let mut datagram = [0; HEADER + 100 + TAG];
        let prefix = Prefix { seq: Seq(1), floor: Seq(1), shared: SHARED };
        let space = prefix.write(&mut datagram[HEADER..]).expect("room");
        let mut writer = RecordWriter::new(space, SHARED);
        assert!(writer.push(&Record::Session(tcp4())));
        let body_len = Prefix::LEN + writer.len();
        let mut sealer = Sealer::new(&root(), NodeId(1), kind.purpose(), PathId(2));
        let length = sealer.seal(&header(kind), &mut datagram, body_len).expect("room");
        vectors.check(name, &datagram[..length]);
        let (read, body) = opened(&datagram[..length]);
        assert_eq!(read, Header { counter: 1, ..header(kind) });
        let (_, records) = Prefix::read(&body).expect("a prefix");
        assert_eq!(Records::new(records, SHARED).collect::<Vec<_>>(), [Record::Session(tcp4())]);
    }
    assert_ne!(Purpose::Traffic, Purpose::Heartbeat);
}

/// Gives the same bytes each time: the vectors' ephemeral keys.
struct Fixed(u8);

impl Entropy for Fixed {
    fn draw(&mut self) -> [u8; 32] {
        [self.0; 32]
    }
}

fn machine(me: u8, peer: u8) -> Keys {
    let id = Identity {
        pair: PairId(7),
        me: NodeId(me),
        peer: NodeId(peer),
        incarnation: Incarnation(0x1000 + u64::from(me)),
        secret: SecretKey::from_random([me; 32]),
        partner: SecretKey::from_random([peer; 32]).public(),
        paths: 1,
    };
    Keys::new(id, Timing::default(), Box::new(Fixed(0x40 + me)), Micros(0))
}

/// The handshake as it goes over the wire, from the first announcement to the last confirmation.
fn handshake(vectors: &mut Vectors) {
    let (mut low, mut high) = (machine(1, 2), machine(2, 1));
    let mut message = |from: &mut Keys, to: &mut Keys, name: &str| {
        let mut datagram = [0; 256];
        let (path, length) = from.poll_transmit(Micros(0), &mut datagram).expect(name);
        vectors.check(name, &datagram[..length]);
        assert_eq!(to.handle(Micros(0), path, &mut datagram[..length]), Ok(None), "{name}");
    };
    message(&mut high, &mut low, "handshake-hello-ask");
    message(&mut low, &mut high, "handshake-hello");
    message(&mut low, &mut high, "handshake-first");
    message(&mut high, &mut low, "handshake-second");
    message(&mut low, &mut high, "confirm-ask");
    message(&mut high, &mut low, "confirm-answer");
    message(&mut low, &mut high, "confirm-done");
    assert_eq!(low.poll_transmit(Micros(0), &mut [0; 256]), None);
    assert!([low, high].iter().all(|node| node.status(Micros(0)).is_some_and(|s| s.key_id == 1 && !s.busy)));
}

/// a datagram as a release after this one might send it. Wire version 2 that needs a reader of
/// version 1; a longer prefix; a TCP record with an appended part behind an unknown flag; a run of an
/// unknown kind; a record of ours behind it.
#[test]
fn x18_a_later_release_is_understood() {
    let mut vectors = Vectors::open("later.txt");
    let datagram = vectors.take("data-version-2");
    let (header, body) = opened(&datagram);
    assert_eq!((header.version, header.kind), (2, Kind::Data));
    let (prefix, records) = Prefix::read(&body).expect("a prefix");
    assert_eq!(prefix, Prefix { seq: Seq(5), floor: Seq(3), shared: SHARED });
    let mut records = Records::new(records, prefix.shared);
    let found: Vec<_> = records.by_ref().collect();
    assert_eq!(found, [Record::Session(tcp4()), Record::Session(udp4())]);
    assert_eq!(records.skipped(), Skipped { unknown: 2, malformed: 0, torn: 0 });
    let mut needs_more = vectors.take("header-needs-version-2");
    needs_more.resize(HEADER + TAG, 0);
    assert_eq!(Header::read(&needs_more), Err(sync::datagram::HeaderError::Version));
    vectors.finish();
}
