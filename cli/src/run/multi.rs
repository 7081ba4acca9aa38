//! The applications of a run file: started together, told apart by prefixes, stopped together.
//!
//! *Invariant:* nothing starts before the whole file is found good, every command exists and every port is chosen. An application
//! or sidecar that ends later leaves the others alone.

mod app;
mod logs;

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::{Context as _, Result, bail};
use futures_util::stream::{FuturesUnordered, StreamExt as _};

use self::app::{Finished, Member};
use super::file::{self, RunFile};
use super::instance::{Instance, Template, stop_all};
use super::signals::Signals;
use super::{app_settings, check_command};
use crate::command::Outcome;
use crate::console;
use crate::context::Context;
use crate::local_sentry;
use crate::ports;
use crate::process::Launcher;
use crate::settings::Settings;

/// Why the run ends.
enum End {
    Signal,
    /// Every application and sidecar has ended by itself; `true` = one of them with an error.
    Nothing(bool),
    /// One could not start.
    Failure(anyhow::Error),
}

pub(super) async fn run(context: &Context, path: &str, mtls: bool) -> Outcome {
    let mut signals = Signals::new()?;
    let source = read(path)?;
    let (run_file, place) = (checked(context, &source)?, source.shown.display().to_string());
    let template = Template {
        path: source.file.as_ref().map(|file| file.display().to_string()).unwrap_or_default(),
        name: run_file.name.clone(),
    };
    let mut settings: Vec<Settings> =
        run_file.apps.iter().map(|app| app_settings::from_run_file(context, app)).collect();
    for settings in &settings {
        check_command(context, settings)?;
        if settings.command.is_empty() {
            context
                .console
                .warning(&format!("No application command found for app {:?} present in {place}", settings.app_id));
        }
    }
    let wanted: Vec<_> = settings.iter().map(|settings| (settings.app_id.as_str(), settings.wanted)).collect();
    let ports = ports::choose(&wanted)?;

    let sentry = local_sentry::start(context, mtls).await?; // lives as long as this function
    for settings in &mut settings {
        settings.secure(sentry.as_ref());
        local_sentry::hint(context, settings);
    }
    let launcher = Rc::new(Launcher::start()?);
    let stamp = logs::stamp();
    let mut members: Vec<Member> = Vec::new();
    let mut failed = None;
    for (number, ((settings, ports), app)) in settings.into_iter().zip(ports).zip(&run_file.apps).enumerate() {
        context.console.info(&format!("Validating config and starting app {:?}", settings.app_id));
        match Member::start(context, &launcher, settings, ports, &template, number, logs::Logs::of(app, &stamp)) {
            Ok(member) => members.push(member),
            Err(error) => {
                failed = Some(error);
                break;
            }
        }
    }
    let end = match failed {
        Some(error) => End::Failure(error),
        None => tokio::select! {
            end = live(context, &mut members) => end,
            () = signals.next() => End::Signal,
        },
    };
    let code = tell_end(context, &end);
    let mut instances: Vec<Instance> = members.into_iter().map(Member::into_instance).collect();
    stop_all(&mut instances, signals.next()).await;
    instances.iter().for_each(Instance::remove_sockets);
    drop(instances);
    if let Ok(launcher) = Rc::try_unwrap(launcher) {
        launcher.finish();
    }
    Ok(code)
}

/// Tends all members until each has ended, or one could not start.
async fn live(context: &Context, members: &mut [Member]) -> End {
    let mut running: FuturesUnordered<_> = members.iter_mut().map(|member| member.live(context)).collect();
    let mut failed = false;
    while let Some(finished) = running.next().await {
        match finished {
            Finished::Ended { failed: this } => failed |= this,
            Finished::NotStarted(error) => return End::Failure(error),
        }
    }
    End::Nothing(failed)
}

fn tell_end(context: &Context, end: &End) -> u8 {
    let console = &context.console;
    match end {
        End::Signal => {
            console.blank();
            console.info("Received signal to stop Dapr and app processes. Shutting down Dapr and app processes.");
            0
        }
        End::Nothing(failed) => {
            console.info("All apps and sidecars have ended.");
            u8::from(*failed)
        }
        End::Failure(error) => {
            console.failure(&format!("{error:#}"));
            console.info("Shutting down Dapr and app processes, since not all of them could start.");
            1
        }
    }
}

/// The text of a run file and where it comes from.
pub(crate) struct Source {
    /// `None` = standard input.
    pub(crate) file: Option<PathBuf>,
    /// As messages name it.
    pub(crate) shown: PathBuf,
    pub(crate) directory: PathBuf,
    pub(crate) text: String,
}

/// Reads a file, the `dapr.yaml` of a directory, or standard input for `-`.
pub(crate) fn read(path: &str) -> Result<Source> {
    if path == "-" {
        let mut text = String::new();
        std::io::stdin().lock().read_to_string(&mut text).context("cannot read the run file from standard input")?;
        return Ok(Source {
            file: None,
            shown: PathBuf::from("(standard input)"),
            directory: std::env::current_dir().context("cannot find the current directory")?,
            text,
        });
    }
    let file = find(path)?;
    let text =
        std::fs::read_to_string(&file).with_context(|| format!("cannot read the run file {}", file.display()))?;
    Ok(Source {
        directory: file.parent().map(Path::to_owned).unwrap_or_default(),
        shown: file.clone(),
        file: Some(file),
        text,
    })
}

/// The absolute path of a run file that is named by itself or by its directory.
///
/// # Errors
/// When there is none.
pub(crate) fn find(path: &str) -> Result<PathBuf> {
    let given = PathBuf::from(path);
    let file = if given.is_dir() { given.join(file::FILE_NAME) } else { given };
    match std::fs::canonicalize(&file) {
        Ok(file) => Ok(file),
        Err(_) => bail!(
            "the run file {} does not exist; name a file, or a directory that holds {}",
            file.display(),
            file::FILE_NAME
        ),
    }
}

/// The run file without errors; all of them are printed first.
fn checked(context: &Context, source: &Source) -> Result<RunFile> {
    let home = context.variable("HOME").map(Path::new);
    let (run_file, findings) = file::read(&source.shown, &source.text, &source.directory, home);
    for finding in &findings {
        console::error(&format!("{}: {finding}\n", finding.severity));
    }
    match findings.iter().filter(|finding| finding.is_error()).count() {
        0 => Ok(run_file),
        1 => bail!("the run file {} has an error; nothing was started", source.shown.display()),
        count => bail!("the run file {} has {count} errors; nothing was started", source.shown.display()),
    }
}
