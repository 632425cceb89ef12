//! Golden vectors: every message of wire version 1, byte for byte, in `vectors/v1.txt`, and what a later
//! release may send in `vectors/later.txt`.
//!
//! A failure here means that two releases no longer understand each other. Change the file only for a
//! message that is new; `WRITE_VECTORS=1 cargo test -p sync --test vectors` appends what is missing and
//! changes nothing that is there.
#![allow(clippy::expect_used)] // the whole crate is a test

#[path = "vectors/messages.rs"]
mod messages;
#[path = "vectors/size.rs"]
mod size;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

/// The named byte strings of a fixture.
struct Vectors {
    path: PathBuf,
    known: BTreeMap<String, String>,
}

impl Vectors {
    fn open(name: &str) -> Self {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(name);
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let known = text
            .lines()
            .filter(|line| !line.starts_with('#') && !line.is_empty())
            .map(|line| line.split_once(' ').expect("a name, a space, hexadecimal digits"))
            .map(|(name, hex)| (name.to_owned(), hex.to_owned()))
            .collect();
        Self { path, known }
    }

    /// `bytes` must be what the fixture holds under `name`.
    fn check(&mut self, name: &str, bytes: &[u8]) {
        let mut hex = String::new();
        bytes.iter().for_each(|byte| write!(hex, "{byte:02x}").expect("strings take everything"));
        if std::env::var_os("WRITE_VECTORS").is_some() && !self.known.contains_key(name) {
            let text = std::fs::read_to_string(&self.path).unwrap_or_default();
            std::fs::write(&self.path, format!("{text}{name} {hex}\n")).expect("the fixture is writable");
            self.known.insert(name.to_owned(), hex.clone());
        }
        let known = self.known.remove(name);
        assert_eq!(known.as_deref(), Some(hex.as_str()), "vector {name}");
    }

    /// The bytes of a vector that this release only reads.
    fn take(&mut self, name: &str) -> Vec<u8> {
        let hex = self.known.remove(name).expect("the vector is in the fixture");
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex")).collect()
    }

    /// Every vector of the fixture was asked for.
    fn finish(self) {
        assert_eq!(self.known.into_keys().collect::<Vec<_>>(), [""; 0], "vectors without a test");
    }
}
