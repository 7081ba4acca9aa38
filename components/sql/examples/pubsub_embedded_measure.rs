//! Measures `pubsub.embedded` between two processes: `cargo run --release -p pillion-sql --example pubsub_embedded_measure
//! [synchronous] [seconds]`. Starts itself again as the subscriber.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use pillion_contract::{InitContext, Metadata, Outcome, PubSub, PublishRequest, Registry, SubscribeRequest};
use pillion_core::log::Logger;
use tokio_util::sync::CancellationToken;

const PAYLOAD: usize = 1024;
const STOP: &[u8] = &[0xff; 16];

fn now_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

async fn broker(directory: &str, synchronous: &str, app_id: &str) -> Arc<dyn PubSub> {
    let mut registry = Registry::default();
    pillion_sql::register(&mut registry);
    let max_in_flight = std::env::var("MAX_IN_FLIGHT").unwrap_or_default();
    let context = InitContext {
        name: "bus".into(),
        component_type: "pubsub.embedded".into(),
        version: "v1".into(),
        metadata: Metadata::new([
            ("directory", directory),
            ("synchronous", synchronous),
            ("maxInFlight", &max_in_flight),
        ]),
        app_id: app_id.into(),
        namespace: "default".into(),
        data_dir: "/nowhere".into(),
        log: Logger::silent(),
        cancel: CancellationToken::new(),
    };
    let factory = registry.pubsub("pubsub.embedded").expect("it is registered");
    factory(context).await.expect("the broker opens")
}

fn request(topic: &str) -> PublishRequest {
    let mut data = vec![0; PAYLOAD];
    data[..8].copy_from_slice(&now_ns().to_le_bytes());
    PublishRequest { topic: topic.into(), data: data.into(), ..PublishRequest::default() }
}

/// Receives until the message that says stop; prints how many, how fast and how late.
async fn subscriber(directory: &str, synchronous: &str, topic: &str) {
    let broker = broker(directory, synchronous, "subscriber").await;
    let request = SubscribeRequest { topic: topic.into(), ..SubscribeRequest::default() };
    let mut receiver = broker.subscribe(request).await.expect("it subscribes");
    println!("ready");
    let mut late = Vec::new();
    let mut first = None;
    while let Some(delivery) = receiver.recv().await {
        delivery.ack.answer(Outcome::Ack);
        if &delivery.message.data[..16] == STOP {
            break;
        }
        first.get_or_insert_with(Instant::now);
        let sent = u64::from_le_bytes(delivery.message.data[..8].try_into().expect("eight bytes"));
        late.push(now_ns().saturating_sub(sent) / 1000);
    }
    let seconds = first.map_or(0.0, |first| first.elapsed().as_secs_f64());
    late.sort_unstable();
    let at = |part: f64| {
        late.get(((late.len() as f64 * part) as usize).min(late.len().saturating_sub(1))).copied().unwrap_or_default()
    };
    println!(
        "  delivered {} ({:.0}/s), publish to delivery: p50 {} us, p99 {} us, max {} us",
        late.len(),
        late.len() as f64 / seconds,
        at(0.5),
        at(0.99),
        at(1.0)
    );
    broker.close().await.expect("it closes");
}

struct Subscriber(Child, BufReader<std::process::ChildStdout>);

impl Subscriber {
    fn start(directory: &str, synchronous: &str, topic: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("this program has a path"))
            .args(["subscriber", directory, synchronous, topic])
            .stdout(Stdio::piped())
            .spawn()
            .expect("the subscriber starts");
        let mut output = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut line = String::new();
        output.read_line(&mut line).expect("it says ready");
        Self(child, output)
    }

    async fn finish(mut self, broker: &Arc<dyn PubSub>, topic: &str) {
        broker
            .publish(PublishRequest { topic: topic.into(), data: STOP.into(), ..PublishRequest::default() })
            .await
            .expect("publish");
        let mut text = String::new();
        std::io::Read::read_to_string(&mut self.1, &mut text).expect("it prints");
        print!("{text}");
        self.0.wait().expect("it ends");
    }
}

async fn closed_loop(broker: &Arc<dyn PubSub>, topic: &str, callers: usize, bulk: usize, length: Duration) {
    let (count, started) = (Arc::new(AtomicU64::new(0)), Instant::now());
    let tasks: Vec<_> = (0..callers)
        .map(|_| {
            let (broker, count, topic) = (broker.clone(), count.clone(), topic.to_owned());
            tokio::spawn(async move {
                while started.elapsed() < length {
                    if bulk == 1 {
                        broker.publish(request(&topic)).await.expect("publish");
                    } else {
                        broker.bulk_publish((0..bulk).map(|_| request(&topic)).collect()).await.expect("bulk publish");
                    }
                    count.fetch_add(bulk as u64, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("it ends");
    }
    println!("  published {:.0}/s", count.load(Ordering::Relaxed) as f64 / started.elapsed().as_secs_f64());
}

async fn paced(broker: &Arc<dyn PubSub>, topic: &str, rate: u64, length: Duration) {
    let mut ticks = tokio::time::interval(Duration::from_micros(1_000_000 / rate));
    let started = Instant::now();
    let mut took = Vec::new();
    while started.elapsed() < length {
        ticks.tick().await;
        let before = Instant::now();
        broker.publish(request(topic)).await.expect("publish");
        took.push(before.elapsed());
    }
    took.sort_unstable();
    println!("  publish answered: p50 {:?}, p99 {:?}", took[took.len() / 2], took[took.len() * 99 / 100]);
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, word, directory, synchronous, topic] = arguments.as_slice()
        && word == "subscriber"
    {
        return subscriber(directory, synchronous, topic).await;
    }
    if let [_, word, directory, synchronous, topic, seconds] = arguments.as_slice()
        && word == "publisher"
    {
        let broker = broker(directory, synchronous, "publisher").await;
        let length = Duration::from_secs(seconds.parse().expect("a number of seconds"));
        closed_loop(&broker, topic, 64, 1, length).await;
        return broker.close().await.expect("it closes");
    }
    let synchronous = arguments.get(1).map_or("normal", String::as_str);
    let length = Duration::from_secs(arguments.get(2).and_then(|text| text.parse().ok()).unwrap_or(3));
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let directory = scratch.path().to_str().expect("its path is text");
    let broker = broker(directory, synchronous, "publisher").await;
    println!("synchronous {synchronous}, payload {PAYLOAD} bytes");
    println!("100 messages a second, a subscriber in another process:");
    let subscriber = Subscriber::start(directory, synchronous, "slow");
    paced(&broker, "slow", 100, length).await;
    subscriber.finish(&broker, "slow").await;
    println!("1000 messages a second:");
    let subscriber = Subscriber::start(directory, synchronous, "paced");
    paced(&broker, "paced", 1000, length).await;
    subscriber.finish(&broker, "paced").await;
    println!("64 publishers as fast as they can, no subscriber:");
    closed_loop(&broker, "nobody", 64, 1, length).await;
    println!("64 publishers as fast as they can, a subscriber in another process:");
    let subscriber = Subscriber::start(directory, synchronous, "full");
    closed_loop(&broker, "full", 64, 1, length).await;
    subscriber.finish(&broker, "full").await;
    println!("64 publishers in each of two processes, a subscriber in a third:");
    let subscriber = Subscriber::start(directory, synchronous, "two");
    let seconds = length.as_secs().to_string();
    let program = std::env::current_exe().expect("this program has a path");
    let mut other =
        Command::new(program).args(["publisher", directory, synchronous, "two", &seconds]).spawn().expect("it starts");
    closed_loop(&broker, "two", 64, 1, length).await;
    other.wait().expect("it ends");
    subscriber.finish(&broker, "two").await;
    println!("4 publishers of 100 messages at once, a subscriber in another process:");
    let subscriber = Subscriber::start(directory, synchronous, "bulk");
    closed_loop(&broker, "bulk", 4, 100, length).await;
    subscriber.finish(&broker, "bulk").await;
    broker.close().await.expect("it closes");
}
