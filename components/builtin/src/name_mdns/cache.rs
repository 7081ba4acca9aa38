//! What this sidecar knows of the apps it asks for.
//!
//! *Job:* addresses by app id with an end each. *Neighbours:* `engine` adds what it hears, the resolver reads. *Invariant:*
//! only apps somebody asked for are kept, and no more than the limits below, whatever the network says.
//!
//! *Source:* lifetimes of components-contrib nameresolution/mdns.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::service::Sighting;

/// How long an address is used that nobody confirmed again.
const ADDRESS_TTL: Duration = Duration::from_secs(60);
/// An app nobody asks for any more is forgotten.
const INTEREST: Duration = Duration::from_secs(600);
const APPS_MAX: usize = 4096;
const ADDRESSES_MAX: usize = 256;

/// See the module text.
#[derive(Default)]
pub(super) struct Cache {
    apps: HashMap<String, App>,
    version: Arc<AtomicU64>,
}

struct App {
    addresses: Vec<(SocketAddr, Instant)>,
    asked_at: Instant,
    queried_at: Option<Instant>,
}

impl Cache {
    /// A number that grows whenever an address comes or goes; read without the lock of the cache.
    pub(super) fn version(&self) -> Arc<AtomicU64> {
        self.version.clone()
    }

    fn changed(&self) {
        self.version.fetch_add(1, Ordering::Release);
    }

    /// The addresses of an app: those of IPv4, or of IPv6 when there are no others. Remembers that somebody asked.
    pub(super) fn addresses(&mut self, app_id: &str, now: Instant) -> Vec<SocketAddr> {
        let Some(app) = self.apps.get_mut(app_id) else {
            self.add_app(app_id, now);
            return Vec::new();
        };
        app.asked_at = now;
        let live = || app.addresses.iter().filter(|(_, until)| *until > now).map(|(address, _)| *address);
        let v4: Vec<SocketAddr> = live().filter(SocketAddr::is_ipv4).collect();
        if v4.is_empty() { live().collect() } else { v4 }
    }

    fn add_app(&mut self, app_id: &str, now: Instant) {
        if self.apps.len() >= APPS_MAX {
            let oldest = self.apps.iter().min_by_key(|(_, app)| app.asked_at).map(|(app_id, _)| app_id.clone());
            oldest.map(|app_id| self.apps.remove(&app_id));
        }
        self.apps.insert(app_id.to_owned(), App { addresses: Vec::new(), asked_at: now, queried_at: None });
    }

    /// Whether the network should be asked now, since it was not in the last `pause`; if so the caller does.
    pub(super) fn may_query(&mut self, app_id: &str, pause: Duration, now: Instant) -> bool {
        let Some(app) = self.apps.get_mut(app_id) else { return false };
        let may = app.queried_at.is_none_or(|at| now.duration_since(at) >= pause);
        if may {
            app.queried_at = Some(now);
        }
        may
    }

    /// Takes in what a message said; returns whether an app of interest got an address.
    pub(super) fn see(&mut self, sighting: &Sighting, now: Instant) -> bool {
        let Some(app) = self.apps.get_mut(&sighting.app_id) else { return false };
        let known = app.addresses.iter().position(|(address, _)| *address == sighting.address);
        match (known, sighting.is_goodbye) {
            (Some(index), false) => {
                app.addresses[index].1 = now + ADDRESS_TTL;
                return true;
            }
            (Some(index), true) => _ = app.addresses.remove(index),
            (None, false) if app.addresses.len() < ADDRESSES_MAX => {
                app.addresses.push((sighting.address, now + ADDRESS_TTL))
            }
            (None, _) => return false,
        }
        self.changed();
        !sighting.is_goodbye
    }

    /// Drops an address that did not answer.
    pub(super) fn distrust(&mut self, app_id: &str, address: &str) {
        if let Some(app) = self.apps.get_mut(app_id) {
            app.addresses.retain(|(known, _)| known.to_string() != address);
            self.changed();
        }
    }

    /// Drops what has ended and returns the apps whose addresses must be confirmed.
    pub(super) fn refresh(&mut self, now: Instant) -> Vec<String> {
        self.apps.retain(|_, app| now.duration_since(app.asked_at) < INTEREST);
        let (mut known, mut ended) = (Vec::new(), false);
        for (app_id, app) in &mut self.apps {
            let before = app.addresses.len();
            app.addresses.retain(|(_, until)| *until > now);
            ended |= app.addresses.len() != before;
            if !app.addresses.is_empty() {
                app.queried_at = Some(now);
                known.push(app_id.clone());
            }
        }
        if ended {
            self.changed();
        }
        known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sighting(app_id: &str, address: &str, is_goodbye: bool) -> Sighting {
        Sighting { app_id: app_id.into(), address: address.parse().unwrap(), is_goodbye }
    }

    fn texts(cache: &mut Cache, app_id: &str, now: Instant) -> Vec<String> {
        cache.addresses(app_id, now).iter().map(SocketAddr::to_string).collect()
    }

    #[test]
    fn addresses_live_until_they_end_or_leave() {
        let (mut cache, start) = (Cache::default(), Instant::now());
        assert!(!cache.see(&sighting("shop", "10.0.0.1:1", false), start), "nobody asked for it");
        assert!(texts(&mut cache, "shop", start).is_empty());
        assert!(cache.see(&sighting("shop", "[fd00::1]:1", false), start));
        assert_eq!(texts(&mut cache, "shop", start), ["[fd00::1]:1"]);
        assert!(cache.see(&sighting("shop", "10.0.0.1:1", false), start));
        assert!(cache.see(&sighting("shop", "10.0.0.2:1", false), start));
        assert_eq!(texts(&mut cache, "shop", start), ["10.0.0.1:1", "10.0.0.2:1"], "IPv4 before IPv6");
        assert!(!cache.see(&sighting("shop", "10.0.0.2:1", true), start));
        assert_eq!(texts(&mut cache, "shop", start), ["10.0.0.1:1"]);
        let later = start + Duration::from_secs(59);
        assert!(cache.see(&sighting("shop", "10.0.0.3:1", false), later));
        assert_eq!(cache.refresh(later), ["shop"]);
        assert_eq!(texts(&mut cache, "shop", start + ADDRESS_TTL), ["10.0.0.3:1"], "not confirmed in time");
        cache.distrust("shop", "10.0.0.3:1");
        assert!(texts(&mut cache, "shop", start + ADDRESS_TTL).is_empty());
    }

    #[test]
    fn the_version_tells_of_what_came_and_went_and_of_nothing_else() {
        let (mut cache, start) = (Cache::default(), Instant::now());
        let version = cache.version();
        let mut last = 0;
        let mut has_changed =
            || std::mem::replace(&mut last, version.load(Ordering::Acquire)) != version.load(Ordering::Acquire);
        cache.addresses("shop", start);
        cache.see(&sighting("cart", "10.0.0.1:1", false), start);
        assert!(!has_changed(), "nobody asked for it");
        cache.see(&sighting("shop", "10.0.0.1:1", false), start);
        assert!(has_changed());
        cache.see(&sighting("shop", "10.0.0.1:1", false), start);
        cache.refresh(start);
        assert!(!has_changed(), "only confirmed");
        cache.see(&sighting("shop", "10.0.0.1:1", true), start);
        assert!(has_changed());
        cache.see(&sighting("shop", "10.0.0.1:1", false), start);
        cache.distrust("shop", "10.0.0.1:1");
        assert!(has_changed());
        cache.see(&sighting("shop", "10.0.0.1:1", false), start);
        assert!(has_changed());
        cache.refresh(start + ADDRESS_TTL);
        assert!(has_changed(), "it ended");
    }

    #[test]
    fn questions_pause_and_interest_ends() {
        let (mut cache, start) = (Cache::default(), Instant::now());
        let pause = Duration::from_millis(250);
        assert!(!cache.may_query("shop", pause, start));
        cache.addresses("shop", start);
        assert!(cache.may_query("shop", pause, start) && !cache.may_query("shop", pause, start));
        assert!(!cache.may_query("shop", pause * 2, start + pause) && cache.may_query("shop", pause, start + pause));
        assert!(cache.refresh(start + INTEREST).is_empty() && cache.apps.is_empty());
    }

    #[test]
    fn nothing_grows_without_end() {
        let (mut cache, start) = (Cache::default(), Instant::now());
        for index in 0..=APPS_MAX {
            cache.addresses(&format!("app{index}"), start + Duration::from_millis(index as u64));
        }
        assert!(cache.apps.len() == APPS_MAX && !cache.apps.contains_key("app0"));
        for port in 1..=400 {
            cache.see(&sighting("app9", &format!("10.0.0.1:{port}"), false), start);
        }
        assert_eq!(cache.addresses("app9", start).len(), ADDRESSES_MAX);
    }
}
