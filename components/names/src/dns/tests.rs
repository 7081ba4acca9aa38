use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::AtomicUsize;

use tokio::net::UdpSocket;

use super::*;
use crate::tests::{context, question, registration};

/// A DNS server for A records of 60 s; counts its questions.
async fn server(names: &[(&str, &[[u8; 4]])]) -> (SocketAddr, Arc<AtomicUsize>) {
    let names: HashMap<Vec<u8>, Vec<[u8; 4]>> = names
        .iter()
        .map(|(name, addresses)| {
            let labels = name.split('.').flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat());
            (labels.chain([0]).collect(), addresses.to_vec())
        })
        .collect();
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let (address, count) = (socket.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let counted = count.clone();
    tokio::spawn(async move {
        let mut buffer = [0; 512];
        while let Ok((length, asker)) = socket.recv_from(&mut buffer).await {
            let asked = &buffer[..length];
            let (name, kind) = (&asked[12..length - 4], asked[length - 3]);
            counted.fetch_add(1, Ordering::Relaxed);
            let mut reply = asked.to_vec();
            let addresses = names.get(name);
            reply[2..4].copy_from_slice(&[0x81, if addresses.is_some() { 0x80 } else { 0x83 }]);
            for address in addresses.into_iter().flatten().filter(|_| kind == 1) {
                reply[7] += 1;
                reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
                reply.extend(address);
            }
            socket.send_to(&reply, asker).await.unwrap();
        }
    });
    (address, count)
}

async fn made(component_type: &str, fields: &[(&str, &str)]) -> Arc<dyn NameResolver> {
    let context = context(component_type, fields);
    let made = if component_type.ends_with("dns") { create(context).await } else { create_kubernetes(context).await };
    let resolver = made.unwrap();
    resolver.register(registration("me", 50_002)).await.unwrap();
    resolver
}

#[tokio::test]
async fn every_address_of_the_name_is_answered_and_remembered() {
    let (address, count) = server(&[
        ("shop-dapr.default.svc", &[[10, 0, 0, 1], [10, 0, 0, 2]]),
        ("shop-dapr.default.svc.cluster.local", &[[10, 0, 0, 3]]),
        ("shop-dapr.default.svc.example.org", &[[10, 0, 0, 4]]),
        ("default.shop", &[[10, 0, 0, 5]]),
    ])
    .await;
    let server = address.to_string();
    type Fields<'a> = &'a [(&'a str, &'a str)];
    let cases: [(&str, Fields<'_>, &[&str]); 4] = [
        ("nameresolution.dns", &[], &["10.0.0.1:50002", "10.0.0.2:50002"]),
        ("nameresolution.kubernetes", &[], &["10.0.0.3:50002"]),
        ("nameresolution.kubernetes", &[("clusterDomain", "example.org")], &["10.0.0.4:50002"]),
        ("nameresolution.kubernetes", &[("template", "{{.Namespace}}.{{.ID}}:7")], &["10.0.0.5:7"]),
    ];
    for (component_type, fields, wanted) in cases {
        let resolver = made(component_type, &[fields, &[("server", &server)]].concat()).await;
        let asked_before = count.load(Ordering::Relaxed);
        for _ in 0..3 {
            assert_eq!(resolver.resolve(&question("shop")).await.unwrap(), wanted);
        }
        assert_eq!(count.load(Ordering::Relaxed), asked_before + 2, "one question for each kind of address");
        resolver.report_failure(&question("shop"), wanted[0]);
        resolver.resolve(&question("shop")).await.unwrap();
        assert_eq!(count.load(Ordering::Relaxed), asked_before + 4, "a failure is looked up again");
    }
}

#[tokio::test]
async fn failures_say_what_was_asked_and_where() {
    let (address, _) = server(&[("empty-dapr.default.svc", &[])]).await;
    let resolver = made("nameresolution.dns", &[("server", &address.to_string())]).await;
    let error = resolver.resolve(&question("shop")).await.unwrap_err();
    let wanted = format!(
        "failed to resolve address for 'shop-dapr.default.svc': no such host (asked the DNS server {address}); check that the app is deployed and its namespace"
    );
    assert_eq!((error.kind, error.to_string()), (ErrorKind::NotFound, wanted));
    let error = resolver.resolve(&question("empty")).await.unwrap_err().to_string();
    assert!(error.contains("'empty-dapr.default.svc': the name has no address"), "{error}");
    let dead = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap();
    let resolver = made("nameresolution.dns", &[("server", &dead.to_string())]).await;
    let error = resolver.resolve(&question("shop")).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable);
    assert!(error.to_string().contains(&format!("the DNS server {dead} cannot be asked")), "{error}");
    let resolver = made("nameresolution.dns", &[("server", &format!("{dead},{address}"))]).await;
    let error = resolver.resolve(&question("shop")).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound, "the next server is asked: {error}");
    let error = resolver.resolve(&question("a..b")).await.unwrap_err().to_string();
    assert!(error.contains("is no DNS name"), "{error}");
    let error = create(context("nameresolution.dns", &[("server", "ns.example")])).await.err().unwrap().to_string();
    assert!(error.starts_with("server: \"ns.example\" is no DNS server"), "{error}");
}

#[tokio::test]
async fn the_system_is_asked_without_a_server() {
    let resolver = made("nameresolution.kubernetes", &[("template", "localhost:{{.Port}}")]).await;
    let found = resolver.resolve(&question("shop")).await.unwrap();
    assert!(found.iter().any(|address| address == "127.0.0.1:50002" || address == "[::1]:50002"), "{found:?}");
    let resolver = made("nameresolution.kubernetes", &[("template", "{{.ID}}.invalid")]).await;
    let error = resolver.resolve(&question("shop")).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound);
    assert!(error.to_string().starts_with("failed to resolve address for 'shop.invalid': "), "{error}");
}

#[test]
fn names_have_a_host_and_a_port() {
    let cases = [
        ("a.b:7", ("a.b", 7)),
        ("a.b", ("a.b", 1)),
        ("[::1]:7", ("::1", 7)),
        ("::1", ("::1", 1)),
        ("[::1]", ("::1", 1)),
        ("a:b", ("a:b", 1)),
        ("", ("", 1)),
    ];
    for (name, wanted) in cases {
        assert_eq!(split(name, 1), wanted);
    }
}
