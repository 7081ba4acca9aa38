//! Many calls at a time to one sidecar, whose answers last: how many connections they get, and that none is cut.

use std::net::SocketAddr;

use http::{HeaderMap, Response};
use pillion_runtime::message::AppStatus;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::*;
use crate::wire::{first_response_frame, payload_frame};

/// A sidecar of which each answer begins at once and ends when it is told to.
struct LastingPeer {
    address: String,
    connections: Arc<AtomicUsize>,
    finish: watch::Sender<bool>,
}

impl LastingPeer {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address: SocketAddr = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let (finish, finished) = watch::channel(false);
        let count = connections.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(serve(stream, finished.clone()));
            }
        });
        Self { address: address.to_string(), connections, finish }
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

async fn serve(stream: TcpStream, finished: watch::Receiver<bool>) {
    let mut connection = h2::server::handshake(stream).await.unwrap();
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let mut finished = finished.clone();
        tokio::spawn(async move {
            let head = InvokeResponse {
                status: AppStatus::Http(200),
                status_message: String::new(),
                status_details: Vec::new(),
                headers: HeaderMap::new(),
                body: Body::empty(),
                data_type_url: String::new(),
            };
            let mut response = Response::new(());
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            let mut stream = respond.send_response(response, false).unwrap();
            stream.send_data(first_response_frame(&head, Some(&Bytes::from("early "))), false).unwrap();
            finished.wait_for(|finished| *finished).await.unwrap();
            stream.send_data(payload_frame(&Bytes::from("late"), 1), false).unwrap();
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from_static("0"));
            stream.send_trailers(trailers).unwrap();
            drop(request);
        });
    }
}

fn shop() -> Target {
    Target { app_id: "shop".to_owned(), namespace: "default".to_owned() }
}

/// Makes `count` calls at a time and gives back the answers that have begun.
async fn begin(peers: &Arc<PeerPool>, address: &str, count: usize) -> Vec<InvokeResponse> {
    let mut calls = JoinSet::new();
    for _ in 0..count {
        let (peers, address) = (peers.clone(), address.to_owned());
        calls.spawn(async move {
            let request = InvokeRequest { method: "slow".to_owned(), ..InvokeRequest::default() };
            peers.call(&shop(), &address, &[], &request, Body::full("x")).await.unwrap()
        });
    }
    calls.join_all().await
}

async fn end(answers: Vec<InvokeResponse>) {
    for answer in answers {
        assert_eq!(answer.body.collect(0).await.unwrap(), "early late");
    }
}

#[tokio::test]
async fn calls_beyond_the_streams_of_a_connection_get_another_and_none_is_cut() {
    let peer = LastingPeer::start().await;
    let peers = Arc::new(PeerPool::new(0, Logger::silent()));
    let mut answers = begin(&peers, &peer.address, STREAMS_PER_CONNECTION).await;
    assert_eq!(peer.connections(), 1, "calls that come together share one connection, however many need it at first");
    answers.extend(begin(&peers, &peer.address, 300).await);
    assert_eq!(peer.connections(), 2, "and the next ones share another");

    peers.purge(Duration::ZERO);
    assert_eq!(peers.connections.lock()[&peer.address].len(), 2, "none of them is idle");
    peers.forget(&peer.address);
    assert_eq!(
        peers.connections.lock()[&peer.address].len(),
        2,
        "one call that failed is no reason to leave a connection"
    );
    peer.finish.send_replace(true);
    end(answers).await;

    end(begin(&peers, &peer.address, 10).await).await;
    assert_eq!(peer.connections(), 2, "both are used again");
    peers.purge(Duration::ZERO);
    assert!(peers.connections.lock().is_empty());
}

#[tokio::test]
async fn all_calls_at_once_from_nothing_need_as_many_connections_as_their_streams_fill() {
    let peer = LastingPeer::start().await;
    let peers = Arc::new(PeerPool::new(0, Logger::silent()));
    let answers = begin(&peers, &peer.address, 2 * STREAMS_PER_CONNECTION + 1).await;
    assert_eq!(peer.connections(), 3);
    peer.finish.send_replace(true);
    end(answers).await;
}

#[test]
fn each_event_loop_has_its_own_connections_and_its_own_streams() {
    let [ours, first, second] = [(); 3].map(|()| event_loop());
    let peer = ours.block_on(LastingPeer::start());
    let peers = Arc::new(PeerPool::new(0, Logger::silent()));
    let on = |event_loop: &Runtime, count: usize| {
        let (peers, address) = (peers.clone(), peer.address.clone());
        ours.block_on(event_loop.spawn(async move { begin(&peers, &address, count).await })).unwrap()
    };
    let mut answers = on(&first, 100);
    answers.extend(on(&second, 100));
    assert_eq!(peer.connections(), 2);
    answers.extend(on(&first, STREAMS_PER_CONNECTION));
    assert_eq!(peer.connections(), 3, "the streams of the other loop are not lent");
    answers.extend(on(&second, 100));
    assert_eq!(peer.connections(), 3);
    peer.finish.send_replace(true);
    ours.block_on(end(answers));
}

fn event_loop() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

#[tokio::test]
async fn a_connection_that_ended_is_left_and_the_one_made_instead_stays() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let peers = PeerPool::new(0, Logger::silent());
    let before = peers.lease(&shop(), &address).await.unwrap();
    drop(listener.accept().await.unwrap());
    let is_gone = async {
        while before.sender.clone().ready().await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), is_gone).await.unwrap();
    let _after = peers.lease(&shop(), &address).await.unwrap();
    peers.forget(&address); // as another call does that was on the first one
    assert_eq!(peers.connections.lock()[&address].len(), 1);
}
