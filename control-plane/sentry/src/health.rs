//! Health: parts say when they are ready; `/healthz` answers 200 once all are, 503 before.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::{Response, StatusCode};
use parking_lot::Mutex;

use crate::http_server::{Answer, answer};

/// The readiness of all parts. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Health(Arc<Mutex<BTreeMap<&'static str, bool>>>);

impl Health {
    /// Adds a part that is not ready yet.
    pub(crate) fn part(&self, name: &'static str) -> Part {
        self.0.lock().insert(name, false);
        Part { health: self.clone(), name }
    }

    /// The answer of the health server.
    pub(crate) fn respond(&self, path: &str) -> Answer {
        if path != "/healthz" {
            return answer(StatusCode::NOT_FOUND, "404 page not found\n");
        }
        let waiting: Vec<&str> = self.0.lock().iter().filter(|(_, ready)| !**ready).map(|(name, _)| *name).collect();
        if waiting.is_empty() {
            return Response::new(bytes::Bytes::new());
        }
        answer(StatusCode::SERVICE_UNAVAILABLE, &format!("not ready: {}\n", waiting.join(", ")))
    }
}

/// One part of sentry.
#[derive(Debug)]
pub(crate) struct Part {
    health: Health,
    name: &'static str,
}

impl Part {
    /// Tells that the part does its work.
    pub(crate) fn ready(&self) {
        self.health.0.lock().insert(self.name, true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_parts_count() {
        let health = Health::default();
        let (one, two) = (health.part("one"), health.part("two"));
        one.ready();
        let response = health.respond("/healthz");
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(&response.body()[..], b"not ready: two\n");
        two.ready();
        assert_eq!(health.respond("/healthz").status(), StatusCode::OK);
        assert_eq!(health.respond("/").status(), StatusCode::NOT_FOUND);
    }
}
