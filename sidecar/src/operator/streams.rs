//! Follows the changes an operator tells of.
//!
//! *Job:* hold a stream for each kind open, open it again when it breaks, and ask for everything of the kind then. The first streams
//! are opened before the resources are asked for at the start. *Neighbours:* [`super::Operator`] keeps what is told. *Invariant:* dropped, it asks for nothing any more.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use pillion_proto::operator::v1::ResourceEventType;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tonic::{Code, Status};

use super::{Kind, Operator, client};

/// The pause after a stream breaks grows from the first to the second, while it does not hold.
const PAUSE: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// A stream that was open this long held.
const HELD: Duration = Duration::from_secs(5);

/// The open streams of a sidecar.
pub(crate) struct Streams {
    operator: Arc<Operator>,
    _tasks: JoinSet<()>,
}

impl Streams {
    /// Opens the streams, in the background. Must be called in a Tokio runtime.
    pub(crate) fn open(operator: &Arc<Operator>) -> Self {
        let mut tasks = JoinSet::new();
        for kind in Kind::ALL {
            tasks.spawn(follow(operator.clone(), kind));
        }
        Self { operator: operator.clone(), _tasks: tasks }
    }

    /// Waits until a resource or the Configuration is another. *Cancel safe.*
    pub(crate) async fn changed(&self) {
        self.operator.changed.notified().await;
    }
}

async fn follow(operator: Arc<Operator>, kind: Kind) {
    let log = &operator.log;
    let mut pause = PAUSE;
    let mut is_first = true;
    loop {
        let opened = Instant::now();
        let changes = std::pin::pin!(take_changes(&operator, kind));
        let ended = if is_first { changes.await } else { after_list(&operator, kind, changes).await };
        let Some(ended) = ended else { return };
        is_first = false;
        if opened.elapsed() >= HELD {
            pause = PAUSE;
        }
        log.debug(format_args!("the stream of {} changes ended: {ended}; opening it again in {pause:?}", kind.name()));
        sleep(pause).await;
        pause = (pause * 3 / 2).min(PAUSE_MAX);
    }
}

/// Asks for everything of the kind, as changes may have passed while there was no stream. The stream is opened first, and is not
/// waited for: an operator answers it with the first change only.
async fn after_list(operator: &Operator, kind: Kind, mut changes: Pin<&mut impl Future<Output = End>>) -> End {
    tokio::select! {
        biased;
        ended = changes.as_mut() => return ended,
        listed = operator.list(kind) => match listed {
            Ok(()) => operator.log.debug(format_args!("asked for all {} resources again", kind.name())),
            Err(problem) => operator.log.warn(problem),
        },
    }
    changes.await
}

/// Why a stream ended; `None` when the operator has no such stream.
type End = Option<String>;

async fn take_changes(operator: &Operator, kind: Kind) -> End {
    let ended = async {
        let mut changes = operator.client.changes(kind).await?;
        while let Some((event, object)) = changes.next().await? {
            if event != i32::from(ResourceEventType::Unknown) {
                operator.take(kind, event, &object);
            }
        }
        Ok::<(), Status>(())
    };
    match ended.await {
        Ok(()) => Some("the operator has closed it".to_owned()),
        Err(status) if status.code() == Code::Unimplemented => {
            operator.log.debug(format_args!("the operator does not tell of changes of {}", kind.name()));
            None
        }
        Err(status) => Some(client::text(&status)),
    }
}
