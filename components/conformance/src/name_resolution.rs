//! Name resolvers: there is no suite upstream; the rules are those of `contract::NameResolver` and spec internals.md §7.4.

use std::sync::Arc;
use std::time::Duration;

use pillion_contract::{ErrorKind, NameResolver, Registration, ResolveRequest};

use crate::{Unique, eventually};

/// How long an announcement or withdrawal may take to be seen by another instance.
const VISIBLE_WITHIN: Duration = Duration::from_secs(10);

/// Runs the suite over three instances that must find each other, as three sidecars on one machine would.
pub async fn run(first: Arc<dyn NameResolver>, second: Arc<dyn NameResolver>, third: Arc<dyn NameResolver>) {
    let unique = Unique::default();
    let (shop, other) = (unique.name("shop"), unique.name("other"));
    let registration = |app_id: &str, port: u16| Registration {
        app_id: app_id.to_owned(),
        namespace: "default".to_owned(),
        host: "127.0.0.1".to_owned(),
        local_host: "127.0.0.1".to_owned(),
        internal_port: port,
        http_port: 3500,
        app_port: None,
    };
    let question = |app_id: &str| ResolveRequest { app_id: app_id.to_owned(), namespace: "default".to_owned() };

    third.register(registration(&other, 41_003)).await.expect("register");
    let missing = third.resolve(&question(&shop)).await.expect_err("an app that nobody announced is not found");
    assert_eq!(missing.kind, ErrorKind::NotFound, "{missing}");
    assert!(missing.to_string().contains(&shop), "the error names the app: {missing}");

    first.register(registration(&shop, 41_001)).await.expect("register");
    assert!(sees(&third, &question(&shop), &["127.0.0.1:41001"]).await, "another instance finds the app");
    assert!(sees(&first, &question(&shop), &["127.0.0.1:41001"]).await, "an instance finds itself");
    assert!(sees(&third, &question(&other), &["127.0.0.1:41003"]).await, "apps are kept apart");

    second.register(registration(&shop, 41_002)).await.expect("register");
    let both = ["127.0.0.1:41001", "127.0.0.1:41002"];
    third.report_failure(&question(&shop), "127.0.0.1:41001");
    assert!(sees(&third, &question(&shop), &both).await, "all instances of an app are found");

    first.close().await.expect("close");
    third.report_failure(&question(&shop), "127.0.0.1:41001");
    assert!(sees(&third, &question(&shop), &["127.0.0.1:41002"]).await, "a closed instance vanishes");
    second.close().await.expect("close");
    third.close().await.expect("close");
}

/// Whether the set of addresses becomes exactly `wanted`; resolvers that answer with one of several at a time are asked on.
async fn sees(resolver: &Arc<dyn NameResolver>, question: &ResolveRequest, wanted: &[&str]) -> bool {
    eventually(VISIBLE_WITHIN, || async {
        let mut found = std::collections::BTreeSet::new();
        for _ in 0..40 {
            match resolver.resolve(question).await {
                Ok(addresses) => found.extend(addresses),
                Err(_) => return false,
            }
            if found.len() > wanted.len() {
                break;
            }
        }
        found.iter().map(String::as_str).eq(wanted.iter().copied())
    })
    .await
}
