//! `ha-ctl keygen` as a program: what it prints, what it writes, and what it never overwrites.
// Helpers outside of test functions may unwrap as tests do.
#![allow(clippy::unwrap_used)]

use serde_json::Value;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use sync::keys::{PublicKey, SecretKey};

/// A folder of the test's own.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("ha-ctl-keygen-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn keygen(arguments: &[&str], file: Option<&Path>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ha-ctl"));
    command.arg("keygen").args(arguments).args(file).output().unwrap()
}

fn out(output: &Output) -> &str {
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    std::str::from_utf8(&output.stdout).unwrap()
}

#[track_caller]
fn failed(output: &Output, parts: &[&str]) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{stderr}");
    parts.iter().for_each(|part| assert!(stderr.contains(part), "{part:?} is not in {stderr}"));
}

#[test]
fn b_17_a_key_is_written_for_its_owner_alone_and_its_public_half_shown() {
    let folder = Folder::new("out");
    let file = folder.file("a.key");
    let output = keygen(&["--out"], Some(&file));
    let public: PublicKey = out(&output).trim().parse().unwrap();
    assert_eq!(out(&output), format!("{public}\n"), "nothing else is printed");
    let text = std::fs::read_to_string(&file).unwrap();
    let secret: SecretKey = text.parse().unwrap();
    assert_eq!(secret.public(), public);
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o600);
    assert_eq!(out(&keygen(&["--show"], Some(&file))), format!("{public}\n"));

    let json: Value = serde_json::from_str(out(&keygen(&["--json=line", "--show"], Some(&file)))).unwrap();
    assert_eq!(json, serde_json::json!({"public": public.to_string(), "file": file}));
}

#[test]
fn b_17_a_key_that_is_there_is_never_replaced() {
    let folder = Folder::new("exists");
    let file = folder.file("a.key");
    out(&keygen(&["--out"], Some(&file)));
    let before = std::fs::read_to_string(&file).unwrap();
    failed(&keygen(&["--out"], Some(&file)), &["exists and is not replaced", "ha-ctl keygen --show"]);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), before);
    // Not through a link either, not even one that leads nowhere.
    let link = folder.file("link.key");
    symlink(folder.file("nowhere"), &link).unwrap();
    failed(&keygen(&["--out"], Some(&link)), &["exists and is not replaced"]);
    assert!(!folder.file("nowhere").exists());
    failed(&keygen(&["--out"], Some(&folder.file("deep/a.key"))), &["cannot write", "mkdir -m 0700"]);
}

#[test]
fn without_a_file_both_keys_are_printed_and_no_two_are_equal() {
    let one = keygen(&[], None);
    let lines: Vec<&str> = out(&one).lines().collect();
    let secret: SecretKey = lines[0].parse().unwrap();
    assert_eq!((lines.len(), secret.public().to_string().as_str()), (2, lines[1]));
    assert_ne!(one.stdout, keygen(&[], None).stdout);
    let json: Value = serde_json::from_str(out(&keygen(&["--json"], None))).unwrap();
    let secret: SecretKey = json["secret"].as_str().unwrap().parse().unwrap();
    assert_eq!(json["public"], secret.public().to_string());
}

#[test]
fn what_is_no_key_is_not_shown() {
    let folder = Folder::new("show");
    failed(&keygen(&["--show"], Some(&folder.file("absent"))), &["cannot read", "No such file"]);
    failed(&keygen(&["--show"], Some(&folder.0)), &["it is not a regular file"]);
    failed(&keygen(&["--show"], Some(Path::new("/dev/zero"))), &["it is not a regular file"]);
    let file = folder.file("public");
    std::fs::write(&file, SecretKey::from_random([1; 32]).public().to_string()).unwrap();
    failed(&keygen(&["--show"], Some(&file)), &["holds no secret key", "is this the public key?"]);
    std::fs::write(&file, vec![0xff; 5_000]).unwrap();
    failed(&keygen(&["--show"], Some(&file)), &["holds no secret key", "`ha-ctl keygen --out FILE` made"]);
    let both = keygen(&["--show", "x", "--out", "y"], None);
    assert_eq!(both.status.code(), Some(2));
}
