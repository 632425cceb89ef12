//! The machine's limits that so many sessions need: how many there may be, and how many chains they hang in.
//! Both nodes are on one kernel and share them, so there is twice the room of the largest table and more.
//!
//! What they were lies on disk until it is put back, so that the next lab does it if this program was killed.

use std::{
    fmt::Display,
    fs,
    path::{Path, PathBuf},
};

use crate::{
    error::{LabError, Result},
    interrupt,
};

/// Settings of the whole kernel and what they are while such a pair is up.
const RAISED: [(&str, u64); 2] = [("nf_conntrack_max", 2_000_000), ("nf_conntrack_buckets", 2_097_152)];

/// Lets the kernel have more sessions.
pub(super) fn raise() -> Result<()> {
    interrupt::unless_interrupted("raise the machine's limits of sessions", |_| raise_all())?
}

fn raise_all() -> Result<()> {
    RAISED.iter().try_for_each(|(name, value)| raise_one(&setting(name), &kept(name), *value))
}

fn raise_one(setting: &Path, kept: &Path, value: u64) -> Result<()> {
    let old = read(setting)?;
    let old: u64 = old.trim().parse().map_err(|_| LabError::output(setting.display().to_string(), &old))?;
    if old >= value {
        return Ok(());
    }
    // A lab that was killed may have left its own value there: what was kept first is the machine's. It is
    // there whole or not at all.
    if !kept.exists() {
        let fresh = kept.with_extension("new");
        write(&fresh, old)?;
        fs::rename(&fresh, kept).map_err(LabError::io("keep the machine's limit of sessions"))?;
    }
    write(setting, value)
}

/// Puts the machine's own limits back, if they were raised. What they were stays on disk where that fails.
pub(crate) fn restore() -> Result<()> {
    RAISED.iter().map(|(name, _)| restore_one(&setting(name), &kept(name))).fold(Ok(()), Result::and)
}

fn restore_one(setting: &Path, kept: &Path) -> Result<()> {
    if !kept.exists() {
        return Ok(());
    }
    // Whoever removed the module has taken its limits along.
    if setting.exists() {
        write(setting, read(kept)?.trim())?;
    }
    let _ = fs::remove_file(kept);
    Ok(())
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(LabError::io(format!("read {}", path.display())))
}

fn write(path: &Path, value: impl Display) -> Result<()> {
    fs::write(path, value.to_string()).map_err(LabError::io(format!("write {}", path.display())))
}

fn setting(name: &str) -> PathBuf {
    Path::new("/proc/sys/net/netfilter").join(name)
}

fn kept(name: &str) -> PathBuf {
    Path::new(crate::state::RUN_DIR).join(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_comes_back_as_it_was_and_is_only_ever_raised() {
        let dir = std::env::temp_dir().join(format!("lab-limits-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let (setting, kept) = (dir.join("setting"), dir.join("kept"));
        fs::write(&setting, "65536\n").unwrap();
        raise_one(&setting, &kept, 2_000_000).unwrap();
        // As after a lab that was killed.
        raise_one(&setting, &kept, 3_000_000).unwrap();
        assert_eq!(read(&setting).unwrap(), "3000000");
        restore_one(&setting, &kept).unwrap();
        assert_eq!((read(&setting).unwrap().as_str(), kept.exists()), ("65536", false));
        raise_one(&setting, &kept, 1_000).unwrap();
        assert_eq!((read(&setting).unwrap().trim(), kept.exists()), ("65536", false), "there is more room");
        restore_one(&setting, &kept).unwrap();
        // What cannot be put back is said, and still known.
        raise_one(&setting, &kept, 2_000_000).unwrap();
        fs::remove_file(&setting).unwrap();
        fs::create_dir(&setting).unwrap();
        assert!(restore_one(&setting, &kept).is_err() && kept.exists());
        fs::remove_dir(&setting).unwrap();
        restore_one(&setting, &kept).unwrap();
        assert!(!kept.exists(), "there is nothing to put back any more");
        fs::remove_dir_all(dir).unwrap();
    }
}
