//! The control socket's server: requests in, answers out, one JSON object a line.
//!
//! It runs on the control thread beside neighbour resolution, so nothing here waits for a client, and all
//! that a client can make it keep is bounded: so many clients, one request line each, one answer each.
//! A client's next request is not even read before its last answer has left. Long answers (the session
//! table) are made in steps as the client takes them ([`Walk`]), and who takes nothing for
//! [`STALL_MAX`] is disconnected. Answers that take time are promised ([`Later`]) and looked for at each
//! turn; who hangs up meanwhile is let go.

use super::later::Later;
use mio::net::{UnixListener, UnixStream};
use mio::{Interest, Registry, Token};
use proto::{Command, Error, ErrorCode, LineBuffer, MAX_REQUEST_BYTES, Request, Response, to_line};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

/// Clients at a time.
pub const CLIENTS_MAX: usize = 64;
/// A client that takes nothing of its answer for so long is disconnected.
pub const STALL_MAX: Duration = Duration::from_secs(10);
/// With all places taken, a client that has asked for nothing for so long makes room.
pub const IDLE_MAX: Duration = Duration::from_secs(5);

/// Beyond so many bytes that wait for the client, a walk pauses.
const WAITING_MAX: usize = 256 * 1024;
/// Requests of one client that are answered in a row before others have their turn.
const REQUESTS_IN_A_ROW: usize = 8;
const READ_CHUNK: usize = 16 * 1024;

/// Who knows the answers.
pub trait Responder {
    /// Answers a request.
    fn respond(&mut self, command: Command) -> Reply;
}

/// An answer.
pub enum Reply {
    /// A whole line.
    Line(Vec<u8>),
    /// One that is made step by step.
    Walk(Box<dyn Walk>),
    /// One that is promised.
    Later(Later),
}

/// An answer under way.
pub trait Walk {
    /// Appends some more of the line. True once it is complete, line feed included. Must take no longer
    /// than a millisecond or two.
    fn step(&mut self, out: &mut Vec<u8>) -> bool;
}

/// The server.
pub struct Server {
    listener: UnixListener,
    registry: Registry,
    base: usize,
    clients: Vec<Option<Client>>,
    /// The kernel has connections that could not be accepted yet.
    accept_again: bool,
}

struct Client {
    stream: UnixStream,
    input: LineBuffer,
    out: Vec<u8>,
    written: usize,
    walk: Option<Box<dyn Walk>>,
    later: Option<Later>,
    /// The kernel may have more bytes for us.
    readable: bool,
    /// No further request: close when everything is written.
    closing: bool,
    /// When it last asked or took something.
    active: Instant,
}

/// What becomes of a client.
#[derive(PartialEq, Eq, Clone, Copy, Debug)]
enum Fate {
    /// Nothing to do before the kernel says so.
    Waits,
    /// More to do at once.
    Busy,
    /// Gone.
    Gone,
}

impl Server {
    /// Serves `listener`; uses the tokens `base..=base + CLIENTS_MAX`.
    pub fn new(
        listener: std::os::unix::net::UnixListener,
        registry: Registry,
        base: Token,
    ) -> io::Result<Self> {
        let mut listener = UnixListener::from_std(listener);
        registry.register(&mut listener, base, Interest::READABLE)?;
        let clients = (0..CLIENTS_MAX).map(|_| None).collect();
        Ok(Self { listener, registry, base: base.0, clients, accept_again: false })
    }

    /// Takes an event of the poll; others' tokens are ignored.
    pub fn event(&mut self, token: Token, readable: bool) {
        if token.0 == self.base {
            self.accept_again = true;
        } else if let Some(place) = token.0.checked_sub(self.base + 1)
            && let Some(Some(client)) = self.clients.get_mut(place)
        {
            client.readable |= readable;
        }
    }

    /// Does what can be done without waiting. True if there is more to do at once.
    pub fn turn(&mut self, responder: &mut impl Responder, now: Instant) -> bool {
        if self.accept_again {
            self.accept(now);
        }
        let mut busy = false;
        for place in &mut self.clients {
            let Some(client) = place else { continue };
            match client.turn(responder, now) {
                Fate::Waits => {}
                Fate::Busy => busy = true,
                Fate::Gone => {
                    // Closing the descriptor deregisters it as well.
                    let _ = self.registry.deregister(&mut client.stream);
                    *place = None;
                }
            }
        }
        busy
    }

    /// Clients that are connected now.
    pub fn clients(&self) -> usize {
        self.clients.iter().flatten().count()
    }

    fn accept(&mut self, now: Instant) {
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => self.admit(stream, now),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.accept_again = false;
                    return;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Out of descriptors, for instance: tried again at the next turn.
                Err(error) => {
                    tracing::debug!(%error, "a connection to the control socket was not accepted");
                    return;
                }
            }
        }
    }

    fn admit(&mut self, mut stream: UnixStream, now: Instant) {
        let Some(place) = self.free_place(now) else {
            let refusal = Error::new(
                ErrorCode::Busy,
                format!("{CLIENTS_MAX} clients are connected, which is the most"),
                "try again in a moment, or end one of them",
            );
            // It fits a new socket's buffer; if not, closing it says enough.
            let _ = stream.write(&refusal_line(refusal));
            return;
        };
        let token = Token(self.base + 1 + place);
        let interest = Interest::READABLE | Interest::WRITABLE;
        if self.registry.register(&mut stream, token, interest).is_ok()
            && let Some(slot) = self.clients.get_mut(place)
        {
            *slot = Some(Client::new(stream, now));
        }
    }

    fn free_place(&mut self, now: Instant) -> Option<usize> {
        if let Some(free) = self.clients.iter().position(Option::is_none) {
            return Some(free);
        }
        let idle = |client: &Client| client.is_idle() && now.duration_since(client.active) >= IDLE_MAX;
        let place = self.clients.iter().position(|place| place.as_ref().is_some_and(idle))?;
        self.clients.get_mut(place)?.take();
        Some(place)
    }
}

impl Client {
    fn new(stream: UnixStream, now: Instant) -> Self {
        Self {
            stream,
            input: LineBuffer::new(MAX_REQUEST_BYTES),
            out: Vec::new(),
            written: 0,
            walk: None,
            later: None,
            readable: true,
            closing: false,
            active: now,
        }
    }

    fn is_idle(&self) -> bool {
        self.walk.is_none() && self.later.is_none() && self.waiting() == 0
    }

    fn waiting(&self) -> usize {
        self.out.len() - self.written
    }

    fn turn(&mut self, responder: &mut impl Responder, now: Instant) -> Fate {
        for _ in 0..REQUESTS_IN_A_ROW {
            if let Some(later) = &mut self.later {
                match later.poll(now) {
                    Some(line) => self.out = line,
                    None => return if self.has_hung_up() { Fate::Gone } else { Fate::Waits },
                }
                self.later = None;
                self.active = now;
            }
            if let Some(walk) = &mut self.walk
                && self.out.len() - self.written < WAITING_MAX
                && walk.step(&mut self.out)
            {
                self.walk = None;
            }
            if self.flush(now).is_err() {
                return Fate::Gone;
            }
            if self.waiting() > 0 {
                return if now.duration_since(self.active) >= STALL_MAX { Fate::Gone } else { self.paused() };
            }
            if self.walk.is_some() {
                return Fate::Busy;
            }
            if self.closing {
                return Fate::Gone;
            }
            match self.next_request(responder, now) {
                Ok(true) => {}
                Ok(false) => return Fate::Waits,
                Err(_) => return Fate::Gone,
            }
        }
        Fate::Busy
    }

    /// Bytes wait for the client. A walk that may still go on is not held up by that.
    fn paused(&self) -> Fate {
        if self.walk.is_some() && self.waiting() < WAITING_MAX { Fate::Busy } else { Fate::Waits }
    }

    /// Answers the next whole line, if there is one. True if it did (or found the end).
    fn next_request(&mut self, responder: &mut impl Responder, now: Instant) -> io::Result<bool> {
        loop {
            match self.input.next_line() {
                Ok(Some(line)) => {
                    self.active = now;
                    match Request::parse(line).map(|request| responder.respond(request.command)) {
                        Ok(Reply::Line(line)) => self.out = line,
                        Ok(Reply::Walk(walk)) => self.walk = Some(walk),
                        Ok(Reply::Later(later)) => self.later = Some(later),
                        Err(error) => self.out = refusal_line(error),
                    }
                    return Ok(true);
                }
                Ok(None) => {}
                Err(error) => {
                    let hint = "send one request a line";
                    self.out = refusal_line(Error::new(ErrorCode::TooLong, error.to_string(), hint));
                    self.closing = true;
                    return Ok(true);
                }
            }
            if !self.readable {
                return Ok(false);
            }
            let mut chunk = [0; READ_CHUNK];
            match self.stream.read(&mut chunk) {
                // Whatever half a line came before it.
                Ok(0) => {
                    self.closing = true;
                    return Ok(true);
                }
                Ok(count) => self.input.push(chunk.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.readable = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// True if nobody is at the other end any more. One that will only say no more still wants its answer.
    fn has_hung_up(&self) -> bool {
        let mut ends = [PollFd::new(&self.stream, PollFlags::empty())];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        let polled = poll(&mut ends, Some(&at_once));
        polled.is_ok() && ends.iter().any(|end| end.revents().intersects(PollFlags::HUP | PollFlags::ERR))
    }

    /// Writes what the client takes now.
    fn flush(&mut self, now: Instant) -> io::Result<()> {
        while let Some(rest) = self.out.get(self.written..).filter(|rest| !rest.is_empty()) {
            match self.stream.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    self.written += count;
                    self.active = now;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if self.written == self.out.len() {
            // A long answer's memory is not kept for the next short one.
            self.out = Vec::new();
            self.written = 0;
        } else if self.walk.is_some() && self.written >= WAITING_MAX {
            self.out.drain(..self.written);
            self.written = 0;
        }
        Ok(())
    }
}

/// An answer as a line.
pub fn answer_line<T: serde::Serialize>(data: &T) -> Vec<u8> {
    to_line(&Response::answer(data)).unwrap_or_else(|error| {
        let hint = "please report it";
        refusal_line(Error::new(ErrorCode::Internal, format!("the answer cannot be written: {error}"), hint))
    })
}

/// A refusal as a line.
pub fn refusal_line(error: Error) -> Vec<u8> {
    // Three strings: there is nothing about it that JSON cannot hold.
    to_line(&Response::<()>::refusal(error)).unwrap_or_default()
}

#[cfg(test)]
mod tests;
