//! A small client of the control socket, for waiting until a daemon is ready and for tests that look inside.
//! It is kept apart from `ha-ctl` on purpose: a fault shared by tool and daemon would not show otherwise.

use std::{
    io::{BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::{Value, json};

use crate::error::{LabError, Result};

/// Longest answer that is read.
const ANSWER_MAX: u64 = 256 << 20;

/// The control socket of a node.
#[derive(Clone, Debug)]
pub struct Control {
    socket: PathBuf,
}

impl Control {
    /// A client; it connects anew for each question.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into() }
    }

    /// Path of the socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Asks a command without arguments and hands back its data.
    pub fn ask(&self, command: &str) -> Result<Value> {
        self.request(json!({ "v": 1, "cmd": command }))
    }

    /// Sends a request as it stands and hands back the data of a good answer.
    pub fn request(&self, request: Value) -> Result<Value> {
        let line = self.exchange(request.to_string().as_bytes())?;
        let mut answer: Value = serde_json::from_str(&line)
            .map_err(|error| self.fault(format!("answer is no JSON ({error}): {}", shorten(&line))))?;
        if answer["ok"].as_bool() == Some(true) {
            return Ok(answer["data"].take());
        }
        Err(self.fault(format!("refused: {}", answer["error"])))
    }

    /// Sends one line of any bytes and hands back the line that comes.
    pub fn exchange(&self, line: &[u8]) -> Result<String> {
        let mut stream = UnixStream::connect(&self.socket).map_err(|error| self.fault(error.to_string()))?;
        let limit = Some(Duration::from_secs(10));
        stream.set_read_timeout(limit).map_err(|error| self.fault(error.to_string()))?;
        stream.set_write_timeout(limit).map_err(|error| self.fault(error.to_string()))?;
        let mut bytes = line.to_vec();
        bytes.push(b'\n');
        stream.write_all(&bytes).map_err(|error| self.fault(format!("write: {error}")))?;
        let mut answer = String::new();
        BufReader::new(stream.take(ANSWER_MAX))
            .read_line(&mut answer)
            .map_err(|error| self.fault(format!("read: {error}")))?;
        if answer.is_empty() {
            return Err(self.fault("closed without an answer".into()));
        }
        Ok(answer)
    }

    fn fault(&self, what: String) -> LabError {
        LabError::Control { socket: self.socket.clone(), what }
    }
}

fn shorten(text: &str) -> String {
    text.chars().take(200).collect()
}
