//! ICMP and ICMPv6 echo (RFC 792, RFC 4443 §4): a request opens the session, whose key carries the
//! identifier; replies pass only against the request's direction. Nothing else opens or uses one: errors
//! belong to the session whose packet they quote.

use super::{Dir, FlowState, Verdict, Why};

/// Which of the two echo messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Echo {
    /// Echo request.
    Request,
    /// Echo reply.
    Reply,
}

/// The state after the first message of an unknown flow: only a request opens one.
#[inline(always)]
pub fn open(message: Echo) -> Result<FlowState, Why> {
    match message {
        Echo::Request => Ok(FlowState::New),
        Echo::Reply => Err(Why::EchoReplyUnasked),
    }
}

/// Takes a message of a known session into account: requests from the initiator, replies to it.
#[inline(always)]
pub fn track(state: &mut FlowState, dir: Dir, message: Echo) -> Verdict {
    match (dir, message) {
        (Dir::Initiator, Echo::Request) | (Dir::Responder, Echo::Reply) => {
            Verdict::Accept { changed: state.advance(dir) }
        }
        _ => Verdict::Invalid(Why::EchoWrongWay),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b_03_echo_passes_as_request_out_and_reply_back() {
        let mut state = open(Echo::Request).unwrap();
        assert_eq!(track(&mut state, Dir::Initiator, Echo::Request), Verdict::Accept { changed: false });
        assert_eq!(track(&mut state, Dir::Responder, Echo::Reply), Verdict::Accept { changed: true });
        assert_eq!(track(&mut state, Dir::Responder, Echo::Reply), Verdict::Accept { changed: false });
        assert_eq!(state, FlowState::Replied);
    }

    #[test]
    fn echo_the_wrong_way_is_invalid_and_teaches_nothing() {
        assert_eq!(open(Echo::Reply), Err(Why::EchoReplyUnasked));
        let mut state = open(Echo::Request).unwrap();
        let wrong = Verdict::Invalid(Why::EchoWrongWay);
        assert_eq!(track(&mut state, Dir::Responder, Echo::Request), wrong);
        assert_eq!(track(&mut state, Dir::Initiator, Echo::Reply), wrong);
        assert_eq!(state, FlowState::New);
    }
}
