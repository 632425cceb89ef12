//! The term on stable storage (decision 18), written by a thread of its own: a disk that hangs must not
//! silence the heartbeats.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::{Builder, JoinHandle};
use sync::ids::Term;

const NAME: &str = "term";

/// Writes terms in the background.
pub struct TermFile {
    to_write: Option<SyncSender<Term>>,
    written: Receiver<Result<Term, String>>,
    thread: Option<JoinHandle<()>>,
    /// What found the writer busy.
    waiting: Option<Term>,
}

impl TermFile {
    /// Opens the file in `folder`, which is made if it is not there; returns the term that it holds.
    ///
    /// # Errors
    /// If the folder cannot be made or the file not be read or understood: a node that forgot its terms
    /// must not go on with guesses.
    pub fn open(folder: &Path) -> io::Result<(Self, Term)> {
        fs::create_dir_all(folder)?;
        let path = folder.join(NAME);
        let term = read(&path)?;
        let (to_write, orders) = sync_channel(1);
        let (done, written) = sync_channel(4);
        let thread =
            Builder::new().name("term-file".into()).spawn(move || write_all(&path, &orders, &done))?;
        Ok((Self { to_write: Some(to_write), written, thread: Some(thread), waiting: None }, term))
    }

    /// Asks for a term to be written. The newest one counts.
    pub fn write(&mut self, term: Term) {
        self.waiting = Some(term);
        self.push();
    }

    /// What was written, or why it was not.
    pub fn poll(&mut self) -> Option<Result<Term, String>> {
        self.push();
        self.written.try_recv().ok()
    }

    fn push(&mut self) {
        let (Some(term), Some(to_write)) = (self.waiting.take(), &self.to_write) else { return };
        if let Err(TrySendError::Full(term)) = to_write.try_send(term) {
            self.waiting = Some(term);
        }
    }
}

impl Drop for TermFile {
    fn drop(&mut self) {
        self.to_write = None;
        if let Some(thread) = self.thread.take() {
            // It ends with its channel; what it could not write it has told.
            let _ = thread.join();
        }
    }
}

fn write_all(path: &Path, orders: &Receiver<Term>, done: &SyncSender<Result<Term, String>>) {
    for term in orders {
        let result = write(path, term)
            .map(|()| term)
            .map_err(|error| format!("cannot write the term to {}: {error}", path.display()));
        // Nobody listens only at the end.
        if done.send(result).is_err() {
            return;
        }
    }
}

/// Beside the old one, then in its place: a crash leaves one of the two.
fn write(path: &Path, term: Term) -> io::Result<()> {
    let fresh: PathBuf = path.with_extension("new");
    let mut file = File::create(&fresh)?;
    writeln!(file, "{term}")?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    if let Some(folder) = path.parent() {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

fn read(path: &Path) -> io::Result<Term> {
    let text = match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Term::ZERO),
        read => read?,
    };
    let term = text.trim().parse().ok().and_then(Term::new);
    term.ok_or_else(|| {
        let what = format!("{} does not hold a term; remove it if the pair is new", path.display());
        io::Error::new(io::ErrorKind::InvalidData, what)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("understudy-term-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        folder
    }

    fn wait(file: &mut TermFile) -> Result<Term, String> {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(result) = file.poll() {
                return result;
            }
            assert!(Instant::now() < end);
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn a_term_survives_the_process() {
        let folder = folder("survives");
        let (mut file, term) = TermFile::open(&folder).unwrap();
        assert_eq!(term, Term::ZERO);
        for number in [2, 4] {
            file.write(Term::new(number).unwrap());
            assert_eq!(wait(&mut file), Ok(Term::new(number).unwrap()));
        }
        drop(file);
        let (_file, term) = TermFile::open(&folder).unwrap();
        assert_eq!(term, Term::new(4).unwrap());
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn what_is_no_term_is_not_guessed_at() {
        let folder = folder("nonsense");
        fs::create_dir_all(&folder).unwrap();
        for text in ["", "x", "-1", "1048576"] {
            fs::write(folder.join(NAME), text).unwrap();
            let error = TermFile::open(&folder).err().unwrap().to_string();
            assert!(error.contains("does not hold a term"), "{error}");
        }
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_disk_that_takes_nothing_is_told_of() {
        let folder = folder("gone");
        let (mut file, _) = TermFile::open(&folder).unwrap();
        fs::remove_dir_all(&folder).unwrap();
        file.write(Term::new(2).unwrap());
        assert!(wait(&mut file).unwrap_err().starts_with("cannot write the term"));
    }
}
