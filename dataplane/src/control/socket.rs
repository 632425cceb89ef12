//! The control socket's place in the file system.
//!
//! Two daemons on one socket would be two firewalls that an operator takes for one, so the second one is
//! refused: whoever answers a connection lives. What does not answer is left over from a crash and is
//! removed. A lock on the folder, held only meanwhile, keeps two starters from judging each other stale.

use rustix::fs::{FlockOperation, flock};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use rustix::process::umask;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;
use thiserror::Error;

/// A bound socket, removed when dropped.
#[derive(Debug)]
pub struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode: only our own file is removed.
    identity: (u64, u64),
}

/// Why there is no control socket.
#[derive(Debug, Error)]
pub enum SocketError {
    /// Somebody answers there.
    #[error(
        "another daemon answers on the control socket {}; stop it first, or give this one another \
         node.control-socket", path.display()
    )]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// A file that is no socket.
    #[error("{} exists and is no socket; remove it or choose another node.control-socket", path.display())]
    NotASocket {
        /// The file.
        path: PathBuf,
    },
    /// Another starter holds the lock.
    #[error("another daemon is just starting in {}; wait for it and try again", folder.display())]
    Starting {
        /// The folder.
        folder: PathBuf,
    },
    /// Anything else.
    #[error("cannot {what} {}: {source}; see node.control-socket", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
}

const LOCK_ATTEMPTS: u32 = 50;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

impl ControlSocket {
    /// Binds `path` for the owner alone (mode 0600); its folder is made where it is missing.
    pub fn bind(path: &Path) -> Result<Self, SocketError> {
        let failed = |what| move |source: io::Error| SocketError::Io { what, path: path.to_owned(), source };
        let folder = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        fs::create_dir_all(folder).map_err(failed("make the folder of"))?;
        let _lock = lock(folder)?;
        clear(path)?;
        // The mode is right from the first moment, not only after a chmod.
        let before = umask(rustix::fs::Mode::from_raw_mode(0o177));
        let bound = UnixListener::bind(path);
        umask(before);
        let listener = bound.map_err(failed("bind"))?;
        let metadata = fs::symlink_metadata(path).map_err(failed("look at"))?;
        let socket = Self { listener, path: path.to_owned(), identity: (metadata.dev(), metadata.ino()) };
        socket.listener.set_nonblocking(true).map_err(failed("set up"))?;
        Ok(socket)
    }

    /// A handle on the listener.
    pub fn listener(&self) -> io::Result<UnixListener> {
        self.listener.try_clone()
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path).is_ok_and(|m| (m.dev(), m.ino()) == self.identity);
        if ours {
            // At the very end there is nobody to tell.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Held until the file is closed.
fn lock(folder: &Path) -> Result<File, SocketError> {
    let failed = |source| SocketError::Io { what: "lock the folder", path: folder.to_owned(), source };
    let file = File::open(folder).map_err(failed)?;
    for _ in 0..LOCK_ATTEMPTS {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK) => std::thread::sleep(LOCK_PAUSE),
            Err(errno) => return Err(failed(errno.into())),
        }
    }
    Err(SocketError::Starting { folder: folder.to_owned() })
}

/// Makes the path free, unless somebody lives there.
fn clear(path: &Path) -> Result<(), SocketError> {
    let failed = |what| move |source: io::Error| SocketError::Io { what, path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed("look at")(error)),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(SocketError::NotASocket { path: path.to_owned() });
        }
        Ok(_) => {}
    }
    match answers(path) {
        Ok(true) => Err(SocketError::InUse { path: path.to_owned() }),
        Ok(false) => fs::remove_file(path).map_err(failed("remove the left-over")),
        Err(errno) => Err(failed("try")(errno.into())),
    }
}

/// True if a process listens at the socket. Does not wait: a full backlog is an answer as well.
fn answers(path: &Path) -> rustix::io::Result<bool> {
    use rustix::io::Errno;
    let address = SocketAddrUnix::new(path)?;
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let fd = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    match connect(&fd, &address) {
        Ok(()) | Err(Errno::AGAIN) => Ok(true),
        Err(Errno::CONNREFUSED | Errno::NOENT) => Ok(false),
        // A socket of another type is somebody's, too.
        Err(Errno::PROTOTYPE) => Ok(true),
        Err(errno) => Err(errno),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// A folder of the test's own.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("us-socket-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn the_socket_is_for_its_owner_alone_and_goes_with_the_daemon() {
        let folder = Folder::new("mode");
        let path = folder.0.join("deep/a.sock");
        let socket = ControlSocket::bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        drop(socket);
        assert!(!path.exists());
    }

    #[test]
    fn a_second_daemon_is_refused_and_the_first_one_keeps_its_socket() {
        let folder = Folder::new("second");
        let path = folder.0.join("a.sock");
        let first = ControlSocket::bind(&path).unwrap();
        let refusal = ControlSocket::bind(&path).unwrap_err();
        assert!(matches!(refusal, SocketError::InUse { .. }), "{refusal}");
        assert!(refusal.to_string().contains("another daemon answers on the control socket"));
        assert!(path.exists());
        drop(first);
    }

    #[test]
    fn what_a_crash_left_over_is_removed() {
        let folder = Folder::new("stale");
        let path = folder.0.join("a.sock");
        fs::create_dir_all(&folder.0).unwrap();
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "closing does not unlink");
        let socket = ControlSocket::bind(&path).unwrap();
        drop(socket);
        assert!(!path.exists());
    }

    #[test]
    fn a_file_of_somebody_else_is_left_alone() {
        let folder = Folder::new("file");
        let path = folder.0.join("a.sock");
        fs::create_dir_all(&folder.0).unwrap();
        fs::write(&path, "precious").unwrap();
        assert!(matches!(ControlSocket::bind(&path), Err(SocketError::NotASocket { .. })));
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[test]
    fn a_socket_that_was_replaced_is_not_removed() {
        let folder = Folder::new("replaced");
        let path = folder.0.join("a.sock");
        let ours = ControlSocket::bind(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let _theirs = UnixListener::bind(&path).unwrap();
        drop(ours);
        assert!(path.exists());
    }

    #[test]
    fn of_many_starters_at_once_exactly_one_wins() {
        let folder = Folder::new("race");
        let path = folder.0.join("a.sock");
        let start = std::sync::Barrier::new(8);
        let results: Vec<_> = std::thread::scope(|scope| {
            let starters: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        start.wait();
                        ControlSocket::bind(&path)
                    })
                })
                .collect();
            starters.into_iter().map(|starter| starter.join().unwrap()).collect()
        });
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1, "{results:?}");
    }

    #[test]
    fn a_path_that_cannot_be_says_so() {
        let long = Path::new("/tmp").join("x".repeat(200));
        let error = ControlSocket::bind(&long).unwrap_err().to_string();
        assert!(
            error.starts_with("cannot bind /tmp/xxx") && error.ends_with("see node.control-socket"),
            "{error}"
        );
    }
}
