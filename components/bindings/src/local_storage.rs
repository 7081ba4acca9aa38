//! `bindings.localstorage`: files below one folder.
//!
//! *Source:* components-contrib `bindings/localstorage`. *Neighbours:* `paths` says where a name leads. *Invariant:* nothing outside the root
//! is read, written, listed or removed, whatever a name says and wherever links lead; files are touched off the async threads.

mod paths;
#[cfg(test)]
mod tests;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use pillion_contract::{BindingRequest, BindingResponse, ComponentError, ErrorKind, InitContext, OutputBinding};

const OPERATIONS: [&str; 4] = ["create", "get", "list", "delete"];
/// As Go reads base64: padding is needed, what is left of the last byte does not matter.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical)
        .with_decode_allow_trailing_bits(true),
);

/// The binding; see the module text.
struct LocalStorage {
    root: PathBuf,
    operations: Vec<String>,
}

/// Makes the binding, and its folder when it is not there.
///
/// # Errors
/// `rootPath` is missing, leads to a place of the system, or cannot be made.
pub(crate) async fn create(context: InitContext) -> Result<Arc<dyn OutputBinding>, ComponentError> {
    let wanted = PathBuf::from(context.metadata.get("rootPath").unwrap_or_default());
    let root = off_thread(move || {
        let root = paths::root(&wanted).map_err(|problem| format!("failed to parse metadata: {problem}"))?;
        fs::create_dir_all(&root).map_err(|error| {
            format!("unable to create directory specified by 'rootPath' {}: {error}", root.display())
        })?;
        Ok(root)
    })
    .await
    .map_err(|mut error| {
        error.kind = ErrorKind::InvalidRequest;
        error
    })?;
    Ok(Arc::new(LocalStorage { root, operations: OPERATIONS.map(str::to_owned).to_vec() }))
}

#[async_trait]
impl OutputBinding for LocalStorage {
    fn operations(&self) -> &[String] {
        &self.operations
    }

    async fn invoke(&self, request: &BindingRequest) -> Result<Option<BindingResponse>, ComponentError> {
        let mut name = request.metadata.get("fileName").cloned().unwrap_or_default();
        let data = request.data.clone();
        let root = self.root.clone();
        let data = match request.operation.as_str() {
            "create" => {
                if name.is_empty() {
                    name = uuid::Uuid::new_v4().to_string();
                }
                off_thread(move || write(&root, &name, &data)).await?
            }
            "get" => off_thread(move || read(&root, &name)).await?,
            "list" => off_thread(move || list(&root, &name)).await?,
            "delete" => {
                off_thread(move || remove(&root, &name)).await?;
                return Ok(None);
            }
            other => {
                return Err(ComponentError::new(ErrorKind::InvalidRequest, format!("unsupported operation {other}")));
            }
        };
        Ok(Some(BindingResponse { data, ..BindingResponse::default() }))
    }
}

async fn off_thread<T: Send + 'static>(
    job: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, ComponentError> {
    let done = tokio::task::spawn_blocking(job).await.unwrap_or_else(|error| Err(error.to_string()));
    done.map_err(|problem| ComponentError::new(ErrorKind::Internal, problem))
}

fn resolve(root: &Path, name: &str) -> Result<PathBuf, String> {
    paths::below(root, name).map_err(|error| format!("error getting absolute path for file {name}: {error}"))
}

fn write(root: &Path, name: &str, data: &[u8]) -> Result<Bytes, String> {
    let path = resolve(root, name)?;
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)
            .map_err(|error| format!("error creating directory {}: {error}", folder.display()))?;
    }
    fs::write(&path, content(data)).map_err(|error| format!("error creating file {}: {error}", path.display()))?;
    let relative = path.strip_prefix(root).unwrap_or(&path); // it is below
    let shown = if relative.as_os_str().is_empty() { Path::new(".") } else { relative };
    Ok(serde_json::json!({"fileName": shown.to_string_lossy()}).to_string().into())
}

/// What is to be written: a JSON text without its quotes, base64 decoded.
fn content(data: &[u8]) -> Vec<u8> {
    let text: Option<String> = serde_json::from_slice(data).ok();
    let data = text.map_or_else(|| data.to_vec(), String::into_bytes);
    let packed: Vec<u8> = data.iter().copied().filter(|byte| !matches!(byte, b'\r' | b'\n')).collect();
    BASE64.decode(packed).unwrap_or(data)
}

fn read(root: &Path, name: &str) -> Result<Bytes, String> {
    let path = resolve(root, name)?;
    fs::read(&path).map(Bytes::from).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => format!("file not found: {}", path.display()),
        _ => format!("error reading file {}: {error}", path.display()),
    })
}

fn remove(root: &Path, name: &str) -> Result<(), String> {
    let path = resolve(root, name)?;
    let is_folder = fs::symlink_metadata(&path).is_ok_and(|found| found.is_dir());
    let removed = if is_folder { fs::remove_dir(&path) } else { fs::remove_file(&path) };
    removed.map_err(|error| format!("error deleting file {}: {error}", path.display()))
}

fn list(root: &Path, name: &str) -> Result<Bytes, String> {
    let path = resolve(root, name)?;
    let found =
        fs::metadata(&path).map_err(|error| format!("error getting stats for path {}: {error}", path.display()))?;
    if !found.is_dir() {
        return Err(format!("unable to list files as the file specified is not a directory: {}", path.display()));
    }
    let mut files = Vec::new();
    walk(&path, &mut files)
        .map_err(|error| format!("error listing files in the directory {}: {error}", path.display()))?;
    if files.is_empty() {
        return Ok(Bytes::from_static(b"null")); // as the original writes an empty list
    }
    serde_json::to_vec(&files).map(Bytes::from).map_err(|error| format!("error encoding response as JSON: {error}"))
}

/// The files below a folder in the order of their names; links are listed and not followed.
fn walk(folder: &Path, files: &mut Vec<String>) -> std::io::Result<()> {
    let mut entries = fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        if entry.file_type()?.is_dir() {
            walk(&entry.path(), files)?;
        } else {
            files.push(entry.path().to_string_lossy().into_owned());
        }
    }
    Ok(())
}
