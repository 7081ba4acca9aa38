//! Ports for sidecars: explicit ones are checked, the others are free ones, all distinct.
//!
//! Free ports are looked for below the range from which the operating system takes the local ports of connections, so that a client
//! that connects somewhere cannot take one before daprd binds it. Candidates stay bound until every port of every application is
//! chosen, and commands begin their search at different places, so that none is handed out twice.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, TcpListener};

use anyhow::{Context as _, Result, bail};

/// The ports a sidecar listens on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ports {
    pub(crate) http: u16,
    pub(crate) grpc: u16,
    pub(crate) internal_grpc: u16,
    pub(crate) metrics: u16,
    pub(crate) profile: u16,
}

/// The ports that were asked for; `None` = any free one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) http: Option<u16>,
    pub(crate) grpc: Option<u16>,
    pub(crate) internal_grpc: Option<u16>,
    pub(crate) metrics: Option<u16>,
    pub(crate) profile: Option<u16>,
    /// The application's own port: checked against the others, never bound here.
    pub(crate) app: Option<u16>,
}

/// Chooses for several applications, in order. The keys of the errors are the application IDs.
///
/// # Errors
/// An explicit port that is taken, or that two of the applications ask for.
pub(crate) fn choose(wanted: &[(&str, Wanted)]) -> Result<Vec<Ports>> {
    let mut chooser = Chooser {
        taken: BTreeMap::new(),
        held: Vec::new(),
        free: Box::new(search_order(std::process::id(), ephemeral_begin())),
    };
    for (app_id, wanted) in wanted {
        if let Some(port) = wanted.app {
            // Two applications may share one: behind different channel addresses that is right.
            chooser.taken.insert(port, format!("AppPort of app {app_id:?}"));
        }
    }
    for (app_id, wanted) in wanted {
        for (name, port) in named(wanted) {
            if let Some(port) = port {
                chooser.claim(name, app_id, port)?;
                chooser.bind(name, port)?;
            }
        }
    }
    wanted
        .iter()
        .map(|(_, wanted)| {
            Ok(Ports {
                http: chooser.given_or_free(wanted.http)?,
                grpc: chooser.given_or_free(wanted.grpc)?,
                internal_grpc: chooser.given_or_free(wanted.internal_grpc)?,
                metrics: chooser.given_or_free(wanted.metrics)?,
                profile: chooser.given_or_free(wanted.profile)?,
            })
        })
        .collect()
}

/// *Source:* the names in the original's error text.
fn named(wanted: &Wanted) -> [(&'static str, Option<u16>); 5] {
    [
        ("HTTPPort", wanted.http),
        ("GRPCPort", wanted.grpc),
        ("InternalGRPCPort", wanted.internal_grpc),
        ("MetricsPort", wanted.metrics),
        ("ProfilePort", wanted.profile),
    ]
}

struct Chooser {
    /// Port → who has it, in words.
    taken: BTreeMap<u16, String>,
    held: Vec<TcpListener>,
    /// Candidates that were not looked at yet.
    free: Box<dyn Iterator<Item = u16>>,
}

impl Chooser {
    fn claim(&mut self, name: &str, app_id: &str, port: u16) -> Result<()> {
        let claim = format!("{name} of app {app_id:?}");
        if let Some(other) = self.taken.get(&port) {
            bail!(
                "invalid configuration for {name}. Port {port} is not available: it is given as {other} and as {claim}"
            );
        }
        self.taken.insert(port, claim);
        Ok(())
    }

    fn bind(&mut self, name: &str, port: u16) -> Result<()> {
        match TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)) {
            Ok(listener) => self.held.push(listener),
            Err(_) => bail!("invalid configuration for {name}. Port {port} is not available"),
        }
        Ok(())
    }

    fn given_or_free(&mut self, given: Option<u16>) -> Result<u16> {
        if let Some(port) = given {
            return Ok(port);
        }
        for port in self.free.by_ref() {
            if !self.taken.contains_key(&port)
                && let Ok(listener) = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))
            {
                self.held.push(listener);
                return Ok(port);
            }
        }
        self.any_free()
    }

    /// What the operating system gives, when there is no port below its own range.
    fn any_free(&mut self) -> Result<u16> {
        loop {
            let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).context("no free port")?;
            let port = listener.local_addr().context("no free port")?.port();
            self.held.push(listener); // also when it is an application's port: it must not come again
            if !self.taken.contains_key(&port) {
                return Ok(port);
            }
        }
    }
}

/// First port that is looked at.
const FIRST: u16 = 20_000;

/// Ports per command: the next command begins its search so much further on.
const BLOCK: u16 = 64;

/// Ports of well-known servers that may be started later.
const WELL_KNOWN: [u16; 5] = [25_672, 26_379, 27_017, 27_018, 27_019];

/// The ports to look at, in order, for the process with this ID; `end` is the first of the operating system's own.
fn search_order(process: u32, end: u16) -> impl Iterator<Item = u16> {
    let count = end.saturating_sub(FIRST);
    let blocks = u32::from(count / BLOCK).max(1);
    let begin = u16::try_from(process % blocks).unwrap_or(0) * BLOCK;
    (begin..count).chain(0..begin.min(count)).map(|offset| FIRST + offset).filter(|port| !WELL_KNOWN.contains(port))
}

/// Where the range of local ports of connections begins.
fn ephemeral_begin() -> u16 {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    text.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn all_ports_of_all_apps_are_distinct() {
        let apps: Vec<String> = (0..20).map(|number| format!("app{number}")).collect();
        let wanted: Vec<(&str, Wanted)> = apps.iter().map(|app| (app.as_str(), Wanted::default())).collect();
        let chosen = choose(&wanted).unwrap();
        let all: BTreeSet<u16> = chosen
            .iter()
            .flat_map(|ports| [ports.http, ports.grpc, ports.internal_grpc, ports.metrics, ports.profile])
            .collect();
        assert_eq!(all.len(), 100);
    }

    #[test]
    fn commands_search_at_different_places_and_everywhere() {
        let order = |process| search_order(process, 32_768).collect::<Vec<u16>>();
        assert_eq!((order(0)[0], order(1)[0], order(199)[0]), (20_000, 20_064, 20_000));
        assert!(order(197)[0] < 32_768 && order(197).contains(&20_000) && !order(1).contains(&27_017));
        assert_eq!((order(7).len(), search_order(7, 1024).count()), (12_763, 0));
    }

    #[test]
    fn a_taken_port_is_named_in_the_known_words() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let wanted = Wanted { http: Some(port), ..Wanted::default() };
        let error = choose(&[("a", wanted)]).unwrap_err().to_string();
        assert_eq!(error, format!("invalid configuration for HTTPPort. Port {port} is not available"));
    }

    #[test]
    fn one_port_for_two_purposes_is_refused() {
        let app = Wanted { app: Some(6100), ..Wanted::default() };
        let grpc = Wanted { grpc: Some(6100), ..Wanted::default() };
        let error = choose(&[("a", app), ("b", grpc)]).unwrap_err().to_string();
        assert!(error.ends_with("it is given as AppPort of app \"a\" and as GRPCPort of app \"b\""), "{error}");
    }
}
