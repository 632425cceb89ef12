//! TCP (RFC 9293) and the options that tracking needs: window scale and timestamps (RFC 7323), selective
//! acknowledgements (RFC 2018).

use crate::desc::{Desc, Kind};
use zerocopy::byteorder::network_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Length of a header without options.
pub const HEADER_LEN: usize = 20;

/// The largest window scale (RFC 7323 §2.3); greater ones count as this.
pub const MAX_WINDOW_SCALE: u8 = 14;

/// The fixed part of the header, as it lies in a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct TcpHeader {
    /// Sender's port.
    pub sport: U16,
    /// Receiver's port.
    pub dport: U16,
    /// Sequence number.
    pub seq: U32,
    /// Acknowledgement number.
    pub ack: U32,
    /// Data offset in 32-bit words, in the upper four bits.
    pub data_offset: u8,
    /// Flags, see [`crate::tcp_flags`]; the two highest are ECN's (RFC 3168).
    pub flags: u8,
    /// Window, unscaled.
    pub window: U16,
    /// Checksum.
    pub check: U16,
    /// Urgent pointer.
    pub urgent: U16,
}

impl TcpHeader {
    /// The header that `desc` found; `None` if the packet is no TCP.
    pub fn view<'a>(frame: &'a [u8], desc: &Desc) -> Option<&'a Self> {
        if desc.kind != Kind::Tcp {
            return None;
        }
        Self::ref_from_prefix(frame.get(usize::from(desc.l4)..)?).ok().map(|(header, _)| header)
    }

    /// Writes a header without options; the checksum is left to [`crate::checksum`]. `None` if there is
    /// no room.
    pub fn emit(segment: &mut [u8], ports: (u16, u16), control: &Control) -> Option<usize> {
        let header = Self {
            sport: U16::new(ports.0),
            dport: U16::new(ports.1),
            seq: U32::new(control.seq),
            ack: U32::new(control.ack),
            data_offset: 5 << 4,
            flags: control.flags,
            window: U16::new(control.window),
            check: U16::ZERO,
            urgent: U16::ZERO,
        };
        header.write_to_prefix(segment).ok()?;
        Some(HEADER_LEN)
    }
}

/// A segment without payload, as the firewall itself sends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Control {
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// Flags, see [`crate::tcp_flags`].
    pub flags: u8,
    /// Window, unscaled.
    pub window: u16,
}

/// A selectively acknowledged range: `left` inclusive, `right` exclusive (RFC 2018 §3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SackBlock {
    /// First sequence number of the block.
    pub left: u32,
    /// The number behind its last one.
    pub right: u32,
}

/// Timestamps option (RFC 7323 §3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timestamps {
    /// The sender's clock.
    pub value: u32,
    /// The receiver's clock as the sender last saw it.
    pub echo: u32,
}

/// What the options of one segment say. Unknown options are skipped; a known one of a wrong length is
/// skipped and makes `malformed` true.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TcpOptions {
    /// Maximum segment size.
    pub mss: Option<u16>,
    /// Window scale, at most [`MAX_WINDOW_SCALE`].
    pub window_scale: Option<u8>,
    /// The sender takes selective acknowledgements.
    pub sack_permitted: bool,
    /// Timestamps.
    pub timestamps: Option<Timestamps>,
    /// An option has a wrong length or runs beyond the header; what came before it counts.
    pub malformed: bool,
    sack: [SackBlock; MAX_SACK_BLOCKS],
    sack_len: u8,
}

/// Forty bytes of options have room for four blocks.
const MAX_SACK_BLOCKS: usize = 4;

impl TcpOptions {
    /// Reads the options of the segment that `desc` found; none if the packet is no TCP.
    #[inline]
    pub fn of(frame: &[u8], desc: &Desc) -> Self {
        let start = usize::from(desc.l4);
        match frame.get(start + HEADER_LEN..start + usize::from(desc.tcp.header_len)) {
            Some(options) if desc.kind == Kind::Tcp => Self::read(options),
            _ => Self::default(),
        }
    }

    /// Reads option bytes. Each turn consumes at least one, so forty turns are the most.
    pub fn read(mut bytes: &[u8]) -> Self {
        const END: u8 = 0;
        const NO_OPERATION: u8 = 1;
        let mut options = Self::default();
        loop {
            bytes = match bytes {
                [] | [END, ..] => return options,
                [NO_OPERATION, rest @ ..] => rest,
                [kind, len, ..] if *len >= 2 && usize::from(*len) <= bytes.len() => {
                    let (option, rest) = bytes.split_at(usize::from(*len));
                    options.take(*kind, &option[2..]);
                    rest
                }
                _ => {
                    options.malformed = true;
                    return options;
                }
            }
        }
    }

    /// The selective acknowledgements, in the segment's order.
    pub fn sack_blocks(&self) -> &[SackBlock] {
        self.sack.get(..usize::from(self.sack_len)).unwrap_or_default()
    }

    fn take(&mut self, kind: u8, body: &[u8]) {
        match (kind, body) {
            (2, [hi, lo]) => self.mss = Some(u16::from_be_bytes([*hi, *lo])),
            (3, [scale]) => self.window_scale = Some((*scale).min(MAX_WINDOW_SCALE)),
            (4, []) => self.sack_permitted = true,
            (5, body) if !body.is_empty() && body.len() % 8 == 0 => {
                let (blocks, _) = body.as_chunks::<8>();
                for (slot, block) in self.sack.iter_mut().zip(blocks) {
                    let (left, right) = be32_pair(block);
                    *slot = SackBlock { left, right };
                }
                self.sack_len = blocks.len().min(MAX_SACK_BLOCKS) as u8;
            }
            (8, body) => match body.as_array::<8>() {
                Some(body) => {
                    let (value, echo) = be32_pair(body);
                    self.timestamps = Some(Timestamps { value, echo });
                }
                None => self.malformed = true,
            },
            (2..=5, _) => self.malformed = true,
            _ => {}
        }
    }
}

fn be32_pair(bytes: &[u8; 8]) -> (u32, u32) {
    let pair = u64::from_be_bytes(*bytes);
    ((pair >> 32) as u32, pair as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::craft::Frame;
    use crate::desc::tcp_flags::{ACK, FIN, PSH, RST, SYN, URG};
    use crate::{ParseError, parse};

    const SRC: [u8; 4] = [10, 1, 0, 10];
    const DST: [u8; 4] = [10, 2, 0, 10];

    #[test]
    fn linux_syn_options_are_read() {
        let options = [2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 1, 0, 0, 0, 0, 2, 1, 3, 3, 7];
        let frame = Frame::tcp(SRC, DST, 1, 2).flags(SYN).options(&options).bytes();
        let desc = parse(&frame, frame.len()).unwrap();
        let read = TcpOptions::of(&frame, &desc);
        assert_eq!((read.mss, read.window_scale, read.sack_permitted), (Some(1460), Some(7), true));
        assert_eq!(read.timestamps, Some(Timestamps { value: 256, echo: 2 }));
        assert!(!read.malformed && read.sack_blocks().is_empty());
        assert_eq!(TcpHeader::view(&frame, &desc).unwrap().data_offset, 10 << 4);
    }

    #[test]
    fn sack_blocks_come_in_order() {
        let mut options = vec![1, 1, 5, 18];
        for number in [100u32, 200, 300, 0xffff_fff0] {
            options.extend_from_slice(&number.to_be_bytes());
        }
        let blocks = [SackBlock { left: 100, right: 200 }, SackBlock { left: 300, right: 0xffff_fff0 }];
        assert_eq!(TcpOptions::read(&options).sack_blocks(), blocks);
        let five: Vec<u8> = [5u8, 42].into_iter().chain([0; 40]).collect();
        assert_eq!(TcpOptions::read(&five).sack_blocks().len(), 4);
    }

    #[test]
    fn odd_options_are_bounded_and_marked() {
        assert_eq!(TcpOptions::read(&[3, 3, 200]).window_scale, Some(14));
        for bad in
            [&[2, 0, 0, 0][..], &[2, 1], &[8], &[8, 10, 0], &[2, 3, 9], &[5, 10, 0], &[5, 2], &[4, 3, 0]]
        {
            let read = TcpOptions::read(bad);
            assert!(read.malformed, "{bad:?}");
            assert_eq!(TcpOptions { malformed: false, ..read }, TcpOptions::default());
        }
        // What stands before the fault counts; what stands behind the end does not.
        let read = TcpOptions::read(&[3, 3, 5, 2, 9, 0]);
        assert_eq!((read.window_scale, read.malformed), (Some(5), true));
        assert_eq!(TcpOptions::read(&[0, 3, 3, 5]), TcpOptions::default());
        assert_eq!(TcpOptions::read(&[254, 4, 1, 2, 3, 3, 5]).window_scale, Some(5));
    }

    #[test]
    fn data_offset_must_lie_in_the_segment() {
        let good = Frame::tcp(SRC, DST, 1, 2).payload(b"abcd").bytes();
        for (offset, verdict) in [(4, false), (5, true), (6, true), (7, false), (15, false)] {
            let mut frame = good.clone();
            frame[46] = offset << 4;
            let parsed = parse(&frame, frame.len()).map(|d| d.kind);
            assert_eq!(parsed, if verdict { Ok(Kind::Tcp) } else { Err(ParseError::BadTcpHeader) });
        }
        let cut = Frame::ip(SRC, DST, crate::Proto::TCP).payload_len(19).bytes();
        assert_eq!(parse(&cut, cut.len()).unwrap_err(), ParseError::BadTcpHeader);
        let options = Frame::tcp(SRC, DST, 1, 2).options(&[1; 8]).bytes();
        assert_eq!(parse(&options[..58], options.len()).unwrap_err(), ParseError::HeadersSplit);
    }

    #[test]
    fn only_combinations_that_a_tcp_sends_pass() {
        let sent = [SYN, SYN | ACK, RST, RST | ACK, ACK, FIN | ACK, ACK | URG, FIN | ACK | URG, SYN | URG];
        let passing: Vec<u8> = (0..64).filter(|flags| sent.contains(&(flags & !PSH))).collect();
        for flags in 0..64 {
            let frame = Frame::tcp(SRC, DST, 1, 2).flags(flags | 0xc0).bytes();
            let verdict = parse(&frame, frame.len()).map(|d| d.tcp.flags);
            let expected = if passing.contains(&flags) { Ok(flags) } else { Err(ParseError::BadTcpFlags) };
            assert_eq!(verdict, expected);
        }
        assert_eq!(passing.len(), 18);
    }
}
