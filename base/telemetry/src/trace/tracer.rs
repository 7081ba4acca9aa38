//! Starts spans and hands finished ones to the exporters.
//!
//! *Invariant:* switched off it costs one comparison; a call that is not sampled costs two random numbers, no allocation and no
//! lock; ending a span never waits.

use std::sync::Arc;
use std::time::SystemTime;

use pillion_core::log::Logger;

use super::attributes::Attributes;
use super::context::TraceContext;
use super::export::{ExportWorker, ExporterSettings, Outlets};
use super::ids::IdGenerator;
use super::sampler::{Sampler, sampling_rate};
use super::span::{DAPR_SCOPE, Span, SpanKind, SpanRecord};
use crate::export::{BatchSettings, Resource};

/// What a [`Tracer`] is made of.
pub struct TracerSettings {
    /// `samplingRate` as written. *Source:* spec metrics.md §5.1 for its meaning.
    pub sampling_rate: String,
    /// Where spans go; all at once.
    pub exporters: Vec<ExporterSettings>,
    /// Attributes of the sidecar itself, `service.name` among them.
    pub resource: Resource,
    /// How spans are gathered.
    pub batch: BatchSettings,
}

/// Starts spans; cheap to clone. The default one is off.
#[derive(Clone, Debug, Default)]
pub struct Tracer(Mode);

#[derive(Clone, Debug, Default)]
enum Mode {
    /// The rate is 0: contexts are headers like any other.
    #[default]
    Off,
    /// No rate and no exporter: contexts are passed on unchanged, nothing is recorded.
    Pass,
    /// Each call gets a span id of its own.
    On(Arc<Recorder>),
}

#[derive(Debug)]
struct Recorder {
    sampler: Sampler,
    ids: IdGenerator,
    outlets: Arc<Outlets>,
}

/// What starting a span gave.
#[derive(Debug, Default)]
pub struct Started {
    /// The context to pass on; `None` when there is none.
    pub context: Option<TraceContext>,
    /// The span, when it is recorded.
    pub span: Option<Span>,
}

impl Tracer {
    /// Makes a tracer and the workers that have to run for its spans to get anywhere.
    ///
    /// # Errors
    /// An exporter's settings cannot be used; the text says which.
    pub fn new(settings: TracerSettings, log: &Logger) -> Result<(Self, Vec<ExportWorker>), String> {
        let rate = sampling_rate(&settings.sampling_rate);
        let sampler = Sampler::new(rate);
        log.info(format_args!("Dapr trace sampler initialized: {sampler}"));
        if rate == 0.0 {
            return Ok((Self(Mode::Off), Vec::new()));
        }
        if settings.sampling_rate.is_empty() && settings.exporters.is_empty() {
            return Ok((Self(Mode::Pass), Vec::new()));
        }
        let resource = Arc::new(settings.resource);
        let (mut outlets, mut workers) = (Vec::new(), Vec::new());
        for exporter in settings.exporters {
            let (outlet, worker) = ExportWorker::new(exporter, &resource, settings.batch.clone(), log)?;
            outlets.push(outlet);
            workers.push(worker);
        }
        let recorder = Recorder { sampler, ids: IdGenerator::new(), outlets: Arc::new(Outlets::new(outlets)) };
        Ok((Self(Mode::On(Arc::new(recorder))), workers))
    }

    /// Whether the sidecar takes no notice of trace contexts at all.
    pub fn is_off(&self) -> bool {
        matches!(self.0, Mode::Off)
    }

    /// Whether calls get span ids of their own.
    pub fn is_on(&self) -> bool {
        matches!(self.0, Mode::On(_))
    }

    /// Starts a span below `parent`, or a new trace. `name` is only asked when the span is recorded.
    pub fn start(&self, kind: SpanKind, parent: Option<TraceContext>, name: impl FnOnce() -> String) -> Started {
        let recorder = match &self.0 {
            Mode::Off => return Started::default(),
            Mode::Pass => return Started { context: parent, span: None },
            Mode::On(recorder) => recorder,
        };
        let context = recorder.context(parent);
        let span = context.is_sampled().then(|| {
            let now = SystemTime::now();
            let record = Box::new(SpanRecord {
                context,
                parent: parent.map(|parent| parent.span_id),
                trace_state: String::new(),
                name: name(),
                kind,
                scope: DAPR_SCOPE,
                start: now,
                end: now,
                attributes: Attributes::with_room(),
                events: Vec::new(),
                status: super::span::SpanStatus::Unset,
            });
            Span::new(record, recorder.outlets.clone())
        });
        Started { context: Some(context), span }
    }

    /// A context below `parent` for a span that is told of later, with [`Self::record`]; `None` unless spans are recorded.
    pub fn context(&self, parent: Option<TraceContext>) -> Option<TraceContext> {
        match &self.0 {
            Mode::On(recorder) => Some(recorder.context(parent)),
            Mode::Off | Mode::Pass => None,
        }
    }

    /// Hands over a span with times and ids of its own; one whose context is not sampled is dropped.
    pub fn record(&self, record: SpanRecord) {
        if let Mode::On(recorder) = &self.0
            && record.context.is_sampled()
        {
            recorder.outlets.take(Box::new(record));
        }
    }
}

impl Recorder {
    fn context(&self, parent: Option<TraceContext>) -> TraceContext {
        let trace_id = parent.map_or_else(|| self.ids.trace_id(), |parent| parent.trace_id);
        let flags = parent.map_or(0, |parent| parent.flags);
        let sampled = self.sampler.records(parent, trace_id);
        TraceContext { trace_id, span_id: self.ids.span_id(), flags }.sampled(sampled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tracer(rate: &str) -> Tracer {
        let settings = TracerSettings {
            sampling_rate: rate.to_owned(),
            exporters: Vec::new(),
            resource: Resource::default(),
            batch: BatchSettings::default(),
        };
        Tracer::new(settings, &Logger::silent()).unwrap().0
    }

    #[test]
    fn the_rate_decides_what_is_done() {
        let parent = TraceContext { trace_id: [1; 16], span_id: [2; 8], flags: 1 };
        let unsampled = TraceContext { flags: 0, ..parent };
        let start = |rate, parent| tracer(rate).start(SpanKind::Client, parent, String::new);
        assert!(start("0", Some(parent)).context.is_none());
        let passed = start("", Some(parent));
        assert!((passed.context, passed.span.is_none()) == (Some(parent), true));
        assert!(start("", None).context.is_none());

        let below = start("1", Some(parent));
        let context = below.context.unwrap();
        assert_eq!((context.trace_id, context.flags), (parent.trace_id, 1));
        assert_ne!(context.span_id, parent.span_id);
        assert_eq!(below.span.unwrap().context(), context);

        let silent = start("1", Some(unsampled));
        assert!(silent.span.is_none());
        assert_eq!(silent.context.unwrap().trace_id, parent.trace_id, "passed on all the same");

        let root = start("1", None);
        assert!(root.context.unwrap().is_sampled() && root.span.is_some());
        let rare = start("0.0000001", None);
        assert!(rare.context.is_some() && rare.span.is_none());
    }
}
