//! `ha-ctl top`: two looks at a node, and what happened between them.

use proto::{PairPath, Role, Status, SyncState};
use serde::Serialize;

/// One view, for people and programs alike.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct View {
    /// The node's name.
    pub node: String,
    /// What it is.
    pub role: Role,
    /// What its partner is; absent while that is not heard, and on a node that stands alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partner_role: Option<Role>,
    /// The term in force; absent on a node that stands alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub term: Option<u32>,
    /// Between the two looks; absent in the first view and after a restart, and all rates with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval_ms: Option<u64>,
    /// Over all data ports.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rates: Option<Rates>,
    /// Sessions in the table.
    pub sessions: u64,
    /// Room for them.
    pub capacity: u64,
    /// Session sync; absent on a node that stands alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sync: Option<Sync>,
    /// The ways to the partner.
    pub paths: Vec<PairPath>,
    /// The packet workers.
    pub workers: Vec<Worker>,
    /// Names of the alarms that stand.
    pub alarms: Vec<String>,
}

/// What happens in a second.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Rates {
    /// Packets received.
    pub rx_packets_per_s: u64,
    /// Bits received.
    pub rx_bits_per_s: u64,
    /// Packets transmitted.
    pub tx_packets_per_s: u64,
    /// Bits transmitted.
    pub tx_bits_per_s: u64,
    /// Sessions created.
    pub created_per_s: u64,
    /// Records sent to the partner.
    pub records_per_s: u64,
}

/// Session sync.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Sync {
    /// What it is doing.
    pub state: SyncState,
    /// Age of the oldest change that the partner does not have.
    pub lag_ms: u64,
    /// Sessions that both have.
    pub protected: u64,
    /// Sessions that the partner does not have.
    pub unprotected: u64,
    /// Taken-over sessions whose TCP checks are relaxed.
    pub relaxed: u64,
}

/// A worker.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Worker {
    /// Its number.
    pub id: u32,
    /// The share of the last second that it spent on packets.
    pub busy_permille: u32,
    /// Packets a second; absent as the other rates are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub packets_per_s: Option<u64>,
    /// Sessions in its shard.
    pub sessions: u64,
}

impl View {
    /// What `now` shows, with rates since `before`.
    pub fn new(before: Option<&Status>, now: &Status) -> Self {
        // The daemon's own clock; one that started anew counts from zero again.
        let before = before.filter(|before| before.uptime_ms < now.uptime_ms && before.node == now.node);
        let interval_ms = before.map(|before| now.uptime_ms - before.uptime_ms);
        let per_s = |from: u64, to: u64| {
            let grown = u128::from(to.saturating_sub(from)) * 1_000;
            u64::try_from(grown / u128::from(interval_ms.unwrap_or(1).max(1))).unwrap_or(u64::MAX)
        };
        let rates = before.map(|before| {
            let rate = |figure: &dyn Fn(&Status) -> u64| per_s(figure(before), figure(now));
            Rates {
                rx_packets_per_s: rate(&|status| status.ports.iter().map(|port| port.rx_packets).sum()),
                rx_bits_per_s: rate(&|status| status.ports.iter().map(|port| port.rx_bytes * 8).sum()),
                tx_packets_per_s: rate(&|status| status.ports.iter().map(|port| port.tx_packets).sum()),
                tx_bits_per_s: rate(&|status| status.ports.iter().map(|port| port.tx_bytes * 8).sum()),
                created_per_s: rate(&|status| status.sessions.created_total),
                records_per_s: rate(&|status| status.pair.as_ref().map_or(0, |pair| pair.sync.records_sent)),
            }
        });
        let pair = now.pair.as_ref();
        Self {
            node: now.node.clone(),
            role: now.role,
            partner_role: pair.and_then(|pair| pair.partner.as_ref()).map(|partner| partner.role),
            term: pair.map(|pair| pair.term),
            interval_ms,
            rates,
            sessions: now.sessions.in_use,
            capacity: now.sessions.capacity,
            sync: pair.map(|pair| Sync {
                state: pair.sync.state,
                lag_ms: pair.sync.lag_ms,
                protected: pair.sync.protected,
                unprotected: pair.sync.unprotected,
                relaxed: now.sessions.relaxed,
            }),
            paths: pair.map(|pair| pair.paths.clone()).unwrap_or_default(),
            workers: now
                .workers
                .iter()
                .map(|worker| Worker {
                    id: worker.id,
                    busy_permille: worker.busy_permille,
                    packets_per_s: before
                        .and_then(|before| before.workers.iter().find(|other| other.id == worker.id))
                        .map(|other| per_s(other.packets, worker.packets)),
                    sessions: worker.sessions,
                })
                .collect(),
            alarms: pair
                .map(|pair| pair.alarms.iter().map(|alarm| alarm.name.clone()).collect())
                .unwrap_or_default(),
        }
    }
}
