//! What must hold when everything is quiet: nothing lost, the files in effect, nothing left over.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use http::Method;
use pillion_testkit::request;
use serde_json::Value;

use super::files::Effect;
use super::load::Tally;
use super::world::{Member, World, locked};

/// How long messages may take to reach their apps when the load has stopped: the longest redelivery pause and room.
const DELIVERY_LIMIT: Duration = Duration::from_secs(45);
/// How long a file change may take to be in effect.
const EFFECT_LIMIT: Duration = Duration::from_secs(10);
/// Connections end and pools shrink within this time.
const SETTLE_LIMIT: Duration = Duration::from_secs(8);
/// Tasks that idle connections of the load may still hold.
const SLACK: u64 = 12;
/// Files that may come after the first look: SQLite keeps handles of a database while another connection of the process has locked it.
const FILES_SLACK: u64 = 16;
/// Connections that the pools of a process may keep, whatever the load was.
const CONNECTIONS_MAX: u64 = 64;
/// KiB a process may grow over its first quiet moment: caches and the allocator's pages.
const RSS_SLACK: u64 = 24 * 1024;
/// Looks after which a process has all it will ever need, and KiB it may grow from then on.
const SETTLED_LOOKS: usize = 4;
const SETTLED_RSS_SLACK: u64 = 8 * 1024;

/// How an established connection is named.
const CONNECTION: &str = "connection";

/// What a quiet process held.
#[derive(Clone, Copy, Debug, Default)]
struct Held {
    /// Without connections, which pools keep for a while.
    files: u64,
    connections: u64,
    tasks: u64,
    rss_kib: u64,
}

/// The measures of each process, oldest first.
#[derive(Default)]
pub(super) struct Oracle {
    looks: HashMap<u32, Vec<Held>>,
    pub(super) checks: u64,
}

impl Oracle {
    /// Everything that must hold; broken rules go to the tally.
    pub(super) async fn look(&mut self, world: &World, tally: &Tally) -> anyhow::Result<()> {
        self.delivered(world, tally).await;
        self.in_effect(world, tally, "the edits").await?;
        for member in &world.members {
            member.files.lock().await.clear().await?;
        }
        self.in_effect(world, tally, "the removal of all").await?;
        self.held(world, tally).await;
        Ok(())
    }

    async fn delivered(&mut self, world: &World, tally: &Tally) {
        self.checks += 1;
        let deadline = Instant::now() + DELIVERY_LIMIT;
        for member in &world.members {
            loop {
                let missing: Vec<u64> = {
                    let delivered = locked(&member.ledger.delivered);
                    locked(&tally.acknowledged)
                        .iter()
                        .filter(|number| !delivered.contains_key(number))
                        .copied()
                        .collect()
                };
                if missing.is_empty() {
                    break;
                }
                if Instant::now() > deadline {
                    let shown: Vec<&u64> = missing.iter().take(10).collect();
                    tally.violation(format!(
                        "{} messages that were acknowledged never came to {}: {shown:?} …",
                        missing.len(),
                        member.name
                    ));
                    break;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }

    async fn in_effect(&mut self, world: &World, tally: &Tally, what: &str) -> anyhow::Result<()> {
        for (index, member) in world.members.iter().enumerate() {
            if !world.rules.hot_reload {
                world.hangup(index).await?;
            }
            self.checks += 1;
            let wanted = member.files.lock().await.effects(world.rules.hot_reload);
            let deadline = Instant::now() + EFFECT_LIMIT;
            loop {
                let seen = observed(world, member).await;
                match seen {
                    Ok(seen) if wanted.contains(&seen) => break,
                    seen if Instant::now() > deadline => {
                        tally.violation(format!(
                            "{}: {what} are not in effect after {EFFECT_LIMIT:?}\n  wanted one of {wanted:?}\n  seen   {seen:?}",
                            member.name
                        ));
                        break;
                    }
                    _ => tokio::time::sleep(Duration::from_millis(200)).await,
                }
            }
        }
        Ok(())
    }

    /// Compares each process with its first quiet moment.
    async fn held(&mut self, world: &World, tally: &Tally) {
        let pid = |member: &Member| member.pid.load(Ordering::Relaxed);
        if world.members.iter().any(|member| !self.looks.contains_key(&pid(member))) {
            tokio::time::sleep(SETTLE_LIMIT).await; // a first look counts, so that it must be a quiet one
        }
        let deadline = Instant::now() + SETTLE_LIMIT;
        for member in &world.members {
            self.checks += 1;
            let pid = pid(member);
            let looks = self.looks.entry(pid).or_default();
            loop {
                let held = match measure(member, pid).await {
                    Ok(held) => held,
                    Err(error) => {
                        tally.violation(format!("{}: cannot be measured: {error:#}", member.name));
                        break;
                    }
                };
                let over = over(looks, held);
                if over.is_empty() || Instant::now() > deadline {
                    for what in &over {
                        tally.violation(format!("{}: when quiet, {what}", member.name));
                    }
                    if !over.is_empty() {
                        println!("{:#?}", handles(pid));
                    }
                    looks.push(held);
                    println!("  {} (process {pid}, look {}): {held:?}", member.name, looks.len());
                    break;
                }
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        }
    }

    /// What each process that is still there held at first and at last.
    pub(super) fn summary(&self, world: &World) -> String {
        let mut text = String::new();
        for member in &world.members {
            let looks = self.looks.get(&member.pid.load(Ordering::Relaxed)).map_or(&[][..], Vec::as_slice);
            let (Some(first), Some(last)) = (looks.first(), looks.last()) else { continue };
            text += &format!(
                "lifecycle: {} over {} looks: RSS {:.1} to {:.1} MiB, files {} to {}, connections {} to {}, tasks {} to {}\n",
                member.name,
                looks.len(),
                first.rss_kib as f64 / 1024.0,
                last.rss_kib as f64 / 1024.0,
                first.files,
                last.files,
                first.connections,
                last.connections,
                first.tasks,
                last.tasks
            );
        }
        text
    }
}

/// What a process holds beyond what it may, after these looks.
fn over(looks: &[Held], now: Held) -> Vec<String> {
    let Some(first) = looks.first() else { return Vec::new() };
    let mut limits = vec![
        ("open files", now.files, first.files + FILES_SLACK, first.files),
        ("connections", now.connections, CONNECTIONS_MAX, first.connections),
        ("tasks", now.tasks.saturating_sub(now.connections), first.tasks + SLACK, first.tasks),
        ("KiB of memory", now.rss_kib, first.rss_kib + RSS_SLACK, first.rss_kib),
    ];
    if let Some(settled) = looks.get(..SETTLED_LOOKS).and_then(|looks| looks.iter().map(|held| held.rss_kib).max()) {
        limits.push(("KiB of memory", now.rss_kib, settled + SETTLED_RSS_SLACK, settled));
    }
    let over = limits.into_iter().filter(|(_, now, limit, _)| now > limit);
    over.map(|(what, now, limit, first)| format!("{now} {what}, at most {limit} were to be; it began with {first}"))
        .collect()
}

#[test]
fn what_grows_is_told() {
    let first = Held { files: 40, connections: 10, tasks: 20, rss_kib: 30_000 };
    let looks = [first; SETTLED_LOOKS];
    assert!(over(&[], Held { files: 1000, ..first }).is_empty() && over(&looks, first).is_empty());
    for (grown, what) in [
        (Held { files: 57, ..first }, "57 open files"),
        (Held { connections: 65, ..first }, "65 connections"),
        (Held { tasks: 43, ..first }, "tasks"),
        (Held { rss_kib: 30_001 + SETTLED_RSS_SLACK, ..first }, "KiB of memory"),
    ] {
        let told = over(&looks, grown);
        assert!(told.len() == 1 && told[0].contains(what), "{told:?}");
    }
    assert!(over(&looks[..1], Held { rss_kib: 30_000 + RSS_SLACK, ..first }).is_empty(), "not settled yet");
}

/// What the sidecar says and does.
async fn observed(world: &World, member: &Member) -> anyhow::Result<Effect> {
    let port = member.port();
    let metadata: Value = serde_json::from_slice(&request(port, Method::GET, "/v1.0/metadata", &[], "").await?.body)?;
    let texts = |list: &str, key: &str| -> BTreeSet<String> {
        let items = metadata[list].as_array().into_iter().flatten();
        items.filter_map(|item| item[key].as_str().map(str::to_owned)).collect()
    };
    let components = metadata["components"].as_array().into_iter().flatten();
    let pair = |item: &Value| Some((item["name"].as_str()?.to_owned(), item["type"].as_str()?.to_owned()));
    let mut effect = Effect {
        components: components.filter_map(pair).collect(),
        topics: texts("subscriptions", "topic"),
        endpoints: texts("httpEndpoints", "name"),
        resiliencies: texts("resiliencies", "name"),
        attempts: 0,
        endpoint_version: None,
    };
    let target = world.members.last().context("no members")?;
    target.ledger.take_failing(member.name);
    request(port, Method::GET, "/v1.0/invoke/failing/method/x", &[], "").await?;
    effect.attempts = target.ledger.take_failing(member.name);
    if effect.endpoints.contains("e5") {
        let reply = request(port, Method::GET, "/v1.0/invoke/e5/method/x", &[], "").await?.text();
        let version = reply.strip_prefix("/v").and_then(|rest| rest.strip_suffix("/x"));
        effect.endpoint_version = version.and_then(|version| version.parse().ok());
    }
    Ok(effect)
}

/// What the open files of a process are, each kind with its number. Connections begin with [`CONNECTION`].
fn handles(pid: u32) -> BTreeMap<String, u64> {
    let table = fs::read_to_string(format!("/proc/{pid}/net/tcp")).unwrap_or_default();
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for handle in fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
        let target = fs::read_link(handle.path()).unwrap_or_default().display().to_string();
        let name = match target.strip_prefix("socket:[") {
            Some(inode) => socket(&table, inode.trim_end_matches(']')),
            None => target.split(":[").next().unwrap_or_default().to_owned(),
        };
        *counts.entry(name).or_default() += 1;
    }
    counts
}

fn socket(table: &str, inode: &str) -> String {
    let Some(line) = table.lines().find(|line| line.split_whitespace().nth(9) == Some(inode)) else {
        return format!("{CONNECTION} over a Unix socket, or its listener");
    };
    let fields: Vec<&str> = line.split_whitespace().collect();
    let port = |field: usize| {
        let hexadecimal = fields.get(field).and_then(|address| address.split(':').nth(1)).unwrap_or_default();
        u32::from_str_radix(hexadecimal, 16).unwrap_or_default()
    };
    match fields.get(3) {
        Some(&"0A") => "TCP listener".to_owned(),
        // The side with the lower number is not known to be the server; both together name the pool.
        _ => format!("{CONNECTION} of port {} or {}", port(1), port(2)),
    }
}

async fn measure(member: &Member, pid: u32) -> anyhow::Result<Held> {
    let port = member.profile.load(Ordering::Relaxed);
    let tasks = request(port, Method::GET, "/debug/pprof/tasks", &[], "").await?.text();
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let number = |text: &str, label: &str| -> Option<u64> {
        let rest = text.lines().find_map(|line| line.strip_prefix(label))?;
        rest.split_whitespace().next()?.parse().ok()
    };
    let handles = handles(pid);
    let of = |wanted: bool| -> u64 {
        handles.iter().filter(|(name, _)| name.starts_with(CONNECTION) == wanted).map(|(_, count)| count).sum()
    };
    let connections = of(true);
    Ok(Held {
        files: of(false),
        connections,
        tasks: number(&tasks, "tasks alive:").context("no number of tasks")?,
        rss_kib: number(&status, "VmRSS:").context("no VmRSS")?,
    })
}
