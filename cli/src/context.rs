//! What every command gets: the console, the runtime directory and the environment of this process.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use crate::client::Call;
use crate::command::Program;
use crate::console::Console;
use crate::local_sentry::StartSentry;
use crate::process::Spec;
use crate::runtime_dir::RuntimeDir;

/// What commands work with.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    pub(crate) console: Console,
    pub(crate) runtime: RuntimeDir,
    /// The name of this program in what it says.
    pub(crate) program: String,
    /// The component types the sidecar carries; empty = not known.
    pub(crate) component_types: fn() -> Vec<String>,
    /// Starts the sentry of this machine.
    pub(crate) sentry: StartSentry,
    environment: BTreeMap<String, String>,
}

impl Context {
    pub(crate) fn new(program: &Program, log_as_json: bool, runtime_path: &str) -> Self {
        let environment = program.environment.clone();
        Self {
            console: Console::new(log_as_json, environment.contains_key("NO_COLOR")),
            runtime: RuntimeDir::find(runtime_path, &|name| environment.get(name).cloned()),
            program: program.name.clone(),
            component_types: program.component_types,
            sentry: program.sentry,
            environment,
        }
    }

    /// A variable of the environment; `None` also when it is empty.
    pub(crate) fn variable(&self, name: &str) -> Option<&str> {
        self.environment.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Adds the API token that the sidecars of this environment ask for.
    pub(crate) fn with_token(&self, call: Call) -> Call {
        match self.variable("DAPR_API_TOKEN") {
            Some(token) => call.header("dapr-api-token", token),
            None => call,
        }
    }

    /// The sidecar's program: `PILLION_DAPRD`, else this very file under the name `daprd`.
    pub(crate) fn sidecar_program(&self) -> PathBuf {
        if let Some(program) = self.variable("PILLION_DAPRD") {
            return PathBuf::from(program);
        }
        let own = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("daprd"));
        let link = self.runtime.bin().join("daprd");
        // Through the link, process lists show the name daprd; a link to another version must not be used.
        let same = |link: &PathBuf| {
            std::fs::canonicalize(link).ok().is_some_and(|real| Some(real) == std::fs::canonicalize(&own).ok())
        };
        if same(&link) { link } else { own }
    }

    /// Starts the sidecar with these arguments.
    pub(crate) fn sidecar_spec(&self, arguments: Vec<OsString>) -> Spec {
        let variables = match self.runtime.variable() {
            Some(root) => vec![("DAPR_RUNTIME_PATH".to_owned(), root.into())],
            None => Vec::new(),
        };
        Spec {
            program: self.sidecar_program().into(),
            arg0: "daprd".into(),
            arguments,
            directory: None,
            variables,
            inherit_input: false,
        }
    }
}
