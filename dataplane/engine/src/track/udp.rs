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

/// True if a datagram from `dir` makes no difference to a session in this state (its stored form).
#[inline(always)]
pub(crate) fn is_settled(bits: u32, dir: Dir) -> bool {
    dir == Dir::Initiator || FlowState::from_bits(bits as u8) == FlowState::Replied
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settled_is_what_tracking_does_not_change() {
        for (state, dir) in [FlowState::New, FlowState::Replied]
            .into_iter()
            .flat_map(|state| [(state, Dir::Initiator), (state, Dir::Responder)])
        {
            let verdict = track(&mut state.clone(), dir);
            let changed = !is_settled(state.bits().into(), dir);
            assert_eq!(verdict, Verdict::Accept { changed }, "{state:?} {dir:?}");
        }
    }

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
