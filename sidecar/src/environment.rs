//! What a sidecar gets from the process and the machine around it: variables, host name and address, directories, event loops.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::PathBuf;

use pillion_runtime::loops::Loops;
use sha2::{Digest as _, Sha256};

/// Start of the range of ports made from the app id. *Source:* spec flags.md §1 `--dapr-internal-grpc-port`.
const STABLE_PORT_START: u16 = 47300;
/// *Source:* spec components.md §5.2.
const SOCKETS_DIR: &str = "/tmp/dapr-components-sockets";

/// The environment of one sidecar, as values; made once from the process, or by hand in tests.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    variables: HashMap<String, String>,
    /// Host name; empty when the system has none.
    pub host_name: String,
    /// Working directory.
    pub working_directory: PathBuf,
    /// Numeric user id.
    pub user_id: u32,
    /// What serves connections besides the event loop the sidecar starts on; none in [`Self::of_process`].
    pub loops: Loops,
}

impl Environment {
    /// The environment of this process. Variables that are not UTF-8 are left out.
    pub fn of_process() -> Self {
        Self {
            variables: std::env::vars_os()
                .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
                .collect(),
            host_name: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            working_directory: std::env::current_dir().unwrap_or_default(),
            user_id: rustix::process::getuid().as_raw(),
            loops: Loops::default(),
        }
    }

    /// Sets a variable, for tests and embedders.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.to_owned(), value.to_owned());
        self
    }

    /// A variable; `None` when unset.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }

    /// A variable that is set and not empty.
    pub fn non_empty(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|value| !value.is_empty())
    }

    /// Whether a variable says yes. *Source:* the words the original's switches take.
    pub fn is_truthy(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| {
            matches!(value.trim().to_ascii_lowercase().as_str(), "y" | "yes" | "true" | "t" | "on" | "1")
        })
    }

    /// Where embedded components keep their data: below `$DAPR_RUNTIME_PATH`, the home directory of the user, or the
    /// directory for temporary files. Two sidecars of one user find the same place even when one has no `HOME`.
    pub fn data_dir(&self) -> PathBuf {
        let root = self.non_empty("DAPR_RUNTIME_PATH").or_else(|| self.non_empty("HOME")).map(PathBuf::from);
        match root.or_else(|| self.home_of_account()) {
            Some(root) => root.join(".dapr").join("pillion"),
            None => std::env::temp_dir().join(format!("pillion-{}", self.user_id)),
        }
    }

    /// Where pluggable components have their sockets.
    pub fn sockets_dir(&self) -> PathBuf {
        self.get("DAPR_COMPONENTS_SOCKETS_FOLDER").unwrap_or(SOCKETS_DIR).into()
    }

    /// The home directory the system's accounts file names for the user, when it exists.
    fn home_of_account(&self) -> Option<PathBuf> {
        let accounts = std::fs::read_to_string("/etc/passwd").ok()?;
        let id = self.user_id.to_string();
        let fields = accounts.lines().map(|line| line.split(':').collect::<Vec<_>>());
        let home = fields
            .filter(|fields| fields.len() > 5)
            .find(|fields| fields[2] == id)
            .map(|fields| PathBuf::from(fields[5]))?;
        home.is_dir().then_some(home)
    }

    /// The address other hosts reach this one at: `DAPR_HOST_IP`, else the source address the kernel would choose (nothing
    /// is sent), else the loopback address.
    pub fn host_address(&self) -> String {
        if let Some(address) = self.non_empty("DAPR_HOST_IP") {
            return address.to_owned();
        }
        let chosen = |local: &str, remote: &str| -> Option<IpAddr> {
            let socket = UdpSocket::bind(local).ok()?;
            socket.connect(remote).ok()?;
            socket.local_addr().ok().map(|address: SocketAddr| address.ip()).filter(|ip| !ip.is_unspecified())
        };
        let address = chosen("0.0.0.0:0", "192.0.2.1:80").or_else(|| chosen("[::]:0", "[2001:db8::1]:80"));
        address.map_or_else(|| "127.0.0.1".to_owned(), |address| address.to_string())
    }

    /// The internal port an app gets when none is given: the same after a restart, as long as nobody else has it.
    pub fn stable_port(&self, app_id: &str) -> u16 {
        let text = format!("{app_id}|{}|{}|{}", self.working_directory.display(), self.user_id, self.host_name);
        let hash = Sha256::digest(text.as_bytes());
        STABLE_PORT_START + u16::from_le_bytes([hash[0], hash[1]]) % (u16::MAX - STABLE_PORT_START)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_lies_below_the_runtime_path_before_home() {
        let home = Environment::default().with("HOME", "/h");
        assert_eq!(home.data_dir(), PathBuf::from("/h/.dapr/pillion"));
        assert_eq!(home.with("DAPR_RUNTIME_PATH", "/r").data_dir(), PathBuf::from("/r/.dapr/pillion"));
        let nobody = Environment { user_id: u32::MAX - 7, ..Environment::default() };
        assert!(nobody.data_dir().ends_with(format!("pillion-{}", u32::MAX - 7)));
    }

    #[test]
    fn stable_ports_are_stable_and_in_range() {
        let environment = Environment {
            host_name: "host".into(),
            working_directory: "/w".into(),
            user_id: 7,
            ..Environment::default()
        };
        let port = environment.stable_port("app");
        assert_eq!(port, environment.stable_port("app"));
        assert!((0..200).all(|index| environment.stable_port(&index.to_string()) >= STABLE_PORT_START));
        assert!((0..20).any(|index| environment.stable_port(&index.to_string()) != port));
    }

    #[test]
    fn sockets_of_pluggable_components_have_a_default_place() {
        assert_eq!(Environment::default().sockets_dir(), PathBuf::from("/tmp/dapr-components-sockets"));
        let given = Environment::default().with("DAPR_COMPONENTS_SOCKETS_FOLDER", "/s");
        assert_eq!(given.sockets_dir(), PathBuf::from("/s"));
    }

    #[test]
    fn the_host_address_can_be_given() {
        assert_eq!(Environment::default().with("DAPR_HOST_IP", "10.1.2.3").host_address(), "10.1.2.3");
        assert!(!Environment::default().host_address().is_empty());
    }
}
