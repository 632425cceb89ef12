//! Packet headers as views, checksums, and the parse-once descriptor.
//!
//! Everything here works on plain bytes: no allocation, no I/O, no DPDK. [`parse()`] reads a frame once
//! and leaves a flat [`Desc`] that the engine's stages carry beside the packet; nothing behind it reads
//! a header a second time to find out where things are.
#![forbid(unsafe_code)]

pub mod arp;
pub mod buf;
pub mod checksum;
pub mod craft;
pub mod desc;
pub mod ether;
pub mod icmp;
pub mod ipv4;
pub mod ipv6;
pub mod key;
pub mod nd;
pub mod parse;
mod parse_error;
pub mod steer;
pub mod tcp;
pub mod udp;

pub use buf::{HeapBuf, PacketBuf, RxChecksum};
pub use desc::{Desc, Kind, TcpFields, tcp_flags};
pub use ether::Link;
pub use key::{Addr, FlowKey, MacAddr, Proto};
pub use parse::{ParseError, parse, parse_into, parse_with};
pub use steer::ToeplitzKey;
