//! `debug damage`: harms one session of the copy on a standby, so that a test can see that it is found, named
//! and repaired.
//!
//! Only where `[pair] debug-verbs` says so, and never on an active node, whose sessions are users'. The
//! worker that owns the session does it, and tells nobody.

use super::core::Core;
use super::orders::no_pair;
use super::server::{Reply, answer_line, refusal_line};
use super::terminate::endpoint;
use crate::worker::mailbox::{Harm, Mail};
use engine::table::{SessionView, Slot};
use proto::{Damage, Damaged, DebugArgs, Error, ErrorCode, Protocol};
use sync::membership::Role;

impl Core {
    /// Harms a session, or says why not.
    pub(super) fn damage(&mut self, args: DebugArgs) -> Reply {
        match self.damage_one(args) {
            Ok(damaged) => Reply::Line(answer_line(&damaged)),
            Err(error) => Reply::Line(refusal_line(error)),
        }
    }

    fn damage_one(&mut self, args: DebugArgs) -> Result<Damaged, Error> {
        let (Some(settings), Some(partner)) = (&self.config.pair, &self.partner) else {
            return Err(no_pair());
        };
        if !settings.debug_verbs {
            let what = "verbs that do harm are not allowed on this node";
            let hint = "write debug-verbs = true into [pair], where nobody's traffic is, and restart";
            return Err(Error::new(ErrorCode::NotNow, what, hint));
        }
        if partner.role == Role::Active {
            let what = "this node is active: its sessions are its users', not a copy";
            return Err(Error::new(ErrorCode::NotNow, what, "run it on the standby"));
        }
        let Some((worker, slot, view)) = self.some_copy(args.session) else {
            let what = "there is no mirrored session to harm";
            return Err(Error::new(ErrorCode::NotNow, what, "look with `ha-ctl sessions`"));
        };
        let harm = match args.damage {
            Damage::Corrupt => Harm::Corrupt,
            Damage::Drop => Harm::Drop,
            Damage::Add => Harm::Add,
        };
        let mail = self.workers.get_mut(worker).map(|worker| &mut worker.mail);
        if mail.is_none_or(|mail| mail.push(Mail::Damage(slot, harm)).is_err()) {
            return Err(Error::new(ErrorCode::Busy, "the worker takes no mail now", "try again"));
        }
        let key = &view.keys[0];
        Ok(Damaged {
            damage: args.damage,
            worker: worker as u32,
            slot: slot.0,
            proto: Protocol(key.proto().0),
            from: endpoint(key.src(), key.sport()),
            to: endpoint(key.dst(), key.dport()),
        })
    }

    /// The session that is named, or the first one that the partner knows.
    fn some_copy(&self, named: Option<proto::SessionHandle>) -> Option<(usize, Slot, SessionView)> {
        let replicable = |worker: usize, slot: u32| {
            let view = self.shards.get(worker)?.read(Slot(slot)).filter(SessionView::is_replicable)?;
            Some((worker, Slot(slot), view))
        };
        match named {
            Some(handle) => replicable(handle.worker as usize, handle.slot),
            None => {
                let slots = |(worker, shard): (usize, &engine::table::SlotReader)| {
                    (0..shard.slots()).map(move |slot| (worker, slot))
                };
                let mut all = self.shards.iter().enumerate().flat_map(slots);
                all.find_map(|(worker, slot)| replicable(worker, slot))
            }
        }
    }
}
