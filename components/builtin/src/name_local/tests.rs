use std::fs;
use std::path::{Path, PathBuf};

use super::*;
use crate::name_mdns::MdnsResolver;
use crate::name_mdns::link::Interfaces;
use crate::tests::context;

async fn resolver(root: &Path) -> Arc<dyn NameResolver> {
    let context = InitContext { data_dir: root.to_owned(), ..context("nameresolution.local", &[]) };
    create(context).await.unwrap()
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

fn files(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for file in fs::read_dir(root).into_iter().flatten().flatten() {
        if file.path().is_dir() {
            found.extend(files(&file.path()));
        } else {
            found.push(file.path());
        }
    }
    found
}

#[tokio::test]
async fn conforms() {
    let root = tempfile::tempdir().unwrap();
    let (first, second, third) =
        (resolver(root.path()).await, resolver(root.path()).await, resolver(root.path()).await);
    pillion_conformance::name_resolution::run(first, second, third).await;
    assert_eq!(files(root.path()), Vec::<PathBuf>::new(), "closed resolvers leave no files");
}

#[tokio::test]
async fn an_entry_says_who_and_where() {
    let root = tempfile::tempdir().unwrap();
    let one = resolver(root.path()).await;
    one.register(registration("shop/../x", 4100)).await.unwrap();
    let path = root.path().join(format!("registry/default/shop%2F..%2Fx/{}-4100.json", std::process::id()));
    let entry: serde_json::Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    assert_eq!(
        (&entry["app_id"], &entry["host"], &entry["port"]),
        (&"shop/../x".into(), &"127.0.0.1".into(), &4100.into())
    );
    assert_eq!(one.resolve(&question("shop/../x")).await.unwrap(), ["127.0.0.1:4100"]);
}

#[tokio::test]
async fn another_namespace_answers_only_when_the_wanted_one_cannot() {
    let root = tempfile::tempdir().unwrap();
    let one = resolver(root.path()).await;
    let elsewhere = ResolveRequest { namespace: "other".into(), ..question("shop") };
    one.register(registration("shop", 4100)).await.unwrap();
    one.register(registration("cart", 4102)).await.unwrap();
    assert_eq!(one.resolve(&elsewhere).await.unwrap(), ["127.0.0.1:4100"], "the only sidecar of the app");
    one.register(Registration { namespace: "other".into(), ..registration("shop", 4101) }).await.unwrap();
    assert_eq!(one.resolve(&elsewhere).await.unwrap(), ["127.0.0.1:4101"], "the wanted namespace is preferred");
    assert_eq!(one.resolve(&question("shop")).await.unwrap(), ["127.0.0.1:4100"]);
}

#[tokio::test]
async fn entries_of_dead_or_reused_processes_are_skipped_and_removed() {
    let root = tempfile::tempdir().unwrap();
    let one = resolver(root.path()).await;
    one.register(registration("shop", 4100)).await.unwrap();
    let live = files(root.path()).remove(0);
    let entry: serde_json::Value = serde_json::from_slice(&fs::read(&live).unwrap()).unwrap();
    let mut child = std::process::Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    let changes = [("pid", child.id().into()), ("started", 1.into()), ("boot", "another boot".into())];
    for (index, (key, value)) in changes.into_iter().enumerate() {
        let mut stale = entry.clone();
        stale["port"] = (5000 + index).into();
        stale[key] = value;
        fs::write(live.with_file_name(format!("9-{index}.json")), stale.to_string()).unwrap();
    }
    fs::write(live.with_file_name("junk.json"), "{").unwrap();
    one.report_failure(&question("shop"), "");
    assert_eq!(one.resolve(&question("shop")).await.unwrap(), ["127.0.0.1:4100"]);
    let mut left: Vec<_> = files(root.path()).iter().map(|path| path.file_name().unwrap().to_owned()).collect();
    left.sort();
    assert_eq!(left, [live.file_name().unwrap(), "junk.json".as_ref()], "stale ones are deleted, young junk stays");
}

#[tokio::test]
async fn a_cached_answer_needs_no_files_until_a_failure_is_reported() {
    let root = tempfile::tempdir().unwrap();
    let (one, two) = (resolver(root.path()).await, resolver(root.path()).await);
    one.register(registration("shop", 4100)).await.unwrap();
    assert_eq!(two.resolve(&question("shop")).await.unwrap(), ["127.0.0.1:4100"]);
    one.close().await.unwrap();
    assert_eq!(two.resolve(&question("shop")).await.unwrap(), ["127.0.0.1:4100"], "from the cache");
    two.report_failure(&question("shop"), "127.0.0.1:4100");
    let error = two.resolve(&question("shop")).await.unwrap_err();
    let wanted = "couldn't find service: shop (no running sidecar of namespace default or another one is announced in ";
    assert!(error.to_string().starts_with(wanted), "{error}");
}

#[tokio::test]
async fn an_old_answer_is_renewed() {
    let root = tempfile::tempdir().unwrap();
    let (one, two) = (resolver(root.path()).await, resolver(root.path()).await);
    one.register(registration("shop", 4100)).await.unwrap();
    two.resolve(&question("shop")).await.unwrap();
    one.register(registration("shop", 4101)).await.unwrap();
    let renewed = pillion_conformance::eventually(USABLE_FOR + FRESH_FOR, || async {
        two.resolve(&question("shop")).await.unwrap().len() == 2
    });
    assert!(renewed.await, "asking on is enough to see the second entry");
}

#[tokio::test]
async fn a_directory_that_cannot_be_written_is_a_clear_error() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = resolver(file.path()).await.register(registration("shop", 1)).await.unwrap_err();
    assert!(error.to_string().starts_with("cannot announce app shop in "), "{error}");
}

/// Multicast that only the resolvers of one test hear.
fn net(test: u16) -> Options {
    Options { port: 34_000 + (std::process::id() % 2000) as u16 + 2000 * test, interfaces: Interfaces::Loopback }
}

/// As a sidecar that listens on the network.
fn away(app_id: &str, port: u16) -> Registration {
    Registration { host: "10.0.0.7".into(), ..registration(app_id, port) }
}

/// A resolver that shares no directory with others; multicast stays on the loopback interface, on a port of this test.
fn machine(root: &Path, options: Options) -> LocalResolver {
    LocalResolver::new(root.to_owned(), Some(Network::new(options, &context("nameresolution.local", &[]))))
}

#[tokio::test]
async fn what_is_not_on_the_machine_is_found_on_the_network() {
    let options = net(0);
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (one, two) = (machine(here.path(), options), machine(there.path(), options));
    let context = context("nameresolution.mdns", &[]);
    let original = MdnsResolver::start(options, context.log, context.cancel);

    original.register(away("far", 4200)).await.unwrap();
    assert_eq!(one.resolve(&question("far")).await.unwrap(), ["10.0.0.7:4200"], "as the original announces it");
    one.register(away("shop", 4100)).await.unwrap();
    assert_eq!(one.resolve(&question("shop")).await.unwrap(), ["127.0.0.1:4100"], "on the machine itself");
    for resolver in [original.as_ref() as &dyn NameResolver, &two] {
        assert_eq!(resolver.resolve(&question("shop")).await.unwrap(), ["10.0.0.7:4100"], "from another machine");
    }
    one.register(registration("hidden", 4101)).await.unwrap();
    let error = two.resolve(&question("hidden")).await.unwrap_err().to_string();
    let wanted = "no sidecar answered by mDNS within 1s; check that the app runs and its app ID)";
    assert!(error.starts_with("couldn't find service: hidden (") && error.ends_with(wanted), "{error}");

    one.close().await.unwrap();
    let is_gone = || async { original.known("shop").is_empty() };
    assert!(pillion_conformance::eventually(FRESH_FOR * 5, is_gone).await, "a goodbye is said");
}

#[tokio::test]
async fn calls_go_to_the_sidecars_of_all_machines_and_to_each_once() {
    let options = net(1);
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    // Two sidecars of one machine, and one elsewhere.
    let (one, two, far) =
        (machine(here.path(), options), machine(here.path(), options), machine(there.path(), options));
    one.register(away("shop", 4100)).await.unwrap();
    far.register(Registration { host: "10.0.0.8".into(), ..away("shop", 4200) }).await.unwrap();
    let start = Instant::now();
    let first = two.resolve(&question("shop")).await.unwrap();
    assert!(start.elapsed() < Duration::from_millis(500) && first[0] == "127.0.0.1:4100", "{first:?}");
    let is = async |resolver: &LocalResolver, wanted: &[&str]| {
        let has = || async { resolver.resolve(&question("shop")).await.unwrap() == wanted };
        assert!(pillion_conformance::eventually(FRESH_FOR * 5, has).await, "{wanted:?}");
    };
    is(&two, &["127.0.0.1:4100", "10.0.0.8:4200"]).await;
    // The network tells of the other one here too, under the address of the network.
    two.register(away("shop", 4101)).await.unwrap();
    is(&two, &["127.0.0.1:4100", "127.0.0.1:4101", "10.0.0.8:4200"]).await;
    tokio::time::sleep(FRESH_FOR + FRESH_FOR / 2).await; // announcements are repeated
    is(&two, &["127.0.0.1:4100", "127.0.0.1:4101", "10.0.0.8:4200"]).await;
    far.close().await.unwrap();
    is(&two, &["127.0.0.1:4100", "127.0.0.1:4101"]).await;
}

#[tokio::test]
async fn an_address_of_the_network_that_failed_is_left_out_while_there_are_others() {
    let options = net(2);
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (one, far) = (machine(here.path(), options), machine(there.path(), options));
    one.register(registration("shop", 4100)).await.unwrap();
    far.register(away("shop", 4200)).await.unwrap();
    let has_both = || async { one.resolve(&question("shop")).await.unwrap().len() == 2 };
    assert!(pillion_conformance::eventually(FRESH_FOR, has_both).await);
    one.report_failure(&question("shop"), "10.0.0.7:4200");
    let network = one.cache.network.as_ref().unwrap();
    let is_heard_of_again = || async {
        network.find(&question("shop")).await.unwrap_or_default() == ["10.0.0.7:4200"] // it lives, and says so
    };
    assert!(pillion_conformance::eventually(FRESH_FOR, is_heard_of_again).await);
    assert_eq!(one.resolve(&question("shop")).await.unwrap(), ["127.0.0.1:4100"]);
    one.close().await.unwrap();
    one.report_failure(&question("shop"), "127.0.0.1:4100");
}

#[tokio::test]
async fn sidecars_of_this_machine_that_another_namespace_hides_do_not_come_back_by_the_network() {
    let options = net(3);
    let here = tempfile::tempdir().unwrap();
    let (one, two) = (machine(here.path(), options), machine(here.path(), options));
    one.register(away("shop", 4100)).await.unwrap();
    one.register(Registration { namespace: "other".into(), ..away("shop", 4101) }).await.unwrap();
    two.resolve(&question("shop")).await.unwrap();
    let network = two.cache.network.as_ref().unwrap();
    let knows_both = || async { network.known("shop").len() == 2 };
    assert!(pillion_conformance::eventually(FRESH_FOR * 3, knows_both).await);
    assert_eq!(two.resolve(&question("shop")).await.unwrap(), ["127.0.0.1:4100"]);
}

#[tokio::test]
async fn the_network_can_be_left_out() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().to_str().unwrap();
    let alone = create(context("nameresolution.local", &[("path", path), ("mdns", "false")])).await.unwrap();
    let start = Instant::now();
    let error = alone.resolve(&question("nobody")).await.unwrap_err().to_string();
    assert!(error.ends_with(&format!("is announced in {path}; check that the app runs and its app ID)")), "{error}");
    assert!(start.elapsed() < Duration::from_millis(500), "nobody is waited for");
}
