//! Links of kernel interfaces, as the kernel sees them.
//!
//! A port on a packet socket calls its link always up (decision 14), so the kernel is asked: a netlink
//! socket tells of each change (rtnetlink(7), group RTMGRP_LINK) and of all interfaces at the start. It
//! belongs to the network namespace that the daemon runs in, which sysfs need not.

use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, send, socket_with,
};
use std::collections::HashMap;

/// Knows the links of some interfaces.
pub struct LinkWatch {
    socket: OwnedFd,
    links: Links,
}

/// By interface name.
#[derive(Debug, Default, PartialEq, Eq)]
struct Links {
    up: HashMap<String, Option<bool>>,
}

const RTMGRP_LINK: u32 = 1;
const NEW_LINK: u16 = 16;
const DELETE_LINK: u16 = 17;
const GET_LINK: u16 = 18;
const REQUEST_DUMP: u16 = 0x301;
const IFLA_IFNAME: u16 = 3;
/// IFF_UP and IFF_RUNNING: wanted up, and able to pass frames.
const RUNNING: u32 = 0x41;
/// Bytes of a message's header, and of the interface header behind it.
const HEADER: usize = 16;
/// Datagrams read at a time, at most.
const DATAGRAMS_MAX: usize = 64;

impl LinkWatch {
    /// Watches these interfaces.
    pub fn open(interfaces: impl Iterator<Item = String>) -> Result<Self, Errno> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        // Protocol 0 of this family is NETLINK_ROUTE.
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
        bind(&socket, &SocketAddrNetlink::new(0, RTMGRP_LINK))?;
        let mut watch = Self { socket, links: Links { up: interfaces.map(|name| (name, None)).collect() } };
        watch.ask()?;
        watch.update();
        Ok(watch)
    }

    /// Reads what the kernel has told since the last call.
    pub fn update(&mut self) {
        let mut buffer = vec![0; 32 * 1024];
        for _ in 0..DATAGRAMS_MAX {
            match recv(&self.socket, buffer.as_mut_slice(), RecvFlags::DONTWAIT) {
                Ok((_, len)) => self.links.take(buffer.get(..len).unwrap_or_default()),
                // Changes were lost: all over again. If even that fails, the next change tells.
                Err(Errno::NOBUFS) => drop(self.ask()),
                Err(Errno::INTR) => {}
                Err(_) => return,
            }
        }
    }

    /// True if frames can pass; `None` if the kernel has not said anything of such an interface.
    pub fn is_up(&self, interface: &str) -> Option<bool> {
        self.links.up.get(interface).copied().flatten()
    }

    /// Asks for all interfaces.
    fn ask(&self) -> Result<(), Errno> {
        let mut request = [0_u8; 2 * HEADER];
        let (header, _) = request.split_at_mut(HEADER);
        header[..4].copy_from_slice(&(2 * HEADER as u32).to_ne_bytes());
        header[4..6].copy_from_slice(&GET_LINK.to_ne_bytes());
        header[6..8].copy_from_slice(&REQUEST_DUMP.to_ne_bytes());
        send(&self.socket, &request, SendFlags::empty()).map(drop)
    }
}

impl Links {
    /// A datagram: messages one behind the other. What is malformed ends it.
    fn take(&mut self, mut datagram: &[u8]) {
        while let Some((len, kind)) = u32_at(datagram, 0).zip(u16_at(datagram, 4)) {
            let Some(message) = datagram.get(HEADER..len as usize) else { return };
            if kind == NEW_LINK || kind == DELETE_LINK {
                self.link(message, kind == NEW_LINK);
            }
            datagram = datagram.get((len as usize).next_multiple_of(4)..).unwrap_or_default();
        }
    }

    fn link(&mut self, message: &[u8], exists: bool) {
        let Some(flags) = u32_at(message, 8) else { return };
        let attributes = message.get(HEADER..).unwrap_or_default();
        if let Some(up) = interface_name(attributes).and_then(|name| self.up.get_mut(name)) {
            *up = Some(exists && flags & RUNNING == RUNNING);
        }
    }
}

fn interface_name(mut attributes: &[u8]) -> Option<&str> {
    loop {
        let len = usize::from(u16_at(attributes, 0)?);
        let value = attributes.get(4..len)?;
        if u16_at(attributes, 2)? == IFLA_IFNAME {
            return std::str::from_utf8(value.split(|byte| *byte == 0).next()?).ok();
        }
        attributes = attributes.get(len.next_multiple_of(4)..)?;
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|chunk| u16::from_ne_bytes(*chunk))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|chunk| u32::from_ne_bytes(*chunk))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A link message about `name`.
    fn message(kind: u16, flags: u32, name: &str) -> Vec<u8> {
        let mut body = vec![0; 8];
        body.extend(flags.to_ne_bytes());
        body.extend([0; 4]);
        // Another attribute before the name.
        body.extend([6, 0, 77, 0, 1, 2, 0, 0]);
        body.extend((4 + name.len() as u16 + 1).to_ne_bytes());
        body.extend(IFLA_IFNAME.to_ne_bytes());
        body.extend(name.bytes());
        body.push(0);
        let mut message = (HEADER as u32 + body.len() as u32).to_ne_bytes().to_vec();
        message.extend(kind.to_ne_bytes());
        message.extend([0; 10]);
        message.extend(body);
        message.resize(message.len().next_multiple_of(4), 0);
        message
    }

    fn links() -> Links {
        Links { up: ["lan0", "wan0"].map(|name| (name.to_owned(), None)).into() }
    }

    #[test]
    fn changes_of_watched_interfaces_are_noted() {
        let mut links = links();
        let mut datagram = message(NEW_LINK, 0x1_1043, "lan0");
        datagram.extend(message(NEW_LINK, 0x1_1043, "other0"));
        datagram.extend(message(NEW_LINK, 0x1003, "wan0"));
        links.take(&datagram);
        assert_eq!((links.up["lan0"], links.up["wan0"], links.up.len()), (Some(true), Some(false), 2));
        links.take(&message(NEW_LINK, 0x1_1043, "wan0"));
        links.take(&message(DELETE_LINK, 0x1_1043, "lan0"));
        assert_eq!((links.up["lan0"], links.up["wan0"]), (Some(false), Some(true)));
    }

    #[test]
    fn the_kernel_knows_the_loopback_and_no_fancy_name() {
        let names = ["lo", "nosuch0"].map(str::to_owned);
        let watch = LinkWatch::open(names.into_iter()).unwrap();
        assert!(watch.is_up("lo").is_some());
        assert_eq!((watch.is_up("nosuch0"), watch.is_up("unwatched0")), (None, None));
    }

    proptest! {
        #[test]
        fn no_datagram_does_harm(mut bytes in prop::collection::vec(any::<u8>(), 0..200), len in any::<u32>()) {
            let mut links = links();
            links.take(&bytes);
            bytes.splice(..0, len.to_ne_bytes());
            links.take(&bytes);
            let mut cut = message(NEW_LINK, 0x43, "lan0");
            cut.truncate(bytes.len().min(cut.len()));
            links.take(&cut);
        }
    }
}
