//! Session ⇄ record: the one place that knows both the engine's words and the wire's.
//!
//! Rules travel by their stable id alone: a reload makes new generations on each node at its own time, and
//! a node that does not know a rule asks its policy anew at the first packet after a takeover (decision 27).

use engine::table::SessionView;
use engine::track::Timeouts;
use engine::track::tcp::{Half, Known, NO_SCALE, TcpConn, TcpState, conn_flags};
use engine::{GroupId, Imported, ImportedState, RuleId, Ticks, ZoneId};
use sync::ids::Version;
use sync::record::{
    Addresses, Counters, Key, Lifetime, RuleRef, Session, State, TcpHalf, TcpSnapshot, Tuple,
};
use wire::{Addr, FlowKey, Proto};

/// The record of a session; `None` for one that the partner is not to have.
pub fn session(view: &SessionView, now: Ticks, timeouts: &Timeouts) -> Option<Session> {
    if !view.is_replicable() {
        return None;
    }
    let imported = Imported::of(view, now, timeouts);
    let [forward, reply] = &imported.keys;
    let state = match imported.state {
        ImportedState::Tcp { conn, idle } => State::Tcp(snapshot(&conn, idle)),
        ImportedState::Flow(state) => State::Flow(state),
    };
    Some(Session {
        key: key(forward),
        reply: (*reply != forward.reversed()).then(|| tuple(reply)),
        version: Version(imported.version),
        group: sync::ids::GroupId(imported.group.0),
        rule: RuleRef { id: imported.rule.0, generation: 0 },
        zones: imported.zones.map(|zone| zone.0),
        remaining: Lifetime::from_ms(imported.remaining_ms.into()),
        state,
        two_way: imported.packets.iter().all(|packets| *packets > 0),
        age_s: None,
        counters: None::<Counters>,
    })
}

/// The session of a record; `None` if this release cannot track it.
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
pub fn key(flow: &FlowKey) -> Key {
    Key { tuple: tuple(flow), proto: flow.proto().0, vrf: flow.vrf() }
}

/// A flow's key from the wire.
pub fn flow_key(key: &Key) -> Option<FlowKey> {
    let (source, destination) = match key.tuple.addresses {
        Addresses::V4([source, destination]) => (Addr::V4(source), Addr::V4(destination)),
        Addresses::V6([source, destination]) => (Addr::V6(source), Addr::V6(destination)),
    };
    let [sport, dport] = key.tuple.ports;
    FlowKey::new(source, destination, Proto(key.proto), sport, dport).map(|flow| flow.with_vrf(key.vrf))
}

fn tuple(flow: &FlowKey) -> Tuple {
    let addresses = match (flow.src(), flow.dst()) {
        (Addr::V4(source), Addr::V4(destination)) => Addresses::V4([source, destination]),
        (Addr::V6(source), Addr::V6(destination)) => Addresses::V6([source, destination]),
        // A key is of one family.
        _ => Addresses::V4([[0; 4]; 2]),
    };
    Tuple { addresses, ports: [flow.sport(), flow.dport()] }
}

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
