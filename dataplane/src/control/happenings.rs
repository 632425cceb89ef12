//! What happened to the pair: a bounded memory of events with stable names, each of them logged as well.
//!
//! Names never change: monitoring hangs on them.

use super::core::unix_ms;
use super::pair_view;
use crate::config::{Area, PairPath};
use crate::pair::Event;
use crate::pair::second::Opinion;
use std::collections::VecDeque;
use sync::heartbeat::Difference;
use sync::ids::PathId;
use sync::membership::{Loss, Notice, Refusal, Role};

/// Events remembered.
const MEMORY: usize = 1_000;

/// How grave an event is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Level {
    /// For the record.
    Info,
    /// Look at it.
    Warning,
    /// Something does not work.
    Error,
}

/// An event.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Happening {
    /// Counts up from 1.
    pub id: u64,
    /// Milliseconds since 1970.
    pub at_ms: u64,
    /// Its stable name.
    pub name: &'static str,
    /// How grave.
    pub level: Level,
    /// What it says to people.
    pub text: String,
    /// The same in pieces.
    pub fields: Vec<(&'static str, String)>,
}

/// The memory.
#[derive(Debug, Default)]
pub struct Happenings {
    ring: VecDeque<Happening>,
    last: u64,
    /// Alarms that stand, by name.
    alarms: Vec<&'static str>,
}

/// An event in words.
struct Words {
    name: &'static str,
    level: Level,
    text: String,
    fields: Vec<(&'static str, String)>,
}

impl Happenings {
    /// Remembers and logs an event.
    pub fn take(&mut self, event: &Event, paths: &[PairPath]) {
        let Some(words) = words(event, paths) else { return };
        self.alarm(event);
        let Words { name, level, text, fields } = words;
        match level {
            Level::Info => tracing::info!(event = name, ?fields, "{text}"),
            Level::Warning => tracing::warn!(event = name, ?fields, "{text}"),
            Level::Error => tracing::error!(event = name, ?fields, "{text}"),
        }
        self.last += 1;
        if self.ring.len() == MEMORY {
            self.ring.pop_front();
        }
        self.ring.push_back(Happening { id: self.last, at_ms: unix_ms(), name, level, text, fields });
    }

    /// Events with a higher id than `id`, oldest first.
    pub fn since(&self, id: u64) -> impl Iterator<Item = &Happening> {
        self.ring.iter().filter(move |happening| happening.id > id)
    }

    /// The id of the latest event; 0 before the first.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// The latest event of a name, if it is not forgotten.
    pub fn latest(&self, name: &str) -> Option<&Happening> {
        self.ring.iter().rev().find(|happening| happening.name == name)
    }

    /// Alarms that stand.
    pub fn alarms(&self) -> &[&'static str] {
        &self.alarms
    }

    /// Which alarms an event raises and which it ends.
    fn alarm(&mut self, event: &Event) {
        let notice = match event {
            Event::Notice(notice) => *notice,
            Event::PeerGone { loss, .. } => Notice::PeerGone(*loss),
            _ => return,
        };
        let (raised, ended): (Option<Notice>, &[&'static str]) = match notice {
            Notice::PeerGone(Loss::Maintenance) => (None, &[]),
            Notice::SyncLost(_)
            | Notice::PeerGone(Loss::Failure)
            | Notice::PeerAbsent
            | Notice::ConflictBothActive
            | Notice::Differs(_)
            | Notice::TermNotPersisted
            | Notice::TermsExhausted
            | Notice::Fenced
            | Notice::TakeoverVetoed => (Some(notice), &[]),
            Notice::StaleMirror | Notice::IncompleteMirror => (Some(notice), &[]),
            Notice::SyncBack => (None, &["hasync_connection_failed_timeout"]),
            Notice::PeerBack => (
                None,
                &[
                    "peer_gone",
                    "peer_absent",
                    "takeover_stale_mirror",
                    "takeover_incomplete_mirror",
                    "takeover_vetoed",
                ],
            ),
            Notice::ContestWon => (None, &["conflict_both_peers_active"]),
            Notice::RoleChanged { to: Role::Active, .. } => (None, &["lease_expired", "takeover_vetoed"]),
            Notice::RoleChanged { from: Role::Active, .. } => {
                (None, &["conflict_both_peers_active", "lease_expired"])
            }
            Notice::Agrees => (None, &["pair_differs"]),
            _ => (None, &[]),
        };
        self.alarms.retain(|alarm| !ended.contains(alarm));
        if let Some(raised) = raised.map(|notice| notice.id())
            && !self.alarms.contains(&raised)
        {
            self.alarms.push(raised);
        }
    }
}

fn words(event: &Event, paths: &[PairPath]) -> Option<Words> {
    Some(match event {
        // The notice of the same change says more.
        Event::Role { .. } => return None,
        Event::Notice(notice) => of_notice(notice, paths),
        Event::PeerGone { loss, icmp } => peer_gone(*loss, *icmp),
        Event::Stream(event) => return of_stream(event),
        Event::Keys(sync::keys::Event::PeerConfirmed { incarnation, replaces }) => Words {
            name: "peer_confirmed",
            level: Level::Info,
            text: match replaces {
                Some(_) => "the partner restarted and proved itself".to_owned(),
                None => "the partner proved itself".to_owned(),
            },
            fields: vec![("incarnation", format!("{:016x}", incarnation.0))],
        },
        Event::Keys(sync::keys::Event::Renewed { key_id }) => Words {
            name: "keys_renewed",
            level: Level::Info,
            text: "the traffic keys were renewed".to_owned(),
            fields: vec![("key_id", key_id.to_string())],
        },
        Event::PathSize { path, size, expected } => Words {
            name: "path_mtu",
            level: Level::Warning,
            text: format!(
                "{} takes datagrams of {size} bytes only, its link promises {expected}: look for a smaller MTU \
                 on the way",
                path_name(*path, paths)
            ),
            fields: vec![
                ("path", path_name(*path, paths)),
                ("size", size.to_string()),
                ("expected", expected.to_string()),
            ],
        },
        Event::TermNotWritten(what) => {
            Words { name: "term_not_persisted", level: Level::Error, text: what.clone(), fields: Vec::new() }
        }
    })
}

fn of_stream(event: &sync::stream::Event) -> Option<Words> {
    use sync::stream::Event;
    let ms = |took: &sync::ids::Micros| took.as_millis().to_string();
    let (name, level, text, fields) = match event {
        Event::BulkBegan => ("bulk_began", Level::Info, "all sessions are being sent".to_owned(), vec![]),
        Event::BulkDone { sessions, took } => (
            "bulk_done",
            Level::Info,
            format!("the partner has all sessions: {sessions} were sent in {} ms", took.as_millis()),
            vec![("sessions", sessions.to_string()), ("ms", ms(took))],
        ),
        Event::RepairBegan { buckets } => (
            "repair_began",
            Level::Info,
            format!("the copies differ in {buckets} places, which are being repaired"),
            vec![("buckets", buckets.to_string())],
        ),
        Event::Repaired { buckets, sessions, bytes, took } => (
            "repaired",
            Level::Info,
            format!("the copies are equal again: {sessions} sessions sent in {} ms", took.as_millis()),
            vec![
                ("buckets", buckets.to_string()),
                ("sessions", sessions.to_string()),
                ("bytes", bytes.to_string()),
                ("ms", ms(took)),
            ],
        ),
        Event::Corrupt { handle, bucket, damage } => (
            "mirror_corrupt",
            Level::Error,
            format!("a session in memory is not what it should be ({damage:?}); it is being repaired"),
            vec![
                ("damage", format!("{damage:?}").to_lowercase()),
                ("handle", handle.0.to_string()),
                ("bucket", bucket.to_string()),
            ],
        ),
        // The comparison that goes on all the time is worth a line when it finds something.
        Event::Verified { equal: true, asked: false, .. } => return None,
        Event::Verified { equal, buckets, groups, .. } => (
            "verified",
            if *equal { Level::Info } else { Level::Warning },
            if *equal {
                "both tables are equal".to_owned()
            } else {
                format!("the tables differ in {buckets} places")
            },
            vec![
                ("equal", equal.to_string()),
                ("buckets", buckets.to_string()),
                ("groups", groups.iter().count().to_string()),
            ],
        ),
        Event::LateTerm { term } => (
            "late_term",
            Level::Warning,
            format!("data of term {term}, which is over, was refused"),
            vec![("term", term.to_string())],
        ),
        Event::Unprotected { reason } => (
            "unprotected",
            Level::Error,
            format!("the partner cannot take some sessions ({reason:?})"),
            vec![("reason", format!("{reason:?}").to_lowercase())],
        ),
    };
    Some(Words { name, level, text, fields })
}

fn path_name(path: PathId, paths: &[PairPath]) -> String {
    paths.get(usize::from(path.0)).map_or_else(|| format!("path {}", path.0), |path| path.name.clone())
}

fn of_notice(notice: &Notice, paths: &[PairPath]) -> Words {
    let mut fields = Vec::new();
    let (level, text) = match notice {
        Notice::RoleChanged { from, to, cause } => {
            let cause = format!("{cause:?}").to_lowercase();
            fields.extend([("from", from.name().to_owned()), ("to", to.name().to_owned())]);
            fields.push(("cause", cause.clone()));
            let level =
                if matches!(to, Role::Isolated | Role::Fault) { Level::Error } else { Level::Warning };
            (level, format!("{} became {} ({cause})", from.name(), to.name()))
        }
        Notice::PathDown(path) | Notice::PathUp(path) => {
            fields.push(("path", path_name(*path, paths)));
            let down = matches!(notice, Notice::PathDown(_));
            let level = if down { Level::Warning } else { Level::Info };
            let what = if down { "carries no heartbeats any more" } else { "carries heartbeats" };
            (level, format!("{} {what}", path_name(*path, paths)))
        }
        Notice::SyncLost(loss) => {
            fields.push(("reason", loss.name().to_owned()));
            let level = if *loss == Loss::Failure { Level::Error } else { Level::Warning };
            let text = "no path carries session sync although the partner lives: its copy of the sessions \
                        grows stale";
            (level, text.to_owned())
        }
        Notice::OwnStall(away) => {
            fields.push(("ms", away.as_millis().to_string()));
            (Level::Warning, format!("this node stood still for {} ms", away.as_millis()))
        }
        Notice::SwitchoverRefused(reason) => {
            fields.push(("reason", refusal(*reason).to_owned()));
            (Level::Warning, format!("the switchover is refused: {}", refusal(*reason)))
        }
        Notice::Differs(difference) => {
            let what = pair_view::difference(*difference).join(",");
            let refused = match difference {
                Difference::Config(areas) if Area::changes_zones(*areas) => {
                    ", and takes none of the sessions"
                }
                _ => "",
            };
            let text = format!(
                "the two nodes differ in what must be equal ({what}): the standby is not ready{refused}"
            );
            fields.push(("what", what));
            (Level::Error, text)
        }
        notice => plain(notice),
    };
    Words { name: notice.id(), level, text, fields }
}

fn peer_gone(loss: Loss, icmp: Opinion) -> Words {
    let (level, text) = match (loss, icmp) {
        (Loss::Maintenance, _) => (Level::Warning, "the partner stopped on purpose"),
        (Loss::Failure, Opinion::Answering) => (
            Level::Error,
            "the partner is silent on all paths but answers ping: its sync core hangs, or heartbeats are \
             filtered on the way",
        ),
        (Loss::Failure, _) => (Level::Error, "the partner is silent on all paths"),
    };
    let fields = vec![("reason", loss.name().to_owned()), ("icmp", icmp.name().to_owned())];
    Words { name: Notice::PeerGone(loss).id(), level, text: text.to_owned(), fields }
}

fn plain(notice: &Notice) -> (Level, String) {
    let (level, text) = match notice {
        Notice::PeerLeaving => (Level::Info, "the partner is about to stop on purpose"),
        Notice::PeerAbsent => (Level::Error, "the partner stopped on purpose and did not come back"),
        Notice::PeerBack => (Level::Info, "the partner is heard again"),
        Notice::PeerRestarted => (Level::Warning, "the partner restarted"),
        Notice::SyncBack => (Level::Info, "session sync has a path again"),
        Notice::ConflictBothActive => (Level::Error, "both nodes are active"),
        Notice::ContestWon => (Level::Warning, "both nodes were active: this one stays so"),
        Notice::StaleMirror => (Level::Error, "took over with sessions that were not up to date"),
        Notice::IncompleteMirror => (Level::Error, "took over with an incomplete copy of the sessions"),
        Notice::TermNotPersisted => (Level::Error, "claimed a term that is not on disk"),
        Notice::TermsExhausted => {
            (Level::Error, "no terms are left: restart both nodes with an empty state-dir")
        }
        Notice::Fenced => {
            (Level::Error, "the lease ran out: nothing is forwarded until the partner is heard")
        }
        Notice::TakeoverVetoed => (Level::Error, "the partner is silent, but this node cannot take over"),
        Notice::OtherLineage => (Level::Warning, "the copy of the sessions is of another lineage: discarded"),
        Notice::Unconfirmed => (Level::Warning, "announced before all workers had confirmed the role"),
        Notice::SwitchoverLapsed => (Level::Warning, "the switchover was called off"),
        Notice::Agrees => (Level::Info, "the two nodes agree again in what must be equal"),
        _ => (Level::Info, "happened"),
    };
    (level, text.to_owned())
}

/// Why a switchover was refused, for people.
pub(super) fn refusal(reason: Refusal) -> &'static str {
    match reason {
        Refusal::NoPartner => "the partner is not heard",
        Refusal::NobodyActive => "no node is active",
        Refusal::NotStandby => "the partner is not standby",
        Refusal::NotInSync => "the partner's copy of the sessions is not proven equal",
        Refusal::NoSyncLink => "no sync link works; `ha-ctl force standby` moves the role with some loss",
        Refusal::PartnerUnfit => "the partner cannot be active",
        Refusal::Differs => "the nodes differ in what must be equal",
        Refusal::Busy => "another one is under way",
        Refusal::ByPartner => "the active partner said no",
        Refusal::Timeout => "it did not come about in time",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the sync core tells it.
    fn event(notice: Notice) -> Event {
        match notice {
            Notice::PeerGone(loss) => Event::PeerGone { loss, icmp: Opinion::Silent },
            notice => Event::Notice(notice),
        }
    }

    #[test]
    fn events_are_numbered_and_the_oldest_go() {
        let mut happenings = Happenings::default();
        for _ in 0..1_500 {
            happenings.take(&Event::Notice(Notice::PeerBack), &[]);
        }
        assert_eq!(happenings.last(), 1_500);
        let ids: Vec<u64> = happenings.since(0).map(|happening| happening.id).collect();
        assert_eq!((ids.len(), ids[0]), (1_000, 501));
        assert_eq!(happenings.since(1_499).count(), 1);
    }

    #[test]
    fn n_07_alarms_stand_until_they_are_over() {
        let mut happenings = Happenings::default();
        let mut tell = |notice| {
            happenings.take(&event(notice), &[]);
            happenings.alarms().to_vec()
        };
        let failure = Loss::Failure;
        assert_eq!(tell(Notice::SyncLost(failure)), ["hasync_connection_failed_timeout"]);
        assert_eq!(tell(Notice::SyncLost(failure)), ["hasync_connection_failed_timeout"]);
        assert_eq!(tell(Notice::PeerGone(failure)), ["hasync_connection_failed_timeout", "peer_gone"]);
        assert_eq!(tell(Notice::SyncBack), ["peer_gone"]);
        assert_eq!(tell(Notice::PeerBack), [""; 0]);
    }

    #[test]
    fn n_12_what_was_announced_is_maintenance_and_raises_no_alarm_until_it_lasts() {
        let mut happenings = Happenings::default();
        let mut tell = |notice| {
            happenings.take(&event(notice), &[]);
            let last = happenings.latest(notice.id()).unwrap();
            (last.level, last.fields.clone(), happenings.alarms().to_vec())
        };
        let reason = |reason: &str| vec![("reason", reason.to_owned())];
        let gone = |reason: &str| vec![("reason", reason.to_owned()), ("icmp", "silent".to_owned())];
        let (level, fields, alarms) = tell(Notice::PeerGone(Loss::Maintenance));
        assert_eq!((level, fields), (Level::Warning, gone("maintenance")));
        assert_eq!(alarms, [""; 0]);
        assert_eq!(tell(Notice::PeerAbsent).2, ["peer_absent"]);
        assert_eq!(tell(Notice::PeerBack).2, [""; 0]);
        let (level, fields, alarms) = tell(Notice::PeerGone(Loss::Failure));
        assert_eq!((level, fields), (Level::Error, gone("failure")));
        assert_eq!(alarms, ["peer_gone"]);
        let (level, fields, _) = tell(Notice::SyncLost(Loss::Maintenance));
        assert_eq!((level, fields), (Level::Warning, reason("maintenance")));
    }

    #[test]
    fn s_26_a_silent_partner_that_answers_ping_is_told_apart() {
        let mut happenings = Happenings::default();
        let mut texts = [Opinion::Answering, Opinion::Silent, Opinion::Unknown].map(|icmp| {
            happenings.take(&Event::PeerGone { loss: Loss::Failure, icmp }, &[]);
            let last = happenings.latest("peer_gone").unwrap();
            assert!(last.fields.contains(&("icmp", icmp.name().to_owned())), "{last:?}");
            last.text.contains("answers ping")
        });
        texts.sort();
        assert_eq!(texts, [false, false, true]);
        assert_eq!(happenings.alarms(), ["peer_gone"]);
    }

    #[test]
    fn x_13_b_07_a_difference_is_told_by_name_and_ends_when_it_ends() {
        let mut happenings = Happenings::default();
        let mut tell = |notice| {
            happenings.take(&event(notice), &[]);
            let last = happenings.latest(notice.id()).unwrap();
            (last.fields.clone(), last.text.clone(), happenings.alarms().to_vec())
        };
        let config = |areas: &[Area]| {
            let numbers: Vec<u8> = areas.iter().map(|area| *area as u8).collect();
            Notice::Differs(Difference::Config(sync::heartbeat::Areas::of(&numbers)))
        };
        let (fields, text, alarms) = tell(config(&[Area::Timeouts]));
        assert_eq!(fields, [("what", "timeouts".to_owned())]);
        assert!(text.contains("not ready") && !text.contains("none of the sessions"), "{text}");
        assert_eq!(alarms, ["pair_differs"]);
        // Taking the role does not make the nodes equal.
        let role = Notice::RoleChanged {
            from: Role::Syncing,
            to: Role::Standby,
            cause: sync::membership::Cause::Followed,
        };
        assert_eq!(tell(role).2, ["pair_differs"]);
        let (fields, text, _) = tell(config(&[Area::Zones, Area::Ports]));
        assert_eq!(fields, [("what", "zones,ports".to_owned())]);
        assert!(text.contains("none of the sessions"), "{text}");
        let (fields, ..) = tell(Notice::Differs(Difference::WireVersion));
        assert_eq!(fields, [("what", "wire-version".to_owned())]);
        assert_eq!(tell(Notice::Agrees).2, [""; 0]);
    }

    /// docs/pair.md explains every event; a name there that nothing raises is a mistake as well.
    #[test]
    fn s_17_every_event_is_explained_to_operators() {
        use sync::ids::{Incarnation, Micros, SessionHandle, Term};
        use sync::membership::Cause;
        use sync::stream::{Damage, Event as Stream, Refused};
        let changed = Notice::RoleChanged { from: Role::Standby, to: Role::Active, cause: Cause::Silence };
        let differs = Notice::Differs(Difference::Config(sync::heartbeat::Areas::default()));
        let notices = [
            changed,
            differs,
            Notice::Agrees,
            Notice::PathDown(PathId(0)),
            Notice::PathUp(PathId(0)),
            Notice::PeerLeaving,
            Notice::PeerGone(Loss::Failure),
            Notice::PeerAbsent,
            Notice::PeerBack,
            Notice::PeerRestarted,
            Notice::SyncLost(Loss::Failure),
            Notice::SyncBack,
            Notice::ConflictBothActive,
            Notice::ContestWon,
            Notice::StaleMirror,
            Notice::IncompleteMirror,
            Notice::TermNotPersisted,
            Notice::TermsExhausted,
            Notice::OwnStall(Micros(1)),
            Notice::Fenced,
            Notice::TakeoverVetoed,
            Notice::OtherLineage,
            Notice::Unconfirmed,
            Notice::SwitchoverRefused(Refusal::Busy),
            Notice::SwitchoverLapsed,
        ];
        let (took, term) = (Micros(1), Term::ZERO);
        let stream = [
            Stream::BulkBegan,
            Stream::BulkDone { sessions: 1, took },
            Stream::RepairBegan { buckets: 1 },
            Stream::Repaired { buckets: 1, sessions: 1, bytes: 1, took },
            Stream::Corrupt { handle: SessionHandle(1), bucket: 1, damage: Damage::Changed },
            Stream::Verified {
                equal: true,
                buckets: 0,
                groups: sync::stream::Groups::default(),
                asked: true,
            },
            Stream::LateTerm { term },
            Stream::Unprotected { reason: Refused::Full },
        ];
        let confirmed =
            sync::keys::Event::PeerConfirmed { incarnation: Incarnation(1), replaces: Some(Incarnation(2)) };
        let mut events: Vec<Event> = notices.into_iter().map(event).collect();
        events.extend(stream.into_iter().map(Event::Stream));
        events.push(Event::Keys(confirmed));
        events.push(Event::Keys(sync::keys::Event::Renewed { key_id: 1 }));
        events.push(Event::PathSize { path: PathId(0), size: 1, expected: 2 });
        let raised: Vec<&str> =
            events.iter().filter_map(|event| words(event, &[])).map(|words| words.name).collect();
        assert_eq!(raised.len(), events.len());

        let text = include_str!("../../../docs/pair.md");
        let (_, section) = text.split_once("## Alarms and events").unwrap();
        let cells = section.lines().filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
        let explained: Vec<&str> = cells
            .flat_map(|cell| cell.split('`'))
            .filter(|name| {
                name.contains('_') || *name == "repaired" || *name == "verified" || *name == "unprotected"
            })
            .collect();
        for name in &raised {
            assert!(explained.contains(name), "docs/pair.md does not explain {name}");
        }
        for name in explained {
            assert!(raised.contains(&name), "docs/pair.md explains {name}, which nothing raises");
        }
    }
}
