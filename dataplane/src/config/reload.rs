//! Which changes a running daemon can apply.
//!
//! Rules, routes, timeouts and logging are replaced as a whole on SIGHUP. What memory, threads and devices were
//! made from at start stays as it is until a restart; the operator is told, setting by setting.

use super::{Config, PairSettings};

impl Config {
    /// The settings that differ from `running` and take effect only after a restart, each as an operator
    /// would name it; empty if a reload applies everything.
    pub fn diff_restart_needed(&self, running: &Config) -> Vec<String> {
        let mut changed = Vec::new();
        let mut note = |name: &str, differs: bool| {
            if differs {
                changed.push(name.to_owned());
            }
        };
        note("node.name", self.node.name != running.node.name);
        note("node.control-socket", self.node.control_socket != running.node.control_socket);
        note("eal.memory-mb", self.eal.memory_mb != running.eal.memory_mb);
        note("eal.huge-pages", self.eal.huge_pages != running.eal.huge_pages);
        note("eal.mbufs", self.eal.mbufs != running.eal.mbufs);
        note("eal.args", self.eal.args != running.eal.args);
        note("workers.count", self.workers.count != running.workers.count);
        note("workers.polling", self.workers.polling != running.workers.polling);
        note("workers.cpus", self.workers.cpus != running.workers.cpus);
        note("sessions.capacity", self.sessions.capacity != running.sessions.capacity);
        note("sessions.half-open-max", self.sessions.half_open_max != running.sessions.half_open_max);
        self.changed_ports(running, &mut changed);
        match (&self.pair, &running.pair) {
            (Some(new), Some(old)) => new.changed(old, &mut changed),
            (None, None) => {}
            _ => changed.push("the section [pair]".into()),
        }
        changed
    }

    fn changed_ports(&self, running: &Config, changed: &mut Vec<String>) {
        let names =
            |config: &Config| -> Vec<String> { config.ports.iter().map(|port| port.name.clone()).collect() };
        let (wanted, have) = (names(self), names(running));
        if wanted != have {
            changed.push(format!(
                "the list of ports ({} in place of {})",
                wanted.join(", "),
                have.join(", ")
            ));
            return;
        }
        for (new, old) in self.ports.iter().zip(&running.ports) {
            // Numbers of zones may differ where the names do not.
            let differs = [
                ("device", new.device != old.device),
                ("zone", self.zone_name(new.zone) != running.zone_name(old.zone)),
                ("addresses", new.addresses != old.addresses),
                ("mtu", new.mtu != old.mtu),
                ("node-address", new.pair.map(|pair| pair.own) != old.pair.map(|pair| pair.own)),
                ("partner-address", new.pair.map(|pair| pair.partner) != old.pair.map(|pair| pair.partner)),
            ];
            let differing = differs.iter().filter(|(_, differs)| *differs);
            changed.extend(differing.map(|(key, _)| format!("{key} of port {:?}", new.name)));
        }
    }
}

impl PairSettings {
    /// All of `[pair]` is what the node is to its partner: nothing of it changes while it runs.
    fn changed(&self, running: &PairSettings, changed: &mut Vec<String>) {
        let (beat, had) = (&self.heartbeat, &running.heartbeat);
        let differs = [
            ("pair.id", self.id != running.id),
            ("pair.node-id", self.node != running.node),
            ("pair.preferred", self.preferred != running.preferred),
            ("pair.secret-key-file", self.key != running.key),
            ("pair.partner-key", self.partner_key != running.partner_key),
            ("pair.steering-key", self.steering_key != running.steering_key),
            ("pair.state-dir", self.state_dir != running.state_dir),
            ("pair.on-active-restart", self.on_active_restart != running.on_active_restart),
            ("pair.takeover-incomplete", self.takeover_incomplete != running.takeover_incomplete),
            ("pair.preempt", self.preempt != running.preempt),
            ("pair.boot-delay-ms", self.boot_delay_ms != running.boot_delay_ms),
            ("pair.lan-fallback", self.lan_fallback != running.lan_fallback),
            ("pair.lan-fallback-mbit", self.lan_fallback_mbit != running.lan_fallback_mbit),
            ("pair.resync-rate", self.resync_rate != running.resync_rate),
            ("pair.debug-verbs", self.debug_verbs != running.debug_verbs),
            ("pair.heartbeat.interval-ms", beat.interval_ms != had.interval_ms),
            ("pair.heartbeat.misses", beat.misses != had.misses),
            ("pair.heartbeat.port", beat.port != had.port),
            ("pair.stream.port", self.stream_port != running.stream_port),
            ("pair.link", self.links != running.links),
        ];
        let differing = differs.iter().filter(|(_, differs)| *differs);
        changed.extend(differing.map(|(name, _)| (*name).to_owned()));
    }
}
