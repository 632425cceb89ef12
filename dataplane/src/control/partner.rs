//! The control thread's end of the sync core: its events into log and memory, links, fitness and
//! configuration to it, the role to whoever speaks for the shared addresses.

use super::core::Core;
use super::happenings::Happenings;
use super::sessions::Mirroring;
use crate::launch::pair::PairControl;
use crate::pair::{Event, Question};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use sync::ids::PathId;
use sync::membership::{Command, Fitness, Forwarding, Monitor, Role, quality};
use sync::pair::Report;

/// All data ports matter alike until weights can be configured.
const PORT_WEIGHT: u16 = 100;
/// How long a node that was asked to end tries to hand its role over.
const HAND_OVER: Duration = Duration::from_secs(2);
/// Heartbeats that tell of a planned stop: some may be lost.
const GOODBYES: u32 = 3;
/// The longest that a planned stop takes for them.
const GOODBYE_MAX: Duration = Duration::from_millis(500);
/// How long it then sends strays on.
const STRAYS: Duration = Duration::from_millis(200);
/// Events taken in one turn, at most.
const EVENTS_IN_A_ROW: usize = 256;

/// What the control thread keeps of the pair.
pub struct Partner {
    pub(super) control: PairControl,
    pub(super) role: Role,
    pub(super) happenings: Happenings,
    fitness: Option<Fitness>,
    /// Link states by path, as the core knows them.
    links: Vec<bool>,
    leaving: Option<Leaving>,
    /// How long a node that has no role to hand over tells the partner that it stops.
    goodbye: Duration,
    /// Kept for its end: the thread stops when this goes.
    pub(super) thread: Option<crate::pair::CoreThread>,
}

impl Partner {
    /// Has told nothing yet and heard nothing.
    pub fn new(control: PairControl, interval: Duration) -> Self {
        let links = vec![true; control.paths.len()];
        Self {
            control,
            role: Role::Init,
            happenings: Happenings::default(),
            fitness: None,
            links,
            leaving: None,
            goodbye: (interval * GOODBYES).min(GOODBYE_MAX),
            thread: None,
        }
    }

    /// What nobody else counts: name, meaning, value.
    pub(super) fn counters(&self) -> [(&'static str, &'static str, u64); 4] {
        let (frames, announced) = self.control.shown.counted();
        let lost = self.control.events_lost.load(Ordering::Relaxed);
        [
            (
                "pair-frames-unsent",
                "Frames to the partner or about addresses that found no packet buffer or no room in a queue.",
                frames.unsent,
            ),
            ("pair-frames-foreign", "Frames for the sync core that were not the partner's.", frames.foreign),
            (
                "announcements-sent",
                "Gratuitous ARP and unsolicited neighbour advertisements for the shared addresses.",
                announced,
            ),
            (
                "pair-events-lost",
                "Events of the sync core that found no room on their way to `events`.",
                lost,
            ),
        ]
    }

    /// Tells the core without waiting. False if it does not listen any more or not fast enough.
    pub(super) fn tell(&self, report: Report) -> bool {
        self.control.questions.try_send(Question::Report(report)).is_ok()
    }
}

/// A node that was asked to end and says so, and hands its role over if it has it.
#[derive(Clone, Copy)]
struct Leaving {
    until: Instant,
    /// The last event before it began.
    after: u64,
    /// The role is on its way to the partner.
    hands_over: bool,
}

impl Core {
    /// Asked to end: the partner is told that it is no failure, and gets the role first if it is ready and
    /// this node has it, so that a planned stop costs no packet. True when that is done, refused, not
    /// possible, or takes too long.
    pub(super) fn may_end(&mut self, now: Instant) -> bool {
        let Some(partner) = &mut self.partner else { return true };
        match partner.leaving {
            None => {
                let heard = partner.control.shown.last().and_then(|(_, status)| status.partner);
                let Some(claim) = heard.filter(|_| partner.tell(Report::Command(Command::Leave))) else {
                    return true;
                };
                let hands_over = partner.role == Role::Active
                    && claim.role == Role::Standby
                    && partner.tell(Report::Command(Command::Switchover));
                let after = partner.happenings.last();
                let until = if hands_over {
                    tracing::info!(event = "handing-over", "asked to end: the partner gets the role first");
                    now + HAND_OVER
                } else {
                    now + partner.goodbye
                };
                partner.leaving = Some(Leaving { until, after, hands_over });
                false
            }
            Some(Leaving { until, .. }) if now >= until => true,
            Some(Leaving { hands_over: false, .. }) => false,
            Some(Leaving { after, .. }) if partner.role == Role::Active => {
                let told = |name| partner.happenings.latest(name).is_some_and(|event| event.id > after);
                told("switchover_refused") || told("switchover_lapsed")
            }
            // Strays that are still under way go on to the partner for a moment.
            Some(leaving) => {
                let until = leaving.until.min(now + STRAYS);
                partner.leaving = Some(Leaving { until, ..leaving });
                false
            }
        }
    }

    /// What the sync core told since the last turn. True if there may be more.
    pub(super) fn hear_partner(&mut self, now: Instant) -> bool {
        for _ in 0..EVENTS_IN_A_ROW {
            let Some(partner) = &mut self.partner else { return false };
            let Ok(event) = partner.control.events.try_recv() else { return false };
            partner.happenings.take(&event, &partner.control.paths);
            if let Event::Role { role, .. } = event {
                partner.role = role;
                self.neighbourhood.speak_as(role == Role::Active);
            }
            self.keep_promises(&event, now);
        }
        true
    }

    /// What becomes of sessions, for their list.
    pub(super) fn mirroring(&self) -> Mirroring {
        let Some(partner) = &self.partner else { return Mirroring::Alone };
        let (Some(pair), Some((_, status))) = (&self.config.pair, partner.control.shown.last()) else {
            return Mirroring::Alone;
        };
        match partner.role {
            Role::Active => Mirroring::Active {
                node: pair.node,
                heard: status.partner.is_some(),
                synced: status.paths.iter().any(|path| path.in_use),
            },
            _ => Mirroring::Mirror,
        }
    }

    /// The links of paths and ports, after they were looked at.
    pub(super) fn tell_links(&mut self) {
        let Some(partner) = &mut self.partner else { return };
        let ports: Vec<bool> = self.ports.iter().map(|port| port.link_up).collect();
        let links = self.links.as_ref();
        for (at, path) in partner.control.paths.iter().enumerate() {
            let up = match path.kind {
                crate::config::PathKind::DataPort(port) => ports.get(usize::from(port.0)).copied(),
                crate::config::PathKind::SyncLink(link) => {
                    let name = partner.control.interfaces.get(link).and_then(Option::as_deref);
                    name.and_then(|name| links?.is_up(name))
                }
            };
            let up = up.unwrap_or(true);
            let report = Report::Link { path: PathId(at as u8), up };
            let asked = Question::Report(report);
            if let Some(known) = partner.links.get_mut(at)
                && *known != up
                && partner.control.questions.try_send(asked).is_ok()
            {
                *known = up;
            }
        }
        let monitors: Vec<Monitor> = ports
            .iter()
            .map(|up| Monitor { weight: PORT_WEIGHT, health: if *up { 100 } else { 0 } })
            .collect();
        let forwarding = if ports.iter().any(|up| *up) { Forwarding::Able } else { Forwarding::Isolated };
        let config_valid = self.last_reload.as_ref().is_none_or(|reload| reload.ok);
        let fitness = Fitness { forwarding, config_valid, quality: quality(&monitors), activity: 0 };
        if partner.fitness != Some(fitness) && partner.tell(Report::Fitness(fitness)) {
            partner.fitness = Some(fitness);
        }
    }

    /// The configuration changed: heartbeats are to say so.
    pub(super) fn describe_to_partner(&mut self) {
        let Some(partner) = &mut self.partner else { return };
        let description = crate::launch::pair::describe(&self.config, self.generation);
        partner.control.description = description.clone();
        // A full channel means a core that hangs; the lease ends it.
        let _ = partner.control.questions.try_send(Question::Describe(Box::new(description)));
    }
}
