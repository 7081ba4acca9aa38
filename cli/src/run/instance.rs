//! One application with its sidecar: started, waited for, told about, stopped.

use std::process::ExitStatus;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use http::Method;

use super::tended::{APP_PATIENCE, SIDECAR_PATIENCE, Tended};
use crate::client::{self, Call, Endpoint};
use crate::context::Context;
use crate::forward::Sink;
use crate::instances::proc;
use crate::instances::record::{Record, RecordFile};
use crate::ports::Ports;
use crate::process::{Launcher, Spec};
use crate::settings::Settings;

/// How long a sidecar may take until it listens. *Source:* the original's wait for each port.
pub(crate) const LISTENING_LIMIT: Duration = Duration::from_secs(60);

/// Pause between attempts to connect to a starting sidecar.
const POLL: Duration = Duration::from_millis(5);

/// How long the sidecar's metadata is tried to be set.
const METADATA_LIMIT: Duration = Duration::from_secs(5);

/// Where the instance comes from, for listings.
#[derive(Clone, Debug, Default)]
pub(crate) struct Template {
    /// Absolute path of the run file; empty = none.
    pub(crate) path: String,
    pub(crate) name: String,
}

/// An application and its sidecar.
#[derive(Debug)]
pub(crate) struct Instance {
    pub(crate) settings: Settings,
    pub(crate) ports: Ports,
    pub(crate) sidecar: Tended,
    pub(crate) app: Option<Tended>,
    record: Record,
    file: RecordFile,
}

/// Why a sidecar does not listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NotListening {
    /// The process ended.
    Ended(ExitStatus),
    /// Nothing accepted connections in time.
    TooLate,
}

impl Instance {
    /// Starts the sidecar and writes the record of the instance, the `number`th of this command.
    ///
    /// # Errors
    /// When the process cannot be started.
    pub(crate) fn start_sidecar(
        context: &Context,
        launcher: &Rc<Launcher>,
        settings: Settings,
        ports: Ports,
        sink: Sink,
        template: &Template,
        number: usize,
    ) -> Result<Self> {
        let mut spec = context.sidecar_spec(settings.sidecar_arguments(&ports));
        spec.variables.extend(settings.sidecar_variables());
        let sidecar = Tended::start(launcher, &spec, sink, SIDECAR_PATIENCE)?;
        let record = record(&settings, &ports, &sidecar, template);
        let instance =
            Self { settings, ports, sidecar, app: None, record, file: RecordFile::new(&context.runtime.run(), number) };
        instance.write_record(context);
        Ok(instance)
    }

    /// Starts the command, if there is one.
    ///
    /// # Errors
    /// When the process cannot be started.
    pub(crate) fn start_app(
        &mut self,
        context: &Context,
        launcher: &Rc<Launcher>,
        sink: Sink,
        inherit_input: bool,
    ) -> Result<()> {
        let Some((program, arguments)) = self.settings.command.split_first() else {
            return Ok(());
        };
        let spec = Spec {
            program: program.into(),
            arg0: program.into(),
            arguments: arguments.iter().map(Into::into).collect(),
            directory: self.settings.directory.clone(),
            variables: self.settings.app_variables(&self.ports),
            inherit_input,
        };
        let app = Tended::start(launcher, &spec, sink, APP_PATIENCE)?;
        self.record.app_pid = app.id;
        self.record.app_start = proc::start_ticks(app.id);
        self.record.app_log_path = app.sink.file().map(|path| path.display().to_string()).unwrap_or_default();
        self.app = Some(app);
        self.write_record(context);
        Ok(())
    }

    /// Waits until the sidecar accepts connections there.
    ///
    /// # Errors
    /// When the sidecar has ended, or [`LISTENING_LIMIT`] is over.
    pub(crate) async fn listening(&self, endpoint: &Endpoint) -> std::result::Result<(), NotListening> {
        let poll = async {
            while !client::listening(endpoint).await {
                tokio::time::sleep(POLL).await;
            }
        };
        tokio::select! {
            status = self.sidecar.ended() => Err(NotListening::Ended(status)),
            waited = tokio::time::timeout(LISTENING_LIMIT, poll) => waited.map_err(|_| NotListening::TooLate),
        }
    }

    /// Puts what other tools look for into the sidecar's metadata.
    ///
    /// # Errors
    /// When the sidecar does not take it within five seconds.
    pub(crate) async fn publish_metadata(&self, context: &Context) -> Result<()> {
        let endpoint = self.settings.http_endpoint(&self.ports);
        let record = &self.record;
        // Source: the keys that the original's `list` and `stop` read.
        let items = [
            ("cliPID", record.cli_pid.to_string()),
            ("appPID", number(record.app_pid)),
            ("appCommand", record.command.clone()),
            ("runTemplatePath", record.run_template_path.clone()),
            ("runTemplateName", record.run_template_name.clone()),
            ("appLogPath", record.app_log_path.clone()),
            ("daprdLogPath", record.daprd_log_path.clone()),
        ];
        for (key, value) in items.into_iter().filter(|(_, value)| !value.is_empty()) {
            let call = context.with_token(Call::new(Method::PUT, format!("/v1.0/metadata/{key}")).body(value));
            let answer = client::send(&endpoint, call, METADATA_LIMIT)
                .await
                .with_context(|| format!("could not update sidecar metadata for {key}"))?;
            if !answer.status.is_success() {
                anyhow::bail!("could not update sidecar metadata for {key}: the sidecar answered {}", answer.status);
            }
        }
        Ok(())
    }

    /// The command as one text; empty when there is none.
    pub(crate) fn command_text(&self) -> &str {
        &self.record.command
    }

    /// Removes the sockets of a sidecar that had no time to do it.
    pub(crate) fn remove_sockets(&self) {
        for endpoint in [self.settings.http_endpoint(&self.ports), self.settings.grpc_endpoint(&self.ports)] {
            if let Endpoint::Socket(path) = endpoint {
                let _ = std::fs::remove_file(path); // the sidecar has removed it already
            }
        }
    }

    fn write_record(&self, context: &Context) {
        if let Err(error) = self.file.write(&self.record) {
            context.console.warning(&format!("{error:#}; `dapr list` and `dapr stop` may not find this app"));
        }
    }
}

fn number(id: u32) -> String {
    if id == 0 { String::new() } else { id.to_string() }
}

fn record(settings: &Settings, ports: &Ports, sidecar: &Tended, template: &Template) -> Record {
    let bytes = |text: &Option<String>, default: u64| match text {
        Some(text) => pillion_core::quantity::parse_bytes(text).unwrap_or(default),
        None => default,
    };
    let own = std::process::id();
    Record {
        app_id: settings.app_id.clone(),
        http_port: ports.http,
        grpc_port: ports.grpc,
        app_port: settings.wanted.app.unwrap_or(0),
        metrics_enabled: true,
        command: settings.command.join(" "),
        created: time::OffsetDateTime::now_utc().unix_timestamp(),
        daprd_pid: sidecar.id,
        daprd_start: proc::start_ticks(sidecar.id),
        cli_pid: own,
        cli_start: proc::start_ticks(own),
        max_request_body_size: bytes(&settings.max_body_size, 4 << 20),
        http_read_buffer_size: bytes(&settings.read_buffer_size, 4 << 10),
        unix_domain_socket: settings.unix_domain_socket.clone(),
        run_template_path: template.path.clone(),
        run_template_name: template.name.clone(),
        daprd_log_path: sidecar.sink.file().map(|path| path.display().to_string()).unwrap_or_default(),
        ..Record::default()
    }
}

/// Stops applications first, so that their last calls still find a sidecar, then the sidecars; all at once, killing what
/// ignores the request. `hurry` kills everything as soon as it completes.
pub(crate) async fn stop_all(instances: &mut [Instance], hurry: impl Future<Output = ()>) {
    let kills: Vec<_> = instances
        .iter()
        .flat_map(|instance| instance.app.iter().chain([&instance.sidecar]))
        .map(Tended::killer)
        .collect();
    let orderly = async {
        let apps = || instances.iter().filter_map(|instance| instance.app.as_ref());
        apps().for_each(Tended::stop);
        let all_ended = async {
            for app in apps() {
                app.ended().await;
            }
        };
        let _ = tokio::time::timeout(APPS_FIRST, all_ended).await; // the others end beside their sidecars
        instances.iter().for_each(|instance| instance.sidecar.stop());
        for instance in instances.iter_mut() {
            if let Some(app) = &mut instance.app {
                app.finished().await;
            }
            instance.sidecar.finished().await;
        }
    };
    tokio::pin!(orderly);
    tokio::select! {
        () = &mut orderly => return,
        () = hurry => kills.iter().for_each(|kill| kill()),
    }
    orderly.await;
}

/// Head start of applications over sidecars when stopping: the sum with the sidecars' own patience stays below ten seconds,
/// after which test drivers give up.
const APPS_FIRST: Duration = Duration::from_secs(2);
