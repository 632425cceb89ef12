//! What makes two nodes a pair in the lab: their keys, drawn anew for each lab, and the settings that tests
//! and measurements vary.

use std::{
    fs,
    io::{Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use sync::keys::{PublicKey, SecretKey};

use crate::{
    error::{LabError, Result},
    topology::SyncLink,
};

/// What can be varied of a pair beyond what one node has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PairSettings {
    /// Heartbeat interval.
    pub interval_ms: u32,
    /// Intervals without a heartbeat that mean a path's death.
    pub misses: u32,
    /// Dedicated links between the nodes, at most two.
    pub sync_links: u8,
    /// How long a node that starts waits for its partner; `None` leaves it to the configuration's default.
    pub boot_delay_ms: Option<u32>,
}

impl Default for PairSettings {
    fn default() -> Self {
        Self { interval_ms: 100, misses: 3, sync_links: 1, boot_delay_ms: None }
    }
}

impl PairSettings {
    /// The dedicated links.
    pub fn sync_links(&self) -> &'static [SyncLink] {
        &SyncLink::ALL[..usize::from(self.sync_links).min(SyncLink::ALL.len())]
    }

    /// How long the active may be silent before it counts as dead.
    pub fn dead_ms(&self) -> u32 {
        self.interval_ms * self.misses
    }
}

/// A node's own key and its partner's public one.
#[derive(Clone, Debug)]
pub struct NodeKeys {
    own: SecretKey,
    partner: PublicKey,
}

impl NodeKeys {
    /// The node's secret key, for tests that play a node.
    pub fn own(&self) -> &SecretKey {
        &self.own
    }

    /// What the node pins.
    pub fn partner_public(&self) -> PublicKey {
        self.partner
    }

    /// Where the secret key lies below a node's folder.
    pub fn secret_file(&self, dir: &Path) -> PathBuf {
        dir.join("secret.key")
    }

    /// Writes the key and makes the folder for what the node remembers.
    pub fn store(&self, dir: &Path) -> Result<()> {
        let path = self.secret_file(dir);
        let state = dir.join("state");
        fs::create_dir_all(&state).map_err(LabError::io(format!("create {}", state.display())))?;
        let mut options = fs::OpenOptions::new();
        let mut file = options
            .create(true)
            .write(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)
            .map_err(LabError::io(format!("write {}", path.display())))?;
        writeln!(file, "{}", self.own.to_text()).map_err(LabError::io("write a node's key"))
    }
}

/// Draws the keys of both nodes.
pub fn draw_keys() -> Result<[NodeKeys; 2]> {
    let mut random = [0; 64];
    fs::File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut random))
        .map_err(LabError::io("draw random keys"))?;
    let (mut first, mut second) = ([0; 32], [0; 32]);
    first.copy_from_slice(&random[..32]);
    second.copy_from_slice(&random[32..]);
    let (a, b) = (SecretKey::from_random(first), SecretKey::from_random(second));
    let (public_a, public_b) = (a.public(), b.public());
    Ok([NodeKeys { own: a, partner: public_b }, NodeKeys { own: b, partner: public_a }])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_go_crosswise_and_their_file_is_private() {
        use std::os::unix::fs::PermissionsExt;
        let [a, b] = draw_keys().unwrap();
        assert_eq!(a.partner_public(), b.own().public());
        assert_eq!(b.partner_public(), a.own().public());
        assert_ne!(a.own().public(), b.own().public());
        let dir = std::env::temp_dir().join(format!("lab-keys-{}", std::process::id()));
        a.store(&dir).unwrap();
        let path = a.secret_file(&dir);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let again: SecretKey = fs::read_to_string(&path).unwrap().parse().unwrap();
        assert_eq!(again.public(), a.own().public());
        fs::remove_dir_all(&dir).unwrap();
    }
}
