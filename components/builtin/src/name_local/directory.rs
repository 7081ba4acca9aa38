//! The files behind `nameresolution.local`.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use pillion_contract::{ComponentError, ErrorKind, Registration};
use serde::{Deserialize, Serialize};

/// A file that is no valid entry is deleted when it is older; a younger one may belong to a newer version at work.
const JUNK_AFTER: Duration = Duration::from_secs(60);
/// Longest readable part of a folder name; common file systems end at 255 bytes.
const NAME_LIMIT: usize = 120;

/// The registry directory of one machine.
#[derive(Debug)]
pub(super) struct Directory {
    root: PathBuf,
    boot: String,
}

/// What one file says.
#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    app_id: String,
    namespace: String,
    host: String,
    port: u16,
    http_port: u16,
    pid: u32,
    /// When the process started, in ticks since boot, so that a reused pid is noticed; 0 where the system does not tell.
    started: u64,
    /// The boot it happened in; empty where the system does not tell.
    boot: String,
}

/// An announced entry; dropping it removes the file.
#[derive(Debug)]
pub(super) struct EntryFile(PathBuf);

impl Drop for EntryFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0); // gone already, or found dead by its pid later
    }
}

impl Directory {
    pub(super) fn new(root: PathBuf) -> Self {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned()).unwrap_or_default();
        Self { root, boot }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    fn folder(&self, namespace: &str, app_id: &str) -> PathBuf {
        self.root.join(file_name(namespace)).join(file_name(app_id))
    }

    /// Writes the entry of this process in one step: readers see all of it or nothing.
    pub(super) fn announce(&self, registration: &Registration) -> Result<EntryFile, ComponentError> {
        let pid = std::process::id();
        let entry = Entry {
            app_id: registration.app_id.clone(),
            namespace: registration.namespace.clone(),
            host: registration.host.clone(),
            port: registration.internal_port,
            http_port: registration.http_port,
            pid,
            started: start_time(pid).unwrap_or_default(),
            boot: self.boot.clone(),
        };
        let folder = self.folder(&registration.namespace, &registration.app_id);
        let name = format!("{pid}-{}.json", registration.internal_port);
        let write = || -> io::Result<PathBuf> {
            fs::create_dir_all(&folder)?;
            let (draft, path) = (folder.join(format!(".{name}.new")), folder.join(&name));
            let mut file = fs::File::create(&draft)?;
            file.write_all(&serde_json::to_vec(&entry)?)?;
            fs::rename(&draft, &path)?;
            Ok(path)
        };
        write().map(EntryFile).map_err(|error| {
            let message = format!("cannot announce app {} in {}", registration.app_id, folder.display());
            ComponentError::caused(ErrorKind::Unavailable, message, error)
        })
    }

    /// The addresses of an app's live sidecars, in file name order; deletes entries of dead processes on the way.
    pub(super) fn addresses(&self, namespace: &str, app_id: &str) -> Result<Vec<String>, ComponentError> {
        let folder = self.folder(namespace, app_id);
        let files = match fs::read_dir(&folder) {
            Ok(files) => files,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => {
                let message = format!("cannot read the local registry {}", folder.display());
                return Err(ComponentError::caused(ErrorKind::Unavailable, message, error));
            }
        };
        let mut paths: Vec<PathBuf> = files.filter_map(|file| Some(file.ok()?.path())).collect();
        paths.sort_unstable();
        Ok(paths.iter().filter_map(|path| self.live_address(path, namespace, app_id)).collect())
    }

    fn live_address(&self, path: &Path, namespace: &str, app_id: &str) -> Option<String> {
        let text = fs::read(path).ok()?;
        let Ok(entry) = serde_json::from_slice::<Entry>(&text) else {
            if is_older_than(path, JUNK_AFTER) {
                let _ = fs::remove_file(path); // somebody else was faster
            }
            return None;
        };
        if !self.is_alive(&entry) {
            let _ = fs::remove_file(path); // somebody else was faster
            return None;
        }
        // Two ids may share a folder on a file system that ignores case.
        (entry.namespace == namespace && entry.app_id == app_id).then(|| join_host_port(&entry.host, entry.port))
    }

    fn is_alive(&self, entry: &Entry) -> bool {
        if entry.boot != self.boot && !entry.boot.is_empty() && !self.boot.is_empty() {
            return false;
        }
        match start_time(entry.pid) {
            Some(started) => entry.started == 0 || entry.started == started,
            None => process_exists(entry.pid) && start_time(std::process::id()).is_none(),
        }
    }
}

/// `host:port`, with brackets around an IPv6 host.
fn join_host_port(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

fn is_older_than(path: &Path, age: Duration) -> bool {
    let modified = fs::metadata(path).and_then(|metadata| metadata.modified());
    modified.is_ok_and(|at| at.elapsed().is_ok_and(|elapsed| elapsed > age))
}

/// Field 22 of `/proc/<pid>/stat`; `None` when there is no such process or no `/proc`.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the command in parentheses and may hold anything, so count from the last parenthesis.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?;
    let started = fields.nth(18)?.parse().ok()?;
    // A zombie keeps its entry until its parent looks, but serves nobody.
    (!matches!(state, "Z" | "X")).then_some(started)
}

fn process_exists(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    pid.is_some_and(|pid| !matches!(rustix::process::test_kill_process(pid), Err(rustix::io::Errno::SRCH)))
}

/// A folder name for any text: letters, digits, `-`, `_` and inner dots stay, the rest is percent-encoded; a long one is
/// cut and told apart by a hash.
fn file_name(text: &str) -> String {
    let mut name = String::with_capacity(text.len());
    for (index, byte) in text.bytes().enumerate() {
        let is_plain = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') || (byte == b'.' && index > 0);
        if is_plain {
            name.push(char::from(byte));
        } else {
            name.push_str(&format!("%{byte:02X}"));
        }
    }
    if name.is_empty() {
        return "%".to_owned();
    }
    if name.len() > NAME_LIMIT {
        // FNV-1a: only to tell names apart; entries carry the whole id and readers compare it.
        let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
        name.truncate(NAME_LIMIT);
        name.push_str(&format!("~{hash:016x}"));
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_app_id_is_a_safe_folder_name() {
        let cases = [
            ("shop-1_a.b", "shop-1_a.b"),
            ("", "%"),
            (".", "%2E"),
            ("..", "%2E."),
            ("../../etc/passwd", "%2E.%2F..%2Fetc%2Fpasswd"),
            ("a b", "a%20b"),
            ("ü\0", "%C3%BC%00"),
        ];
        for (text, wanted) in cases {
            assert_eq!(file_name(text), wanted);
        }
        let (long, other) = (file_name(&"x".repeat(5000)), file_name(&"x".repeat(5001)));
        assert!(long.len() < 200 && long != other, "{long}");
    }

    #[test]
    fn a_process_is_known_by_its_start() {
        let own = start_time(std::process::id()).unwrap();
        assert!(own > 0);
        assert!(process_exists(std::process::id()));
        assert_eq!(start_time(u32::MAX), None);
        assert!(!process_exists(u32::MAX));
    }

    #[test]
    fn ipv6_hosts_get_brackets() {
        assert_eq!(join_host_port("::1", 80), "[::1]:80");
        assert_eq!(join_host_port("10.0.0.1", 80), "10.0.0.1:80");
    }
}
