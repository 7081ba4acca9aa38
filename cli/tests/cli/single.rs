//! `run` of one application, and `stop`.

use rustix::process::Signal;

use super::Test;
use super::world::{World, eventually, get, kill};

pub(crate) const TESTS: &[Test] = &[
    ("single::an_application_that_ends_well", an_application_that_ends_well),
    ("single::an_application_that_fails", an_application_that_fails),
    ("single::what_is_wrong_is_told_before_anything_starts", what_is_wrong_is_told_before_anything_starts),
    ("single::a_signal_ends_both", a_signal_ends_both),
    ("single::stop_ends_a_sidecar_alone", stop_ends_a_sidecar_alone),
    ("single::nothing_outlives_a_killed_command", nothing_outlives_a_killed_command),
    ("single::a_sidecar_that_dies_ends_the_run", a_sidecar_that_dies_ends_the_run),
    ("single::a_sidecar_that_cannot_start", a_sidecar_that_cannot_start),
    ("single::mutual_tls_by_one_flag", mutual_tls_by_one_flag),
];

const SLEEPER: &str = "echo up; sleep 1000 & sleep 1000";

fn an_application_that_ends_well(world: &World) {
    let script =
        "echo \"id $APP_ID http $DAPR_HTTP_PORT grpc $DAPR_GRPC_PORT $APP_PROTOCOL [$APP_PORT]\"; printf 'no end'";
    let ended = world
        .dapr(&["run", "--app-id", "cart", "-H", "0", "--log-level", "debug", "--", "sh", "-c", script])
        .with_code(0);
    let start = ended.stdout.find("ℹ️  Starting Dapr with id cart. HTTP Port: ").expect("the line of the start");
    let wait =
        ended.stdout.find("Checking if Dapr sidecar is listening on HTTP port").expect("without an app port, it waits");
    assert!(start < wait && ended.stdout.contains("Dapr sidecar is up and running."), "{ended:?}");
    assert!(ended.stdout.contains("== APP == id cart http ") && ended.stdout.contains(" http []\n"), "{ended:?}");
    assert!(ended.stdout.contains("== APP == no end\n"), "{ended:?}");
    assert!(
        ended.stdout.contains("✅  Exited App successfully\n")
            && ended.stdout.contains("✅  Exited Dapr successfully\n"),
        "{ended:?}"
    );
    let ended = world.dapr(&["run", "--app-id", "cart", "printenv", "APP_ID", "--app-protocol", "grpc"]).with_code(0);
    assert!(ended.stdout.contains("== APP == cart\n"), "flags may follow the command: {ended:?}");
    world.nothing_is_left();
}

fn an_application_that_fails(world: &World) {
    let ended = world.dapr(&["run", "--app-port", "9", "--", "sh", "-c", "exit 7"]).with_code(1);
    assert!(ended.stderr.contains("❌  The App process exited with error code: 7"), "{ended:?}");
    world.nothing_is_left();
}

fn what_is_wrong_is_told_before_anything_starts(world: &World) {
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let port = taken.local_addr().expect("a port").port().to_string();
    let text = format!("invalid configuration for HTTPPort. Port {port} is not available");
    for (arguments, message) in [
        (&["run", "--resources-path", "nowhere"][..], "resources path"),
        (&["run", "--config", "nowhere.yaml"], "config path"),
        (&["run", "--", "no-such-command"], "no executable file \"no-such-command\" in PATH"),
        (&["run", "--dapr-http-port", &port], &text),
        (&["run", "--app-protocol", "gopher"], "expected http, https, grpc, grpcs or h2c"),
        (&["run", "-f", "nowhere"], "the run file nowhere does not exist"),
    ] {
        let ended = world.dapr(arguments).with_code(1);
        assert!(ended.stderr.contains(message), "{ended:?}");
        assert!(!ended.stdout.contains("Starting Dapr"), "{ended:?}");
    }
}

fn a_signal_ends_both(world: &World) {
    for signal in [Signal::TERM, Signal::INT] {
        let mut run = world.start(&["run", "--app-id", "cart", "--app-port", "9", "--", "sh", "-c", SLEEPER]);
        run.says("✅  You're up and running! Both Dapr and your app logs will appear here.\n");
        run.says("== APP == up");
        let port = world.listed("cart", "httpPort");
        let metadata = get(&port, "/v1.0/metadata");
        for part in [
            format!("\"cliPID\":\"{}\"", run.id()),
            format!("\"appPID\":\"{}\"", world.listed("cart", "appPid")),
            "\"appCommand\":\"sh -c".into(),
        ] {
            assert!(metadata.contains(&part), "{part} in {metadata}");
        }
        run.signal(signal);
        assert_eq!(run.code(), 0, "{}", run.output());
        run.says("ℹ️  terminated signal received: shutting down\n");
        run.says("✅  Exited Dapr successfully\n✅  Exited App successfully\n");
        world.nothing_is_left();
    }
}

fn stop_ends_a_sidecar_alone(world: &World) {
    let mut run = world.start(&["run", "--app-id", "alone", "--dapr-grpc-port", &world.free_port().to_string()]);
    run.says("⚠  No application command found");
    run.says("✅  You're up and running! Dapr logs will appear here.\n");
    assert_eq!(world.listed("alone", "cliPid"), run.id().to_string());
    let ended = world.dapr(&["stop", "nobody", "--app-id", "alone"]).with_code(0);
    assert_eq!(ended.stdout, "✅  app stopped successfully: alone\n");
    assert_eq!(ended.stderr, "❌  failed to stop app id nobody: couldn't find app id nobody\n");
    assert_eq!(run.code(), 0, "{}", run.output());
    world.dapr(&["stop", "nobody", "--strict"]).with_code(1);
    world.nothing_is_left();
}

/// Also what ignores the request to end, and children of children.
fn nothing_outlives_a_killed_command(world: &World) {
    let mut run = world.start(&[
        "run",
        "--app-id",
        "cart",
        "--",
        "sh",
        "-c",
        "trap '' TERM; sleep 1000 & while :; do sleep 1; done",
    ]);
    run.says("You're up and running!");
    assert!(world.marked().len() >= 4, "{:?}", world.marked());
    run.signal(Signal::KILL);
    assert_eq!(run.code(), -1);
    world.nothing_is_left();
}

fn a_sidecar_that_dies_ends_the_run(world: &World) {
    let mut run = world.start(&["run", "--app-id", "cart", "--app-port", "9", "--", "sh", "-c", SLEEPER]);
    run.says("You're up and running!");
    kill(world.listed("cart", "daprdPid").parse().expect("a process ID"), Signal::KILL);
    assert_eq!(run.code(), 1);
    run.says("❌  The daprd process was killed by signal 9");
    world.nothing_is_left();
}

fn a_sidecar_that_cannot_start(world: &World) {
    if !world.is_fake() {
        return;
    }
    let mut command = world.command(&["run", "--app-id", "cart", "--app-port", "9", "--", "sh", "-c", SLEEPER]);
    let mut run =
        world.start_command(std::mem::replace(command.env("FAKE_DAPRD", "fail"), std::process::Command::new("true")));
    assert_eq!(run.code(), 1);
    run.says("the fake gives up");
    run.says("❌  The daprd process exited with error code: 1");
    eventually("nothing is left", || {
        if world.marked().is_empty() { Ok(()) } else { Err(format!("{:?}", world.marked())) }
    });
}

fn mutual_tls_by_one_flag(world: &World) {
    let ended = world.dapr(&["run", "--mtls", "--app-id", "cart", "--app-port", "9", "--", "true"]).with_code(0);
    assert!(ended.stdout.contains("ℹ️  Mutual TLS is on: sentry at 127.0.0.1:"), "{ended:?}");
    assert!(ended.stdout.contains("/sentry/ca.crt\n"), "{ended:?}");
    world.nothing_is_left();
    let ended = world.dapr(&["run", "--app-id", "cart", "--app-port", "9", "--", "true"]).with_code(0);
    assert!(!ended.stdout.contains("Mutual TLS"), "{ended:?}");
}
