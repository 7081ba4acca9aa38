//! How sidecars find each other, chosen by a Configuration: Consul, a pattern, DNS.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pillion_testkit::{Answer, Binary, FakeApp, Recorded, ResourceDir, Sidecar, SidecarOptions};
use serde_json::{Value as Json, json};
use tokio::net::UdpSocket;

use crate::fixture::unique;

/// A Configuration with this resolver.
fn configuration(component: &str, fields: &Json) -> ResourceDir {
    let spec = json!({"nameResolution": {"component": component, "configuration": fields}});
    let document = json!({
        "apiVersion": "dapr.io/v1alpha1", "kind": "Configuration", "metadata": {"name": "config"}, "spec": spec,
    });
    ResourceDir::new().unwrap().with("config.yaml", &document.to_string()).unwrap()
}

fn with(options: SidecarOptions, configuration: &ResourceDir) -> SidecarOptions {
    options.configuration(&configuration.path().join("config.yaml"))
}

async fn called(caller: &Sidecar, app_id: &str) -> (u16, String) {
    let reply = caller.get(&format!("/v1.0/invoke/{app_id}/method/x")).await.unwrap();
    (reply.status.as_u16(), reply.text())
}

async fn app() -> FakeApp {
    FakeApp::start(|_, _| Answer::text("here")).await.unwrap()
}

type Services = Arc<Mutex<BTreeMap<String, Json>>>;

/// What a Consul agent answers for the calls there are; every service is healthy.
fn consul(request: &Recorded, services: &Services) -> Answer {
    let mut services = services.lock().unwrap();
    let path = request.path.as_str();
    if path == "/v1/agent/service/register" {
        let service = request.json();
        services.insert(service["ID"].as_str().unwrap().to_owned(), service);
        return Answer::text("");
    }
    if let Some(id) = path.strip_prefix("/v1/agent/service/deregister/") {
        services.remove(id);
        return Answer::text("");
    }
    if let Some(name) = path.strip_prefix("/v1/health/service/") {
        let found = services.values().filter(|service| service["Name"] == name);
        let found: Vec<Json> = found.map(|service| json!({"Node": {"Address": ""}, "Service": service})).collect();
        return Answer::json(&found.into());
    }
    Answer::json(&json!({}))
}

#[tokio::test]
async fn consul_brings_sidecars_together() {
    let services = Services::default();
    let known = services.clone();
    let agent = FakeApp::start(move |request, _| consul(request, &known)).await.unwrap();
    let fields = json!({
        "client": {"address": format!("127.0.0.1:{}", agent.port())}, "selfRegister": true, "selfDeregister": true,
        "tags": ["dapr"],
    });
    let configuration = configuration("consul", &fields);
    let app = app().await;
    let (callee, caller) = (unique("callee"), unique("caller"));
    let callee = with(SidecarOptions::new(&callee).app_port(app.port()), &configuration).start().await.unwrap();
    let caller = with(SidecarOptions::new(&caller).app_port(app.port()), &configuration).start().await.unwrap();
    assert_eq!(called(&caller, callee.app_id()).await, (200, "here".to_owned()));

    let id = format!("{}-127.0.0.1-{}", callee.app_id(), callee.http);
    let registered = services.lock().unwrap()[&id].clone();
    let port = callee.internal.to_string();
    assert_eq!((&registered["Meta"]["DAPR_PORT"], &registered["Port"]), (&port.into(), &app.port().into()));
    assert_eq!((&registered["Tags"], &registered["Checks"][0]["Interval"]), (&json!(["dapr"]), &"15s".into()));
    let check = registered["Checks"][0]["HTTP"].as_str().unwrap();
    let (_, health) = check.split_once(&format!("127.0.0.1:{}", callee.http)).unwrap();
    assert_eq!(callee.get(health).await.unwrap().status, 204, "what is registered as the check passes");

    let (status, text) = called(&caller, "nobody").await;
    assert!(status == 500 && text.contains("no healthy services found with AppID 'nobody'"), "{text}");
    let gone = callee.app_id().to_owned();
    callee.stop().await.unwrap();
    assert!(!services.lock().unwrap().contains_key(&id), "selfDeregister");
    tokio::time::sleep(Duration::from_millis(1100)).await; // an answer may be a second old
    assert_eq!(called(&caller, &gone).await.0, 500);
}

#[tokio::test]
async fn a_pattern_makes_addresses() {
    let app = app().await;
    let callee = SidecarOptions::new("localhost").app_port(app.port()).start().await.unwrap();
    let fields = json!({"format": format!("{{appid}}:{}", callee.internal)});
    let configuration = configuration("nameformat", &fields);
    let caller = with(SidecarOptions::new(&unique("caller")), &configuration).start().await.unwrap();
    assert_eq!(called(&caller, "localhost").await, (200, "here".to_owned()));
}

/// A DNS server that knows one name, at 127.0.0.1.
async fn dns(name: String) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let labels = name.split('.').flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat());
    let name: Vec<u8> = labels.chain([0]).collect();
    tokio::spawn(async move {
        let mut buffer = [0; 512];
        while let Ok((length, asker)) = socket.recv_from(&mut buffer).await {
            let asked = &buffer[..length];
            let (is_known, is_v4) = (asked[12..length - 4] == name, asked[length - 3] == 1);
            let mut reply = asked.to_vec();
            reply[2..4].copy_from_slice(&[0x81, if is_known { 0x80 } else { 0x83 }]);
            if is_known && is_v4 {
                reply[7] = 1;
                reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]);
            }
            socket.send_to(&reply, asker).await.unwrap();
        }
    });
    address
}

#[tokio::test]
async fn dns_brings_sidecars_together() {
    if !Binary::find().unwrap().is_ours() {
        return; // the original asks no server but the system's
    }
    let app = app().await;
    let callee = SidecarOptions::new(&unique("callee")).app_port(app.port()).start().await.unwrap();
    let server = dns(format!("{}.default.test", callee.app_id())).await;
    let template = format!("{{{{.ID}}}}.{{{{.Namespace}}}}.test:{}", callee.internal);
    for component in ["dns", "kubernetes"] {
        let configuration = configuration(component, &json!({"server": server.to_string(), "template": template}));
        let caller = with(SidecarOptions::new(&unique("caller")), &configuration).start().await.unwrap();
        assert_eq!(called(&caller, callee.app_id()).await, (200, "here".to_owned()), "{component}");
        let (status, text) = called(&caller, "nobody").await;
        let wanted = format!("'nobody.default.test': no such host (asked the DNS server {server})");
        assert!(status == 500 && text.contains(&wanted), "{text}");
    }
}

#[tokio::test]
async fn an_unknown_app_is_told_from_where_it_was_looked_for() {
    if !Binary::find().unwrap().is_ours() {
        return; // the default of the original is another one
    }
    let sidecar = SidecarOptions::new(&unique("caller")).start().await.unwrap();
    let (status, text) = called(&sidecar, "nobody-has-this-id").await;
    let wanted = "couldn't find service: nobody-has-this-id (no running sidecar of namespace default or another one";
    assert!(status == 500 && text.contains(wanted), "{text}");
    assert!(text.contains("check that the app runs and its app ID"), "{text}");
}
