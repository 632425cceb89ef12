//! Two machines in a room: a network that loses, reorders, duplicates, replays and reflects, from a seed.

use super::message::{Confirm, Exchange, Message};
use super::*;
use crate::datagram::{HEADER, Kind, TAG};
use crate::ids::PathId;
use crate::seal::Rejection;

/// xorshift64*: enough to choose which datagram to lose.
#[derive(Clone)]
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.roll().is_multiple_of(n)
    }
}

struct Seeded(Dice);

impl Entropy for Seeded {
    fn draw(&mut self) -> [u8; 32] {
        let mut bytes = [0; 32];
        bytes.chunks_mut(8).for_each(|chunk| chunk.copy_from_slice(&self.0.roll().to_le_bytes()));
        bytes
    }
}

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);
const PATHS: u8 = 2;

fn secret(node: NodeId) -> SecretKey {
    SecretKey::from_random([node.0; 32])
}

fn node(me: NodeId, incarnation: u64, now: Micros) -> Keys {
    let peer = if me == A { B } else { A };
    let id = Identity {
        pair: PairId(7),
        me,
        peer,
        incarnation: Incarnation(incarnation),
        secret: secret(me),
        partner: secret(peer).public(),
        paths: PATHS,
    };
    let seed = Dice(incarnation << 8 | u64::from(me.0));
    Keys::new(id, Timing::default(), Box::new(Seeded(seed)), now)
}

#[derive(Clone)]
struct Flight {
    at: Micros,
    to: usize,
    path: PathId,
    bytes: Vec<u8>,
}

/// The two nodes, what is under way between them, and everything that ever was.
struct Room {
    now: Micros,
    nodes: [Keys; 2],
    flights: Vec<Flight>,
    history: Vec<Flight>,
    dice: Dice,
    /// One in so many datagrams is lost, duplicated, replayed or reflected; 0 never.
    loss: u64,
    mischief: u64,
    events: [Vec<Event>; 2],
    received: [u64; 2],
}

impl Room {
    fn new(seed: u64) -> Self {
        let now = Micros::from_secs(1);
        Self {
            now,
            nodes: [node(A, 10, now), node(B, 20, now)],
            flights: vec![],
            history: vec![],
            dice: Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            loss: 0,
            mischief: 0,
            events: [vec![], vec![]],
            received: [0; 2],
        }
    }

    fn launch(&mut self, to: usize, path: PathId, bytes: Vec<u8>) {
        if self.loss != 0 && self.dice.one_in(self.loss) {
            return;
        }
        let jitter = if self.mischief == 0 { 0 } else { self.dice.roll() % 20_000 };
        let flight = Flight { at: self.now.after(Micros(500 + jitter)), to, path, bytes };
        self.history.push(flight.clone());
        self.flights.push(flight);
        if self.mischief != 0 && self.dice.one_in(self.mischief) {
            let again = self.dice.roll() as usize % self.history.len();
            let mut again = self.history[again].clone();
            again.at = self.now.after(Micros(self.dice.roll() % 3_000_000));
            again.to ^= usize::from(self.dice.one_in(3));
            self.flights.push(again);
        }
    }

    /// Sends what the machines want to send.
    fn pump(&mut self) {
        for from in 0..2 {
            let mut buf = [0; 256];
            while let Some((path, length)) = self.nodes[from].poll_transmit(self.now, &mut buf) {
                self.launch(1 - from, path, buf[..length].to_vec());
            }
            while let Some(event) = self.nodes[from].poll_event() {
                self.events[from].push(event);
            }
        }
    }

    /// Delivers what is due; the earliest first.
    fn deliver(&mut self) {
        self.flights.sort_by_key(|flight| flight.at);
        while self.flights.first().is_some_and(|flight| flight.at <= self.now) {
            let Flight { to, path, mut bytes, .. } = self.flights.remove(0);
            if let Ok(Some(_)) = self.nodes[to].handle(self.now, path, &mut bytes) {
                self.received[to] += 1;
            }
            self.pump();
        }
    }

    fn run(&mut self, span: Micros) {
        let end = self.now.after(span);
        loop {
            self.pump();
            let flight = self.flights.iter().map(|flight| flight.at).min().unwrap_or(Micros::NEVER);
            let timers = self.nodes.iter().map(Keys::poll_timeout).min().unwrap_or(Micros::NEVER);
            let next = flight.min(timers).max(Micros(self.now.0 + 1));
            if next > end {
                self.now = end;
                return;
            }
            self.now = next;
            self.deliver();
        }
    }

    fn data(&mut self, from: usize, kind: Kind) -> Vec<u8> {
        let mut buf = vec![0; HEADER + 4 + TAG];
        buf[HEADER..HEADER + 4].copy_from_slice(b"data");
        let length = self.nodes[from].seal(kind, PathId(0), &mut buf, 4).expect("there are keys");
        buf.truncate(length);
        buf
    }

    fn give(&mut self, to: usize, bytes: &[u8]) -> Result<Vec<u8>, Rejection> {
        let mut bytes = bytes.to_vec();
        let incoming = self.nodes[to].handle(self.now, PathId(0), &mut bytes)?;
        Ok(incoming.map(|incoming| incoming.body.to_vec()).unwrap_or_default())
    }

    fn status(&self, node: usize) -> Status {
        self.nodes[node].status(self.now).expect("keys are established")
    }
}

fn established() -> Room {
    let mut room = Room::new(1);
    room.run(Micros::from_millis(500));
    room
}

#[test]
fn two_nodes_find_each_other_in_a_few_round_trips() {
    let mut room = Room::new(1);
    room.run(Micros::from_millis(10));
    for (node, peer) in [(0, 20), (1, 10)] {
        let incarnation = Incarnation(peer);
        assert_eq!(room.events[node], [Event::PeerConfirmed { incarnation, replaces: None }]);
        let status = room.status(node);
        assert_eq!((status.peer, status.key_id, status.renewals, status.busy), (incarnation, 1, 0, false));
    }
    for kind in [Kind::Data, Kind::Ack, Kind::Heartbeat, Kind::Probe] {
        for from in [0, 1] {
            let datagram = room.data(from, kind);
            assert_eq!(room.give(1 - from, &datagram), Ok(b"data".to_vec()));
        }
    }
    let sealed = room.nodes[0].seal(Kind::Confirm, PathId(0), &mut [0; 64], 1);
    assert_eq!(sealed, None, "confirmations are the machine's own");
    assert_eq!(room.nodes[0].seal(Kind::Data, PathId(PATHS), &mut [0; 64], 1), None);
}

#[test]
fn b18_keys_change_every_minute_and_the_old_ones_expire_after_the_overlap() {
    let mut room = established();
    let early = room.data(0, Kind::Data);
    let late = room.data(0, Kind::Data);
    let heartbeat = room.data(0, Kind::Heartbeat);
    room.run(Micros::from_secs(60));
    assert_eq!((room.status(0).key_id, room.status(1).key_id), (2, 2));
    assert_eq!(room.events[1][1..], [Event::Renewed { key_id: 2 }]);
    assert_eq!(room.give(1, &early), Ok(b"data".to_vec()), "under way during the renewal");
    room.run(Micros::from_secs(6));
    assert_eq!(room.give(1, &late), Err(Rejection::ExpiredKey));
    assert_eq!(room.give(1, &heartbeat), Ok(b"data".to_vec()), "heartbeat keys live on");
    room.run(Micros::from_secs(540));
    assert_eq!((room.status(0).renewals, room.status(1).renewals), (10, 10));
}

/// Decision 30: a renewal that fails leaves everything as it is.
#[test]
fn a_failed_renewal_leaves_the_old_keys_in_force() {
    let mut room = established();
    room.loss = 1;
    room.run(Micros::from_secs(600));
    for from in [0, 1] {
        assert_eq!(room.status(from).key_id, 1);
        for kind in [Kind::Data, Kind::Heartbeat] {
            let datagram = room.data(from, kind);
            assert_eq!(room.give(1 - from, &datagram), Ok(b"data".to_vec()));
        }
    }
    room.loss = 0;
    room.run(Micros::from_secs(6));
    assert!(room.status(0).key_id > 1);
    assert_eq!((room.status(0).renewals, room.status(1).renewals), (1, 1));
}

/// Decision 30: as long as the initiator cannot know that the responder has the new keys, it sends under
/// the old ones, and they must open, however long that takes.
#[test]
fn old_keys_live_until_their_successor_is_confirmed_both_ways() {
    // A renewal of which every answer to the initiator's confirmation is lost.
    let mut room = established();
    let end = room.now.after(Micros::from_secs(64));
    let mut buf = [0; 256];
    while room.now < end {
        room.now = room.now.after(Micros::from_millis(10));
        for from in 0..2 {
            while let Some((path, length)) = room.nodes[from].poll_transmit(room.now, &mut buf) {
                let confirm_from_responder = from == 1 && buf[4] == Kind::Confirm as u8;
                if !confirm_from_responder {
                    let _ = room.nodes[1 - from].handle(room.now, path, &mut buf[..length]);
                }
            }
        }
    }
    assert_eq!((room.status(0).key_id, room.status(1).key_id), (1, 2));
    let datagram = room.data(0, Kind::Data);
    assert_eq!(room.give(1, &datagram), Ok(b"data".to_vec()));
    // The responder's traffic under the new keys is as good as the answer.
    let datagram = room.data(1, Kind::Data);
    assert_eq!(room.give(0, &datagram), Ok(b"data".to_vec()));
    assert_eq!((room.status(0).key_id, room.status(1).key_id), (2, 2));
}

/// The responder confirmed and went over, the initiator heard nothing of it until it gave up: what comes
/// under those keys still opens, and takes them into force.
#[test]
fn keys_that_only_the_responder_took_into_force_still_open() {
    let mut room = established();
    let mut buf = [0; 256];
    room.now = room.now.after(Micros::from_secs(60));
    let renewal = room.now;
    while room.now < renewal.after(Micros::from_secs(5)) {
        for from in 0..2 {
            while let Some((path, length)) = room.nodes[from].poll_transmit(room.now, &mut buf) {
                if from == 0 || buf[4] != Kind::Confirm as u8 {
                    let _ = room.nodes[1 - from].handle(room.now, path, &mut buf[..length]);
                }
            }
        }
        room.now = room.now.after(Micros::from_millis(10));
    }
    assert_eq!((room.status(0).key_id, room.status(1).key_id), (1, 2));
    // The next attempt begins, and its first message is lost.
    let (_, length) = room.nodes[0].poll_transmit(room.now, &mut buf).expect("a new attempt");
    assert_eq!((length, buf[4]), (HEADER + Message::LEN + TAG, Kind::Handshake as u8));
    let datagram = room.data(1, Kind::Data);
    assert_eq!(room.give(0, &datagram), Ok(b"data".to_vec()));
    assert_eq!((room.status(0).key_id, room.status(1).key_id), (2, 2));
}

/// Decision 31: an incarnation takes effect with the key confirmation, and the old one never returns.
#[test]
fn b26_a_restarted_node_is_known_as_such_once_it_has_proven_itself() {
    for restarted in [0, 1] {
        let mut room = established();
        let old_data = room.data(restarted, Kind::Data);
        let old_beat = room.data(restarted, Kind::Heartbeat);
        let (me, before) = if restarted == 0 { (A, 10) } else { (B, 20) };
        let hellos = room.history.clone();
        room.nodes[restarted] = node(me, 99, room.now);
        room.run(Micros::from_millis(300));
        let other = 1 - restarted;
        let replaced =
            Event::PeerConfirmed { incarnation: Incarnation(99), replaces: Some(Incarnation(before)) };
        assert_eq!(room.events[other][1..], [replaced]);
        assert_eq!(room.give(other, &old_data), Err(Rejection::ExpiredKey));
        assert!(room.give(other, &old_beat).is_err());
        let datagram = room.data(restarted, Kind::Data);
        assert_eq!(room.give(other, &datagram), Ok(b"data".to_vec()));
        // Everything that the old life ever sent, again.
        let (status, events) = (room.status(other), room.events[other].len());
        for flight in hellos.iter().filter(|flight| flight.to == other) {
            assert!(room.nodes[other].handle(room.now, flight.path, &mut flight.bytes.clone()).is_err());
        }
        room.run(Micros::from_millis(300));
        assert_eq!((room.status(other).peer, room.events[other].len()), (status.peer, events));
    }
}

/// Decision 31: what an eavesdropper recorded in an earlier life of the *receiver* starts a handshake at
/// most, which ends nowhere.
#[test]
fn replayed_announcements_change_nothing_that_is_in_force() {
    for target in [0, 1] {
        let mut room = established();
        let recorded: Vec<_> = room.history.iter().filter(|flight| flight.to == target).cloned().collect();
        // Both restart; the recording is of a life that the new one has never heard of.
        room.nodes = [node(A, 98, room.now), node(B, 99, room.now)];
        room.run(Micros::from_millis(500));
        let (peer, events) = (room.status(target).peer, room.events[target].len());
        for round in 0..50 {
            for flight in &recorded {
                let _ = room.nodes[target].handle(room.now, flight.path, &mut flight.bytes.clone());
            }
            room.run(Micros::from_millis(20));
            let datagram = room.data(1 - target, Kind::Data);
            assert_eq!(room.give(target, &datagram), Ok(b"data".to_vec()), "round {round}");
        }
        room.run(Micros::from_secs(61));
        assert_eq!(room.status(target).peer, peer);
        let renewed = room.events[target][events..].iter().all(|e| matches!(e, Event::Renewed { .. }));
        assert!(renewed, "{:?}", room.events[target]);
        assert!(room.status(target).renewals >= 1);
    }
}

#[test]
fn x09_every_refusal_is_counted_under_its_name_and_has_no_effect() {
    let mut room = established();
    let good = room.data(0, Kind::Data);
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes
    };
    let last = good.len() - 1;
    let cases = [
        (good[..HEADER + TAG - 1].to_vec(), Rejection::Truncated),
        (with(0, b'x'), Rejection::NotOurs),
        (with(3, 9), Rejection::WrongVersion),
        (with(4, 200), Rejection::WrongKind),
        (with(5, 8), Rejection::WrongPair),
        (with(6, B.0), Rejection::Reflected),
        (with(6, 77), Rejection::WrongSender),
        (with(7, 1), Rejection::WrongPath),
        (with(8, 0x55), Rejection::WrongIncarnation),
        (with(16, 0x55), Rejection::WrongKey),
        (with(last, good[last] ^ 1), Rejection::Forged),
        (good[..last].to_vec(), Rejection::Forged),
        (with(2, 5), Rejection::Forged),
        (with(4, Kind::Handshake as u8), Rejection::Forged),
    ];
    let before = *room.nodes[1].rejections();
    for (bytes, reason) in &cases {
        assert_eq!(room.give(1, bytes), Err(*reason));
    }
    assert_eq!(room.give(0, &good), Err(Rejection::Reflected), "our own, sent back");
    assert_eq!(room.give(1, &good), Ok(b"data".to_vec()));
    assert_eq!(room.give(1, &good), Err(Rejection::Replayed));
    let after = *room.nodes[1].rejections();
    assert_eq!(after.total() - before.total(), cases.len() as u64 + 1);
    assert_eq!(after.of(Rejection::Forged) - before.of(Rejection::Forged), 4);
    assert_eq!(room.status(1).key_id, 1);
}

#[test]
fn a_node_with_another_static_key_gets_nowhere() {
    let mut room = Room::new(1);
    room.nodes[1].id.secret = SecretKey::from_random([3; 32]);
    room.nodes[1].static_root = super::attempt::static_root(&room.nodes[1].id);
    room.run(Micros::from_secs(20));
    assert!(room.nodes.iter().all(|node| node.status(room.now).is_none()));
    assert!(room.nodes[0].rejections().of(Rejection::Forged) > 10);
    assert_eq!(room.nodes[0].rejections().total(), room.nodes[0].rejections().of(Rejection::Forged));
}

/// A flood of authentic announcements costs a bounded number of answers.
#[test]
fn answers_to_announcements_are_limited_in_rate() {
    let mut room = established();
    let hello = room.history.iter().find(|flight| flight.to == 1).cloned().expect("A said hello");
    room.nodes[1] = node(B, 21, room.now); // knows nothing of A's counters
    let mut answered = 0;
    for _ in 0..10_000 {
        room.now = room.now.after(Micros(100));
        answered += u32::from(room.give(1, &hello.bytes).is_ok());
    }
    // 16 at once and one each 20 ms of the second that this took.
    assert_eq!(answered, 16 + 50);
    assert_eq!(room.nodes[1].rejections().of(Rejection::RateLimited), 10_000 - 66);
    assert!(room.nodes[1].poll_transmit(room.now, &mut [0; 256]).is_some());
}

#[test]
fn arbitrary_and_mutated_datagrams_do_no_harm() {
    let mut room = established();
    let mut dice = Dice(0xfeed);
    let samples = room.history.clone();
    for _ in 0..20_000 {
        let mut sample = samples[dice.roll() as usize % samples.len()].clone();
        for _ in 0..=dice.roll() % 4 {
            let at = dice.roll() as usize % sample.bytes.len();
            sample.bytes[at] ^= (dice.roll() as u8).max(1);
        }
        sample.bytes.truncate(sample.bytes.len() - (dice.roll() % 3) as usize);
        let to = dice.roll() as usize % 2;
        let _ = room.nodes[to].handle(room.now, sample.path, &mut sample.bytes);
    }
    for from in [0, 1] {
        let datagram = room.data(from, Kind::Data);
        assert_eq!(room.give(1 - from, &datagram), Ok(b"data".to_vec()));
    }
}

/// Loss of one in three, duplication, reordering, replay and reflection; data flows all the time and none
/// of it may be refused for its key.
#[test]
fn b18_no_seed_loses_a_datagram_to_a_renewal() {
    for seed in 1..=60 {
        let mut room = Room::new(seed);
        (room.loss, room.mischief) = (3, 4);
        room.run(Micros::from_secs(20));
        assert!(room.nodes.iter().all(|node| node.status(room.now).is_some()), "seed {seed}: no keys");
        let mut sent = [0_u64; 2];
        for _ in 0..2_000 {
            room.run(Micros::from_millis(100));
            for from in 0..2 {
                // Under way for up to 2 s, and never lost: what it meets is this test's question.
                let datagram = room.data(from, Kind::Data);
                let at = room.now.after(Micros(room.dice.roll() % 2_000_000));
                room.flights.push(Flight { at, to: 1 - from, path: PathId(0), bytes: datagram });
                sent[1 - from] += 1;
            }
        }
        room.loss = 0;
        room.run(Micros::from_secs(3));
        assert_eq!(room.received, sent, "seed {seed}: {:?}", room.nodes[1].rejections());
        assert!(room.status(0).renewals >= 3 && room.status(1).renewals >= 3, "seed {seed}");
        assert!(room.nodes.iter().all(|node| node.rejections().of(Rejection::Malformed) == 0));
        let confirmed = |events: &[Event]| {
            events.iter().filter(|event| matches!(event, Event::PeerConfirmed { .. })).count()
        };
        assert_eq!(room.events.each_ref().map(|events| confirmed(events)), [1, 1], "seed {seed}");
    }
}

/// Restarts in the middle of the same: both sides always agree in the end, on the lives that are.
#[test]
fn any_seed_of_restarts_ends_in_agreement() {
    for seed in 1..=40 {
        let mut room = Room::new(seed);
        (room.loss, room.mischief) = (4, 3);
        for life in 0..6 {
            let span = room.dice.roll() % 4_000;
            room.run(Micros::from_millis(span));
            let who = (room.dice.roll() % 2) as usize;
            room.nodes[who] = node([A, B][who], 100 + life, room.now);
        }
        room.loss = 0;
        room.run(Micros::from_secs(30));
        for node in 0..2 {
            let peer = room.nodes[1 - node].id.incarnation;
            assert_eq!(room.status(node).peer, peer, "seed {seed}");
        }
        assert_eq!(room.status(0).key_id, room.status(1).key_id, "seed {seed}");
        for from in [0, 1] {
            let datagram = room.data(from, Kind::Heartbeat);
            assert_eq!(room.give(1 - from, &datagram), Ok(b"data".to_vec()), "seed {seed}");
        }
    }
}

#[test]
fn handshake_bodies_come_back_as_they_went() {
    let exchange = Exchange { generation: 7, target: Incarnation(8), noise: [9; 48] };
    for message in [
        Message::Hello { ask: true },
        Message::Hello { ask: false },
        Message::First(exchange),
        Message::Second(exchange),
    ] {
        let wire = message.to_wire();
        assert_eq!(Message::read(&wire), Some(message));
        assert_eq!(Message::read(&[&wire[..], &[1, 2]].concat()), Some(message));
        assert_eq!(Message::read(&wire[1..]), None);
    }
    assert_eq!(Message::read(&[0; Message::LEN]), None);
    assert_eq!([&[][..], &[0], &[3], &[4]].map(Confirm::read), [None, None, Some(Confirm::Done), None]);
}
