//! Who dials: one call for all that need a new connection to the same sidecar at the same time.
//!
//! *Neighbours:* [`crate::peer`] asks for a turn when no connection has room. *Invariant:* at most one dial is under way for each
//! address, target and event loop, and whoever waits for it learns how it ended, also when the call that dials is given up.

use parking_lot::Mutex;
use pillion_runtime::loops::Here;
use tokio::sync::watch;

use crate::outbound::Target;
use crate::peer::PeerError;

/// The dials under way.
#[derive(Default)]
pub(crate) struct Dials(Mutex<Vec<Dial>>);

struct Dial {
    address: String,
    target: Target,
    on: Here,
    outcome: watch::Receiver<Option<Outcome>>,
}

type Outcome = Result<(), PeerError>;

/// What a call that needs a connection is to do.
pub(crate) enum Turn<'a> {
    /// Dial, and say how it went.
    Mine(Dialing<'a>),
    /// Wait for the one that dials.
    Others(Waiting),
}

/// The right to dial; the place is free again when it is dropped.
pub(crate) struct Dialing<'a> {
    dials: &'a Dials,
    tell: watch::Sender<Option<Outcome>>,
}

/// A dial somebody else makes.
pub(crate) struct Waiting(watch::Receiver<Option<Outcome>>);

impl Dials {
    /// Whose turn it is on this loop.
    pub(crate) fn turn(&self, target: &Target, address: &str) -> Turn<'_> {
        let on = Here::now();
        let mut dials = self.0.lock();
        let same = |dial: &&Dial| dial.on == on && dial.address == address && dial.target == *target;
        if let Some(dial) = dials.iter().find(same) {
            return Turn::Others(Waiting(dial.outcome.clone()));
        }
        let (tell, outcome) = watch::channel(None);
        dials.push(Dial { address: address.to_owned(), target: target.clone(), on, outcome });
        Turn::Mine(Dialing { dials: self, tell })
    }
}

impl Dialing<'_> {
    /// Tells all who wait. A connection must be where they find it by now.
    pub(crate) fn ended(self, outcome: Outcome) {
        self.tell.send_replace(Some(outcome));
    }
}

impl Drop for Dialing<'_> {
    fn drop(&mut self) {
        let told = self.tell.subscribe();
        self.dials.0.lock().retain(|dial| !dial.outcome.same_channel(&told));
    }
}

impl Waiting {
    /// Waits for the end of the dial. `Ok` means: look again, there is a connection, or nobody dials any more.
    ///
    /// # Errors
    /// That of the dial: the same is not tried again by each of those who waited.
    pub(crate) async fn outcome(mut self) -> Outcome {
        match self.0.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone().unwrap_or(Ok(())),
            Err(_) => Ok(()), // the call that dialled was given up
        }
    }
}

#[cfg(test)]
mod tests {
    use pillion_core::error::GrpcCode;

    use super::*;

    fn target(app_id: &str) -> Target {
        Target { app_id: app_id.to_owned(), namespace: "default".to_owned() }
    }

    fn mine(turn: Turn<'_>) -> Dialing<'_> {
        match turn {
            Turn::Mine(dialing) => dialing,
            Turn::Others(_) => panic!("somebody else dials"),
        }
    }

    fn others(turn: Turn<'_>) -> Waiting {
        match turn {
            Turn::Mine(_) => panic!("nobody dials"),
            Turn::Others(waiting) => waiting,
        }
    }

    #[tokio::test]
    async fn one_dials_and_the_others_learn_how_it_went() {
        let (dials, shop) = (Dials::default(), target("shop"));
        let dialing = mine(dials.turn(&shop, "a:1"));
        let waiting = [others(dials.turn(&shop, "a:1")), others(dials.turn(&shop, "a:1"))];
        let (elsewhere, else_who) = (mine(dials.turn(&shop, "a:2")), mine(dials.turn(&target("cart"), "a:1")));
        dialing.ended(Err(PeerError::new(GrpcCode::Unavailable, "nobody there")));
        for waiting in waiting {
            assert_eq!(waiting.outcome().await.unwrap_err().message, "nobody there");
        }
        let next = mine(dials.turn(&shop, "a:1"));
        drop((elsewhere, else_who, next));
        assert!(dials.0.lock().is_empty());
    }

    #[tokio::test]
    async fn a_dial_that_is_given_up_leaves_its_turn_to_another() {
        let (dials, shop) = (Dials::default(), target("shop"));
        let dialing = mine(dials.turn(&shop, "a:1"));
        let waiting = others(dials.turn(&shop, "a:1"));
        drop(dialing);
        waiting.outcome().await.unwrap();
        mine(dials.turn(&shop, "a:1")).ended(Ok(()));
    }
}
