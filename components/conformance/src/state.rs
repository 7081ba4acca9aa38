//! State stores: spec components.md §4.1.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use pillion_contract::{
    ComponentError, Concurrency, DeleteRequest, ErrorKind, GetRequest, KeysLikeRequest, SetRequest, StateItem,
    StateOperation, StateStore, TransactionRequest,
};

use crate::{Unique, eventually};

/// Runs all rules the store's capability claims.
pub async fn run(store: Arc<dyn StateStore>) {
    let suite = Suite { store, unique: Unique::default() };
    suite.values().await;
    suite.deletes().await;
    suite.bulk().await;
    let capability = suite.store.capability();
    if capability.etag {
        suite.etags().await;
        suite.first_write().await;
    }
    if capability.transactional {
        suite.transactions().await;
    }
    if capability.ttl {
        suite.ttl().await;
    }
    if capability.delete_with_prefix {
        suite.prefix_deletes().await;
    }
    if capability.keys_like {
        suite.keys_like().await;
    }
    suite.store.close().await.expect("close");
}

struct Suite {
    store: Arc<dyn StateStore>,
    unique: Unique,
}

fn set(key: &str, value: &str) -> SetRequest {
    SetRequest { key: key.to_owned(), value: Bytes::copy_from_slice(value.as_bytes()), ..SetRequest::default() }
}

/// What an etag of another store's form must lead to: a store may say that it never gave it out. One it did give out and
/// that is stale must be a mismatch.
fn is_etag_error(error: &ComponentError) -> bool {
    matches!(error.kind, ErrorKind::ETagMismatch | ErrorKind::ETagInvalid)
}

fn delete(key: &str) -> DeleteRequest {
    DeleteRequest { key: key.to_owned(), ..DeleteRequest::default() }
}

fn with_ttl(mut request: SetRequest, ttl: &str) -> SetRequest {
    request.metadata.insert("ttlInSeconds".to_owned(), ttl.to_owned());
    request
}

impl Suite {
    async fn get(&self, key: &str) -> Option<StateItem> {
        self.store.get(&GetRequest { key: key.to_owned(), ..GetRequest::default() }).await.expect("get")
    }

    async fn text(&self, key: &str) -> Option<String> {
        self.get(key).await.map(|item| String::from_utf8(item.data.to_vec()).expect("text"))
    }

    async fn etag(&self, key: &str) -> String {
        self.get(key)
            .await
            .and_then(|item| item.etag)
            .filter(|etag| !etag.is_empty())
            .expect("a stored item has an etag")
    }

    async fn values(&self) {
        assert_eq!(self.get(&self.unique.name("never")).await, None, "a missing key is no error");
        let json = ["7", "true", "\"\\\"json\\\"\"", "\"plain\"", "\"\"", "{\"a\":[1,2,{\"b\":null}]}", "1e400"];
        for value in json {
            let key = self.unique.name("json");
            self.store.set(&SetRequest { value_is_json: true, ..set(&key, value) }).await.expect("set JSON");
            assert_eq!(self.text(&key).await.as_deref(), Some(value), "JSON text comes back unchanged");
        }
        let binary: [&[u8]; 5] = [b"", b"x", b"\x00\xff\xfe\x80", b"\"quoted\"", &[8, 150, 1, 18, 0, 0, 200]];
        for value in binary {
            let key = self.unique.name("bytes");
            let request =
                SetRequest { key: key.clone(), value: Bytes::copy_from_slice(value), ..SetRequest::default() };
            self.store.set(&request).await.expect("set bytes");
            assert_eq!(self.get(&key).await.expect("stored").data, value, "bytes come back unchanged");
        }
        let key = self.unique.name("häh'\"; drop table %_\\");
        self.store.set(&set(&key, "1")).await.expect("any text is a key");
        self.store.set(&set(&key, "2")).await.expect("a write replaces");
        assert_eq!(self.text(&key).await.as_deref(), Some("2"), "the last write wins");
    }

    async fn deletes(&self) {
        let key = self.unique.name("gone");
        self.store.set(&set(&key, "1")).await.expect("set");
        self.store.delete(&delete(&key)).await.expect("delete of an existing key");
        assert_eq!(self.get(&key).await, None, "deleted");
        self.store.delete(&delete(&key)).await.expect("delete of a missing key");
    }

    async fn bulk(&self) {
        let keys: Vec<String> = (0..5).map(|_| self.unique.name("bulk")).collect();
        let writes: Vec<SetRequest> = keys[..4].iter().map(|key| set(key, key)).collect();
        self.store.bulk_set(&writes).await.expect("bulk set");
        let reads: Vec<GetRequest> =
            keys.iter().map(|key| GetRequest { key: key.clone(), ..GetRequest::default() }).collect();
        let items = self.store.bulk_get(&reads).await.expect("bulk get");
        assert_eq!(items.len(), reads.len(), "one answer per request");
        for (key, answer) in keys.iter().zip(&items) {
            assert_eq!((&answer.key, &answer.error), (key, &None), "answers come in order, a missing key is no error");
            let wanted = (key != &keys[4]).then_some(key.as_bytes());
            assert_eq!(answer.item.as_ref().map(|item| item.data.as_ref()), wanted, "bulk get of {key}");
        }
        assert!(self.store.bulk_get(&[]).await.expect("empty bulk get").is_empty());
        self.store.bulk_set(&[]).await.expect("empty bulk set");
        let deletes: Vec<DeleteRequest> = keys.iter().map(|key| delete(key)).collect();
        self.store.bulk_delete(&deletes).await.expect("bulk delete, one of a missing key");
        assert_eq!(self.get(&keys[0]).await, None, "bulk deleted");
    }

    async fn etags(&self) {
        let (one, two) = (self.unique.name("etag"), self.unique.name("etag"));
        self.store.bulk_set(&[set(&one, "1"), set(&two, "1")]).await.expect("set without etag");
        let (old, old_two) = (self.etag(&one).await, self.etag(&two).await);
        let wrong = "d1cb5e2a-0000-4000-8000-000000000000";
        let versioned =
            |key: &str, value: &str, etag: &str| SetRequest { etag: Some(etag.to_owned()), ..set(key, value) };
        for bad in [wrong, "9999999", "bad-etag"] {
            let error = self.store.set(&versioned(&one, "2", bad)).await.expect_err("a wrong etag is refused");
            assert!(is_etag_error(&error), "{error:?}");
        }
        self.store.set(&versioned(&one, "2", &old)).await.expect("the right etag is accepted");
        assert_ne!(self.etag(&one).await, old, "a write changes the etag");
        let error = self.store.set(&versioned(&one, "3", &old)).await.expect_err("a used etag is stale");
        assert_eq!(error.kind, ErrorKind::ETagMismatch);
        let error =
            self.store.set(&versioned(&self.unique.name("none"), "1", wrong)).await.expect_err("no item has that etag");
        assert!(is_etag_error(&error), "{error:?}");

        let mixed = [versioned(&one, "no", wrong), versioned(&two, "yes", &old_two)];
        let error = self.store.bulk_set(&mixed).await.expect_err("one of the bulk is refused");
        assert!(is_etag_error(&error), "{error:?}");
        assert_eq!(self.text(&one).await.as_deref(), Some("2"), "the refused write left no trace");
        assert_eq!(self.text(&two).await.as_deref(), Some("yes"), "the other write happened");

        let versioned = |key: &str, etag: &str| DeleteRequest { etag: Some(etag.to_owned()), ..delete(key) };
        let error = self.store.delete(&versioned(&one, wrong)).await.expect_err("a wrong etag keeps the item");
        assert!(is_etag_error(&error), "{error:?}");
        let (current_one, current_two) = (self.etag(&one).await, self.etag(&two).await);
        self.store
            .bulk_delete(&[versioned(&one, wrong), versioned(&two, &current_two)])
            .await
            .expect_err("one of the bulk is refused");
        assert_eq!(self.get(&two).await, None, "the other delete happened");
        self.store.delete(&versioned(&one, &current_one)).await.expect("the right etag deletes");
        assert_eq!(self.get(&one).await, None, "deleted");
        self.store
            .set(&SetRequest { etag: Some(String::new()), ..set(&one, "1") })
            .await
            .expect("an empty etag counts as none");
    }

    async fn first_write(&self) {
        for etag in [None, Some(String::new())] {
            let key = self.unique.name("first");
            let first = SetRequest { etag, concurrency: Concurrency::FirstWrite, ..set(&key, "1") };
            self.store.set(&first).await.expect("the first write");
            let error = self.store.set(&first).await.expect_err("the second write without an etag");
            assert_eq!(error.kind, ErrorKind::ETagMismatch);
            let current = self.etag(&key).await;
            let next = SetRequest { etag: Some(current), value: Bytes::from_static(b"2"), ..first };
            self.store.set(&next).await.expect("first-write with the current etag");
            self.store.set(&next).await.expect_err("the etag was used");
            assert_eq!(self.text(&key).await.as_deref(), Some("2"));
        }
    }

    async fn transactions(&self) {
        let transactional = self.store.transactional().expect("the capability promises transactions");
        let transact = |operations| async move {
            transactional.transact(&TransactionRequest { operations, metadata: BTreeMap::new() }).await
        };
        transact(Vec::new()).await.expect("an empty transaction");
        let (old, new, last) = (self.unique.name("tx"), self.unique.name("tx"), self.unique.name("tx"));
        self.store.set(&set(&old, "1")).await.expect("set");
        transact(vec![
            StateOperation::Delete(delete(&old)),
            StateOperation::Upsert(set(&new, "1")),
            StateOperation::Delete(delete(&new)),
            StateOperation::Delete(delete("never-there")),
            StateOperation::Upsert(set(&last, "2")),
        ])
        .await
        .expect("a mixed transaction");
        let seen = (self.text(&old).await, self.text(&new).await, self.text(&last).await);
        assert_eq!(seen, (None, None, Some("2".to_owned())), "steps are applied in order");
        if !self.store.capability().etag {
            return;
        }
        let stale = SetRequest { etag: Some("d1cb5e2a-0000-4000-8000-000000000000".to_owned()), ..set(&last, "3") };
        let steps = vec![
            StateOperation::Upsert(set(&old, "x")),
            StateOperation::Delete(delete(&last)),
            StateOperation::Upsert(stale),
        ];
        let error = transact(steps).await.expect_err("one step is refused");
        assert!(is_etag_error(&error), "{error:?}");
        let seen = (self.text(&old).await, self.text(&last).await);
        assert_eq!(seen, (None, Some("2".to_owned())), "a refused transaction left no trace");
    }

    async fn ttl(&self) {
        let key = self.unique.name("ttl");
        for bad in ["abc", "1.5", "99999999999"] {
            let error = self.store.set(&with_ttl(set(&key, "1"), bad)).await.expect_err("not a number of seconds");
            assert_eq!(error.kind, ErrorKind::InvalidRequest, "{error}");
        }
        self.store.set(&with_ttl(set(&key, "1"), "1")).await.expect("set with ttl");
        assert_eq!(self.text(&key).await.as_deref(), Some("1"), "readable at once");
        let gone = eventually(Duration::from_secs(4), || async { self.get(&key).await.is_none() }).await;
        assert!(gone, "gone after its time");
        let first = SetRequest { concurrency: Concurrency::FirstWrite, ..set(&key, "2") };
        self.store.set(&first).await.expect("an expired item counts as absent");

        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
        self.store.set(&with_ttl(set(&key, "1"), "1000")).await.expect("set with ttl");
        let item = self.get(&key).await.expect("stored");
        let until = item.metadata.get("ttlExpireTime").expect("an item with a ttl says when it ends");
        let until = rfc3339_seconds(until);
        assert!((now + 995..now + 1010).contains(&until), "ttlExpireTime {until} is not {now} + 1000");
        let read = [GetRequest { key: key.clone(), ..GetRequest::default() }];
        let bulk = self.store.bulk_get(&read).await.expect("bulk get").remove(0);
        assert!(bulk.item.expect("stored").metadata.contains_key("ttlExpireTime"), "bulk get tells it too");
        for next in [with_ttl(set(&key, "2"), "-1"), set(&key, "3")] {
            self.store.set(&with_ttl(set(&key, "1"), "1000")).await.expect("set with ttl");
            self.store.set(&next).await.expect("set without end");
            let item = self.get(&key).await.expect("stored");
            assert!(!item.metadata.contains_key("ttlExpireTime"), "a later write without ttl removes the end");
        }
    }

    async fn prefix_deletes(&self) {
        let prefix = self.unique.name("prefix");
        let keys: Vec<String> =
            ["||a", "||b", "||sub||c", "x||d"].iter().map(|rest| format!("{prefix}{rest}")).collect();
        for form in [prefix.clone(), format!("{prefix}||")] {
            for key in &keys {
                self.store.set(&set(key, "1")).await.expect("set");
            }
            assert_eq!(
                self.store.delete_with_prefix(&form).await.expect("delete by prefix"),
                2,
                "direct children only"
            );
            let left = [self.get(&keys[0]).await, self.get(&keys[1]).await];
            assert_eq!(left, [None, None], "children are gone");
            assert!(
                self.get(&keys[2]).await.is_some() && self.get(&keys[3]).await.is_some(),
                "grandchildren and strangers stay"
            );
        }
        for empty in ["", "||"] {
            let error = self.store.delete_with_prefix(empty).await.expect_err("an empty prefix");
            assert!(error.to_string().contains("prefix is required"), "{error}");
        }
    }

    async fn keys_like(&self) {
        let run = self.unique.name("like");
        let names: Vec<String> =
            ["a1", "a2", "b1", "a_x", "a%y", "a\\z"].iter().map(|rest| format!("{run}||{rest}")).collect();
        for name in &names {
            self.store.set(&set(name, "1")).await.expect("set");
        }
        let find = |rest: &str, page_size: Option<usize>, token: Option<String>| {
            let request = KeysLikeRequest { pattern: format!("{run}||{rest}"), page_size, token };
            async move { self.store.keys_like(&request).await.expect("keys like") }
        };
        let pick = |indexes: &[usize]| indexes.iter().map(|index| names[*index].clone()).collect::<Vec<_>>();
        let cases: [(&str, &[usize]); 6] = [
            ("a_", &[0, 1]),
            ("a%", &[0, 1, 3, 4, 5]),
            ("%1", &[0, 2]),
            ("a\\_x", &[3]),
            ("a\\%y", &[4]),
            ("a\\\\z", &[5]),
        ];
        for (pattern, wanted) in cases {
            let answer = find(pattern, None, None).await;
            assert_eq!((answer.keys, answer.token), (pick(wanted), None), "pattern {pattern:?}");
        }
        let page = find("%", Some(4), None).await;
        assert_eq!(page.keys, pick(&[0, 1, 2, 3]), "a page is exactly its size");
        assert!(page.token.is_some(), "and tells where to go on");
        self.store.delete(&delete(&names[1])).await.expect("delete between pages");
        let rest = find("%", Some(100_000), page.token).await;
        assert_eq!((rest.keys, rest.token), (pick(&[4, 5]), None), "the next page has the rest");
        let error = self.store.keys_like(&KeysLikeRequest::default()).await.expect_err("an empty pattern");
        assert_eq!(error.kind, ErrorKind::InvalidRequest);
    }
}

/// Seconds since 1970 of `YYYY-MM-DDTHH:MM:SSZ`, the only form stores may answer with.
fn rfc3339_seconds(text: &str) -> u64 {
    let number = |range: std::ops::Range<usize>| {
        text.get(range).and_then(|part| part.parse::<u64>().ok()).expect("RFC 3339 in UTC")
    };
    assert!(text.len() == 20 && text.ends_with('Z'), "RFC 3339 in UTC without fractions, got {text:?}");
    let (year, month, day) = (number(0..4), number(5..7), number(8..10));
    let (shifted_year, shifted_month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * shifted_year + shifted_year / 4 - shifted_year / 100
        + shifted_year / 400
        + (153 * shifted_month + 2) / 5
        + day
        - 1;
    (days - 719_468) * 86_400 + number(11..13) * 3600 + number(14..16) * 60 + number(17..19)
}
