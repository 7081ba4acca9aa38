//! A compiled policy and how it is asked.
//!
//! *Invariant:* one question takes at most [`QUESTION_LIMIT`], or [`CALLING_LIMIT`] when the policy asks other servers, and an
//! async thread is held for at most [`INLINE_LIMIT`], never for another server.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use regorus::utils::limits::ExecutionTimerConfig;
use regorus::{Engine, Value};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use pillion_core::log::Logger;

use crate::functions;
use crate::send::{self, Sender};

/// What is asked, as in the original.
const QUERY: &str = "data.http.allow";
/// How long a policy may think about one request. The original has no limit of its own.
const QUESTION_LIMIT: Duration = Duration::from_secs(5);
/// The same for a policy that asks other servers: time enough for several calls of 5 seconds, their default.
const CALLING_LIMIT: Duration = Duration::from_secs(60);
/// Questions at a time to a policy that asks other servers, each on a thread of its own; further ones wait.
const CALLING_QUESTIONS_MAX: usize = 64;
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
    /// For a policy that asks other servers.
    calling: Option<Calling>,
}

/// What a policy needs to ask other servers.
struct Calling {
    shared: send::Shared,
    questions: Arc<Semaphore>,
}

impl Policy {
    /// Compiles a policy of either version of the language. The original reads v0 only; what is right as v1 means the same in
    /// v0 or is an error there.
    ///
    /// # Errors
    /// The text of the parser of v0.
    pub(crate) fn compile(rego: &str, log: Logger) -> Result<Self, String> {
        // v1 first: the parser of v0 writes warnings about v1 words to standard error.
        let mut engine = engine(rego, false).or_else(|_| engine(rego, true))?;
        // The first question prepares the engine for all clones, and finds what the parser cannot see. What it answers does not
        // matter: there is no request yet, and a policy may have no rule of this name.
        engine.set_input(Value::new_object());
        let _answer = engine.eval_rule(QUERY.to_owned());
        let calling = rego.contains(send::NAME).then(|| Calling {
            shared: send::Shared::new(log),
            questions: Arc::new(Semaphore::new(CALLING_QUESTIONS_MAX)),
        });
        Ok(Self { engine, slow: AtomicBool::new(true), calling })
    }

    /// The value of `data.http.allow`; [`Value::Undefined`] when there is none.
    ///
    /// # Errors
    /// The policy failed or took too long.
    pub(crate) async fn ask(&self, input: Value) -> Result<Value, String> {
        if let Some(calling) = &self.calling {
            return self.ask_calling(calling, input).await;
        }
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

    /// Questions that may be asked at once now, of a policy that asks other servers.
    #[cfg(test)]
    pub(crate) fn free_turns(&self) -> usize {
        self.calling.as_ref().map_or(0, |calling| calling.questions.available_permits())
    }

    /// On a thread that may wait for other servers. Cancel safe: calls end when this is dropped.
    async fn ask_calling(&self, calling: &Calling, input: Value) -> Result<Value, String> {
        let end = Instant::now() + CALLING_LIMIT;
        let failed = |error: &dyn std::fmt::Display| format!("evaluating the policy: {error}");
        let turn = tokio::time::timeout(CALLING_LIMIT, calling.questions.clone().acquire_owned()).await;
        let turn =
            turn.map_err(|_| format!("{CALLING_QUESTIONS_MAX} other requests wait for servers the policy asks"))?;
        let turn = turn.map_err(|error| failed(&error))?;
        let cancel = CancellationToken::new();
        let _when_dropped = cancel.clone().drop_guard();
        let mut sender = Sender::new(calling.shared.clone(), Handle::current(), end, cancel);
        let mut engine = self.engine.clone();
        let evaluation = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let send = move |arguments: Vec<Value>| Ok(sender.send(&arguments));
            engine.add_extension(send::NAME.to_owned(), 1, Box::new(send)).map_err(|error| error.to_string())?;
            evaluate(engine, input, end.saturating_duration_since(Instant::now()))
        });
        evaluation.await.map_err(|error| failed(&error))?
    }
}

fn engine(rego: &str, v0: bool) -> Result<Engine, String> {
    let mut engine = Engine::new();
    engine.set_rego_v0(v0);
    // As in OPA, a function that fails is undefined and not the end.
    engine.set_strict_builtin_errors(false);
    functions::register(&mut engine)?;
    engine.add_policy("inline.rego".to_owned(), rego.to_owned()).map_err(|error| format!("{error:#}"))?;
    Ok(engine)
}

fn evaluate(mut engine: Engine, input: Value, limit: Duration) -> Result<Value, String> {
    engine.set_execution_timer_config(ExecutionTimerConfig { limit, check_interval: STEPS_PER_LOOK });
    engine.set_input(input);
    engine.eval_rule(QUERY.to_owned()).map_err(|error| format!("{error:#}"))
}
