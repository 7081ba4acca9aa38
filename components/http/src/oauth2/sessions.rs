//! The sessions of browsers, in memory.

use std::collections::HashMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderValue;
use parking_lot::Mutex;
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::time::Instant;

/// From its beginning to its end. *Source:* the original's session library.
pub(super) const LIFETIME: Duration = Duration::from_secs(2 * 60 * 60);
/// Sessions at a time; beyond it the oldest goes. Anybody can begin one, so that there must be an end.
const SESSIONS_MAX: usize = 10_000;
const ID_BYTES: usize = 32;

/// Where a browser stands.
pub(super) enum Session {
    /// At the provider.
    Pending {
        /// What it must bring back.
        state: String,
        /// Where it wanted to go.
        target: String,
    },
    /// It has a token: the value of the header.
    SignedIn(HeaderValue),
}

#[derive(Default)]
pub(super) struct Sessions(Mutex<HashMap<String, (Instant, Session)>>);

/// An id nobody can guess.
pub(super) fn new_id() -> Result<String, &'static str> {
    let mut bytes = [0; ID_BYTES];
    SystemRandom::new().fill(&mut bytes).map_err(|_| "no random numbers for a session")?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

impl Sessions {
    pub(super) fn has(&self, id: &str) -> bool {
        self.find(id, |_| Some(())).is_some()
    }

    /// The header value of a signed in session.
    pub(super) fn token(&self, id: &str) -> Option<HeaderValue> {
        self.find(id, |session| match session {
            Session::SignedIn(value) => Some(value.clone()),
            Session::Pending { .. } => None,
        })
    }

    /// State and target of a session that waits for the provider.
    pub(super) fn pending(&self, id: &str) -> Option<(String, String)> {
        self.find(id, |session| match session {
            Session::Pending { state, target } => Some((state.clone(), target.clone())),
            Session::SignedIn(_) => None,
        })
    }

    fn find<T>(&self, id: &str, read: impl FnOnce(&Session) -> Option<T>) -> Option<T> {
        let sessions = self.0.lock();
        let (begun, session) = sessions.get(id)?;
        (begun.elapsed() < LIFETIME).then(|| read(session))?
    }

    pub(super) fn put(&self, id: String, session: Session) {
        let mut sessions = self.0.lock();
        if sessions.len() >= SESSIONS_MAX {
            sessions.retain(|_, (begun, _)| begun.elapsed() < LIFETIME);
        }
        if sessions.len() >= SESSIONS_MAX
            && let Some(oldest) = sessions.iter().min_by_key(|(_, (begun, _))| *begun).map(|(id, _)| id.clone())
        {
            sessions.remove(&oldest);
        }
        sessions.insert(id, (Instant::now(), session));
    }

    pub(super) fn remove(&self, id: &str) {
        self.0.lock().remove(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn sessions_end_and_are_bounded() {
        let sessions = Sessions::default();
        let pending = || Session::Pending { state: "s".to_owned(), target: "/".to_owned() };
        sessions.put("first".to_owned(), pending());
        assert_eq!(sessions.pending("first"), Some(("s".to_owned(), "/".to_owned())));
        assert!(sessions.token("first").is_none() && !sessions.has("other"));
        tokio::time::advance(LIFETIME).await;
        assert!(!sessions.has("first"));
        for number in 0..=SESSIONS_MAX {
            sessions.put(number.to_string(), pending());
        }
        assert_eq!(sessions.0.lock().len(), SESSIONS_MAX);
    }
}
