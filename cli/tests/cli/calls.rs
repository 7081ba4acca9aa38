//! `invoke` and `publish` against the stand-in.

use rustix::process::Signal;

use super::Test;
use super::world::World;

pub(crate) const TESTS: &[Test] =
    &[("calls::invoke_and_publish", invoke_and_publish), ("calls::wrong_calls_are_refused", wrong_calls_are_refused)];

fn invoke_and_publish(world: &World) {
    if !world.is_fake() {
        return;
    }
    let mut run = world.start(&["run", "--app-id", "cart"]);
    run.says("You're up and running!");
    let ended = world.dapr(&["invoke", "-a", "cart", "-m", "items?a=b", "-d", "{}"]).with_code(0);
    assert_eq!(ended.stdout, "POST /v1.0/invoke/cart/method/items?a=b {}\n✅  App invoked successfully\n");
    let data = world.write("data.json", "[1]");
    let ended = world
        .dapr(&["invoke", "-a", "cart", "-m", "/x", "-v", "put", "-f", &data.display().to_string(), "-H", "x-y: z"])
        .with_code(0);
    assert!(ended.stdout.starts_with("PUT /v1.0/invoke/cart/method/x [1]\n"), "{ended:?}");
    let ended = world.dapr(&["invoke", "-a", "cart", "-m", "nowhere"]).with_code(1);
    assert_eq!(ended.stderr, "❌  error invoking app cart: 404 Not Found\n");
    let ended = world
        .dapr(&["publish", "-i", "cart", "-p", "ps", "-t", "orders", "-d", "417", "-m", "{\"ttlInSeconds\": \"5\"}"])
        .with_code(0);
    assert_eq!(ended.stdout, "✅  Event published successfully\n");
    run.says("POST /v1.0/publish/ps/orders?metadata.ttlInSeconds=5 HTTP/1.1 417");
    let ended = world.dapr(&["publish", "-i", "cart", "-p", "other", "-t", "orders"]).with_code(1);
    assert_eq!(
        ended.stderr,
        "❌  error publishing topic orders: 400 Bad Request: {\"errorCode\":\"ERR_PUBSUB_NOT_FOUND\"}\n"
    );
    run.signal(Signal::TERM);
    assert_eq!(run.code(), 0);
}

fn wrong_calls_are_refused(world: &World) {
    for (arguments, message) in [
        (&["invoke", "-a", "cart", "-m", "x"][..], "❌  error invoking app cart: app ID cart not found\n"),
        (&["invoke", "-a", "cart"], "❌  required flag(s) \"method\" not set\n"),
        (
            &["invoke", "-a", "a", "-m", "b", "-d", "x", "-f", "y"],
            "❌  Only one of --data and --data-file allowed in the same invoke command\n",
        ),
        (&["publish", "-i", "cart", "-p", "ps", "-t", "t"], "❌  error publishing topic t: app ID cart not found\n"),
        (&["publish", "-t", "t"], "❌  required flag(s) \"publish-app-id\", \"pubsub\" not set\n"),
    ] {
        let ended = world.dapr(arguments).with_code(1);
        assert_eq!(ended.stderr, message);
    }
}
