//! Two streams, their tables and a channel that loses, doubles and reorders, in simulated time.

use std::collections::BinaryHeap;

use super::table::Sessions;
use crate::datagram::Kind;
use crate::ids::{Incarnation, Micros, Term};
use crate::stream::{Config, Event, Peer, Stream};

/// Splitmix64: the whole run follows from the seed.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// What the channel does.
#[derive(Clone, Copy)]
pub struct Channel {
    pub loss: u64,
    pub duplicate: u64,
    pub delay: Micros,
    /// Added at random.
    pub jitter: u64,
    pub cut: bool,
}

pub const GOOD: Channel = Channel { loss: 0, duplicate: 0, delay: Micros(50), jitter: 0, cut: false };
pub const BAD: Channel = Channel { loss: 20, duplicate: 5, delay: Micros(50), jitter: 3_000, cut: false };

pub struct Node {
    pub stream: Stream,
    pub sessions: Sessions,
    pub incarnation: Incarnation,
    pub events: Vec<Event>,
}

/// A datagram on its way: earliest first.
type Flying = std::cmp::Reverse<(u64, u64, usize, bool, Vec<u8>)>;

pub struct Pair {
    pub nodes: [Node; 2],
    pub now: Micros,
    pub channel: Channel,
    pub random: Random,
    flying: BinaryHeap<Flying>,
    flown: u64,
    pub bytes: u64,
    /// Somebody says nonsense.
    pub lenient: bool,
    pub config: Config,
    buf: Vec<u8>,
}

pub const KEY: [u8; 16] = [9; 16];

pub fn term(term: u32) -> Term {
    Term::new(term).unwrap()
}

impl Pair {
    pub fn new(capacity: u32, seed: u64) -> Self {
        Self::with(capacity, seed, Config::default())
    }

    pub fn with(capacity: u32, seed: u64, config: Config) -> Self {
        let node = |incarnation| Node {
            stream: Stream::new(config, KEY, capacity, Micros(0)),
            sessions: Sessions::new(capacity),
            incarnation: Incarnation(incarnation),
            events: vec![],
        };
        Self {
            nodes: [node(1), node(2)],
            now: Micros(1_000_000),
            channel: GOOD,
            random: Random(seed),
            flying: BinaryHeap::new(),
            flown: 0,
            bytes: 0,
            lenient: false,
            config,
            buf: vec![0; 9_000],
        }
    }

    /// Node 0 leads in term 2, node 1 follows.
    pub fn start(&mut self) {
        self.lead(0, 2);
    }

    pub fn lead(&mut self, leader: usize, number: u32) {
        let now = self.now;
        let term = term(number);
        self.nodes[leader].sessions.lead(term);
        self.nodes[1 - leader].sessions.active = false;
        self.nodes.iter_mut().for_each(|node| node.sessions.forget());
        self.nodes[leader].stream.lead(term, now);
        self.nodes[1 - leader].stream.follow(term, now);
        self.meet();
    }

    /// Both nodes hear each other.
    pub fn meet(&mut self) {
        for at in 0..2 {
            let incarnation = self.nodes[1 - at].incarnation;
            self.nodes[at].stream.link(true, self.now);
            self.nodes[at].stream.peer(Peer::Here { incarnation }, self.now);
        }
    }

    pub fn cut(&mut self) {
        self.channel.cut = true;
        self.nodes.iter_mut().for_each(|node| node.stream.link(false, self.now));
    }

    pub fn mend(&mut self) {
        self.channel.cut = false;
        self.nodes.iter_mut().for_each(|node| node.stream.link(true, self.now));
    }

    /// A node loses its memory.
    pub fn restart(&mut self, at: usize, number: u32) {
        let capacity = self.nodes[at].sessions.slots.len() as u32;
        let incarnation = Incarnation(self.nodes[at].incarnation.0 + 10);
        self.nodes[at] = Node {
            stream: Stream::new(self.config, KEY, capacity, self.now),
            sessions: Sessions::new(capacity),
            incarnation,
            events: vec![],
        };
        self.nodes[at].stream.follow(term(number), self.now);
        self.meet();
    }

    /// One step of all parts.
    pub fn step(&mut self) {
        self.deliver();
        for at in 0..2 {
            let node = &mut self.nodes[at];
            node.sessions.step();
            // One table is source and sink: a clone of neither is needed for what a turn does.
            turn(node, self.now);
            node.events.extend(std::iter::from_fn(|| node.stream.poll_event()));
            for _ in 0..256 {
                let node = &mut self.nodes[at];
                let sent = node.stream.transmit(self.now, &mut node.sessions, &mut self.buf);
                let Some((kind, length)) = sent else { break };
                self.send(1 - at, kind, length);
            }
        }
        self.now = self.now.after(Micros(100));
    }

    fn send(&mut self, to: usize, kind: Kind, length: usize) {
        self.bytes += length as u64;
        if self.channel.cut || self.random.percent(self.channel.loss) {
            return;
        }
        let copies = 1 + u64::from(self.random.percent(self.channel.duplicate));
        for _ in 0..copies {
            let jitter = if self.channel.jitter == 0 { 0 } else { self.random.below(self.channel.jitter) };
            let at = self.now.after(self.channel.delay).0 + jitter;
            self.flown += 1;
            let body = self.buf[..length].to_vec();
            self.flying.push(std::cmp::Reverse((at, self.flown, to, kind == Kind::Data, body)));
        }
    }

    fn deliver(&mut self) {
        while self.flying.peek().is_some_and(|next| next.0.0 <= self.now.0) {
            let Some(std::cmp::Reverse((_, _, to, data, body))) = self.flying.pop() else { return };
            let node = &mut self.nodes[to];
            let result = if data {
                node.stream.data(self.now, &body, &mut node.sessions)
            } else {
                ack(node, self.now, &body)
            };
            assert!(result.is_ok() || self.lenient);
        }
    }

    /// One step, and on to the time at which something is due: what a caller does that only comes when it
    /// has to.
    pub fn step_when_due(&mut self) {
        self.step();
        let soon = self.nodes.iter().any(|node| node.sessions.is_active());
        let arrival = self.flying.peek().map_or(Micros::NEVER, |next| Micros(next.0.0));
        let due = self.nodes.iter().map(|node| node.stream.deadline()).fold(arrival, Micros::min);
        if !soon {
            self.now = self.now.max(due.min(self.now.after(Micros::from_secs(1))));
        }
    }

    pub fn run(&mut self, ms: u64) {
        let end = self.now.after(Micros::from_millis(ms));
        while self.now < end {
            self.step();
        }
    }

    /// Runs until `done`, at most for `ms`; how long it took.
    pub fn until(&mut self, ms: u64, done: impl Fn(&Self) -> bool) -> Micros {
        let began = self.now;
        let end = self.now.after(Micros::from_millis(ms));
        loop {
            self.step();
            if done(self) {
                return self.now.since(began);
            }
            assert!(self.now < end, "not within {ms} ms\n{}", self.dump());
        }
    }

    pub fn dump(&self) -> String {
        self.nodes
            .iter()
            .map(|node| {
                let stream = &node.stream;
                format!(
                    "{} sessions, digest {:x?}, mirror {:?}, proven {}, flushed {}\n{:?}\n{:?}\n",
                    node.sessions.len(),
                    stream.digest(),
                    stream.mirror(),
                    stream.proven(),
                    stream.flushed(),
                    stream.status(self.now),
                    node.events,
                )
            })
            .collect()
    }

    #[track_caller]
    pub fn assert_equal(&self) {
        let [a, b] = [self.nodes[0].sessions.versions(), self.nodes[1].sessions.versions()];
        let missing = a.iter().filter(|(key, version)| b.get(key) != Some(version)).count();
        let more = b.keys().filter(|key| !a.contains_key(key)).count();
        assert_eq!((missing, more), (0, 0), "{}", self.dump());
        assert_eq!(self.nodes[0].stream.digest(), self.nodes[1].stream.digest());
    }
}

/// One table is both source and sink here; the machine wants two borrows.
struct Shared<'a>(&'a std::cell::RefCell<&'a mut Sessions>);

mod both {
    use super::{Sessions, Shared};
    use crate::ids::SessionHandle;
    use crate::record::{Record, Session};
    use crate::stream::{Ended, Outcome, Reading, Sink, Source, Tag};

    impl Source for Shared<'_> {
        fn handles(&self) -> u32 {
            self.0.borrow().handles()
        }
        fn next_changed(&mut self) -> Option<SessionHandle> {
            self.0.borrow_mut().next_changed()
        }
        fn next_ended(&mut self) -> Option<Ended> {
            self.0.borrow_mut().next_ended()
        }
        fn ends_lost(&self) -> u64 {
            Source::ends_lost(&**self.0.borrow())
        }
        fn waiting(&self) -> u32 {
            self.0.borrow().waiting()
        }
        fn rounds(&mut self) -> u64 {
            self.0.borrow_mut().rounds()
        }
        fn read(&mut self, handle: SessionHandle) -> Reading {
            self.0.borrow_mut().read(handle)
        }
        fn since_split(&mut self, handle: SessionHandle) -> Reading {
            self.0.borrow_mut().since_split(handle)
        }
    }

    impl Sink for Shared<'_> {
        fn hand(&mut self, record: &Record, tag: Tag) -> bool {
            self.0.borrow_mut().hand(record, tag)
        }
        fn adopt(&mut self, session: &Session, tag: Tag) -> bool {
            self.0.borrow_mut().adopt(session, tag)
        }
        fn room(&self) -> u32 {
            self.0.borrow().room()
        }
        fn next_outcome(&mut self) -> Option<Outcome> {
            self.0.borrow_mut().next_outcome()
        }
        fn held(&mut self, handle: SessionHandle) -> Reading {
            self.0.borrow_mut().held(handle)
        }
        fn purge(&mut self) {
            self.0.borrow_mut().purge();
        }
        fn purging(&self) -> bool {
            self.0.borrow().purging()
        }
    }

    const _: fn(&Sessions) = |_| {};
}

pub fn turn(node: &mut Node, now: Micros) {
    let cell = std::cell::RefCell::new(&mut node.sessions);
    node.stream.turn(now, &mut Shared(&cell), &mut Shared(&cell));
}

pub fn ack(node: &mut Node, now: Micros, body: &[u8]) -> Result<(), crate::datagram::Malformed> {
    let cell = std::cell::RefCell::new(&mut node.sessions);
    node.stream.ack(now, body, &mut Shared(&cell), &mut Shared(&cell))
}
