//! What one test lives in: a directory, a runtime directory, a mark on every process it starts.

use std::fs::File;
use std::io::Read as _;
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Longest time anything may take here.
const LIMIT: Duration = Duration::from_secs(30);

/// Variable that marks the processes of a test; its value is the test's directory.
const MARK: &str = "PILLION_CLI_TEST";

pub(crate) struct World {
    directory: tempfile::TempDir,
    program: PathBuf,
}

impl World {
    pub(crate) fn new() -> Self {
        let own = std::env::current_exe().expect("this program has a file");
        Self {
            directory: tempfile::tempdir().expect("a temporary directory"),
            program: std::env::var_os("PILLION_BIN").map_or(own, PathBuf::from),
        }
    }

    pub(crate) fn path(&self) -> PathBuf {
        std::fs::canonicalize(self.directory.path()).expect("the directory of the test")
    }

    /// Whether the sidecar is the stand-in.
    pub(crate) fn is_fake(&self) -> bool {
        std::env::var_os("PILLION_BIN").is_none()
    }

    pub(crate) fn runtime(&self) -> PathBuf {
        self.path().join("runtime")
    }

    /// Writes a file below the test's directory.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a file below the directory")).expect("a directory");
        std::fs::write(&path, text).expect("a file that can be written");
        path
    }

    pub(crate) fn directory(&self, name: &str) -> PathBuf {
        let path = self.path().join(name);
        std::fs::create_dir_all(&path).expect("a directory");
        path
    }

    /// The CLI with arguments, not started yet.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .arg0("dapr")
            .args(arguments)
            .current_dir(self.directory.path())
            .env("DAPR_RUNTIME_PATH", self.runtime())
            .env(MARK, self.directory.path())
            .env_remove("PILLION_DAPRD")
            .stdin(Stdio::null());
        command
    }

    /// Runs the CLI to its end.
    pub(crate) fn dapr(&self, arguments: &[&str]) -> Ended {
        Ended::of(self.command(arguments).output().expect("the CLI can be started"))
    }

    /// Starts the CLI; its output goes to a file.
    pub(crate) fn start(&self, arguments: &[&str]) -> Running {
        self.start_command(self.command(arguments))
    }

    pub(crate) fn start_command(&self, mut command: Command) -> Running {
        let log = self.path().join(format!("output-{}.log", self.marked().len()));
        let file = File::create(&log).expect("a log file");
        let child = command
            .stdout(file.try_clone().expect("a second handle"))
            .stderr(file)
            .spawn()
            .expect("the CLI can be started");
        Running { child, log }
    }

    /// The processes of this test that are not this program: IDs and command lines.
    pub(crate) fn marked(&self) -> Vec<(u32, String)> {
        let mark = format!("{MARK}={}", self.directory.path().display());
        let Ok(entries) = std::fs::read_dir("/proc") else {
            return Vec::new();
        };
        let ids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        ids.filter(|id| *id != std::process::id())
            .filter(|id| {
                let environment = std::fs::read(format!("/proc/{id}/environ")).unwrap_or_default();
                environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes())
            })
            .map(|id| {
                let line = std::fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
                (id, String::from_utf8_lossy(&line).replace('\0', " "))
            })
            .collect()
    }

    pub(crate) fn nothing_is_left(&self) {
        eventually("no process is left", || {
            let left = self.marked();
            if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
        });
        let records = std::fs::read_dir(self.runtime().join(".dapr/run")).into_iter().flatten().flatten();
        let alive: Vec<_> = records.map(|entry| entry.file_name()).collect();
        assert!(alive.len() <= 4, "records of dead commands are removed by the next list: {alive:?}");
        assert!(self.dapr(&["list"]).stdout.contains("No Dapr instances found."));
    }

    /// A port nobody listens on now.
    pub(crate) fn free_port(&self) -> u16 {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        listener.local_addr().expect("a bound port").port()
    }

    /// One value of an instance in `list -o json`.
    pub(crate) fn listed(&self, app_id: &str, key: &str) -> String {
        let list = self.dapr(&["list", "-o", "json"]).stdout;
        let parsed: serde_json::Value = serde_json::from_str(&list).expect("list prints JSON");
        let all = parsed.as_array().expect("a list");
        let own = all.iter().find(|instance| instance["appId"] == app_id);
        own.map_or_else(String::new, |own| own[key].to_string().trim_matches('"').to_owned())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for (id, _) in self.marked() {
            kill(id, rustix::process::Signal::KILL);
        }
    }
}

/// What a command that has ended said.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    fn of(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Fails unless the code is this one.
    pub(crate) fn with_code(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:#?}");
        self
    }
}

/// A command under way.
pub(crate) struct Running {
    child: Child,
    log: PathBuf,
}

impl Running {
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn output(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub(crate) fn says(&self, part: &str) {
        eventually(&format!("the output holds {part:?}"), || {
            let output = self.output();
            if output.contains(part) { Ok(()) } else { Err(output) }
        });
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        kill(self.id(), signal);
    }

    /// Waits for the end and gives the exit code; -1 after a signal.
    pub(crate) fn code(&mut self) -> i32 {
        let deadline = Instant::now() + LIMIT;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().expect("our own child") {
                return status.code().unwrap_or(-1);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("the command does not end: {}", self.output());
    }
}

pub(crate) fn kill(id: u32, signal: rustix::process::Signal) {
    let id = i32::try_from(id).ok().and_then(rustix::process::Pid::from_raw).expect("a process ID");
    let _ = rustix::process::kill_process(id, signal); // it has ended already
}

/// Looks again and again until it is right; fails with what was seen last.
pub(crate) fn eventually(what: &str, mut look: impl FnMut() -> Result<(), String>) {
    let deadline = Instant::now() + LIMIT;
    loop {
        match look() {
            Ok(()) => return,
            Err(seen) if Instant::now() > deadline => {
                panic!("not so after {} s: {what}; seen: {seen}", LIMIT.as_secs())
            }
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}

/// The body of a GET request.
pub(crate) fn get(port: &str, path: &str) -> String {
    use std::io::Write as _;
    let mut text = String::new();
    if let Ok(mut stream) = TcpStream::connect(format!("127.0.0.1:{port}")) {
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        let _ = stream.write_all(request.as_bytes()).and_then(|()| stream.read_to_string(&mut text).map(|_| ())); // the text tells
    }
    text
}

pub(crate) fn text_of(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}
