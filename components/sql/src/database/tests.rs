use std::sync::atomic::{AtomicU32, Ordering};

use pillion_contract::Metadata;

use super::*;
use crate::metadata::{Defaults, SqliteSettings};

async fn open(connection_string: &str) -> Database {
    let (timeout, busy_timeout) = (Duration::from_secs(1), Duration::from_millis(100));
    let defaults = Defaults { timeout, busy_timeout, table: "t", cleanup_interval: None };
    let settings = SqliteSettings::read(&Metadata::new([("url", connection_string)]), &defaults).unwrap();
    let log = Logger::silent();
    let schema = |connection: &Connection| {
        let created = connection.execute_batch("CREATE TABLE IF NOT EXISTS t (x INTEGER UNIQUE)");
        created.map_err(|error| failure("schema", error))
    };
    Database::open(Target::parse(&settings, &log).unwrap(), timeout, &log, schema).await.unwrap()
}

fn insert(connection: &Connection, value: i64) -> Result<(), ComponentError> {
    connection.execute("INSERT INTO t VALUES (?)", [value]).map(drop).map_err(|error| failure("insert", error))
}

async fn count(database: &Database) -> i64 {
    let query = |connection: &Connection| {
        connection.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).map_err(|error| failure("count", error))
    };
    database.read(query).await.unwrap()
}

#[tokio::test]
async fn each_write_of_a_group_has_its_own_outcome() {
    let folder = tempfile::tempdir().unwrap();
    for name in [folder.path().join("a.db").to_str().unwrap(), ":memory:"] {
        let database = open(name).await;
        let writes = (0..50).map(|index| {
            let database = database.clone();
            async move {
                let unique = i64::from(index % 25);
                if index % 2 == 0 {
                    return database.write(move |connection| insert(connection, unique)).await.is_ok();
                }
                let twice = move |connection: &Connection| {
                    insert(connection, 1000 + i64::from(index))?;
                    insert(connection, unique)
                };
                database.write_atomic(twice).await.is_ok()
            }
        });
        let mut done = 0;
        for write in writes.map(tokio::spawn).collect::<Vec<_>>() {
            done += i64::from(write.await.unwrap());
        }
        assert_eq!(done, 25, "each value is taken once");
        let of_atomic = |connection: &Connection| {
            let query = "SELECT count(*) FROM t WHERE x >= 1000";
            connection.query_row(query, [], |row| row.get::<_, i64>(0)).map_err(|error| failure("count", error))
        };
        let whole = database.read(of_atomic).await.unwrap();
        assert_eq!(count(&database).await, 25 + whole, "a refused pair left nothing");
        database.close().await;
    }
}

#[tokio::test]
async fn a_transaction_that_breaks_under_the_group_fails_one_write_only() {
    let database = open(":memory:").await;
    let runs = Arc::new(AtomicU32::new(0));
    let (hold, held) = std::sync::mpsc::channel::<()>();
    let wait = database.clone();
    // Holds the thread until all others wait, so that they become one group.
    let waiting = tokio::spawn(async move {
        let wait_for = move |_: &Connection| {
            let _ = held.recv();
            Ok(())
        };
        wait.read(wait_for).await
    });
    tokio::task::yield_now().await;
    let mut tasks = Vec::new();
    for value in 0..10 {
        let (database, runs) = (database.clone(), runs.clone());
        tasks.push(tokio::spawn(async move {
            let write = move |connection: &Connection| {
                runs.fetch_add(1, Ordering::Relaxed);
                insert(connection, value)?;
                if value == 7 {
                    let broken = connection.execute("INSERT OR ROLLBACK INTO t VALUES (?)", [value]);
                    return broken.map(drop).map_err(|error| failure("broken", error));
                }
                Ok(())
            };
            database.write(write).await.is_ok()
        }));
    }
    tokio::task::yield_now().await;
    hold.send(()).unwrap();
    waiting.await.unwrap().unwrap();
    let mut done = Vec::new();
    for task in tasks {
        done.push(task.await.unwrap());
    }
    assert_eq!(done.iter().filter(|done| !**done).count(), 1);
    assert!(!done[7]);
    assert_eq!(count(&database).await, 9);
    assert_eq!(runs.load(Ordering::Relaxed), 18, "eight ran in the group, then ten on their own");
}

#[tokio::test]
async fn a_lock_of_another_process_is_waited_for_and_then_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let database = open(path.to_str().unwrap()).await;
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = database.write(|connection| insert(connection, 1)).await.unwrap_err();
    assert_eq!(
        (error.kind, error.to_string().as_str()),
        (ErrorKind::Unavailable, "the write was not committed: database is locked")
    );
    assert_eq!(count(&database).await, 0, "reading goes on");
    other.execute_batch("ROLLBACK").unwrap();
    database.write(|connection| insert(connection, 1)).await.unwrap();
    assert_eq!(count(&database).await, 1);
}

#[tokio::test]
async fn a_slow_operation_times_out_and_an_abandoned_one_is_skipped() {
    let database = open(":memory:").await;
    let (hold, held) = std::sync::mpsc::channel::<()>();
    let wait_for = move |_: &Connection| {
        let _ = held.recv();
        Ok(())
    };
    let error = database.read(wait_for).await.unwrap_err();
    assert_eq!(error.to_string(), "the SQLite database did not answer within the timeout of 1s");
    let abandoned = tokio::spawn({
        let database = database.clone();
        async move { database.write(|connection| insert(connection, 1)).await }
    });
    tokio::task::yield_now().await;
    abandoned.abort();
    let _ = abandoned.await;
    hold.send(()).unwrap();
    assert_eq!(count(&database).await, 0);
}
