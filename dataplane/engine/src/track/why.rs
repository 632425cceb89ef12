//! Why a packet did not simply fit its session: each reason is a counter with a documented meaning.

macro_rules! reasons {
    ($($variant:ident $name:literal $meaning:literal)*) => {
        /// Why a tracker refused a packet or let it pass without learning from it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Why {
            $(#[doc = $meaning] $variant,)*
        }

        impl Why {
            /// Every reason, in counter order.
            pub const ALL: &'static [Why] = &[$(Why::$variant),*];
            /// How many there are.
            pub const COUNT: usize = Why::ALL.len();

            /// The counter's name.
            pub fn name(self) -> &'static str {
                match self { $(Why::$variant => $name),* }
            }

            /// What the counter counts, for an operator.
            pub fn meaning(self) -> &'static str {
                match self { $(Why::$variant => $meaning),* }
            }

            /// True if packets counted under this reason are dropped; the others pass, unlearned.
            pub fn is_drop(self) -> bool {
                self as u8 > Why::AfterClose as u8
            }
        }
    };
}

reasons! {
    OldDuplicate "tcp-old-duplicate" "TCP segment of data or an acknowledgement long passed: let through, nothing learned."
    Overshoot "tcp-overshoot" "TCP segment a little beyond the receiver's window: let through, nothing learned."
    RstNotExact "tcp-rst-not-exact" "RST inside the window but not at the expected number: let through, the end host asks with a challenge ACK (RFC 5961 §3.2)."
    RstForSyn "tcp-rst-for-syn" "RST that refuses a SYN sent on a live session: let through, the session stays."
    SynOnLive "tcp-syn-on-live" "SYN on a live session: let through, the end host answers with a challenge ACK (RFC 5961 §4)."
    ChallengeAck "tcp-challenge-ack" "ACK in answer to a SYN that began anew: let through, the initiator resets the old connection."
    AfterClose "tcp-after-close" "Straggler of a connection that was reset: let through while the session lingers."
    BadFlags "tcp-bad-flags" "TCP flags that contradict each other, for example SYN with FIN or RST."
    NoAck "tcp-no-ack" "TCP segment without ACK, SYN or RST."
    UnknownSynAck "tcp-unknown-syn-ack" "SYN-ACK that belongs to no session."
    UnknownAck "tcp-unknown-ack" "TCP data or ACK that belongs to no session."
    UnknownFin "tcp-unknown-fin" "FIN that belongs to no session."
    UnknownRst "tcp-unknown-rst" "RST that belongs to no session."
    SynAckMismatch "tcp-syn-ack-mismatch" "SYN-ACK that does not acknowledge the session's SYN."
    SynAckUnexpected "tcp-syn-ack-unexpected" "SYN-ACK where the session's state allows none."
    BeforeSynAck "tcp-before-syn-ack" "TCP segment other than SYN before the responder's SYN-ACK."
    HandshakeAck "tcp-handshake-ack" "Segment that should complete the handshake but acknowledges something else."
    SeqTooOld "tcp-seq-too-old" "Sequence number far below the window."
    SeqTooNew "tcp-seq-too-new" "Sequence number far above the window."
    AckTooOld "tcp-ack-too-old" "Acknowledgement far below what was already acknowledged."
    AckUnsent "tcp-ack-unsent" "Acknowledgement of data that was never sent."
    RstOutOfWindow "tcp-rst-out-of-window" "RST outside the window."
    RstNotForSyn "tcp-rst-not-for-syn" "RST that does not acknowledge the session's SYN."
    DataAfterFin "tcp-data-after-fin" "Data beyond the sender's own FIN."
    FinMoved "tcp-fin-moved" "FIN at another place than the sender's data or first FIN allow."
    Implausible "tcp-relaxed-implausible" "Segment of a taken-over connection, whose numbers are not known again yet, too far from where it stood."
    RstUnverified "tcp-rst-unverified" "RST on a taken-over connection that nothing confirms yet: held back, its claimed sender is asked."
    EchoReplyUnasked "icmp-echo-reply-unasked" "Echo reply without a request."
    EchoWrongWay "icmp-echo-wrong-way" "Echo request or reply in the direction that the session does not use for it."
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_ordered_as_counted() {
        for (i, why) in Why::ALL.iter().enumerate() {
            assert_eq!(*why as usize, i);
            assert!(why.meaning().ends_with('.'), "{why:?}");
            assert!(Why::ALL.iter().skip(i + 1).all(|other| other.name() != why.name()), "{why:?}");
        }
        assert_eq!(Why::COUNT, Why::EchoWrongWay as usize + 1);
        let passing = Why::ALL.iter().filter(|why| !why.is_drop());
        assert!(passing.clone().all(|why| why.meaning().contains("let through")));
        assert_eq!(passing.count(), 7);
    }
}
