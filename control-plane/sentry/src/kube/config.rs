//! How to reach Kubernetes: a kubeconfig file, else the cluster this process runs in.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pillion_http_client::{Client, Tls, TlsOptions};
use pillion_security::{Certificate, PrivateKey};
use serde_json::Value as Json;

use super::{KubeClient, LIMITS, Token};
use crate::options::Options;
use crate::yaml;

/// *Source:* the places Kubernetes mounts into every pod.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// A client as the options say.
///
/// # Errors
/// Names the file or variable that is missing or wrong.
pub(crate) fn load(options: &Options) -> Result<KubeClient, String> {
    match options.kubeconfig.as_deref().filter(|file| file.is_file()) {
        Some(file) => from_file(file).map_err(|error| format!("the kubeconfig file {}: {error}", file.display())),
        None => in_cluster(options),
    }
}

fn in_cluster(options: &Options) -> Result<KubeClient, String> {
    let place =
        options.environment.get("KUBERNETES_SERVICE_HOST").zip(options.environment.get("KUBERNETES_SERVICE_PORT"));
    let (host, port) = place.ok_or(
        "cannot reach Kubernetes: there is no kubeconfig file and KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set; pass --kubeconfig",
    )?;
    let root = Path::new(ACCOUNT).join("ca.crt");
    let roots = read(&root).and_then(|text| Certificate::from_pem(&text).map_err(|error| error.to_string()))?;
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    Ok(KubeClient {
        server: format!("https://{host}:{port}"),
        client: client(TlsOptions { roots: Some(roots), ..TlsOptions::default() })?,
        token: Token::File(Path::new(ACCOUNT).join("token")),
    })
}

fn from_file(file: &Path) -> Result<KubeClient, String> {
    let text = String::from_utf8_lossy(&read(file)?).into_owned();
    let config = yaml::read(file, &text)?.ok_or("is empty")?;
    let current = yaml::text(&config, "/current-context").ok_or("names no current-context")?;
    let context = named(&config, "contexts", current)?;
    let cluster_name = yaml::text(context, "/context/cluster").ok_or("the context names no cluster")?;
    let cluster = named(&config, "clusters", cluster_name)?;
    let empty = Json::Null;
    let user = match yaml::text(context, "/context/user") {
        Some(name) => named(&config, "users", name)?,
        None => &empty,
    };
    let source = Source { file, entry: cluster.get("cluster").unwrap_or(&empty) };
    let user = Source { file, entry: user.get("user").unwrap_or(&empty) };
    if source.entry.get("insecure-skip-tls-verify").and_then(Json::as_bool) == Some(true) {
        return Err(
            "insecure-skip-tls-verify is not supported; give the certificate-authority of the cluster".to_owned()
        );
    }
    let server = source.text("server").ok_or("the cluster has no server")?.trim_end_matches('/').to_owned();
    let pem_error = |error: pillion_security::Error| error.to_string();
    let roots = source
        .data("certificate-authority")?
        .map(|text| Certificate::from_pem(&text))
        .transpose()
        .map_err(pem_error)?;
    let identity = match (user.data("client-certificate")?, user.data("client-key")?) {
        (Some(chain), Some(key)) => {
            Some((Certificate::from_pem(&chain).map_err(pem_error)?, PrivateKey::from_pem(&key).map_err(pem_error)?))
        }
        _ => None,
    };
    let token = match (user.text("token"), user.text("tokenFile")) {
        (Some(token), _) => Token::Fixed(token.to_owned()),
        (None, Some(path)) => Token::File(user.path(path)),
        (None, None) => Token::None,
    };
    let server_name = source.text("tls-server-name").map(str::to_owned);
    let client = if server.starts_with("https:") {
        client(TlsOptions { roots, identity, server_name, is_unverified: false })?
    } else {
        Client::new(LIMITS)
    };
    Ok(KubeClient { server, client, token })
}

fn client(options: TlsOptions) -> Result<Client, String> {
    Ok(Client::with_tls(LIMITS, Tls::new(options).map_err(|error| error.to_string())?))
}

fn named<'a>(config: &'a Json, list: &str, name: &str) -> Result<&'a Json, String> {
    let entries = config.get(list).and_then(Json::as_array).map_or(&[][..], Vec::as_slice);
    entries
        .iter()
        .find(|entry| yaml::text(entry, "/name") == Some(name))
        .ok_or_else(|| format!("has no {name:?} in {list}"))
}

/// An entry of the file; relative paths in it start at the file.
struct Source<'a> {
    file: &'a Path,
    entry: &'a Json,
}

impl Source<'_> {
    fn text(&self, key: &str) -> Option<&str> {
        self.entry.get(key).and_then(Json::as_str).filter(|text| !text.is_empty())
    }

    fn path(&self, path: &str) -> PathBuf {
        self.file.parent().unwrap_or_else(|| Path::new("")).join(path)
    }

    /// The content of `<key>-data`, else of the file `<key>`.
    fn data(&self, key: &str) -> Result<Option<Vec<u8>>, String> {
        if let Some(text) = self.text(&format!("{key}-data")) {
            return STANDARD.decode(text).map(Some).map_err(|error| format!("{key}-data is not base64: {error}"));
        }
        self.text(key).map(|path| read(&self.path(path))).transpose()
    }
}

fn read(file: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(file).map_err(|error| format!("cannot read {}: {error}", file.display()))
}
