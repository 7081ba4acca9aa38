use pillion_conformance::eventually;
use tokio::net::UdpSocket;

use super::message::{Message, Name};
use super::*;

/// A group of resolvers that only hear each other: multicast on the loopback interface, on a port nobody else uses.
struct Net(u16);

impl Net {
    /// Each test has a number of its own.
    fn new(test: u16) -> Self {
        Self(10_000 + (std::process::id() % 4000) as u16 + 4000 * test)
    }

    fn resolver(&self) -> Arc<MdnsResolver> {
        let options = Options { port: self.0, interfaces: Interfaces::Loopback };
        MdnsResolver::start(options, Logger::silent(), CancellationToken::new())
    }
}

fn registration(app_id: &str, port: u16) -> Registration {
    Registration {
        app_id: app_id.into(),
        namespace: "default".into(),
        host: "127.0.0.1".into(),
        local_host: "127.0.0.1".into(),
        internal_port: port,
        http_port: 3500,
        app_port: None,
    }
}

fn question(app_id: &str) -> ResolveRequest {
    ResolveRequest { app_id: app_id.into(), namespace: "default".into() }
}

#[tokio::test]
async fn conforms() {
    let net = Net::new(0);
    pillion_conformance::name_resolution::run(net.resolver(), net.resolver(), net.resolver()).await;
}

#[tokio::test]
async fn a_known_app_is_answered_at_once_and_an_unknown_one_in_a_second() {
    let net = Net::new(1);
    let (one, two) = (net.resolver(), net.resolver());
    one.register(registration("shop.v2", 4100)).await.unwrap();
    let start = Instant::now();
    assert_eq!(two.resolve(&question("shop.v2")).await.unwrap(), ["127.0.0.1:4100"]);
    assert!(start.elapsed() < Duration::from_millis(500), "{:?}", start.elapsed());
    let (nobody, start) = (question("nobody"), Instant::now());
    let (first, second) = tokio::join!(two.resolve(&nobody), two.resolve(&nobody));
    assert!(start.elapsed() < Duration::from_millis(1500), "{:?}", start.elapsed());
    for error in [first.unwrap_err(), second.unwrap_err()] {
        let wanted = "couldn't find service: nobody (no sidecar answered by mDNS within 1s; check that it runs, its app ID, and that multicast works between the machines)";
        assert_eq!((error.kind, error.to_string().as_str()), (ErrorKind::NotFound, wanted));
    }
}

#[tokio::test]
async fn a_failed_address_is_dropped_and_found_again_if_it_lives() {
    let net = Net::new(2);
    let (one, two) = (net.resolver(), net.resolver());
    one.register(registration("shop", 4100)).await.unwrap();
    assert_eq!(two.resolve(&question("shop")).await.unwrap(), ["127.0.0.1:4100"]);
    two.report_failure(&question("shop"), "127.0.0.1:4100");
    assert!(two.known("shop").is_empty());
    assert_eq!(two.resolve(&question("shop")).await.unwrap(), ["127.0.0.1:4100"]);
    drop(one); // without close: the task says goodbye when its resolver is gone
    assert!(eventually(Duration::from_secs(5), || async { two.known("shop").is_empty() }).await);
}

#[tokio::test]
async fn an_asker_without_the_group_gets_its_own_answer() {
    let net = Net::new(3);
    let one = net.resolver();
    one.register(registration("shop", 4100)).await.unwrap();
    let asker = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut query = service::question(Name::parse("shop.local").unwrap());
    query.id = 77;
    let junk = [b"".as_slice(), b"x", &[0xff; 600], &[0; 12]];
    for bytes in junk.into_iter().chain([query.encode().as_slice()]) {
        asker.send_to(bytes, ("127.0.0.1", net.0)).await.unwrap();
    }
    let mut buffer = [0; 1500];
    let (length, _) =
        tokio::time::timeout(Duration::from_secs(5), asker.recv_from(&mut buffer)).await.unwrap().unwrap();
    let answer = Message::decode(&buffer[..length]).unwrap();
    assert_eq!((answer.id, &answer.questions), (77, &query.questions));
    assert_eq!(service::sightings(&answer)[0].address.to_string(), "127.0.0.1:4100");
}

#[tokio::test]
async fn bad_registrations_are_refused() {
    let resolver = Net::new(4).resolver();
    let cases = [
        (registration("", 1), "name is missing"),
        (Registration { host: String::new(), ..registration("a", 1) }, "address is missing"),
        (registration("a", 0), "port is missing or invalid"),
        (
            Registration { host: "db.example".into(), ..registration("a", 1) },
            "failed to parse given IP: db.example: mDNS announces IP addresses only",
        ),
        (registration("a..b", 1), "\"a..b.local\" is no DNS name: each part between dots must have 1 to 63 bytes"),
    ];
    for (registration, wanted) in cases {
        let error = resolver.register(registration).await.unwrap_err();
        assert_eq!((error.kind, error.to_string().as_str()), (ErrorKind::InvalidRequest, wanted));
    }
    resolver.register(Registration { host: "localhost".into(), ..registration("a", 1) }).await.unwrap();
    let error = resolver.register(registration("a", 1)).await.unwrap_err();
    assert_eq!(error.to_string(), "app id a already registered for port 1");
    assert_eq!(resolver.resolve(&question(&"x".repeat(64))).await.unwrap_err().kind, ErrorKind::InvalidRequest);
    resolver.close().await.unwrap();
    resolver.close().await.unwrap();
    let error = resolver.register(registration("b", 1)).await.unwrap_err();
    assert_eq!(error.to_string(), "the mDNS resolver is closed");
}
