//! One application of a run file beside the others.

use std::process::ExitStatus;
use std::rc::Rc;

use anyhow::{Context as _, Error, Result, anyhow};

use super::super::instance::{Instance, LISTENING_LIMIT, NotListening, Template};
use super::super::single::exited_with;
use super::logs::Logs;
use crate::client::Endpoint;
use crate::console;
use crate::context::Context;
use crate::ports::Ports;
use crate::process::{Launcher, describe_end};
use crate::settings::Settings;

/// An application and its sidecar, under way.
#[derive(Debug)]
pub(super) struct Member {
    instance: Instance,
    launcher: Rc<Launcher>,
    logs: Logs,
}

/// How a member came to its end.
pub(super) enum Finished {
    /// Application and sidecar have ended by themselves.
    Ended {
        /// One of them with an error.
        failed: bool,
    },
    /// It never was up.
    NotStarted(Error),
}

impl Member {
    /// Starts the sidecar, and the application when it need not wait for it.
    pub(super) fn start(
        context: &Context,
        launcher: &Rc<Launcher>,
        settings: Settings,
        ports: Ports,
        template: &Template,
        number: usize,
        logs: Logs,
    ) -> Result<Self> {
        let sink = logs.of_sidecar(&context.console)?;
        let mut member = Self {
            instance: Instance::start_sidecar(context, launcher, settings, ports, sink, template, number)?,
            launcher: Rc::clone(launcher),
            logs,
        };
        if member.instance.settings.wanted.app.is_some() {
            member.start_app(context)?;
        }
        Ok(member)
    }

    pub(super) fn into_instance(self) -> Instance {
        self.instance
    }

    fn start_app(&mut self, context: &Context) -> Result<()> {
        let id = &self.instance.settings.app_id;
        let sink = self.logs.of_app(&context.console).with_context(|| format!("cannot start the app {id:?}"))?;
        self.instance.start_app(context, &self.launcher, sink, false)
    }

    /// Completes the start, then tells what ends. Cancel safe.
    pub(super) async fn live(&mut self, context: &Context) -> Finished {
        if let Err(error) = self.complete_start(context).await {
            return Finished::NotStarted(error);
        }
        self.tend(context).await
    }

    async fn complete_start(&mut self, context: &Context) -> Result<()> {
        let http = self.instance.settings.http_endpoint(&self.instance.ports);
        self.listening("HTTP", &http).await?;
        if self.instance.app.is_none() {
            let grpc = self.instance.settings.grpc_endpoint(&self.instance.ports);
            self.listening("gRPC", &grpc).await?;
            self.start_app(context)?;
        }
        self.tell_start(context);
        if let Err(error) = self.instance.publish_metadata(context).await {
            context.console.warning(&format!("app {:?}: {error:#}", self.instance.settings.app_id));
        }
        Ok(())
    }

    async fn listening(&self, api: &str, endpoint: &Endpoint) -> Result<()> {
        let id = &self.instance.settings.app_id;
        self.instance.listening(endpoint).await.map_err(|reason| {
            self.show_last_lines();
            match reason {
                NotListening::Ended(status) => {
                    anyhow!(
                        "the sidecar of app {id:?} {} before it listened on {api} {endpoint}{}",
                        describe_end(status),
                        self.where_to_look()
                    )
                }
                NotListening::TooLate => anyhow!(
                    "the sidecar of app {id:?} does not listen on {api} {endpoint} after {} s{}",
                    LISTENING_LIMIT.as_secs(),
                    self.where_to_look()
                ),
            }
        })
    }

    /// A reason that stands in a file only is shown here.
    fn show_last_lines(&self) {
        let sink = &self.instance.sidecar.sink;
        if sink.on_console() {
            return;
        }
        let prefix = format!("== DAPRD - {} == ", self.instance.settings.app_id);
        let lines: String = sink.last_lines().iter().map(|line| format!("{prefix}{line}\n")).collect();
        console::error(&lines);
    }

    fn where_to_look(&self) -> String {
        match self.instance.sidecar.sink.file() {
            Some(file) => format!("; its last lines stand above, all of them in {}", file.display()),
            None => "; its last lines above tell why".to_owned(),
        }
    }

    fn tell_start(&self, context: &Context) {
        let (settings, ports) = (&self.instance.settings, &self.instance.ports);
        let places = match &settings.unix_domain_socket {
            None => format!("HTTP Port: {}. gRPC Port: {}", ports.http, ports.grpc),
            Some(_) => format!(
                "HTTP Socket: {}. gRPC Socket: {}",
                settings.http_endpoint(ports),
                settings.grpc_endpoint(ports)
            ),
        };
        context.console.info(&format!("Started Dapr with app id {:?}. {places}", settings.app_id));
        if self.logs.to_files() {
            context.console.info(&format!("Writing log files to directory : {}", self.logs.directory.display()));
        }
    }

    /// Waits until both have ended. A sidecar that was asked to end takes its application along; one that dies leaves it running,
    /// as an application that dies leaves its sidecar.
    async fn tend(&self, context: &Context) -> Finished {
        let instance = &self.instance;
        let Some(app) = &instance.app else {
            let status = instance.sidecar.ended().await;
            return Finished::Ended { failed: self.tell_sidecar(context, status) };
        };
        let app_ended = async {
            let status = app.ended().await;
            self.tell_app(context, status)
        };
        let sidecar_ended = async {
            let status = instance.sidecar.ended().await;
            if status.success() {
                app.stop();
            }
            self.tell_sidecar(context, status)
        };
        let (app_failed, sidecar_failed) = tokio::join!(app_ended, sidecar_ended);
        Finished::Ended { failed: app_failed || sidecar_failed }
    }

    fn tell_app(&self, context: &Context, status: ExitStatus) -> bool {
        let id = &self.instance.settings.app_id;
        let asked = self.instance.app.as_ref().is_some_and(super::super::tended::Tended::stop_asked);
        if status.success() || asked {
            context.console.success(&format!("Exited App successfully: {id}"));
            return false;
        }
        context
            .console
            .failure(&format!("app {id:?}: {}; its sidecar and the other apps go on", exited_with("App", status)));
        true
    }

    fn tell_sidecar(&self, context: &Context, status: ExitStatus) -> bool {
        let id = &self.instance.settings.app_id;
        if status.success() {
            context.console.success(&format!("Exited Dapr successfully: {id}"));
            return false;
        }
        self.show_last_lines();
        context.console.failure(&format!("app {id:?}: {}{}", exited_with("daprd", status), self.where_to_look()));
        true
    }
}
