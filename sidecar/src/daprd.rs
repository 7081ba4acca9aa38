//! The process `daprd`: arguments, log, signals, exit code.

use std::fs::OpenOptions;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use pillion_contract::Registry;
use pillion_core::DAPR_VERSION;
use pillion_core::log::{Level, LogOptions, LogSink, Logger};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::environment::Environment;
use crate::options::{self, Command, Options, OptionsError};
use crate::sidecar::{End, Sidecar};

/// How long `--wait` waits, and how often it asks.
const WAIT_LIMIT: Duration = Duration::from_secs(60);
const WAIT_INTERVAL: Duration = Duration::from_millis(100);
/// Time the answer of a forced shutdown gets to reach its caller.
const FORCE_DELAY: Duration = Duration::from_millis(100);

/// Runs `daprd` with its arguments (without the program's name) until it ends: 0 after a graceful end, 1 after a fatal
/// error or a forced end, 2 for a command line that cannot be read.
pub fn main(arguments: &[String], registry: &Registry) -> ExitCode {
    let environment = Environment::of_process();
    let options = match Command::parse(arguments, &environment) {
        Ok(Command::Run(options)) => *options,
        Ok(Command::Print(text)) => {
            print!("{text}");
            return ExitCode::SUCCESS;
        }
        Ok(Command::Wait(port)) => {
            wait_until_outbound_ready(port);
            return ExitCode::SUCCESS;
        }
        Err(OptionsError::Usage(text)) => {
            eprintln!("Usage of daprd:\n{}{text}", options::usage());
            return ExitCode::from(2);
        }
        Err(OptionsError::Invalid(text)) => {
            logger(None, &environment, Box::new(std::io::stdout()))
                .fatal(format_args!("Fatal error from runtime: {text}"));
            return ExitCode::FAILURE;
        }
    };
    let sink = match log_sink(&options) {
        Ok(sink) => sink,
        Err(text) => {
            logger(Some(&options), &environment, Box::new(std::io::stdout())).fatal(text);
            return ExitCode::FAILURE;
        }
    };
    let log = logger(Some(&options), &environment, sink);
    allow_open_files(&log);
    // One thread serves a sidecar: on the path of a call there is nothing to hand over between threads.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            log.fatal(format_args!("Fatal error from runtime: cannot start: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(run(options, environment, registry, log));
    runtime.shutdown_background();
    code
}

async fn run(options: Options, environment: Environment, registry: &Registry, log: Logger) -> ExitCode {
    let mut signals = match Signals::install(&log) {
        Ok(signals) => signals,
        Err(error) => {
            log.fatal(format_args!("Fatal error from runtime: cannot handle signals: {error}"));
            return ExitCode::FAILURE;
        }
    };
    log.info(format_args!("Starting Dapr Runtime -- version {DAPR_VERSION} -- commit "));
    log.info(format_args!("Log level set to: {}", options.log_level.name()));
    loop {
        match run_once(&options, &environment, registry, &log, &mut signals).await {
            Next::Exit(code) => return code,
            Next::Again => log.info("Reloading after a hangup signal"),
        }
    }
}

/// Takes as many open files as the system allows: each connection is one, and the usual soft limit of 1024 is soon reached.
fn allow_open_files(log: &Logger) {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }) {
        log.debug(format_args!("the limit of open files stays {:?}: {error}", limit.current));
    }
}

enum Next {
    Exit(ExitCode),
    /// A hangup: start anew in the same process.
    Again,
}

async fn run_once(
    options: &Options,
    environment: &Environment,
    registry: &Registry,
    log: &Logger,
    signals: &mut Signals,
) -> Next {
    let start = Sidecar::start(options.clone(), environment.clone(), registry.clone(), log.clone());
    let sidecar = tokio::select! {
        started = start => match started {
            Ok(sidecar) => sidecar,
            Err(error) => {
                log.fatal(format_args!("Fatal error from runtime: {error}"));
                return Next::Exit(ExitCode::FAILURE);
            }
        },
        // Nothing was served yet: what had been started ends with the future.
        received = signals.next() => return if received == Received::Hangup { Next::Again } else { graceful(log) },
    };
    let cause = tokio::select! {
        received = signals.next() => Cause::Signal(received),
        end = sidecar.ended() => Cause::Api(end),
    };
    if cause == Cause::Api(End::Forced) {
        tokio::time::sleep(FORCE_DELAY).await;
        return Next::Exit(ExitCode::FAILURE);
    }
    let block = options.block_shutdown.filter(|_| cause == Cause::Signal(Received::End));
    let stop = async {
        if let Some(duration) = block {
            sidecar.block(duration).await;
        }
        sidecar.stop().await
    };
    tokio::select! {
        stopped = stop => match stopped {
            Ok(()) if cause == Cause::Signal(Received::Hangup) => Next::Again,
            Ok(()) => graceful(log),
            Err(error) => {
                log.fatal(error);
                Next::Exit(ExitCode::FAILURE)
            }
        },
        () = signals.second_end() => {
            log.fatal("Received a second signal; ending at once");
            Next::Exit(ExitCode::FAILURE)
        }
    }
}

fn graceful(log: &Logger) -> Next {
    log.info("Daprd shutdown gracefully");
    Next::Exit(ExitCode::SUCCESS)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    Signal(Received),
    Api(End),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Received {
    End,
    Hangup,
}

/// The signals of the process, from the moment they are installed.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
    log: Logger,
}

impl Signals {
    fn install(log: &Logger) -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
            log: log.scope("dapr.signals"),
        })
    }

    async fn next(&mut self) -> Received {
        let (name, received) = tokio::select! {
            _ = self.interrupt.recv() => ("interrupt", Received::End),
            _ = self.terminate.recv() => ("terminated", Received::End),
            _ = self.hangup.recv() => ("hangup", Received::Hangup),
        };
        self.log.info(format_args!("Received signal '{name}'; beginning shutdown"));
        received
    }

    /// A further request to end, while one is being followed; hangups do not count.
    async fn second_end(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

fn logger(options: Option<&Options>, environment: &Environment, sink: LogSink) -> Logger {
    let log_options = LogOptions {
        level: options.map_or(Level::Info, |options| options.log_level),
        as_json: options.is_some_and(|options| options.log_as_json),
        app_id: options.map(|options| options.app_id.clone()).unwrap_or_default(),
        instance: environment.host_name.clone(),
        version: DAPR_VERSION.to_owned(),
    };
    Logger::new(log_options, sink)
}

fn log_sink(options: &Options) -> Result<LogSink, String> {
    let Some(path) = &options.log_file else { return Ok(Box::new(std::io::stdout())) };
    let file = OpenOptions::new().create(true).append(true).open(path);
    file.map(|file| Box::new(file) as LogSink)
        .map_err(|error| format!("cannot write the log file {}: {error}; check --log-file", path.display()))
}

/// Asks until the sidecar on `port` can call out, at most a minute. *Source:* spec flags.md §1 `--wait`.
fn wait_until_outbound_ready(port: u16) {
    let begin = Instant::now();
    while begin.elapsed() < WAIT_LIMIT {
        if is_outbound_ready(port).unwrap_or(false) {
            return;
        }
        std::thread::sleep(WAIT_INTERVAL);
    }
    eprintln!("the sidecar on port {port} was not ready within {} seconds", WAIT_LIMIT.as_secs());
}

fn is_outbound_ready(port: u16) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(("localhost", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    stream.write_all(b"GET /v1.0/healthz/outbound HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut head = [0u8; 12];
    stream.read_exact(&mut head)?;
    Ok(&head[9..] == b"204" || &head[9..] == b"200")
}
