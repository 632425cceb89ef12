//! The bodies of handshake and confirm datagrams.

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::noise::MESSAGE;
use crate::ids::Incarnation;

/// What a handshake datagram says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Message {
    /// "I am this incarnation." With `ask`, the other one shall say the same.
    Hello {
        /// An answer is wanted.
        ask: bool,
    },
    /// The first Noise message, for one incarnation of the receiver.
    First(Exchange),
    /// The second one.
    Second(Exchange),
}

/// A Noise message and what it belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Exchange {
    /// The initiator's count of handshakes, growing within its incarnation. Its low half names the keys.
    pub generation: u32,
    /// The receiver, as the sender knows it.
    pub target: Incarnation,
    /// The message.
    pub noise: [u8; MESSAGE],
}

const HELLO: u8 = 1;
const FIRST: u8 = 2;
const SECOND: u8 = 3;

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Wire {
    step: u8,
    ask: u8,
    spare: [u8; 2],
    generation: U32,
    target: U64,
    noise: [u8; MESSAGE],
}

impl Message {
    /// Bytes of every handshake body: equal for all, so that sizes tell nothing.
    pub const LEN: usize = size_of::<Wire>();

    /// As on the wire.
    #[must_use]
    pub fn to_wire(self) -> [u8; Self::LEN] {
        let wire = |step, ask, exchange: &Exchange| Wire {
            step,
            ask,
            spare: [0; 2],
            generation: exchange.generation.into(),
            target: exchange.target.0.into(),
            noise: exchange.noise,
        };
        let none = Exchange { generation: 0, target: Incarnation(0), noise: [0; MESSAGE] };
        zerocopy::transmute!(match &self {
            Self::Hello { ask } => wire(HELLO, u8::from(*ask), &none),
            Self::First(exchange) => wire(FIRST, 0, exchange),
            Self::Second(exchange) => wire(SECOND, 0, exchange),
        })
    }

    /// Back from the wire: `None` if it is too short or says nothing known.
    #[must_use]
    pub fn read(body: &[u8]) -> Option<Self> {
        let (wire, _) = Wire::ref_from_prefix(body).ok()?;
        let exchange = Exchange {
            generation: wire.generation.get(),
            target: Incarnation(wire.target.get()),
            noise: wire.noise,
        };
        match wire.step {
            HELLO => Some(Self::Hello { ask: wire.ask & 1 == 1 }),
            FIRST => Some(Self::First(exchange)),
            SECOND => Some(Self::Second(exchange)),
            _ => None,
        }
    }
}

/// What a confirm datagram says. It is sealed under the keys that it confirms: that is its proof.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Confirm {
    /// The initiator: "I have these keys. Have you?"
    Ask = 1,
    /// The responder: "So have I, and I use them."
    Answer = 2,
    /// The initiator: "I use them too."
    Done = 3,
}

impl Confirm {
    /// Back from the wire.
    #[must_use]
    pub fn read(body: &[u8]) -> Option<Self> {
        match body.first()? {
            1 => Some(Self::Ask),
            2 => Some(Self::Answer),
            3 => Some(Self::Done),
            _ => None,
        }
    }
}
