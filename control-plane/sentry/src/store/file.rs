//! Material in files, readable by their owner only.

use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use async_trait::async_trait;

use super::{CredentialStore, Material, Saved};
use crate::options::CredentialFiles;

const OWNER_ONLY: u32 = 0o600;

/// Files of one machine.
pub(crate) struct FileStore {
    files: CredentialFiles,
}

impl FileStore {
    pub(crate) fn new(files: CredentialFiles) -> Self {
        Self { files }
    }
}

#[async_trait]
impl CredentialStore for FileStore {
    async fn load(&self) -> Result<Material, String> {
        let files = self.files.clone();
        blocking(move || {
            Ok(Material {
                root: read(&files.root)?,
                issuer_chain: read(&files.issuer_chain)?,
                issuer_key: read(&files.issuer_key)?,
                token_key: read(&files.token_key)?,
                key_set: read(&files.key_set)?,
            })
        })
        .await
    }

    async fn save(&self, material: &Material) -> Result<Saved, String> {
        let (files, material) = (self.files.clone(), material.clone());
        blocking(move || {
            // The root last: what was cut off in between is made anew by the next start.
            let parts = [
                (&files.key_set, &material.key_set),
                (&files.token_key, &material.token_key),
                (&files.issuer_key, &material.issuer_key),
                (&files.issuer_chain, &material.issuer_chain),
                (&files.root, &material.root),
            ];
            for (file, content) in parts {
                if let Some(content) = content {
                    write(file, content)?;
                }
            }
            Ok(Saved::Done)
        })
        .await
    }

    /// The file of the roots is for everybody already.
    async fn publish(&self, _: &Material) -> Result<(), String> {
        Ok(())
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, String> + Send + 'static) -> Result<T, String> {
    tokio::task::spawn_blocking(work).await.map_err(|error| error.to_string())?
}

fn read(file: &Path) -> Result<Option<Vec<u8>>, String> {
    match std::fs::read(file) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("cannot read {}: {error}", file.display())),
    }
}

/// Replaces a file as a whole: a reader sees the old or the new one.
fn write(file: &Path, content: &[u8]) -> Result<(), String> {
    let failed = |error: std::io::Error| {
        format!("cannot write {}: {error}; check that the directory exists and --issuer-credentials", file.display())
    };
    let mut name = file.as_os_str().to_owned();
    name.push(".new");
    let beside = PathBuf::from(name);
    let mut options = std::fs::OpenOptions::new();
    let mut out = options.write(true).create(true).truncate(true).mode(OWNER_ONLY).open(&beside).map_err(failed)?;
    out.write_all(content).and_then(|()| out.sync_all()).map_err(failed)?;
    std::fs::rename(&beside, file).map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[tokio::test]
    async fn material_comes_back_and_is_for_its_owner() {
        let directory = tempfile::tempdir().unwrap();
        let store = FileStore::new(CredentialFiles::of(directory.path()));
        assert!(store.load().await.unwrap() == Material::default());
        let material = Material { root: Some(b"r".to_vec()), issuer_key: Some(b"k".to_vec()), ..Material::default() };
        store.save(&material).await.unwrap();
        assert!(store.load().await.unwrap() == material);
        let mode = std::fs::metadata(directory.path().join("issuer.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, OWNER_ONLY);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2);
    }

    #[tokio::test]
    async fn a_missing_directory_is_told() {
        let store = FileStore::new(CredentialFiles::of(Path::new("/nonexistent/here")));
        let material = Material { root: Some(Vec::new()), ..Material::default() };
        assert!(store.save(&material).await.unwrap_err().contains("check that the directory exists"));
    }
}
