//! Answers that take time: promised to a client, kept by whoever comes to know them.
//!
//! The control thread waits for nobody. A command whose answer depends on the partner, the sync core or a
//! worker is answered with [`Reply::Later`](super::server::Reply::Later); the other half of it, the
//! [`Promise`], stays with who will know. Every promise has an end: after its time the client is told so,
//! and a promise that is dropped is an answer as well.

use super::server::refusal_line;
use proto::{Error, ErrorCode};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// The client's half.
pub struct Later {
    slot: Arc<Mutex<Option<Vec<u8>>>>,
    until: Instant,
    late: Vec<u8>,
}

/// The half of who will know the answer.
pub struct Promise {
    slot: Arc<Mutex<Option<Vec<u8>>>>,
}

/// A promise; the line `late` is the answer if it is not kept by `until`.
pub fn promise(until: Instant, late: Vec<u8>) -> (Promise, Later) {
    let slot = Arc::new(Mutex::new(None));
    (Promise { slot: Arc::clone(&slot) }, Later { slot, until, late })
}

impl Promise {
    /// Keeps it, with a whole line.
    pub fn keep(self, line: Vec<u8>) {
        *self.slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(line);
    }

    /// False if nobody waits for it any more.
    pub fn is_wanted(&self) -> bool {
        Arc::strong_count(&self.slot) > 1
    }
}

impl Later {
    /// The answer, once it is there or the time is over.
    pub fn poll(&mut self, now: Instant) -> Option<Vec<u8>> {
        // Counted before it is looked into: whoever keeps a promise drops it afterwards.
        let dropped = Arc::strong_count(&self.slot) == 1;
        if let Some(line) = self.slot.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Some(line);
        }
        if dropped {
            let error = Error::new(
                ErrorCode::Internal,
                "the daemon has no answer to this any more",
                "look at its log and at `ha-ctl status`, then ask again",
            );
            return Some(refusal_line(error));
        }
        (now >= self.until).then(|| std::mem::take(&mut self.late))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn late() -> Vec<u8> {
        refusal_line(Error::new(ErrorCode::TimedOut, "too late", "wait"))
    }

    #[test]
    fn a_promise_is_kept_once() {
        let now = Instant::now();
        let (promise, mut later) = promise(now + Duration::from_secs(1), late());
        assert!(later.poll(now).is_none() && promise.is_wanted());
        promise.keep(b"yes\n".to_vec());
        assert_eq!(later.poll(now + Duration::from_secs(9)), Some(b"yes\n".to_vec()), "late and there");
    }

    #[test]
    fn a_promise_that_is_forgotten_or_late_is_an_answer() {
        let now = Instant::now();
        let text = |line: Option<Vec<u8>>| String::from_utf8(line.unwrap()).unwrap();
        let (forgotten, mut later) = promise(now + Duration::from_secs(1), late());
        drop(forgotten);
        assert!(text(later.poll(now)).contains("\"internal\""));
        let (kept_late, mut later) = promise(now + Duration::from_secs(1), late());
        assert!(later.poll(now + Duration::from_millis(999)).is_none());
        assert!(text(later.poll(now + Duration::from_secs(1))).contains("too late"));
        drop(later);
        assert!(!kept_late.is_wanted());
        kept_late.keep(b"nobody hears it\n".to_vec());
    }
}
