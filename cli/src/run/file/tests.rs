use std::path::Path;

use super::*;

struct Place(tempfile::TempDir);

impl Place {
    fn new(directories: &[&str]) -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        for directory in directories {
            std::fs::create_dir_all(place.path().join(directory)).unwrap();
        }
        place
    }

    fn path(&self) -> PathBuf {
        std::fs::canonicalize(self.0.path()).unwrap()
    }

    fn read(&self, text: &str) -> (RunFile, Vec<String>) {
        let (file, findings) = read(Path::new("dapr.yaml"), text, &self.path(), Some(Path::new("/home/me")));
        (file, findings.iter().map(|finding| format!("{} {finding}", finding.severity)).collect())
    }
}

#[test]
fn the_file_of_the_document() {
    let place = Place::new(&["components", "tenant-service"]);
    let (file, findings) = place.read(
        "version: 1\ncommon:\n  resourcesPath: ./components\napps:\n  - appDirPath: ./tenant-service/\n    appPort: 8080\n    command: [\"java\", \"-jar\", 1]\n",
    );
    assert_eq!(findings, Vec::<String>::new());
    let app = &file.apps[0];
    assert_eq!((app.id.as_str(), app.wanted.app, app.wanted.http), ("tenant-service", Some(8080), None));
    assert_eq!(app.directory, place.path().join("tenant-service"));
    assert_eq!(app.shared.resources, [place.path().join("components")]);
    assert_eq!(app.command, ["java", "-jar", "1"]);
}

#[test]
fn the_application_wins_over_its_directory_and_that_over_common() {
    let place = Place::new(&["c1", "c2", "one/own", "two/.dapr/resources", "three"]);
    for file in ["common.yaml", "two/.dapr/config.yaml", "one/app.yaml"] {
        std::fs::write(place.path().join(file), "").unwrap();
    }
    let (file, findings) = place.read(
        "version: 1\nname: all\ncommon:\n  resourcesPaths: [c1, c2]\n  configFilePath: common.yaml\n  env: {A: 1, B: two}\n  logLevel: warn\n  \
         appHealthThreshold: 9\n  daprdLogDestination: console\napps:\n\
         - {appDirPath: one, appID: first, resourcesPaths: own, configFilePath: app.yaml, env: {B: mine, C: }, logLevel: debug}\n\
         - {appDirPath: two, daprdLogDestination: fileAndConsole}\n- {appDirPath: three}\n",
    );
    assert_eq!(findings, Vec::<String>::new());
    let base = place.path();
    let [one, two, three] = &file.apps[..] else { panic!("three apps") };
    assert_eq!((one.id.as_str(), two.id.as_str(), file.name.as_str()), ("first", "two", "all"));
    assert_eq!(one.shared.resources, [base.join("one/own")]);
    assert_eq!(two.shared.resources, [base.join("two/.dapr/resources")]);
    assert_eq!(three.shared.resources, [base.join("c1"), base.join("c2")]);
    let config = |app: &App| app.shared.config.clone().unwrap();
    assert_eq!(config(one), base.join("one/app.yaml"));
    assert_eq!(config(two), base.join("two/.dapr/config.yaml"));
    assert_eq!(config(three), base.join("common.yaml"));
    let env: Vec<(&str, &str)> = one.shared.env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(env, [("A", "1"), ("B", "mine"), ("C", "")]);
    assert_eq!(
        (one.shared.log_level.as_str(), three.shared.log_level.as_str(), one.shared.health.threshold),
        ("debug", "warn", 9)
    );
    assert_eq!(
        (two.shared.daprd_log, three.shared.daprd_log),
        (Some(Destination::FileAndConsole), Some(Destination::Console))
    );
}

#[test]
fn every_key_is_taken() {
    let place = Place::new(&["a", "r"]);
    std::fs::write(place.path().join("a/c.yaml"), "").unwrap();
    let (file, findings) = place.read(
        "version: 1\napps:\n- appDirPath: a\n  appID: x\n  appPort: 1\n  daprHTTPPort: 2\n  daprGRPCPort: 3\n  daprInternalGRPCPort: 4\n  \
         metricsPort: 5\n  profilePort: 6\n  appChannelAddress: h\n  unixDomainSocket: ~/s\n  command: [c]\n  containerImage: i\n  \
         containerImagePullPolicy: Always\n  createService: true\n  configFilePath: c.yaml\n  resourcesPaths: [../r]\n  resourcesPath: ../r\n  \
         appProtocol: grpc\n  appSSL: true\n  appMaxConcurrency: 7\n  apiListenAddresses: 127.0.0.1\n  placementHostAddress: p\n  \
         schedulerHostAddress: \"\"\n  enableProfiling: true\n  enableApiLogging: false\n  logLevel: debug\n  maxBodySize: 8Mi\n  \
         readBufferSize: 8Ki\n  enableAppHealthCheck: true\n  appHealthCheckPath: /h\n  appHealthProbeInterval: 1\n  \
         appHealthProbeTimeout: 2\n  appHealthThreshold: 3\n  runtimePath: rt\n  env: {A: b}\n  daprdLogDestination: file\n  \
         appLogDestination: console\n",
    );
    assert_eq!(findings, Vec::<String>::new());
    let (app, base) = (&file.apps[0], place.path());
    let wanted = app.wanted;
    assert_eq!(
        [wanted.app, wanted.http, wanted.grpc, wanted.internal_grpc, wanted.metrics, wanted.profile],
        [1, 2, 3, 4, 5, 6].map(Some)
    );
    assert_eq!(
        (app.app_channel_address.as_str(), app.unix_domain_socket.as_deref()),
        ("h", Some(Path::new("/home/me/s")))
    );
    let expected = Shared {
        config: Some(base.join("a/c.yaml")),
        resources: vec![base.join("r"), base.join("r")],
        app_protocol: "grpc".into(),
        app_ssl: true,
        app_max_concurrency: 7,
        listen_addresses: "127.0.0.1".into(),
        placement: Some("p".into()),
        scheduler: Some(String::new()),
        enable_profiling: true,
        enable_api_logging: Some(false),
        log_level: "debug".into(),
        max_body_size: Some("8Mi".into()),
        read_buffer_size: Some("8Ki".into()),
        health: crate::settings::HealthCheck {
            enabled: true,
            path: "/h".into(),
            interval_in_seconds: 1,
            timeout_in_milliseconds: 2,
            threshold: 3,
        },
        runtime_path: Some(base.join("a/rt")),
        env: [("A".to_owned(), "b".to_owned())].into(),
        daprd_log: Some(Destination::File),
        app_log: Some(Destination::Console),
    };
    assert_eq!(app.shared, expected);
}

#[test]
fn all_problems_are_told_with_their_lines() {
    let place = Place::new(&["a", "b"]);
    let base = place.path();
    let (_, findings) = place.read(
        "version: 2\ncomon: {}\ncommon:\n  resourcesPath: ./componets\n  resourcePaths: [a]\napps:\n  - appID: x\n  - appDirPath: none\n  \
         - appDirPath: a\n    appPort: web\n    command: node app.js\n    appProtocol: gopher\n    maxBodySize: much\n    env: [A]\n  \
         - appDirPath: b\n    appID: a\n    appPort: 70000\n    enableProfiling: maybe\n",
    );
    let expected = [
        "error dapr.yaml:1: version: expected 1, found the number 2".to_owned(),
        "warning dapr.yaml:2: comon: no such key; it is ignored; did you mean common?".to_owned(),
        format!(
            "error dapr.yaml:4: common.resourcesPath: the directory {} does not exist; create it, or correct the path; it is relative to {}",
            base.join("./componets").display(),
            base.display()
        ),
        "warning dapr.yaml:5: common.resourcePaths: no such key; it is ignored; did you mean resourcesPaths?".to_owned(),
        "error dapr.yaml:7: apps[0]: the directory of the application is missing; expected appDirPath; add appDirPath, relative to the run file"
            .to_owned(),
        format!(
            "error dapr.yaml:8: apps[1].appDirPath: the directory {} does not exist; create it, or correct the path; it is relative to {}",
            base.join("none").display(),
            base.display()
        ),
        "error dapr.yaml:10: apps[2].appPort: expected a whole number, found the text \"web\"".to_owned(),
        "error dapr.yaml:11: apps[2].command: expected a list, found the text \"node app.js\"; write it as in command: [\"node\", \"app.js\"]".to_owned(),
        "error dapr.yaml:12: apps[2].appProtocol: expected one of http, https, grpc, grpcs, h2c, found \"gopher\"".to_owned(),
        "error dapr.yaml:13: apps[2].maxBodySize: invalid quantity \"much\": expected a number with an optional suffix such as 4Mi, 512Ki or 1000".to_owned(),
        "error dapr.yaml:14: apps[2].env: expected a map, found a list".to_owned(),
        "error dapr.yaml:15: apps[3].appID: a second application with the id \"a\"; expected each id once; give one of them another appID".to_owned(),
        "error dapr.yaml:17: apps[3].appPort: expected a port from 1 to 65535, found the number 70000".to_owned(),
        "error dapr.yaml:18: apps[3].enableProfiling: expected true or false, found the text \"maybe\"".to_owned(),
    ];
    for (found, expected) in findings.iter().zip(&expected) {
        assert_eq!(found, expected);
    }
    assert_eq!(findings.len(), expected.len());
}

#[test]
fn no_document_and_no_applications() {
    let place = Place::new(&[]);
    assert_eq!(
        place.read("# nothing\n").1,
        ["error dapr.yaml: the file is empty; expected a run file with version and apps"]
    );
    assert_eq!(
        place.read("version: 1\napps: []\n").1,
        ["error dapr.yaml:2: apps: expected a list with at least one application"]
    );
    assert_eq!(place.read("- a\n").1, ["error dapr.yaml:1: expected a map, found a list"]);
    assert!(place.read("a: [\n").1[0].contains("not valid YAML"));
}
