//! The ways to the partner: sync links that the core polls itself, data ports whose frames workers hand up
//! and send for it (decision 10).

use super::cell::RoleCell;
use super::envelope::Envelope;
use crate::worker::mesh::Handed;
use arrayvec::ArrayVec;
use dpdk::{BURST, Mbuf, Mempool, Port, RxQueue, TxQueue};
use engine::PortId;
use rtrb::{Consumer, Producer};
use sync::ids::PathId;
use wire::{MacAddr, PacketBuf};

/// The longest ping, over IPv6.
const PING_MAX: usize = 14 + 40 + 8;
/// Frames sent on a sync link in one go.
const TX_BURST: usize = BURST;

/// What a path runs over.
pub enum Way {
    /// A link of the core's own.
    Link(Box<SyncPort>),
    /// A data port.
    DataPort(PortId),
}

/// A sync link's port and queues. The port is closed after them.
pub struct SyncPort {
    rx: RxQueue,
    tx: TxQueue,
    out: ArrayVec<Mbuf, TX_BURST>,
    /// Kept for its end.
    _port: Port,
}

impl SyncPort {
    /// A started port with a queue each way.
    pub fn new(port: Port, rx: RxQueue, tx: TxQueue) -> Self {
        Self { rx, tx, out: ArrayVec::new(), _port: port }
    }
}

/// All paths.
pub struct Transports {
    paths: Vec<Path>,
    /// Frames that workers captured for the core.
    captured: Vec<Consumer<Handed>>,
    /// To the worker that sends for the core.
    sender: Producer<Handed>,
    pool: Mempool,
    waiting: ArrayVec<Mbuf, BURST>,
    /// The path that `waiting` came in on.
    from: PathId,
    /// Which source is asked next: none may keep the others from being heard.
    next: usize,
    sent: bool,
    figures: Figures,
}

/// What happened to frames that no other counter knows of.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Figures {
    /// Frames that found no packet buffer, or no room in a port's queue or a worker's ring.
    pub unsent: u64,
    /// Frames on sync links that were not from the partner.
    pub foreign: u64,
}

struct Path {
    way: Way,
    envelope: Envelope,
}

impl Transports {
    /// `paths` by number.
    pub fn new(
        paths: Vec<(Way, Envelope)>,
        captured: Vec<Consumer<Handed>>,
        sender: Producer<Handed>,
        pool: Mempool,
    ) -> Self {
        Self {
            paths: paths.into_iter().map(|(way, envelope)| Path { way, envelope }).collect(),
            captured,
            sender,
            pool,
            waiting: ArrayVec::new(),
            from: PathId(0),
            next: 0,
            sent: false,
            figures: Figures::default(),
        }
    }

    /// The next frame that came in, and on which path. Frames that are not the partner's come out as well.
    pub fn next_frame(&mut self) -> Option<(PathId, Mbuf)> {
        if let Some(frame) = self.waiting.pop() {
            return Some((self.from, frame));
        }
        let sources = self.paths.len() + self.captured.len();
        for _ in 0..sources {
            let source = self.next;
            self.next = (self.next + 1) % sources;
            let found = match source.checked_sub(self.paths.len()) {
                None => self.take_from_link(source),
                Some(ring) => self.take_from_worker(ring),
            };
            if found.is_some() {
                return found;
            }
        }
        None
    }

    /// A burst from a sync link: its first frame, the others wait.
    fn take_from_link(&mut self, path: usize) -> Option<(PathId, Mbuf)> {
        let Some(Path { way: Way::Link(port), .. }) = self.paths.get_mut(path) else { return None };
        if port.rx.burst(&mut self.waiting) == 0 {
            return None;
        }
        self.waiting.reverse();
        self.from = PathId(path as u8);
        self.waiting.pop().map(|frame| (self.from, frame))
    }

    /// A frame that a worker captured. A port that no path runs over captures nothing.
    fn take_from_worker(&mut self, ring: usize) -> Option<(PathId, Mbuf)> {
        let Handed { port, frame } = self.captured.get_mut(ring)?.pop().ok()?;
        let path = self.paths.iter().position(|path| matches!(path.way, Way::DataPort(own) if own == port));
        path.map(|path| (PathId(path as u8), frame))
    }

    /// The datagram in a frame, and who sent it.
    pub fn open<'f>(&mut self, path: PathId, frame: &'f mut Mbuf) -> Option<(MacAddr, &'f mut [u8])> {
        let whole = frame.is_contiguous() || frame.linearise();
        let envelope = self.paths.get(usize::from(path.0)).map(|path| &path.envelope);
        let Some((mac, range)) = envelope.filter(|_| whole).and_then(|envelope| envelope.open(frame.bytes()))
        else {
            self.figures.foreign += 1;
            return None;
        };
        Some((mac, frame.bytes_mut().get_mut(range)?))
    }

    /// Asks the partner for a sign of life by ping, on every data port. True if a question left.
    pub fn ping(&mut self, id: u16, sequence: u16) -> bool {
        let mut left = false;
        for path in &self.paths {
            let Way::DataPort(port) = path.way else { continue };
            let mut bytes = [0; PING_MAX];
            let question = path.envelope.ask(&mut bytes, id, sequence).and_then(|length| bytes.get(..length));
            let frame = question.and_then(|bytes| self.pool.frame(bytes));
            left |= frame.is_some_and(|frame| self.sender.push(Handed { port, frame }).is_ok());
        }
        left
    }

    /// Whether a frame is an answer to [`Transports::ping`].
    pub fn is_answer(&self, path: PathId, frame: &Mbuf, id: u16) -> bool {
        let path = self.paths.get(usize::from(path.0));
        path.is_some_and(|path| path.envelope.is_answer(frame.bytes(), id))
    }

    /// What happened to frames.
    pub fn figures(&self) -> Figures {
        self.figures
    }

    /// An authentic datagram came from there.
    pub fn heard(&mut self, path: PathId, mac: MacAddr, role: &RoleCell) {
        let Some(path) = self.paths.get_mut(usize::from(path.0)) else { return };
        if path.envelope.heard(mac)
            && let Way::DataPort(port) = path.way
        {
            role.set_partner_mac(port, mac);
        }
    }

    /// Sends a datagram. False if it certainly did not leave.
    pub fn send(&mut self, path: PathId, datagram: &[u8]) -> bool {
        let Some(path) = self.paths.get_mut(usize::from(path.0)) else { return false };
        let Some(frame) = envelop(&self.pool, &path.envelope, datagram) else {
            self.figures.unsent += 1;
            return false;
        };
        self.sent = true;
        match &mut path.way {
            Way::Link(port) => {
                if port.out.is_full() {
                    self.figures.unsent += port.flush();
                }
                port.out.push(frame);
                true
            }
            Way::DataPort(port) => {
                let taken = self.sender.push(Handed { port: *port, frame }).is_ok();
                self.figures.unsent += u64::from(!taken);
                taken
            }
        }
    }

    /// Has a frame sent by a data port, as it is.
    pub fn send_frame(&mut self, port: PortId, bytes: &[u8]) -> bool {
        let frame = self.pool.frame(bytes);
        let taken = frame.is_some_and(|frame| self.sender.push(Handed { port, frame }).is_ok());
        self.figures.unsent += u64::from(!taken);
        taken
    }

    /// The end of a turn: everything leaves. True if anything was sent.
    pub fn flush(&mut self) -> bool {
        for path in &mut self.paths {
            if let Way::Link(port) = &mut path.way {
                self.figures.unsent += port.flush();
            }
        }
        std::mem::take(&mut self.sent)
    }
}

impl SyncPort {
    /// Sends what gathered; returns how many frames the port did not take.
    fn flush(&mut self) -> u64 {
        if self.out.is_empty() {
            return 0;
        }
        self.tx.burst(&mut self.out);
        let left = self.out.len() as u64;
        dpdk::free_burst(&mut self.out);
        left
    }
}

fn envelop(pool: &Mempool, envelope: &Envelope, datagram: &[u8]) -> Option<Mbuf> {
    let mut frame = pool.alloc()?;
    if !frame.set_len(envelope.frame_len(datagram)?) {
        return None;
    }
    envelope.seal(frame.bytes_mut(), datagram)?;
    Some(frame)
}
