//! The network between the nodes.

use super::{Happening, RECORDED, World};
use crate::name;
use sync::datagram::{Header, Kind};
use sync::ids::PathId;
use sync::pair::Report;

impl World {
    pub(super) fn transmit(&mut self, from: usize, path: usize, datagram: Vec<u8>) {
        let kind = Header::read(&datagram).map(|header| header.kind).ok();
        if kind == Some(Kind::Heartbeat) {
            self.forwarding.sent(from, path, self.now);
            if self.setup.record {
                let recorded = &mut self.recorded[from];
                if recorded.len() == RECORDED {
                    recorded.pop_front();
                }
                recorded.push_back((path, datagram.clone()));
            }
        }
        self.carried[path] += u64::from(kind == Some(Kind::Data));
        let lost = kind == self.setup.lost_kind && kind.is_some();
        let quality = self.links[path][from];
        let arrivals = if lost { [None; 2] } else { quality.pass(datagram.len(), &mut self.rng) };
        self.note(|_| {
            let fate = match arrivals {
                [None, None] => "lost".to_owned(),
                [first, second] => format!("{:?}", first.or(second).unwrap_or(0)),
            };
            format!("{} sends {kind:?} of {} on {path}: {fate}", name(from), datagram.len())
        });
        let (to, sent) = (1 - from, self.now);
        if let Some(second) = arrivals[1] {
            let datagram = datagram.clone();
            self.at(self.now + second, Happening::Arrive { to, path, sent, datagram });
        }
        if let Some(first) = arrivals[0] {
            self.at(self.now + first, Happening::Arrive { to, path, sent, datagram });
        }
    }

    pub(super) fn arrive(&mut self, to: usize, path: usize, sent: u64, datagram: Vec<u8>) {
        if Header::read(&datagram).is_ok_and(|header| header.kind == Kind::Heartbeat) {
            self.forwarding.arrived(1 - to, path, sent);
        }
        let (now, long) = (self.now, self.setup.dead() - self.setup.interval());
        let Some(life) = &mut self.nodes[to].life else { return };
        if life.around.dead_links[path] {
            return;
        }
        self.heard[1 - to].arrived(now, long);
        life.inbox.push_back((path, datagram));
        // A poller that may just have fallen asleep.
        let at = self.now + self.rng.range(5, 90);
        self.wake(to, at);
    }

    pub(super) fn link_state(&mut self, node: usize, path: usize, up: bool) {
        let lives = self.nodes[node].lives;
        let Some(life) = &mut self.nodes[node].life else { return };
        if std::mem::replace(&mut life.around.dead_links[path], !up) == up {
            let report = Report::Link { path: PathId(path as u8), up };
            let us = self.rng.range(50, 500);
            self.at(self.now + us, Happening::Report { node, life: lives, report });
        }
    }
}
