//! Probes below the socket API: segments that no kernel would send, and a look at what really arrives.
//!
//! Raw IP sockets are enough for that. The kernel writes the IP header and routes; we write the rest.

use std::{
    net::{IpAddr, SocketAddr, TcpStream},
    sync::{Arc, Mutex, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};

use rustix::net::{RecvFlags, SendFlags, ipproto, recv, sendto, sockopt::set_socket_recv_buffer_size};

use crate::{
    background::Background,
    checksum,
    error::{LabError, Result},
    netns, raw,
    topology::{Family, Host},
};

/// Number of the protocol.
const TCP: u8 = 6;

/// FIN.
pub const FIN: u8 = 0x01;
/// SYN.
pub const SYN: u8 = 0x02;
/// RST.
pub const RST: u8 = 0x04;
/// ACK.
pub const ACK: u8 = 0x10;

/// How an attempt to connect ended.
#[derive(Debug)]
pub enum ConnectOutcome {
    /// The handshake went through.
    Connected(TcpStream),
    /// A reset came back.
    Refused,
    /// Nothing came back.
    Silence,
    /// Something else, such as an ICMP error.
    Other(std::io::Error),
}

/// Tries to connect from a host. With a limit under a second exactly one SYN leaves.
pub fn connect(host: Host, to: SocketAddr, limit: Duration) -> Result<ConnectOutcome> {
    use std::io::ErrorKind::{ConnectionRefused, TimedOut};
    Ok(match netns::within(host, || TcpStream::connect_timeout(&to, limit))? {
        Ok(stream) => ConnectOutcome::Connected(stream),
        Err(error) if error.kind() == ConnectionRefused => ConnectOutcome::Refused,
        Err(error) if error.kind() == TimedOut => ConnectOutcome::Silence,
        Err(error) => ConnectOutcome::Other(error),
    })
}

/// A TCP segment as it is sent or seen: no options, no window to speak of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Source port.
    pub from_port: u16,
    /// Destination port.
    pub to_port: u16,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// Flags byte.
    pub flags: u8,
    /// Payload.
    pub payload: Vec<u8>,
}

impl Segment {
    /// A segment without payload.
    pub fn bare(from_port: u16, to_port: u16, seq: u32, ack: u32, flags: u8) -> Self {
        Self { from_port, to_port, seq, ack, flags, payload: Vec::new() }
    }

    /// Its bytes on the wire, checksum included.
    fn to_bytes(&self, from: IpAddr, to: IpAddr) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(20 + self.payload.len());
        bytes.extend_from_slice(&self.from_port.to_be_bytes());
        bytes.extend_from_slice(&self.to_port.to_be_bytes());
        bytes.extend_from_slice(&self.seq.to_be_bytes());
        bytes.extend_from_slice(&self.ack.to_be_bytes());
        bytes.extend_from_slice(&[5 << 4, self.flags]);
        bytes.extend_from_slice(&64_000_u16.to_be_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&self.payload);
        let checksum = checksum::of_segment(TCP, from, to, &bytes);
        bytes[16..18].copy_from_slice(&checksum.to_be_bytes());
        bytes
    }

    /// Reads a segment from its bytes.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let word = |at: usize| -> Option<[u8; 4]> { bytes.get(at..at + 4)?.try_into().ok() };
        let ports = word(0)?;
        let offset = usize::from(*bytes.get(12)? >> 4) * 4;
        Some(Self {
            from_port: u16::from_be_bytes([ports[0], ports[1]]),
            to_port: u16::from_be_bytes([ports[2], ports[3]]),
            seq: u32::from_be_bytes(word(4)?),
            ack: u32::from_be_bytes(word(8)?),
            flags: *bytes.get(13)?,
            payload: bytes.get(offset..)?.to_vec(),
        })
    }
}

/// Sends a hand-made segment from one end host to the other.
pub fn send_segment(from: Host, family: Family, segment: &Segment) -> Result<()> {
    let to = if from == Host::Client { Host::Server } else { Host::Client };
    let Some(destination) = to.address(family) else {
        return Err(LabError::Unsupported(format!("{} sends no segments", from.name())));
    };
    send_segment_to(from, destination, segment)
}

/// Sends a hand-made segment from an end host to any address.
pub fn send_segment_to(from: Host, destination: IpAddr, segment: &Segment) -> Result<()> {
    let family = if destination.is_ipv4() { Family::V4 } else { Family::V6 };
    let Some(source) = from.address(family) else {
        return Err(LabError::Unsupported(format!("{} sends no segments", from.name())));
    };
    let bytes = segment.to_bytes(source, destination);
    let socket = raw::socket(from, family, ipproto::TCP)?;
    sendto(&socket, &bytes, SendFlags::empty(), &SocketAddr::new(destination, 0))
        .map_err(LabError::errno("send a raw segment"))?;
    Ok(())
}

/// Watches every TCP segment that reaches a host's IP layer.
#[derive(Debug)]
pub struct TcpTap {
    seen: Arc<Mutex<Vec<Segment>>>,
    _thread: Background,
}

impl TcpTap {
    /// Begins to watch.
    pub fn start(host: Host, family: Family) -> Result<Self> {
        let socket = raw::socket(host, family, ipproto::TCP)?;
        set_socket_recv_buffer_size(&socket, 4 << 20).map_err(LabError::errno("set a buffer size"))?;
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sink = seen.clone();
        let thread = Background::start("tcp-tap", move |stop| {
            let mut buffer = vec![0; 65_536];
            while !stop.load(Ordering::Relaxed) {
                let Ok((length, _)) = recv(&socket, &mut buffer[..], RecvFlags::empty()) else { continue };
                // IPv4 raw sockets show the IP header, IPv6 ones do not.
                let header = if family == Family::V4 { usize::from(buffer[0] & 15) * 4 } else { 0 };
                let segment = buffer.get(header..length).and_then(Segment::parse);
                if let (Some(segment), Ok(mut seen)) = (segment, sink.lock()) {
                    seen.push(segment);
                }
            }
        })?;
        Ok(Self { seen, _thread: thread })
    }

    /// The segments seen so far that a question says yes to.
    pub fn seen(&self, mut which: impl FnMut(&Segment) -> bool) -> Vec<Segment> {
        self.seen
            .lock()
            .map(|seen| seen.iter().filter(|segment| which(segment)).cloned().collect())
            .unwrap_or_default()
    }

    /// Waits until so many of a kind were seen, or time is up; hands back what there is.
    pub fn wait(
        &self,
        count: usize,
        limit: Duration,
        mut which: impl FnMut(&Segment) -> bool,
    ) -> Vec<Segment> {
        let deadline = Instant::now() + limit;
        loop {
            let found = self.seen(&mut which);
            if found.len() >= count || Instant::now() >= deadline {
                return found;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_reads_back_and_its_checksum_is_right() {
        let segment = Segment { payload: b"abc".to_vec(), ..Segment::bare(1, 65_535, 7, 9, SYN | ACK) };
        for family in Family::BOTH {
            let bytes = segment.to_bytes(family.client(), family.server());
            assert_eq!(Segment::parse(&bytes), Some(segment.clone()));
            // Over a segment that holds its own checksum the sum is all ones.
            assert_eq!(checksum::of_segment(TCP, family.client(), family.server(), &bytes), 0);
        }
        assert_eq!(Segment::parse(&[0; 13]), None);
    }
}
