//! Prints tables in the Prometheus text format 0.0.4, byte for byte as the original's library does.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use super::cell::{Cell, Histogram};
use super::table::{Column, Row, Table};

/// All series that were recorded, metrics by name, series by labels.
pub(super) fn print(tables: &[Arc<Table>]) -> String {
    let rows: Vec<Vec<Arc<Row>>> = tables.iter().map(|table| table.sorted()).collect();
    let mut metrics: BTreeMap<&str, (&Column, usize, &[Arc<Row>])> = BTreeMap::new();
    for (table, rows) in tables.iter().zip(&rows) {
        for (index, column) in table.columns().iter().enumerate() {
            metrics.insert(column.name, (column, index, rows));
        }
    }
    let mut out = String::new();
    let mut series = String::new();
    for (name, (column, index, rows)) in metrics {
        series.clear();
        for row in rows {
            print_cell(&mut series, name, row, index);
        }
        if !series.is_empty() {
            put(&mut out, format_args!("# HELP {name} {}\n# TYPE {name} {}\n", column.help, column.kind.name()));
            out.push_str(&series);
        }
    }
    out
}

fn print_cell(out: &mut String, name: &str, row: &Row, index: usize) {
    let labels = row.text();
    match row.cell(index) {
        Some(Cell::Counter(value)) => {
            let value = value.load(std::sync::atomic::Ordering::Relaxed);
            if value > 0 {
                put(out, format_args!("{name}{{{labels}}} {}\n", go_float(value as f64)));
            }
        }
        Some(cell @ Cell::Gauge(_)) => {
            if let Some(value) = cell.gauge() {
                put(out, format_args!("{name}{{{labels}}} {}\n", go_float(value as f64)));
            }
        }
        Some(Cell::Histogram(histogram)) => print_histogram(out, name, labels, histogram),
        None => {}
    }
}

fn print_histogram(out: &mut String, name: &str, labels: &str, histogram: &Histogram) {
    let (counts, sum) = histogram.read();
    let total: u64 = counts.iter().sum();
    if total == 0 {
        return;
    }
    let mut below = 0;
    for (bound, count) in histogram.bounds.iter().zip(&counts) {
        below += count;
        put(out, format_args!("{name}_bucket{{{labels},le=\"{}\"}} {below}\n", go_float(*bound)));
    }
    put(out, format_args!("{name}_bucket{{{labels},le=\"+Inf\"}} {total}\n"));
    put(out, format_args!("{name}_sum{{{labels}}} {}\n{name}_count{{{labels}}} {total}\n", go_float(sum)));
}

/// A number as Go's `strconv` prints it with format `g` and the shortest precision: with an exponent from a million on.
pub(super) fn go_float(value: f64) -> String {
    let scientific = format!("{value:e}");
    let Some((mantissa, exponent)) = scientific.split_once('e') else { return scientific }; // not a number, infinite
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if (-4..6).contains(&exponent) {
        return value.to_string();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    let _ = out.write_fmt(text); // writing to a String cannot fail
}
