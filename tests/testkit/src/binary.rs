//! Which binary is tested, and how its sidecar role is asked for.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Variable that names the binary under test.
const VARIABLE: &str = "PILLION_BIN";

/// The binary under test.
#[derive(Clone, Debug)]
pub struct Binary {
    path: PathBuf,
}

/// No binary to test.
#[derive(Debug)]
pub struct BinaryError(PathBuf);

impl std::fmt::Display for BinaryError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "no binary at {}: run `cargo build -p pillion` or set {VARIABLE}", self.0.display())
    }
}

impl std::error::Error for BinaryError {}

impl Binary {
    /// The binary `PILLION_BIN` names, else `pillion` in the directory that holds this test's `deps`.
    ///
    /// # Errors
    /// When there is no such file.
    pub fn find() -> Result<Self, BinaryError> {
        let path = std::env::var_os(VARIABLE).map_or_else(beside_the_test, PathBuf::from);
        if path.is_file() { Ok(Self { path }) } else { Err(BinaryError(path)) }
    }

    /// Whether this is our own binary and not a foreign `daprd`. Tests of what only ours promises ask this first.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        let real = self.path.canonicalize().unwrap_or_else(|_| self.path.clone());
        file_name(&real) != "daprd"
    }

    /// The command that starts the sidecar role: a file named `daprd` is that role, any other takes it as an argument.
    #[must_use]
    pub fn sidecar_command(&self) -> Command {
        let mut command = Command::new(&self.path);
        if file_name(&self.path) != "daprd" {
            command.arg("daprd");
        }
        command
    }

    /// The command that starts another role, for example `sentry`: of our binary, or the program that `PILLION_BIN_SENTRY`
    /// names.
    #[must_use]
    pub fn role_command(&self, role: &str) -> Command {
        if let Some(program) = std::env::var_os(format!("{VARIABLE}_{}", role.to_uppercase())) {
            return Command::new(program);
        }
        let mut command = Command::new(self.path.canonicalize().unwrap_or_else(|_| self.path.clone()));
        command.arg(role);
        command
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn beside_the_test() -> PathBuf {
    let exe = std::env::current_exe().unwrap_or_default();
    let debug = exe.parent().and_then(Path::parent).unwrap_or_else(|| Path::new("."));
    debug.join("pillion")
}
