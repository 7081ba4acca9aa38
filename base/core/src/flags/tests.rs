use std::time::Duration;

use super::*;

fn table() -> FlagSet {
    FlagSet::new().with_all([
        Flag::new(Kind::Text, "app-id", "", "the `id` of the application").short('a'),
        Flag::new(Kind::Int, "app-port", "-1", "port the application listens on").short('p'),
        Flag::new(Kind::Bool, "enable-profiling", "", "profile the sidecar"),
        Flag::new(Kind::Bool, "kubernetes", "", "use a cluster").short('k'),
        Flag::new(Kind::Bool, "enable-metrics", "true", "serve metrics"),
        Flag::new(Kind::List, "resources-path", "x,y", "directories").short('d'),
        Flag::new(Kind::Repeated, "set", "", "values"),
        Flag::new(Kind::Duration, "timeout", "3s", "time to wait"),
        Flag::new(Kind::Uint, "streams", "3", "connections"),
        Flag::new(Kind::Bool, "app-ssl", "", "TLS to the application").deprecated("use --app-protocol"),
    ])
}

fn parse(arguments: &[&str]) -> Result<Parsed, FlagError> {
    table().parse(arguments.iter().copied())
}

#[test]
fn defaults_hold_and_are_not_given() {
    let parsed = parse(&[]).unwrap();
    assert_eq!((parsed.text("app-id"), parsed.int("app-port"), parsed.uint("streams")), ("", -1, 3));
    assert!(parsed.bool("enable-metrics") && !parsed.bool("kubernetes"));
    assert_eq!(parsed.list("resources-path"), ["x", "y"]);
    assert_eq!(parsed.duration("timeout"), Duration::from_secs(3));
    assert_eq!(parsed.given_names().count(), 0);
}

#[test]
fn every_form_of_a_value() {
    for arguments in [
        &["--app-id", "cart"][..],
        &["--app-id=cart"],
        &["-a", "cart"],
        &["-acart"],
        &["-a=cart"],
        &["-ka", "cart"],
        &["-kacart"],
    ] {
        let parsed = parse(arguments).unwrap();
        assert_eq!(parsed.text("app-id"), "cart", "{arguments:?}");
        assert!(parsed.given("app-id"));
        assert_eq!(parsed.bool("kubernetes"), arguments[0].starts_with("-k"));
    }
    let parsed = parse(&["--app-port", "-5", "--app-id="]).unwrap();
    assert_eq!(parsed.int("app-port"), -5);
    assert!(parsed.given("app-id") && parsed.text("app-id").is_empty());
    assert_eq!(parsed.given_names().collect::<Vec<_>>(), ["app-id", "app-port"]);
}

#[test]
fn booleans_take_words_only_after_an_equals_sign() {
    for (word, expected) in [("1", true), ("T", true), ("True", true), ("0", false), ("FALSE", false), ("f", false)] {
        assert_eq!(parse(&[&format!("--enable-metrics={word}")]).unwrap().bool("enable-metrics"), expected, "{word}");
    }
    let parsed = parse(&["--enable-profiling", "false"]).unwrap();
    assert!(parsed.bool("enable-profiling"));
    assert_eq!(parsed.positional(), ["false"]);
}

#[test]
fn lists_split_and_add_up() {
    let parsed = parse(&["-d", "a,b", "--resources-path=c", "--resources-path", "\"d,e\",\"f\"\"g\""]).unwrap();
    assert_eq!(parsed.list("resources-path"), ["a", "b", "c", "d,e", "f\"g"]);
    assert_eq!(parse(&["--set", "a=1,b=2", "--set", "c=3"]).unwrap().list("set"), ["a=1,b=2", "c=3"]);
    assert!(parse(&["--resources-path="]).unwrap().list("resources-path").is_empty());
}

#[test]
fn flags_stand_between_words_and_end_at_two_dashes() {
    let parsed = parse(&["node", "-a", "x", "app.js", "--", "--app-id", "y"]).unwrap();
    assert_eq!(parsed.positional(), ["node", "app.js", "--app-id", "y"]);
    assert_eq!(parsed.positional_before_dashes(), Some(2));
    assert_eq!(parsed.text("app-id"), "x");
    let stopped = table().stop_at_positional().parse(["-a", "x", "run", "--unknown"]).unwrap();
    assert_eq!(stopped.positional(), ["run", "--unknown"]);
    assert_eq!(parse(&["-"]).unwrap().positional(), ["-"]);
}

#[test]
fn one_dash_before_a_long_name_when_asked_for() {
    let set = table().single_dash_long();
    let parsed = set.parse(["-app-id", "cart", "-app-port=8080", "-enable-profiling", "-k"]).unwrap();
    assert_eq!((parsed.text("app-id"), parsed.int("app-port")), ("cart", 8080));
    assert!(parsed.bool("enable-profiling") && parsed.bool("kubernetes"));
    assert_eq!(set.parse(["-ap-id", "x"]).unwrap_err().to_string(), "unknown flag: --ap-id; did you mean --app-id?");
}

#[test]
fn errors_in_the_known_words() {
    let cases: [(&[&str], &str); 14] = [
        (&["--bananas"], "unknown flag: --bananas"),
        (&["--app_id=x"], "unknown flag: --app_id; did you mean --app-id?"),
        (&["--resource-path", "x"], "unknown flag: --resource-path; did you mean --resources-path?"),
        (&["-x"], "unknown shorthand flag: 'x' in -x"),
        (&["-kz"], "unknown shorthand flag: 'z' in -kz"),
        (&["--app-id"], "flag needs an argument: --app-id"),
        (&["-a"], "flag needs an argument: 'a' in -a"),
        (
            &["--app-port", "x"],
            "invalid argument \"x\" for \"-p, --app-port\" flag: strconv.ParseInt: parsing \"x\": invalid syntax",
        ),
        (
            &["--streams=-1"],
            "invalid argument \"-1\" for \"--streams\" flag: strconv.ParseUint: parsing \"-1\": invalid syntax",
        ),
        (
            &["--app-port=99999999999999999999"],
            "invalid argument \"99999999999999999999\" for \"-p, --app-port\" flag: strconv.ParseInt: parsing \"99999999999999999999\": value out of range",
        ),
        (
            &["--enable-profiling=yes"],
            "invalid argument \"yes\" for \"--enable-profiling\" flag: strconv.ParseBool: parsing \"yes\": invalid syntax",
        ),
        (&["--timeout=5"], "invalid argument \"5\" for \"--timeout\" flag: time: missing unit in duration \"5\""),
        (&["--timeout=x"], "invalid argument \"x\" for \"--timeout\" flag: time: invalid duration \"x\""),
        (&["--=x"], "bad flag syntax: --=x"),
    ];
    for (arguments, message) in cases {
        assert_eq!(parse(arguments).unwrap_err().to_string(), message);
    }
    assert_eq!(parse(&["--help"]).unwrap_err(), FlagError::Help);
    assert_eq!(parse(&["-h"]).unwrap_err(), FlagError::Help);
}

#[test]
fn numbers_and_durations_as_in_go() {
    for (text, number) in [("0x10", 16), ("0b11", 3), ("0o17", 15), ("017", 15), ("0", 0), ("+7", 7)] {
        assert_eq!(parse(&["-p", text]).unwrap().int("app-port"), number, "{text}");
    }
    assert_eq!(parse(&["--timeout=1m30s"]).unwrap().duration("timeout"), Duration::from_secs(90));
    assert_eq!(parse(&["--timeout=-1s"]).unwrap().duration("timeout"), Duration::ZERO);
}

#[test]
fn a_default_from_outside_yields_to_a_given_flag() {
    let mut parsed = parse(&["--app-id", "mine"]).unwrap();
    parsed.set_default("app-id", "environment").unwrap();
    parsed.set_default("app-port", "7").unwrap();
    assert_eq!((parsed.text("app-id"), parsed.int("app-port")), ("mine", 7));
    assert!(!parsed.given("app-port"));
    assert!(parsed.set_default("app-port", "x").is_err());
}

#[test]
fn deprecated_flags_warn_once() {
    let parsed = parse(&["--app-ssl", "--app-ssl=true"]).unwrap();
    assert_eq!(parsed.warnings(), ["Flag --app-ssl has been deprecated, use --app-protocol"]);
}

#[test]
fn usage_is_aligned() {
    let set = FlagSet::new().with_all([
        Flag::new(Kind::Text, "app-id", "", "the `id` of the application").short('a'),
        Flag::new(Kind::Text, "log-level", "info", "how much is logged"),
        Flag::new(Kind::Bool, "quiet", "", "say less"),
        Flag::new(Kind::Int, "port", "-1", "a port"),
        Flag::new(Kind::Text, "old", "", "gone").hidden(),
    ]);
    let expected = "  -a, --app-id id          the id of the application\n      \
                    --log-level string   how much is logged (default \"info\")\n      \
                    --quiet              say less\n      \
                    --port int           a port (default -1)\n";
    assert_eq!(set.usage(), expected);
}
