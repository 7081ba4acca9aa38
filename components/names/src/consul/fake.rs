//! An agent for tests: services with a health that tests set, blocking questions, the cache header, tokens.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Value as Json, json};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;

/// See the module text.
pub(crate) struct FakeAgent {
    pub(crate) address: String,
    state: Arc<State>,
}

struct State {
    services: Mutex<BTreeMap<String, Service>>,
    index: watch::Sender<u64>,
    asked: Mutex<Vec<String>>,
    token: Mutex<Option<String>>,
}

struct Service {
    registration: Json,
    is_passing: bool,
}

impl FakeAgent {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let state = Arc::new(State {
            services: Mutex::default(),
            index: watch::Sender::new(10),
            asked: Mutex::default(),
            token: Mutex::default(),
        });
        let serving = state.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, serving.clone()));
            }
        });
        Self { address, state }
    }

    /// The same agent on a Unix socket too.
    pub(crate) fn listen_on(&self, socket: &Path) {
        let (listener, serving) = (UnixListener::bind(socket).unwrap(), self.state.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, serving.clone()));
            }
        });
    }

    /// From now on only with this token.
    pub(crate) fn require(&self, token: &str) {
        *self.state.token.lock() = Some(token.to_owned());
    }

    /// Registers as an agent's own configuration does.
    pub(crate) fn add(&self, id: &str, registration: Json) {
        self.state.services.lock().insert(id.to_owned(), Service { registration, is_passing: true });
        self.state.index.send_modify(|index| *index += 1);
    }

    pub(crate) fn set_passing(&self, id: &str, is_passing: bool) {
        self.state.services.lock().get_mut(id).unwrap().is_passing = is_passing;
        self.state.index.send_modify(|index| *index += 1);
    }

    pub(crate) fn registration(&self, id: &str) -> Option<Json> {
        self.state.services.lock().get(id).map(|service| service.registration.clone())
    }

    /// Request lines so far, with `cache-control` behind them where it was sent.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.state.asked.lock().clone()
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, state: Arc<State>) {
    let mut stream = BufReader::new(stream);
    let (mut line, mut length, mut token, mut cache) = (String::new(), 0, None, String::new());
    let mut request = String::new();
    loop {
        line.clear();
        if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
            return;
        }
        match line.trim().split_once(": ") {
            None if line.trim().is_empty() => break,
            None => request = line.trim().trim_end_matches(" HTTP/1.1").to_owned(),
            Some(("content-length", value)) => length = value.parse().unwrap(),
            Some(("x-consul-token", value)) => token = Some(value.to_owned()),
            Some(("cache-control", value)) => cache = format!(" {value}"),
            Some(_) => {}
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.unwrap();
    state.asked.lock().push(format!("{request}{cache}"));
    let (status, answer) = if state.token.lock().as_ref().is_some_and(|wanted| token.as_ref() != Some(wanted)) {
        (403, "ACL not found".to_owned())
    } else {
        answer(&request, &body, &state).await
    };
    let index = *state.index.borrow();
    let head = format!("HTTP/1.1 {status} x\r\nx-consul-index: {index}\r\ncontent-length: {}\r\n\r\n", answer.len());
    let _ = stream.get_mut().write_all((head + &answer).as_bytes()).await; // who asked may have gone
}

async fn answer(request: &str, body: &[u8], state: &State) -> (u16, String) {
    let (method, target) = request.split_once(' ').unwrap();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let parameter = |name: &str| {
        query
            .split('&')
            .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
            .map(|value| percent_encoding::percent_decode_str(value).decode_utf8_lossy().into_owned())
    };
    if let (Some(seen), wait) = (parameter("index").and_then(|text| text.parse::<u64>().ok()), parameter("wait")) {
        let wait = wait.map_or(Duration::from_secs(300), |text| {
            Duration::from_millis(text.trim_end_matches("ms").parse().unwrap())
        });
        let mut index = state.index.subscribe();
        let _ = tokio::time::timeout(wait, index.wait_for(|index| *index > seen)).await;
    }
    let mut services = state.services.lock();
    match (method, path) {
        ("GET", "/v1/agent/self") => (200, json!({"Config": {}}).to_string()),
        ("PUT", "/v1/agent/service/register") => {
            let registration: Json = serde_json::from_slice(body).unwrap();
            let id = registration["ID"].as_str().or(registration["Name"].as_str()).unwrap().to_owned();
            services.insert(id, Service { registration, is_passing: true });
            state.index.send_modify(|index| *index += 1);
            (200, String::new())
        }
        ("GET", "/v1/health/state/any") => {
            let filter = parameter("filter").unwrap();
            let checks = services.iter().filter(|(_, one)| filter.contains(&format!("{}", one.registration["Name"])));
            let check = |(id, one): (&String, &Service)| {
                let status = if one.is_passing { "passing" } else { "critical" };
                json!({"Node": "n", "ServiceID": id, "ServiceName": one.registration["Name"], "Status": status})
            };
            (200, Json::Array(checks.map(check).collect()).to_string())
        }
        ("GET", path) if path.starts_with("/v1/health/service/") => {
            let name = path.trim_start_matches("/v1/health/service/");
            let instances = services.values().filter(|one| one.registration["Name"] == name && one.is_passing);
            let instance = |one: &Service| json!({"Node": {"Address": "10.9.9.9"}, "Service": one.registration});
            (200, Json::Array(instances.map(instance).collect()).to_string())
        }
        ("PUT", path) if path.starts_with("/v1/agent/service/deregister/") => {
            let id = path.trim_start_matches("/v1/agent/service/deregister/");
            let gone = services.remove(id).is_some();
            state.index.send_modify(|index| *index += 1);
            if gone { (200, String::new()) } else { (404, format!("Unknown service ID {id:?}")) }
        }
        _ => (404, String::new()),
    }
}
