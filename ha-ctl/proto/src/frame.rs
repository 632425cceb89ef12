//! Lines: how requests and responses are cut out of a byte stream, with a bound.

use crate::{Error, VERSION};
use serde::{Deserialize, Serialize};
use std::fmt;

/// One line from the daemon.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Response<T> {
    /// The protocol version that the daemon speaks.
    pub v: u32,
    /// True if `data` is there, false if `error` is.
    pub ok: bool,
    /// The answer.
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    pub data: Option<T>,
    /// The refusal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Error>,
}

fn none<T>() -> Option<T> {
    None
}

impl<T> Response<T> {
    /// The answer to a request.
    pub fn answer(data: T) -> Self {
        Self { v: VERSION, ok: true, data: Some(data), error: None }
    }

    /// The refusal of a request.
    pub fn refusal(error: Error) -> Self {
        Self { v: VERSION, ok: false, data: None, error: Some(error) }
    }
}

/// A request or response as a line, line feed included.
pub fn to_line<T: Serialize>(message: &T) -> Result<Vec<u8>, serde_json::Error> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    Ok(line)
}

/// Cuts a byte stream into lines of bounded length; for sockets that deliver what they have.
///
/// Memory is bounded by the limit plus one `push`: once a line is too long, everything is refused until
/// the buffer is dropped, for nothing behind such a line can be trusted to be one.
#[derive(Debug)]
pub struct LineBuffer {
    bytes: Vec<u8>,
    /// Bytes at the front that earlier lines used.
    used: usize,
    /// Bytes behind `used` that hold no line feed.
    searched: usize,
    max_bytes: usize,
}

impl LineBuffer {
    /// A buffer for lines of at most `max_bytes`, line feed included.
    pub fn new(max_bytes: usize) -> Self {
        Self { bytes: Vec::new(), used: 0, searched: 0, max_bytes }
    }

    /// Adds what the socket delivered.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.used > 0 {
            self.bytes.drain(..self.used);
            self.used = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole line without its line feed, `None` if more bytes are needed.
    pub fn next_line(&mut self) -> Result<Option<&[u8]>, FrameError> {
        let start = self.used;
        let rest = self.bytes.get(start..).unwrap_or_default();
        let fresh = rest.get(self.searched..).unwrap_or_default();
        let Some(found) = fresh.iter().position(|&byte| byte == b'\n') else {
            self.searched = rest.len();
            if rest.len() >= self.max_bytes {
                return Err(FrameError { max_bytes: self.max_bytes });
            }
            return Ok(None);
        };
        let len = self.searched + found;
        if len + 1 > self.max_bytes {
            return Err(FrameError { max_bytes: self.max_bytes });
        }
        self.used += len + 1;
        self.searched = 0;
        Ok(self.bytes.get(start..start + len))
    }

    /// Bytes of a line that has begun and has not ended.
    pub fn pending_bytes(&self) -> usize {
        self.bytes.len() - self.used
    }
}

/// A line is longer than allowed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FrameError {
    /// The bound, line feed included.
    pub max_bytes: usize,
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the line is longer than {} bytes", self.max_bytes)
    }
}

impl std::error::Error for FrameError {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorCode;
    use proptest::prelude::*;

    fn lines(buffer: &mut LineBuffer) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        while let Some(line) = buffer.next_line().unwrap() {
            out.push(line.to_vec());
        }
        out
    }

    #[test]
    fn golden_responses() {
        let line = |response: &Response<u32>| String::from_utf8(to_line(response).unwrap()).unwrap();
        assert_eq!(line(&Response::answer(7)), "{\"v\":1,\"ok\":true,\"data\":7}\n");
        let error =
            Error::new(ErrorCode::UnknownCommand, "there is no command \"dance\"", "commands are status");
        assert_eq!(
            line(&Response::refusal(error)),
            "{\"v\":1,\"ok\":false,\"error\":{\"code\":\"unknown-command\",\"message\":\"there is no command \\\"dance\\\"\",\"hint\":\"commands are status\"}}\n"
        );
    }

    #[test]
    fn a_newer_daemons_refusal_is_still_one() {
        let line = r#"{"v":1,"ok":false,"error":{"code":"tired","message":"no","since":3},"more":1}"#;
        let response: Response<u32> = serde_json::from_str(line).unwrap();
        assert_eq!(response.error, Some(Error::new(ErrorCode::Other("tired".into()), "no", "")));
    }

    #[test]
    fn lines_come_out_however_the_bytes_come_in() {
        let mut buffer = LineBuffer::new(16);
        buffer.push(b"one\ntw");
        assert_eq!(lines(&mut buffer), [b"one"]);
        assert_eq!(buffer.pending_bytes(), 2);
        buffer.push(b"o\n\nthree\n");
        assert_eq!(lines(&mut buffer), [&b"two"[..], b"", b"three"]);
        assert_eq!(buffer.pending_bytes(), 0);
    }

    #[test]
    fn a_line_at_the_bound_passes_and_one_byte_more_does_not() {
        let mut buffer = LineBuffer::new(4);
        buffer.push(b"abc\n");
        assert_eq!(lines(&mut buffer), [b"abc"]);
        buffer.push(b"abcd\n");
        assert_eq!(buffer.next_line(), Err(FrameError { max_bytes: 4 }));
        let mut buffer = LineBuffer::new(4);
        buffer.push(b"abc");
        assert_eq!(buffer.next_line(), Ok(None));
        buffer.push(b"d");
        assert_eq!(buffer.next_line(), Err(FrameError { max_bytes: 4 }));
        assert_eq!(buffer.next_line(), Err(FrameError { max_bytes: 4 }), "it stays refused");
    }

    proptest! {
        #[test]
        fn any_cut_gives_the_same_lines(text in "[a-z\n]{0,200}", cuts in prop::collection::vec(1usize..40, 0..20)) {
            let mut whole = LineBuffer::new(1024);
            whole.push(text.as_bytes());
            let expected = lines(&mut whole);

            let mut buffer = LineBuffer::new(1024);
            let (mut got, mut rest) = (Vec::new(), text.as_bytes());
            for cut in cuts {
                let (head, tail) = rest.split_at(cut.min(rest.len()));
                buffer.push(head);
                got.extend(lines(&mut buffer));
                rest = tail;
            }
            buffer.push(rest);
            got.extend(lines(&mut buffer));
            prop_assert_eq!(got, expected);
        }

        #[test]
        fn no_bytes_make_the_request_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = crate::Request::parse(&bytes);
        }

        #[test]
        fn no_json_makes_the_request_parser_panic(
            v in any::<i64>(), cmd in "(sessions|status|[a-z]{0,9})", key in "(limit|proto|address|port|state|count)",
            value in "(-?[0-9]{1,20}|true|null|\"[0-9a-f:./]{0,20}\"|\\[\\])"
        ) {
            for v in [v, 1] {
                let line = format!(r#"{{"v":{v},"cmd":"{cmd}","{key}":{value}}}"#);
                let _ = crate::Request::parse(line.as_bytes());
            }
        }
    }
}
