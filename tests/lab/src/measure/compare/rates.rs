//! How many packets a second a node passes on, and what that costs: 64-byte datagrams of established
//! sessions, in random order, written as whole frames to the client's cable by one thread on the first
//! processor; the node's forwarding is kept on the second one. At the server they are counted and dropped.
//!
//! The cost is looked for from outside, since the kernel forwards in nobody's name: the processor time of the
//! whole machine at a fixed rate, without what the same generator costs over a bare bridge in the node's
//! place. Generator, cables, switch and sink are the same in both and cancel out.

use std::{
    fs,
    io::IoSlice,
    process::Command,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    net::{MMsgHdr, SendAncillaryBuffer, SendFlags, sendmmsg},
    thread::sched_setaffinity,
};

use super::subject::{Subject, processors};
use crate::{
    checksum,
    error::{LabError, Result},
    exec::{self, SHORT},
    frames::{FramePort, mac},
    generator::{FIRST_PORT, Generator},
    guard::{Lab, LabOptions},
    netns,
    topology::{Family, HOST_INTERFACE, Host, Network},
};

/// Without the check sequence, which veths do not carry.
const FRAME: usize = 60;
/// Number of the protocol.
const UDP: u8 = 17;
/// Frames handed to the kernel at once.
const BATCH: usize = 32;
/// The rate at which the cost is taken: below what any of them can do.
const STEADY: f64 = 100_000.0;
/// How long it runs before anything counts, and how long each figure is taken.
const WARM_UP: Duration = Duration::from_millis(200);
const SPAN: Duration = Duration::from_secs(1);
const REPEATS: usize = 4;
/// Where the generator runs, and where the node's forwarding does.
const GENERATES: usize = 0;
const FORWARDS: usize = 1;

/// Samples of one subject.
#[derive(Clone, Debug, Default)]
pub(super) struct Rates {
    /// Packets a second that arrived while as many as possible were offered.
    pub(super) forwarded: Vec<f64>,
    /// How many were offered.
    pub(super) offered: Vec<f64>,
    /// Processor time of the whole machine for a packet at the steady rate.
    pub(super) machine_ns: Vec<f64>,
    /// Share of the steady rate that arrived, in percent.
    pub(super) arrived: Vec<f64>,
}

/// Measures a subject whose node a forwards and has the generator's sessions.
pub(super) fn measure(subject: &mut dyn Subject, generator: &Generator, sessions: u32) -> Result<Rates> {
    let frames = Frames::new(generator, sessions, &gateway()?);
    let can_pin = thread::available_parallelism().is_ok_and(|processors| processors.get() > FORWARDS);
    if can_pin {
        subject.pin(Host::A, Some(FORWARDS))?;
    }
    let rates = run(&frames);
    if can_pin {
        subject.pin(Host::A, None)?;
    }
    rates
}

/// The same over a bare bridge: what everything but the node costs.
pub(super) fn wire(sessions: u32, patience: Duration) -> Result<Rates> {
    let lab = Lab::up(&LabOptions { nodes: 2, patience, ..LabOptions::default() }.without_daemon())?;
    netns::bridge(Host::A)?;
    let generator = Generator::new(Family::V4, sessions)?;
    let frames = Frames::new(&generator, sessions, &mac(Network::Wan.link().host_mac));
    let rates = run(&frames)?;
    lab.down()?;
    Ok(rates)
}

fn run(frames: &Frames) -> Result<Rates> {
    let sink = Sink::open()?;
    let port = FramePort::open(Host::Client, HOST_INTERFACE)?;
    let mut rates = Rates::default();
    for _ in 0..REPEATS {
        let steady = burst(&port, frames, Some(STEADY), &sink)?;
        // Without any there is no cost of one, and no share: not a number, which no figure takes in.
        rates.machine_ns.push(steady.busy.as_secs_f64() * 1e9 / steady.arrived);
        rates.arrived.push(steady.arrived * 100.0 / steady.sent);
        let full = burst(&port, frames, None, &sink)?;
        let seconds = full.span.as_secs_f64();
        rates.forwarded.push(full.arrived / seconds);
        rates.offered.push(full.sent / seconds);
    }
    Ok(rates)
}

struct Burst {
    sent: f64,
    arrived: f64,
    busy: Duration,
    span: Duration,
}

/// Sends at a rate, or as fast as it goes, and looks at both ends of a span in the middle.
fn burst(port: &FramePort, frames: &Frames, rate: Option<f64>, sink: &Sink) -> Result<Burst> {
    let stop = AtomicBool::new(false);
    let sent = AtomicU64::new(0);
    thread::scope(|scope| {
        let sender = scope.spawn(|| -> rustix::io::Result<()> {
            sched_setaffinity(None, &processors(Some(GENERATES)))?;
            frames.send(port, rate, &sent, &stop);
            Ok(())
        });
        thread::sleep(WARM_UP);
        let look = || -> Result<(f64, u64, (Duration, u32), Instant)> {
            let sent = sent.load(Ordering::Relaxed) as f64;
            Ok((sent, sink.arrived()?, idle_time()?, Instant::now()))
        };
        let before = look();
        thread::sleep(SPAN);
        let after = look();
        stop.store(true, Ordering::Relaxed);
        let placed = sender.join().unwrap_or(Err(rustix::io::Errno::CANCELED));
        placed.map_err(LabError::errno("keep the generator on a processor"))?;
        let (before, after) = (before?, after?);
        let span = after.3 - before.3;
        let (idle, processors) = (after.2.0.saturating_sub(before.2.0), after.2.1);
        Ok(Burst {
            sent: after.0 - before.0,
            arrived: (after.1 - before.1) as f64,
            busy: (span * processors).saturating_sub(idle),
            span,
        })
    })
}

/// Frames of all sessions, in random order.
struct Frames {
    frames: Vec<[u8; FRAME]>,
}

impl Frames {
    fn new(generator: &Generator, sessions: u32, to: &[u8; 6]) -> Self {
        let mut frames: Vec<_> = (0..sessions)
            .filter_map(|number| generator.ports(number))
            .map(|ports| datagram(to, ports))
            .collect();
        // Fisher and Yates, with a generator of Marsaglia's: in order, a prefetcher hides what costs most.
        let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
        for place in (1..frames.len()).rev() {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let other = usize::try_from(state % (place as u64 + 1)).unwrap_or(0);
            frames.swap(place, other);
        }
        Self { frames }
    }

    fn send(&self, port: &FramePort, rate: Option<f64>, sent: &AtomicU64, stop: &AtomicBool) {
        let started = Instant::now();
        let mut count: u64 = 0;
        for frames in self.frames.chunks(BATCH).cycle() {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            count += send_all(port, frames);
            sent.store(count, Ordering::Relaxed);
            if let Some(rate) = rate {
                let due = started + Duration::from_secs_f64(count as f64 / rate);
                // Many batches a turn: waking up would else be most of what is measured.
                let early = due.saturating_duration_since(Instant::now());
                if early > Duration::from_millis(1) {
                    thread::sleep(early);
                }
            }
        }
    }
}

fn send_all(port: &FramePort, frames: &[[u8; FRAME]]) -> u64 {
    let slices: Vec<[IoSlice<'_>; 1]> = frames.iter().map(|frame| [IoSlice::new(frame)]).collect();
    let mut control: Vec<SendAncillaryBuffer<'_, '_, '_>> =
        frames.iter().map(|_| SendAncillaryBuffer::default()).collect();
    let mut messages: Vec<MMsgHdr<'_>> =
        slices.iter().zip(&mut control).map(|(slice, control)| MMsgHdr::new(slice, control)).collect();
    sendmmsg(port, &mut messages, SendFlags::empty()).map_or(0, |sent| sent as u64)
}

/// The smallest UDP datagram from the client to the server, checksums and all.
fn datagram(to: &[u8; 6], (from_port, to_port): (u16, u16)) -> [u8; FRAME] {
    let mut frame = [0; FRAME];
    frame[..6].copy_from_slice(to);
    frame[6..12].copy_from_slice(&mac(Network::Lan.link().host_mac));
    frame[12..14].copy_from_slice(&[0x08, 0x00]);
    let (ip, udp) = frame[14..].split_at_mut(20);
    ip[..4].copy_from_slice(&[0x45, 0, 0, (FRAME - 14) as u8]);
    ip[8..10].copy_from_slice(&[64, UDP]);
    for (place, address) in [(12, Family::V4.client()), (16, Family::V4.server())] {
        if let std::net::IpAddr::V4(address) = address {
            ip[place..place + 4].copy_from_slice(&address.octets());
        }
    }
    let header = checksum::of(ip);
    ip[10..12].copy_from_slice(&header.to_be_bytes());
    udp[..2].copy_from_slice(&from_port.to_be_bytes());
    udp[2..4].copy_from_slice(&to_port.to_be_bytes());
    let length = (FRAME - 34) as u16;
    udp[4..6].copy_from_slice(&length.to_be_bytes());
    let sum = checksum::of_segment(UDP, Family::V4.client(), Family::V4.server(), udp);
    udp[6..8].copy_from_slice(&sum.to_be_bytes());
    frame
}

/// The MAC address at which the client finds its gateway.
fn gateway() -> Result<[u8; 6]> {
    let mut command = Command::new("ip");
    command.args(["-n", Host::Client.namespace(), "neigh", "show", "10.1.0.1"]);
    let said = exec::check(&mut command, SHORT)?.stdout;
    let address = said.split_once("lladdr ").and_then(|(_, rest)| rest.split_ascii_whitespace().next());
    address.map(mac).ok_or_else(|| LabError::output("the gateway's MAC address", &said))
}

/// Takes the generator's packets at the server before its kernel works on them. Goes with this value.
struct Sink;

impl Sink {
    fn open() -> Result<Self> {
        let rules = format!(
            "table netdev sink {{\nchain taken {{\ntype filter hook ingress device {HOST_INTERFACE} priority 0\n\
             udp dport >= {FIRST_PORT} drop\n}}\n}}\n"
        );
        exec::check_with_input(exec::on(Host::Server, "nft").args(["-f", "-"]), &rules, SHORT)?;
        Ok(Self)
    }

    fn arrived(&self) -> Result<u64> {
        Ok(netns::counters(Host::Server, HOST_INTERFACE)?.rx_packets)
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        let _ = exec::run(exec::on(Host::Server, "nft").args(["delete", "table", "netdev", "sink"]), SHORT);
    }
}

/// Time in which processors had nothing to do, or were lent to another machine, summed over all, and how many
/// there are. What is left of the time is work. (The counters of work itself are samples at timer ticks, and a
/// sender that wakes at ticks would be seen in each of them.)
fn idle_time() -> Result<(Duration, u32)> {
    let text = fs::read_to_string("/proc/stat").map_err(LabError::io("read /proc/stat"))?;
    parse_idle(&text).ok_or_else(|| LabError::output("/proc/stat", &text))
}

fn parse_idle(text: &str) -> Option<(Duration, u32)> {
    let mut processors = text.lines().take_while(|line| line.starts_with("cpu"));
    let all = processors.next()?.split_ascii_whitespace().skip(1);
    let fields: Vec<u64> = all.map_while(|field| field.parse().ok()).collect();
    let ticks = fields.get(3)? + fields.get(4)? + fields.get(7)?;
    let idle = Duration::from_micros(ticks * 1_000_000 / rustix::param::clock_ticks_per_second().max(1));
    Some((idle, u32::try_from(processors.count()).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_has_the_smallest_size_and_good_checksums() {
        let frame = datagram(&[2; 6], (1234, 20_001));
        assert_eq!(frame.len() + 4, 64);
        assert_eq!(checksum::of(&frame[14..34]), 0);
        assert_eq!(checksum::of_segment(UDP, Family::V4.client(), Family::V4.server(), &frame[34..]), 0);
    }

    #[test]
    fn idle_is_what_nobody_worked_in() {
        let ticks = rustix::param::clock_ticks_per_second();
        let (idle, processors) =
            parse_idle("cpu  10 20 30 4000 500 6 7 80 0 0\ncpu0 1 2\ncpu1 1 2\nintr 1\n").unwrap();
        assert_eq!((idle.as_micros(), processors), (u128::from(4580 * 1_000_000 / ticks), 2));
        assert_eq!(parse_idle("cpu 1 2"), None);
    }
}
