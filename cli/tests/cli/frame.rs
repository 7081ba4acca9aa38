//! Help, unreadable command lines, the runtime directory, validation, versions.

use super::Test;
use super::world::{World, text_of};

pub(crate) const TESTS: &[Test] = &[
    ("frame::no_arguments_print_the_help", no_arguments_print_the_help),
    ("frame::a_command_line_that_cannot_be_read", a_command_line_that_cannot_be_read),
    ("frame::init_twice_and_uninstall", init_twice_and_uninstall),
    ("frame::validate_tells_everything", validate_tells_everything),
    ("frame::versions_and_scripts", versions_and_scripts),
];

fn no_arguments_print_the_help(world: &World) {
    for arguments in [&[][..], &["--help"], &["help"], &["-h"]] {
        let ended = world.dapr(arguments).with_code(0);
        assert!(
            ended.stdout.contains("Usage:\n  dapr [command]") && ended.stdout.contains("\n  uninstall "),
            "{ended:?}"
        );
    }
    for arguments in [&["run", "--help"][..], &["help", "run"], &["--runtime-path", "x", "run", "-h"]] {
        let ended = world.dapr(arguments).with_code(0);
        assert!(ended.stdout.contains("-H, --dapr-http-port port"), "{ended:?}");
    }
}

fn a_command_line_that_cannot_be_read(world: &World) {
    let ended = world.dapr(&["list", "--bananas"]).with_code(255);
    assert!(ended.stderr.starts_with("Error: unknown flag: --bananas\nUsage:\n  dapr list"), "{ended:?}");
    assert_eq!(ended.stdout, "unknown flag: --bananas\n");
    let ended = world.dapr(&["--bananas"]).with_code(255);
    assert!(ended.stderr.starts_with("Error: unknown flag: --bananas\nUsage:\n  dapr [command]"), "{ended:?}");
    let ended = world.dapr(&["pubish"]).with_code(255);
    assert!(
        ended.stderr.starts_with("Error: unknown command \"pubish\" for \"dapr\"\n\nDid you mean this?\n\tpublish\n"),
        "{ended:?}"
    );
    let ended = world.dapr(&["list", "-o", "xml"]).with_code(1);
    assert!(ended.stderr.starts_with("❌  an invalid output format was specified"), "{ended:?}");
    for arguments in
        [&["init", "-k", "--wait", "-n", "dapr-system"][..], &["list", "-k", "-A"], &["uninstall", "-k", "--dev"]]
    {
        let ended = world.dapr(arguments).with_code(1);
        assert!(ended.stderr.contains("Kubernetes is not possible with this version"), "{ended:?}");
    }
    let ended = world.dapr(&["list", "-o", "xml", "--log-as-json"]).with_code(1);
    let line: serde_json::Value = serde_json::from_str(&ended.stderr).expect("one JSON object");
    assert_eq!(line["status"], "failure");
}

fn init_twice_and_uninstall(world: &World) {
    let ended = world.dapr(&["init"]).with_code(0);
    assert!(ended.stdout.contains("⌛  Making the jump to hyperspace...\n"), "{ended:?}");
    assert!(ended.stdout.contains("✅  Success! Dapr is up and running. To get started, go here: "), "{ended:?}");
    let root = world.runtime().join(".dapr");
    assert!(text_of(&root.join("components/statestore.yaml")).contains("state.sqlite"));
    assert!(text_of(&root.join("config.yaml")).contains("name: daprConfig"));
    assert!(std::fs::canonicalize(root.join("bin/daprd")).is_ok());

    std::fs::write(root.join("components/pubsub.yaml"), "mine").expect("a file of the user");
    let other = world.write("other", "");
    std::fs::remove_file(root.join("bin/daprd")).expect("the link");
    std::os::unix::fs::symlink(other, root.join("bin/daprd")).expect("a link to another version");
    let ended = world.dapr(&["init", "--slim", "--container-runtime", "podman"]).with_code(0);
    assert!(
        ended.stdout.contains("⚠  without a meaning here") && ended.stdout.contains("--container-runtime"),
        "{ended:?}"
    );
    assert_eq!(text_of(&root.join("components/pubsub.yaml")), "mine");
    let length = std::fs::metadata(root.join("bin/daprd")).map(|file| file.len()).unwrap_or(0);
    assert!(length > 0, "the link leads to this program again");
    assert!(world.dapr(&["init"]).with_code(0).stdout.contains("nothing was changed"));

    assert!(world.dapr(&["uninstall"]).with_code(0).stdout.contains("✅  Dapr has been removed successfully"));
    assert!(!root.join("bin").exists() && root.join("config.yaml").exists());
    world.dapr(&["uninstall", "--all"]).with_code(0);
    assert!(!root.exists());
    world.dapr(&["uninstall", "--all"]).with_code(0);
}

fn validate_tells_everything(world: &World) {
    world.directory("app");
    world.write("components/good.yaml", "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata: {name: s}\nspec: {type: state.in-memory, version: v1}\n");
    let run_file = "version: 1\ncommon: {resourcesPath: components}\napps: [{appDirPath: app, appPort: 80}]\n";
    world.write("dapr.yaml", run_file);
    for arguments in [&["validate"][..], &["validate", "."], &["validate", "dapr.yaml", "components"]] {
        let ended = world.dapr(arguments).with_code(0);
        assert!(ended.stdout.contains("✅  No problems found in "), "{ended:?}");
    }
    world.write("components/post.yaml", "retryForever:\n  policy: constant\n  duration: 5s\n");
    let ended = world.dapr(&["validate"]).with_code(0);
    assert!(
        ended
            .stdout
            .contains("components/post.yaml:1: no kind; nothing was loaded; did you mean spec.policies.retries?"),
        "{ended:?}"
    );
    world.dapr(&["validate", "--strict"]).with_code(1);
    let breaker = |trip: &str| {
        let head = "apiVersion: dapr.io/v1alpha1\nkind: Resiliency\nmetadata: {name: r}\nspec:\n";
        let policies = "  policies:\n    circuitBreakers:\n      b:\n        timeout: 5s\n        trip: ";
        format!("{head}{policies}{trip}\n  targets: {{apps: {{a: {{circuitBreaker: b}}}}}}\n")
    };
    world.write("components/breaker.yaml", &breaker("consecutiveFailures > 5 totalFailures"));
    let ended = world.dapr(&["validate"]).with_code(1);
    assert!(
        ended.stdout.contains(
            "components/breaker.yaml:9: spec.policies.circuitBreakers.b.trip: not a trip expression: extraneous input \
             'totalFailures' (line 1, column 25); write for example consecutiveFailures > 5"
        ),
        "{ended:?}"
    );
    world.write("components/breaker.yaml", &breaker("consecutiveFailures"));
    let ended = world.dapr(&["validate"]).with_code(0);
    assert!(ended.stdout.contains("so the circuit breaker never opens; write a comparison, "), "{ended:?}");
    world.write("components/breaker.yaml", &breaker("consecutiveFailures >= 5"));

    world.write("dapr.yaml", &run_file.replace("appPort: 80", "appPort: web, comand: [x]").replace("app,", "ap,"));
    let ended = world.dapr(&["validate"]).with_code(1);
    assert!(ended.stdout.contains("error: ./dapr.yaml:3: apps[0].appDirPath: the directory "), "{ended:?}");
    assert!(ended.stdout.contains("apps[0].appPort: expected a whole number"), "{ended:?}");
    assert!(ended.stderr.contains("❌  2 errors, "), "{ended:?}");
    world.write("dapr.yaml", &run_file.replace("80", "web, comand: [x]"));
    let ended = world.dapr(&["validate", "-o", "json"]).with_code(1);
    let findings: serde_json::Value = serde_json::from_str(&ended.stdout).expect("JSON");
    assert_eq!((findings[0]["line"].as_u64(), findings[0]["field"].as_str()), (Some(3), Some("apps[0].appPort")));
    assert!(findings[1]["suggestion"].as_str().is_some_and(|text| text.contains("command")), "{findings}");
    world.dapr(&["validate", "no-such-file.yaml"]).with_code(1);
}

fn versions_and_scripts(world: &World) {
    let ended = world.dapr(&["version", "-o", "json"]).with_code(0);
    let versions: serde_json::Value = serde_json::from_str(&ended.stdout).expect("JSON");
    assert!(versions["Cli version"].is_string() && versions["Runtime version"].is_string(), "{versions}");
    assert!(world.dapr(&["--version"]).with_code(0).stdout.starts_with("CLI version: "));
    assert!(world.dapr(&["build-info"]).with_code(0).stdout.contains("Runtime:"));
    for shell in ["bash", "zsh", "fish", "powershell"] {
        assert!(world.dapr(&["completion", shell]).with_code(0).stdout.contains("app-id"), "{shell}");
    }
    world.dapr(&["completion", "tcsh"]).with_code(1);
}
