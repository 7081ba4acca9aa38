//! What the two streams of the protocol, messages of a broker and events of a binding, have in common: how they end.
//!
//! *Invariant:* an answer that was given has reached the component when its stream has ended on purpose.

use std::future::Future;
use std::time::Duration;

use pillion_core::board::Wait;
use pillion_core::log::Logger;
use tokio::time::Instant;
use tonic::{Code, Status, Streaming};

use crate::status;

/// How long the component may take to end a stream after we have. *Source:* the original waits 400 ms for the last answer.
pub(crate) const SETTLE: Duration = Duration::from_secs(1);
/// How long a stream stays open after its last answer. *Source:* as the original, so that a component that looks for answers now and then
/// has seen them before the end.
const LAST_ANSWER: Duration = Duration::from_millis(400);
/// Pause before a broken stream is opened again; doubles up to the second value.
const RETRY_FIRST: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(30);

/// How a stream ended.
pub(crate) enum Ended {
    /// Nobody takes its messages any more, or the component said that there are no more.
    ForGood,
    /// The taker gave a message back unanswered; the component keeps it until the next stream.
    GivenBack,
    /// It broke; the flag says whether anything had come before.
    Broken(Status, bool),
}

/// Opens a stream again and again until it ends for good; `wait` puts it on the board while it is broken.
pub(crate) async fn keep_open<Open, Revive>(
    open: impl Fn() -> Open,
    revive: impl Fn() -> Revive,
    unwanted: impl Future<Output = ()>,
    wait: impl Fn() -> Wait,
    log: &Logger,
    what: &str,
) where
    Open: Future<Output = Ended>,
    Revive: Future<Output = Result<(), Status>>,
{
    let mut unwanted = std::pin::pin!(unwanted);
    let mut pause = RETRY_FIRST;
    loop {
        let mut waiting = None;
        match open().await {
            Ended::ForGood => return,
            Ended::GivenBack => pause = RETRY_FIRST,
            Ended::Broken(status, useful) => {
                log.error(format_args!("failed to receive {what}: {}", status::text(&status)));
                if status.code() == Code::Unimplemented {
                    return; // it will not learn it
                }
                if useful {
                    pause = RETRY_FIRST;
                }
                waiting.insert(wait()).failed(status::text(&status));
            }
        }
        loop {
            tokio::select! {
                biased;
                () = &mut unwanted => return,
                () = tokio::time::sleep(pause) => {}
            }
            pause = (pause * 2).min(RETRY_MAX);
            let revived = tokio::select! {
                biased;
                () = &mut unwanted => return,
                revived = revive() => revived,
            };
            match revived {
                Ok(()) => break,
                Err(status) => {
                    let problem = status::text(&status);
                    log.warn(format_args!("the pluggable component is not back: {problem}"));
                    waiting.get_or_insert_with(&wait).failed(problem);
                }
            }
        }
    }
}

/// Keeps a stream that nobody wants any more open until its last answer is old enough; what still comes is not answered, so that
/// the component gives it again later.
pub(crate) async fn linger<T>(messages: &mut Streaming<T>, answered: Option<Instant>) {
    let Some(answered) = answered else { return };
    let rest = async { while matches!(messages.message().await, Ok(Some(_))) {} };
    let _ = tokio::time::timeout_at(answered + LAST_ANSWER, rest).await; // then its time is over
}

/// Waits until the component has seen that we ended the stream; what still comes is not answered.
pub(crate) async fn settle<T>(messages: &mut Streaming<T>) {
    let rest = async { while matches!(messages.message().await, Ok(Some(_))) {} };
    let _ = tokio::time::timeout(SETTLE, rest).await; // then the end of the connection tells it
}
