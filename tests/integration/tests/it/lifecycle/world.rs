//! The processes of a run: three sidecars with their apps, and what is done to them.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use http::StatusCode;
use pillion_testkit::{Answer, FakeApp, Recorded, Sidecar, SidecarOptions, reserve};
use rustix::process::{Pid, Signal, kill_process};

use super::files::Files;
use super::plan::{Action, SIDECARS, Step};

/// How long peers may take to find a sidecar that came back.
const SETTLING: Duration = Duration::from_secs(2);
/// How long a restart or reload may take.
const RESTART_LIMIT: Duration = Duration::from_secs(30);
/// The line of a sidecar that is ready.
const READY: &str = "dapr initialized. Status: Running";

/// When something was away.
#[derive(Default)]
pub(super) struct Windows(Mutex<Vec<(Instant, Option<Instant>)>>);

impl Windows {
    fn begin(&self) {
        locked(&self.0).push((Instant::now(), None));
    }

    fn end(&self) {
        if let Some(last) = locked(&self.0).last_mut() {
            last.1 = Some(Instant::now());
        }
    }

    /// Whether a call from `begin` until now may have met it away.
    pub(super) fn excuse(&self, begin: Instant) -> bool {
        locked(&self.0).iter().any(|(_, end)| end.is_none_or(|end| end + SETTLING >= begin))
    }
}

/// What the app of a sidecar has seen.
#[derive(Default)]
pub(super) struct Ledger {
    /// Number of the message to how often it came.
    pub(super) delivered: Mutex<HashMap<u64, u32>>,
    refused: Mutex<HashSet<u64>>,
    /// Calls through the endpoint `failing`, by caller.
    failing: Mutex<HashMap<String, u32>>,
}

impl Ledger {
    fn answer(&self, request: &Recorded) -> Answer {
        match request.path.as_str() {
            "/orders" => self.order(request),
            "/echo" => Answer::text(request.body.clone()),
            path if path.starts_with("/fail/") => {
                let caller = path.split('/').nth(2).unwrap_or_default();
                *locked(&self.failing).entry(caller.to_owned()).or_default() += 1;
                Answer::status(StatusCode::INTERNAL_SERVER_ERROR)
            }
            path if path.starts_with("/v") => Answer::text(path.to_owned()),
            "/extra" | "/healthz" => Answer::default(),
            _ => Answer::status(StatusCode::NOT_FOUND),
        }
    }

    /// Every 17th message is refused once: it must come again.
    fn order(&self, request: &Recorded) -> Answer {
        let Some(number) = request.json()["data"]["number"].as_u64() else { return Answer::default() };
        if number.is_multiple_of(17) && locked(&self.refused).insert(number) {
            return Answer::status(StatusCode::INTERNAL_SERVER_ERROR);
        }
        *locked(&self.delivered).entry(number).or_default() += 1;
        Answer::default()
    }

    pub(super) fn take_failing(&self, caller: &str) -> u32 {
        locked(&self.failing).remove(caller).unwrap_or(0)
    }
}

/// One sidecar with its app.
pub(super) struct Member {
    pub(super) name: &'static str,
    pub(super) app_id: String,
    pub(super) http: AtomicU16,
    pub(super) profile: AtomicU16,
    pub(super) pid: AtomicU32,
    pub(super) away: Windows,
    pub(super) ledger: Arc<Ledger>,
    pub(super) files: tokio::sync::Mutex<Files>,
    app_port: u16,
    app: tokio::sync::Mutex<Option<FakeApp>>,
    sidecar: tokio::sync::Mutex<Option<Sidecar>>,
}

/// What the binary under test promises.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// Files are in effect without a signal.
    pub(super) hot_reload: bool,
    /// No call fails because of a SIGHUP.
    pub(super) strict_hangup: bool,
}

/// Everything that runs.
pub(super) struct World {
    pub(super) members: Vec<Member>,
    pub(super) rules: Rules,
    root: PathBuf,
}

impl World {
    pub(super) async fn start(root: &Path, run: u64, rules: Rules) -> anyhow::Result<Arc<Self>> {
        let ports = [reserve()?, reserve()?, reserve()?];
        let target = ports[2].port();
        let mut members = Vec::new();
        for (name, port) in ["a", "b", "c"].into_iter().zip(ports) {
            let app_port = port.port();
            port.release();
            members.push(Member {
                name,
                app_id: format!("life-{name}-{}-{run}", std::process::id()),
                http: AtomicU16::default(),
                profile: AtomicU16::default(),
                pid: AtomicU32::default(),
                away: Windows::default(),
                ledger: Arc::default(),
                files: tokio::sync::Mutex::new(Files::new(root, name, target)?),
                app_port,
                app: tokio::sync::Mutex::default(),
                sidecar: tokio::sync::Mutex::default(),
            });
        }
        let world = Arc::new(Self { members, rules, root: root.to_owned() });
        for member in &world.members {
            *member.app.lock().await = Some(member.start_app().await?);
        }
        for index in 0..SIDECARS {
            world.launch(index).await?;
        }
        Ok(world)
    }

    pub(super) async fn apply(&self, step: &Step) -> anyhow::Result<()> {
        let member = &self.members[step.sidecar];
        match step.action {
            Action::Edit { slot, content, style } => Ok(member.files.lock().await.edit(slot, content, style).await?),
            Action::Hangup => self.hangup(step.sidecar).await,
            Action::Terminate => self.restart(step.sidecar, Some(Signal::TERM)).await,
            Action::Kill => self.restart(step.sidecar, None).await,
            Action::AppAway(time) => {
                member.away.begin();
                *member.app.lock().await = None;
                tokio::time::sleep(time).await;
                *member.app.lock().await = Some(member.start_app().await?);
                member.away.end();
                Ok(())
            }
        }
    }

    /// Reloads a sidecar in its process and waits until it is ready again.
    pub(super) async fn hangup(&self, index: usize) -> anyhow::Result<()> {
        let member = &self.members[index];
        let slot = member.sidecar.lock().await;
        let sidecar = slot.as_ref().context("no sidecar")?;
        let before = sidecar.log().matches(READY).count();
        if !self.rules.strict_hangup {
            member.away.begin();
        }
        member.files.lock().await.read_anew();
        signal(sidecar, Signal::HUP)?;
        let deadline = Instant::now() + RESTART_LIMIT;
        while sidecar.log().matches(READY).count() == before {
            anyhow::ensure!(Instant::now() < deadline, "{} is not back after SIGHUP:\n{}", member.name, tail(sidecar));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        if !self.rules.strict_hangup {
            member.away.end();
        }
        Ok(())
    }

    /// Ends a sidecar, by the signal or at once, and starts another process.
    async fn restart(&self, index: usize, gentle: Option<Signal>) -> anyhow::Result<()> {
        let member = &self.members[index];
        let mut slot = member.sidecar.lock().await;
        let mut sidecar = slot.take().context("no sidecar")?;
        member.away.begin();
        match gentle {
            None => sidecar.kill(),
            Some(name) => {
                signal(&sidecar, name)?;
                let status = sidecar.wait_for_exit(RESTART_LIMIT).await.context("it does not end")?;
                anyhow::ensure!(
                    status.success(),
                    "{} ended with {status} after SIGTERM:\n{}",
                    member.name,
                    tail(&sidecar)
                );
            }
        }
        drop(slot);
        self.launch(index).await?;
        member.away.end();
        Ok(())
    }

    async fn launch(&self, index: usize) -> anyhow::Result<()> {
        let member = &self.members[index];
        member.files.lock().await.read_anew();
        let profile = reserve()?;
        let profile_port = profile.port();
        profile.release();
        let options = SidecarOptions::new(&member.app_id)
            .app_port(member.app_port)
            .resources(member.files.lock().await.directory())
            .flag("--enable-profiling")
            .flag(&format!("--profile-port={profile_port}"))
            .flag("--log-level=info")
            .environment("DAPR_RUNTIME_PATH", &self.root.display().to_string());
        let sidecar = options.start().await?;
        member.http.store(sidecar.http, Ordering::Relaxed);
        member.profile.store(profile_port, Ordering::Relaxed);
        member.pid.store(sidecar.pid(), Ordering::Relaxed);
        *member.sidecar.lock().await = Some(sidecar);
        Ok(())
    }

    /// The last lines of each sidecar, for a report.
    pub(super) async fn logs(&self) -> String {
        let mut text = String::new();
        for member in &self.members {
            if let Some(sidecar) = member.sidecar.lock().await.as_ref() {
                text += &format!("== {} ==\n{}\n", member.name, tail(sidecar));
            }
        }
        text
    }
}

impl Member {
    async fn start_app(&self) -> anyhow::Result<FakeApp> {
        let deadline = Instant::now() + RESTART_LIMIT;
        loop {
            let ledger = self.ledger.clone();
            match FakeApp::unrecorded(self.app_port, move |request, _| ledger.answer(request)).await {
                Ok(app) => return Ok(app),
                Err(error) if Instant::now() > deadline => return Err(error.into()),
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await, // the old connections are closing
            }
        }
    }

    pub(super) fn port(&self) -> u16 {
        self.http.load(Ordering::Relaxed)
    }
}

fn signal(sidecar: &Sidecar, name: Signal) -> anyhow::Result<()> {
    let pid = i32::try_from(sidecar.pid()).ok().and_then(Pid::from_raw).context("no process")?;
    Ok(kill_process(pid, name)?)
}

fn tail(sidecar: &Sidecar) -> String {
    let log = sidecar.log();
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}

pub(super) fn locked<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}
