//! Users, the switch that brings them to a node, and what a node does with their packets.

use super::{Happening, World};
use crate::tables::timeout;
use crate::workload::{Act, Packet};

impl World {
    pub(super) fn user(&mut self) {
        let rate = u64::from(self.workload.load.rate);
        if rate == 0 || self.quiet {
            self.at(self.now + 5_000, Happening::User);
            return;
        }
        let packet = self.workload.packet();
        let to = self.route();
        self.at(self.now + 10, Happening::Packet(packet, to));
        let pause = 1 + self.rng.below(2 * 1_000_000 / rate);
        self.at(self.now + pause, Happening::User);
    }

    pub(super) fn steady(&mut self) {
        let pause = self.workload.load.steady_every_us;
        self.at(self.now + pause, Happening::Steady);
        if self.workload.load.steady == 0 || self.quiet {
            return;
        }
        let packet = self.workload.steady();
        self.packets.sent += 1;
        let to = self.route();
        self.at(self.now + 10, Happening::Packet(packet, to));
    }

    /// Where the network brings a packet for the virtual MAC address. A network that is cut in two has its
    /// users on both sides.
    pub(super) fn route(&mut self) -> usize {
        let both = self.forwards(0) && self.forwards(1);
        let split = self.links.iter().all(|path| !path[0].up && !path[1].up);
        if both && split && self.rng.chance(500) { 1 - self.attracted } else { self.attracted }
    }

    pub(super) fn packet(&mut self, packet: Packet, at: usize) {
        let counted = u64::from(packet.counted);
        let now = self.now;
        let local = self.nodes[at].clock.shows(now);
        let forwards = self.forwards(at);
        let frozen = self.nodes[at].frozen > now;
        let key = self.workload.key(packet.flow);
        let Some(life) = &mut self.nodes[at].life else {
            self.packets.lost_down += counted;
            return;
        };
        let worker = life.tables.borrow().owner(&key.tuple);
        if frozen || life.stuck[worker] > now {
            self.packets.lost_stuck += counted;
        } else if life.parks_from <= now {
            if !life.park(packet) {
                self.packets.lost_parked += counted;
            }
        } else if forwards {
            life.tables.borrow_mut().now = local;
            self.forward(packet, at);
        } else if life.redirect_until > now && !packet.hopped {
            let us = self.rng.range(10, 80);
            self.packets.redirected += counted;
            self.at(now + us, Happening::Packet(Packet { hopped: true, ..packet }, 1 - at));
        } else {
            self.packets.lost_closed += counted;
        }
    }

    pub(super) fn forward(&mut self, packet: Packet, at: usize) {
        let key = self.workload.key(packet.flow);
        let Some(life) = &mut self.nodes[at].life else { return };
        let mut tables = life.tables.borrow_mut();
        let mine = tables.find(&key).is_some_and(|entry| entry.session.key == key);
        let counted = u64::from(packet.counted);
        match packet.act {
            Act::End if mine => {
                tables.close(&key);
            }
            Act::End => {}
            Act::Use | Act::Idle if mine => {
                let passes = tables.touch(&key, packet.act == Act::Use, packet.back);
                let fate = &mut self.packets;
                *(if passes { &mut fate.forwarded } else { &mut fate.lost_unknown }) += counted;
            }
            Act::Use | Act::Idle => {
                let local = tables.now;
                let (session, class) = self.workload.session(packet.flow, local);
                let lifetime = timeout(&session);
                if tables.open(session, class, lifetime) {
                    let version = tables.find(&key).map_or_else(Default::default, |e| e.session.version);
                    self.kept.opened(at, key, self.now, version);
                }
                // The first packet of a steady session opens it; a later one that finds none is lost.
                if packet.counted {
                    self.packets.lost_unknown += 1;
                }
            }
        }
        let news = std::mem::take(&mut tables.news);
        drop(tables);
        if news {
            let wake_at = self.now + self.rng.range(10, 150);
            self.wake(at, wake_at);
        }
    }
}
