//! What a session costs on the wire, in full datagrams of 1,400 bytes, all headers included (design §7).

use sync::datagram::{HEADER, Prefix, TAG};
use sync::ids::{GroupId, Seq, Term, Version};
use sync::record::{Record, RecordWriter, RuleRef, Session, Shared, State};

use super::messages::{tcp4, udp4};

/// UDP payload of a full datagram.
const DATAGRAM: usize = 1_400;
/// Ethernet, IPv4 and UDP in front of it.
const AROUND: usize = 14 + 20 + 8;

/// Sessions in one full datagram.
fn fill(shared: Shared, session: impl Fn(u32) -> Session) -> u32 {
    let mut datagram = [0; DATAGRAM];
    let prefix = Prefix { seq: Seq(9), floor: Seq(4), shared };
    let space = prefix.write(&mut datagram[HEADER..DATAGRAM - TAG]).expect("room");
    let mut writer = RecordWriter::new(space, shared);
    while writer.push(&Record::Session(session(writer.records()))) {}
    writer.records()
}

fn shared() -> Shared {
    let version = tcp4().version;
    Shared { term: version.term(), generation: tcp4().rule.generation, group: GroupId(0) }
}

/// Each with its own rule, zones, counter and lifetime: nothing that the encoding could share by luck.
fn varied(base: Session, n: u32) -> Session {
    Session {
        version: Version::new(base.version.term(), u64::from(n) << 40 | 77),
        rule: RuleRef { id: 0x0100_0193_u32.wrapping_mul(n), ..base.rule },
        zones: [n as u8, n as u8 + 1],
        ..base
    }
}

fn wire_bytes(sessions: u32) -> f64 {
    (DATAGRAM + AROUND) as f64 / f64::from(sessions)
}

#[test]
fn an_established_ipv4_connection_costs_at_most_56_bytes() {
    let sessions = fill(shared(), |n| varied(tcp4(), n));
    assert_eq!(sessions, 26);
    assert!(wire_bytes(sessions) <= 56.0, "{}", wire_bytes(sessions));
}

#[test]
fn an_ipv4_udp_flow_costs_at_most_40_bytes() {
    let sessions = fill(shared(), |n| varied(udp4(), n));
    assert_eq!(sessions, 44);
    assert!(wire_bytes(sessions) <= 40.0, "{}", wire_bytes(sessions));
}

/// The worst order: each record begins a run of its own. Sorted by kind, both stay within their budgets.
#[test]
fn connections_and_flows_in_turn_pay_for_their_runs() {
    assert_eq!(fill(shared(), |n| if n % 2 == 0 { tcp4() } else { udp4() }), 30);
    let sorted = fill(shared(), |n| if n < 16 { tcp4() } else { udp4() });
    assert_eq!(sorted, 33);
    assert!(wire_bytes(sorted) <= f64::midpoint(56.0, 40.0), "{}", wire_bytes(sorted));
}

/// What the budget does not promise, stated so that a change is seen: sessions of an earlier term and
/// policy, and connections with much in flight.
#[test]
fn what_is_not_common_is_paid_for() {
    let other = Shared { term: Term::ZERO, ..shared() };
    assert_eq!(fill(other, |_| tcp4()), 24);
    assert_eq!(fill(Shared { generation: 0, ..other }, |_| tcp4()), 23);
    let busy = |_| {
        let mut busy = tcp4();
        if let State::Tcp(tcp) = &mut busy.state {
            tcp.halves[1].end = tcp.halves[1].end.wrapping_add(1 << 20);
        }
        busy
    };
    assert_eq!(fill(shared(), busy), 19);
}
