//! The process `sentry`: arguments, log, signals, exit code.

use std::fs::OpenOptions;
use std::process::ExitCode;

use pillion_core::DAPR_VERSION;
use pillion_core::log::{Level, LogOptions, LogSink, Logger};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::environment::Environment;
use crate::options::{self, Options, OptionsError};
use crate::run::run;

/// Runs sentry with its arguments (without the program's name) until it ends: 0 after a signal, 1 after a fatal error, 2 for a
/// command line that cannot be read.
#[must_use]
pub fn main(arguments: &[String]) -> ExitCode {
    let options = match Options::parse(arguments, &Environment::of_process()) {
        Ok(options) => options,
        Err(OptionsError::Usage(text)) if text.is_empty() => {
            print!("Usage of sentry:\n{}", options::usage());
            return ExitCode::SUCCESS;
        }
        Err(OptionsError::Usage(text)) => {
            eprintln!("{text}\nUsage of sentry:\n{}{text}", options::usage());
            return ExitCode::from(2);
        }
        Err(error @ OptionsError::Invalid(_)) => {
            logger(Level::Info, false, Box::new(std::io::stdout())).fatal(error);
            return ExitCode::FAILURE;
        }
    };
    let log = match log_sink(&options) {
        Ok(sink) => logger(options.log_level, options.log_as_json, sink),
        Err(text) => {
            logger(options.log_level, options.log_as_json, Box::new(std::io::stdout())).fatal(text);
            return ExitCode::FAILURE;
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            log.fatal(format_args!("cannot start: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(until_signal(options, &log));
    runtime.shutdown_background();
    code
}

async fn until_signal(options: Options, log: &Logger) -> ExitCode {
    let signals = signal(SignalKind::interrupt()).and_then(|first| Ok((first, signal(SignalKind::terminate())?)));
    let (interrupt, terminate) = match signals {
        Ok(signals) => signals,
        Err(error) => {
            log.fatal(format_args!("cannot handle signals: {error}"));
            return ExitCode::FAILURE;
        }
    };
    log.info(format_args!("Starting Dapr Sentry certificate authority -- version {DAPR_VERSION} -- commit "));
    log.info(format_args!("Log level set to: {}", options.log_level.name()));
    for warning in &options.warnings {
        log.warn(warning);
    }
    let cancel = CancellationToken::new();
    let ending = cancel_on_signal(interrupt, terminate, cancel.clone(), log.clone());
    let service = run(options, log.clone(), cancel);
    tokio::pin!(service);
    let ended = tokio::select! {
        ended = &mut service => ended,
        () = ending => service.await,
    };
    match ended {
        Ok(()) => {
            log.info("Sentry shut down gracefully");
            ExitCode::SUCCESS
        }
        Err(error) => {
            log.fatal(error);
            ExitCode::FAILURE
        }
    }
}

async fn cancel_on_signal(mut interrupt: Signal, mut terminate: Signal, cancel: CancellationToken, log: Logger) {
    let name = tokio::select! {
        _ = interrupt.recv() => "interrupt",
        _ = terminate.recv() => "terminated",
    };
    log.scope("dapr.signals").info(format_args!("Received signal '{name}'; beginning shutdown"));
    cancel.cancel();
}

fn logger(level: Level, as_json: bool, sink: LogSink) -> Logger {
    let options = LogOptions {
        level,
        as_json,
        app_id: String::new(),
        instance: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        version: DAPR_VERSION.to_owned(),
    };
    Logger::new(options, sink).scope("dapr.sentry")
}

fn log_sink(options: &Options) -> Result<LogSink, String> {
    let Some(path) = &options.log_file else { return Ok(Box::new(std::io::stdout())) };
    let file = OpenOptions::new().create(true).append(true).open(path);
    file.map(|file| Box::new(file) as LogSink)
        .map_err(|error| format!("cannot write the log file {}: {error}; check --log-file", path.display()))
}
