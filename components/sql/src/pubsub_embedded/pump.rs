//! One subscription: claims messages, hands them to the caller in order, and settles the answers.
//!
//! *Job:* keep up to `maxInFlight` messages with the caller. *Neighbours:* [`Engine`] does the database's part.
//! *Invariant:* every claimed message is settled exactly once by this pump: acked, nacked, or given back when it ends.
//! Answers that arrive while a settlement is under way go together into the next one.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use pillion_contract::{AckHandle, Delivery, Outcome};
use pillion_core::log::Logger;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::claim::Claimed;
use super::clock::now_ms;
use super::engine::{Engine, Settlement, Subscription};
use super::fault::Fault;

/// What a subscription needs to run.
pub(super) struct Pump {
    pub(super) engine: Engine,
    pub(super) subscription: Arc<Subscription>,
    pub(super) deliveries: mpsc::Sender<Delivery>,
    /// Pause after a failed settlement.
    pub(super) retry_after: Duration,
    pub(super) stop: CancellationToken,
    pub(super) log: Logger,
}

/// Where the pump stands.
#[derive(Default)]
struct State {
    /// Messages the caller has.
    outstanding: BTreeSet<i64>,
    settlement: Settlement,
    /// A claim may bring something.
    is_hungry: bool,
    next_due: Option<Instant>,
}

impl State {
    fn note(&mut self, (seq, outcome): (i64, Outcome)) {
        self.outstanding.remove(&seq);
        match outcome {
            Outcome::Ack => self.settlement.acked.push(seq),
            Outcome::Nack => self.settlement.nacked.push(seq),
        }
    }
}

impl Pump {
    /// Runs until the caller drops its receiver or the component closes.
    pub(super) async fn run(self) {
        let limit = self.deliveries.max_capacity();
        let mut state = State { is_hungry: true, ..State::default() };
        let mut answers = FuturesUnordered::new();
        let mut has_failed = false;
        loop {
            let free = limit - state.outstanding.len();
            if !state.settlement.is_empty() || (state.is_hungry && free > 0) {
                let settlement =
                    Settlement { acked: state.settlement.acked.clone(), nacked: state.settlement.nacked.clone() };
                match self.engine.settle(&self.subscription, settlement, free).await {
                    Ok(claimed) => {
                        state.settlement = Settlement::default();
                        self.note_success(&mut has_failed);
                        self.deliver(claimed, free, &mut state, |seq, answer| answers.push(answered(seq, answer)));
                    }
                    Err(fault) => {
                        self.note_failure(&fault, &mut has_failed);
                        let ends = async {
                            tokio::select! {
                                () = self.stop.cancelled() => {}
                                () = self.deliveries.closed() => {}
                            }
                        };
                        if fault.is_final || tokio::time::timeout(self.retry_after, ends).await.is_ok() {
                            break;
                        }
                        continue;
                    }
                }
            }
            if state.is_hungry && state.outstanding.len() < limit {
                continue;
            }
            tokio::select! {
                biased;
                () = self.stop.cancelled() => break,
                () = self.deliveries.closed() => break,
                Some(answer) = answers.next(), if !answers.is_empty() => state.note(answer),
                () = self.subscription.waiter.notified() => state.is_hungry = true,
                () = sleep_until(state.next_due), if state.outstanding.len() < limit => state.is_hungry = true,
            }
            while let Some(Some(answer)) = answers.next().now_or_never() {
                state.note(answer);
            }
        }
        self.end(state, answers).await;
    }

    fn deliver(
        &self,
        claimed: Claimed,
        limit: usize,
        state: &mut State,
        mut wait: impl FnMut(i64, oneshot::Receiver<Outcome>),
    ) {
        state.is_hungry = claimed.may_have_more || limit == 0;
        state.next_due = claimed.next_due_at.map(|at| {
            Instant::now() + Duration::from_millis(u64::try_from(at.saturating_sub(now_ms())).unwrap_or_default())
        });
        for claimed in claimed.messages {
            let (ack, answer) = AckHandle::new();
            state.outstanding.insert(claimed.seq);
            // There is room, for it holds as many as may be outstanding; when it is closed the handle answers "nack".
            let _ = self.deliveries.try_send(Delivery { message: claimed.message, ack });
            wait(claimed.seq, answer);
        }
    }

    /// Gives back what is not answered; the caller's later answers to it do not count.
    async fn end<F: Future<Output = (i64, Outcome)>>(self, mut state: State, mut answers: FuturesUnordered<F>) {
        drop(self.deliveries);
        while let Some(Some(answer)) = answers.next().now_or_never() {
            state.note(answer);
        }
        let mut nacked = state.settlement.nacked;
        nacked.extend(state.outstanding);
        let acked = state.settlement.acked;
        loop {
            let settlement = Settlement { acked: acked.clone(), nacked: nacked.clone() };
            let Err(fault) = self.engine.leave(&self.subscription, settlement).await else { return };
            // When the component closes, others take over what it had as soon as its process or lock is gone.
            let is_over = fault.is_final || self.stop.is_cancelled();
            if is_over || self.stop.run_until_cancelled(tokio::time::sleep(self.retry_after)).await.is_none() {
                self.log.warn(format_args!(
                    "ending the subscription to topic {}: {}",
                    self.subscription.topic, fault.message
                ));
                return;
            }
        }
    }

    fn note_failure(&self, fault: &Fault, has_failed: &mut bool) {
        // What is final the engine has told.
        if !std::mem::replace(has_failed, true) && !fault.is_final {
            let topic = &self.subscription.topic;
            self.log
                .error(format_args!("receiving from topic {topic}: {}; trying again, nothing is lost", fault.message));
        }
    }

    fn note_success(&self, has_failed: &mut bool) {
        if std::mem::take(has_failed) {
            self.log.info(format_args!("receiving from topic {} works again", self.subscription.topic));
        }
    }
}

async fn answered(seq: i64, answer: oneshot::Receiver<Outcome>) -> (i64, Outcome) {
    (seq, answer.await.unwrap_or(Outcome::Nack))
}

async fn sleep_until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}
