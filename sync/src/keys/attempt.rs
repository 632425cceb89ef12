//! Handshakes under way: at most one on either side, each a fixed amount of memory.

use super::message::Exchange;
use super::noise::{self, Handshake};
use super::set::KeySet;
use super::{Entropy, Identity};
use crate::datagram::Purpose;
use crate::ids::{Incarnation, Micros};
use crate::seal::Root;

/// The keys that a handshake yields.
pub struct Fresh {
    pub generation: u32,
    pub traffic: KeySet,
    pub heartbeat: KeySet,
}

impl Fresh {
    fn new(id: &Identity, root: &Root, generation: u32, peer: Incarnation) -> Self {
        let set = |purpose| KeySet::new(root, generation as u16, purpose, id.me, (id.peer, peer), id.paths);
        Self { generation, traffic: set(Purpose::Traffic), heartbeat: set(Purpose::Heartbeat) }
    }
}

/// Repeats something, less and less often.
pub struct Retry {
    pub next: Micros,
    pause: Micros,
    longest: Micros,
}

impl Retry {
    /// Due at once.
    pub fn new(now: Micros, first: Micros) -> Self {
        Self { next: now, pause: first, longest: Micros(first.0.saturating_mul(8)) }
    }

    /// True if it is due; the next time is set.
    pub fn fire(&mut self, now: Micros) -> bool {
        let due = now >= self.next;
        if due {
            self.next = now.after(self.pause);
            self.pause = Micros(self.pause.0.saturating_mul(2)).min(self.longest);
        }
        due
    }
}

/// The initiator's handshake.
pub struct Attempt {
    pub target: Incarnation,
    pub generation: u32,
    pub started: Micros,
    pub retry: Retry,
    pub step: Step,
}

/// What the initiator waits for.
pub enum Step {
    /// The second message.
    Second { handshake: Box<Handshake>, first: Exchange },
    /// The answer to [`super::message::Confirm::Ask`].
    Answer(Box<Fresh>),
}

impl Attempt {
    pub fn new(
        id: &Identity,
        target: Incarnation,
        generation: u32,
        retry: Micros,
        entropy: &mut dyn Entropy,
        now: Micros,
    ) -> Option<Self> {
        let prologue = prologue(id, id.incarnation, target, generation);
        let mut handshake = Handshake::new(true, &id.secret, &id.partner, &prologue, entropy.draw())?;
        let first = Exchange { generation, target, noise: handshake.write()? };
        let step = Step::Second { handshake: Box::new(handshake), first };
        Some(Self { target, generation, started: now, retry: Retry::new(now, retry), step })
    }

    /// Takes the second message: true if it was authentic, and the keys wait for their confirmation.
    pub fn second(&mut self, id: &Identity, second: &Exchange, retry: Micros, now: Micros) -> bool {
        let Step::Second { handshake, .. } = &mut self.step else { return false };
        if !handshake.read(&second.noise) {
            return false;
        }
        let Some(root) = handshake.root() else { return false };
        self.step = Step::Answer(Box::new(Fresh::new(id, &root, self.generation, self.target)));
        self.retry = Retry::new(now, retry);
        true
    }
}

/// The responder's handshake: answered, not confirmed.
pub struct Pending {
    pub peer: Incarnation,
    pub since: Micros,
    pub first: Exchange,
    pub second: Exchange,
    pub fresh: Box<Fresh>,
}

impl Pending {
    /// Answers a first message; `None` if it is not authentic.
    pub fn new(
        id: &Identity,
        peer: Incarnation,
        first: &Exchange,
        entropy: &mut dyn Entropy,
        now: Micros,
    ) -> Option<Self> {
        let generation = first.generation;
        let prologue = prologue(id, peer, id.incarnation, generation);
        let mut handshake = Handshake::new(false, &id.secret, &id.partner, &prologue, entropy.draw())?;
        if !handshake.read(&first.noise) {
            return None;
        }
        let second = Exchange { generation, target: peer, noise: handshake.write()? };
        let root = handshake.root()?;
        let fresh = Box::new(Fresh::new(id, &root, generation, peer));
        Some(Self { peer, since: now, first: *first, second, fresh })
    }
}

/// What both sides must agree on, or neither message is authentic.
fn prologue(id: &Identity, initiator: Incarnation, responder: Incarnation, generation: u32) -> Vec<u8> {
    let (low, high) = (id.me.min(id.peer), id.me.max(id.peer));
    [
        b"understudy sync 1".as_slice(),
        &[id.pair.0, low.0, high.0],
        &initiator.0.to_le_bytes(),
        &responder.0.to_le_bytes(),
        &generation.to_le_bytes(),
    ]
    .concat()
}

/// The root of the keys that seal handshake datagrams.
pub fn static_root(id: &Identity) -> Root {
    let shared = noise::shared(id.secret.bytes(), id.partner.bytes());
    Root::new(&[b"understudy pair".as_slice(), &[id.pair.0]].concat(), &shared)
}
