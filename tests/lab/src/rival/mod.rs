//! What a user would run instead: nftables, conntrackd and keepalived of the distribution, as a pair, on the
//! very same cables between the very same client and server.
//!
//! Its nodes are the lab's namespaces with the kernel's forwarding in them. A machine's death is made of all
//! of its programs' deaths and, at once, of the loss of all its cables.

mod limits;
mod texts;

pub(crate) use limits::restore as restore_limits;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;

use crate::{
    error::{LabError, Result},
    exec::{self, Running, SHORT},
    growth::Growth,
    guard::{Lab, LabOptions},
    netns,
    process::ProcessRef,
    topology::{Host, Network},
};

/// Where conntrackd keeps what the other node tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cache {
    /// Beside the kernel's table, into which it is committed at a takeover: the default.
    External,
    /// In the kernel's table at once.
    None,
}

/// What the pair is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RivalOptions {
    /// Where the mirror lies.
    pub cache: Cache,
    /// keepalived's interval; three of them are a death.
    pub advert_ms: u32,
}

/// How long a node may take to be there, or to have been told everything.
const READY: Duration = Duration::from_secs(60);
/// So long without a further session, and it counts as all that comes.
const STILL: Duration = Duration::from_secs(8);

/// A pair that is up; everything goes with this value.
#[derive(Debug)]
pub struct Rival {
    nodes: Vec<RivalNode>,
    options: RivalOptions,
    _lab: Lab,
}

/// Files that running programs keep.
const LEFT_BEHIND: [&str; 5] =
    ["conntrackd.lock", "conntrackd.ctl", "keepalived.pid", "vrrp.pid", "checkers.pid"];

#[derive(Debug)]
struct RivalNode {
    host: Host,
    dir: PathBuf,
    programs: Vec<Running>,
}

impl Rival {
    /// Puts the pair up and waits until node a is the active one.
    pub fn up(options: RivalOptions, patience: Duration) -> Result<Self> {
        for program in ["nft", "conntrack", "conntrackd", "keepalived"] {
            let found = exec::run(Command::new("which").arg(program), SHORT)?.ok();
            if !found {
                let hint = "apt-get install nftables conntrack conntrackd keepalived".into();
                return Err(LabError::MissingProgram { program: program.into(), hint });
            }
        }
        let lab = Lab::up(&LabOptions { nodes: 2, patience, ..LabOptions::default() }.without_daemon())?;
        let mut rival = Self { nodes: Vec::new(), options, _lab: lab };
        for host in Host::NODES {
            let dir = Path::new(crate::state::RUN_DIR).join(format!("rival-{}", host.name()));
            fs::create_dir_all(&dir).map_err(LabError::io(format!("create {}", dir.display())))?;
            let mut node = RivalNode { host, dir, programs: Vec::new() };
            node.prepare(options)?;
            rival.nodes.push(node);
        }
        // Only now is the module there for certain.
        limits::raise()?;
        for node in &mut rival.nodes {
            node.start()?;
            if node.host == Host::A {
                wait_for_role(node.host)?;
            }
        }
        thread::sleep(Duration::from_secs(1));
        Ok(rival)
    }

    /// Sessions that the node's kernel has.
    pub fn sessions(&self, host: Host) -> Result<u64> {
        let path = "/proc/sys/net/netfilter/nf_conntrack_count";
        let text =
            netns::within(host, || fs::read_to_string(path))?.map_err(LabError::io(path.to_owned()))?;
        text.trim().parse().map_err(|_| LabError::output("the number of sessions", &text))
    }

    /// Sessions that a standby holds for the other node.
    pub fn mirrored(&self, host: Host) -> Result<u64> {
        match self.options.cache {
            Cache::None => self.sessions(host),
            Cache::External => self.cached(host, "external"),
        }
    }

    /// Sessions that an active node has to tell: its kernel's, and what its daemon made of them.
    pub fn to_tell(&self, host: Host) -> Result<u64> {
        let own = self.sessions(host)?;
        match self.options.cache {
            Cache::None => Ok(own),
            Cache::External => Ok(own.max(self.cached(host, "internal")?)),
        }
    }

    fn cached(&self, host: Host, cache: &str) -> Result<u64> {
        let said = self.ask(host, &["-s"])?;
        let part = said.split(&format!("cache {cache}")).nth(1).unwrap_or_default();
        let count = part.lines().find_map(|line| line.trim().strip_prefix("current active connections:"));
        count
            .and_then(|count| count.trim().parse().ok())
            .ok_or_else(|| LabError::output(format!("the {cache} cache's size"), &said))
    }

    /// Waits until a standby has been told of so many sessions, or nothing more comes; how many it has.
    pub fn wait_mirrored(&self, host: Host, wanted: u64, limit: Duration) -> Result<Growth> {
        let deadline = Instant::now() + limit;
        let mut have = Growth::new(Instant::now());
        let mut pauses = exec::Pauses::up_to(Duration::from_millis(20));
        loop {
            let mirrored = self.mirrored(host)?;
            let now = Instant::now();
            have.see(mirrored, now);
            if mirrored >= wanted || have.still(now) > STILL || now > deadline {
                return Ok(have);
            }
            pauses.pause();
        }
    }

    /// Has the kernel forward frames that come in on a node's data ports on one processor, or on the one
    /// where they came in.
    pub fn steer(&self, host: Host, processor: Option<usize>) -> Result<()> {
        let mask = processor.map_or(0, |processor| 1_u64 << processor);
        for network in Network::BOTH {
            let path = format!("/sys/class/net/{}/queues/rx-0/rps_cpus", network.link().node_interface);
            exec::check(exec::on(host, "sh").args(["-c", &format!("echo {mask:x} > {path}")]), SHORT)?;
        }
        Ok(())
    }

    /// What the node's programs have written so far, each file by itself.
    pub fn logs(&self, host: Host) -> Result<Vec<String>> {
        let dir = &self.find(host)?.dir;
        let read = |name: &str| fs::read_to_string(dir.join(name)).unwrap_or_default();
        Ok(["conntrackd.log", "conntrackd.out", "keepalived.out"].map(read).into())
    }

    /// The node's machine dies now.
    pub fn kill(&mut self, host: Host) -> Result<Instant> {
        let node = self.node(host)?;
        let all = netns::processes(host);
        // Programs first: one that saw its links go down would say so with its last words.
        let at = Instant::now();
        all.iter().for_each(|process| {
            process.signal(Signal::KILL);
        });
        netns::plug(host, false)?;
        node.programs.clear();
        if all.iter().all(|process| process.gone_within(READY)) {
            return Ok(at);
        }
        Err(LabError::Timeout { what: format!("death of node {}", host.name()), after: READY })
    }

    /// The node's machine comes back and has forgotten everything; when its programs were started.
    pub fn revive(&mut self, host: Host) -> Result<Instant> {
        let options = self.options;
        let node = self.node(host)?;
        node.prepare(options)?;
        netns::plug(host, true)?;
        let started = Instant::now();
        node.start()?;
        Ok(started)
    }

    /// Calls conntrackd's command line on a node and waits for its end; how long it took.
    pub fn command(&self, host: Host, option: &str) -> Result<Duration> {
        let started = Instant::now();
        self.ask(host, &[option])?;
        Ok(started.elapsed())
    }

    /// Processor time of the nodes' conntrackd so far.
    pub fn cpu(&self) -> Result<Duration> {
        let daemons = self.nodes.iter().map(|node| {
            let time = node.programs.first().and_then(Running::identity).and_then(ProcessRef::cpu_time);
            time.ok_or_else(|| LabError::Config(format!("no conntrackd on node {}", node.host.name())))
        });
        daemons.sum()
    }

    fn ask(&self, host: Host, options: &[&str]) -> Result<String> {
        let mut command = exec::on(host, "conntrackd");
        command.arg("-C").arg(self.find(host)?.dir.join("conntrackd.conf")).args(options);
        Ok(exec::check(&mut command, Duration::from_secs(60))?.stdout)
    }

    fn find(&self, host: Host) -> Result<&RivalNode> {
        let found = self.nodes.iter().find(|node| node.host == host);
        found.ok_or_else(|| LabError::Config(format!("no node {}", host.name())))
    }

    fn node(&mut self, host: Host) -> Result<&mut RivalNode> {
        let found = self.nodes.iter_mut().find(|node| node.host == host);
        found.ok_or_else(|| LabError::Config(format!("no node {}", host.name())))
    }
}

impl RivalNode {
    /// Addresses, rules and files of a machine that has just started.
    fn prepare(&mut self, options: RivalOptions) -> Result<()> {
        let host = self.host;
        // Only the shared ones: each address that goes may have the kernel look through all sessions.
        let flush: String = Network::BOTH.map(texts::forget_shared).concat();
        netns::batch(host, &flush)?;
        // In one step: without any rule in between the kernel would leave off tracking, and begin again.
        let rules = format!("flush ruleset\n{}", texts::RULES);
        exec::check_with_input(exec::on(host, "nft").args(["-f", "-"]), &rules, READY)?;
        exec::check(exec::on(host, "conntrack").arg("-F"), READY)?;
        netns::within(host, || {
            texts::SYSCTLS.iter().try_for_each(|(key, value)| {
                let path = format!("/proc/sys/{key}");
                fs::write(&path, value).map_err(LabError::io(format!("write {path}")))
            })
        })??;
        netns::batch(host, &texts::addresses(host))?;
        let script = self.write("role.sh", &texts::role_script(&self.dir, options))?;
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755))
            .map_err(LabError::io(format!("make {} a program", script.display())))?;
        self.write("conntrackd.conf", &texts::conntrackd(host, &self.dir, options))?;
        self.write("keepalived.conf", &texts::keepalived(host, &self.dir, options))?;
        // What a machine's death leaves behind is not there after its next start.
        for name in LEFT_BEHIND {
            let _ = fs::remove_file(self.dir.join(name));
        }
        Ok(())
    }

    fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.dir.join(name);
        fs::write(&path, text).map_err(LabError::io(format!("write {}", path.display())))?;
        Ok(path)
    }

    /// conntrackd first: keepalived's script talks to it.
    fn start(&mut self) -> Result<()> {
        let mut daemon = exec::on(self.host, "conntrackd");
        daemon.arg("-C").arg(self.dir.join("conntrackd.conf"));
        self.programs = vec![self.spawn(&mut daemon, "conntrackd.out")?];
        let control = self.dir.join("conntrackd.ctl");
        exec::wait_for("conntrackd's socket", READY, || control.exists().then_some(()))?;
        let mut vrrp = exec::on(self.host, "keepalived");
        vrrp.args(["-n", "-l", "-f"]).arg(self.dir.join("keepalived.conf"));
        for (option, file) in [("-p", "keepalived.pid"), ("-r", "vrrp.pid"), ("-c", "checkers.pid")] {
            vrrp.arg(option).arg(self.dir.join(file));
        }
        let running = self.spawn(&mut vrrp, "keepalived.out")?;
        self.programs.push(running);
        Ok(())
    }

    fn spawn(&self, command: &mut Command, log: &str) -> Result<Running> {
        let path = self.dir.join(log);
        let file = fs::File::create(&path).map_err(LabError::io(format!("create {}", path.display())))?;
        let errors = file.try_clone().map_err(LabError::io("share a log"))?;
        Running::start(command.stdin(Stdio::null()).stdout(file).stderr(errors))
    }
}

/// Waits until a node has the shared addresses.
pub fn wait_for_role(host: Host) -> Result<()> {
    exec::wait_for("keepalived to take the shared address", READY, || {
        let mut command = Command::new("ip");
        command.args(["-n", host.namespace(), "-4", "-o", "addr", "show", "dev", "lan0"]);
        let said = exec::run(&mut command, SHORT).ok()?.stdout;
        said.contains(" 10.1.0.1/").then_some(())
    })
}
