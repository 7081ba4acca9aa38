//! `pubsub.embedded` when its processes are killed: this test starts itself again as publishers and subscribers, kills
//! them with `kill -9` at any moment and looks for lost messages.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use pillion_contract::{InitContext, Metadata, Outcome, PubSub, PublishRequest, Registry, SubscribeRequest};
use pillion_core::log::Logger;
use tokio_util::sync::CancellationToken;

const ROLE: &str = "PILLION_TEST_ROLE";
const DIRECTORY: &str = "PILLION_TEST_DIRECTORY";
const GROUP: &str = "PILLION_TEST_GROUP";
const FIRST: &str = "PILLION_TEST_FIRST";
const LIMIT: Duration = Duration::from_secs(60);

/// Not a test: what a started process does. Does nothing without its variables.
#[test]
fn process() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        match role.as_str() {
            "publish" => publish().await,
            "hold" => receive(|_| Answer::Hold).await,
            _ => {
                // Each process refuses others of the messages, so that none waits through many growing pauses.
                let share = u64::from(std::process::id() % 17);
                receive(|n| if n % 17 == share { Answer::Nack } else { Answer::Ack }).await;
            }
        }
    });
}

async fn broker() -> Arc<dyn PubSub> {
    let mut registry = Registry::default();
    pillion_sql::register(&mut registry);
    let context = InitContext {
        name: "bus".into(),
        component_type: "pubsub.embedded".into(),
        version: "v1".into(),
        metadata: Metadata::new([("directory", std::env::var(DIRECTORY).unwrap())]),
        app_id: std::env::var(GROUP).unwrap(),
        namespace: "default".into(),
        data_dir: "/nowhere".into(),
        log: Logger::silent(),
        cancel: CancellationToken::new(),
    };
    registry.pubsub("pubsub.embedded").unwrap()(context).await.unwrap()
}

/// Publishes numbers, eight at a time, and prints each that was acknowledged.
async fn publish() {
    let broker = broker().await;
    let first: u64 = std::env::var(FIRST).unwrap().parse().unwrap();
    for start in (first..).step_by(8) {
        let calls = (start..start + 8).map(|n| {
            let broker = broker.clone();
            async move {
                let request =
                    PublishRequest { topic: "t".into(), data: n.to_string().into(), ..PublishRequest::default() };
                broker.publish(request).await.unwrap();
                println!("\npublished {n}");
            }
        });
        futures_util::future::join_all(calls).await;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

enum Answer {
    Ack,
    Nack,
    Hold,
}

/// Prints each message, then answers.
async fn receive(answer: impl Fn(u64) -> Answer) {
    let broker = broker().await;
    let mut receiver =
        broker.subscribe(SubscribeRequest { topic: "t".into(), ..SubscribeRequest::default() }).await.unwrap();
    println!("\nready 0");
    let mut seen = BTreeSet::new();
    let mut held = Vec::new();
    while let Some(delivery) = receiver.recv().await {
        let n: u64 = std::str::from_utf8(&delivery.message.data).unwrap().parse().unwrap();
        println!("\ngot {n}");
        let is_first = seen.insert(n);
        match answer(n) {
            Answer::Hold => held.push(delivery),
            Answer::Nack if is_first => delivery.ack.answer(Outcome::Nack),
            Answer::Nack | Answer::Ack => {
                if n.is_multiple_of(5) {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                delivery.ack.answer(Outcome::Ack);
            }
        }
    }
}

struct Event {
    process: usize,
    word: String,
    number: u64,
}

/// The processes of one test.
struct Processes {
    directory: tempfile::TempDir,
    children: BTreeMap<usize, Child>,
    started: usize,
    sender: mpsc::Sender<Event>,
    events: mpsc::Receiver<Event>,
}

impl Processes {
    fn new() -> Self {
        let (sender, events) = mpsc::channel();
        Self { directory: tempfile::tempdir().unwrap(), children: BTreeMap::new(), started: 0, sender, events }
    }

    fn start(&mut self, role: &str, group: &str) -> usize {
        let id = self.started;
        self.started += 1;
        let directory: &Path = self.directory.path();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "process", "--nocapture", "--quiet"])
            .env(ROLE, role)
            .env(GROUP, group)
            .env(DIRECTORY, directory.join("broker"))
            .env(FIRST, (id as u64 * 1_000_000).to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (output, sender) = (child.stdout.take().unwrap(), self.sender.clone());
        std::thread::spawn(move || {
            let mut reader = BufReader::new(output);
            let mut line = String::new();
            while reader.read_line(&mut line).is_ok_and(|length| length > 0) {
                // A killed process may have written half a line.
                if let (true, Some((word, number))) = (line.ends_with('\n'), line.trim().split_once(' '))
                    && let Ok(number) = number.parse()
                    && matches!(word, "published" | "got" | "ready")
                {
                    let _ = sender.send(Event { process: id, word: word.to_owned(), number });
                }
                line.clear();
            }
        });
        self.children.insert(id, child);
        id
    }

    fn kill(&mut self, id: usize) {
        let mut child = self.children.remove(&id).unwrap();
        child.kill().unwrap(); // SIGKILL
        child.wait().unwrap();
    }

    /// Takes events until one fits.
    fn wait_for(&self, mut fits: impl FnMut(&Event) -> bool) {
        let deadline = Instant::now() + LIMIT;
        loop {
            let event =
                self.events.recv_timeout(deadline.saturating_duration_since(Instant::now())).expect("an event in time");
            if fits(&event) {
                return;
            }
        }
    }

    fn wait_ready(&self, id: usize) {
        self.wait_for(|event| event.process == id && event.word == "ready");
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        for id in self.children.keys().copied().collect::<Vec<_>>() {
            self.kill(id);
        }
    }
}

/// What was published and what each group got.
#[derive(Default)]
struct Tally {
    published: BTreeSet<u64>,
    got: BTreeMap<&'static str, BTreeMap<u64, u32>>,
}

impl Tally {
    fn note(&mut self, event: &Event, groups: &BTreeMap<usize, &'static str>) {
        match event.word.as_str() {
            "published" => drop(self.published.insert(event.number)),
            "got" => *self.got.entry(groups[&event.process]).or_default().entry(event.number).or_default() += 1,
            _ => {}
        }
    }

    fn missing(&self, group: &str) -> usize {
        let got = self.got.get(group);
        self.published.iter().filter(|n| got.is_none_or(|got| !got.contains_key(n))).count()
    }
}

#[test]
fn no_acknowledged_message_is_lost_when_anybody_is_killed() {
    const GROUPS: [&str; 4] = ["mail", "mail", "mail", "sms"];
    let mut processes = Processes::new();
    let mut groups = BTreeMap::new();
    // All at once in a directory that does not exist: creation is part of the test.
    let mut subscribers: Vec<usize> = GROUPS.iter().map(|group| processes.start("receive", group)).collect();
    groups.extend(subscribers.iter().copied().zip(GROUPS));
    let mut ready = BTreeSet::new();
    processes.wait_for(|event| {
        ready.insert(event.process);
        ready.len() == GROUPS.len()
    });
    let mut publishers = [processes.start("publish", "p"), processes.start("publish", "p")];
    let (mut tally, mut random) = (Tally::default(), 12345u64);
    for _ in 0..40 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let until = Instant::now() + Duration::from_millis(50 + (random >> 33) % 150);
        while let Ok(event) = processes.events.recv_timeout(until.saturating_duration_since(Instant::now())) {
            tally.note(&event, &groups);
        }
        match (random >> 40) as usize % 6 {
            victim @ 0..4 => {
                processes.kill(subscribers[victim]);
                subscribers[victim] = processes.start("receive", GROUPS[victim]);
                groups.insert(subscribers[victim], GROUPS[victim]);
            }
            victim => {
                processes.kill(publishers[victim - 4]);
                publishers[victim - 4] = processes.start("publish", "p");
            }
        }
    }
    for publisher in publishers {
        processes.kill(publisher);
    }
    let deadline = Instant::now() + LIMIT;
    while let Ok(event) = processes.events.recv_timeout(Duration::from_millis(500)) {
        tally.note(&event, &groups);
        assert!(Instant::now() < deadline, "still delivering");
    }
    while (tally.missing("mail") > 0 || tally.missing("sms") > 0) && Instant::now() < deadline {
        if let Ok(event) = processes.events.recv_timeout(Duration::from_millis(500)) {
            tally.note(&event, &groups);
        }
    }
    for (group, got) in &tally.got {
        let again = got.values().filter(|times| **times > 1).count();
        println!(
            "{group}: {} of {} acknowledged messages missing, {again} of {} came again",
            tally.missing(group),
            tally.published.len(),
            got.len()
        );
    }
    assert!(tally.published.len() > 1000, "{}", tally.published.len());
    assert_eq!((tally.missing("mail"), tally.missing("sms")), (0, 0));
    let database = rusqlite::Connection::open(processes.directory.path().join("broker/broker.db")).unwrap();
    let number = |sql: &str| database.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    let verdict: String = database.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(verdict, "ok");
    let under_way = || number("SELECT (SELECT count(*) FROM in_flight) + (SELECT count(*) FROM waiting)");
    while under_way() > 0 {
        assert!(Instant::now() < deadline, "{} messages never came to an end", under_way());
        std::thread::sleep(Duration::from_millis(50)); // the last nacked ones wait for their next delivery
    }
    assert_eq!(number("SELECT count(*) FROM members"), 4);
}

#[test]
fn what_a_killed_subscriber_had_goes_to_another_member_or_its_restart() {
    let mut processes = Processes::new();
    let holder = processes.start("hold", "mail");
    processes.wait_ready(holder);
    let publisher = processes.start("publish", "p");
    let mut held = BTreeSet::new();
    processes.wait_for(|event| {
        if event.process == holder && event.word == "got" {
            held.insert(event.number);
        }
        held.len() == 32
    });
    processes.kill(publisher);
    let other = processes.start("receive", "mail");
    processes.wait_ready(other);

    let takes_over = |processes: &Processes, taker: usize, who: &str| {
        let killed = Instant::now();
        let mut missing = held.clone();
        processes.wait_for(|event| {
            if event.process == taker && event.word == "got" {
                missing.remove(&event.number);
            }
            missing.is_empty()
        });
        println!("{who} had all {} messages {:?} after the kill", held.len(), killed.elapsed());
    };
    // Killed while it holds them, then again while the next one holds them.
    processes.kill(other);
    processes.kill(holder);
    let restarted = processes.start("hold", "mail");
    takes_over(&processes, restarted, "the restarted process");
    let other = processes.start("receive", "mail");
    processes.wait_ready(other);
    std::thread::sleep(Duration::from_millis(300)); // so that it does not find out by starting
    processes.kill(restarted);
    takes_over(&processes, other, "another member");
}
