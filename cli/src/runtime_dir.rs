//! The runtime directory: where binaries, default resources and the records of running instances lie.

use std::path::{Path, PathBuf};

/// `<root>/.dapr`, with `root` from `--runtime-path`, `DAPR_RUNTIME_PATH` or the home directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RuntimeDir {
    root: PathBuf,
    /// `root` was chosen by a flag or a variable, so that children must be told.
    chosen: bool,
}

impl RuntimeDir {
    /// `flag` is the value of `--runtime-path`; an empty text counts as absent, as does an empty variable.
    pub(crate) fn find(flag: &str, variable: &dyn Fn(&str) -> Option<String>) -> Self {
        let non_empty = |value: Option<String>| value.filter(|value| !value.trim().is_empty());
        if let Some(root) = non_empty(Some(flag.to_owned())).or_else(|| non_empty(variable("DAPR_RUNTIME_PATH"))) {
            return Self { root: std::path::absolute(&root).unwrap_or_else(|_| PathBuf::from(root)), chosen: true };
        }
        match non_empty(variable("HOME")).or_else(|| non_empty(variable("USERPROFILE"))) {
            Some(home) => Self { root: PathBuf::from(home), chosen: false },
            // Children must be told: what they would find by themselves may be another place.
            None => Self {
                root: std::env::temp_dir().join(format!("dapr-{}", rustix::process::getuid().as_raw())),
                chosen: true,
            },
        }
    }

    /// Value of `DAPR_RUNTIME_PATH` for children; `None` = they find the same directory by themselves.
    pub(crate) fn variable(&self) -> Option<&Path> {
        self.chosen.then_some(self.root.as_path())
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn dir(&self) -> PathBuf {
        self.root.join(".dapr")
    }

    pub(crate) fn bin(&self) -> PathBuf {
        self.dir().join("bin")
    }

    pub(crate) fn components(&self) -> PathBuf {
        self.dir().join("components")
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.dir().join("config.yaml")
    }

    /// Data of the default components.
    pub(crate) fn data(&self) -> PathBuf {
        self.dir().join("data")
    }

    /// Records of running instances.
    pub(crate) fn run(&self) -> PathBuf {
        self.dir().join("run")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flag_before_variable_before_home() {
        let variables = |name: &str| match name {
            "DAPR_RUNTIME_PATH" => Some("/variable".to_owned()),
            "HOME" => Some("/home/me".to_owned()),
            _ => None,
        };
        let home = |name: &str| variables(name).filter(|_| name == "HOME");
        assert_eq!(RuntimeDir::find("/flag", &variables).dir(), PathBuf::from("/flag/.dapr"));
        assert_eq!(RuntimeDir::find("", &variables).variable(), Some(Path::new("/variable")));
        let found = RuntimeDir::find("", &home);
        assert_eq!((found.config(), found.variable()), (PathBuf::from("/home/me/.dapr/config.yaml"), None));
    }
}
