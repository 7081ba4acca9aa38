//! A directory of resource files that lives as long as the test.

use std::path::Path;

use tempfile::TempDir;

/// YAML files for `--resources-path`, removed with the value.
#[derive(Debug)]
pub struct ResourceDir {
    dir: TempDir,
}

impl ResourceDir {
    /// An empty directory.
    ///
    /// # Errors
    /// When the temporary directory cannot be made.
    pub fn new() -> std::io::Result<Self> {
        TempDir::with_prefix("pillion-it-").map(|dir| Self { dir })
    }

    /// Writes `text` to the file `name` and returns the directory, for chaining.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn with(self, name: &str, text: &str) -> std::io::Result<Self> {
        std::fs::write(self.dir.path().join(name), text)?;
        Ok(self)
    }

    /// The path to give to the sidecar.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.dir.path()
    }
}
