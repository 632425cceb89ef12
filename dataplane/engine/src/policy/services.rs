//! Services as numbers: protocol and destination port in one, so that a service list is a few spans.

use wire::{FlowKey, Proto};

use super::check::merge;
use super::rule::Service;

/// First and last of some service numbers.
pub(super) type Span = (u32, u32);

/// How many tables of 65,536 numbers there are: ports of TCP, UDP and SCTP, and everything else.
pub(super) const TABLES: usize = 4;
const OTHER: u32 = 3;
/// In the last table: an echo request.
const ECHO: u32 = 1 << 8;

/// The table of a protocol.
const TABLE_OF: [u8; 256] = {
    let mut tables = [OTHER as u8; 256];
    tables[Proto::TCP.0 as usize] = 0;
    tables[Proto::UDP.0 as usize] = 1;
    tables[Proto::SCTP.0 as usize] = 2;
    tables
};

/// The table and the place in it of a packet's service.
#[inline(always)]
pub(super) fn place(key: &FlowKey, echo: bool) -> (usize, u16) {
    let proto = key.proto().0;
    let table = TABLE_OF[usize::from(proto)];
    let other = u16::from(proto) | u16::from(echo) << 8;
    (usize::from(table), if u32::from(table) == OTHER { other } else { key.dport() })
}

/// The numbers of a service list, disjoint and rising.
pub(super) fn spans(services: &[Service]) -> Vec<Span> {
    if services.is_empty() {
        return every();
    }
    let mut spans = Vec::new();
    for service in services {
        match *service {
            Service::Any => return every(),
            Service::Proto(proto) => match u32::from(TABLE_OF[usize::from(proto.0)]) {
                OTHER => spans.extend([other(proto, 0), other(proto, ECHO)]),
                table => spans.push((table << 16, table << 16 | 0xffff)),
            },
            Service::Ports { proto, low, high } => {
                let table = u32::from(TABLE_OF[usize::from(proto.0)]) << 16;
                spans.push((table | u32::from(low), table | u32::from(high)));
            }
            Service::IcmpEcho => spans.extend([other(Proto::ICMP, ECHO), other(Proto::ICMP6, ECHO)]),
        }
    }
    merge(spans)
}

fn every() -> Vec<Span> {
    vec![(0, ((TABLES as u32) << 16) - 1)]
}

fn other(proto: Proto, flags: u32) -> Span {
    let number = OTHER << 16 | flags | u32::from(proto.0);
    (number, number)
}
