//! A member: one component that subscribes, seen by the others through two files in `members/`.
//!
//! *Job:* `<name>.lock` is locked as long as the member lives, because the kernel drops the lock with the process, also
//! across containers that share the directory; `<name>.sock` takes wake-ups. *Invariant:* a name is used once, and the
//! lock is held before anybody can read the name in the database.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

use uuid::Uuid;

/// Longest path a socket address can hold, with some room.
const SOCKET_PATH_LIMIT: usize = 100;
/// Files without a row in the database may belong to a member that is just joining when they are younger.
const ORPHAN_AFTER: Duration = Duration::from_secs(60);

/// The `members` folder of a broker directory.
pub(super) struct Folder {
    path: PathBuf,
    handle: File,
}

/// The files of this process; dropping it removes them.
pub(super) struct Presence {
    pub(super) name: String,
    files: [PathBuf; 2],
    _lock: File,
}

impl Drop for Presence {
    fn drop(&mut self) {
        for file in &self.files {
            let _ = fs::remove_file(file); // gone already
        }
    }
}

impl Folder {
    pub(super) fn open(directory: &Path) -> io::Result<Self> {
        let path = directory.join("members");
        match fs::create_dir(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let handle = File::open(&path)?;
        Ok(Self { path, handle })
    }

    /// Makes the files of a new member; no socket where the system refuses one, then polling has to do.
    pub(super) fn enter(&self) -> io::Result<(Presence, Option<UnixDatagram>)> {
        let name = Uuid::new_v4().simple().to_string()[..16].to_owned();
        let lock_path = self.lock_path(&name);
        let lock = File::create_new(&lock_path)?;
        lock.try_lock()?;
        let socket = UnixDatagram::bind(self.socket_path(&name)).and_then(|socket| {
            socket.set_nonblocking(true)?;
            Ok(socket)
        });
        let files = [lock_path, self.path.join(format!("{name}.sock"))];
        Ok((Presence { name, files, _lock: lock }, socket.ok()))
    }

    /// Whether the process of a member still runs; when in doubt it does.
    pub(super) fn is_alive(&self, name: &str) -> bool {
        match File::open(self.lock_path(name)) {
            Ok(file) => matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)),
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        }
    }

    /// Removes the files of a dead member.
    pub(super) fn remove(&self, name: &str) {
        for ending in ["lock", "sock"] {
            let _ = fs::remove_file(self.path.join(format!("{name}.{ending}"))); // somebody else was faster
        }
    }

    /// Removes old files of members that died before they stood in the database.
    pub(super) fn remove_orphans(&self, known: &[String]) {
        let Ok(files) = fs::read_dir(&self.path) else { return };
        for file in files.flatten() {
            let path = file.path();
            let Some(name) = path.file_stem().and_then(|stem| stem.to_str()) else { continue };
            let modified = file.metadata().and_then(|metadata| metadata.modified());
            let is_old = modified.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > ORPHAN_AFTER));
            if is_old && !known.iter().any(|known| known == name) && !self.is_alive(name) {
                self.remove(name);
            }
        }
    }

    /// Where to send a wake-up for a member.
    pub(super) fn socket_path(&self, name: &str) -> PathBuf {
        let file = format!("{name}.sock");
        let path = self.path.join(&file);
        if path.as_os_str().len() <= SOCKET_PATH_LIMIT {
            return path;
        }
        // A path through the open folder is short however deep the folder lies; where there is no /proc, polling has to do.
        PathBuf::from(format!("/proc/self/fd/{}", self.handle.as_raw_fd())).join(file)
    }

    fn lock_path(&self, name: &str) -> PathBuf {
        self.path.join(format!("{name}.lock"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_lives_as_long_as_its_lock() {
        let directory = tempfile::tempdir().unwrap();
        let folder = Folder::open(directory.path()).unwrap();
        let other = Folder::open(directory.path()).unwrap();
        let (presence, socket) = folder.enter().unwrap();
        let name = presence.name.clone();
        assert!(socket.is_some() && other.is_alive(&name) && folder.is_alive(&name));
        other.remove_orphans(&[]);
        assert!(other.is_alive(&name), "young files stay");
        drop(presence);
        assert!(!other.is_alive(&name) && !other.is_alive("unknown"));
        assert_eq!(fs::read_dir(directory.path().join("members")).unwrap().count(), 0);
    }

    #[test]
    fn a_deep_directory_has_wake_ups_too() {
        let directory = tempfile::tempdir().unwrap();
        let deep = directory.path().join("x".repeat(150));
        fs::create_dir(&deep).unwrap();
        let folder = Folder::open(&deep).unwrap();
        let (presence, socket) = folder.enter().unwrap();
        UnixDatagram::unbound().unwrap().send_to(b"1", folder.socket_path(&presence.name)).unwrap();
        assert_eq!(socket.unwrap().recv(&mut [0; 8]).unwrap(), 1);
    }
}
