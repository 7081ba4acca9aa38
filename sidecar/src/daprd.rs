//! The process `daprd`: arguments, log, signals, exit code.

use std::fs::OpenOptions;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use pillion_contract::Registry;
use pillion_core::DAPR_VERSION;
use pillion_core::log::{Level, LogOptions, LogSink, Logger};
use pillion_runtime::loops::Loops;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::environment::Environment;
use crate::options::{self, Command, Options, OptionsError};
use crate::sidecar::{End, Sidecar};

/// How long `--wait` waits, and how often it asks.
const WAIT_LIMIT: Duration = Duration::from_secs(60);
const WAIT_INTERVAL: Duration = Duration::from_millis(100);
/// Time the answer of a forced shutdown gets to reach its caller.
const FORCE_DELAY: Duration = Duration::from_millis(100);
/// Threads that serve, unless more are asked for: a sidecar is not to take a large machine from its app.
const THREADS_MAX: usize = 4;

/// Runs `daprd` with its arguments (without the program's name) until it ends: 0 after a graceful end, 1 after a fatal
/// error or a forced end, 2 for a command line that cannot be read.
pub fn main(arguments: &[String], registry: &Registry) -> ExitCode {
    let mut environment = Environment::of_process();
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
    let threads = serving_threads(&environment);
    let (runtime, serving) = match event_loop().and_then(|main| Ok((main, Serving::start(threads)?))) {
        Ok(started) => started,
        Err(error) => {
            log.fatal(format_args!("Fatal error from runtime: cannot start: {error}"));
            return ExitCode::FAILURE;
        }
    };
    environment.loops = serving.loops.clone();
    let code = runtime.block_on(run(options, environment, registry, log));
    runtime.shutdown_background();
    drop(serving);
    code
}

/// One thread for each processor this process may use but one, up to [`THREADS_MAX`]: the main thread takes one, and the application
/// beside this process wants it too. `GOMAXPROCS` says otherwise how many processors there are, as for the original. None with one.
fn serving_threads(environment: &Environment) -> usize {
    let asked = environment.non_empty("GOMAXPROCS").and_then(|text| text.trim().parse().ok());
    let processors = asked.filter(|processors: &usize| *processors > 0);
    let processors = processors.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    (processors - 1).min(THREADS_MAX)
}

fn event_loop() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// The threads that serve connections, each with a loop of its own. They end when this is dropped.
struct Serving {
    loops: Loops,
    _running: DropGuard,
}

impl Serving {
    /// With no thread the main loop serves.
    fn start(threads: usize) -> std::io::Result<Self> {
        let ended = CancellationToken::new();
        let mut handles = Vec::new();
        for number in 1..=threads {
            let (runtime, ended) = (event_loop()?, ended.clone());
            handles.push(runtime.handle().clone());
            std::thread::Builder::new().name(format!("serving-{number}")).spawn(move || {
                runtime.block_on(ended.cancelled());
                runtime.shutdown_background();
            })?;
        }
        Ok(Self { loops: Loops::new(handles), _running: ended.drop_guard() })
    }
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
    let late = mpsc::channel(1);
    Process { options, environment, registry, log, retiring: JoinSet::new(), late }.run(&mut signals).await
}

/// Takes as many open files as the system allows: each connection is one, and the usual soft limit of 1024 is soon reached.
fn allow_open_files(log: &Logger) {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }) {
        log.debug(format_args!("the limit of open files stays {:?}: {error}", limit.current));
    }
}

/// The sidecars of a process: one, and after a reload the one before until its last call has ended.
struct Process<'a> {
    options: Options,
    environment: Environment,
    registry: &'a Registry,
    log: Logger,
    retiring: JoinSet<()>,
    /// Ends that sidecars were asked for by calls they answered when they had a successor.
    late: (mpsc::Sender<End>, mpsc::Receiver<End>),
}

/// Why a sidecar does not go on as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Cause {
    Signal(Received),
    Api(End),
}

impl Process<'_> {
    async fn run(mut self, signals: &mut Signals) -> ExitCode {
        let mut sidecar = loop {
            match self.first(signals).await {
                Ok(Some(sidecar)) => break sidecar,
                Ok(None) => self.log.info("Reloading after a hangup signal"),
                Err(code) => return code,
            }
        };
        loop {
            let cause = tokio::select! {
                received = signals.next() => Cause::Signal(received),
                end = sidecar.ended() => Cause::Api(end),
                Some(end) = self.late.1.recv() => Cause::Api(end),
            };
            match cause {
                Cause::Signal(Received::Hangup) | Cause::Api(End::Restart) => {
                    match self.succeed(&sidecar, signals).await {
                        Ok(Some(next)) => {
                            let before = std::mem::replace(&mut sidecar, next);
                            self.retire(before, &sidecar);
                        }
                        Ok(None) => {}
                        Err(received) => return self.end(sidecar, Cause::Signal(received), signals).await,
                    }
                }
                cause => return self.end(sidecar, cause, signals).await,
            }
        }
    }

    /// Starts the first sidecar; `None` when it is to be started anew.
    async fn first(&self, signals: &mut Signals) -> Result<Option<Sidecar>, ExitCode> {
        let (options, environment) = (self.options.clone(), self.environment.clone());
        let start = Sidecar::start(options, environment, self.registry.clone(), self.log.clone());
        tokio::select! {
            started = start => started.map(Some).map_err(|error| {
                self.log.fatal(format_args!("Fatal error from runtime: {error}"));
                ExitCode::FAILURE
            }),
            // Nothing was served yet: what had been started ends with the future.
            received = signals.next() => match received {
                Received::Hangup => Ok(None),
                Received::End => Err(graceful(&self.log)),
            },
        }
    }

    /// Starts a successor. Without one, because something is wrong with what it would be made of, the sidecar goes on as it was.
    async fn succeed(&self, sidecar: &Sidecar, signals: &mut Signals) -> Result<Option<Sidecar>, Received> {
        let (options, environment) = (self.options.clone(), self.environment.clone());
        let start = sidecar.successor(options, environment, self.registry.clone(), self.log.clone());
        let mut start = std::pin::pin!(start);
        loop {
            tokio::select! {
                started = start.as_mut() => match started {
                    Ok(next) => return Ok(Some(next)),
                    Err(error) => {
                        self.log.error(format_args!(
                            "Reload failed, everything stays in effect as it was: {error}; correct it and send SIGHUP"
                        ));
                        sidecar.stay();
                        return Ok(None);
                    }
                },
                received = signals.next() => if received == Received::End {
                    return Err(received);
                },
            }
        }
    }

    fn retire(&mut self, before: Sidecar, successor: &Sidecar) {
        while self.retiring.try_join_next().is_some() {}
        let (log, late, mut asked) = (self.log.clone(), self.late.0.clone(), before.asked());
        let retired = before.retire(successor);
        self.retiring.spawn(async move {
            let forward = async {
                let is_end = |asked: &Option<End>| matches!(asked, Some(End::Requested | End::Forced));
                if let Some(end) = asked.wait_for(is_end).await.ok().and_then(|asked| asked.clone()) {
                    let _ = late.try_send(end); // one that waits already is enough
                }
                std::future::pending().await
            };
            let retired = tokio::select! {
                retired = retired => retired,
                never = forward => never,
            };
            match retired {
                Ok(()) => log.info("Reloaded; the runtime before has ended"),
                Err(_) => {
                    log.warn("Reloaded; calls that began before were cut off after --dapr-graceful-shutdown-seconds")
                }
            }
        });
    }

    async fn end(mut self, sidecar: Sidecar, cause: Cause, signals: &mut Signals) -> ExitCode {
        let log = self.log.clone();
        if cause == Cause::Api(End::Forced) {
            tokio::time::sleep(FORCE_DELAY).await;
            return ExitCode::FAILURE;
        }
        let asked = sidecar.asked();
        let block = self.options.block_shutdown.filter(|_| cause == Cause::Signal(Received::End));
        let stop = async {
            if let Some(duration) = block {
                sidecar.block(duration).await;
            }
            let stopped = sidecar.stop().await;
            while self.retiring.join_next().await.is_some() {} // each has its own limit
            stopped
        };
        tokio::select! {
            stopped = stop => match (stopped, &*asked.borrow()) {
                // Also when a signal came just before.
                (Ok(()), Some(End::Failed(problem))) => {
                    log.fatal(format_args!("Fatal error from runtime: {problem}"));
                    ExitCode::FAILURE
                }
                (Ok(()), _) => graceful(&log),
                (Err(error), _) => {
                    log.fatal(error);
                    ExitCode::FAILURE
                }
            },
            () = signals.second_end() => {
                log.fatal("Received a second signal; ending at once");
                ExitCode::FAILURE
            }
        }
    }
}

fn graceful(log: &Logger) -> ExitCode {
    log.info("Daprd shutdown gracefully");
    ExitCode::SUCCESS
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
