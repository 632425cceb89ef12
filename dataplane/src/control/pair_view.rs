//! The pair as the control protocol shows it: from the sync core's last snapshot to names and numbers.
//!
//! What the partner said is shown only while it is heard (S-20): a number that may be a minute old looks
//! like one of now.

use super::core::Core;
use super::happenings::{Happening, Happenings, Level};
use super::partner::Partner;
use crate::config::{Area, PairPath, PathKind};
use std::collections::BTreeMap;
use sync::heartbeat::{Claim, Difference, MAX_WORKERS, Report};
use sync::ids::{Incarnation, Micros, NodeId};
use sync::membership::{Mirror, Presence, Role};
use sync::pair::{PairStatus, PathStatus};
use sync::stream::{Amount, Refused};

/// What differs if nothing more is known of it.
const CONFIGURATION: &str = "configuration";

/// What this node is.
pub(super) fn role(core: &Core) -> proto::Role {
    core.partner.as_ref().map_or(proto::Role::Active, |partner| role_word(partner.role))
}

/// The pair; `None` on a node that stands alone, and before the sync core has shown itself.
pub(super) fn pair(core: &Core) -> Option<proto::PairStatus> {
    let (settings, partner) = (core.config.pair.as_ref()?, core.partner.as_ref()?);
    let (shown_at, status) = partner.control.shown.last()?;
    let held = crate::pair::held(core.workers.iter().map(|worker| &*worker.counters));
    let held = Report { held, ..partner.control.description.clone() };
    let report = own_report(held, core.workers.len(), status.digest);
    let now = core.clock.micros(dpdk::cycles()).max(shown_at);
    let heard = status.partner.as_ref().zip(status.partner_report.as_ref());
    Some(proto::PairStatus {
        id: settings.id.0.into(),
        term: status.term.get(),
        own: node(settings.node, &status.own, &report, Some(status.incarnation)),
        partner: heard
            .map(|(claim, report)| node(settings.partner(), claim, report, status.partner_incarnation)),
        partner_state: match status.presence {
            Presence::Here => proto::PartnerState::Here,
            Presence::Restarting => proto::PartnerState::Restarting,
            Presence::Absent => proto::PartnerState::Absent,
        },
        differs: heard.map(|(_, theirs)| differences(&report, theirs)).unwrap_or_default(),
        word: word(&status, now),
        paths: partner.control.paths.iter().zip(&status.paths).map(path).collect(),
        sync: sync_status(&status, &partner.happenings),
        keys: status.keys.as_ref().map(|keys| proto::PairKeys {
            key_id: keys.key_id.into(),
            age_s: keys.age.as_millis() / 1_000,
            renewals: keys.renewals,
            renewing: keys.busy,
        }),
        rejected: status
            .rejections
            .iter()
            .filter(|(_, datagrams)| *datagrams > 0)
            .map(|(reason, datagrams)| proto::Rejected { reason: reason.name().to_owned(), datagrams })
            .collect(),
        alarms: alarms(&partner.happenings),
    })
}

/// What this node's heartbeats report: the description that the sync core was given, and what it adds.
fn own_report(description: Report, workers: usize, (digest, entries): (u64, u32)) -> Report {
    let mut report = Report { workers: workers.min(MAX_WORKERS) as u8, ..description };
    (report.digests[0], report.entries[0]) = (digest, entries);
    report
}

/// A role in the words of the protocol.
pub(super) fn role_word(role: Role) -> proto::Role {
    match role {
        Role::Init => proto::Role::Init,
        Role::Syncing => proto::Role::Syncing,
        Role::Standby => proto::Role::Standby,
        Role::Active => proto::Role::Active,
        Role::Isolated => proto::Role::Isolated,
        Role::Fault => proto::Role::Fault,
        Role::Recovering => proto::Role::Recovering,
    }
}

fn node(id: NodeId, claim: &Claim, report: &Report, incarnation: Option<Incarnation>) -> proto::PairNode {
    proto::PairNode {
        node_id: id.0.into(),
        role: role_word(claim.role),
        seen_term: claim.seen.get(),
        preferred: claim.preferred,
        quality: claim.quality.into(),
        able: claim.able,
        forced_active: claim.forced_active,
        mirror: match claim.mirror {
            Mirror::None => proto::Mirror::None,
            Mirror::Partial => proto::Mirror::Partial,
            Mirror::Stale => proto::Mirror::Stale,
            Mirror::Complete => proto::Mirror::Complete,
        },
        incarnation: incarnation.map(|incarnation| format!("{:016x}", incarnation.0)),
        config_hash: format!("{:016x}", report.config_hash),
        wire_version: report.wire_version.into(),
        policy_generation: report.policy_generation,
        workers: report.workers.into(),
        held: report.held.map(u64::from),
        entries: report.entries[0].into(),
        digest: format!("{:016x}", report.digests[0]),
    }
}

/// What keeps the two from being a pair, by name.
pub(super) fn differences(own: &Report, theirs: &Report) -> Vec<String> {
    own.differs(theirs).map(difference).unwrap_or_default()
}

/// A difference by its names.
pub(super) fn difference(difference: Difference) -> Vec<String> {
    match difference {
        Difference::WireVersion => vec!["wire-version".to_owned()],
        // An older release does not say where, and a newer one may know more areas.
        Difference::Config(areas) if Area::of(areas).next().is_none() => vec![CONFIGURATION.to_owned()],
        Difference::Config(areas) => Area::of(areas).map(|area| area.name().to_owned()).collect(),
        Difference::Database(number) => vec![format!("database {number}")],
    }
}

fn word(status: &PairStatus, now: Micros) -> proto::RoleWord {
    let (word, forwards) = (status.word, status.word.forwards(now));
    let (lease, lease_ms) = match word.deadline {
        _ if word.role != Role::Active => (proto::Lease::None, None),
        Micros::NEVER => (proto::Lease::Endless, None),
        deadline => (proto::Lease::Running, Some(deadline.since(now).as_millis())),
    };
    proto::RoleWord { forwards, lease, lease_ms }
}

fn path((path, status): (&PairPath, &PathStatus)) -> proto::PairPath {
    proto::PairPath {
        name: path.name.clone(),
        kind: match path.kind {
            PathKind::SyncLink(_) => proto::PathKind::SyncLink,
            PathKind::DataPort(_) => proto::PathKind::DataPort,
        },
        up: status.alive,
        link: status.link_up,
        carries_sync: status.carries_sync,
        in_use: status.in_use,
        heard_ms: status.silent.map(Micros::as_millis),
        rtt_us: status.rtt.map(|rtt| rtt.0),
        datagram_bytes: status.size.map(|size| size as u64),
    }
}

fn sync_status(status: &PairStatus, happenings: &Happenings) -> proto::SyncStatus {
    let (stream, counters) = (&status.stream, &status.stream.counters);
    let active = status.role == Role::Active;
    let proven = if active { status.proven } else { status.mirror == Mirror::Complete };
    let (state, both_have) = match &status.partner_report {
        None => (proto::SyncState::Absent, 0),
        Some(_) if !status.paths.iter().any(|path| path.in_use) => (proto::SyncState::Suspended, 0),
        Some(report) => {
            let state = match (stream.bulk, proven) {
                (Some(_), _) => proto::SyncState::Bulk,
                (None, true) => proto::SyncState::InSync,
                (None, false) if !active && status.mirror != Mirror::Stale => proto::SyncState::Bulk,
                (None, false) => proto::SyncState::Proving,
            };
            (state, if active { report.entries[0] } else { status.digest.1 })
        }
    };
    let sent = kinds(&counters.sent);
    proto::SyncStatus {
        state,
        proven: proven && status.partner.is_some(),
        lag_ms: stream.lag_ms,
        protected: both_have.into(),
        unprotected: stream.unprotected.into(),
        dirty: stream.dirty.into(),
        in_flight: stream.in_flight.into(),
        refused: refused(&stream.refused),
        progress: stream.bulk.map(|(done, total)| proto::Progress { done: done.into(), total: total.into() }),
        last_bulk: transfer(happenings, "bulk_done"),
        last_repair: transfer(happenings, "repaired"),
        round_trip_us: stream.round_trip.0,
        records_sent: sent.iter().map(|kind| kind.records).sum(),
        sent,
        datagrams_sent: counters.datagrams_sent,
        bytes_sent: counters.bytes_sent,
        datagrams_lost: counters.datagrams_lost,
        datagrams_received: counters.datagrams_received,
        records_received: counters.records_received,
        records_applied: counters.applied,
        damaged: counters.damaged,
    }
}

fn kinds(sent: &sync::stream::SentByKind) -> Vec<proto::SentRecords> {
    let kinds = [
        ("new", sent.new),
        ("refresh", sent.refresh),
        ("delete", sent.delete),
        ("lost", sent.lost),
        ("repair", sent.repair),
        ("bulk", sent.bulk),
    ];
    let row = |(kind, Amount { records, bytes }): (&str, Amount)| proto::SentRecords {
        kind: kind.to_owned(),
        records,
        bytes,
    };
    kinds.into_iter().map(row).collect()
}

fn refused(counts: &[u32]) -> Vec<proto::RefusedSessions> {
    let name = |reason| match reason {
        Refused::Full => "full",
        Refused::UnknownZone => "unknown-zone",
        Refused::Unsupported => "unsupported",
        Refused::NotMirroring => "not-mirroring",
    };
    let reasons = (1_u8..).zip(counts).filter(|(_, sessions)| **sessions > 0);
    let row = |(raw, sessions): (u8, &u32)| {
        let reason = Refused::from_wire(raw).map_or("unknown", name).to_owned();
        proto::RefusedSessions { reason, sessions: (*sessions).into() }
    };
    reasons.map(row).collect()
}

/// The last event of that name, as a transfer.
fn transfer(happenings: &Happenings, name: &str) -> Option<proto::Transfer> {
    let last = happenings.latest(name)?;
    let number = |key| {
        let (_, text) = last.fields.iter().find(|(name, _)| *name == key)?;
        text.parse().ok()
    };
    Some(proto::Transfer { at_ms: last.at_ms, sessions: number("sessions")?, took_ms: number("ms")? })
}

fn alarms(happenings: &Happenings) -> Vec<proto::Alarm> {
    let alarm = |name: &&'static str| {
        let raised = happenings.latest(name);
        proto::Alarm {
            name: (*name).to_owned(),
            text: raised.map_or_else(String::new, |raised| raised.text.clone()),
            at_ms: raised.map(|raised| raised.at_ms),
        }
    };
    happenings.alarms().iter().map(alarm).collect()
}

/// Events behind an id, the newest `limit` of them.
pub(super) fn events(core: &Core, partner: &Partner, args: proto::EventsArgs) -> proto::Events {
    let happenings = &partner.happenings;
    let found = happenings.since(args.since).count();
    let left_out = found.saturating_sub(args.limit as usize);
    let events: Vec<proto::Event> = happenings.since(args.since).skip(left_out).map(event).collect();
    let boot = partner.control.shown.last().map(|(_, status)| status.incarnation.0);
    // Ids have no holes: what is missing before the first one is forgotten, or was not asked for.
    let first = events.first().map_or(happenings.last() + 1, |event| event.id);
    proto::Events {
        node: core.config.node.name.clone(),
        boot: format!("{:016x}", boot.unwrap_or(0)),
        last: happenings.last(),
        gap: first > args.since + 1,
        events,
    }
}

fn event(happening: &Happening) -> proto::Event {
    let fields: BTreeMap<String, String> =
        happening.fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    proto::Event {
        id: happening.id,
        at_ms: happening.at_ms,
        name: happening.name.to_owned(),
        level: match happening.level {
            Level::Info => proto::Level::Info,
            Level::Warning => proto::Level::Warning,
            Level::Error => proto::Level::Error,
        },
        text: happening.text.clone(),
        fields,
    }
}

/// Both nodes side by side, with what came of comparing their digests.
pub(super) fn compare(core: &Core, digests: Option<proto::Verified>) -> Option<proto::Compared> {
    let pair = pair(core)?;
    let partner = pair.partner.as_ref()?;
    let own = &pair.own;
    let roles = [own.role, partner.role];
    let line = |what: &str, own: String, partner: String, equal: bool| proto::ComparedLine {
        what: what.to_owned(),
        own,
        partner,
        equal,
    };
    let must = |what: &str, own: String, partner: String| {
        let equal = own == partner;
        line(what, own, partner, equal)
    };
    let may = |what: &str, own: String, partner: String| line(what, own, partner, true);
    let areas: Vec<&str> = Area::ALL.iter().map(|area| area.name()).collect();
    let differing: Vec<&str> =
        pair.differs.iter().map(String::as_str).filter(|name| areas.contains(name)).collect();
    let configured = match differing[..] {
        [] => CONFIGURATION.to_owned(),
        _ => format!("{CONFIGURATION} ({})", differing.join(", ")),
    };
    let actives = roles.iter().filter(|role| **role == proto::Role::Active).count();
    let mut lines = vec![
        line("role", own.role.to_string(), partner.role.to_string(), actives == 1),
        must("highest term", own.seen_term.to_string(), partner.seen_term.to_string()),
        line("preferred", yes(own.preferred), yes(partner.preferred), own.preferred != partner.preferred),
        may("quality", format!("{} %", own.quality), format!("{} %", partner.quality)),
        may("able", yes(own.able), yes(partner.able)),
        may("workers", own.workers.to_string(), partner.workers.to_string()),
        line(
            "wire version",
            own.wire_version.to_string(),
            partner.wire_version.to_string(),
            !pair.differs.contains(&"wire-version".to_owned()),
        ),
        line(
            &configured,
            own.config_hash.clone(),
            partner.config_hash.clone(),
            configured == CONFIGURATION && !pair.differs.contains(&configured),
        ),
        must("sessions", own.entries.to_string(), partner.entries.to_string()),
        must("digest", own.digest.clone(), partner.digest.clone()),
    ];
    // What a node keeps to itself (handshakes, local rules) is among them: they may differ by that.
    let kinds = ["tcp sessions", "udp sessions", "icmp sessions", "other sessions"];
    let held = kinds.iter().zip(own.held.iter().zip(&partner.held));
    lines.extend(held.map(|(kind, (own, partner))| may(kind, own.to_string(), partner.to_string())));
    let equal = lines.iter().all(|line| line.equal) && digests.as_ref().is_none_or(|digests| digests.equal);
    Some(proto::Compared { equal, lines, digests })
}

fn yes(yes: bool) -> String {
    if yes { "yes".into() } else { "no".into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sync::heartbeat::{AreaHashes, Areas};

    #[test]
    fn s_20_this_node_is_shown_with_its_workers_as_its_heartbeats_tell_the_partner() {
        let description = Report { config_hash: 7, policy_generation: 3, ..Report::default() };
        let own = own_report(description, 4, (0xd1, 90));
        assert_eq!((own.workers, own.config_hash, own.policy_generation), (4, 7, 3));
        assert_eq!((own.digests[0], own.entries[0]), (0xd1, 90));
    }

    #[test]
    fn x_13_b_06_what_differs_is_named() {
        let report = |hash: u64, areas: &[u32]| Report {
            config_hash: hash,
            areas: AreaHashes::new(areas).unwrap(),
            ..Report::default()
        };
        let ours = report(1, &[10, 20, 30, 40, 50, 60]);
        assert_eq!(differences(&ours, &ours), [""; 0]);
        let crossed = report(2, &[10, 21, 31, 40, 50, 60]);
        assert_eq!(differences(&ours, &crossed), ["zones", "ports"]);
        assert_eq!(differences(&ours, &report(2, &[])), ["configuration"]);
        assert_eq!(difference(Difference::Config(Areas::of(&[0, 7]))), ["rules"]);
        assert_eq!(difference(Difference::Config(Areas::of(&[7]))), ["configuration"]);
    }
}
