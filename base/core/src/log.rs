//! Log lines as a value: a [`Logger`] is handed down, never looked up.
//!
//! The text form is the `key=value` form that tools reading the original match on
//! (`time="…" level=info msg="…" app_id=… instance=… scope=… type=log ver=…`); the JSON form has the same keys. *Neighbours:*
//! `render` makes the lines, `output` writes them; a [`LogTap`] sees them too, for example to send them to a collector.
//! *Invariant:* a line that says what state the sidecar is in, or that something went wrong, is written before the call returns,
//! and so are all lines before it. Only lines of single requests may wait for a moment, to be written together.

mod output;
mod render;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use parking_lot::RwLock;

use output::{Output, Owned};
use render::Part;

/// How loud a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Per-request detail.
    Debug,
    /// A change of state.
    Info,
    /// Went on with a loss.
    Warning,
    /// Needs a human.
    Error,
    /// The process ends because of it.
    Fatal,
}

impl Level {
    /// Parses the value of `--log-level`.
    ///
    /// # Errors
    /// Names the accepted words.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "debug" => Ok(Self::Debug),
            "info" => Ok(Self::Info),
            "warn" | "warning" => Ok(Self::Warning),
            "error" => Ok(Self::Error),
            "fatal" => Ok(Self::Fatal),
            _ => Err(format!("invalid log level {text:?}: expected debug, info, warn, error or fatal")),
        }
    }

    /// The word of the log lines.
    pub fn name(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
            Self::Fatal => "fatal",
        }
    }
}

/// What all lines of one process part share.
pub struct LogOptions {
    /// Lines below it are dropped.
    pub level: Level,
    /// JSON lines instead of text.
    pub as_json: bool,
    /// `app_id` of each line; empty leaves the key out.
    pub app_id: String,
    /// `instance` of each line, normally the host name.
    pub instance: String,
    /// `ver` of each line.
    pub version: String,
}

/// Where rendered lines go.
pub type LogSink = Box<dyn std::io::Write + Send>;

/// The value of a field of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldValue<'a> {
    /// Text.
    Text(&'a str),
    /// A number, decimal in the line.
    Number(u64),
}

/// The span a line belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogTrace {
    /// Id of the trace.
    pub trace_id: [u8; 16],
    /// Id of the span.
    pub span_id: [u8; 8],
    /// Flags of the trace context.
    pub flags: u8,
}

/// A line before it is rendered.
#[derive(Clone, Copy, Debug)]
pub struct LogLine<'a> {
    /// When.
    pub time: SystemTime,
    /// How loud.
    pub level: Level,
    /// Which part of the sidecar says it.
    pub scope: &'static str,
    /// What it says.
    pub message: &'a str,
    /// Fields of its own.
    pub fields: &'a [(&'a str, FieldValue<'a>)],
    /// The span it belongs to.
    pub trace: Option<LogTrace>,
}

/// Sees every line that is written. Called on the thread that writes the line: it must not wait, nor write lines itself.
pub trait LogTap: Send + Sync {
    /// Takes note of a line.
    fn line(&self, line: &LogLine<'_>);
}

struct Shared {
    options: LogOptions,
    /// What all lines say, written already, by key; but the scope, which is not the same in all.
    common: Vec<(&'static str, Vec<u8>)>,
    output: Owned,
    tap: RwLock<Option<Arc<dyn LogTap>>>,
    /// There is a tap: spares the lock.
    tapped: AtomicBool,
}

/// Writes log lines of one scope; cheap to clone.
#[derive(Clone)]
pub struct Logger {
    shared: Arc<Shared>,
    scope: &'static str,
}

impl fmt::Debug for Logger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Logger({})", self.scope)
    }
}

impl Logger {
    /// Makes a logger that writes to `sink`.
    pub fn new(options: LogOptions, sink: LogSink) -> Self {
        let output = Owned(Output::new(sink));
        let mut common: Vec<_> = [
            ("app_id", options.app_id.as_str()),
            ("instance", &options.instance),
            ("type", "log"),
            ("ver", &options.version),
        ]
        .into_iter()
        .map(|(key, value)| (key, render::ready(options.as_json, key, value)))
        .collect();
        common.retain(|(key, _)| *key != "app_id" || !options.app_id.is_empty());
        let shared = Shared { options, common, output, tap: RwLock::default(), tapped: AtomicBool::new(false) };
        Self { shared: Arc::new(shared), scope: "dapr.runtime" }
    }

    /// Makes a logger that drops everything; for tests and tools.
    pub fn silent() -> Self {
        let options = LogOptions {
            level: Level::Fatal,
            as_json: false,
            app_id: String::new(),
            instance: String::new(),
            version: String::new(),
        };
        Self::new(options, Box::new(std::io::sink()))
    }

    /// The same target under another scope, for example `dapr.runtime.http`.
    pub fn scope(&self, scope: &'static str) -> Self {
        Self { shared: self.shared.clone(), scope }
    }

    /// Whether a line of this level would be written; lets hot paths skip the formatting.
    pub fn enabled(&self, level: Level) -> bool {
        level >= self.shared.options.level
    }

    /// Lets `tap` see every line from now on, in the place of the one before it.
    pub fn set_tap(&self, tap: Arc<dyn LogTap>) {
        *self.shared.tap.write() = Some(tap);
        self.shared.tapped.store(true, Ordering::Release);
    }

    /// Ends what [`Self::set_tap`] began, unless another tap is in its place by now.
    pub fn remove_tap(&self, tap: &Arc<dyn LogTap>) {
        let mut current = self.shared.tap.write();
        if current.as_ref().is_some_and(|own| Arc::ptr_eq(own, tap)) {
            *current = None;
            self.shared.tapped.store(false, Ordering::Release);
        }
    }

    /// Whether a tap sees the lines: only then is it worth while to tell which span a line belongs to.
    pub fn is_tapped(&self) -> bool {
        self.shared.tapped.load(Ordering::Acquire)
    }

    /// Writes the lines that still wait to be written together.
    pub fn flush(&self) {
        self.shared.output.0.flush();
    }

    /// Writes a debug line.
    pub fn debug(&self, message: impl fmt::Display) {
        self.say(Level::Debug, &message);
    }

    /// Writes an info line.
    pub fn info(&self, message: impl fmt::Display) {
        self.say(Level::Info, &message);
    }

    /// Writes a warning.
    pub fn warn(&self, message: impl fmt::Display) {
        self.say(Level::Warning, &message);
    }

    /// Writes an error line.
    pub fn error(&self, message: impl fmt::Display) {
        self.say(Level::Error, &message);
    }

    /// Writes the line that says why the process ends.
    pub fn fatal(&self, message: impl fmt::Display) {
        self.say(Level::Fatal, &message);
    }

    /// Writes a line with fields of its own beside the common ones. Debug and info lines may wait for a moment, as with
    /// [`Self::request`].
    pub fn with_fields(&self, level: Level, message: impl fmt::Display, fields: &[(&str, String)]) {
        if self.enabled(level) {
            let fields: Vec<_> = fields.iter().map(|(key, value)| (*key, FieldValue::Text(value))).collect();
            self.write(level, &message.to_string(), &fields, None, level <= Level::Info);
        }
    }

    /// Writes a line about one request. It may wait for some milliseconds and is then written together with others; the next
    /// line of another kind, [`Self::flush`] and the end of the logger write it at once.
    pub fn request(&self, level: Level, message: &str, fields: &[(&str, FieldValue<'_>)], trace: Option<LogTrace>) {
        if self.enabled(level) {
            self.write(level, message, fields, trace, level <= Level::Info);
        }
    }

    fn say(&self, level: Level, message: &dyn fmt::Display) {
        if self.enabled(level) {
            self.write(level, &message.to_string(), &[], None, false);
        }
    }

    fn write(
        &self,
        level: Level,
        message: &str,
        fields: &[(&str, FieldValue<'_>)],
        trace: Option<LogTrace>,
        may_wait: bool,
    ) {
        let options = &self.shared.options;
        let line = LogLine { time: SystemTime::now(), level, scope: self.scope, message, fields, trace };
        if self.is_tapped()
            && let Some(tap) = self.shared.tap.read().as_ref()
        {
            tap.line(&line);
        }
        let mut all = Vec::with_capacity(fields.len() + self.shared.common.len() + 1);
        let mut own = fields;
        // Both are by key already, or the order is put right below.
        for (key, text) in &self.shared.common {
            if *key == "type" {
                own = put_before(&mut all, own, "scope");
                all.push(("scope", Part::Field(FieldValue::Text(self.scope))));
            }
            own = put_before(&mut all, own, key);
            all.push((*key, Part::Ready(text)));
        }
        all.extend(own.iter().map(|(key, value)| (*key, Part::Field(*value))));
        if !all.is_sorted_by(|(one, _), (next, _)| one <= next) {
            all.sort_unstable_by_key(|(key, _)| *key);
        }
        let render = if options.as_json { render::json } else { render::text };
        let output = &self.shared.output.0;
        if may_wait {
            output.soon(|out, clock| render(out, clock, &line, &all));
        } else {
            output.now(|out, clock| render(out, clock, &line, &all));
        }
    }
}

/// Moves the fields that come before a key; gives the others.
fn put_before<'a>(
    all: &mut Vec<(&'a str, Part<'a>)>,
    own: &'a [(&'a str, FieldValue<'a>)],
    key: &str,
) -> &'a [(&'a str, FieldValue<'a>)] {
    let mut own = own;
    while let [(name, value), others @ ..] = own
        && *name < key
    {
        all.push((*name, Part::Field(*value)));
        own = others;
    }
    own
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use parking_lot::Mutex;

    use super::*;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logger(as_json: bool) -> (Logger, Buffer) {
        let buffer = Buffer::default();
        let options = LogOptions {
            level: Level::Info,
            as_json,
            app_id: "shop".into(),
            instance: "host".into(),
            version: "1.18.3".into(),
        };
        (Logger::new(options, Box::new(buffer.clone())), buffer)
    }

    #[test]
    fn text_lines_have_the_keys_that_tools_match() {
        let (log, buffer) = logger(false);
        log.scope("dapr.runtime.http").info("say \"hi\"\nthere");
        log.debug("dropped");
        let text = String::from_utf8(buffer.0.lock().clone()).unwrap();
        assert!(text.starts_with("time=\""), "{text}");
        let tail = "level=info msg=\"say \\\"hi\\\"\\nthere\" app_id=shop instance=host scope=dapr.runtime.http type=log ver=1.18.3\n";
        assert!(text.ends_with(tail), "{text}");
    }

    #[test]
    fn json_lines_parse() {
        let (log, buffer) = logger(true);
        log.with_fields(Level::Warning, "x", &[("code", "204".into())]);
        let value: serde_json::Value = serde_json::from_slice(&buffer.0.lock()).unwrap();
        assert_eq!(value["app_id"], "shop");
        assert_eq!(value["code"], "204");
        assert_eq!(value["level"], "warning");
    }

    #[test]
    fn lines_of_requests_come_in_order_and_soon() {
        let (log, buffer) = logger(false);
        let lines = || String::from_utf8(buffer.0.lock().clone()).unwrap().lines().count();
        let fields = [("code", FieldValue::Number(204)), ("zone", FieldValue::Text("a b"))];
        log.request(Level::Info, "HTTP API Called", &fields, None);
        log.warn("next");
        let text = String::from_utf8(buffer.0.lock().clone()).unwrap();
        let first = text.lines().next().unwrap();
        assert!(
            first.ends_with(
                "msg=\"HTTP API Called\" app_id=shop code=204 instance=host scope=dapr.runtime type=log ver=1.18.3 zone=\"a b\""
            ),
            "{text}"
        );
        assert_eq!(lines(), 2, "a warning is written at once, with all before it");
        log.request(Level::Info, "again", &[], None);
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while lines() < 3 && std::time::Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(lines(), 3, "written without anybody asking");
        log.request(Level::Info, "last", &[], None);
        drop(log);
        assert_eq!(lines(), 4, "the end of the logger writes what waits");
    }

    #[test]
    fn a_sink_that_is_slow_is_waited_for_and_nothing_is_lost() {
        #[derive(Clone, Default)]
        struct Slow(Buffer);
        impl std::io::Write for Slow {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                std::thread::sleep(Duration::from_millis(1));
                self.0.write(bytes)
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let (_, buffer) = logger(false);
        let options = LogOptions {
            level: Level::Info,
            as_json: true,
            app_id: "a".into(),
            instance: "i".into(),
            version: "v".into(),
        };
        let log = Logger::new(options, Box::new(Slow(buffer.clone())));
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for number in 0..20_000 {
                        log.request(Level::Info, "call", &[("number", FieldValue::Number(number))], None);
                    }
                });
            }
        });
        drop(log);
        let text = String::from_utf8(buffer.0.lock().clone()).unwrap();
        assert_eq!(text.lines().count(), 40_000);
        let whole = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["msg"] == "call";
        assert!(text.lines().all(whole));
    }

    #[test]
    fn a_tap_sees_lines_before_they_are_rendered() {
        #[derive(Default)]
        struct Seen(Mutex<Vec<String>>);
        impl LogTap for Seen {
            fn line(&self, line: &LogLine<'_>) {
                self.0.lock().push(format!("{} {} {:?}", line.level.name(), line.message, line.fields));
            }
        }
        let (log, _) = logger(false);
        let seen = Arc::new(Seen::default());
        let (tap, other): (Arc<dyn LogTap>, Arc<dyn LogTap>) = (seen.clone(), Arc::new(Seen::default()));
        log.set_tap(tap.clone());
        log.remove_tap(&other);
        log.warn("one");
        log.debug("dropped");
        log.with_fields(Level::Info, "two", &[("a", "b".to_owned())]);
        log.remove_tap(&tap);
        log.warn("three");
        assert_eq!(*seen.0.lock(), ["warning one []", "info two [(\"a\", Text(\"b\"))]"]);
    }
}
