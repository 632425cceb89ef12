//! Which changes a running daemon can apply.
//!
//! Rules, routes, timeouts and logging are replaced as a whole on SIGHUP. What memory, threads and devices were
//! made from at start stays as it is until a restart; the operator is told, setting by setting.

use super::Config;

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
            ];
            let differing = differs.iter().filter(|(_, differs)| *differs);
            changed.extend(differing.map(|(key, _)| format!("{key} of port {:?}", new.name)));
        }
    }
}
