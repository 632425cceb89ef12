//! Real servers in the lab: nginx and iperf3 as Debian ships them, with configurations of our own. Nothing
//! of the system's services is used or touched.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use crate::{
    error::{LabError, Result},
    exec::{self, Running},
    netns,
    state::RUN_DIR,
    topology::{Family, Host},
};

const START_LIMIT: Duration = Duration::from_secs(10);

/// nginx on a host, on one port in both families.
#[derive(Debug)]
pub struct HttpServer {
    running: Running,
    root: PathBuf,
    port: u16,
}

impl HttpServer {
    /// Starts it and waits until it listens.
    pub fn start(host: Host, port: u16) -> Result<Self> {
        let dir = Path::new(RUN_DIR).join(format!("http-{}-{port}", host.name()));
        let root = dir.join("www");
        fs::create_dir_all(&root).map_err(LabError::io(format!("create {}", root.display())))?;
        let config = dir.join("nginx.conf");
        fs::write(&config, nginx_config(&dir, host, port)).map_err(LabError::io("write nginx.conf"))?;
        let log = fs::File::create(dir.join("output")).map_err(LabError::io("create nginx's log"))?;
        let mut command = exec::on(host, "nginx");
        command.arg("-p").arg(&dir).arg("-c").arg(&config).arg("-e").arg(dir.join("error.log"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let running = Running::start(&mut command)?;
        let mut server = Self { running, root, port };
        wait_listening(&mut server.running, host, port, &dir.join("output"))?;
        Ok(server)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Puts a file of random bytes where it serves from; the same seed gives the same file.
    pub fn publish_random(&self, name: &str, bytes: u64, seed: u64) -> Result<PathBuf> {
        let path = self.root.join(name);
        let write = || -> std::io::Result<()> {
            let mut file = std::io::BufWriter::with_capacity(1 << 20, fs::File::create(&path)?);
            let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
            let mut left = bytes;
            while left > 0 {
                // xorshift64*: no pattern that a compressor, or a bug that repeats a buffer, could hide in.
                state ^= state >> 12;
                state ^= state << 25;
                state ^= state >> 27;
                let word = state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes();
                let take = left.min(8);
                file.write_all(&word[..usize::try_from(take).unwrap_or(8)])?;
                left -= take;
            }
            file.flush()
        };
        write().map_err(LabError::io(format!("write {}", path.display())))?;
        Ok(path)
    }

    /// URL of a published file.
    pub fn url(&self, family: Family, name: &str) -> String {
        format!("http://{}:{}/{name}", family.url_host(), self.port)
    }
}

fn nginx_config(dir: &Path, host: Host, port: u16) -> String {
    let listens: String = Family::BOTH
        .into_iter()
        .filter_map(|family| host.address(family))
        .map(|address| format!("    listen {};\n", std::net::SocketAddr::new(address, port)))
        .collect();
    let dir = dir.display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("  {kind}_temp_path {dir}/tmp-{kind};\n"))
        .concat();
    format!(
        "daemon off;\nuser root;\nworker_processes 1;\npid {dir}/nginx.pid;\nevents {{ worker_connections 2048; }}\n\
         http {{\n  access_log off;\n  sendfile on;\n{temporary}  server {{\n{listens}    root {dir}/www;\n  }}\n}}\n"
    )
}

/// iperf3 in server mode.
#[derive(Debug)]
pub struct IperfServer {
    _running: Running,
    port: u16,
}

impl IperfServer {
    /// Starts it and waits until it listens.
    pub fn start(host: Host, port: u16) -> Result<Self> {
        let output = Path::new(RUN_DIR).join(format!("iperf3-{}-{port}.log", host.name()));
        let log = fs::File::create(&output).map_err(LabError::io("create iperf3's log"))?;
        let errors = log.try_clone().map_err(LabError::io("create iperf3's log"))?;
        let mut command = exec::on(host, "iperf3");
        command.args(["-s", "-p", &port.to_string()]);
        command.stdin(Stdio::null()).stdout(log).stderr(errors);
        let mut running = Running::start(&mut command)?;
        wait_listening(&mut running, host, port, &output)?;
        Ok(Self { _running: running, port })
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

/// Waits until somebody listens on a TCP port, without connecting: a probe would be a session of its own.
pub(crate) fn wait_listening(running: &mut Running, host: Host, port: u16, log: &Path) -> Result<()> {
    let name = format!("server on port {port}");
    let mut ended = None;
    let listening = exec::wait_for(&name, START_LIMIT, || {
        ended = running.ended();
        (ended.is_some() || listens(host, port)).then_some(())
    });
    match ended {
        Some(code) => Err(LabError::Command {
            line: name,
            status: format!("exit code {code}"),
            stderr: crate::node::log_tail(log, 10),
        }),
        None => listening,
    }
}

/// Whether a TCP port is listened on in a host's namespace, in either family.
pub fn listens(host: Host, port: u16) -> bool {
    let tables = netns::within(host, || {
        ["tcp", "tcp6"]
            .map(|name| fs::read_to_string(format!("/proc/thread-self/net/{name}")).unwrap_or_default())
    });
    tables.is_ok_and(|tables| tables.iter().any(|table| table_listens(table, port)))
}

fn table_listens(table: &str, port: u16) -> bool {
    const LISTEN: &str = "0A";
    table.lines().skip(1).any(|line| {
        let mut fields = line.split_ascii_whitespace();
        let local_port = fields.nth(1).and_then(|local| local.rsplit_once(':')).map(|(_, port)| port);
        local_port.and_then(|hex| u16::from_str_radix(hex, 16).ok()) == Some(port)
            && fields.nth(1) == Some(LISTEN)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listening_is_told_from_connected() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue\n   0: 0A00020A:1F90 00000000:0000 0A 00000000:00000000 00:0\n   1: 0A00020A:1F91 0A00010A:C350 01 00000000:00000000 00:0\n";
        assert!(table_listens(table, 8080));
        assert!(!table_listens(table, 8081));
        assert!(!table_listens(table, 80));
    }

    #[test]
    fn nginx_listens_in_both_families() {
        let text = nginx_config(Path::new("/run/x"), Host::Server, 8080);
        assert!(text.contains("listen 10.2.0.10:8080;"), "{text}");
        assert!(text.contains("listen [fd00:2::10]:8080;"), "{text}");
    }
}
