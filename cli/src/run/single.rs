//! One application with its sidecar: lives until either ends or a signal comes.

use std::process::ExitStatus;
use std::rc::Rc;

use anyhow::{Result, anyhow};

use super::check_command;
use super::instance::{Instance, LISTENING_LIMIT, NotListening, Template, stop_all};
use super::signals::Signals;
use crate::client::Endpoint;
use crate::command::Outcome;
use crate::context::Context;
use crate::forward::Sink;
use crate::local_sentry;
use crate::ports;
use crate::process::{Launcher, describe_end};
use crate::settings::Settings;

/// What ended the run.
enum End {
    Signal,
    App(ExitStatus),
    Sidecar(ExitStatus),
    Failure(anyhow::Error),
}

pub(super) async fn run(context: &Context, mut settings: Settings, mtls: bool) -> Outcome {
    let mut signals = Signals::new()?;
    let console = &context.console;
    if settings.command.is_empty() {
        console.warning(
            "No application command found, starting Dapr only: the application can be started by hand at any time",
        );
    }
    check_command(context, &settings)?;
    let ports = ports::choose(&[(&settings.app_id, settings.wanted)])?.remove(0);
    let sentry = local_sentry::start(context, mtls).await?; // lives as long as this function
    settings.secure(sentry.as_ref());
    local_sentry::hint(context, &settings);
    let launcher = Rc::new(Launcher::start()?);
    match &settings.unix_domain_socket {
        None => console.info(&format!(
            "Starting Dapr with id {}. HTTP Port: {}. gRPC Port: {}",
            settings.app_id, ports.http, ports.grpc
        )),
        Some(_) => console.info(&format!(
            "Starting Dapr with id {}. HTTP Socket: {}. gRPC Socket: {}",
            settings.app_id,
            settings.http_endpoint(&ports),
            settings.grpc_endpoint(&ports)
        )),
    }
    let sink = Sink::new(Some((console, "")), None)?;
    let mut instance = Instance::start_sidecar(context, &launcher, settings, ports, sink, &Template::default(), 0)?;

    let end = tokio::select! {
        end = live(context, &launcher, &mut instance) => end,
        () = signals.next() => End::Signal,
    };
    let code = tell_end(context, &end);
    let (app_ran, sidecar_ran) =
        (instance.app.as_ref().is_some_and(|app| !app.has_ended()), !instance.sidecar.has_ended());
    stop_all(std::slice::from_mut(&mut instance), signals.next()).await;
    if sidecar_ran {
        console.success("Exited Dapr successfully");
    }
    if app_ran {
        console.success("Exited App successfully");
    }
    instance.remove_sockets();
    drop(instance);
    if let Ok(launcher) = Rc::try_unwrap(launcher) {
        launcher.finish();
    }
    Ok(code)
}

async fn live(context: &Context, launcher: &Rc<Launcher>, instance: &mut Instance) -> End {
    if instance.settings.wanted.app.is_none()
        && let Err(error) = wait_for_sidecar(context, instance).await
    {
        return End::Failure(error);
    }
    if !instance.settings.command.is_empty() {
        let started = Sink::new(Some((&context.console, "== APP == ")), None)
            .and_then(|sink| instance.start_app(context, launcher, sink, input_is_no_terminal()));
        if let Err(error) = started {
            context.console.failure("Start App failed, try to stop Dapr successfully");
            return End::Failure(error);
        }
    }
    let instance = &*instance;
    let introduce = async {
        match introduce(context, instance).await {
            Ok(()) => std::future::pending().await,
            Err(error) => error,
        }
    };
    let app_ended = async {
        match &instance.app {
            Some(app) => app.ended().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        status = app_ended => End::App(status),
        status = instance.sidecar.ended() => End::Sidecar(status),
        error = introduce => End::Failure(error),
    }
}

/// Without an application port nothing tells the application when the sidecar is there: it starts after it.
async fn wait_for_sidecar(context: &Context, instance: &Instance) -> Result<()> {
    for (api, endpoint) in [
        ("HTTP", instance.settings.http_endpoint(&instance.ports)),
        ("GRPC", instance.settings.grpc_endpoint(&instance.ports)),
    ] {
        let (kind, place) = match &endpoint {
            Endpoint::Port(port) => ("port", port.to_string()),
            Endpoint::Socket(path) => ("socket", path.display().to_string()),
        };
        context.console.info(&format!("Checking if Dapr sidecar is listening on {api} {kind} {place}"));
        listening(instance, api, &endpoint).await?;
    }
    context.console.info("Dapr sidecar is up and running.");
    Ok(())
}

async fn listening(instance: &Instance, api: &str, endpoint: &Endpoint) -> Result<()> {
    instance.listening(endpoint).await.map_err(|reason| match reason {
        NotListening::Ended(status) => {
            anyhow!(
                "the sidecar {} before it listened on {api} {endpoint}; its last lines above tell why",
                describe_end(status)
            )
        }
        NotListening::TooLate => {
            anyhow!(
                "the sidecar does not listen on {api} {endpoint} after {} s; its log lines above may tell why",
                LISTENING_LIMIT.as_secs()
            )
        }
    })
}

async fn introduce(context: &Context, instance: &Instance) -> Result<()> {
    listening(instance, "HTTP", &instance.settings.http_endpoint(&instance.ports)).await?;
    if let Err(error) = instance.publish_metadata(context).await {
        context.console.warning(&format!("{error:#}"));
    }
    if instance.app.is_some() {
        context.console.info(&format!("Updating metadata for app command: {}", instance.command_text()));
        context.console.success("You're up and running! Both Dapr and your app logs will appear here.\n");
    } else {
        context.console.success("You're up and running! Dapr logs will appear here.\n");
    }
    Ok(())
}

/// Says what ended the run and gives the exit code.
fn tell_end(context: &Context, end: &End) -> u8 {
    let console = &context.console;
    match end {
        End::Signal => {
            console.blank();
            console.info("terminated signal received: shutting down");
            0
        }
        End::App(status) if status.success() => {
            console.success("Exited App successfully");
            0
        }
        End::App(status) => {
            console.failure(&exited_with("App", *status));
            1
        }
        End::Sidecar(status) if status.success() => {
            console.success("Exited Dapr successfully");
            0
        }
        End::Sidecar(status) => {
            console.failure(&exited_with("daprd", *status));
            1
        }
        End::Failure(error) => {
            console.failure(&format!("{error:#}"));
            1
        }
    }
}

pub(super) fn exited_with(what: &str, status: ExitStatus) -> String {
    match status.code() {
        Some(code) => format!("The {what} process exited with error code: {code}"),
        None => format!("The {what} process {}", describe_end(status)),
    }
}

/// The application has a process group of its own, which may not read from a terminal.
fn input_is_no_terminal() -> bool {
    use std::io::IsTerminal as _;
    !std::io::stdin().is_terminal()
}
