//! A child with its output, watched by a task of its own: others learn of its end and ask for it.

use std::process::ExitStatus;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Result;
use rustix::process::Signal;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::forward::Sink;
use crate::process::{Launcher, Process, Spec};

/// Time an application has between SIGTERM and SIGKILL. *Source:* the original's grace period.
pub(crate) const APP_PATIENCE: Duration = Duration::from_secs(5);

/// As [`APP_PATIENCE`], for a sidecar: more than the five seconds it gives its own calls by default, and with the head start of
/// applications less than the ten seconds after which test drivers give up.
pub(crate) const SIDECAR_PATIENCE: Duration = Duration::from_secs(7);

/// Time for the last output after the end of a process; descendants may keep the pipe open for ever.
const LAST_OUTPUT: Duration = Duration::from_millis(200);

/// A running or ended child. Dropping it does not end the child; [`Tended::stop`] does.
#[derive(Debug)]
pub(crate) struct Tended {
    pub(crate) id: u32,
    pub(crate) sink: Sink,
    stop: CancellationToken,
    kill: CancellationToken,
    ended: watch::Receiver<Option<ExitStatus>>,
    task: JoinHandle<()>,
}

impl Tended {
    /// Starts a child; to be called inside a `LocalSet`. It has `patience` to end when it is asked to.
    ///
    /// # Errors
    /// As [`Launcher::spawn`].
    pub(crate) fn start(launcher: &Rc<Launcher>, spec: &Spec, sink: Sink, patience: Duration) -> Result<Self> {
        let mut process = launcher.spawn(spec)?;
        let (stdout, stderr) = process.take_output();
        let copies = [sink.copy(stdout), sink.copy(stderr)];
        let (sender, ended) = watch::channel(None);
        let (stop, kill) = (CancellationToken::new(), CancellationToken::new());
        Ok(Self {
            id: process.id(),
            sink,
            task: tokio::task::spawn_local(tend(
                Rc::clone(launcher),
                process,
                copies,
                sender,
                stop.clone(),
                kill.clone(),
                patience,
            )),
            stop,
            kill,
            ended,
        })
    }

    /// Waits for the end of the child. Cancel safe.
    pub(crate) async fn ended(&self) -> ExitStatus {
        let mut ended = self.ended.clone();
        let status = ended.wait_for(Option::is_some).await.ok().and_then(|status| *status);
        status.unwrap_or_default() // the task has always sent a status before it ends
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended.borrow().is_some()
    }

    /// Asks the child and its descendants to end; [`Tended::finished`] tells when they have.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }

    /// Whether it was asked to end.
    pub(crate) fn stop_asked(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// What kills all that is left of it, at once.
    pub(crate) fn killer(&self) -> impl Fn() + use<> {
        let (stop, kill) = (self.stop.clone(), self.kill.clone());
        move || {
            kill.cancel();
            stop.cancel();
        }
    }

    /// Waits until nothing of it is left, after [`Tended::stop`].
    pub(crate) async fn finished(&mut self) {
        let _ = (&mut self.task).await; // it neither panics nor is aborted
    }
}

async fn tend(
    launcher: Rc<Launcher>,
    mut process: Process,
    copies: [JoinHandle<()>; 2],
    ended: watch::Sender<Option<ExitStatus>>,
    stop: CancellationToken,
    kill: CancellationToken,
    patience: Duration,
) {
    let mut copies = Some(copies);
    tokio::select! {
        status = process.wait() => {
            drain(&mut copies).await;
            launcher.forget(&process);
            let _ = ended.send(Some(status)); // nobody may be listening
            stop.cancelled().await; // descendants may go on until then
        }
        () = stop.cancelled() => {}
    }
    let status = tokio::select! {
        status = process.stop(patience) => status,
        () = kill.cancelled() => {
            process.signal(Signal::KILL);
            process.wait().await
        }
    };
    drain(&mut copies).await;
    launcher.forget(&process);
    let _ = ended.send(Some(status)); // as above
}

async fn drain(copies: &mut Option<[JoinHandle<()>; 2]>) {
    for copy in copies.take().into_iter().flatten() {
        let _ = tokio::time::timeout(LAST_OUTPUT, copy).await; // a later line is copied all the same, while we live
    }
}
