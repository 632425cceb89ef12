//! The machine's limits that so many sessions need: how many there may be, and how many chains they hang in.
//! Both nodes are on one kernel and share them, so there is twice the room of the largest table and more.
//!
//! What they were lies on disk until it is put back, so that the next lab does it if this program was killed.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{
    error::{LabError, Result},
    interrupt,
};

/// Settings of the whole kernel and what they are while such a pair is up.
const RAISED: [(&str, &str); 2] = [("nf_conntrack_max", "2000000"), ("nf_conntrack_buckets", "2097152")];

/// Lets the kernel have more sessions.
pub(super) fn raise() -> Result<()> {
    interrupt::unless_interrupted("raise the machine's limits of sessions", |_| raise_all())?
}

fn raise_all() -> Result<()> {
    for (name, value) in RAISED {
        let path = setting(name);
        let old = fs::read_to_string(&path).map_err(LabError::io(format!("read {}", path.display())))?;
        // A lab that was killed may have left its own value there: what was kept first is the machine's.
        if !kept(name).exists() {
            fs::write(kept(name), old).map_err(LabError::io("keep the machine's limit of sessions"))?;
        }
        fs::write(&path, value).map_err(LabError::io(format!("write {}", path.display())))?;
    }
    Ok(())
}

/// Puts the machine's own limits back, if they were raised.
pub(crate) fn restore() {
    for (name, _) in RAISED {
        if let Ok(old) = fs::read_to_string(kept(name))
            && fs::write(setting(name), old.trim()).is_ok()
        {
            let _ = fs::remove_file(kept(name));
        }
    }
}

fn setting(name: &str) -> PathBuf {
    Path::new("/proc/sys/net/netfilter").join(name)
}

fn kept(name: &str) -> PathBuf {
    Path::new(crate::state::RUN_DIR).join(name)
}
