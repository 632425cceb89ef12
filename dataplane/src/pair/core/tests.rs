//! The sync core turned by hand, with a sync link made of rings and nobody at its other end.

use super::*;
use crate::config::Config;
use crate::control::Facts;
use crate::harness::CONFIG;
use crate::launch::assemble::{Assembly, Materials, assemble, table_bytes};
use crate::launch::pair::PairMaterials;
use crate::launch::ports::OpenPort;
use crate::ruleset::Ruleset;
use dpdk::testing::RingPort;
use dpdk::{Mempool, PortConfig};
use engine::policy::RuleSlots;
use engine::snapshot::Steering;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Instant;
use sync::ids::Incarnation;
use sync::keys::SecretKey;
use wire::steer::ToeplitzKey;

/// A node of a pair and the far ends of its ports.
struct Rig {
    assembly: Assembly,
    clock: Clock,
    _wires: Vec<RingPort>,
    _folder: Folder,
}

/// Removed at the end, after the thread that writes the term there.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Rig {
    fn new(pool: &Mempool) -> Self {
        let folder = Folder(std::env::temp_dir().join(format!("us-sync-core-{}", std::process::id())));
        std::fs::create_dir_all(&folder.0).unwrap();
        let config = config(&folder.0);
        let (mut wires, mut open) = (Vec::new(), Vec::new());
        for _ in 0..=config.ports.len() {
            let (wire, mut port) = RingPort::create(pool.eal(), 1, 512).unwrap();
            let queues = port.start(&PortConfig::default(), pool).unwrap();
            wires.push(wire);
            open.push(OpenPort { port, queues });
        }
        let links = open.split_off(config.ports.len());
        let clock = Clock::new(dpdk::cycles(), dpdk::tsc_hz(pool.eal()));
        let facts = Facts {
            started: Instant::now(),
            page_bytes: 4096,
            table_bytes: 0,
            eal_huge_pages: false,
            warnings: Vec::new(),
        };
        let memory: &'static mut [u8] = vec![0; table_bytes(config.sessions.capacity, 1) + 128].leak();
        let skip = memory.as_ptr().align_offset(128);
        let assembly = assemble(Materials {
            ruleset: Ruleset::compile(&config, &RuleSlots::new()).unwrap(),
            config,
            config_path: "/nonexistent/rig.toml".into(),
            ports: open,
            pool: *pool,
            memory: &mut memory[skip..],
            steering: Steering::new(ToeplitzKey::default(), 1),
            facts,
            clock,
            log: None,
            random: [1, 2, 3],
            pair: Some(PairMaterials { links, incarnation: Incarnation(7) }),
        });
        Self { assembly: assembly.unwrap(), clock, _wires: wires, _folder: folder }
    }
}

fn config(folder: &Path) -> Config {
    let [own, partner] = [5, 7].map(|seed| SecretKey::from_random([seed; 32]));
    let key = folder.join("a.key");
    let mut file =
        std::fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&key).unwrap();
    std::io::Write::write_all(&mut file, own.to_text().as_bytes()).unwrap();
    let text = format!(
        "{CONFIG}\n[pair]\nid = 7\nnode-id = 0\npreferred = 0\nsecret-key-file = {key:?}\npartner-key = \"{}\"\n\
         state-dir = {folder:?}\n[[pair.link]]\nname = \"sync0\"\ndevice = \"net_null2\"\n\
         address = \"169.254.77.1\"\npartner = \"169.254.77.2\"\nmtu = 1500\n",
        partner.public()
    );
    Config::parse("rig", &text).map_err(|error| error.lines()).unwrap()
}

#[dpdk::test(capacity = 4095)]
fn what_an_operator_is_told_is_of_the_last_millisecond(pool: &Mempool) {
    let mut rig = Rig::new(pool);
    let core = rig.assembly.sync_core.as_mut().unwrap();
    let step = rig.clock.cycles(Duration::from_micros(300));
    let mut cycles = dpdk::cycles();
    let mut shown = Vec::new();
    for _ in 0..100 {
        cycles += step;
        core.turn(cycles);
        let (at, status) = core.shown.last().unwrap();
        assert_eq!(status.role, Role::Init);
        let age = rig.clock.micros(cycles).since(at);
        assert!(age < Micros::from_millis(1), "{age:?}");
        shown.push(at);
    }
    shown.dedup();
    assert!((20..=34).contains(&shown.len()), "no more often than anybody can use it: {}", shown.len());
}
