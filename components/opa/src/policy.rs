//! A compiled policy and how it is asked.
//!
//! *Invariant:* one question takes at most [`QUESTION_LIMIT`], and an async thread is held for at most [`INLINE_LIMIT`].

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use regorus::utils::limits::ExecutionTimerConfig;
use regorus::{Engine, Value};

use crate::jwt;

/// What is asked, as in the original.
const QUERY: &str = "data.http.allow";
/// How long a policy may think about one request. The original has no limit of its own.
const QUESTION_LIMIT: Duration = Duration::from_secs(5);
/// How long an evaluation may hold an async thread; a longer one starts again on a thread of its own.
const INLINE_LIMIT: Duration = Duration::from_millis(2);
/// From here on a policy counts as slow, and the next question goes to a thread of its own at once.
const SLOW: Duration = Duration::from_micros(500);
/// Steps of an evaluation between two looks at the clock.
const STEPS_PER_LOOK: NonZeroU32 = NonZeroU32::new(64).expect("64 is not zero");

/// A policy that was compiled; asked by any number of requests at once.
pub(crate) struct Policy {
    /// Never asked itself: each question takes a clone, which shares the compiled policy.
    engine: Engine,
    slow: AtomicBool,
}

impl Policy {
    /// Compiles a policy of either version of the language. The original reads v0 only; what is right as v1 means the same in
    /// v0 or is an error there.
    ///
    /// # Errors
    /// The text of the parser of v0.
    pub(crate) fn compile(rego: &str) -> Result<Self, String> {
        // v1 first: the parser of v0 writes warnings about v1 words to standard error.
        let mut engine = engine(rego, false).or_else(|_| engine(rego, true))?;
        // The first question prepares the engine for all clones, and finds what the parser cannot see. What it answers does not
        // matter: there is no request yet, and a policy may have no rule of this name.
        engine.set_input(Value::new_object());
        let _answer = engine.eval_rule(QUERY.to_owned());
        Ok(Self { engine, slow: AtomicBool::new(true) })
    }

    /// The value of `data.http.allow`; [`Value::Undefined`] when there is none.
    ///
    /// # Errors
    /// The policy failed or took too long.
    pub(crate) async fn ask(&self, input: Value) -> Result<Value, String> {
        if !self.slow.load(Ordering::Relaxed) {
            let started = Instant::now();
            let answer = evaluate(self.engine.clone(), input.clone(), INLINE_LIMIT);
            let took = started.elapsed();
            self.slow.store(took > SLOW, Ordering::Relaxed);
            if took < INLINE_LIMIT {
                return answer;
            }
        }
        let engine = self.engine.clone();
        let evaluation = tokio::task::spawn_blocking(move || {
            let started = Instant::now();
            (evaluate(engine, input, QUESTION_LIMIT), started.elapsed())
        });
        let (answer, took) = evaluation.await.map_err(|error| format!("evaluating the policy: {error}"))?;
        self.slow.store(took > SLOW, Ordering::Relaxed);
        answer
    }
}

fn engine(rego: &str, v0: bool) -> Result<Engine, String> {
    let mut engine = Engine::new();
    engine.set_rego_v0(v0);
    // As in OPA, a function that fails is undefined and not the end.
    engine.set_strict_builtin_errors(false);
    let decode = |arguments: Vec<Value>| match arguments.first() {
        Some(Value::String(token)) => Ok(jwt::decode(token)),
        _ => Ok(Value::Undefined),
    };
    engine.add_extension(jwt::DECODE.to_owned(), 1, Box::new(decode)).map_err(|error| error.to_string())?;
    engine.add_policy("inline.rego".to_owned(), rego.to_owned()).map_err(|error| format!("{error:#}"))?;
    Ok(engine)
}

fn evaluate(mut engine: Engine, input: Value, limit: Duration) -> Result<Value, String> {
    engine.set_execution_timer_config(ExecutionTimerConfig { limit, check_interval: STEPS_PER_LOOK });
    engine.set_input(input);
    engine.eval_rule(QUERY.to_owned()).map_err(|error| format!("{error:#}"))
}
