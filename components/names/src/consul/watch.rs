//! Keeps the addresses of the apps that are asked for, with one long question to the agent.
//!
//! *Job:* asks for changes of the health of all apps at once, and for the instances of those that changed. *Invariant:* an app
//! without an entry is asked for directly by the resolver, so that whatever goes wrong here costs time and no answer.
//!
//! *Source:* components-contrib nameresolution/hashicorp/consul `watcher.go`: one question for all apps, because an agent limits
//! the connections of a machine.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use parking_lot::Mutex;
use pillion_core::log::Logger;
use tokio::sync::Notify;

use super::addresses;
use super::agent::{Agent, Check};

/// *Source:* the original's backoff.
const PAUSE_MIN: Duration = Duration::from_secs(5);
const PAUSE_MAX: Duration = Duration::from_secs(180);
/// Between two questions, so that an agent that answers at once does not keep both busy.
const BETWEEN: Duration = Duration::from_millis(100);
/// Apps kept at most; others are asked for directly.
const APPS_MAX: usize = 1024;

/// See the module text.
#[derive(Default)]
pub(super) struct Watch {
    /// `None` until the agent told the addresses.
    apps: Mutex<HashMap<String, Option<Vec<String>>>>,
    wanted: Notify,
}

/// Instance by service, id and node, and whether all its checks pass.
type Health = HashMap<(String, String, String), bool>;

impl Watch {
    /// The addresses of an app; from the first call on it is watched.
    pub(super) fn addresses(&self, app_id: &str) -> Option<Vec<String>> {
        let mut apps = self.apps.lock();
        if let Some(known) = apps.get(app_id) {
            return known.clone();
        }
        if apps.len() < APPS_MAX {
            apps.insert(app_id.to_owned(), None);
            self.wanted.notify_one();
        }
        None
    }

    /// Has the addresses of an app asked for again.
    pub(super) fn distrust(&self, app_id: &str) {
        if let Some(known) = self.apps.lock().get_mut(app_id)
            && known.take().is_some()
        {
            self.wanted.notify_one();
        }
    }

    /// Runs until it is dropped.
    pub(super) async fn run(&self, agent: &Agent, port_key: &str, log: &Logger) {
        let (mut health, mut index, mut pause) = (Health::new(), 0, PAUSE_MIN);
        loop {
            let app_ids = self.app_ids();
            if app_ids.is_empty() {
                self.wanted.notified().await;
                continue;
            }
            let answer = tokio::select! {
                answer = agent.checks(&app_ids, index) => answer,
                () = self.wanted.notified() => {
                    index = 0; // ask at once, for the new one too
                    let unknown = self.unknown();
                    health.retain(|(app_id, ..), _| !unknown.contains(app_id));
                    continue;
                }
            };
            match answer {
                Ok((_, same)) if same == index && index != 0 => pause = PAUSE_MIN,
                Ok((checks, next)) => {
                    pause = PAUSE_MIN;
                    index = if next < index { 0 } else { next }; // the agent's index began anew
                    let now = health_of(checks);
                    for app_id in changed(&health, &now) {
                        if !self.renew(&app_id, agent, port_key, log).await {
                            index = 0;
                        }
                    }
                    health = now;
                    if index == 0 {
                        let unknown = self.unknown();
                        health.retain(|(app_id, ..), _| !unknown.contains(app_id));
                    }
                }
                Err(_) if index != 0 => index = 0, // perhaps only the long wait was cut off
                Err(error) => {
                    self.apps.lock().values_mut().for_each(|known| *known = None);
                    health.clear();
                    log.error(format_args!("consul service-watcher error: {error}, retry in {pause:?}"));
                    let _ = tokio::time::timeout(pause, self.wanted.notified()).await; // either is a reason to try
                    pause = (pause * 3 / 2).min(PAUSE_MAX);
                }
            }
            tokio::time::sleep(BETWEEN).await;
        }
    }

    fn app_ids(&self) -> Vec<String> {
        let mut app_ids: Vec<String> = self.apps.lock().keys().cloned().collect();
        app_ids.sort_unstable();
        app_ids
    }

    fn unknown(&self) -> HashSet<String> {
        self.apps.lock().iter().filter(|(_, known)| known.is_none()).map(|(app_id, _)| app_id.clone()).collect()
    }

    /// Whether the agent answered.
    async fn renew(&self, app_id: &str, agent: &Agent, port_key: &str, log: &Logger) -> bool {
        let answer = agent.instances(app_id, port_key, true).await;
        let mut apps = self.apps.lock();
        let Some(known) = apps.get_mut(app_id) else { return true };
        *known = match &answer {
            Ok(instances) => Some(addresses(instances)).filter(|addresses| !addresses.is_empty()),
            Err(_) => None,
        };
        drop(apps);
        if let Err(error) = &answer {
            log.error(format_args!("error invoking health service: {error}, for service {app_id}"));
        }
        answer.is_ok()
    }
}

fn health_of(checks: Vec<Check>) -> Health {
    let mut health = Health::new();
    for check in checks {
        *health.entry((check.service, check.service_id, check.node)).or_insert(true) &= check.is_passing;
    }
    health
}

/// The apps with an instance that is new, gone, or well or ill where it was not.
fn changed(before: &Health, now: &Health) -> HashSet<String> {
    let differs = |one: &Health, other: &Health| -> Vec<String> {
        one.iter()
            .filter(|(key, well)| other.get(*key) != Some(*well))
            .map(|((app_id, ..), _)| app_id.clone())
            .collect()
    };
    differs(now, before).into_iter().chain(differs(before, now)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(service: &str, id: &str, is_passing: bool) -> Check {
        Check { service: service.into(), service_id: id.into(), node: "n".into(), is_passing }
    }

    #[test]
    fn changes_are_found_by_app() {
        let before = health_of(vec![check("a", "1", true), check("a", "1", false), check("b", "1", true)]);
        assert_eq!(before.values().filter(|well| **well).count(), 1, "one failing check is enough");
        let names = |checks| {
            let mut names: Vec<String> = changed(&before, &health_of(checks)).into_iter().collect();
            names.sort();
            names
        };
        assert_eq!(names(vec![check("a", "1", false), check("b", "1", true)]), Vec::<String>::new());
        assert_eq!(names(vec![check("a", "1", true), check("b", "1", true)]), ["a"]);
        assert_eq!(names(vec![check("a", "1", false)]), ["b"]);
        assert_eq!(names(vec![check("a", "1", false), check("b", "2", true), check("c", "1", true)]), ["b", "c"]);
    }
}
