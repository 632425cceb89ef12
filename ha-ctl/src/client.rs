//! One question, one answer, within a time: the socket side of `ha-ctl`.

use proto::{Command, Error, LineBuffer, MAX_RESPONSE_BYTES, Request, Response, VERSION, to_line};
use serde_json::Value;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// Where the daemon is, and how long it has.
#[derive(Clone, Copy, Debug)]
pub struct Client<'a> {
    /// Its control socket.
    pub socket: &'a Path,
    /// For everything together: connecting, asking, and the whole answer.
    pub timeout: Duration,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The daemon says no.
    #[error("{0}")]
    Refused(Error),
    /// There is no connection.
    #[error("cannot reach understudyd at {}: {source}", socket.display())]
    Unreachable {
        /// Where it was looked for.
        socket: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The connection broke.
    #[error("lost understudyd at {}: {source}", socket.display())]
    Lost {
        /// Where it was.
        socket: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The time is over.
    #[error("understudyd at {} has not answered within {} s", socket.display(), after.as_secs_f64())]
    Silent {
        /// Where it is.
        socket: PathBuf,
        /// How long it had.
        after: Duration,
    },
    /// It speaks another version of the protocol.
    #[error("the daemon speaks version {theirs} of the control protocol, and this ha-ctl version {VERSION}")]
    Version {
        /// Its version.
        theirs: u64,
    },
    /// What came is no answer.
    #[error("the answer cannot be read: {what}")]
    Unreadable {
        /// What is wrong with it.
        what: String,
    },
}

impl ClientError {
    /// The exit code; see the program's notes.
    pub fn exit_code(&self) -> u8 {
        match self {
            ClientError::Refused(_) => 1,
            _ => 3,
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> String {
        match self {
            ClientError::Refused(error) => error.hint.clone(),
            ClientError::Unreachable { source, .. } => unreachable_hint(source.kind()).into(),
            ClientError::Lost { .. } => "it may have been stopped: ask again, and look at its log".into(),
            ClientError::Silent { .. } => {
                "it may be stopped or overloaded: look at its process and its log, or wait longer with --timeout".into()
            }
            ClientError::Version { .. } => "use the ha-ctl that was installed with this understudyd".into(),
            ClientError::Unreadable { .. } => {
                "is the socket understudyd's? If so, use the ha-ctl that was installed with it".into()
            }
        }
    }
}

fn unreachable_hint(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::NotFound => {
            "is understudyd running? Name its socket (\"control-socket\" in its configuration) \
             with --socket or in UNDERSTUDY_SOCKET"
        }
        ErrorKind::PermissionDenied => {
            "the socket is its owner's alone: run ha-ctl as root or as the daemon's user"
        }
        ErrorKind::ConnectionRefused => "nobody listens there: understudyd has ended; start it again",
        _ => "name understudyd's socket with --socket or in UNDERSTUDY_SOCKET",
    }
}

impl Client<'_> {
    /// Asks, and returns the answer's `data` as it came.
    pub fn ask(&self, command: Command) -> Result<Value, ClientError> {
        let deadline = Instant::now() + self.timeout;
        let mut stream = self.connect(deadline)?;
        let request = to_line(&Request::new(command))
            .map_err(|error| ClientError::Unreadable { what: error.to_string() })?;
        self.send(&mut stream, &request, deadline)?;
        let line = self.receive(&mut stream, deadline)?;
        read_response(&line)
    }

    /// Connecting waits while the daemon's backlog is full, and the system offers no timeout for that: so a
    /// thread does it, which ends with the program.
    fn connect(&self, deadline: Instant) -> Result<UnixStream, ClientError> {
        let (sender, receiver) = mpsc::channel();
        let socket = self.socket.to_owned();
        let spawned = thread::Builder::new().name("connect".into()).spawn(move || {
            // Nobody receives any more when the time is over.
            let _ = sender.send(UnixStream::connect(socket));
        });
        let unreachable = |source| ClientError::Unreachable { socket: self.socket.into(), source };
        spawned.map_err(unreachable)?;
        match receiver.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(connected) => connected.map_err(unreachable),
            Err(RecvTimeoutError::Timeout) => Err(self.silent()),
            Err(RecvTimeoutError::Disconnected) => {
                Err(unreachable(io::Error::other("the connecting thread has died")))
            }
        }
    }

    fn send(&self, stream: &mut UnixStream, mut bytes: &[u8], deadline: Instant) -> Result<(), ClientError> {
        while !bytes.is_empty() {
            let left = self.left(deadline)?;
            match stream.set_write_timeout(Some(left)).and_then(|()| stream.write(bytes)) {
                Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
                // A daemon that refuses a client may answer and close before it reads: the answer says why.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
                Err(error) => self.go_on(error)?,
            }
        }
        Ok(())
    }

    fn receive(&self, stream: &mut UnixStream, deadline: Instant) -> Result<Vec<u8>, ClientError> {
        let mut lines = LineBuffer::new(MAX_RESPONSE_BYTES);
        let mut chunk = vec![0; 64 * 1024];
        loop {
            let left = self.left(deadline)?;
            match stream.set_read_timeout(Some(left)).and_then(|()| stream.read(&mut chunk)) {
                Ok(0) => {
                    let pending = lines.pending_bytes();
                    let what = format!("the daemon closed the connection after {pending} bytes of an answer");
                    return Err(ClientError::Unreadable { what });
                }
                Ok(len) => lines.push(chunk.get(..len).unwrap_or_default()),
                Err(error) => self.go_on(error)?,
            }
            match lines.next_line() {
                Ok(Some(line)) => return Ok(line.to_vec()),
                Ok(None) => {}
                Err(error) => return Err(ClientError::Unreadable { what: error.to_string() }),
            }
        }
    }

    /// Time that is left; never zero, which would mean "for ever".
    fn left(&self, deadline: Instant) -> Result<Duration, ClientError> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(self.silent()) } else { Ok(left) }
    }

    /// `Ok` if the operation is to be repeated while there is time.
    fn go_on(&self, error: io::Error) -> Result<(), ClientError> {
        match error.kind() {
            ErrorKind::Interrupted | ErrorKind::WouldBlock | ErrorKind::TimedOut => Ok(()),
            _ => Err(ClientError::Lost { socket: self.socket.into(), source: error }),
        }
    }

    fn silent(&self) -> ClientError {
        ClientError::Silent { socket: self.socket.into(), after: self.timeout }
    }
}

/// The data of a response line. A refusal is understood in every version, data in ours only.
fn read_response(line: &[u8]) -> Result<Value, ClientError> {
    let unreadable = |what: String| ClientError::Unreadable { what };
    let value: Value =
        serde_json::from_slice(line).map_err(|error| unreadable(format!("it is not JSON: {error}")))?;
    let version = value.get("v").and_then(Value::as_u64);
    let theirs = version.ok_or_else(|| unreadable("it names no version of the protocol".into()))?;
    if let Some(error) =
        value.get("error").and_then(|error| serde_json::from_value::<Error>(error.clone()).ok())
    {
        return Err(ClientError::Refused(error));
    }
    if theirs != u64::from(VERSION) {
        return Err(ClientError::Version { theirs });
    }
    let response: Response<Value> =
        serde_json::from_value(value).map_err(|error| unreadable(error.to_string()))?;
    match (response.ok, response.data) {
        (true, Some(data)) => Ok(data),
        _ => Err(unreadable("it holds neither data nor an error".into())),
    }
}
