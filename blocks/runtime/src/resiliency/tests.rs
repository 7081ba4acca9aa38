use std::cell::Cell;
use std::fmt;

use parking_lot::Mutex;
use pillion_core::log::LogOptions;
use pillion_resources::types::{CircuitBreakerSpec, ComponentPolicyNames, PolicyNames, RetrySpec};
use tokio::time::Instant;

use super::table::{Level, Table};
use super::*;

#[derive(Debug, PartialEq)]
struct Broken(FailureClass);

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("broken")
    }
}

impl Failure for Broken {
    fn class(&self) -> FailureClass {
        self.0
    }
}

const RETRIABLE: Broken = Broken(FailureClass::Retriable);

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Lines {
    fn logger(&self) -> Logger {
        let options = LogOptions {
            level: pillion_core::log::Level::Info,
            as_json: false,
            app_id: String::new(),
            instance: String::new(),
            version: String::new(),
        };
        Logger::new(options, Box::new(self.clone()))
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().clone()).unwrap()
    }
}

fn names(timeout: &str, retry: &str, circuit_breaker: &str) -> PolicyNames {
    PolicyNames {
        timeout: timeout.into(),
        retry: retry.into(),
        circuit_breaker: circuit_breaker.into(),
        ..PolicyNames::default()
    }
}

fn resource() -> Resiliency {
    let mut resource = Resiliency { name: "myresiliency".into(), ..Resiliency::default() };
    resource.timeouts.insert("short".into(), "100".into());
    resource
        .retries
        .insert("three".into(), RetrySpec { duration: "1s".into(), max_retries: Some(3), ..RetrySpec::default() });
    let breaker = CircuitBreakerSpec {
        timeout: "30s".into(),
        trip: "consecutiveFailures >= 2".into(),
        ..CircuitBreakerSpec::default()
    };
    resource.circuit_breakers.insert("simpleCB".into(), breaker);
    resource.apps.insert("b".into(), names("short", "three", ""));
    let outbound = names("", "", "simpleCB");
    resource.components.insert("statestore".into(), ComponentPolicyNames { inbound: outbound.clone(), outbound });
    resource
}

fn policies(resource: Resiliency) -> Policies {
    Policies::compile(&[resource], &Logger::silent())
}

#[test]
fn a_target_without_policy_has_none() {
    let policies = Policies::none(&Logger::silent());
    assert!(policies.app("b", "m").is_none());
    assert!(policies.component_outbound("x", ComponentKind::Pubsub).is_none());
    assert!(policies.component_inbound("x", ComponentKind::Pubsub).is_none());
    assert!(policies.actor("t", "1").is_none());
    assert!(policies.built_in(BuiltIn::ServiceRetries).has_retries());
}

#[tokio::test(start_paused = true)]
async fn retries_stop_at_their_limit_and_the_log_says_so_once() {
    let lines = Lines::default();
    let policies = Policies::compile(&[resource()], &lines.logger());
    let policy = policies.app("b", "m").unwrap();
    let started = Instant::now();
    let attempts = Cell::new(0);
    let result: Result<(), _> = policy
        .run(async |attempt| {
            attempts.set(attempt);
            Err(RETRIABLE)
        })
        .await;
    assert_eq!(result, Err(PolicyError::Operation(RETRIABLE)));
    assert_eq!(attempts.get(), 4);
    assert_eq!(started.elapsed().as_secs(), 3);
    let result: Result<u32, PolicyError<Broken>> =
        policy.run(async |attempt| if attempt < 3 { Err(RETRIABLE) } else { Ok(attempt) }).await;
    assert_eq!(result, Ok(3));
    let text = lines.text();
    assert_eq!(text.matches("Error processing operation endpoint[b, b:m]. Retrying in 1s…").count(), 2, "{text}");
    assert_eq!(text.matches("Recovered processing operation endpoint[b, b:m] after 3 attempts").count(), 1, "{text}");
}

#[tokio::test(start_paused = true)]
async fn codes_outside_the_list_and_permanent_errors_are_not_retried() {
    let mut resource = resource();
    let spec = RetrySpec {
        duration: "1s".into(),
        max_retries: Some(3),
        http_status_codes: "500-599".into(),
        ..RetrySpec::default()
    };
    resource.retries.insert("three".into(), spec);
    let policy = policies(resource).app("b", "m").unwrap();
    for (class, expected) in [
        (FailureClass::Status(404), 1),
        (FailureClass::Status(503), 4),
        (FailureClass::Status(14), 4),
        (FailureClass::Permanent, 1),
        (FailureClass::Retriable, 4),
    ] {
        let attempts = Cell::new(0);
        let result: Result<(), _> = policy
            .run(async |attempt| {
                attempts.set(attempt);
                Err(Broken(class))
            })
            .await;
        assert!(result.is_err());
        assert_eq!(attempts.get(), expected, "{class:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_timeout_ends_each_attempt() {
    let policy = policies(resource()).app("b", "m").unwrap();
    let started = Instant::now();
    let result: Result<(), PolicyError<Broken>> = policy.run(async |_| std::future::pending().await).await;
    assert_eq!(result, Err(PolicyError::Timeout));
    assert_eq!(result.unwrap_err().to_string(), "context deadline exceeded");
    assert_eq!(started.elapsed(), Duration::from_millis(3400));
}

#[tokio::test(start_paused = true)]
async fn a_breaker_opens_probes_and_closes_and_is_shared_by_both_directions() {
    let lines = Lines::default();
    let policies = Policies::compile(&[resource()], &lines.logger());
    let outbound = policies.component_outbound("statestore", ComponentKind::Statestore).unwrap();
    let inbound = policies.component_inbound("statestore", ComponentKind::Statestore).unwrap();
    let fail = async |policy: &Policy| policy.run(async |_| Err::<(), _>(RETRIABLE)).await.unwrap_err();
    assert_eq!(fail(&outbound).await, PolicyError::Operation(RETRIABLE));
    assert_eq!(fail(&inbound).await, PolicyError::Operation(RETRIABLE));
    assert_eq!(fail(&outbound).await, PolicyError::BreakerOpen);
    assert_eq!(fail(&outbound).await.to_string(), "circuit breaker is open");
    let breakers = policies.breakers();
    assert_eq!(breakers.len(), 1);
    assert_eq!(
        (breakers[0].name.as_str(), breakers[0].target.as_str(), breakers[0].state),
        ("simpleCB-statestore", "statestore", BreakerState::Open)
    );

    tokio::time::advance(Duration::from_millis(30_001)).await;
    let mut probe = Box::pin(outbound.run(async |_| {
        std::future::pending::<()>().await;
        Ok::<_, Broken>(())
    }));
    assert!(futures_util::poll!(&mut probe).is_pending());
    assert_eq!(fail(&outbound).await, PolicyError::TooManyRequests);
    drop(probe); // a caller that goes away counts as a failure, so the breaker opens again
    assert_eq!(policies.breakers()[0].state, BreakerState::Open);

    tokio::time::advance(Duration::from_millis(30_001)).await;
    assert_eq!(outbound.run(async |_| Ok::<_, Broken>(7)).await, Ok(7));
    assert_eq!(policies.breakers()[0].state, BreakerState::Closed);
    let text = lines.text();
    for line in ["from closed to open", "from open to half-open", "from half-open to open", "from half-open to closed"]
    {
        let expected = format!(r#"Circuit breaker \"simpleCB-statestore\" changed state {line}"#);
        assert!(text.contains(&expected), "{line} in {text}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_of_an_older_generation_is_ignored_and_the_interval_clears_counts() {
    let mut resource = resource();
    let spec = CircuitBreakerSpec { interval: "10s".into(), ..resource.circuit_breakers["simpleCB"].clone() };
    resource.circuit_breakers.insert("simpleCB".into(), spec);
    let policies = policies(resource);
    let policy = policies.component_outbound("statestore", ComponentKind::Statestore).unwrap();
    let breaker = policy.breaker().unwrap();
    let old = breaker.enter().unwrap_or_else(|_| panic!("closed"));
    breaker.enter().unwrap_or_else(|_| panic!("closed")).answer(false);
    tokio::time::advance(Duration::from_millis(10_001)).await;
    old.answer(false);
    assert_eq!(breaker.snapshot(), (BreakerState::Closed, BreakerCounts::default()));
}

#[tokio::test(start_paused = true)]
async fn an_open_breaker_ends_the_retries() {
    let mut resource = resource();
    resource.apps.insert("b".into(), names("", "three", "simpleCB"));
    let policies = policies(resource);
    let attempts = Cell::new(0);
    let result: Result<(), _> = policies
        .app("b", "m")
        .unwrap()
        .run(async |attempt| {
            attempts.set(attempt);
            Err(RETRIABLE)
        })
        .await;
    assert_eq!(result, Err(PolicyError::BreakerOpen));
    assert_eq!(attempts.get(), 2);
    assert_eq!(policies.breakers()[0].name, "b:m");
    assert_eq!(policies.app("b", "other").unwrap().breaker().unwrap().snapshot().0, BreakerState::Closed);
}

#[test]
fn defaults_apply_by_level_and_only_without_a_target() {
    let mut resource = resource();
    for name in [
        "DefaultRetryPolicy",
        "DefaultAppRetryPolicy",
        "DefaultComponentInboundRetryPolicy",
        "DefaultStatestoreComponentOutboundRetryPolicy",
    ] {
        resource.retries.insert(name.into(), RetrySpec::default());
    }
    resource.timeouts.insert("DefaultComponentTimeoutPolicy".into(), "1s".into());
    let policies = policies(resource);
    let cases = [
        (Level::App, "DefaultAppRetryPolicy", ""),
        (Level::Actor, "DefaultRetryPolicy", ""),
        (
            Level::Component(ComponentKind::Statestore, Direction::Outbound),
            "DefaultStatestoreComponentOutboundRetryPolicy",
            "DefaultComponentTimeoutPolicy",
        ),
        (
            Level::Component(ComponentKind::Pubsub, Direction::Outbound),
            "DefaultRetryPolicy",
            "DefaultComponentTimeoutPolicy",
        ),
        (
            Level::Component(ComponentKind::Pubsub, Direction::Inbound),
            "DefaultComponentInboundRetryPolicy",
            "DefaultComponentTimeoutPolicy",
        ),
    ];
    for (level, retry, timeout) in cases {
        let found = policies.set.load().table.defaults(level);
        assert_eq!((found.retry.as_str(), found.timeout.as_str()), (retry, timeout), "{level:?}");
    }
    let target = policies.component_outbound("statestore", ComponentKind::Statestore).unwrap();
    assert!(!target.has_retries(), "a component with a target of its own gets no default retries");
    assert!(policies.app("unlisted", "m").unwrap().has_retries());
}

#[test]
fn a_broken_resource_is_reported_and_the_others_apply() {
    let lines = Lines::default();
    let mut broken = Resiliency { name: "bad".into(), ..Resiliency::default() };
    broken.timeouts.insert("t".into(), "soon".into());
    broken.apps.insert("c".into(), names("t", "", ""));
    let policies = Policies::compile(&[broken, resource()], &lines.logger());
    assert!(policies.app("c", "m").is_none());
    assert!(policies.app("b", "m").is_some());
    assert!(
        lines.text().contains(r#"Could not read resiliency policy bad: invalid duration \"t\", soon"#),
        "{}",
        lines.text()
    );
    for trip in ["consecutiveFailures >", "1 +"] {
        let mut broken = Resiliency { name: "bad".into(), ..Resiliency::default() };
        broken
            .circuit_breakers
            .insert("c".into(), CircuitBreakerSpec { trip: trip.into(), ..CircuitBreakerSpec::default() });
        assert!(Table::with_built_ins().add(&broken, &Logger::silent()).is_err(), "{trip}");
    }
}

#[test]
fn built_ins_can_be_redefined_within_limits() {
    let mut resource = Resiliency::default();
    for (name, number) in [(BuiltIn::ServiceRetries, 1), (BuiltIn::ActorRetries, 9), (BuiltIn::ActorNotFoundRetries, 9)]
    {
        resource.retries.insert(name.name().into(), RetrySpec { max_retries: Some(number), ..RetrySpec::default() });
    }
    let policies = policies(resource);
    let count = |name| policies.built_in(name).retry.as_ref().and_then(|retry| retry.retries_max);
    assert_eq!(count(BuiltIn::ServiceRetries), Some(3));
    assert_eq!(count(BuiltIn::ActorRetries), Some(9));
    assert_eq!(count(BuiltIn::ActorNotFoundRetries), Some(5));
}

#[test]
fn actors_need_a_scope_for_their_breaker() {
    let mut resource = resource();
    resource.actors.insert("t".into(), names("short", "", "simpleCB"));
    assert_eq!(
        Table::with_built_ins().add(&resource, &Logger::silent()),
        Err("actor circuit breakers must include scope".to_owned())
    );
    let mut scoped = names("short", "", "simpleCB");
    scoped.circuit_breaker_scope = "id".into();
    resource.actors.insert("t".into(), scoped);
    let policies = policies(resource);
    assert_eq!(policies.actor("t", "1").unwrap().breaker().unwrap().name(), "t-1");
    assert_eq!(policies.actor_timeout("t"), Some(Duration::from_millis(100)));
}

#[tokio::test]
async fn replaced_policies_keep_the_breakers_of_what_did_not_change() {
    let mut resource = resource();
    let policy = ComponentPolicyNames { outbound: names("", "", "simpleCB"), ..ComponentPolicyNames::default() };
    resource.components.insert("kept".into(), policy);
    resource.apps.insert("app".into(), names("", "", "simpleCB"));
    let policies = policies(resource.clone());
    let state = |target: &str| {
        let found = policies.breakers().into_iter().find(|breaker| breaker.target == target);
        found.map(|breaker| breaker.state)
    };
    let fail = || async {
        for policy in [policies.component_outbound("kept", ComponentKind::Statestore), policies.app("app", "m")] {
            let _ = policy.unwrap().run(async |_| Err::<(), _>(RETRIABLE)).await;
        }
    };
    fail().await;
    fail().await;
    assert_eq!((state("kept"), state("app_app")), (Some(BreakerState::Open), Some(BreakerState::Open)));

    // Something else changes, twice: a breaker nobody asked for in between is not forgotten.
    resource.timeouts.insert("short".into(), "200".into());
    policies.replace(std::slice::from_ref(&resource));
    policies.replace(std::slice::from_ref(&resource));
    policies.app("app", "m").unwrap();
    policies.component_outbound("kept", ComponentKind::Statestore).unwrap();
    assert_eq!((state("kept"), state("app_app")), (Some(BreakerState::Open), Some(BreakerState::Open)));

    // Its own policy changes.
    resource.circuit_breakers.insert("simpleCB".into(), CircuitBreakerSpec::default());
    policies.replace(std::slice::from_ref(&resource));
    policies.component_outbound("kept", ComponentKind::Statestore).unwrap();
    assert_eq!(state("kept"), Some(BreakerState::Closed));
    policies.replace(&[]);
    assert!(policies.app("app", "m").is_none() && policies.breakers().is_empty());
}
