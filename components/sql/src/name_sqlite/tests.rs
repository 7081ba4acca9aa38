use std::path::Path;

use pillion_conformance::eventually;
use rusqlite::Connection;

use super::*;
use crate::tests::context;

async fn resolver(path: &Path, more: &[(&str, &str)]) -> Arc<dyn NameResolver> {
    let metadata = [&[("connectionString", path.to_str().unwrap())], more].concat();
    create(context("nameresolution.sqlite", &metadata)).await.unwrap()
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
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nr.db");
    let (first, second, third) = (resolver(&path, &[]).await, resolver(&path, &[]).await, resolver(&path, &[]).await);
    pillion_conformance::name_resolution::run(first, second, third).await;
    let connection = Connection::open(&path).unwrap();
    let left: i64 = connection.query_row("SELECT count(*) FROM hosts", [], |row| row.get(0)).unwrap();
    assert_eq!(left, 0, "closed resolvers leave no rows");
}

#[tokio::test]
async fn rows_are_those_of_the_original() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nr.db");
    let one = resolver(&path, &[("tableName", "h"), ("metadataTableName", "m")]).await;
    one.register(registration("shop", 4100)).await.unwrap();
    one.register(Registration { host: "::1".into(), ..registration("six", 4101) }).await.unwrap();
    let connection = Connection::open(&path).unwrap();
    let query = "SELECT address, app_id, namespace, unixepoch('now') - last_update FROM h ORDER BY app_id";
    let mut statement = connection.prepare(query).unwrap();
    let rows =
        statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get::<_, i64>(3)?))).unwrap();
    for (row, (address, app_id)) in rows.zip([("127.0.0.1:4100", "shop"), ("[::1]:4101", "six")]) {
        let row: (String, String, String, i64) = row.unwrap();
        assert_eq!((row.0.as_str(), row.1.as_str(), row.2.as_str()), (address, app_id, ""));
        assert!(row.3 < 5);
    }
    let level: String =
        connection.query_row("SELECT value FROM m WHERE key = 'nr-migrations'", [], |row| row.get(0)).unwrap();
    assert_eq!(level, "1");
    // A row as the original writes it, one that is stale, and one of another namespace, which is ignored as there.
    let others = "INSERT INTO h VALUES ('a', '10.0.0.1:1', 'other', '', unixepoch('now')), ('b', '10.0.0.2:1', 'other', 'ns', unixepoch('now') - 3),
        ('c', '10.0.0.3:1', 'other', '', unixepoch('now') - 6)";
    connection.execute_batch(others).unwrap();
    assert_eq!(one.resolve(&question("other")).await.unwrap(), ["10.0.0.1:1", "10.0.0.2:1"]);
}

#[tokio::test]
async fn a_row_is_kept_fresh_written_again_and_given_up_when_taken_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nr.db");
    let one = resolver(&path, &[("updateInterval", "2s")]).await;
    one.register(registration("shop", 4100)).await.unwrap();
    let connection = Connection::open(&path).unwrap();
    let fresh = || {
        let query = "SELECT count(*) FROM hosts WHERE unixepoch('now') - last_update < 2";
        connection.query_row(query, [], |row| row.get::<_, i64>(0)).unwrap()
    };
    connection.execute("UPDATE hosts SET last_update = 0", []).unwrap();
    assert!(eventually(Duration::from_secs(4), || async { fresh() == 1 }).await, "renewed");
    connection.execute("DELETE FROM hosts", []).unwrap();
    assert!(eventually(Duration::from_secs(4), || async { fresh() == 1 }).await, "written again");

    let two = resolver(&path, &[("updateInterval", "2s")]).await;
    two.register(registration("shop", 4100)).await.unwrap();
    assert_eq!(two.resolve(&question("shop")).await.unwrap(), ["127.0.0.1:4100"], "the last one has the address");
    one.close().await.unwrap();
    two.report_failure(&question("shop"), "127.0.0.1:4100");
    assert_eq!(two.resolve(&question("shop")).await.unwrap(), ["127.0.0.1:4100"], "the loser deletes nothing");
}

#[tokio::test]
async fn the_cleanup_deletes_stale_rows_only_and_once_per_interval() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nr.db");
    drop(resolver(&path, &[("cleanupInterval", "0")]).await);
    let connection = Connection::open(&path).unwrap();
    let add = "INSERT INTO hosts VALUES ('a' || ?1, 'x:1', 'app', '', unixepoch('now')), ('b' || ?1, 'y:' || ?1, 'app', '', 5)";
    let count = || connection.query_row("SELECT count(*) FROM hosts", [], |row| row.get::<_, i64>(0)).unwrap();
    connection.execute(add, [1]).unwrap();
    let first = resolver(&path, &[]).await;
    assert!(
        eventually(Duration::from_secs(4), || async { count() == 1 }).await,
        "the stale one is gone, the live one is not"
    );
    connection.execute("INSERT INTO hosts VALUES ('c', 'z:1', 'app', '', 5)", []).unwrap();
    let second = resolver(&path, &[]).await;
    second.register(registration("shop", 1)).await.unwrap(); // queued behind the cleanup
    assert_eq!(count(), 3, "it was done within the hour");
    first.close().await.unwrap();
}

#[tokio::test]
async fn bad_metadata_and_registrations_are_refused() {
    let cases: [(&[(&str, &str)], &str); 5] = [
        (&[], "missing connection string"),
        (&[("url", ":memory:"), ("updateInterval", "5500ms")], "update interval must not contain fractions of seconds"),
        (&[("url", ":memory:"), ("updateInterval", "1s")], "update interval must be at least 1s greater than timeout"),
        (&[("url", ":memory:"), ("timeout", "5s")], "update interval must be at least 1s greater than timeout"),
        (&[("url", ":memory:"), ("tableName", "a-b")], "metadata field \"tableName\": invalid identifier: a-b"),
    ];
    for (metadata, wanted) in cases {
        let error = create(context("nameresolution.sqlite", metadata)).await.err().unwrap();
        assert!(error.to_string().starts_with(wanted), "{error}");
    }
    let resolver = create(context("nameresolution.sqlite", &[("url", ":memory:")])).await.unwrap();
    let cases = [
        (registration("", 1), "name is missing"),
        (Registration { host: String::new(), ..registration("a", 1) }, "address is missing"),
        (registration("a", 0), "port is missing or invalid"),
    ];
    for (registration, wanted) in cases {
        assert_eq!(resolver.register(registration).await.unwrap_err().to_string(), wanted);
    }
    let error = resolver.resolve(&question("nobody")).await.unwrap_err();
    let wanted = "no host found with the given ID: nobody (no sidecar of it renewed its registration within 5s in table hosts of ";
    assert!(error.to_string().starts_with(wanted), "{error}");
}
