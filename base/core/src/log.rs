//! Log lines as a value: a [`Logger`] is handed down, never looked up.
//!
//! The text form is the `key=value` form that tools reading the original match on
//! (`time="…" level=info msg="…" app_id=… instance=… scope=… type=log ver=…`); the JSON form has the same keys.

use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::sync::Arc;

use parking_lot::Mutex;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

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

struct Shared {
    options: LogOptions,
    sink: Mutex<LogSink>,
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
        Self { shared: Arc::new(Shared { options, sink: Mutex::new(sink) }), scope: "dapr.runtime" }
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

    /// Writes a debug line.
    pub fn debug(&self, message: impl fmt::Display) {
        self.write(Level::Debug, &message, &[]);
    }

    /// Writes an info line.
    pub fn info(&self, message: impl fmt::Display) {
        self.write(Level::Info, &message, &[]);
    }

    /// Writes a warning.
    pub fn warn(&self, message: impl fmt::Display) {
        self.write(Level::Warning, &message, &[]);
    }

    /// Writes an error line.
    pub fn error(&self, message: impl fmt::Display) {
        self.write(Level::Error, &message, &[]);
    }

    /// Writes the line that says why the process ends.
    pub fn fatal(&self, message: impl fmt::Display) {
        self.write(Level::Fatal, &message, &[]);
    }

    /// Writes a line with fields of its own beside the common ones.
    pub fn with_fields(&self, level: Level, message: impl fmt::Display, fields: &[(&str, String)]) {
        self.write(level, &message, fields);
    }

    fn write(&self, level: Level, message: &dyn fmt::Display, fields: &[(&str, String)]) {
        if !self.enabled(level) {
            return;
        }
        let time = OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default();
        let options = &self.shared.options;
        let message = message.to_string();
        let mut entries: Vec<(&str, &str)> = vec![("time", &time), ("level", level.name()), ("msg", &message)];
        let mut rest: Vec<(&str, &str)> = fields.iter().map(|(key, value)| (*key, value.as_str())).collect();
        if !options.app_id.is_empty() {
            rest.push(("app_id", &options.app_id));
        }
        rest.extend([
            ("instance", options.instance.as_str()),
            ("scope", self.scope),
            ("type", "log"),
            ("ver", &options.version),
        ]);
        rest.sort_unstable_by_key(|(key, _)| *key);
        entries.extend(rest);
        let mut line = if options.as_json { render_json(&entries) } else { render_text(&entries) };
        line.push('\n');
        let mut sink = self.shared.sink.lock();
        let _ = sink.write_all(line.as_bytes()); // a closed standard output must not stop the sidecar
        let _ = sink.flush(); // as above
    }
}

fn render_text(entries: &[(&str, &str)]) -> String {
    let mut out = String::with_capacity(256);
    for (key, value) in entries {
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(key);
        out.push('=');
        let plain = !value.is_empty() && value.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._/@^+".contains(&b));
        if plain {
            out.push_str(value);
        } else {
            quote(&mut out, value);
        }
    }
    out
}

fn quote(out: &mut String, value: &str) {
    out.push('"');
    for c in value.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => {
                let _ = write!(out, "\\x{:02x}", u32::from(c)); // writing to a String cannot fail
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

fn render_json(entries: &[(&str, &str)]) -> String {
    let map: serde_json::Map<String, serde_json::Value> =
        entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).into())).collect();
    serde_json::Value::Object(map).to_string()
}

#[cfg(test)]
mod tests {
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
}
