use super::*;

fn parse(arguments: &[&str]) -> Result<Command, OptionsError> {
    let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
    Command::parse(&arguments, &Environment::default())
}

fn run(arguments: &[&str]) -> Options {
    let mut all = vec!["--app-id=shop"];
    all.extend(arguments);
    match parse(&all) {
        Ok(Command::Run(options)) => *options,
        other => panic!("{arguments:?}: {other:?}"),
    }
}

fn invalid(arguments: &[&str]) -> String {
    let mut all = vec!["--app-id=shop"];
    all.extend(arguments);
    match parse(&all) {
        Err(OptionsError::Invalid(text)) => text,
        other => panic!("{arguments:?}: {other:?}"),
    }
}

#[test]
fn defaults_are_those_of_the_original() {
    let options = run(&[]);
    assert_eq!((options.http_port, options.grpc_port, options.internal_port), (3500, 50001, None));
    assert_eq!((options.max_body_bytes, options.read_buffer_bytes), (4 << 20, 4 << 10));
    assert_eq!(options.graceful_shutdown, Duration::from_secs(5));
    assert_eq!(options.app_max_concurrency, 0);
    assert_eq!(options.metrics_port, Some(9090));
    assert_eq!(options.listen_addresses, [""]);
    assert!(
        options.app_port.is_none()
            && options.app_health.is_none()
            && options.block_shutdown.is_none()
            && options.api_logging.is_none()
    );
    assert!(options.ask_config && options.ask_subscriptions);
}

#[test]
fn the_command_line_of_the_black_box_suite_is_read() {
    let options = run(&[
        "--log-level=debug",
        "--app-protocol=http",
        "--dapr-listen-addresses=127.0.0.1,[::1]",
        "--app-health-probe-interval=0",
        "--app-health-threshold=0",
        "--enable-app-health-check=true",
        "--enable-api-logging=true",
        "--enable-profiling",
        "--dapr-block-shutdown-duration=1m0s",
        "--disable-init-endpoints=config,subscribe",
        "-resources-path",
        "/a",
        "--resources-path=/b",
    ]);
    assert_eq!(options.listen_addresses, ["127.0.0.1", "[::1]"]);
    let health = options.app_health.unwrap();
    assert_eq!((health.interval, health.threshold), (DEFAULT_PROBE_INTERVAL, DEFAULT_PROBE_THRESHOLD));
    assert_eq!(options.api_logging, Some(true));
    assert_eq!(options.block_shutdown, Some(Duration::from_secs(60)));
    assert!(!options.ask_config && !options.ask_subscriptions);
    assert_eq!(options.resource_paths, [PathBuf::from("/a"), PathBuf::from("/b")]);
}

#[test]
fn sizes_have_two_spellings() {
    assert_eq!(run(&["--max-body-size=1Ki"]).max_body_bytes, 1024);
    assert_eq!(run(&["--max-body-size=0"]).max_body_bytes, 0);
    assert_eq!(run(&["--dapr-http-max-request-size=2"]).max_body_bytes, 2 << 20);
    assert_eq!(run(&["--dapr-http-max-request-size=-1"]).max_body_bytes, 4 << 20);
    assert_eq!(run(&["--dapr-http-max-request-size=2", "--max-body-size=1Mi"]).max_body_bytes, 1 << 20);
    assert!(invalid(&["--max-body-size=much"]).starts_with("invalid value for 'max-body-size' option: "));
}

#[test]
fn protocols_are_words_in_any_case() {
    assert_eq!(run(&["--app-protocol=GRPC"]).app_protocol, AppProtocol::Grpc);
    assert_eq!(run(&["--app-protocol="]).app_protocol, AppProtocol::Http);
    assert_eq!(run(&["--app-ssl"]).app_protocol, AppProtocol::Https);
    assert!(invalid(&["--app-protocol=smtp"]).starts_with("invalid value for 'app-protocol': smtp"));
}

#[test]
fn nonsense_is_refused_by_name() {
    for (arguments, part) in [
        (vec!["--app-port=x"], "error parsing app-port flag"),
        (vec!["--app-port=3500"], "the 'dapr-http-port' argument value 3500 conflicts with 'app-port'"),
        (vec!["--app-port=50001"], "the 'dapr-grpc-port' argument value 50001 conflicts with 'app-port'"),
        (vec!["--disable-init-endpoints=all"], "invalid value for 'disable-init-endpoints': all"),
        (vec!["--app-health-probe-timeout=6000"], "'health-probe-timeout' must be smaller"),
        (vec!["--log-level=loud"], "invalid log level"),
        (vec!["--mode=kubernetes"], "kubernetes"),
    ] {
        let text = invalid(&arguments);
        assert!(text.contains(part), "{arguments:?}: {text}");
    }
    assert_eq!(parse(&[]).unwrap_err(), OptionsError::Invalid("parameter app-id cannot be empty".to_owned()));
    assert_eq!(
        parse(&["--app-id=a.b"]).unwrap_err(),
        OptionsError::Invalid("parameter app-id cannot contain dots".to_owned())
    );
    assert!(
        matches!(parse(&["--nope"]).unwrap_err(), OptionsError::Usage(text) if text.starts_with("unknown flag: --nope"))
    );
}

#[test]
fn questions_are_answered_before_anything_is_checked() {
    assert!(matches!(parse(&["--version"]).unwrap(), Command::Print(text) if text == "1.18.3\n"));
    assert!(
        matches!(parse(&["--build-info"]).unwrap(), Command::Print(text) if text.starts_with("Version: 1.18.3\nGit Commit: "))
    );
    assert!(matches!(parse(&["--wait", "--dapr-http-port=3601"]).unwrap(), Command::Wait(3601)));
    assert!(matches!(parse(&["--help"]).unwrap(), Command::Print(text) if text.contains("--app-id")));
}

#[test]
fn flags_that_change_nothing_are_told_by_name() {
    assert_eq!(run(&[]).notices, Vec::<String>::new());
    let notices = run(&[
        "--sentry-address=sentry:443",
        "--control-plane-address=operator:443",
        "--actors-disseminate-timeout=30s",
        "--disable-builtin-k8s-secret-store=false",
        "--app-ssl",
    ])
    .notices;
    let parts =
        ["--app-ssl has been deprecated", "--control-plane-address is not used", "--actors-disseminate-timeout is not"];
    assert_eq!(notices.len(), parts.len(), "{notices:?}");
    for (notice, part) in notices.iter().zip(parts) {
        assert!(notice.contains(part), "{notice}");
    }
    assert!(invalid(&["--scheduler-job-streams=0"]).contains("'scheduler-job-streams'"));
    assert!(invalid(&["--actors-disseminate-timeout=0s"]).contains("'actors-disseminate-timeout'"));
}

#[test]
fn kubernetes_mode_needs_an_operator() {
    assert!(invalid(&["--mode=kubernetes"]).contains("--control-plane-address"));
    assert!(invalid(&["--mode=swarm"]).contains("expected standalone or kubernetes"));
    let flags = ["--mode=kubernetes", "--control-plane-address=h:1"];
    let options = run(&flags);
    assert_eq!((options.mode, options.control_plane_address.as_str()), (Mode::Kubernetes, "h:1"));
    assert!(
        options.notices.len() == 1 && options.notices[0].contains("secret store kubernetes"),
        "{:?}",
        options.notices
    );
    let options = run(&[&flags[..], &["--disable-builtin-k8s-secret-store", "--resources-path=/r"]].concat());
    assert!(options.notices.len() == 1 && options.notices[0].contains("--resources-path"), "{:?}", options.notices);
    let options = run(&["--control-plane-address=h:1", "--disable-builtin-k8s-secret-store"]);
    assert_eq!(options.mode, Mode::Standalone);
    assert!(options.notices.len() == 2 && options.notices[0].contains("kubernetes only"), "{:?}", options.notices);
}
