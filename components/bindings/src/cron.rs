//! `bindings.cron`: events by the clock.
//!
//! *Source:* components-contrib `bindings/cron`: the syntax of schedules, the metadata of events, no payload, no interest in what the
//! app answers. *Neighbours:* `schedule` knows when. *Invariant:* times that pass while the app is busy with all the events it may
//! have at once are left out, not gathered.

mod field;
mod schedule;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::Utc;
use pillion_contract::{
    BindingDelivery, BindingEvent, ComponentError, ErrorKind, InitContext, InputBinding, ReplyHandle,
};
use pillion_core::log::Logger;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use schedule::Schedule;

/// Longest sleep, after which the clock is looked at again: it may have been set.
const LOOK_INTERVAL: Duration = Duration::from_secs(30);

/// The binding; see the module text.
struct Cron {
    name: String,
    schedule: Schedule,
    /// As written.
    text: String,
    stop: CancellationToken,
    tasks: TaskTracker,
    log: Logger,
}

/// Makes the binding.
///
/// # Errors
/// The schedule is missing or wrong.
pub(crate) async fn create(context: InitContext) -> Result<Arc<dyn InputBinding>, ComponentError> {
    let text = context.metadata.get("schedule").unwrap_or_default().to_owned();
    let refused = |message: String| ComponentError::new(ErrorKind::InvalidRequest, message);
    if text.is_empty() {
        return Err(refused("schedule not set".to_owned()));
    }
    let schedule =
        Schedule::parse(&text).map_err(|problem| refused(format!("invalid schedule format '{text}': {problem}")))?;
    Ok(Arc::new(Cron {
        name: context.name,
        schedule,
        text,
        stop: context.cancel.child_token(),
        tasks: TaskTracker::new(),
        log: context.log,
    }))
}

#[async_trait]
impl InputBinding for Cron {
    async fn read(&self) -> Result<mpsc::Receiver<BindingDelivery>, ComponentError> {
        if self.stop.is_cancelled() {
            return Err(ComponentError::new(ErrorKind::Unavailable, "binding is closed"));
        }
        let (deliveries, receiver) = mpsc::channel(1);
        let clock = Clock {
            name: self.name.clone(),
            schedule: self.schedule.clone(),
            text: self.text.clone(),
            deliveries,
            log: self.log.clone(),
        };
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            let unwanted = clock.deliveries.clone();
            tokio::select! {
                () = stop.cancelled() => {}
                () = unwanted.closed() => {}
                () = clock.run() => {}
            }
        });
        Ok(receiver)
    }

    async fn close(&self) -> Result<(), ComponentError> {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        Ok(())
    }
}

struct Clock {
    name: String,
    schedule: Schedule,
    text: String,
    deliveries: mpsc::Sender<BindingDelivery>,
    log: Logger,
}

impl Clock {
    async fn run(self) {
        match &self.schedule {
            Schedule::Every(period) => {
                let mut at = Instant::now() + *period;
                loop {
                    tokio::time::sleep_until(at).await;
                    self.fire().await;
                    at = Instant::now().max(at + *period); // what passed meanwhile is left out
                }
            }
            Schedule::At(times) => {
                while let Some(at) = times.next(Utc::now()) {
                    while let Ok(left) = (at - Utc::now()).to_std()
                        && !left.is_zero()
                    {
                        tokio::time::sleep(left.min(LOOK_INTERVAL)).await;
                    }
                    self.fire().await;
                }
                self.log.warn(format_args!("name: {}, the schedule '{}' never fires", self.name, self.text));
                std::future::pending::<()>().await;
            }
        }
    }

    async fn fire(&self) {
        let now = Utc::now();
        self.log.debug(format_args!("name: {}, schedule fired: {now}", self.name));
        // Nobody waits for the answer; one that is not read is dropped.
        let (reply, _) = ReplyHandle::new();
        let metadata = BTreeMap::from([
            // *Source:* the name of the zone the original's scheduler is in, whatever the schedule says.
            ("timeZone".to_owned(), "Local".to_owned()),
            ("readTimeUTC".to_owned(), now.format("%F %T%.f +0000 UTC").to_string()),
        ]);
        let event = BindingEvent { data: Bytes::new(), content_type: None, metadata };
        let _ = self.deliveries.send(BindingDelivery { event, reply }).await; // nobody takes events any more
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use pillion_contract::Metadata;

    use super::*;

    fn context(schedule: &str) -> InitContext {
        InitContext {
            name: "clock".into(),
            component_type: "bindings.cron".into(),
            version: "v1".into(),
            metadata: Metadata::new([("schedule", schedule)]),
            app_id: "app".into(),
            namespace: "default".into(),
            data_dir: PathBuf::new(),
            log: Logger::silent(),
            cancel: CancellationToken::new(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn events_come_by_the_clock_until_nobody_takes_them() {
        let cron = create(context("@every 300ms")).await.unwrap();
        let mut first = cron.read().await.unwrap();
        let begin = Instant::now();
        for _ in 0..3 {
            let event = first.recv().await.unwrap().event;
            assert!(event.data.is_empty());
            assert_eq!(event.metadata["timeZone"], "Local");
            assert!(event.metadata["readTimeUTC"].ends_with(" +0000 UTC"), "{:?}", event.metadata);
        }
        assert!(begin.elapsed() < Duration::from_millis(950), "{:?}", begin.elapsed());
        drop(first);
        let mut second = cron.read().await.unwrap();
        assert!(second.recv().await.is_some(), "it can be opened again");
        cron.close().await.unwrap();
        while second.recv().await.is_some() {}
        assert_eq!(cron.read().await.unwrap_err().to_string(), "binding is closed");
    }

    #[tokio::test]
    async fn it_keeps_the_rules_of_input_bindings() {
        pillion_conformance::bindings::input(create(context("@every 10ms")).await.unwrap(), async || {}).await;
        pillion_conformance::bindings::input(create(context("* * * * * *")).await.unwrap(), async || {}).await;
    }

    #[tokio::test]
    async fn a_wrong_schedule_is_told() {
        let error = create(context("")).await.err().unwrap().to_string();
        assert_eq!(error, "schedule not set");
        let error = create(context("* *")).await.err().unwrap().to_string();
        assert!(error.starts_with("invalid schedule format '* *': expected 5 to 6 fields"), "{error}");
    }
}
