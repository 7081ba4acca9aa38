//! A sidecar of the binary under test and clients of the published SDK for it. Neighbour: `main.rs`, the tests.
//! Whatever is started here ends when its value is dropped.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use dapr::client::{ClientOptions, TonicClientWithAuth};

pub type Client = dapr::Client<TonicClientWithAuth>;

/// Components, written once for all sidecars of a run.
pub struct Resources(PathBuf);

impl Resources {
    pub fn write() -> Self {
        let directory = std::env::temp_dir().join(format!("pillion-sdk-{}", std::process::id()));
        let resources = directory.join("resources");
        std::fs::create_dir_all(&resources).unwrap();
        let secrets = directory.join("secrets.json");
        std::fs::write(&secrets, r#"{"password": "open sesame", "user": "ali"}"#).unwrap();
        let secrets_file = format!("[{{name: secretsFile, value: '{}'}}]", secrets.display());
        for (name, kind, metadata) in [
            ("statestore", "state.in-memory", "[]"),
            ("pubsub", "pubsub.in-memory", "[]"),
            ("secrets", "secretstores.local.file", &secrets_file),
        ] {
            let component = format!(
                "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata: {{name: {name}}}\n\
                 spec: {{type: {kind}, version: v1, metadata: {metadata}}}\n"
            );
            std::fs::write(resources.join(format!("{name}.yaml")), component).unwrap();
        }
        Self(directory)
    }
}

impl Drop for Resources {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

pub struct Sidecar {
    child: Child,
    http: u16,
    grpc: u16,
}

impl Sidecar {
    pub fn start(resources: &Resources, app_id: &str, app_port: Option<u16>, token: Option<&str>) -> Self {
        let binary = PathBuf::from(std::env::var_os("PILLION_BIN").expect("PILLION_BIN names the binary"));
        let [http, grpc, internal, metrics] = [(); 4].map(|()| free_port());
        let mut command = Command::new(&binary);
        if !binary.ends_with("daprd") {
            command.arg("daprd");
        }
        command
            .arg(format!("--app-id={app_id}"))
            .arg(format!("--dapr-http-port={http}"))
            .arg(format!("--dapr-grpc-port={grpc}"))
            .arg(format!("--dapr-internal-grpc-port={internal}"))
            .arg(format!("--metrics-port={metrics}"))
            .arg(format!("--resources-path={}", resources.0.join("resources").display()))
            .args(["--dapr-listen-addresses=127.0.0.1", "--metrics-listen-address=127.0.0.1"])
            .args(["--dapr-graceful-shutdown-seconds=1", "--mode=standalone"])
            .args(app_port.map(|port| format!("--app-port={port}")))
            .envs(token.map(|token| ("DAPR_API_TOKEN", token)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Self { child: command.spawn().expect("the binary starts"), http, grpc }
    }

    /// A client, once the sidecar is healthy.
    pub async fn client(&self, token: Option<&str>) -> Client {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !self.healthy() {
            assert!(Instant::now() < deadline, "the sidecar is not healthy after 20 s");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let options = ClientOptions::new().with_address(format!("http://127.0.0.1:{}", self.grpc));
        let options = token.map_or(options.clone().without_api_token(), |token| options.with_api_token(token));
        Client::from_options(options).await.expect("a healthy sidecar accepts connections")
    }

    fn healthy(&self) -> bool {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.http)) else { return false };
        let mut answer = String::new();
        let asked = stream.write_all(b"GET /v1.0/healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        asked.is_ok() && stream.read_to_string(&mut answer).is_ok() && answer.starts_with("HTTP/1.1 204")
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).and_then(|probe| probe.local_addr()).expect("a free port").port()
}
