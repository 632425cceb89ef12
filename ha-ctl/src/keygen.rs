//! `ha-ctl keygen`: a node's key, made where it is used.
//!
//! The secret key never leaves the node: it is written to a file for its owner alone, and only the public
//! key is shown, which the partner's configuration names. An existing file is never replaced, for a node
//! that lost its key is a stranger to its partner.

use serde_json::{Value, json};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use sync::keys::{KeyTextError, SecretKey};

/// More than any key file holds.
const MAX_KEY_FILE_BYTES: u64 = 1_024;

/// A key that was made or looked at.
pub struct Made {
    secret: Option<SecretKey>,
    file: Option<PathBuf>,
    public: String,
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeygenError {
    /// There is a file already.
    #[error("{} exists and is not replaced", .0.display())]
    Exists(PathBuf),
    /// The file cannot be made.
    #[error("cannot write {}: {source}", file.display())]
    Write {
        /// Which one.
        file: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file cannot be read.
    #[error("cannot read {}: {source}", file.display())]
    Read {
        /// Which one.
        file: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It holds something else.
    #[error("{} holds no secret key: {why}", file.display())]
    NoKey {
        /// Which one.
        file: PathBuf,
        /// What is wrong with it.
        why: KeyTextError,
    },
    /// No randomness.
    #[error("the system gives no random numbers: {0}")]
    Random(io::Error),
}

impl KeygenError {
    /// What to do about it.
    pub fn hint(&self) -> String {
        match self {
            KeygenError::Exists(file) => format!(
                "show its public key with: ha-ctl keygen --show {}; or remove it first, and tell the partner the new key",
                file.display()
            ),
            KeygenError::Write { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                "make the folder first, for its owner alone: mkdir -m 0700".into()
            }
            KeygenError::Write { .. } => "name a file in a folder that you can write to".into(),
            KeygenError::Read { .. } | KeygenError::NoKey { .. } => {
                "name the file that `ha-ctl keygen --out FILE` made".into()
            }
            KeygenError::Random(_) => "the system is not ready yet: try again".into(),
        }
    }
}

/// A new key; with `out` in a file of that name.
pub fn make(out: Option<&Path>) -> Result<Made, KeygenError> {
    let mut random = [0; 32];
    fill(&mut random).map_err(KeygenError::Random)?;
    let secret = SecretKey::from_random(random);
    let public = secret.public().to_string();
    let Some(file) = out else { return Ok(Made { secret: Some(secret), file: None, public }) };
    write(file, &secret).map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => KeygenError::Exists(file.into()),
        _ => KeygenError::Write { file: file.into(), source },
    })?;
    Ok(Made { secret: None, file: Some(file.into()), public })
}

/// The key in a file.
pub fn show(file: &Path) -> Result<Made, KeygenError> {
    let unreadable = |source| KeygenError::Read { file: file.into(), source };
    if !std::fs::metadata(file).map_err(unreadable)?.is_file() {
        return Err(unreadable(io::Error::other("it is not a regular file")));
    }
    let mut text = Vec::new();
    let most = MAX_KEY_FILE_BYTES;
    File::open(file).and_then(|file| file.take(most).read_to_end(&mut text)).map_err(unreadable)?;
    let secret: SecretKey = String::from_utf8_lossy(&text)
        .parse()
        .map_err(|why| KeygenError::NoKey { file: file.into(), why })?;
    Ok(Made { secret: None, file: Some(file.into()), public: secret.public().to_string() })
}

impl Made {
    /// The public key on a line; behind the secret one if that went to no file.
    pub fn text(&self) -> String {
        match &self.secret {
            Some(secret) => format!("{}\n{}\n", secret.to_text(), self.public),
            None => format!("{}\n", self.public),
        }
    }

    /// The same for programs.
    pub fn data(&self) -> Value {
        match (&self.secret, &self.file) {
            (Some(secret), _) => json!({"public": self.public, "secret": secret.to_text()}),
            (None, file) => json!({"public": self.public, "file": file}),
        }
    }
}

/// A file that its owner alone can read, and that was not there: also no link to one.
fn write(path: &Path, secret: &SecretKey) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let written = file.write_all(format!("{}\n", secret.to_text()).as_bytes()).and_then(|()| file.sync_all());
    if written.is_err() {
        // Half a key is of no use, and would be in the way of the next attempt.
        let _ = std::fs::remove_file(path);
    }
    written
}

fn fill(bytes: &mut [u8]) -> io::Result<()> {
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match rustix::rand::getrandom(rest, rustix::rand::GetRandomFlags::empty()) {
            Ok(count) => filled += count,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
