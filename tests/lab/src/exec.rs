//! Runs programs, in a namespace or not, always with a time limit: a lab that hangs tells nothing.

use std::{
    ffi::OsStr,
    io::{Read, Write},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::{
    error::{LabError, Result},
    interrupt,
    process::{ProcessRef, Stopped},
    topology::Host,
};

/// How long a short administrative command may take.
pub const SHORT: Duration = Duration::from_secs(20);

/// What a finished program left.
#[derive(Clone, Debug)]
pub struct Output {
    /// Exit code; 128 + signal when a signal ended it, as a shell has it.
    pub code: i32,
    /// Standard output, invalid UTF-8 replaced.
    pub stdout: String,
    /// Standard error, invalid UTF-8 replaced.
    pub stderr: String,
    /// Wall time from start to end.
    pub took: Duration,
}

impl Output {
    /// Whether the program reported success.
    pub fn ok(&self) -> bool {
        self.code == 0
    }
}

/// A command that will run on a host of the lab.
pub fn on(host: Host, program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", host.namespace()]).arg(program);
    command
}

/// Exit code of a status, signals as a shell reports them.
pub fn exit_code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// The command line for messages.
pub fn line(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|part| part.to_string_lossy().into_owned())
        .collect::<Vec<_>>()
        .join(" ")
}

/// Runs a command to its end and hands back whatever it left; only not ending is an error.
pub fn run(command: &mut Command, limit: Duration) -> Result<Output> {
    run_with_input(command, None, limit)
}

/// Runs a command that must succeed.
pub fn check(command: &mut Command, limit: Duration) -> Result<Output> {
    let output = run(command, limit)?;
    succeed(command, output)
}

/// Runs a command that must succeed and is fed through its standard input.
pub fn check_with_input(command: &mut Command, input: &str, limit: Duration) -> Result<Output> {
    let output = run_with_input(command, Some(input), limit)?;
    succeed(command, output)
}

fn succeed(command: &Command, output: Output) -> Result<Output> {
    if output.ok() {
        return Ok(output);
    }
    let said = if output.stderr.trim().is_empty() { &output.stdout } else { &output.stderr };
    Err(LabError::Command {
        line: line(command),
        status: format!("exit code {}", output.code),
        stderr: tail(said, 12),
    })
}

fn run_with_input(command: &mut Command, input: Option<&str>, limit: Duration) -> Result<Output> {
    let started = Instant::now();
    command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let (mut child, _) = spawn(command)?;
    let stdout = collect(child.stdout.take());
    let stderr = collect(child.stderr.take());
    if let (Some(text), Some(mut pipe)) = (input, child.stdin.take()) {
        // A program that ends before it has read everything says why in its exit code.
        let _ = pipe.write_all(text.as_bytes());
    }
    let Some(status) = wait_until(&mut child, started + limit) else {
        let _ = child.kill();
        let _ = child.wait();
        return Err(LabError::Timeout { what: format!("`{}`", line(command)), after: limit });
    };
    let took = started.elapsed();
    let text = |reader: thread::JoinHandle<Vec<u8>>| {
        String::from_utf8_lossy(&reader.join().unwrap_or_default()).into_owned()
    };
    Ok(Output { code: exit_code(status), stdout: text(stdout), stderr: text(stderr), took })
}

/// Starts a command in such a way that an interrupt finds it, wherever it is on its way.
pub(crate) fn spawn(command: &mut Command) -> Result<(Child, Option<ProcessRef>)> {
    let what = format!("start `{}`", line(command));
    let spawned = interrupt::unless_interrupted(&what, |room| {
        let child = command.spawn()?;
        let identity = ProcessRef::of(child.id());
        identity.into_iter().for_each(|process| room.started(process));
        Ok((child, identity))
    })?;
    spawned.map_err(|error| spawn_error(command, error))
}

fn spawn_error(command: &Command, error: std::io::Error) -> LabError {
    let program = command.get_program().to_string_lossy().into_owned();
    if error.kind() == std::io::ErrorKind::NotFound {
        return LabError::MissingProgram { program, hint: "scripts/setup installs it".into() };
    }
    LabError::Io { what: format!("start {program}"), source: error }
}

fn collect(pipe: Option<impl Read + Send + 'static>) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            let _ = pipe.read_to_end(&mut bytes);
        }
        bytes
    })
}

/// Waits for a child until a moment; `None` when it still runs then.
pub fn wait_until(child: &mut Child, deadline: Instant) -> Option<ExitStatus> {
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if Instant::now() < deadline => thread::sleep(Duration::from_millis(2)),
            _ => return None,
        }
    }
}

/// Asks a question again and again until it is answered or time is up.
pub fn wait_for<T>(what: &str, limit: Duration, mut ask: impl FnMut() -> Option<T>) -> Result<T> {
    let (deadline, mut pauses) = (Instant::now() + limit, Pauses::up_to(Duration::from_millis(10)));
    loop {
        if let Some(answer) = ask() {
            return Ok(answer);
        }
        if Instant::now() >= deadline {
            return Err(LabError::Timeout { what: what.into(), after: limit });
        }
        pauses.pause();
    }
}

/// Pauses between two questions: short at first, since what is over soon is timed by them, longer later, since
/// whoever is asked has other work.
pub struct Pauses {
    next: Duration,
    longest: Duration,
}

impl Pauses {
    /// From a millisecond, each twice as long as the one before.
    pub fn up_to(longest: Duration) -> Self {
        Self { next: Duration::from_millis(1), longest }
    }

    /// The next one.
    pub fn pause(&mut self) {
        thread::sleep(self.next);
        self.next = self.longest.min(self.next * 2);
    }
}

/// The last lines of a text.
pub fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.trim_end().lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// A program in the background that ends with this value.
#[derive(Debug)]
pub struct Running {
    child: Child,
    identity: Option<ProcessRef>,
    name: String,
    left_alone: bool,
}

impl Running {
    /// Starts a command; its output goes where the command says.
    pub fn start(command: &mut Command) -> Result<Self> {
        let (child, identity) = spawn(command)?;
        Ok(Self { child, identity, name: line(command), left_alone: false })
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Who it is, beyond its number.
    pub fn identity(&self) -> Option<ProcessRef> {
        self.identity
    }

    /// Lets it run on after this value is gone.
    pub fn leave_running(mut self) -> Option<ProcessRef> {
        self.left_alone = true;
        self.identity
    }

    /// Exit code if it has ended.
    pub fn ended(&mut self) -> Option<i32> {
        self.child.try_wait().ok().flatten().map(exit_code)
    }

    /// Waits for the end.
    pub fn wait(&mut self, limit: Duration) -> Result<i32> {
        wait_until(&mut self.child, Instant::now() + limit)
            .map(exit_code)
            .ok_or_else(|| LabError::Timeout { what: format!("end of `{}`", self.name), after: limit })
    }

    /// SIGTERM, and SIGKILL to what does not follow within the time.
    pub fn stop(&mut self, patience: Duration) -> Stopped {
        if let Some(code) = self.ended() {
            return Stopped::Before(code);
        }
        if let Some(identity) = self.identity {
            identity.signal(rustix::process::Signal::TERM);
        }
        if let Some(status) = wait_until(&mut self.child, Instant::now() + patience) {
            return Stopped::Asked(exit_code(status));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        Stopped::Killed
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.left_alone {
            self.stop(Duration::from_secs(3));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_and_both_outputs_come_back() {
        let output = run(Command::new("sh").args(["-c", "echo out; echo err >&2; exit 7"]), SHORT).unwrap();
        assert_eq!((output.code, output.stdout.as_str(), output.stderr.as_str()), (7, "out\n", "err\n"));
        assert!(!output.ok());
    }

    #[test]
    fn a_signal_reads_as_a_shell_shows_it() {
        assert_eq!(run(Command::new("sh").args(["-c", "kill -9 $$"]), SHORT).unwrap().code, 137);
    }

    #[test]
    fn what_does_not_end_is_ended() {
        let started = Instant::now();
        let error = run(Command::new("sleep").arg("30"), Duration::from_millis(50)).unwrap_err();
        assert!(matches!(error, LabError::Timeout { .. }), "{error}");
        assert!(started.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn a_missing_program_names_the_way_to_get_it() {
        let error = run(&mut Command::new("no-such-program-of-ours"), SHORT).unwrap_err();
        assert_eq!(error.to_string(), "no-such-program-of-ours not found; scripts/setup installs it");
    }

    #[test]
    fn failure_shows_the_end_of_what_was_said() {
        let error = check(Command::new("sh").args(["-c", "echo why >&2; exit 3"]), SHORT).unwrap_err();
        assert_eq!(error.to_string(), "`sh -c echo why >&2; exit 3` failed (exit code 3): why");
    }

    #[test]
    fn a_stubborn_program_is_killed() {
        let mut command = Command::new("sh");
        command.args(["-c", "trap '' TERM; while :; do sleep 0.05; done"]);
        let mut running = Running::start(&mut command).unwrap();
        thread::sleep(Duration::from_millis(100));
        assert_eq!(running.stop(Duration::from_millis(200)), Stopped::Killed);
    }
}
