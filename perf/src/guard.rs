//! Instructions of the hot paths against a committed baseline: a gate that works on a busy machine.
//!
//! Each case runs in this program under valgrind's callgrind, which counts the instructions between entry
//! and exit of [`counted`] and nothing else. Counts do not depend on load or on caches; they depend on the
//! compiler (pinned in `rust-toolchain.toml`) and a little on the C library, which is why the limit is 5 %
//! and not 0.

mod cases;
mod mirror;

use crate::rig::Result;
use cases::CASES;
use std::collections::{BTreeMap, VecDeque};
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

/// How the guard runs.
#[derive(clap::Args, Clone, Debug)]
pub struct GuardArgs {
    /// Takes today's counts as the baseline.
    #[arg(long)]
    accept: bool,
    /// Only cases whose name contains this; the others' baselines stay as they are.
    #[arg(long, default_value = "")]
    only: String,
    /// Where the baseline is.
    #[arg(long, default_value = "perf/guard.json")]
    baseline: PathBuf,
}

/// A regression of more than this fails.
const LIMIT: f64 = 1.05;
/// What callgrind is told to count.
const PATTERN: &str = "*guard*counted*";

/// Instructions per operation, by case.
type Counts = BTreeMap<String, f64>;

/// Counts instructions per operation of the cases and holds them against the baseline.
pub fn guard(args: &GuardArgs) -> Result<()> {
    let names = || CASES.iter().map(|(name, _)| *name).filter(|name| name.contains(&args.only));
    let counts = count_all(names().collect())?;
    let mut baseline = match std::fs::read_to_string(&args.baseline) {
        Ok(text) => serde_json::from_str(&text)?,
        Err(_) if args.accept => Counts::new(),
        Err(error) => {
            return Err(
                format!("{}: {error}; `perf guard --accept` writes it", args.baseline.display()).into()
            );
        }
    };
    if args.accept {
        baseline.retain(|name, _| CASES.iter().any(|(case, _)| case == name));
        baseline.extend(counts.clone());
        std::fs::write(&args.baseline, serde_json::to_string_pretty(&baseline)? + "\n")?;
    }
    baseline.retain(|name, _| name.contains(&args.only));
    let verdicts = compare(&baseline, &counts);
    println!("{:38} {:>9} {:>9}   instructions per operation", "case", "baseline", "now");
    verdicts.iter().for_each(|verdict| println!("{}", verdict.line()));
    let failures: Vec<String> = verdicts.iter().filter_map(Verdict::failure).collect();
    println!("guard: {} passed, {} failed", verdicts.len() - failures.len(), failures.len());
    if failures.is_empty() {
        return Ok(());
    }
    let baseline = args.baseline.display();
    Err(format!(
        "{}\nWhere they go: valgrind --tool=callgrind --collect-atstart=no --toggle-collect='{PATTERN}' target/release/perf guard-case 'CASE'\n\
         If it is meant: `target/release/perf guard --accept`, and commit {baseline} with the reason.",
        failures.join("\n"),
    )
    .into())
}

/// As many cases at a time as there are processors: counts do not depend on who else runs.
fn count_all(names: Vec<&'static str>) -> Result<Counts> {
    let (todo, counts) = (Mutex::new(VecDeque::from(names)), Mutex::new(Counts::new()));
    let work = || -> std::result::Result<(), String> {
        // A lock's holder does nothing that could fail.
        let next = || todo.lock().ok().and_then(|mut todo| todo.pop_front());
        while let Some(name) = next() {
            let instructions = count(name).map_err(|error| error.to_string())?;
            if let Ok(mut counts) = counts.lock() {
                counts.insert(name.to_owned(), instructions);
            }
        }
        Ok(())
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| -> Result<()> {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            worker.join().map_err(|_| "a thread of the guard ended by a panic")??;
        }
        Ok(())
    })?;
    Ok(counts.into_inner().unwrap_or_default())
}

/// Runs one case: what callgrind is started on.
pub fn run_case(name: &str) -> Result<()> {
    let (_, case) = CASES.iter().find(|(case, _)| *case == name).ok_or_else(|| format!("no case {name}"))?;
    println!("{}", case()?);
    Ok(())
}

/// Instructions for each operation of a case.
fn count(name: &str) -> Result<f64> {
    let file =
        format!("guard-{}-{}.out", std::process::id(), name.replace(|c: char| !c.is_alphanumeric(), "-"));
    let out = std::env::temp_dir().join(file);
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--collect-atstart=no"])
        .arg(format!("--toggle-collect={PATTERN}"))
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(std::env::current_exe()?)
        .args(["guard-case", name])
        .stderr(Stdio::piped())
        .output()
        .map_err(|error| {
            format!("valgrind cannot be started ({error}); `apt-get install valgrind`, or scripts/setup")
        })?;
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

    /// Worse than allowed, or not to be judged: in words.
    fn failure(&self) -> Option<String> {
        let Self { name, baseline, now } = self;
        match (baseline, now) {
            (Some(baseline), Some(now)) if now / baseline <= LIMIT => None,
            (Some(baseline), Some(now)) => Some(format!(
                "{name}: {now:.1} instructions where the baseline has {baseline:.1}, {:.1} % more; {:.0} % are allowed",
                (now / baseline - 1.0) * 100.0,
                (LIMIT - 1.0) * 100.0
            )),
            (None, _) => Some(format!("{name}: the baseline does not know this case")),
            (_, None) => Some(format!("{name}: the baseline knows it, but there is no such case any more")),
        }
    }

    fn line(&self) -> String {
        let number = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1}"));
        let change =
            self.ratio().map_or_else(String::new, |ratio| format!("{:+.1} %", (ratio - 1.0) * 100.0));
        let verdict = match self.ratio() {
            _ if self.failure().is_some() => "FAIL",
            // A gain that is not accepted can be lost again without anybody hearing of it.
            Some(ratio) if ratio < 2.0 - LIMIT => "ok, better: accept it",
            _ => "ok",
        };
        format!(
            "{:38} {:>9} {:>9} {change:>9}  {verdict}",
            self.name,
            number(self.baseline),
            number(self.now)
        )
    }
}

fn compare(baseline: &Counts, counts: &Counts) -> Vec<Verdict> {
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
            .map(|verdict| (verdict.failure().is_some(), verdict.name))
            .collect();
        let expected = [(true, "fresh"), (true, "gone"), (false, "same"), (true, "worse")];
        assert_eq!(failed, expected.map(|(fails, name)| (fails, name.to_owned())));
    }

    #[test]
    fn the_baseline_names_every_case() {
        let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("guard.json")).unwrap();
        let baseline: Counts = serde_json::from_str(&text).unwrap();
        let mut names: Vec<_> = CASES.map(|(name, _)| name.to_owned()).to_vec();
        names.sort();
        assert_eq!(baseline.into_keys().collect::<Vec<_>>(), names);
    }
}
