use std::collections::BTreeMap;
use std::path::Path;

use pillion_conformance::eventually;
use rusqlite::Connection;

use super::*;
use crate::tests::context;

async fn store(metadata: &[(&str, &str)]) -> Arc<dyn StateStore> {
    create(context("state.sqlite", metadata)).await.unwrap()
}

async fn store_at(path: &Path) -> Arc<dyn StateStore> {
    store(&[("connectionString", path.to_str().unwrap())]).await
}

fn set(key: &str, value: &'static str) -> SetRequest {
    SetRequest { key: key.into(), value: value.into(), ..SetRequest::default() }
}

fn get(key: &str) -> GetRequest {
    GetRequest { key: key.into(), ..GetRequest::default() }
}

async fn text(store: &Arc<dyn StateStore>, key: &str) -> Option<String> {
    store.get(&get(key)).await.unwrap().map(|item| String::from_utf8(item.data.to_vec()).unwrap())
}

#[tokio::test]
async fn conforms_in_a_file() {
    let folder = tempfile::tempdir().unwrap();
    pillion_conformance::state::run(store_at(&folder.path().join("a.db")).await).await;
}

#[tokio::test]
async fn conforms_in_memory() {
    pillion_conformance::state::run(store(&[("url", ":memory:")]).await).await;
}

#[tokio::test]
async fn conforms_without_a_write_ahead_log() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let store = store(&[
        ("url", path.to_str().unwrap()),
        ("disableWAL", "true"),
        ("tableName", "t"),
        ("metadataTableName", "m"),
    ])
    .await;
    pillion_conformance::state::run(store).await;
    let connection = Connection::open(path).unwrap();
    let mode: String = connection.query_row("PRAGMA journal_mode", [], |row| row.get(0)).unwrap();
    assert_eq!(mode, "delete");
    connection.query_row("SELECT count(*) FROM t", [], |_| Ok(())).unwrap();
}

#[tokio::test]
async fn rows_are_those_of_the_original() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let store = store_at(&path).await;
    store.set(&SetRequest { value_is_json: true, ..set("json", "{\"a\":1}") }).await.unwrap();
    let ttl = BTreeMap::from([("ttlInSeconds".to_owned(), "100".to_owned())]);
    store.set(&SetRequest { metadata: ttl, ..set("bytes", "hello") }).await.unwrap();
    let connection = Connection::open(&path).unwrap();
    let row = |key: &str| -> (String, i64, String, Option<String>, String) {
        let query = "SELECT value, is_binary, etag, expiration_time, update_time FROM state WHERE key = ?";
        connection
            .query_row(query, [key], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?)))
            .unwrap()
    };
    let (value, is_binary, etag, expires, updated) = row("json");
    assert_eq!((value.as_str(), is_binary, expires), ("{\"a\":1}", 0, None));
    assert!(uuid::Uuid::parse_str(&etag).is_ok() && updated.len() == "2026-01-01 00:00:00".len(), "{etag} {updated}");
    let (value, is_binary, _, expires, _) = row("bytes");
    assert_eq!((value.as_str(), is_binary), ("aGVsbG8=", 1));
    let expires = expires.unwrap();
    let left: i64 =
        connection.query_row("SELECT unixepoch(?) - unixepoch('now')", [&expires], |row| row.get(0)).unwrap();
    assert!(expires.len() == 19 && (100..=101).contains(&left), "{expires}: whole seconds, rounded up; {left} left");
    let level: String =
        connection.query_row("SELECT value FROM metadata WHERE key = 'migrations'", [], |row| row.get(0)).unwrap();
    assert_eq!(level, "1");
}

#[tokio::test]
async fn a_table_made_by_somebody_else_is_used_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let connection = Connection::open(&path).unwrap();
    let script = "PRAGMA journal_mode = WAL;
        CREATE TABLE metadata (key text NOT NULL PRIMARY KEY, value text NOT NULL); INSERT INTO metadata VALUES ('migrations', '1');
        CREATE TABLE state (key TEXT NOT NULL PRIMARY KEY, value TEXT NOT NULL, is_binary BOOLEAN NOT NULL, etag TEXT NOT NULL,
            expiration_time TIMESTAMP DEFAULT NULL, update_time TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP);
        INSERT INTO state VALUES ('json', '\"x\"', FALSE, 'e1', NULL, CURRENT_TIMESTAMP), ('bytes', 'aGVsbG8=', TRUE, 'e2', NULL, 'y'),
            ('gone', '1', 0, 'e3', '2020-01-01 00:00:00', 'y'), ('broken', '*', 1, 'e4', NULL, 'y'),
            ('later', '1', 0, 'e5', '2099-12-31 23:59:58', 'y')";
    connection.execute_batch(script).unwrap();
    let store = store_at(&path).await;
    assert_eq!(text(&store, "json").await.as_deref(), Some("\"x\""));
    assert_eq!(text(&store, "bytes").await.as_deref(), Some("hello"));
    assert_eq!(text(&store, "gone").await, None);
    let later = store.get(&get("later")).await.unwrap().unwrap();
    assert_eq!(later.metadata["ttlExpireTime"], "2099-12-31T23:59:58Z");
    let error = store.get(&get("broken")).await.unwrap_err().to_string();
    assert!(error.starts_with("failed to decode binary data: "), "{error}");
    let bulk = store.bulk_get(&[get("broken"), get("json")]).await.unwrap();
    assert!(bulk[0].error.is_some() && bulk[1].item.is_some(), "a broken row fails alone");
    store.set(&SetRequest { etag: Some("e1".into()), ..set("json", "2") }).await.unwrap();
    connection.execute("UPDATE state SET value = 'Mw==' WHERE key = 'json'", []).unwrap();
    assert_eq!(text(&store, "json").await.as_deref(), Some("3"), "two connections work side by side");
}

#[tokio::test]
async fn bad_metadata_and_requests_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    std::fs::write(&path, "this is no database, and long enough to be looked at as one: ".repeat(20)).unwrap();
    let path = path.to_str().unwrap();
    let cases: [(&[(&str, &str)], &str); 6] = [
        (&[], "missing connection string"),
        (&[("url", "x"), ("timeout", "999ms")], "invalid value for 'timeout': must be at least 1s"),
        (
            &[("url", "x?_pragma=busy_timeout(1)")],
            "found forbidden option '_pragma=busy_timeout' in the connection string",
        ),
        (&[("url", "x"), ("tableName", "a; drop")], "metadata field \"tableName\": invalid identifier: a; drop"),
        (&[("url", "/nowhere/x.db")], "failed to open SQLite database \"/nowhere/x.db\": unable to open database file"),
        (&[("url", path)], "failed to open SQLite database"),
    ];
    for (metadata, wanted) in cases {
        let error = create(context("state.sqlite", metadata)).await.err().unwrap();
        assert_eq!(error.kind, ErrorKind::InvalidRequest, "{error}");
        assert!(error.to_string().starts_with(wanted), "{error}");
    }
    let store = store(&[("url", ":memory:")]).await;
    assert_eq!(store.get(&get("")).await.unwrap_err().to_string(), "missing key in get operation");
    assert_eq!(store.set(&set("", "1")).await.unwrap_err().to_string(), "missing key in set option");
    let steps = vec![StateOperation::Upsert(set("a", "1")), StateOperation::Delete(DeleteRequest::default())];
    let transaction = TransactionRequest { operations: steps, ..TransactionRequest::default() };
    let error = store.transactional().unwrap().transact(&transaction).await.unwrap_err();
    assert_eq!(error.to_string(), "missing key in delete operation");
    assert_eq!(text(&store, "a").await, None);
    let error = store
        .keys_like(&KeysLikeRequest { pattern: "%".into(), token: Some("x".into()), page_size: None })
        .await
        .unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidRequest);
}

#[tokio::test]
async fn a_read_only_database_can_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let writable = store(&[("url", path.to_str().unwrap()), ("disableWAL", "true")]).await;
    writable.set(&set("k", "v")).await.unwrap();
    writable.close().await.unwrap();
    let before = std::fs::read(&path).unwrap();
    for option in ["mode=ro", "immutable=1"] {
        let store = store(&[("url", &format!("file:{}?{option}", path.display()))]).await;
        assert_eq!(text(&store, "k").await.as_deref(), Some("v"));
        let error = store.set(&set("k", "w")).await.unwrap_err().to_string();
        assert!(error.contains("attempt to write a readonly database"), "{error}");
        store.close().await.unwrap();
    }
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[tokio::test]
async fn expired_rows_are_swept_by_one_of_all_sidecars() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let metadata = [("url", path.to_str().unwrap()), ("cleanupInterval", "500ms")];
    let (one, two) = (store(&metadata).await, store(&metadata).await);
    let connection = Connection::open(&path).unwrap();
    let fill = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2500)
        INSERT INTO state SELECT 'k' || i, '1', 0, 'e', '2020-01-01 00:00:00', 'y' FROM n;
        INSERT INTO state VALUES ('stays', '1', 0, 'e', NULL, 'y'), ('later', '1', 0, 'e', '2099-01-01 00:00:00', 'y')";
    connection.execute_batch(fill).unwrap();
    let count = || connection.query_row("SELECT count(*) FROM state", [], |row| row.get::<_, i64>(0)).unwrap();
    assert!(eventually(Duration::from_secs(5), || async { count() == 2 }).await, "{} left", count());
    let claimed =
        "SELECT count(*) FROM metadata WHERE key = 'last-cleanup' AND unixepoch('now') - unixepoch(value) < 5";
    assert_eq!(connection.query_row(claimed, [], |row| row.get::<_, i64>(0)).unwrap(), 1);
    one.close().await.unwrap();
    two.close().await.unwrap();
    let statements = Arc::new(Statements::new("state", "metadata"));
    let settings = SqliteSettings::read(&context("state.sqlite", &metadata).metadata, &DEFAULTS).unwrap();
    let target = Target::parse(&settings, &pillion_core::log::Logger::silent()).unwrap();
    let database =
        Database::open(target, settings.timeout, &pillion_core::log::Logger::silent(), |_| Ok(())).await.unwrap();
    let hour = Duration::from_secs(3600);
    assert_eq!(cleanup::sweep(&database, &statements, hour).await.unwrap(), None, "it was done within the hour");
}

#[tokio::test]
async fn keys_are_found_by_case_and_behind_a_prefix() {
    let store = store(&[("url", ":memory:")]).await;
    for key in ["app||a", "APP||a", "app||B", "bpp||a", "app|", "app||\u{e4}"] {
        store.set(&set(key, "1")).await.unwrap();
    }
    store.set(&set("app||a", "rewritten")).await.unwrap();
    let find = |pattern: &str| {
        let request = KeysLikeRequest { pattern: pattern.to_owned(), ..KeysLikeRequest::default() };
        let store = store.clone();
        async move { store.keys_like(&request).await.unwrap().keys }
    };
    assert_eq!(find("app||%").await, ["app||a", "app||B", "app||\u{e4}"]);
    assert_eq!(find("%||a").await, ["app||a", "APP||a", "bpp||a"]);
    assert_eq!(find("app||_").await, ["app||a", "app||B", "app||\u{e4}"]);
    assert_eq!(find("app||a").await, ["app||a"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn first_write_has_one_winner_and_counters_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let stores = [store_at(&path).await, store_at(&path).await];
    let mut tasks = tokio::task::JoinSet::new();
    for index in 0..8 {
        let store = stores[index % 2].clone();
        tasks.spawn(async move {
            let first = SetRequest { concurrency: Concurrency::FirstWrite, ..set("first", "1") };
            let won = store.set(&first).await.is_ok();
            let mut added = 0;
            while added < 10 {
                let item = store.get(&get("counter")).await.unwrap();
                let count: u64 =
                    item.as_ref().map_or(0, |item| std::str::from_utf8(&item.data).unwrap().parse().unwrap());
                let request = SetRequest {
                    key: "counter".into(),
                    value: (count + 1).to_string().into(),
                    etag: item.and_then(|item| item.etag),
                    concurrency: Concurrency::FirstWrite,
                    ..SetRequest::default()
                };
                match store.set(&request).await {
                    Ok(()) => added += 1,
                    Err(error) => assert_eq!(error.kind, ErrorKind::ETagMismatch, "{error}"),
                }
            }
            won
        });
    }
    let won = tasks.join_all().await;
    assert_eq!(won.into_iter().filter(|won| *won).count(), 1);
    assert_eq!(text(&stores[0], "counter").await.as_deref(), Some("80"));
}

#[tokio::test]
async fn a_closed_store_says_so() {
    let store = store(&[("url", ":memory:")]).await;
    store.close().await.unwrap();
    store.close().await.unwrap();
    let error = store.get(&get("k")).await.unwrap_err();
    assert_eq!((error.kind, error.to_string().as_str()), (ErrorKind::Unavailable, "the SQLite database is closed"));
}
