//! The series of metrics that share their labels, found by label values.
//!
//! *Job:* find or make a [`Row`] for label values. *Neighbours:* the typed modules (`http`, `grpc`, …) own tables, `text`
//! and `otlp` tell them. *Invariant:* a row that exists is found without allocating; a table never has many more than [`ROWS_MAX`].

use std::fmt::Write as _;
use std::hash::BuildHasher;
use std::sync::Arc;

use hashbrown::{DefaultHashBuilder, HashTable};
use parking_lot::RwLock;

use super::cell::{Cell, Kind};
use super::rules::LabelRules;

/// Rows of one table before values a caller chooses are merged. The original has no limit; memory has.
pub(super) const ROWS_MAX: usize = 5_000;
/// Longest label value in bytes. *Source:* the original's `tag` package; longer values lose the sample.
const VALUE_BYTES_MAX: usize = 255;
/// Labels whose values come from callers and configuration, empty once a table is full.
const OPEN_LABELS: &[&str] = &[
    "component",
    "componentName",
    "dst_app_id",
    "grpc_client_method",
    "grpc_server_method",
    "operation",
    "path",
    "src_app_id",
    "target",
    "topic",
];

/// A metric of a table.
#[derive(Clone, Debug)]
pub(super) struct Column {
    /// Name as exported.
    pub(super) name: &'static str,
    /// One line for people.
    pub(super) help: &'static str,
    /// Unit in the words of OpenTelemetry; empty for counts.
    pub(super) unit: &'static str,
    /// What it measures.
    pub(super) kind: Kind,
}

/// Metrics with the same labels.
pub(super) struct Table {
    /// With the labels of every series of the sidecar, such as `app_id`.
    constant: Box<[(&'static str, Box<str>)]>,
    labels: &'static [&'static str],
    columns: Box<[Column]>,
    rules: LabelRules,
    hasher: Hasher,
    rows: RwLock<HashTable<Arc<Row>>>,
}

/// Hashes label values, which are a few bytes each: a general hasher spends more on beginning and ending than on them. Seeded, and
/// whoever finds collisions all the same has at most [`ROWS_MAX`] of them.
struct Hasher([u64; 2]);

impl Hasher {
    fn new() -> Self {
        let random = DefaultHashBuilder::default();
        Self([random.hash_one(0_u8), random.hash_one(1_u8) | 1])
    }

    #[inline]
    fn hash(&self, values: &[&str]) -> u64 {
        let [mut hash, key] = self.0;
        for value in values {
            let bytes = value.as_bytes();
            let (mut words, rest) = bytes.as_chunks::<8>();
            hash ^= bytes.len() as u64;
            while let [word, following @ ..] = words {
                hash = fold(hash ^ u64::from_le_bytes(*word), key);
                words = following;
            }
            // Up to seven bytes.
            let last = rest.iter().fold(0, |last, byte| (last << 8) | u64::from(*byte));
            hash = fold(hash ^ last, key);
        }
        hash
    }
}

/// Both halves of the product.
fn fold(word: u64, key: u64) -> u64 {
    let product = u128::from(word) * u128::from(key);
    (product as u64) ^ (product >> 64) as u64
}

/// One set of label values with the series of all columns.
#[derive(Debug)]
pub(super) struct Row {
    values: Box<[Box<str>]>,
    /// As printed between the braces.
    text: Box<str>,
    cells: Box<[Cell]>,
}

impl Table {
    pub(super) fn new(
        constant: &[(&'static str, &str)],
        labels: &'static [&'static str],
        columns: Vec<Column>,
        rules: LabelRules,
    ) -> Arc<Self> {
        Arc::new(Self {
            constant: constant.iter().map(|(name, value)| (*name, Box::from(*value))).collect(),
            labels,
            columns: columns.into(),
            rules,
            hasher: Hasher::new(),
            rows: RwLock::default(),
        })
    }

    /// Records into the row of these values, in the order of the table's labels. Nothing happens when a value cannot be a
    /// label.
    pub(super) fn with(&self, values: &[&str], record: impl FnOnce(&Row)) {
        if !self.rules.is_empty() {
            // Rewritten values first; few have rules, so what this costs does not count.
            let rewritten = self.rules.apply(self.labels, values);
            let values: Vec<&str> = rewritten.iter().map(AsRef::as_ref).collect();
            return self.with_final(&values, record);
        }
        self.with_final(values, record);
    }

    fn with_final(&self, values: &[&str], record: impl FnOnce(&Row)) {
        let hash = self.hasher.hash(values);
        {
            let rows = self.rows.read();
            if let Some(row) = rows.find(hash, |row| row.is(values)) {
                return record(row);
            }
        }
        if let Some(row) = self.insert(hash, values) {
            record(&row);
        }
    }

    /// The row itself, to be kept where it is recorded into again and again.
    pub(super) fn row(&self, values: &[&str]) -> Option<Arc<Row>> {
        let rewritten = self.rules.apply(self.labels, values);
        let values: Vec<&str> = rewritten.iter().map(AsRef::as_ref).collect();
        let hash = self.hasher.hash(&values);
        let known = self.rows.read().find(hash, |row| row.is(&values)).cloned();
        known.or_else(|| self.insert(hash, &values))
    }

    fn insert(&self, hash: u64, values: &[&str]) -> Option<Arc<Row>> {
        if values.len() != self.labels.len() || !values.iter().all(|value| is_label_value(value)) {
            return None;
        }
        let mut rows = self.rows.write();
        if rows.len() < ROWS_MAX {
            return Some(self.get_or_make(&mut rows, hash, values));
        }
        let merged: Vec<&str> = self
            .labels
            .iter()
            .zip(values)
            .map(|(label, value)| if OPEN_LABELS.contains(label) { "" } else { value })
            .collect();
        let hash = self.hasher.hash(&merged);
        Some(self.get_or_make(&mut rows, hash, &merged))
    }

    fn get_or_make(&self, rows: &mut HashTable<Arc<Row>>, hash: u64, values: &[&str]) -> Arc<Row> {
        let entry = rows.entry(hash, |row| row.is(values), |row| self.hasher.hash(&row.borrowed()));
        entry.or_insert_with(|| Arc::new(self.make(values))).get().clone()
    }

    fn make(&self, values: &[&str]) -> Row {
        let constant = self.constant.iter().map(|(name, value)| (*name, value.as_ref()));
        let mut labels: Vec<(&str, &str)> =
            constant.chain(self.labels.iter().copied().zip(values.iter().copied())).collect();
        labels.sort_unstable_by_key(|(name, _)| *name);
        let mut text = String::new();
        for (name, value) in labels {
            let comma = if text.is_empty() { "" } else { "," };
            let escaped = value.replace('\\', r"\\").replace('"', "\\\"");
            let _ = write!(text, "{comma}{name}=\"{escaped}\""); // writing to a String cannot fail
        }
        Row {
            values: values.iter().map(|value| Box::from(*value)).collect(),
            text: text.into(),
            cells: self.columns.iter().map(|column| Cell::new(&column.kind)).collect(),
        }
    }

    /// Labels of a row with their values, those of every series first.
    pub(super) fn labels<'a>(&'a self, row: &'a Row) -> impl Iterator<Item = (&'a str, &'a str)> {
        let constant = self.constant.iter().map(|(name, value)| (*name, value.as_ref()));
        constant.chain(self.labels.iter().copied().zip(row.values.iter().map(AsRef::as_ref)))
    }

    pub(super) fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// All rows, by label text.
    pub(super) fn sorted(&self) -> Vec<Arc<Row>> {
        let mut rows: Vec<Arc<Row>> = self.rows.read().iter().cloned().collect();
        rows.sort_unstable_by(|a, b| a.text.cmp(&b.text));
        rows
    }
}

impl Row {
    /// Adds one to a counter.
    pub(super) fn count(&self, column: usize) {
        self.add(column, 1);
    }

    /// Adds to a counter.
    pub(super) fn add(&self, column: usize, number: u64) {
        if let Some(cell) = self.cells.get(column) {
            cell.add(number);
        }
    }

    /// Sets a gauge.
    pub(super) fn set(&self, column: usize, number: i32) {
        if let Some(cell) = self.cells.get(column) {
            cell.set(number);
        }
    }

    /// Adds a sample to a histogram.
    pub(super) fn observe(&self, column: usize, sample: f64) {
        if let Some(cell) = self.cells.get(column) {
            cell.observe(sample);
        }
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn cell(&self, column: usize) -> Option<&Cell> {
        self.cells.get(column)
    }

    fn is(&self, values: &[&str]) -> bool {
        self.values.len() == values.len() && self.values.iter().zip(values).all(|(own, value)| own.as_ref() == *value)
    }

    fn borrowed(&self) -> Vec<&str> {
        self.values.iter().map(AsRef::as_ref).collect()
    }
}

/// *Source:* the original's `tag` package: printable ASCII.
fn is_label_value(value: &str) -> bool {
    value.len() <= VALUE_BYTES_MAX && value.bytes().all(|byte| (b' '..=b'~').contains(&byte))
}
