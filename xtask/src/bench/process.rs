//! Child processes of the bench and what the kernel says of them: CPU time, resident memory.
//!
//! *Invariant:* a [`Process`] ends with its owner: asked first (SIGTERM), killed after a grace time.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::http1::{Message, Parsed, parse};

/// Time between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(3);
/// Time between two looks at something awaited.
const LOOK: Duration = Duration::from_millis(2);
/// Clock ticks per second in `/proc/<pid>/stat` (USER_HZ, 100 on every Linux architecture Rust supports).
const TICK: Duration = Duration::from_millis(10);

/// A running child with its log file.
pub(crate) struct Process {
    /// What it does in the measured path, for the report: `sidecar of the caller`, `nginx hop 1`.
    pub(crate) role: String,
    child: Child,
    log: PathBuf,
    /// Started at this moment.
    pub(crate) started: Instant,
}

impl Process {
    /// Starts `command` with its output in `<directory>/<role>.log`. Standard input is a pipe that closes with us.
    ///
    /// # Errors
    /// When the program cannot be started, naming it.
    pub(crate) fn start(role: &str, mut command: Command, directory: &Path) -> Result<Self> {
        let log = directory.join(format!("{}.log", role.replace([' ', '/'], "-")));
        let out = File::create(&log).with_context(|| format!("creating {}", log.display()))?;
        let started = Instant::now();
        let child = command
            .stdin(Stdio::piped())
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn()
            .with_context(|| format!("starting {}", Path::new(command.get_program()).display()))?;
        Ok(Self { role: role.to_owned(), child, log, started })
    }

    /// Starts this program again as the echo app and reads its port.
    ///
    /// # Errors
    /// When it cannot be started or does not say its port.
    pub(crate) fn start_echo(role: &str, directory: &Path) -> Result<(Self, u16)> {
        Self::start_own(role, "bench-echo", directory)
    }

    /// Starts this program again as the echo app for gRPC and reads its port.
    ///
    /// # Errors
    /// As [`Self::start_echo`].
    pub(crate) fn start_grpc_echo(role: &str, directory: &Path) -> Result<(Self, u16)> {
        Self::start_own(role, "bench-echo-grpc", directory)
    }

    fn start_own(role: &str, command: &str, directory: &Path) -> Result<(Self, u16)> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg(command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting the echo app")?;
        let out = child.stdout.take().context("the echo app has no output")?;
        let mut line = String::new();
        BufReader::new(out).read_line(&mut line)?;
        let port = line.trim().parse().context("the echo app did not say its port")?;
        let log = directory.join("echo.log");
        Ok((Self { role: role.to_owned(), child, log, started: Instant::now() }, port))
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Fails with the end of the log when the process has ended.
    ///
    /// # Errors
    /// The exit status and the last lines of its output.
    pub(crate) fn still_runs(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("{} ended ({status}):\n{}", self.role, self.log_end());
        }
        Ok(())
    }

    /// The last lines the process wrote.
    pub(crate) fn log_end(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(12)..].join("\n")
    }

    /// Waits until `GET path` on `port` answers `status`.
    ///
    /// # Errors
    /// When the process ends first or `limit` passes; with the end of its log.
    pub(crate) fn await_status(&mut self, port: u16, path: &str, status: u16, limit: Duration) -> Result<()> {
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        let mut last = "no connection".to_owned();
        let deadline = Instant::now() + limit;
        while Instant::now() < deadline {
            self.still_runs()?;
            match exchange(port, request.as_bytes()) {
                Ok(message) if message.status == status => return Ok(()),
                Ok(message) => last = format!("status {}", message.status),
                Err(error) => last = format!("{error:#}"),
            }
            std::thread::sleep(LOOK);
        }
        bail!("{} did not answer {status} to GET {path} in {limit:?} ({last}):\n{}", self.role, self.log_end())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let process = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw);
        if let Some(process) = process {
            let _ = rustix::process::kill_process(process, rustix::process::Signal::TERM); // may have ended
        }
        let deadline = Instant::now() + GRACE;
        while Instant::now() < deadline {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(LOOK);
        }
        let _ = self.child.kill(); // may have ended meanwhile
        let _ = self.child.wait(); // reaps it; nothing to do with the status
    }
}

/// One request on a connection of its own.
///
/// # Errors
/// When nobody listens, or the answer is not complete within two seconds.
pub(crate) fn exchange(port: u16, request: &[u8]) -> Result<Message<'static>> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    stream.write_all(request)?;
    let mut received = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        match parse(&received, true) {
            Parsed::Complete(message) => return Ok(message.into_owned()),
            Parsed::Broken(why) => bail!("{why}"),
            Parsed::Partial => {}
        }
        match stream.read(&mut chunk)? {
            0 => bail!("connection closed before the answer was complete"),
            count => received.extend_from_slice(&chunk[..count]),
        }
    }
}

/// A port free at this moment.
///
/// # Errors
/// When the system has none left.
pub(crate) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0").context("asking for a free port")?.local_addr()?.port())
}

/// CPU time a process has used so far.
pub(crate) struct CpuTime {
    /// Nanoseconds by thread, from `schedstat`.
    threads: HashMap<String, u64>,
    /// utime + stime of the whole process, ended threads included, from `stat`.
    total: Duration,
}

impl CpuTime {
    /// Reads the counters of process `id`; zero when it is gone.
    pub(crate) fn read(id: u32) -> Self {
        let mut threads = HashMap::new();
        for entry in fs::read_dir(format!("/proc/{id}/task")).into_iter().flatten().flatten() {
            let text = fs::read_to_string(entry.path().join("schedstat")).unwrap_or_default();
            if let Some(spent) = text.split(' ').next().and_then(|field| field.parse().ok()) {
                threads.insert(entry.file_name().to_string_lossy().into_owned(), spent);
            }
        }
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        Self { threads, total: TICK * u32::try_from(stat_ticks(&stat)).unwrap_or(u32::MAX) }
    }

    /// CPU time since `before`: to the nanosecond where no thread ended meanwhile, else to the tick.
    pub(crate) fn since(&self, before: &Self) -> Duration {
        if before.threads.keys().any(|id| !self.threads.contains_key(id)) {
            return self.total.saturating_sub(before.total);
        }
        let spent =
            self.threads.iter().map(|(id, now)| now.saturating_sub(before.threads.get(id).copied().unwrap_or(0))).sum();
        Duration::from_nanos(spent)
    }
}

/// utime + stime, fields 14 and 15 of `/proc/<pid>/stat`; the name in field 2 may hold blanks and brackets.
fn stat_ticks(stat: &str) -> u64 {
    let Some((_, after_name)) = stat.rsplit_once(')') else {
        return 0;
    };
    after_name.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum()
}

/// Resident memory of process `id` in KiB; 0 when it is gone.
pub(crate) fn resident_kib(id: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|value| value.split_whitespace().next())
        .and_then(|number| number.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_survive_a_name_with_brackets() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 2 3 4 31 11 0 0 20 0 1 0 5";
        assert_eq!(stat_ticks(stat), 42);
    }

    #[test]
    fn own_work_is_seen() {
        let id = std::process::id();
        let before = CpuTime::read(id);
        let start = Instant::now();
        let mut sum = 0_u64;
        while start.elapsed() < Duration::from_millis(60) {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(CpuTime::read(id).since(&before) >= Duration::from_millis(5));
        assert!(resident_kib(id) > 100);
    }

    #[test]
    fn a_process_that_ends_early_shows_its_last_words() {
        let directory = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo port taken; exit 3"]);
        let mut process = Process::start("shell", command, directory.path()).unwrap();
        let error = process.await_status(1, "/", 200, Duration::from_secs(5)).unwrap_err();
        assert!(format!("{error:#}").contains("port taken"), "{error:#}");
    }
}
