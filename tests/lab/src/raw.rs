//! Talks over IP protocols that have no ports: numbered packets between raw sockets of client and server.
//!
//! Any number will do for a protocol, the kernel need not know it: with a raw socket at the server it also
//! does not answer that the protocol is unreachable.

use std::{
    net::{IpAddr, SocketAddr},
    num::NonZeroU32,
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with,
    sockopt::{Timeout, set_socket_timeout},
};

use crate::{
    error::{LabError, Result},
    netns,
    topology::{Family, Host},
};

/// How long a packet may be on its way.
const PATIENCE: Duration = Duration::from_millis(500);
const MARK: &[u8; 8] = b"raw talk";

/// Client and server, and a protocol that both speak.
#[derive(Debug)]
pub struct RawTalk {
    client: OwnedFd,
    server: OwnedFd,
    family: Family,
}

impl RawTalk {
    /// Opens both ends.
    pub fn open(family: Family, protocol: u8) -> Result<Self> {
        let protocol = NonZeroU32::new(protocol.into()).map(Protocol::from_raw);
        let end = |host| open(host, family, protocol);
        Ok(Self { client: end(Host::Client)?, server: end(Host::Server)?, family })
    }

    /// Whether a packet goes from the client to the server and another one back.
    pub fn ask(&self, number: u64) -> bool {
        pass(&self.client, &self.server, self.family.server(), number) && self.tell(number)
    }

    /// Whether a packet goes from the server to the client, which says nothing.
    pub fn tell(&self, number: u64) -> bool {
        pass(&self.server, &self.client, self.family.client(), number)
    }
}

/// A raw socket of a host for a protocol, which waits for packets only so long that its reader can look up.
pub(crate) fn socket(host: Host, family: Family, protocol: Protocol) -> Result<OwnedFd> {
    open(host, family, Some(protocol))
}

fn open(host: Host, family: Family, protocol: Option<Protocol>) -> Result<OwnedFd> {
    let domain = match family {
        Family::V4 => AddressFamily::INET,
        Family::V6 => AddressFamily::INET6,
    };
    let socket =
        netns::within(host, || socket_with(domain, SocketType::RAW, SocketFlags::CLOEXEC, protocol))?
            .map_err(LabError::errno("open a raw socket"))?;
    set_socket_timeout(&socket, Timeout::Recv, Some(Duration::from_millis(50)))
        .map_err(LabError::errno("set a timeout"))?;
    Ok(socket)
}

fn pass(from: &OwnedFd, to: &OwnedFd, address: IpAddr, number: u64) -> bool {
    let packet = [&MARK[..], &number.to_be_bytes()].concat();
    if sendto(from, &packet, SendFlags::empty(), &SocketAddr::new(address, 0)).is_err() {
        return false;
    }
    let deadline = Instant::now() + PATIENCE;
    let mut buffer = [0; 2048];
    while Instant::now() < deadline {
        // IPv4 raw sockets show the IP header, IPv6 ones do not: the payload is the end of either.
        if let Ok((length, _)) = recv(to, &mut buffer[..], RecvFlags::empty())
            && buffer[..length].ends_with(&packet)
        {
            return true;
        }
    }
    false
}
