//! The files behind `nameresolution.local`.

use std::fs;
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pillion_contract::{ComponentError, ErrorKind, ProcessMark, Registration};
use serde::{Deserialize, Serialize};

/// A file that is no valid entry is deleted when it is older; a younger one may belong to a newer version at work.
const JUNK_AFTER: Duration = Duration::from_secs(60);
/// Longest readable part of a folder name; common file systems end at 255 bytes.
const NAME_LIMIT: usize = 120;

/// The registry directory of one machine.
#[derive(Debug)]
pub(super) struct Directory {
    root: PathBuf,
    own: ProcessMark,
}

/// What one file says.
#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    app_id: String,
    namespace: String,
    host: String,
    /// The address others know it by, when they can reach it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    network_host: Option<String>,
    port: u16,
    http_port: u16,
    #[serde(flatten)]
    process: ProcessMark,
}

/// What the directory knows of an app.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Where its sidecars are reached from this machine.
    pub(super) addresses: Vec<String>,
    /// How the network knows the sidecars of this machine, those of every namespace.
    pub(super) on_network: Vec<String>,
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
        Self { root, own: ProcessMark::current() }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    fn folder(&self, namespace: &str, app_id: &str) -> PathBuf {
        self.root.join(file_name(namespace)).join(file_name(app_id))
    }

    /// Writes the entry of this process in one step: readers see all of it or nothing.
    pub(super) fn announce(&self, registration: &Registration) -> Result<EntryFile, ComponentError> {
        let entry = Entry {
            app_id: registration.app_id.clone(),
            namespace: registration.namespace.clone(),
            host: registration.local_host.clone(),
            network_host: network_address(registration).map(|address| address.to_string()),
            port: registration.internal_port,
            http_port: registration.http_port,
            process: self.own.clone(),
        };
        let folder = self.folder(&registration.namespace, &registration.app_id);
        let name = format!("{}-{}.json", self.own.pid, registration.internal_port);
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

    /// The live sidecars of an app: those of the namespace, or, when it has none there, of all the others; in file name order.
    /// Deletes entries of dead processes on the way.
    pub(super) fn find(&self, namespace: &str, app_id: &str) -> Result<Found, ComponentError> {
        let (mut wanted, mut others, mut on_network) = (Vec::new(), Vec::new(), Vec::new());
        for folder in list(&self.root)? {
            for path in list(&folder.join(file_name(app_id)))? {
                // Two ids may share a folder on a file system that ignores case.
                let Some(entry) = self.live_entry(&path).filter(|entry| entry.app_id == app_id) else { continue };
                let address = join_host_port(&entry.host, entry.port);
                if entry.namespace == namespace {
                    wanted.push(address)
                } else {
                    others.push(address)
                }
                on_network.extend(entry.network_host.map(|host| join_host_port(&host, entry.port)));
            }
        }
        Ok(Found { addresses: if wanted.is_empty() { others } else { wanted }, on_network })
    }

    fn live_entry(&self, path: &Path) -> Option<Entry> {
        let text = fs::read(path).ok()?;
        let Ok(entry) = serde_json::from_slice::<Entry>(&text) else {
            if is_older_than(path, JUNK_AFTER) {
                let _ = fs::remove_file(path); // somebody else was faster
            }
            return None;
        };
        if !entry.process.is_alive(&self.own) {
            let _ = fs::remove_file(path); // somebody else was faster
            return None;
        }
        Some(entry)
    }
}

/// What a folder holds, in name order; nothing when there is no such folder.
fn list(folder: &Path) -> Result<Vec<PathBuf>, ComponentError> {
    let files = match fs::read_dir(folder) {
        Ok(files) => files,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(error) => {
            let message = format!("cannot read the local registry {}", folder.display());
            return Err(ComponentError::caused(ErrorKind::Unavailable, message, error));
        }
    };
    let mut paths: Vec<PathBuf> = files.filter_map(|file| Some(file.ok()?.path())).collect();
    paths.sort_unstable();
    Ok(paths)
}

/// The address a sidecar is reached at from other machines, if it is.
pub(super) fn network_address(registration: &Registration) -> Option<IpAddr> {
    registration.host.parse().ok().filter(|address: &IpAddr| !address.is_loopback())
}

/// `host:port`, with brackets around an IPv6 host.
fn join_host_port(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

fn is_older_than(path: &Path, age: Duration) -> bool {
    let modified = fs::metadata(path).and_then(|metadata| metadata.modified());
    modified.is_ok_and(|at| at.elapsed().is_ok_and(|elapsed| elapsed > age))
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
        let hash = text
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
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
    fn ipv6_hosts_get_brackets() {
        assert_eq!(join_host_port("::1", 80), "[::1]:80");
        assert_eq!(join_host_port("10.0.0.1", 80), "10.0.0.1:80");
    }
}
