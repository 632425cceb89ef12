//! Whole Ethernet frames, as they pass an interface of the lab: for taps, for forged frames and for the
//! forwarder that loses them. An `AF_PACKET` socket, kept to one interface.

use std::{
    fs::File,
    io::{ErrorKind, Read, Write},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    sync::{Arc, Mutex, atomic::Ordering},
    time::{Duration, Instant},
};

use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, SockaddrLike, bind, socket};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    net::sockopt::set_socket_recv_buffer_size_force,
};

use crate::{
    background::Background,
    error::{LabError, Result},
    netns,
    topology::Host,
};

/// Longest frame of the lab's links.
pub const FRAME_MAX: usize = 1 << 14;
const BUFFER_BYTES: usize = 16 << 20;

/// A packet socket on one interface. It sees what comes in there and what others send out there, but not
/// what it sends itself.
#[derive(Debug)]
pub struct FramePort {
    file: File,
}

impl FramePort {
    /// Opens an interface of a host.
    pub fn open(host: Host, interface: &str) -> Result<Self> {
        netns::within(host, || Self::open_here(interface))?
    }

    /// Opens an interface of the network that the calling thread is in.
    pub fn open_here(interface: &str) -> Result<Self> {
        let failed = |error: nix::Error| LabError::Io {
            what: format!("packet socket on {interface}"),
            source: error.into(),
        };
        // The list's addresses have no protocol, so binding keeps the one that the socket is made with.
        let address = nix::ifaddrs::getifaddrs()
            .map_err(failed)?
            .filter(|entry| entry.interface_name == interface)
            .filter_map(|entry| entry.address)
            .find(|address| address.family() == Some(AddressFamily::Packet))
            .ok_or_else(|| failed(nix::Error::ENODEV))?;
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket: OwnedFd =
            socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll).map_err(failed)?;
        bind(socket.as_raw_fd(), &address).map_err(failed)?;
        let port = Self { file: File::from(socket) };
        let _ = set_socket_recv_buffer_size_force(&port.file, BUFFER_BYTES);
        // Between making and binding it heard every interface.
        let mut buffer = vec![0; FRAME_MAX];
        while port.receive(&mut buffer).is_some() {}
        Ok(port)
    }

    /// The next frame that waits, if one does.
    pub fn receive(&self, buffer: &mut [u8]) -> Option<usize> {
        loop {
            match (&self.file).read(buffer) {
                Ok(length) => return Some(length),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Also when the link is down: it may come up again.
                Err(_) => return None,
            }
        }
    }

    /// Sends a frame; `false` when the link does not take it.
    pub fn send(&self, frame: &[u8]) -> bool {
        loop {
            match (&self.file).write(frame) {
                Ok(_) => return true,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
    }

    /// Waits until a frame is there or time is up.
    pub fn wait(&self, limit: Duration) {
        wait_any(&[self], limit);
    }
}

impl AsFd for FramePort {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Waits until one of several ports has a frame or time is up.
pub fn wait_any(ports: &[&FramePort], limit: Duration) {
    let mut fds: Vec<PollFd<'_>> = ports.iter().map(|port| PollFd::new(*port, PollFlags::IN)).collect();
    let limit = Timespec {
        tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: limit.subsec_nanos().into(),
    };
    let _ = poll(&mut fds, Some(&limit));
}

/// The bytes of a MAC as it is written; zeros where it is none.
pub fn mac(text: &str) -> [u8; 6] {
    let mut bytes = [0; 6];
    for (byte, digits) in bytes.iter_mut().zip(text.split(':')) {
        *byte = u8::from_str_radix(digits, 16).unwrap_or(0);
    }
    bytes
}

/// A frame with the moment when it was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenFrame {
    /// By the lab's monotonic clock.
    pub at: Instant,
    /// From the destination MAC to the end of the payload.
    pub bytes: Vec<u8>,
}

impl SeenFrame {
    /// Destination MAC.
    pub fn to(&self) -> &[u8] {
        self.bytes.get(..6).unwrap_or_default()
    }

    /// Source MAC.
    pub fn from(&self) -> &[u8] {
        self.bytes.get(6..12).unwrap_or_default()
    }

    /// EtherType.
    pub fn ether_type(&self) -> u16 {
        self.bytes.get(12..14).map_or(0, |word| u16::from_be_bytes([word[0], word[1]]))
    }

    /// What follows the Ethernet header.
    pub fn payload(&self) -> &[u8] {
        self.bytes.get(14..).unwrap_or_default()
    }
}

/// Keeps the frames that pass an interface and that a question says yes to.
#[derive(Debug)]
pub struct FrameTap {
    seen: Arc<Mutex<Vec<SeenFrame>>>,
    _thread: Background,
}

impl FrameTap {
    /// Begins to watch.
    pub fn start(
        host: Host,
        interface: &str,
        mut which: impl FnMut(&SeenFrame) -> bool + Send + 'static,
    ) -> Result<Self> {
        let port = FramePort::open(host, interface)?;
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sink = seen.clone();
        let thread = Background::start("frame-tap", move |stop| {
            let mut buffer = vec![0; FRAME_MAX];
            while !stop.load(Ordering::Relaxed) {
                port.wait(Duration::from_millis(50));
                while let Some(length) = port.receive(&mut buffer) {
                    let frame = SeenFrame { at: Instant::now(), bytes: buffer[..length].to_vec() };
                    if which(&frame)
                        && let Ok(mut seen) = sink.lock()
                    {
                        seen.push(frame);
                    }
                }
            }
        })?;
        Ok(Self { seen, _thread: thread })
    }

    /// The frames kept so far that another question says yes to.
    pub fn seen(&self, mut which: impl FnMut(&SeenFrame) -> bool) -> Vec<SeenFrame> {
        self.seen
            .lock()
            .map(|seen| seen.iter().filter(|frame| which(frame)).cloned().collect())
            .unwrap_or_default()
    }

    /// How many were kept so far.
    pub fn count(&self) -> usize {
        self.seen.lock().map_or(0, |seen| seen.len())
    }

    /// Forgets what was kept so far.
    pub fn clear(&self) {
        if let Ok(mut seen) = self.seen.lock() {
            seen.clear();
        }
    }
}
