//! Session ⇄ record: the one place that knows both the engine's words and the wire's.
//!
//! Rules travel by their stable id alone: a reload makes new generations on each node at its own time, and
//! a node that does not know a rule asks its policy anew at the first packet after a takeover (decision 27).

use engine::table::SessionView;
use engine::track::Timeouts;
use engine::track::tcp::{Half, Known, NO_SCALE, TcpConn, TcpState, conn_flags};
use engine::{GroupId, Imported, ImportedState, RuleId, Ticks, ZoneId};
use sync::ids::Version;
use sync::record::{Addresses, Key, Lifetime, RuleRef, Session, State, TcpHalf, TcpSnapshot, Tuple};
use wire::{Addr, FlowKey, Proto};

/// The record of a session; `None` for one that the partner is not to have.
#[inline]
pub fn session(view: &SessionView, now: Ticks, timeouts: &Timeouts) -> Option<Session> {
    if !view.is_replicable() {
        return None;
    }
    let [forward, reply] = &view.keys;
    let state = match view.tcp() {
        Some((conn, idle)) => State::Tcp(snapshot(&conn, idle)),
        None => State::Flow(view.state as u8),
    };
    Some(Session {
        key: key(forward),
        reply: (*reply != forward.reversed()).then(|| tuple(reply)),
        version: Version(view.version),
        group: sync::ids::GroupId(view.path.group.0),
        rule: RuleRef { id: view.binding.rule.0, generation: 0 },
        zones: view.binding.zones.map(|zone| zone.0),
        remaining: Lifetime::from_ms(view.remaining_ms(now, timeouts).into()),
        state,
        two_way: view.packets.iter().all(|packets| *packets > 0),
        age_s: None,
        counters: None,
    })
}

/// The session of a record; `None` if this release cannot track it.
#[inline]
pub fn imported(session: &Session) -> Option<Imported> {
    let forward = flow_key(&session.key)?;
    let reply = match &session.reply {
        Some(reply) => flow_key(&Key { tuple: *reply, ..session.key })?,
        None => forward.reversed(),
    };
    let state = match session.state {
        State::Tcp(snapshot) => ImportedState::Tcp { conn: conn(&snapshot), idle: snapshot.idle },
        State::Flow(state) => ImportedState::Flow(state),
    };
    let counters = session.counters.unwrap_or_default();
    Some(Imported {
        keys: [forward, reply],
        version: session.version.0,
        rule: RuleId(session.rule.id),
        generation: session.rule.generation,
        zones: session.zones.map(ZoneId),
        group: GroupId(session.group.0),
        remaining_ms: session.remaining.as_ms() as u32,
        state,
        bytes: counters.bytes,
        packets: counters.packets,
    })
}

/// A flow's key on the wire.
#[inline]
pub fn key(flow: &FlowKey) -> Key {
    Key { tuple: tuple(flow), proto: flow.proto().0, vrf: flow.vrf() }
}

/// A flow's key from the wire.
#[inline]
pub fn flow_key(key: &Key) -> Option<FlowKey> {
    let (source, destination) = match key.tuple.addresses {
        Addresses::V4([source, destination]) => (Addr::V4(source), Addr::V4(destination)),
        Addresses::V6([source, destination]) => (Addr::V6(source), Addr::V6(destination)),
    };
    let [sport, dport] = key.tuple.ports;
    FlowKey::new(source, destination, Proto(key.proto), sport, dport).map(|flow| flow.with_vrf(key.vrf))
}

#[inline]
fn tuple(flow: &FlowKey) -> Tuple {
    let addresses = match (flow.src(), flow.dst()) {
        (Addr::V4(source), Addr::V4(destination)) => Addresses::V4([source, destination]),
        (Addr::V6(source), Addr::V6(destination)) => Addresses::V6([source, destination]),
        // A key is of one family.
        _ => Addresses::V4([[0; 4]; 2]),
    };
    Tuple { addresses, ports: [flow.sport(), flow.dport()] }
}

#[inline]
fn snapshot(conn: &TcpConn, idle: bool) -> TcpSnapshot {
    let half = |half: &Half| TcpHalf {
        end: half.end,
        max_end: half.max_end,
        ack: half.ack,
        max_window: half.max_window,
        scale: half.scale,
    };
    let marked = conn.flags & conn_flags::MARKED != 0;
    TcpSnapshot {
        state: conn.state as u8,
        flags: conn.flags & !conn_flags::IDLE,
        halves: [half(&conn.halves[0]), half(&conn.halves[1])],
        mark: marked.then_some((conn.mark, conn.mark_scale)),
        idle,
    }
}

#[inline]
fn conn(snapshot: &TcpSnapshot) -> TcpConn {
    let half = |half: &TcpHalf| Half {
        end: half.end,
        max_end: half.max_end,
        ack: half.ack,
        max_window: half.max_window,
        scale: half.scale,
    };
    let (mark, mark_scale) = snapshot.mark.unwrap_or((0, NO_SCALE));
    TcpConn {
        state: TcpState::from_bits(snapshot.state),
        flags: snapshot.flags,
        halves: [half(&snapshot.halves[0]), half(&snapshot.halves[1])],
        mark,
        mark_scale,
        known: [Known::Learned; 2],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::neighbour::NextHop;
    use engine::table::{Binding, Path, flags};
    use proptest::prelude::*;
    use sync::record::{Record, RecordWriter, Records, Shared};

    fn address() -> impl Strategy<Value = (Addr, Addr)> {
        prop_oneof![
            any::<([u8; 4], [u8; 4])>().prop_map(|(a, b)| (Addr::V4(a), Addr::V4(b))),
            any::<([u8; 16], [u8; 16])>().prop_map(|(a, b)| (Addr::V6(a), Addr::V6(b))),
        ]
    }

    /// Whatever a worker's table may hold of a session that the partner is to have.
    fn view() -> impl Strategy<Value = SessionView> {
        let proto =
            prop_oneof![Just(Proto::TCP), Just(Proto::UDP), Just(Proto::ICMP), any::<u8>().prop_map(Proto)];
        let numbers = (any::<[u64; 4]>(), any::<u32>(), 3..=8_u32, any::<u64>(), any::<[u8; 2]>());
        (address(), proto, any::<[u16; 2]>(), any::<u32>(), numbers).prop_map(
            |((src, dst), proto, [sport, dport], rule, (windows, state, tcp_state, version, zones))| {
                let forward = FlowKey::new(src, dst, proto, sport, dport).unwrap();
                let is_tcp = proto == Proto::TCP;
                // A mark means something only with its flag, and is zero without.
                let marked = state >> 4 & u32::from(conn_flags::MARKED) != 0;
                let mut windows = if is_tcp { windows } else { [0; 4] };
                let mut state = if is_tcp { state & !15 | tcp_state } else { state & 0xff };
                if is_tcp && !marked {
                    windows[2] &= 0xffff_ffff_ffff;
                    windows[3] &= 0xffff_ffff_ffff;
                    state |= u32::from(NO_SCALE) << 24;
                }
                SessionView {
                    keys: [forward, forward.reversed()],
                    version,
                    binding: Binding { rule: RuleId(rule), generation: 7, zones: zones.map(ZoneId) },
                    path: Path { next_hops: [NextHop::NONE; 2], group: GroupId(0), flags: flags::REPLICATE },
                    last_seen: Ticks(1_000),
                    windows,
                    state,
                    bytes: [0; 2],
                    packets: [0; 2],
                }
            },
        )
    }

    proptest! {
        #[test]
        fn s_02_a_session_comes_back_from_the_wire_as_it_was(view in view()) {
            let (now, timeouts) = (Ticks(1_000), Timeouts::default());
            let told = session(&view, now, &timeouts).unwrap();
            let mut bytes = [0; 512];
            let mut writer = RecordWriter::new(&mut bytes, Shared::default());
            prop_assert!(writer.push(&Record::Session(told)));
            let length = writer.len();
            let read: Vec<Record> = Records::new(&bytes[..length], Shared::default()).collect();
            let [Record::Session(heard)] = read[..] else { return Err(TestCaseError::fail(format!("{read:?}"))) };
            let mut expected = Imported::of(&view, now, &timeouts);
            // A lifetime is rounded down, and the generation stays at home.
            let got = imported(&heard).unwrap();
            prop_assert!(got.remaining_ms <= expected.remaining_ms);
            prop_assert!(expected.remaining_ms - got.remaining_ms <= expected.remaining_ms / 2_048 + 1);
            (expected.remaining_ms, expected.generation) = (got.remaining_ms, 0);
            prop_assert_eq!(got, expected);
        }
    }
}
