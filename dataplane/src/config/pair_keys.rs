//! The pair's keys: this node's secret one in a file of its own, the partner's public one in the configuration.
//!
//! The secret key is not part of the configuration, so that a configuration can be copied, shown and kept
//! under version control. Its file is refused if anybody but its owner can read it.

use super::reader::{Reader, Text, quoted};
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use sync::keys::{KeyTextError, PublicKey, SecretKey};

/// More than any key file holds.
const MAX_KEY_FILE_BYTES: u64 = 1_024;

/// This node's own key and where it came from.
#[derive(Clone, Debug)]
pub struct NodeKey {
    /// The file.
    pub file: PathBuf,
    /// What proves that this is the node.
    pub secret: SecretKey,
    /// What the partner's configuration names.
    pub public: PublicKey,
}

impl PartialEq for NodeKey {
    fn eq(&self, other: &Self) -> bool {
        self.file == other.file && self.public == other.public
    }
}

impl Eq for NodeKey {}

/// Why a key file cannot be used.
#[derive(Debug, thiserror::Error)]
enum KeyFileError {
    #[error("cannot be read: {0}")]
    Read(#[from] std::io::Error),
    #[error("is not a regular file")]
    NotAFile,
    #[error("can be used by others than its owner (mode {0:04o})")]
    Open(u32),
    #[error("holds more than a key")]
    TooLong,
    #[error("holds no secret key: {0}")]
    NoKey(#[from] KeyTextError),
}

/// `secret-key-file`: its key, read from the file.
pub(super) fn secret(reader: &mut Reader, text: &Text<'_>) -> Option<NodeKey> {
    let path = super::pair::absolute(reader, "secret-key-file", text)?;
    let error = match load(&path) {
        Ok(secret) => return Some(NodeKey { file: path, public: secret.public(), secret }),
        Err(error) => error,
    };
    let shown = path.display();
    let help = match &error {
        KeyFileError::Read(reason) if reason.kind() == std::io::ErrorKind::NotFound => {
            format!("make it with: ha-ctl keygen --out {shown}")
        }
        KeyFileError::Read(_) | KeyFileError::NotAFile => {
            "name the file that `ha-ctl keygen --out FILE` made on this node".into()
        }
        KeyFileError::Open(_) => {
            format!("run: chmod 600 {shown}; if others may have read it, make a new key with ha-ctl keygen")
        }
        KeyFileError::TooLong | KeyFileError::NoKey(_) => {
            "name the file that `ha-ctl keygen --out FILE` made; partner-key takes the public key".into()
        }
    };
    reader.report(text.span.clone(), format!("secret-key-file {} {error}", quoted(text.text)), help);
    None
}

fn load(path: &Path) -> Result<SecretKey, KeyFileError> {
    // Asked before it is opened, for opening a FIFO without a writer would wait for one.
    if !std::fs::metadata(path)?.is_file() {
        return Err(KeyFileError::NotAFile);
    }
    let file = File::open(path)?;
    let mode = file.metadata()?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(KeyFileError::Open(mode));
    }
    let mut text = Vec::new();
    file.take(MAX_KEY_FILE_BYTES + 1).read_to_end(&mut text)?;
    if text.len() as u64 > MAX_KEY_FILE_BYTES {
        return Err(KeyFileError::TooLong);
    }
    Ok(String::from_utf8_lossy(&text).parse()?)
}

/// `partner-key`.
pub(super) fn partner(reader: &mut Reader, text: &Text<'_>) -> Option<PublicKey> {
    match text.text.parse() {
        Ok(key) => Some(key),
        Err(error) => {
            // Not quoted: it may be a secret key that was pasted here.
            let message = format!("partner-key is no public key: {error}");
            let help = "write what `ha-ctl keygen --show FILE` prints on the partner";
            reader.report(text.span.clone(), message, help);
            None
        }
    }
}
