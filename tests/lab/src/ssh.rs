//! A real ssh session through the firewall: Debian's sshd on the server, ssh on the client, and somebody who
//! types and reads each character back.
//!
//! Keys are made for the occasion, nothing of the system's configuration is read, no service is started.

use std::{
    fs,
    io::{Read, Write},
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::{
    error::{LabError, Result},
    exec::{self, Running, SHORT},
    servers::wait_listening,
    state::RUN_DIR,
    topology::{Family, Host},
};

/// sshd on a host, for one key only.
#[derive(Debug)]
pub struct SshServer {
    _running: Running,
    dir: PathBuf,
    port: u16,
}

impl SshServer {
    /// Starts it and waits until it listens.
    pub fn start(host: Host, port: u16) -> Result<Self> {
        let dir = Path::new(RUN_DIR).join(format!("ssh-{}-{port}", host.name()));
        let _ = fs::remove_dir_all(&dir);
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir);
        made.map_err(LabError::io(format!("create {}", dir.display())))?;
        // sshd's chroot before authentication; Debian's service would make it.
        let made = fs::DirBuilder::new().recursive(true).mode(0o755).create("/run/sshd");
        made.map_err(LabError::io("create /run/sshd"))?;
        for name in ["host-key", "user-key"] {
            let mut command = Command::new("ssh-keygen");
            exec::check(command.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(dir.join(name)), SHORT)?;
        }
        let authorized = dir.join("authorized-keys");
        fs::copy(dir.join("user-key.pub"), &authorized).map_err(LabError::io("authorise the key"))?;
        fs::set_permissions(&authorized, fs::Permissions::from_mode(0o600))
            .map_err(LabError::io("authorise the key"))?;
        let config = dir.join("sshd_config");
        fs::write(&config, sshd_config(&dir, host, port)).map_err(LabError::io("write sshd_config"))?;
        let output = dir.join("output");
        let log = fs::File::create(&output).map_err(LabError::io("create sshd's log"))?;
        let mut command = exec::on(host, "/usr/sbin/sshd");
        command.args(["-D", "-e", "-f"]).arg(&config);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let mut running = Running::start(&mut command)?;
        wait_listening(&mut running, host, port, &output)?;
        Ok(Self { _running: running, dir, port })
    }

    /// What sshd has said.
    pub fn log(&self) -> String {
        crate::node::log_tail(&self.dir.join("output"), 20)
    }
}

fn sshd_config(dir: &Path, host: Host, port: u16) -> String {
    let listens: String = Family::BOTH
        .into_iter()
        .filter_map(|family| host.address(family))
        .map(|address| format!("ListenAddress {}\n", SocketAddr::new(address, port)))
        .collect();
    let dir = dir.display();
    // Only the programs take part in keeping the connection: no keepalives that would hide a dead path.
    format!(
        "{listens}HostKey {dir}/host-key\nAuthorizedKeysFile {dir}/authorized-keys\nPidFile none\nStrictModes no\n\
         UsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\n\
         UseDNS no\nPrintMotd no\nPrintLastLog no\nTCPKeepAlive no\nClientAliveInterval 0\n"
    )
}

/// Somebody who types, a character at a time, and reads each back.
#[derive(Debug)]
pub struct Typist {
    child: Child,
    shared: Arc<Shared>,
    threads: Vec<thread::JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    state: Mutex<Typed>,
}

/// How far the typing got.
#[derive(Clone, Debug, Default)]
pub struct Typed {
    /// Characters typed.
    pub typed: u64,
    /// Characters that came back as they were typed.
    pub read_back: u64,
    /// When the last one came.
    pub last: Option<Instant>,
    /// Why it ended, if it did.
    pub ended: Option<String>,
}

/// The far end: a terminal in raw mode whose characters `cat` sends back, so that each comes exactly once.
const FAR_END: &str = "stty raw -echo; printf READY; exec cat";

impl Typist {
    /// Logs in and begins to type, a character per interval.
    pub fn start(server: &SshServer, family: Family, interval: Duration) -> Result<Self> {
        let mut command = exec::on(Host::Client, "ssh");
        command.args([
            "-tt",
            "-F",
            "none",
            "-o",
            "StrictHostKeyChecking=no",
            "-o",
            "UserKnownHostsFile=/dev/null",
        ]);
        command.args(["-o", "BatchMode=yes", "-o", "TCPKeepAlive=no", "-o", "ServerAliveInterval=0"]);
        command
            .args(["-o", "EscapeChar=none", "-o", "LogLevel=ERROR", "-i"])
            .arg(server.dir.join("user-key"));
        command.args(["-p", &server.port.to_string(), &format!("root@{}", family.server()), FAR_END]);
        let output =
            fs::File::create(server.dir.join("client-output")).map_err(LabError::io("create ssh's log"))?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(output);
        let (mut child, _) = exec::spawn(&mut command)?;
        let (Some(keys), Some(mut screen)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(LabError::Config("ssh has no pipes".into()));
        };
        let shared = Arc::new(Shared::default());
        let (ready, is_ready) = std::sync::mpsc::channel();
        let reader = shared.clone();
        let read = thread::spawn(move || {
            let mut greeting = Vec::new();
            let mut buffer = [0; 256];
            while !greeting.ends_with(b"READY") {
                match screen.read(&mut buffer[..1]) {
                    Ok(1) => greeting.push(buffer[0]),
                    _ => return reader.end("ssh ended before it was ready"),
                }
            }
            let _ = ready.send(());
            loop {
                match screen.read(&mut buffer) {
                    Ok(0) | Err(_) => return reader.end("ssh ended"),
                    Ok(length) => reader.came_back(&buffer[..length]),
                }
            }
        });
        let typist = Self { child, shared: shared.clone(), threads: vec![read] };
        if is_ready.recv_timeout(Duration::from_secs(20)).is_err() {
            let said = fs::read_to_string(server.dir.join("client-output")).unwrap_or_default();
            return Err(LabError::output("ssh", &format!("{said}\nsshd: {}", server.log())));
        }
        let mut typist = typist;
        typist.threads.push(thread::spawn(move || shared.type_on(keys, interval)));
        Ok(typist)
    }

    /// How far it got.
    pub fn state(&self) -> Typed {
        self.shared.state.lock().map(|state| state.clone()).unwrap_or_default()
    }

    /// Waits until a character typed after a moment came back, or time is up.
    pub fn wait_alive_since(&self, moment: Instant, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        loop {
            let state = self.state();
            if state.ended.is_none() && state.last.is_some_and(|last| last > moment) {
                return true;
            }
            if state.ended.is_some() || Instant::now() >= deadline {
                return false;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// The character with a number: printable, and not repeating in a pattern that a lost one would fit.
fn character(number: u64) -> u8 {
    let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    b'!' + (mixed % 94) as u8
}

impl Shared {
    fn end(&self, why: &str) {
        if let Ok(mut state) = self.state.lock() {
            state.ended.get_or_insert_with(|| why.to_owned());
        }
    }

    fn came_back(&self, bytes: &[u8]) {
        let Ok(mut state) = self.state.lock() else { return };
        for byte in bytes {
            let expected = character(state.read_back);
            if *byte != expected {
                let place = state.read_back;
                let got = char::from(*byte);
                state.ended.get_or_insert_with(|| {
                    format!("character {place} came back as {got:?}, not {:?}", char::from(expected))
                });
                return;
            }
            state.read_back += 1;
            state.last = Some(Instant::now());
        }
    }

    fn type_on(&self, mut keys: ChildStdin, interval: Duration) {
        while !self.stop.load(Ordering::Relaxed) {
            let Ok(mut state) = self.state.lock() else { return };
            if state.ended.is_some() {
                return;
            }
            let byte = character(state.typed);
            state.typed += 1;
            drop(state);
            if keys.write_all(&[byte]).and_then(|()| keys.flush()).is_err() {
                return self.end("ssh takes no more characters");
            }
            thread::sleep(interval);
        }
    }
}

impl Drop for Typist {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        let _ = self.child.kill();
        let _ = self.child.wait();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_are_printable_and_a_wrong_one_is_named() {
        assert!((0..1000).all(|number| character(number).is_ascii_graphic()));
        let shared = Shared::default();
        shared.came_back(&[character(0), character(1)]);
        shared.came_back(&[character(3)]);
        let state = shared.state.lock().unwrap().clone();
        assert_eq!(state.read_back, 2);
        assert!(state.ended.is_some_and(|why| why.starts_with("character 2 came back as")));
    }

    #[test]
    fn sshd_listens_in_both_families_and_takes_only_the_key() {
        let text = sshd_config(Path::new("/run/x"), Host::Server, 2222);
        for line in
            ["ListenAddress 10.2.0.10:2222", "ListenAddress [fd00:2::10]:2222", "PasswordAuthentication no"]
        {
            assert!(text.contains(line), "{text}");
        }
    }
}
