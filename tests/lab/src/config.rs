//! The node's configuration: the lab's default policy, with whatever a test or a user lays over it.
//!
//! From the LAN's networks to the WAN's networks TCP, UDP and ICMP echo; back only what belongs to a
//! session; all else falls to the default deny. One blocked port stands before that, so that a counter can
//! name a rule of ours as well.

use std::{fmt::Write as _, fs, path::Path};

use toml::{Table, Value};

use crate::{
    error::{LabError, Result},
    pair::{NodeKeys, PairSettings},
    topology::{Family, Host, LINKS, Network, PAIR_ID},
};

/// Rule that drops the blocked port from LAN to WAN.
pub const BLOCK_RULE: &str = "block-9999";
/// Rule that lets the LAN use the WAN.
pub const ALLOW_RULE: &str = "lan-to-wan";
/// What everything else falls to.
pub const DEFAULT_RULE: &str = "default-deny";
/// The port that [`BLOCK_RULE`] drops.
pub const BLOCKED_PORT: u16 = 9999;

/// A node's configuration while it is being put together.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    table: Table,
}

impl NodeConfig {
    /// The lab's default for a node.
    pub fn lab_default(node: Host) -> Result<Self> {
        let ports: String = LINKS
            .iter()
            .enumerate()
            .map(|(index, link)| {
                let zone = link.node_interface.trim_end_matches('0');
                let addresses: Vec<String> = Family::BOTH
                    .into_iter()
                    .filter_map(|family| {
                        Some(format!("\"{}/{}\"", link.host.gateway(family)?, family.prefix_length()))
                    })
                    .collect();
                format!(
                    "[[port]]\nname = \"{zone}\"\ndevice = \"{}\"\nzone = \"{zone}\"\naddresses = [{}]\nmtu = 1500\n\n",
                    link.device(index),
                    addresses.join(", ")
                )
            })
            .collect();
        let text = format!(
            r#"
[node]
name = "{name}"

[log]
level = "info"

[eal]
memory-mb = 256
huge-pages = "auto"
mbufs = 16384

[workers]
count = 1
polling = "adaptive"

[sessions]
capacity = 262144

{ports}
[[rule]]
name = "{BLOCK_RULE}"
from = "lan"
to = "wan"
services = ["tcp/{BLOCKED_PORT}", "udp/{BLOCKED_PORT}"]
action = "drop"

[[rule]]
name = "{ALLOW_RULE}"
from = "lan"
to = "wan"
source = ["10.1.0.0/24", "fd00:1::/64"]
destination = ["10.2.0.0/24", "fd00:2::/64"]
services = ["tcp", "udp", "icmp-echo"]
action = "allow"
"#,
            name = node.name()
        );
        Self::from_text(&text)
    }

    /// The lab's default for a node of a pair: the same, with a partner. The folder is where the node's key
    /// and its memory between starts lie.
    pub fn lab_pair(node: Host, settings: &PairSettings, keys: &NodeKeys, dir: &Path) -> Result<Self> {
        let Some(id) = node.node_id() else {
            return Err(LabError::Config(format!("{} is no node", node.name())));
        };
        let mut config = Self::lab_default(node)?;
        let mut text = format!(
            "[pair]\nid = {PAIR_ID}\nnode-id = {id}\nsecret-key-file = {:?}\npartner-key = \"{}\"\npreferred = 0\nstate-dir = {:?}\n",
            keys.secret_file(dir).display().to_string(),
            keys.partner_public(),
            dir.join("state").display().to_string(),
        );
        if let Some(delay) = settings.boot_delay_ms {
            let _ = writeln!(text, "boot-delay-ms = {delay}");
        }
        let _ = writeln!(
            text,
            "[pair.heartbeat]\ninterval-ms = {}\nmisses = {}",
            settings.interval_ms, settings.misses
        );
        for link in settings.sync_links() {
            let _ = writeln!(
                text,
                "[[pair.link]]\nname = \"{}\"\ndevice = \"{}\"\naddress = \"{}\"\npartner = \"{}\"\nmtu = 1500",
                link.name(),
                link.device(),
                link.address(node),
                link.address(node.partner())
            );
        }
        config.overlay(&text)?;
        for network in Network::BOTH {
            let own = network.node_address(node);
            config.set_port(network.name(), "node-address", own.to_string())?;
            let partner = network.node_address(node.partner());
            config.set_port(network.name(), "partner-address", partner.to_string())?;
        }
        Ok(config)
    }

    /// Sets a key of a port.
    pub fn set_port(&mut self, port: &str, key: &str, value: impl Into<Value>) -> Result<()> {
        let ports = self.table.get_mut("port").and_then(Value::as_array_mut).into_iter().flatten();
        let named = |table: &&mut Table| table.get("name").and_then(Value::as_str) == Some(port);
        let found = ports.filter_map(Value::as_table_mut).find(named);
        let table = found.ok_or_else(|| LabError::Config(format!("there is no port {port}")))?;
        table.insert(key.into(), value.into());
        Ok(())
    }

    /// The same without what is drawn anew for each lab, for comparing.
    #[must_use]
    pub fn without_keys(mut self) -> Self {
        if let Some(pair) = self.table.get_mut("pair").and_then(Value::as_table_mut) {
            pair.remove("partner-key");
        }
        self
    }

    /// A configuration from TOML text.
    pub fn from_text(text: &str) -> Result<Self> {
        let table = text.parse::<Table>().map_err(|error| LabError::Config(error.to_string()))?;
        Ok(Self { table })
    }

    /// A user's `NODE.toml` from a folder.
    pub fn from_dir(dir: &Path, node: Host) -> Result<Self> {
        let path = dir.join(format!("{}.toml", node.name()));
        let text = fs::read_to_string(&path).map_err(LabError::io(format!("read {}", path.display())))?;
        Self::from_text(&text)
    }

    /// Lays other settings over these: tables are merged, anything else is replaced.
    pub fn overlay(&mut self, text: &str) -> Result<()> {
        merge(&mut self.table, Self::from_text(text)?.table);
        Ok(())
    }

    /// Puts the rules of a text before the ones that are there.
    pub fn rules_first(&mut self, text: &str) -> Result<()> {
        let mut fresh = Self::from_text(text)?.table;
        let Some(Value::Array(mut rules)) = fresh.remove("rule") else {
            return Err(LabError::Config("no [[rule]] in the text to put first".into()));
        };
        if let Some(Value::Array(old)) = self.table.remove("rule") {
            rules.extend(old);
        }
        self.table.insert("rule".into(), Value::Array(rules));
        Ok(())
    }

    /// Takes the rules of these names out.
    pub fn drop_rules(&mut self, names: &[&str]) {
        if let Some(rules) = self.table.get_mut("rule").and_then(Value::as_array_mut) {
            rules.retain(|rule| {
                rule.get("name").and_then(Value::as_str).is_none_or(|name| !names.contains(&name))
            });
        }
    }

    /// Where the daemon shall listen for `ha-ctl`.
    pub fn set_control_socket(&mut self, socket: &Path) -> Result<()> {
        self.overlay(&format!("[node]\ncontrol-socket = {:?}\n", socket.display().to_string()))
    }

    /// As the daemon reads it.
    pub fn to_text(&self) -> Result<String> {
        toml::to_string_pretty(&self.table).map_err(|error| LabError::Config(error.to_string()))
    }
}

fn merge(base: &mut Table, over: Table) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(Value::Table(old)), Value::Table(new)) => merge(old, new),
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule_names(config: &NodeConfig) -> Vec<String> {
        let rules = config.table["rule"].as_array().unwrap();
        rules.iter().map(|rule| rule["name"].as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn the_default_has_both_ports_and_the_block_before_the_allow() {
        let config = NodeConfig::lab_default(Host::A).unwrap();
        let ports = config.table["port"].as_array().unwrap();
        assert_eq!(ports[0]["device"].as_str(), Some("net_af_packet0,iface=lan0,framecnt=2048"));
        assert_eq!(ports[1]["device"].as_str(), Some("net_af_packet1,iface=wan0,framecnt=2048"));
        assert_eq!(ports[0]["zone"].as_str(), Some("lan"));
        let addresses: Vec<_> =
            ports[1]["addresses"].as_array().unwrap().iter().map(|value| value.as_str().unwrap()).collect();
        assert_eq!(addresses, ["10.2.0.1/24", "fd00:2::1/64"]);
        assert_eq!(rule_names(&config), [BLOCK_RULE, ALLOW_RULE]);
    }

    #[test]
    fn the_nodes_of_a_pair_name_each_other() {
        let [a, b] = crate::pair::draw_keys().unwrap();
        let settings = PairSettings { sync_links: 2, interval_ms: 10, ..PairSettings::default() };
        let config = |node, keys| NodeConfig::lab_pair(node, &settings, keys, Path::new("/run/x")).unwrap();
        let (of_a, of_b) = (config(Host::A, &a).table, config(Host::B, &b).table);
        assert_eq!((&of_a["pair"]["node-id"], &of_b["pair"]["node-id"]), (&0.into(), &1.into()));
        assert_eq!(of_a["pair"]["heartbeat"]["interval-ms"].as_integer(), Some(10));
        for (own, other) in [(&of_a, &of_b), (&of_b, &of_a)] {
            for (link, partners) in
                own["pair"]["link"].as_array().unwrap().iter().zip(other["pair"]["link"].as_array().unwrap())
            {
                assert_eq!(link["partner"], partners["address"]);
            }
            for (port, partners) in
                own["port"].as_array().unwrap().iter().zip(other["port"].as_array().unwrap())
            {
                assert_eq!(port["partner-address"], partners["node-address"]);
                assert_eq!(port["addresses"], partners["addresses"], "what they share");
            }
        }
        assert_ne!(of_a["pair"]["partner-key"], of_b["pair"]["partner-key"]);
    }

    #[test]
    fn an_overlay_changes_only_what_it_names() {
        let mut config = NodeConfig::lab_default(Host::A).unwrap();
        config.overlay("[workers]\ncount = 2\n[timeouts]\nudp = 3\n").unwrap();
        assert_eq!(config.table["workers"]["count"].as_integer(), Some(2));
        assert_eq!(config.table["workers"]["polling"].as_str(), Some("adaptive"));
        assert_eq!(config.table["timeouts"]["udp"].as_integer(), Some(3));
        assert_eq!(config.table["sessions"]["capacity"].as_integer(), Some(262_144));
    }

    #[test]
    fn rules_can_go_before_the_others() {
        let mut config = NodeConfig::lab_default(Host::A).unwrap();
        config.rules_first("[[rule]]\nname = \"x\"\naction = \"drop\"\n").unwrap();
        assert_eq!(rule_names(&config), ["x", BLOCK_RULE, ALLOW_RULE]);
        assert!(config.rules_first("[node]\nname = \"b\"\n").is_err());
        config.drop_rules(&["x", "y"]);
        assert_eq!(rule_names(&config), [BLOCK_RULE, ALLOW_RULE]);
    }

    #[test]
    fn the_text_reads_back_the_same() {
        let mut config = NodeConfig::lab_default(Host::A).unwrap();
        config.set_control_socket(Path::new("/run/x/\"quoted\".sock")).unwrap();
        let again = NodeConfig::from_text(&config.to_text().unwrap()).unwrap();
        assert_eq!(again.table, config.table);
        assert_eq!(again.table["node"]["control-socket"].as_str(), Some("/run/x/\"quoted\".sock"));
    }

    #[test]
    fn nonsense_is_refused_with_its_place() {
        let error = NodeConfig::from_text("[node\n").unwrap_err().to_string();
        assert!(error.starts_with("configuration: TOML parse error at line 1"), "{error}");
    }
}
