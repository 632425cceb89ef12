//! IP protocols without ports (GRE, ESP, OSPF …): tracked by address pair and protocol number, like UDP
//! but with timeouts of their own.

use super::{Dir, FlowState, Verdict};

/// The state after the first packet.
#[inline(always)]
pub fn open() -> FlowState {
    FlowState::New
}

/// Takes a packet into account; every one is accepted.
#[inline(always)]
pub fn track(state: &mut FlowState, dir: Dir) -> Verdict {
    Verdict::Accept { changed: state.advance(dir) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b_03_other_protocols_are_new_until_answered() {
        let mut state = open();
        assert_eq!(track(&mut state, Dir::Initiator), Verdict::Accept { changed: false });
        assert_eq!(track(&mut state, Dir::Responder), Verdict::Accept { changed: true });
        assert_eq!(
            (state, track(&mut state, Dir::Responder)),
            (FlowState::Replied, Verdict::Accept { changed: false })
        );
    }
}
