//! `run -f` and `stop -f`.

use std::time::Instant;

use rustix::process::Signal;

use super::Test;
use super::world::{Running, World, get, kill, text_of};

pub(crate) const TESTS: &[Test] = &[
    ("multi::four_applications_from_start_to_stop", four_applications_from_start_to_stop),
    ("multi::those_that_die_leave_the_others_up", those_that_die_leave_the_others_up),
    ("multi::one_is_stopped_by_its_name", one_is_stopped_by_its_name),
    ("multi::a_sidecar_that_cannot_start_stops_all", a_sidecar_that_cannot_start_stops_all),
    ("multi::a_bad_file_starts_nothing", a_bad_file_starts_nothing),
    ("multi::destinations_of_logs", destinations_of_logs),
    ("multi::a_file_from_standard_input", a_file_from_standard_input),
    ("multi::nothing_outlives_a_killed_command", nothing_outlives_a_killed_command),
    ("multi::a_stubborn_application_is_killed", a_stubborn_application_is_killed),
];

const APPS: [&str; 4] = ["one", "two", "three", "four"];

/// A run file of four applications: each prints its name and waits; the last has no application port.
fn four(world: &World) {
    let mut text =
        "version: 1\nname: demo\ncommon:\n  resourcesPath: ./components\n  env: {GREETING: hello}\napps:\n".to_owned();
    world.directory("components");
    for (number, id) in APPS.iter().enumerate() {
        world.directory(id);
        let port = if number == 3 { String::new() } else { format!("appPort: {}, ", world.free_port()) };
        text += &format!(
            "  - {{appDirPath: {id}, {port}command: [sh, -c, 'echo \"$GREETING from $APP_ID in $(basename $PWD)\"; sleep 1000']}}\n"
        );
    }
    world.write("dapr.yaml", &text);
}

fn up(run: &Running) {
    for id in APPS {
        run.says(&format!("ℹ️  Started Dapr with app id \"{id}\". HTTP Port: "));
        run.says(&format!("== APP - {id} == hello from {id} in {id}\n"));
    }
}

fn four_applications_from_start_to_stop(world: &World) {
    four(world);
    let begin = Instant::now();
    let mut run = world.start(&["run", "-f", "."]);
    up(&run);
    println!("four applications up after {} ms", begin.elapsed().as_millis());
    let file = world.path().join("dapr.yaml").display().to_string();
    for id in APPS {
        run.says(&format!("ℹ️  Validating config and starting app \"{id}\""));
        let logs = world.path().join(id).join(".dapr/logs");
        run.says(&format!("ℹ️  Writing log files to directory : {}\n", logs.display()));
        for (key, expected) in [
            ("runTemplatePath", file.as_str()),
            ("runTemplateName", "demo"),
            ("cliPid", &run.id().to_string()),
            ("command", "sh -c echo"),
        ] {
            assert!(world.listed(id, key).starts_with(expected), "{key}: {}", world.listed(id, key));
        }
        let app_log = world.listed(id, "appLogPath");
        let name = app_log.strip_prefix(&format!("{}/{id}_app_", logs.display())).expect("the name of a log file");
        assert!(name.len() == "20060102150405.log".len() && name.ends_with(".log"), "{name}");
        assert_eq!(text_of(app_log.as_ref()), format!("hello from {id} in {id}\n"));
        assert!(!text_of(world.listed(id, "daprdLogPath").as_ref()).is_empty());
        let port = world.listed(id, "httpPort");
        for key in
            ["cliPID", "appPID", "appCommand", "runTemplatePath", "runTemplateName", "appLogPath", "daprdLogPath"]
        {
            super::world::eventually(key, || {
                let metadata = get(&port, "/v1.0/metadata");
                if metadata.contains(&format!("\"{key}\":")) { Ok(()) } else { Err(metadata) }
            });
        }
    }
    assert!(!run.output().contains("arguments: "), "the sidecars' output goes to files");
    let ended = world.dapr(&["stop", "-f", "."]).with_code(0);
    assert_eq!(ended.stdout, "✅  Dapr and app processes stopped successfully\n");
    assert_eq!(run.code(), 0, "{}", run.output());
    run.says("\nℹ️  Received signal to stop Dapr and app processes. Shutting down Dapr and app processes.\n");
    world.nothing_is_left();
    assert!(world.dapr(&["stop", "-f", "."]).with_code(0).stderr.contains("couldn't find apps with run file"));
    world.dapr(&["stop", "-f", "nowhere"]).with_code(1);
}

fn those_that_die_leave_the_others_up(world: &World) {
    four(world);
    let mut run = world.start(&["run", "-f", "dapr.yaml"]);
    up(&run);
    let id = |app: &str, key: &str| world.listed(app, key).parse::<u32>().expect("a process ID");
    kill(id("one", "appPid"), Signal::KILL);
    run.says("❌  app \"one\": The App process was killed by signal 9; its sidecar and the other apps go on\n");
    assert_eq!(world.listed("one", "appId"), "one", "its sidecar goes on");
    let app = id("two", "appPid");
    kill(id("two", "daprdPid"), Signal::KILL);
    run.says("❌  app \"two\": The daprd process was killed by signal 9");
    assert_eq!(world.listed("two", "appId"), "");
    assert!(world.marked().iter().any(|(other, _)| *other == app), "its application goes on");
    assert_eq!(world.listed("three", "appId"), "three");
    run.signal(Signal::TERM);
    assert_eq!(run.code(), 0, "{}", run.output());
    world.nothing_is_left();
}

fn one_is_stopped_by_its_name(world: &World) {
    four(world);
    let mut run = world.start(&["run", "-f", "."]);
    up(&run);
    let ended = world.dapr(&["stop", "-a", "two"]).with_code(0);
    assert_eq!(ended.stdout, "✅  app stopped successfully: two\n");
    run.says("✅  Exited Dapr successfully: two\n");
    run.says("✅  Exited App successfully: two\n");
    assert_eq!((world.listed("two", "appId"), world.listed("one", "appId")), (String::new(), "one".to_owned()));
    for id in ["one", "three", "four"] {
        world.dapr(&["stop", "-a", id]).with_code(0);
    }
    assert_eq!(run.code(), 0, "all have ended: {}", run.output());
    world.nothing_is_left();
}

fn a_sidecar_that_cannot_start_stops_all(world: &World) {
    if !world.is_fake() {
        return;
    }
    four(world);
    let mut command = world.command(&["run", "-f", "."]);
    command.env("FAKE_DAPRD", "fail");
    let mut run = world.start_command(command);
    assert_eq!(run.code(), 1);
    run.says("level=fatal msg=\"the fake gives up\"");
    run.says("exited with code 1 before it listened on HTTP 127.0.0.1:");
    world.nothing_is_left();
}

fn a_bad_file_starts_nothing(world: &World) {
    world.directory("a");
    for (text, message) in [
        ("version: 1\napps: [{appDirPath: a, appPort: x}]\n", "dapr.yaml:2: apps[0].appPort: expected a whole number"),
        (
            "version: 1\ncommon: {resourcesPath: nowhere}\napps: [{appDirPath: a}]\n",
            "dapr.yaml:2: common.resourcesPath: the directory",
        ),
        ("version: 1\napps: [{appDirPath: a, command: [no-such-command]}]\n", "no executable file \"no-such-command\""),
        (
            "version: 1\napps: [{appDirPath: a, daprHTTPPort: 61}, {appDirPath: a, appID: b, daprHTTPPort: 61}]\n",
            "Port 61 is not available",
        ),
    ] {
        world.write("dapr.yaml", text);
        let ended = world.dapr(&["run", "-f", "."]).with_code(1);
        assert!(ended.stderr.contains(message), "{ended:?}");
        assert!(!ended.stdout.contains("Started Dapr"), "{ended:?}");
    }
    assert!(world.marked().is_empty());
}

fn destinations_of_logs(world: &World) {
    world.directory("a");
    world.write(
        "dapr.yaml",
        "version: 1\napps: [{appDirPath: a, appLogDestination: file, daprdLogDestination: console, command: [sh, -c, 'echo hello; sleep 1000']}]\n",
    );
    let mut run = world.start(&["run", "-f", "."]);
    run.says("== DAPRD - a == ");
    run.says("Started Dapr with app id \"a\"");
    super::world::eventually("the application's file", || {
        let text = text_of(world.listed("a", "appLogPath").as_ref());
        if text == "hello\n" { Ok(()) } else { Err(text) }
    });
    assert_eq!(world.listed("a", "daprdLogPath"), "");
    assert!(!run.output().contains("== APP"));
    run.signal(Signal::INT);
    assert_eq!(run.code(), 0, "{}", run.output());
    world.nothing_is_left();
}

fn a_file_from_standard_input(world: &World) {
    world.directory("a");
    let file = world.write(
        "other.yaml",
        "version: 1\napps: [{appDirPath: a, command: [sh, -c, 'echo hello']}, {appDirPath: a, appID: b}]\n",
    );
    let mut command = world.command(&["run", "-f", "-", "--app-id", "ignored"]);
    command.stdin(std::fs::File::open(file).expect("the file"));
    let mut run = world.start_command(command);
    run.says("⚠  the run file tells everything: ignored --app-id");
    run.says("⚠  No application command found for app \"b\" present in (standard input)");
    run.says("== APP - a == hello");
    run.says("✅  Exited App successfully: a");
    run.signal(Signal::TERM);
    assert_eq!(run.code(), 0, "{}", run.output());
    world.nothing_is_left();
}

fn nothing_outlives_a_killed_command(world: &World) {
    four(world);
    let mut run = world.start(&["run", "-f", "."]);
    up(&run);
    run.signal(Signal::KILL);
    assert_eq!(run.code(), -1);
    world.nothing_is_left();
}

fn a_stubborn_application_is_killed(world: &World) {
    world.directory("a");
    world.write("dapr.yaml", "version: 1\napps: [{appDirPath: a, command: [sh, -c, \"trap '' TERM; echo up; while :; do sleep 1; done\"]}]\n");
    let mut run = world.start(&["run", "-f", "."]);
    run.says("== APP - a == up");
    run.says("Started Dapr");
    let begin = Instant::now();
    run.signal(Signal::TERM);
    assert_eq!(run.code(), 0, "{}", run.output());
    assert!(begin.elapsed().as_secs() < 9, "test drivers wait ten seconds");
    world.nothing_is_left();
}
