//! UDP: a session is new until the other end has sent too (RFC 4787 §4.3: either direction keeps it).

use super::{Dir, FlowState, Verdict};

/// The state after the first datagram.
#[inline(always)]
pub fn open() -> FlowState {
    FlowState::New
}

/// Takes a datagram into account; every one is accepted.
#[inline(always)]
pub fn track(state: &mut FlowState, dir: Dir) -> Verdict {
    Verdict::Accept { changed: state.advance(dir) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_reply_changes_the_state_once() {
        let mut state = open();
        assert_eq!(track(&mut state, Dir::Initiator), Verdict::Accept { changed: false });
        assert_eq!(state.name(), "new");
        assert_eq!(track(&mut state, Dir::Responder), Verdict::Accept { changed: true });
        assert_eq!(state.name(), "replied");
        assert_eq!(track(&mut state, Dir::Responder), Verdict::Accept { changed: false });
        assert_eq!(track(&mut state, Dir::Initiator), Verdict::Accept { changed: false });
        assert_eq!(state, FlowState::Replied);
    }
}
