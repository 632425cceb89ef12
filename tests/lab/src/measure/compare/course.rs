//! What every system goes through, with a table of one size: fill, forward, a standby that starts anew,
//! deaths of the active machine.

use std::{
    thread,
    time::{Duration, Instant},
};

use super::{
    Row, Wire, figures, rates,
    subject::{ECHO_PORT, Mirrored, Subject},
};
use crate::{
    crowd::{Member, TcpCrowd},
    echo::EchoServer,
    error::Result,
    generator::Generator,
    measure::ms,
    stream::{StreamKind, Streams},
    topology::{Family, Host},
};

pub(super) const CONNECTIONS: usize = 100;
/// Sessions offered in a second while the standby has to keep up.
pub(super) const OFFERED: u32 = 100_000;
/// Below so many sessions filling is over before a rate of it means anything.
const RATE_FROM: u32 = 50_000;
/// Above so many sessions forwarding is not measured: the frames would not fit the generator's caches.
const FORWARD_TO: u32 = 100_000;
const SETTLE: Duration = Duration::from_millis(500);
const LONG: Duration = Duration::from_secs(60);

/// Goes through everything and notes what was found, also when it ends early.
pub(super) fn run(subject: &mut dyn Subject, runs: u32, wire: Option<&Wire>, row: &mut Row) -> Result<()> {
    let sessions = row.sessions;
    let generator = Generator::new(Family::V4, sessions)?;
    fill(subject, &generator, row)?;
    if let Some(wire) = wire.filter(|_| sessions <= FORWARD_TO) {
        match rates::measure(subject, &generator, sessions) {
            Ok(rates) => wire.compare(rates, row),
            Err(error) => row.faults.push(format!("forwarding: {error}")),
        }
    }
    subject.kill(Host::B)?;
    let started = subject.revive(Host::B)?;
    let back = subject.settle(Host::A, started)?;
    let took = time_of(back, "after a full copy", row);
    row.add(figures::COPY, "ms", vec![took]);
    let mut deaths = Deaths::new();
    let ended = deaths.run(subject, runs, row);
    deaths.note(row);
    let active = ended?;
    if let Some(commit) = subject.commit(active.partner())? {
        row.add(figures::COMMIT, "ms", vec![ms(commit)]);
    }
    Ok(())
}

/// What making a standby complete took, in milliseconds; no number, but a fault, if it never was.
fn time_of(mirrored: Mirrored, when: &str, row: &mut Row) -> f64 {
    if mirrored.missing == 0 {
        return ms(mirrored.took);
    }
    row.faults.push(format!(
        "{when} the standby never was complete: {} sessions missing when nothing more came, {:.0} s",
        mirrored.missing,
        mirrored.took.as_secs_f64()
    ));
    f64::NAN
}

fn fill(subject: &mut dyn Subject, generator: &Generator, row: &mut Row) -> Result<()> {
    let sessions = row.sessions;
    let (cpu, started) = (subject.sync_cpu()?, Instant::now());
    generator.fill_until(sessions, OFFERED, || subject.sessions(Host::A))?;
    let mirrored = subject.wait_mirrored(Host::B, u64::from(sessions))?;
    let took = mirrored.since.saturating_duration_since(started).as_secs_f64();
    let reached = mirrored.value.min(u64::from(sessions)) as f64;
    if sessions >= RATE_FROM {
        row.add(figures::SYNCED, "/s", vec![reached / took]);
        let cpu_us = (subject.sync_cpu()?.saturating_sub(cpu)).as_secs_f64() * 1e6 / f64::from(sessions);
        row.add(figures::SYNC_CPU, "us/session", vec![cpu_us]);
    }
    row.add(figures::NEVER, "", vec![f64::from(sessions) - reached]);
    Ok(())
}

/// Samples of all deaths so far.
struct Deaths {
    gaps: Vec<(StreamKind, Vec<f64>)>,
    stalls: Vec<f64>,
    slowest: Vec<f64>,
    connections: Vec<f64>,
    lost: Vec<f64>,
    settled: Vec<f64>,
    told: Vec<f64>,
}

impl Deaths {
    fn new() -> Self {
        let gaps = StreamKind::ALL.map(|kind| (kind, Vec::new())).into();
        Self {
            gaps,
            stalls: Vec::new(),
            slowest: Vec::new(),
            connections: Vec::new(),
            lost: Vec::new(),
            settled: Vec::new(),
            told: Vec::new(),
        }
    }

    /// So many deaths, of either node in turn; who is active in the end.
    fn run(&mut self, subject: &mut dyn Subject, runs: u32, row: &mut Row) -> Result<Host> {
        let _echo = EchoServer::start(Host::Server, ECHO_PORT)?;
        let streams = Streams::start(&StreamKind::ALL, Duration::from_millis(1))?;
        let mut active = Host::A;
        self.wait(subject, active, None, "before the first death", row)?;
        for run in 1..=runs {
            self.one(subject, active, &streams, run, row)?;
            let revived = subject.revive(active)?;
            active = active.partner();
            self.wait(subject, active, Some(revived), &format!("after death {run}"), row)?;
        }
        Ok(active)
    }

    fn wait(
        &mut self,
        subject: &mut dyn Subject,
        active: Host,
        revived: Option<Instant>,
        when: &str,
        row: &mut Row,
    ) -> Result<()> {
        let settled = subject.settle(active, revived.unwrap_or_else(Instant::now))?;
        let took = time_of(settled, when, row);
        if revived.is_some() {
            self.settled.push(took);
        }
        Ok(())
    }

    fn one(
        &mut self,
        subject: &mut dyn Subject,
        active: Host,
        streams: &Streams,
        run: u32,
        row: &mut Row,
    ) -> Result<()> {
        let crowd = TcpCrowd::start(ECHO_PORT, CONNECTIONS, Duration::from_millis(20))?;
        let opened = Instant::now();
        let told = subject.settle(active, opened)?;
        self.told.push(time_of(told, &format!("of the connections before death {run}"), row));
        thread::sleep(SETTLE.saturating_sub(opened.elapsed()));
        let before = subject.sessions(active)?;
        // A death knows no heartbeat's phase; what was done last in step with them would else decide.
        thread::sleep(Duration::from_micros(u64::from(run) * 61_800 % 100_000));
        let killed = subject.kill(active)?;
        let go_on = streams.wait_alive_since(killed + Duration::from_millis(50), LONG);
        if let Err(error) = go_on {
            row.faults.push(format!("death {run}: {error}"));
        }
        thread::sleep(SETTLE);
        let now = Instant::now();
        for (kind, gaps) in &mut self.gaps {
            let Some(track) = streams.track(*kind) else { continue };
            gaps.push(ms(track.longest_silence(killed, now).length));
        }
        self.connections.push(crowd.wait_alive_since(now, Duration::from_secs(20)) as f64);
        let end = Instant::now();
        self.stalls.push(ms(longest_stall(&crowd.echoes(), killed, end)));
        self.slowest.extend(slowest(&crowd.members(), end).map(ms));
        self.lost.push(before.saturating_sub(subject.sessions(active.partner())?) as f64);
        Ok(())
    }

    fn note(self, row: &mut Row) {
        for (kind, gaps) in self.gaps {
            row.add(&figures::gap(kind), "ms", gaps);
        }
        row.add(figures::CONNECTIONS, "", self.connections);
        row.add(figures::STALL, "ms", self.stalls);
        row.add(figures::SLOWEST, "ms", self.slowest);
        row.add(figures::LOST, "", self.lost);
        row.add(figures::RETURN, "ms", self.settled);
        row.add(figures::TOLD, "ms", self.told);
    }
}

/// The longest time in a span in which no connection at all heard its echo.
fn longest_stall(echoes: &[Instant], since: Instant, until: Instant) -> Duration {
    let mut last = since;
    let mut longest = Duration::ZERO;
    for at in echoes.iter().copied().filter(|at| (since..until).contains(at)).chain([until]) {
        longest = longest.max(at.saturating_duration_since(last));
        last = last.max(at);
    }
    longest
}

/// The longest time in which one connection did not hear its echo. One that never did again counts up to the
/// end of what was looked at.
fn slowest(members: &[Member], until: Instant) -> Option<Duration> {
    members.iter().map(|member| member.longest.max(until.saturating_duration_since(member.last))).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_that_never_go_on_are_silent_to_the_end() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let stall = |echoes: &[u64], until| {
            let echoes: Vec<Instant> = echoes.iter().map(|ms| at(*ms)).collect();
            longest_stall(&echoes, at(100), at(until)).as_millis()
        };
        assert_eq!(stall(&[90, 110, 400, 410], 420), 290);
        assert_eq!(stall(&[90, 99], 20_000), 19_900, "all are dead");
        let member = |longest, last| Member {
            family: Family::V4,
            client_port: 1,
            echoed: 1,
            last: at(last),
            longest: Duration::from_millis(longest),
            ended: None,
        };
        let slow = |members: &[Member]| slowest(members, at(20_000)).map(|longest| longest.as_millis());
        assert_eq!(slow(&[member(300, 19_990), member(20, 19_995)]), Some(300));
        assert_eq!(slow(&[member(300, 19_990), member(20, 100)]), Some(19_900), "one is dead");
        assert_eq!(slow(&[]), None);
    }

    #[test]
    fn a_copy_that_never_was_whole_has_a_fault_and_no_time() {
        let mut row = Row { system: "x", sessions: 1, figures: Vec::new(), faults: Vec::new() };
        let took = Duration::from_millis(2_400);
        assert_eq!(time_of(Mirrored { missing: 0, took }, "then", &mut row), 2_400.0);
        assert!(time_of(Mirrored { missing: 7, took }, "then", &mut row).is_nan());
        let fault = "then the standby never was complete: 7 sessions missing when nothing more came, 2 s";
        assert_eq!(row.faults, [fault]);
    }
}
