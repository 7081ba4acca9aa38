//! More calls at a time to one sidecar than one connection carries. Ours only: the number of connections is.

use std::time::Duration;

use pillion_proto::components::v1::ReadRequest;
use pillion_testkit::{Binary, SidecarOptions};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;

use crate::fixture::unique;
use crate::grpc_proxy::{app, client, to};

/// A little more than the 2048 streams of a connection.
const CALLS: usize = 2300;

/// Connections of this machine to a port of it.
fn connections_to(port: u16) -> usize {
    let sockets = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let target = format!("0100007F:{port:04X}");
    // sl local_address rem_address st …; state 01 is established.
    let fields = sockets.lines().map(|line| line.split_whitespace().skip(2));
    fields.filter(|fields| fields.clone().take(2).eq([target.as_str(), "01"])).count()
}

/// Holds all calls open at a time; `clients` connections of the application, the calling sidecar has `processors`, and an event loop for each but one.
async fn hold_many_open(clients: usize, processors: &str) {
    let (port, _app) = app().await;
    let called = unique("callee");
    let callee = SidecarOptions::new(&called).app_port(port).app_protocol("grpc").start().await.unwrap();
    let caller = SidecarOptions::new(&unique("caller")).environment("GOMAXPROCS", processors).start().await.unwrap();
    let mut opening = JoinSet::new();
    for _ in 0..clients {
        let client = client(&caller).await;
        for _ in 0..CALLS / clients {
            let (mut client, called) = (client.clone(), called.clone());
            opening.spawn(async move {
                let (sender, receiver) = mpsc::channel(1);
                let answer = client.read(to(&called, ReceiverStream::new(receiver))).await.unwrap().into_inner();
                (sender, answer)
            });
        }
    }
    let open = opening.join_all().await;
    assert_eq!(connections_to(callee.internal), 2, "{CALLS} streams of {clients} connections, {processors} processors");

    let mut ending = JoinSet::new();
    for (index, (sender, mut answer)) in open.into_iter().enumerate() {
        ending.spawn(async move {
            let message = index.to_string();
            let request = ReadRequest { response_data: message.clone().into(), ..ReadRequest::default() };
            sender.send(request).await.unwrap();
            assert_eq!(answer.message().await.unwrap().unwrap().data, message.as_bytes());
            drop(sender);
            assert!(answer.message().await.unwrap().is_none(), "ends well");
        });
    }
    ending.join_all().await;
}

#[tokio::test]
async fn more_streams_than_a_connection_carries_share_two() {
    if !Binary::find().unwrap().is_ours() {
        return;
    }
    for (clients, processors) in [(1, "1"), (2, "2"), (1, "3"), (2, "3")] {
        let all = tokio::time::timeout(Duration::from_secs(120), hold_many_open(clients, processors));
        all.await
            .unwrap_or_else(|_| panic!("{clients} connections of the application, {processors} processors: no end"));
    }
}
