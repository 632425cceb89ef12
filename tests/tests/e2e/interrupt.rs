//! Does an interrupted lab leave nothing, also of programs that it was just about to start?
//!
//! Programs in the place of the real ones write down who they are, and one in the place of `ip` is slow at
//! the moments that matter.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use lab::{
    Host,
    exec::{self, Running},
    netns,
    node::find_program,
    process::ProcessRef,
};
use rustix::process::Signal;

/// A folder with programs that stand in the place of real ones, and what has run; gone with this value.
struct Stubs {
    dir: PathBuf,
}

impl Stubs {
    /// `slow` is what `ip` does before its work, as branches of a shell's `case` over its arguments.
    fn new(name: &str, slow: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("lab-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let ip = exec::check(Command::new("which").arg("ip"), exec::SHORT).unwrap().stdout;
        let stubs = Self { dir };
        stubs.program("ip", &format!("case \"$*\" in\n{slow}\nesac\nexec {} \"$@\"\n", ip.trim()));
        stubs
    }

    fn program(&self, name: &str, text: &str) {
        let path = self.dir.join(name);
        fs::write(&path, format!("#!/bin/sh\ncd {}\n{text}", self.dir.display())).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Has nothing but itself in this program's place.
    fn sleeper(&self, name: &str) {
        self.program(name, "echo $$ >>started\nexec sleep 60\n");
    }

    /// Whatever ran in a program's place and still does.
    fn living(&self) -> Vec<ProcessRef> {
        let started = fs::read_to_string(self.dir.join("started")).unwrap_or_default();
        let pids = started.lines().filter_map(|line| line.parse().ok());
        pids.filter_map(ProcessRef::of).filter(|process| process.alive()).collect()
    }

    /// Starts the lab, which finds these programs first.
    fn lab(&self, arguments: &[&str]) -> Running {
        let path = std::env::var("PATH").unwrap();
        let mut command = Command::new(find_program("lab", "LAB").unwrap());
        command.args(arguments).env("PATH", format!("{}:{path}", self.dir.display()));
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let daemon = self.dir.join("understudyd");
        if daemon.exists() {
            command.env("UNDERSTUDYD", daemon);
        }
        Running::start(&mut command).unwrap()
    }

    /// Waits for a file that one of the programs makes, interrupts the lab, and looks at what is left of it.
    fn interrupt(&self, lab: &mut Running, file: &str) {
        let file = self.dir.join(file);
        exec::wait_for("the moment", Duration::from_secs(60), || file.exists().then_some(())).unwrap();
        assert!(lab.identity().unwrap().signal(Signal::INT));
        let code = lab.wait(Duration::from_secs(30)).unwrap();
        // So long that whoever was slow is where it wanted to be.
        thread::sleep(Duration::from_secs(2));
        assert_eq!(self.living(), [], "programs that outlive the lab");
        assert_eq!(Host::ALL.into_iter().filter(|host| netns::exists(*host)).count(), 0);
        assert_eq!(code, 130);
    }
}

impl Drop for Stubs {
    fn drop(&mut self) {
        for process in self.living() {
            process.signal(Signal::KILL);
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

#[test]
fn a_program_on_its_way_into_its_namespace_ends_too() {
    let late = "\"netns exec us-server iperf3\"*) touch on-its-way; sleep 1;;";
    let stubs = Stubs::new("on-its-way", &format!("{late}\n\"netns delete \"*) sleep 1;;"));
    stubs.sleeper("iperf3");
    let mut lab = stubs.lab(&["baseline", "--rounds", "1", "--seconds", "1"]);
    stubs.interrupt(&mut lab, "on-its-way");
}

#[test]
fn no_further_lab_comes_up_while_one_is_swept() {
    // The first one to remove a namespace is slow; another thread would be past it, and at the next lab.
    let stubs = Stubs::new("no-further", "\"netns delete us-client\") mkdir once && sleep 3;;");
    stubs.sleeper("understudyd");
    let mut arguments = vec!["compare", "--courses-only", "--sessions", "1000,1000,1000", "--runs", "1"];
    arguments.extend(["--systems", "understudy"]);
    let mut lab = stubs.lab(&arguments);
    stubs.interrupt(&mut lab, "started");
    let started = fs::read_to_string(stubs.dir.join("started")).unwrap().lines().count();
    assert!(started <= 2, "{started} programs were started for one pair");
}
