//! What an operator wants of the pair: orders to the sync core, and the promises that wait for what comes
//! of them.
//!
//! An order is handed over and nothing waits for it here. The sync core's own events say what became of
//! it, and keep the promises to whoever asked: exactly what the log says is what the operator reads.

use super::core::Core;
use super::happenings::refusal;
use super::later::{Promise, promise};
use super::pair_view;
use super::server::{Reply, answer_line, refusal_line};
use crate::pair::Event;
use proto::{Command, Error, ErrorCode, EventsArgs, ForcedRole, WaitArgs};
use std::time::{Duration, Instant};
use sync::membership::{self, Notice, Role};
use sync::pair::Report;
use sync::stream::Event as Stream;

/// Promises that are under way.
#[derive(Default)]
pub(super) struct Orders {
    waiting: Vec<Waiting>,
}

/// A promise and what it waits for.
struct Waiting {
    what: What,
    since: Instant,
    promise: Promise,
}

#[derive(Clone, Copy)]
enum What {
    /// A comparison of all digests.
    Verify,
    /// The same, and both nodes side by side.
    Compare,
    /// Another role than this one.
    Switchover(Role),
    /// An event.
    Events(EventsArgs),
}

impl Core {
    /// Answers what is about the pair.
    pub(super) fn respond_for_pair(&mut self, command: Command, now: Instant) -> Reply {
        match self.answer_for_pair(command, now) {
            Ok(reply) => reply,
            Err(error) => Reply::Line(refusal_line(error)),
        }
    }

    fn answer_for_pair(&mut self, command: Command, now: Instant) -> Result<Reply, Error> {
        let partner = self.partner.as_mut().ok_or_else(no_pair)?;
        let role = pair_view::role_word(partner.role);
        let ordered =
            |order: &str| Ok(Reply::Line(answer_line(&proto::Ordered { order: order.to_owned(), role })));
        match command {
            Command::Compare(args) => self.compare(args, now),
            Command::Events(args) => Ok(self.events(args, now)),
            Command::Verify(args) => self.verify(args, now),
            Command::Switchover(args) => {
                let what = What::Switchover(partner.role);
                self.order(Report::Command(membership::Command::Switchover), what, args, now)
            }
            Command::Resync => {
                self.synced("resync")?;
                self.tell_partner(Report::Resync)?;
                ordered("resync")
            }
            Command::Force(args) => {
                let (command, name) = match args.role {
                    ForcedRole::Active => (membership::Command::ForceActive, "force active"),
                    ForcedRole::Standby => (membership::Command::ForceStandby, "force standby"),
                };
                self.tell_partner(Report::Command(command))?;
                ordered(name)
            }
            Command::Unforce => {
                self.tell_partner(Report::Command(membership::Command::Unforce))?;
                ordered("unforce")
            }
            other => {
                let what = format!("{} is not a command about the pair", other.name());
                Err(Error::new(ErrorCode::Internal, what, "please report it"))
            }
        }
    }

    fn verify(&mut self, args: WaitArgs, now: Instant) -> Result<Reply, Error> {
        self.synced("verify")?;
        self.order(Report::Verify, What::Verify, args, now)
    }

    /// Both nodes side by side, and their digests if these can be compared.
    fn compare(&mut self, args: WaitArgs, now: Instant) -> Result<Reply, Error> {
        let compared = pair_view::compare(self, None).ok_or_else(no_partner)?;
        let line = answer_line(&compared);
        let asked = self.synced("compare").and_then(|()| self.tell_partner(Report::Verify));
        if asked.is_err() {
            return Ok(Reply::Line(line));
        }
        let (promise, later) = promise(now + Duration::from_millis(args.timeout_ms.into()), line);
        self.orders.waiting.push(Waiting { what: What::Compare, since: now, promise });
        Ok(Reply::Later(later))
    }

    /// Only with a partner that is reached, one of the two active, can both tables be looked at. The active
    /// node does it; a standby asks it.
    fn synced(&self, verb: &str) -> Result<(), Error> {
        let partner = self.partner.as_ref().ok_or_else(no_pair)?;
        let Some((_, status)) = partner.control.shown.last() else { return Err(no_partner()) };
        let Some(claim) = status.partner else { return Err(no_partner()) };
        if partner.role != Role::Active && claim.role != Role::Active {
            let what = format!("no node is active: this one is {}", partner.role.name());
            return Err(Error::new(ErrorCode::NotNow, what, format!("run ha-ctl {verb} when one is")));
        }
        if !status.paths.iter().any(|path| path.in_use) {
            let hint = "`ha-ctl status` shows the paths";
            return Err(Error::new(ErrorCode::NotNow, "no path carries session sync", hint));
        }
        Ok(())
    }

    fn tell_partner(&mut self, report: Report) -> Result<(), Error> {
        let partner = self.partner.as_mut().ok_or_else(no_pair)?;
        if partner.tell(report) {
            return Ok(());
        }
        let hint = "the sync core is behind or stuck: look at the log, and try again in a moment";
        Err(Error::new(ErrorCode::Busy, "the sync core takes no orders now", hint))
    }

    fn order(&mut self, report: Report, what: What, args: WaitArgs, now: Instant) -> Result<Reply, Error> {
        self.tell_partner(report)?;
        let limit = Duration::from_millis(args.timeout_ms.into());
        let late = Error::new(
            ErrorCode::TimedOut,
            format!("nothing came of it within {} s", limit.as_secs_f64()),
            "it was not called off: look at `ha-ctl status` and `ha-ctl events`",
        );
        let (promise, later) = promise(now + limit, refusal_line(late));
        self.orders.waiting.push(Waiting { what, since: now, promise });
        Ok(Reply::Later(later))
    }

    fn events(&mut self, args: EventsArgs, now: Instant) -> Reply {
        let Some(partner) = &self.partner else { return Reply::Line(refusal_line(no_pair())) };
        let line = answer_line(&pair_view::events(self, partner, args));
        if args.wait_ms == 0 || partner.happenings.last() > args.since {
            return Reply::Line(line);
        }
        // When the time is over the answer is that nothing happened.
        let (promise, later) = promise(now + Duration::from_millis(args.wait_ms.into()), line);
        self.orders.waiting.push(Waiting { what: What::Events(args), since: now, promise });
        Reply::Later(later)
    }

    /// An event of the sync core, already remembered, may be what somebody waits for.
    pub(super) fn keep_promises(&mut self, event: &Event, now: Instant) {
        let waiting = std::mem::take(&mut self.orders.waiting);
        for wait in waiting {
            let Waiting { what, since, promise } = wait;
            if !promise.is_wanted() {
                continue;
            }
            match self.outcome(what, since, event, now) {
                Some(line) => promise.keep(line),
                None => self.orders.waiting.push(Waiting { what, since, promise }),
            }
        }
    }

    fn outcome(&self, what: What, since: Instant, event: &Event, now: Instant) -> Option<Vec<u8>> {
        let took_ms = now.duration_since(since).as_millis() as u64;
        match (what, event) {
            (
                What::Verify | What::Compare,
                Event::Stream(Stream::Verified { equal, buckets, groups, asked: true }),
            ) => {
                let sessions = self.partner.as_ref().and_then(|partner| partner.control.shown.last());
                let verified = proto::Verified {
                    equal: *equal,
                    differing: (*buckets).into(),
                    groups: groups.iter().map(u32::from).collect(),
                    sessions: sessions.map_or(0, |(_, status)| status.digest.1.into()),
                    took_ms,
                };
                Some(match what {
                    What::Compare => match pair_view::compare(self, Some(verified)) {
                        Some(compared) => answer_line(&compared),
                        None => refusal_line(no_partner()),
                    },
                    _ => answer_line(&verified),
                })
            }
            (What::Switchover(was), Event::Role { role, term })
                if *role != was && (was == Role::Active || *role == Role::Active) =>
            {
                Some(answer_line(&proto::SwitchedOver {
                    role: pair_view::role_word(*role),
                    was: pair_view::role_word(was),
                    term: term.get(),
                    took_ms,
                }))
            }
            (What::Switchover(_), Event::Notice(Notice::SwitchoverRefused(reason))) => {
                let what = format!("the switchover is refused: {}", refusal(*reason));
                let hint = "`ha-ctl status` shows both nodes; a node that must go now can be stopped";
                Some(refusal_line(Error::new(ErrorCode::NotNow, what, hint)))
            }
            (What::Switchover(_), Event::Notice(Notice::SwitchoverLapsed)) => {
                let what = "the switchover was called off: the other node did not confirm in time";
                Some(refusal_line(Error::new(ErrorCode::NotNow, what, "the roles are as before: try again")))
            }
            (What::Events(args), _) => {
                let partner = self.partner.as_ref()?;
                (partner.happenings.last() > args.since)
                    .then(|| answer_line(&pair_view::events(self, partner, args)))
            }
            _ => None,
        }
    }
}

/// For a node that stands alone.
pub(super) fn no_pair() -> Error {
    Error::new(
        ErrorCode::NoPair,
        "this node is not one of a pair: its configuration has no [pair]",
        "docs/pair.md says how to set up a pair",
    )
}

fn no_partner() -> Error {
    Error::new(
        ErrorCode::NoPartner,
        "the partner is not heard",
        "is it running? `ha-ctl status` shows the paths, `ha-ctl events` since when",
    )
}
