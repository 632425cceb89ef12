//! One firewall node: its daemon inside its namespace, from start to end.

use std::{
    fs,
    fs::{File, OpenOptions},
    io::{Read, Seek, SeekFrom},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::Signal;
use serde_json::Value;

use crate::{
    config::NodeConfig,
    control::Control,
    error::{LabError, Result},
    events::{LoggedEvent, events_of},
    exec::{self, Running},
    process::{ProcessRef, Stopped},
    state::{NodeState, RUN_DIR},
    topology::Host,
};

/// How long a daemon may take from its start to its first answer.
pub const READY_LIMIT: Duration = Duration::from_secs(30);
/// How long it may take from SIGTERM to its end.
pub const STOP_LIMIT: Duration = Duration::from_secs(10);

/// A node of the lab.
#[derive(Debug)]
pub struct Node {
    host: Host,
    dir: PathBuf,
    log: Option<PathBuf>,
    daemon: Option<Running>,
}

impl Node {
    /// A node that does not run yet, with its configuration on disk.
    pub fn prepare(host: Host, mut config: NodeConfig) -> Result<Self> {
        let dir = Path::new(RUN_DIR).join(host.name());
        fs::create_dir_all(&dir).map_err(LabError::io(format!("create {}", dir.display())))?;
        let node = Self { host, dir, log: None, daemon: None };
        config.set_control_socket(&node.socket_path())?;
        node.write_config(&config.to_text()?)?;
        Ok(node)
    }

    /// A node that an earlier program has put up.
    pub fn attach(host: Host) -> Self {
        Self { host, dir: Path::new(RUN_DIR).join(host.name()), log: None, daemon: None }
    }

    /// Its folder.
    pub fn dir_of(host: Host) -> PathBuf {
        Path::new(RUN_DIR).join(host.name())
    }

    /// Where it runs.
    pub fn host(&self) -> Host {
        self.host
    }

    /// A client of its control socket.
    pub fn control(&self) -> Control {
        Control::new(self.socket_path())
    }

    /// Its control socket's path.
    pub fn socket_path(&self) -> PathBuf {
        self.dir.join("control.sock")
    }

    /// Its configuration's path.
    pub fn config_path(&self) -> PathBuf {
        self.dir.join("understudyd.toml")
    }

    /// Its log's path.
    pub fn log_path(&self) -> PathBuf {
        self.log.clone().unwrap_or_else(|| self.dir.join("log"))
    }

    /// Has the daemon log somewhere else from its next start on: to a full disk, for example.
    pub fn log_to(&mut self, path: impl Into<PathBuf>) {
        self.log = Some(path.into());
    }

    /// All that it has logged.
    pub fn log(&self) -> String {
        // A device, as in tests of a full disk, has no end.
        if !self.log_path().is_file() {
            return String::new();
        }
        fs::read(self.log_path())
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// The events that it has logged, oldest first, earlier starts included.
    pub fn events(&self) -> Vec<LoggedEvent> {
        events_of(&self.log())
    }

    /// Puts another text where the daemon reads its configuration; SIGHUP makes it look.
    pub fn write_config(&self, text: &str) -> Result<()> {
        fs::write(self.config_path(), text)
            .map_err(LabError::io(format!("write {}", self.config_path().display())))
    }

    /// The configuration as it lies on disk.
    pub fn read_config(&self) -> Result<NodeConfig> {
        let text =
            fs::read_to_string(self.config_path()).map_err(LabError::io("read the node's configuration"))?;
        NodeConfig::from_text(&text)
    }

    /// Starts the daemon and waits until it answers.
    pub fn start(&mut self) -> Result<()> {
        self.spawn()?;
        self.ready()
    }

    /// Starts the daemon.
    pub fn spawn(&mut self) -> Result<()> {
        let program = find_program("understudyd", "UNDERSTUDYD")?;
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log_path())
            .map_err(LabError::io("open the node's log"))?;
        let errors = log.try_clone().map_err(LabError::io("open the node's log"))?;
        let mut command = exec::on(self.host, program);
        command.arg("--config").arg(self.config_path());
        command.stdin(Stdio::null()).stdout(log).stderr(errors);
        // Not in our process group: an interrupt at the terminal is for the lab, which then ends the daemon.
        command.process_group(0);
        self.daemon = Some(Running::start(&mut command)?);
        Ok(())
    }

    /// Waits until the daemon answers.
    pub fn ready(&mut self) -> Result<()> {
        self.wait_ready(READY_LIMIT)
    }

    /// Waits for the first answer of the control socket.
    fn wait_ready(&mut self, limit: Duration) -> Result<()> {
        let control = self.control();
        let deadline = Instant::now() + limit;
        loop {
            if let Some(code) = self.daemon.as_mut().and_then(Running::ended) {
                return Err(self.fault(format!("ended during its start with exit code {code}")));
            }
            match control.ask("status") {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() >= deadline => {
                    return Err(self.fault(format!("not ready within {} s: {error}", limit.as_secs())));
                }
                Err(_) => std::thread::sleep(Duration::from_millis(10)),
            }
        }
    }

    /// The daemon as a process, while there is one.
    pub fn process(&self) -> Option<ProcessRef> {
        self.daemon.as_ref().and_then(Running::identity).filter(|process| process.alive())
    }

    /// Sends the daemon a signal.
    pub fn signal(&self, signal: Signal) -> bool {
        self.process().is_some_and(|process| process.signal(signal))
    }

    /// SIGHUP, and waits until `status` shows a reload later than the last one.
    pub fn reload(&self) -> Result<Value> {
        let control = self.control();
        let before = control.ask("status")?["policy"]["last_reload"]["at_ms"].clone();
        if !self.signal(Signal::HUP) {
            return Err(self.fault("not running".into()));
        }
        exec::wait_for("reload after SIGHUP", Duration::from_secs(10), || {
            let status = control.ask("status").ok()?;
            let reload = &status["policy"]["last_reload"];
            (!reload["at_ms"].is_null() && reload["at_ms"] != before).then(|| status["policy"].clone())
        })
    }

    /// Ends the daemon, politely first.
    pub fn stop(&mut self) -> Stopped {
        match self.daemon.take() {
            Some(mut daemon) => daemon.stop(STOP_LIMIT),
            None => Stopped::Before(0),
        }
    }

    /// Lets the daemon run on when this value is gone.
    pub fn leave_running(mut self) -> NodeState {
        let state = self.state();
        if let Some(daemon) = self.daemon.take() {
            daemon.leave_running();
        }
        state
    }

    /// For the state file.
    pub fn state(&self) -> NodeState {
        NodeState {
            name: self.host.name().into(),
            namespace: self.host.namespace().into(),
            process: self.process(),
            control_socket: self.socket_path(),
            config: self.config_path(),
            log: self.log_path(),
        }
    }

    fn fault(&self, what: String) -> LabError {
        LabError::Daemon {
            node: self.host.name().into(),
            what,
            log: self.log_path(),
            log_tail: log_tail(&self.log_path(), 30),
        }
    }
}

/// The last lines of a log, without reading all of a long one.
pub fn log_tail(path: &Path, lines: usize) -> String {
    if path.exists() && !path.is_file() {
        return format!("({} keeps nothing)", path.display());
    }
    let read = || -> std::io::Result<String> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(16 << 10)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    match read() {
        Ok(text) => exec::tail(&text, lines),
        Err(error) => format!("({}: {error})", path.display()),
    }
}

/// Finds one of our programs: by its environment variable, beside the running program (also from inside
/// `deps/`, where test programs live), or in the target folder below the current one.
pub fn find_program(name: &str, variable: &str) -> Result<PathBuf> {
    if let Some(path) = std::env::var_os(variable).map(PathBuf::from) {
        if path.is_file() {
            return Ok(path);
        }
        return Err(LabError::MissingProgram {
            program: path.display().to_string(),
            hint: format!("{variable} names it, but there is no such file"),
        });
    }
    let own = std::env::current_exe().ok();
    let beside = own.iter().flat_map(|path| path.ancestors().skip(1).take(2)).map(|dir| dir.join(name));
    let below = ["release", "debug"].map(|profile| Path::new("target").join(profile).join(name));
    beside
        .chain(below)
        .find(|path| path.is_file())
        .map(|path| path.canonicalize().unwrap_or(path))
        .ok_or_else(|| LabError::MissingProgram {
            program: name.into(),
            hint: format!("build it (cargo build --workspace --bins), or set {variable} to its path"),
        })
}

/// A call of the operator's tool at a node.
pub fn ha_ctl(socket: &Path) -> Result<Command> {
    let mut command = Command::new(find_program("ha-ctl", "HA_CTL")?);
    command.arg("--socket").arg(socket);
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_log_is_shown_and_a_missing_one_named() {
        let path = std::env::temp_dir().join(format!("lab-log-{}", std::process::id()));
        let text: String = (0..10_000).map(|line| format!("line {line}\n")).collect();
        fs::write(&path, text).unwrap();
        assert_eq!(log_tail(&path, 2), "line 9998\nline 9999");
        fs::remove_file(&path).unwrap();
        assert!(log_tail(&path, 2).contains("No such file"));
    }

    #[test]
    fn a_program_beside_a_test_program_is_found() {
        let own = std::env::current_exe().unwrap();
        let name = own.file_name().unwrap().to_str().unwrap().to_owned();
        assert_eq!(find_program(&name, "NO_SUCH_VARIABLE").unwrap(), own.canonicalize().unwrap());
        let error = find_program("no-such-program", "NO_SUCH_VARIABLE").unwrap_err().to_string();
        assert!(error.contains("NO_SUCH_VARIABLE"), "{error}");
    }
}
