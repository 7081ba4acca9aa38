//! Files that are made, read, listed and removed, and names that lead elsewhere.

use std::os::unix::fs::symlink;

use pillion_contract::Metadata;
use pillion_core::log::Logger;
use tokio_util::sync::CancellationToken;

use super::*;

async fn binding(root: &str) -> Result<Arc<dyn OutputBinding>, ComponentError> {
    create(InitContext {
        name: "files".into(),
        component_type: "bindings.localstorage".into(),
        version: "v1".into(),
        metadata: Metadata::new([("rootPath", root)]),
        app_id: "app".into(),
        namespace: "default".into(),
        data_dir: PathBuf::new(),
        log: Logger::silent(),
        cancel: CancellationToken::new(),
    })
    .await
}

async fn invoke(
    binding: &dyn OutputBinding,
    operation: &str,
    name: &str,
    data: &'static [u8],
) -> Result<String, String> {
    let metadata = if name.is_empty() { [].into() } else { [("fileName".to_owned(), name.to_owned())].into() };
    let request = BindingRequest { operation: operation.into(), data: Bytes::from_static(data), metadata };
    match binding.invoke(&request).await {
        Ok(Some(answer)) => Ok(String::from_utf8_lossy(&answer.data).into_owned()),
        Ok(None) => Ok("nothing".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

#[tokio::test]
async fn files_come_and_go() {
    let dir = tempfile::tempdir().unwrap();
    let root = fs::canonicalize(dir.path()).unwrap().join("new");
    let files = binding(root.to_str().unwrap()).await.unwrap();
    let files = files.as_ref();
    assert_eq!(files.operations(), ["create", "get", "list", "delete"]);
    assert_eq!(invoke(files, "list", "", b"").await.unwrap(), "null");
    assert_eq!(invoke(files, "create", "a/b.txt", b"\"say \\\"hi\\\"\"").await.unwrap(), r#"{"fileName":"a/b.txt"}"#);
    assert_eq!(invoke(files, "get", "a/b.txt", b"").await.unwrap(), "say \"hi\"");
    for (data, written) in [
        (b"\"aGVsbG8=\"".as_slice(), "hello"),
        (b"aGVs\nbG8=".as_slice(), "hello"),
        (b"{\"a\": 1}".as_slice(), "{\"a\": 1}"),
        (b"data1".as_slice(), "data1"),
        (b"".as_slice(), ""),
    ] {
        invoke(files, "create", "c", data).await.unwrap();
        assert_eq!(invoke(files, "get", "c", b"").await.unwrap(), written);
    }
    let all = invoke(files, "list", "", b"").await.unwrap();
    let expected = serde_json::json!([root.join("a/b.txt"), root.join("c")]).to_string();
    assert_eq!(all, expected);
    let made = invoke(files, "create", "", b"x").await.unwrap();
    let made: serde_json::Value = serde_json::from_str(&made).unwrap();
    let name = made["fileName"].as_str().unwrap();
    assert_eq!(name.len(), 36, "{made}");
    assert_eq!(invoke(files, "delete", name, b"").await.unwrap(), "nothing");
    assert!(invoke(files, "delete", name, b"").await.unwrap_err().starts_with("error deleting file"));
    assert!(invoke(files, "get", name, b"").await.unwrap_err().starts_with("file not found: "));
    let error = invoke(files, "list", "c", b"").await.unwrap_err();
    assert!(error.starts_with("unable to list files as the file specified is not a directory"), "{error}");
    assert_eq!(invoke(files, "move", "c", b"").await.unwrap_err(), "unsupported operation move");
    pillion_conformance::bindings::output(binding(root.to_str().unwrap()).await.unwrap()).await;
}

#[tokio::test]
async fn no_name_leads_out_of_the_root() {
    let dir = tempfile::tempdir().unwrap();
    let outside = fs::canonicalize(dir.path()).unwrap();
    fs::write(outside.join("secret"), "s").unwrap();
    fs::create_dir(outside.join("there")).unwrap();
    let root = outside.join("root");
    let files = binding(root.to_str().unwrap()).await.unwrap();
    symlink(&outside, root.join("absolute")).unwrap();
    symlink("../../", root.join("relative")).unwrap();
    symlink("loop", root.join("loop")).unwrap();
    for name in ["../secret", "/../secret", "absolute/secret", "relative/secret", "a/../../secret", "./..//../secret"] {
        let error = invoke(files.as_ref(), "get", name, b"").await.unwrap_err();
        assert!(error.starts_with("file not found: ") && error.contains("/root/"), "{name}: {error}");
        let _ = invoke(files.as_ref(), "create", name, b"mine").await;
        let _ = invoke(files.as_ref(), "delete", name, b"").await;
    }
    let _ = invoke(files.as_ref(), "delete", "absolute/there", b"").await;
    let _ = invoke(files.as_ref(), "create", "absolute/there/new", b"x").await;
    assert_eq!(fs::read_to_string(outside.join("secret")).unwrap(), "s");
    assert_eq!(fs::read_dir(outside.join("there")).unwrap().count(), 0);
    let error = invoke(files.as_ref(), "get", "loop", b"").await.unwrap_err();
    assert!(error.contains("too many levels of symbolic links"), "{error}");
    let error = invoke(files.as_ref(), "get", "a\0b", b"").await.unwrap_err();
    assert!(error.contains("zero byte"), "{error}");
}

#[tokio::test]
async fn places_of_the_system_are_no_root() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let link = dir.path().join("link");
    symlink("/sys", &link).unwrap();
    let file = file.to_str().unwrap();
    let inside = link.join("x");
    for (root, problem) in [
        ("", "property rootPath must not be empty"),
        (file, "property rootPath represents a file and not a directory"),
        ("/proc", "property rootPath points to a disallowed location"),
        ("/proc/1", "property rootPath points to a disallowed location"),
        ("/tmp/../sys/x", "property rootPath points to a disallowed location"),
        (inside.to_str().unwrap(), "property rootPath points to a disallowed location"),
        ("/var/run/secrets/x", "property rootPath points to a disallowed location"),
    ] {
        let error = binding(root).await.err().unwrap().to_string();
        assert_eq!(error, format!("failed to parse metadata: {problem}"), "{root}");
    }
}
