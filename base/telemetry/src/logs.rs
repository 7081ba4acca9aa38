//! Log lines for an OpenTelemetry collector.
//!
//! *Job:* see the lines a [`Logger`] writes and send them in batches. *Neighbours:* the sidecar gives the tap to its logger and
//! runs the worker. *Invariant:* a line is written where it always was, sent or not; seeing one never waits.

mod messages;

use std::sync::Arc;
use std::time::SystemTime;

use pillion_core::log::{FieldValue, Level, LogLine, LogTap, LogTrace, Logger};
use tokio_util::sync::CancellationToken;

use crate::export::{
    AnyValue, BatchSettings, Collector, KeyValue, OtlpSettings, Queue, Reporter, Resource, SCHEMA, Scope, Signal,
    Target, Value, Worker, frame, nanoseconds, text_value,
};
use messages::{ExportLogsServiceRequest, LogMessage, ResourceLogs, ScopeLogs};

/// A line that waits to be sent.
#[derive(Debug)]
struct Record {
    time: SystemTime,
    level: Level,
    scope: &'static str,
    message: String,
    fields: Vec<(String, Field)>,
    trace: Option<LogTrace>,
}

#[derive(Debug)]
enum Field {
    Text(String),
    Number(u64),
}

/// Takes note of lines.
struct Tap(Arc<Queue<Vec<Record>>>);

impl LogTap for Tap {
    fn line(&self, line: &LogLine<'_>) {
        let field = |(key, value): &(&str, FieldValue<'_>)| {
            let value = match value {
                FieldValue::Text(text) => Field::Text((*text).to_owned()),
                FieldValue::Number(number) => Field::Number(*number),
            };
            ((*key).to_owned(), value)
        };
        self.0.push(Record {
            time: line.time,
            level: line.level,
            scope: line.scope,
            message: line.message.to_owned(),
            fields: line.fields.iter().map(field).collect(),
            trace: line.trace,
        });
    }
}

/// Sends log lines.
pub struct LogExport(Worker<Vec<Record>>);

impl LogExport {
    /// What has to see the lines, and what sends them to a collector.
    ///
    /// # Errors
    /// An endpoint, header or certificate that cannot be used.
    pub fn new(
        settings: &OtlpSettings,
        batch: BatchSettings,
        resource: Resource,
        log: &Logger,
    ) -> Result<(Arc<dyn LogTap>, Self), String> {
        let collector = Collector::otlp(settings, Signal::Logs)?;
        let queue = Arc::new(Queue::new(&batch));
        let protocol = settings.protocol;
        let encode = Arc::new(move |lines: Vec<Record>| frame(&to_request(&lines, &resource), protocol));
        let reporter = Reporter::new("log lines", log.clone());
        let worker = Worker::new(queue.clone(), encode, Target::Collector(Box::new(collector)), batch, reporter);
        Ok((Arc::new(Tap(queue)), Self(worker)))
    }

    /// Sends lines until cancelled, then what is left, for at most three seconds.
    pub async fn run(self, cancel: CancellationToken) {
        self.0.run(cancel).await;
    }
}

/// The batch as a message, grouped by scope.
fn to_request(lines: &[Record], resource: &Resource) -> ExportLogsServiceRequest {
    let mut scopes: Vec<(&str, Vec<LogMessage>)> = Vec::new();
    for line in lines {
        let message = to_message(line);
        match scopes.iter_mut().find(|(name, _)| *name == line.scope) {
            Some((_, messages)) => messages.push(message),
            None => scopes.push((line.scope, vec![message])),
        }
    }
    let scope_logs = scopes
        .into_iter()
        .map(|(name, log_records)| ScopeLogs { scope: Some(Scope { name: name.to_owned() }), log_records })
        .collect();
    ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs {
            resource: Some(resource.message()),
            scope_logs,
            schema_url: SCHEMA.to_owned(),
        }],
    }
}

fn to_message(line: &Record) -> LogMessage {
    let attributes = line.fields.iter().map(|(key, value)| KeyValue {
        key: key.clone(),
        value: Some(match value {
            Field::Text(text) => text_value(text.clone()),
            Field::Number(number) => {
                AnyValue { value: Some(Value::Integer(i64::try_from(*number).unwrap_or(i64::MAX))) }
            }
        }),
    });
    let time = nanoseconds(line.time);
    LogMessage {
        time_unix_nano: time,
        severity_number: severity(line.level),
        severity_text: line.level.name().to_owned(),
        body: Some(text_value(line.message.clone())),
        attributes: attributes.collect(),
        flags: line.trace.map_or(0, |trace| u32::from(trace.flags)),
        trace_id: line.trace.map(|trace| trace.trace_id.to_vec()).unwrap_or_default(),
        span_id: line.trace.map(|trace| trace.span_id.to_vec()).unwrap_or_default(),
        observed_time_unix_nano: time,
    }
}

/// *Source:* `SeverityNumber` of the OpenTelemetry logs data model.
fn severity(level: Level) -> i32 {
    match level {
        Level::Debug => 5,
        Level::Info => 9,
        Level::Warning => 13,
        Level::Error => 17,
        Level::Fatal => 21,
    }
}

#[cfg(test)]
mod tests {
    use pillion_core::log::LogOptions;

    use super::*;

    #[test]
    fn lines_keep_their_scope_level_fields_and_span() {
        let options = LogOptions {
            level: Level::Info,
            as_json: false,
            app_id: "a".to_owned(),
            instance: String::new(),
            version: String::new(),
        };
        let log = Logger::new(options, Box::new(std::io::sink()));
        let queue = Arc::new(Queue::new(&BatchSettings::default()));
        log.set_tap(Arc::new(Tap(queue.clone())));
        let trace = LogTrace { trace_id: [1; 16], span_id: [2; 8], flags: 1 };
        log.warn("first");
        log.debug("not written, not sent");
        let fields = [("code", FieldValue::Number(204)), ("method", FieldValue::Text("GET /"))];
        log.scope("dapr.runtime.http-info").request(Level::Info, "HTTP API Called", &fields, Some(trace));
        log.error("third");
        let request = to_request(&queue.take().0, &Resource::default());
        let scopes = &request.resource_logs[0].scope_logs;
        let names: Vec<&str> = scopes.iter().map(|scope| scope.scope.as_ref().unwrap().name.as_str()).collect();
        assert_eq!(names, ["dapr.runtime", "dapr.runtime.http-info"]);
        let [first, third] = scopes[0].log_records.as_slice() else { panic!("{scopes:?}") };
        assert_eq!((first.severity_number, first.severity_text.as_str()), (13, "warning"));
        assert_eq!((first.body.clone(), first.trace_id.as_slice()), (Some(text_value("first".to_owned())), &[][..]));
        assert_eq!(third.severity_number, 17);
        let call = &scopes[1].log_records[0];
        assert_eq!((call.trace_id.as_slice(), call.span_id.as_slice(), call.flags), (&[1; 16][..], &[2; 8][..], 1));
        let code = &call.attributes[0];
        assert_eq!(
            (code.key.as_str(), code.value.clone()),
            ("code", Some(AnyValue { value: Some(Value::Integer(204)) }))
        );
    }
}
