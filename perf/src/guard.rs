//! Instructions of the hot paths against a committed baseline: a gate that works on a busy machine.
//!
//! Each case runs in this program under valgrind's callgrind, which counts the instructions between entry
//! and exit of [`counted`] and nothing else. Counts do not depend on load or on caches; they depend on the
//! compiler (pinned in `rust-toolchain.toml`) and a little on the C library, which is why the limit is 5 %
//! and not 0.

use crate::bed::{Bed, BedConfig, SPARE};
use crate::flows::{Flows, Shuffle, Step, Traffic};
use crate::rig::Result;
use crate::world::{LAN, WAN};
use engine::{BURST, Burst, Ticks};
use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use sync::datagram::{HEADER, Header, Kind, MAX_DATAGRAM, Purpose, VERSION};
use sync::ids::{Incarnation, NodeId, PairId, PathId, Version};
use sync::record::{
    Addresses, Key, Lifetime, Record, RecordWriter, Records, RuleRef, Session, Shared, State, TcpHalf,
    TcpSnapshot, Tuple,
};
use sync::seal::{Root, Sealer};

/// How the guard runs.
#[derive(clap::Args, Clone, Debug)]
pub struct GuardArgs {
    /// Takes today's counts as the baseline.
    #[arg(long)]
    accept: bool,
    /// Where the baseline is.
    #[arg(long, default_value = "perf/guard.json")]
    baseline: PathBuf,
}

/// A regression of more than this fails.
const LIMIT: f64 = 1.05;
/// What callgrind is told to count.
const PATTERN: &str = "*guard*counted*";
/// Sessions in the tables of the cases: enough for alternates and displaced places in the index.
const SESSIONS: u32 = 20_000;
/// Bursts of a case.
const BURSTS: u32 = 200;

/// A hot path; returns how many operations it ran inside [`counted`].
type Case = fn() -> Result<u64>;

/// All of them by name.
const CASES: [(&str, Case); 10] = [
    ("parse tcp4", || parse(Traffic::Tcp4)),
    ("parse udp6", || parse(Traffic::Udp6)),
    ("look up", look_up),
    ("forward tcp4", || forward(Traffic::Tcp4)),
    ("forward udp4", || forward(Traffic::Udp4)),
    ("forward tcp6", || forward(Traffic::Tcp6)),
    ("new tcp4 session, 1000 rules", || open(Traffic::Tcp4, false)),
    ("new udp4 session, 1000 rules, told", || open(Traffic::Udp4, true)),
    ("encode and seal a record", encode_and_seal),
    ("decode a record", decode),
];

/// Counts instructions per operation of all cases and holds them against the baseline.
pub fn guard(args: &GuardArgs) -> Result<()> {
    let mut counts = BTreeMap::new();
    for (name, _) in CASES {
        counts.insert(name.to_owned(), count(name)?);
    }
    if args.accept {
        std::fs::write(&args.baseline, serde_json::to_string_pretty(&counts)? + "\n")?;
    }
    let text = std::fs::read_to_string(&args.baseline)
        .map_err(|error| format!("{}: {error}; `perf guard --accept` writes it", args.baseline.display()))?;
    let baseline: BTreeMap<String, f64> = serde_json::from_str(&text)?;
    let verdicts = compare(&baseline, &counts);
    for verdict in &verdicts {
        println!("{}", verdict.line());
    }
    match verdicts.iter().filter(|verdict| verdict.is_failure()).count() {
        0 => Ok(()),
        worse => Err(format!(
            "{worse} of {} cases fail; if that is meant, `perf guard --accept` makes it the baseline",
            verdicts.len()
        )
        .into()),
    }
}

/// Runs one case: what callgrind is started on.
pub fn run_case(name: &str) -> Result<()> {
    let (_, case) = CASES.iter().find(|(case, _)| *case == name).ok_or_else(|| format!("no case {name}"))?;
    println!("{}", case()?);
    Ok(())
}

/// Instructions for each operation of a case.
fn count(name: &str) -> Result<f64> {
    let out = std::env::temp_dir().join(format!("guard-{}.out", std::process::id()));
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--collect-atstart=no"])
        .arg(format!("--toggle-collect={PATTERN}"))
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(std::env::current_exe()?)
        .args(["guard-case", name])
        .stderr(Stdio::piped())
        .output()
        .map_err(|error| format!("valgrind: {error}; apt-get install valgrind"))?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("{name}: {}", stderr.lines().last().unwrap_or_default()).into());
    }
    let operations: f64 = String::from_utf8(output.stdout)?.trim().parse()?;
    let instructions = total(&out)?;
    std::fs::remove_file(&out)?;
    if instructions == 0.0 {
        return Err(format!("{name}: callgrind found nothing to count").into());
    }
    Ok((instructions / operations * 10.0).round() / 10.0)
}

fn total(out: &Path) -> Result<f64> {
    let text = std::fs::read_to_string(out)?;
    let line = text.lines().find_map(|line| line.strip_prefix("totals: ").or(line.strip_prefix("summary: ")));
    let words = line.ok_or("callgrind wrote no total")?.split_whitespace().next().unwrap_or_default();
    Ok(words.parse()?)
}

/// A case next to its baseline.
#[derive(Debug, PartialEq)]
struct Verdict {
    name: String,
    baseline: Option<f64>,
    now: Option<f64>,
}

impl Verdict {
    fn ratio(&self) -> Option<f64> {
        Some(self.now? / self.baseline?)
    }

    /// Worse than allowed, or not to be judged.
    fn is_failure(&self) -> bool {
        self.ratio().is_none_or(|ratio| ratio > LIMIT)
    }

    fn line(&self) -> String {
        let number = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1}"));
        let change =
            self.ratio().map_or_else(String::new, |ratio| format!("{:+.1} %", (ratio - 1.0) * 100.0));
        let verdict = if self.is_failure() { "FAIL" } else { "ok" };
        format!(
            "{:38} {:>9} {:>9} {change:>9}  {verdict}",
            self.name,
            number(self.baseline),
            number(self.now)
        )
    }
}

fn compare(baseline: &BTreeMap<String, f64>, counts: &BTreeMap<String, f64>) -> Vec<Verdict> {
    let mut names: Vec<&String> = baseline.keys().chain(counts.keys()).collect();
    names.sort_unstable();
    names.dedup();
    let verdict = |name: &String| Verdict {
        name: name.clone(),
        baseline: baseline.get(name).copied(),
        now: counts.get(name).copied(),
    };
    names.into_iter().map(verdict).collect()
}

/// What is counted is what runs in here.
#[inline(never)]
fn counted<R>(work: impl FnOnce() -> R) -> R {
    black_box(work())
}

fn parse(traffic: Traffic) -> Result<u64> {
    let mut frame = [0; 128];
    let len = Flows::new(traffic).write(&mut frame, 5, Step::FromInitiator).ok_or("a frame")?;
    let frame = frame.get(..len).unwrap_or_default();
    let mut desc = wire::Desc::EMPTY;
    counted(|| {
        for _ in 0..BURSTS {
            // Refused frames would be cheaper; the bed's cases show that these are not.
            _ = black_box(wire::parse_into(&mut desc, black_box(frame), len, false));
        }
    });
    Ok(BURSTS.into())
}

fn bed(slots: u32, replicate: bool) -> Result<Bed> {
    Bed::new(BedConfig { slots, rules: 1_000, replicate })
}

fn look_up() -> Result<u64> {
    let (mut bed, flows, order) =
        (bed(SESSIONS + SPARE, false)?, Flows::new(Traffic::Udp4), Shuffle::new(SESSIONS));
    bed.open_sessions(&flows, Traffic::Udp4, SESSIONS);
    let keys: Vec<_> = (0..BURSTS * BURST as u32).map(|n| flows.key(order.flow(n))).collect();
    let shard = bed.engine.shard();
    let found = counted(|| keys.iter().filter(|key| shard.find(key, shard.hash(key)).is_some()).count());
    if found == keys.len() { Ok(found as u64) } else { Err("sessions that are not found".into()) }
}

fn forward(traffic: Traffic) -> Result<u64> {
    let (mut bed, flows, order) =
        (bed(SESSIONS + SPARE, false)?, Flows::new(traffic), Shuffle::new(SESSIONS));
    bed.open_sessions(&flows, traffic, SESSIONS);
    let (mut burst, mut passed) = (Burst::new(), 0);
    for number in 0..BURSTS {
        let (step, port) =
            if number & 1 == 0 { (Step::FromInitiator, LAN) } else { (Step::FromResponder, WAN) };
        let first = number * BURST as u32;
        bed.load(&mut burst, &flows, step, (first..).map(|n| order.flow(n)));
        counted(|| bed.run(Ticks(1), port, &mut burst));
        passed += bed.sink.sent.len() as u64;
    }
    let all = u64::from(BURSTS) * BURST as u64;
    if passed == all {
        Ok(all)
    } else {
        Err(format!("{passed} of {all} packets passed: {}", bed.drops()).into())
    }
}

fn open(traffic: Traffic, replicate: bool) -> Result<u64> {
    let (mut bed, flows, order) = (bed(SESSIONS, replicate)?, Flows::new(traffic), Shuffle::new(SESSIONS));
    let step = if traffic.is_tcp() { Step::Syn } else { Step::FromInitiator };
    let mut burst = Burst::new();
    for number in 0..BURSTS {
        let first = number * BURST as u32;
        bed.load(&mut burst, &flows, step, (first..).map(|n| order.flow(n)));
        counted(|| bed.run(Ticks(1), LAN, &mut burst));
        bed.drain_marks();
    }
    let all = BURSTS * BURST as u32;
    if bed.sessions() == all { Ok(all.into()) } else { Err(format!("sessions: {}", bed.drops()).into()) }
}

/// A body of established IPv4 connections, as many as fit a datagram of an ordinary link.
const BODY: usize = 1_500 - 28 - HEADER - 16;

fn sessions() -> impl Iterator<Item = Record> {
    let half = TcpHalf { end: 7_000, max_end: 70_000, ack: 6_000, max_window: 64_000, scale: 7 };
    (0_u32..).map(move |number| {
        let [_, a, b, c] = number.to_be_bytes();
        let tuple =
            Tuple { addresses: Addresses::V4([[10, a, b, c], [172, 16, 0, 1]]), ports: [40_000, 443] };
        Record::Session(Session {
            key: Key { tuple, proto: 6, vrf: 0 },
            reply: None,
            version: Version(u64::from(number)),
            group: sync::ids::GroupId(0),
            rule: RuleRef { id: 99, generation: 0 },
            zones: [0, 1],
            remaining: Lifetime::from_ms(7_440_000),
            state: State::Tcp(TcpSnapshot { state: 3, flags: 1, halves: [half; 2], mark: None, idle: false }),
            two_way: true,
            age_s: None,
            counters: None,
        })
    })
}

/// Fills a body; returns its length and its records.
fn encode(body: &mut [u8], records: &mut impl Iterator<Item = Record>) -> (usize, u64) {
    let mut writer = RecordWriter::new(body, Shared::default());
    while records.next().is_some_and(|record| writer.push(&record)) {}
    (writer.len(), writer.records().into())
}

fn encode_and_seal() -> Result<u64> {
    let mut sealer = Sealer::new(&Root::new(b"guard", b"no secret"), NodeId(0), Purpose::Traffic, PathId(0));
    let header = Header {
        version: VERSION,
        kind: Kind::Data,
        pair: PairId(1),
        sender: NodeId(0),
        path: PathId(0),
        incarnation: Incarnation(1),
        key_id: 1,
        counter: 0,
    };
    let (mut datagram, mut all) = ([0; MAX_DATAGRAM], 0);
    let mut records = sessions();
    for _ in 0..BURSTS {
        let sealed = counted(|| {
            let (len, records) = encode(datagram.get_mut(HEADER..HEADER + BODY)?, &mut records);
            all += records;
            sealer.seal(&header, &mut datagram, len)
        });
        sealed.ok_or("a datagram that cannot be sealed")?;
    }
    Ok(all)
}

fn decode() -> Result<u64> {
    let mut body = [0; BODY];
    let (len, count) = encode(&mut body, &mut sessions());
    let body = body.get(..len).unwrap_or_default();
    let mut read = 0;
    for _ in 0..BURSTS {
        read += counted(|| Records::new(black_box(body), Shared::default()).map(black_box).count() as u64);
    }
    if read == count * u64::from(BURSTS) { Ok(read) } else { Err("records that are not read".into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_five_percent_fails_and_so_does_what_has_no_counterpart() {
        let counts = |of: &[(&str, f64)]| of.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect();
        let baseline = counts(&[("gone", 1.0), ("same", 100.0), ("worse", 100.0)]);
        let now = counts(&[("fresh", 1.0), ("same", 105.0), ("worse", 105.1)]);
        let failed: Vec<_> = compare(&baseline, &now)
            .into_iter()
            .map(|verdict| (verdict.is_failure(), verdict.name))
            .collect();
        let expected = [(true, "fresh"), (true, "gone"), (false, "same"), (true, "worse")];
        assert_eq!(failed, expected.map(|(fails, name)| (fails, name.to_owned())));
    }

    #[test]
    fn every_case_does_what_it_counts() {
        for (name, case) in CASES {
            assert!(case().is_ok_and(|operations| operations > 0), "{name}");
        }
    }

    #[test]
    fn the_baseline_names_every_case() {
        let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("guard.json")).unwrap();
        let baseline: BTreeMap<String, f64> = serde_json::from_str(&text).unwrap();
        let mut names: Vec<_> = CASES.map(|(name, _)| name.to_owned()).to_vec();
        names.sort();
        assert_eq!(baseline.into_keys().collect::<Vec<_>>(), names);
    }
}
