//! The table of `list`.

use time::OffsetDateTime;

use super::{age, created};
use crate::instances::record::Record;

/// Longest command that is shown, in characters. *Source:* the original's column COMMAND.
const COMMAND_MAX: usize = 20;

type Column = (&'static str, fn(&Record, OffsetDateTime) -> String);

/// *Source:* names and order of the original's columns.
const COLUMNS: [Column; 13] = [
    ("APP ID", |record, _| record.app_id.clone()),
    ("HTTP PORT", |record, _| record.http_port.to_string()),
    ("GRPC PORT", |record, _| record.grpc_port.to_string()),
    ("APP PORT", |record, _| record.app_port.to_string()),
    ("COMMAND", |record, _| shorten(&record.command)),
    ("AGE", |record, now| age(record.created, now)),
    ("CREATED", |record, _| created(record.created)),
    ("DAPRD PID", |record, _| record.daprd_pid.to_string()),
    ("CLI PID", |record, _| record.cli_pid.to_string()),
    ("APP PID", |record, _| record.app_pid.to_string()),
    ("RUN_TEMPLATE_PATH", |record, _| record.run_template_path.clone()),
    ("APP_LOG_PATH", |record, _| record.app_log_path.clone()),
    ("DAPRD_LOG_PATH", |record, _| record.daprd_log_path.clone()),
];

/// One line for each record, below the names of the columns; a column without any value is left out.
pub(super) fn table(records: &[Record], now: OffsetDateTime) -> String {
    if records.is_empty() {
        return "No Dapr instances found.\n".to_owned();
    }
    let columns: Vec<Vec<String>> = COLUMNS
        .iter()
        .filter_map(|(name, value)| {
            let values: Vec<String> = records.iter().map(|record| value(record, now)).collect();
            values
                .iter()
                .any(|value| !value.is_empty())
                .then(|| std::iter::once((*name).to_owned()).chain(values).collect())
        })
        .collect();
    let mut out = String::new();
    for row in 0..=records.len() {
        let mut line = String::new();
        for column in &columns {
            let width = column.iter().map(|cell| cell.chars().count()).max().unwrap_or(0);
            line += &format!("{:width$}  ", column[row]);
        }
        out += line.trim_end();
        out.push('\n');
    }
    out
}

fn shorten(command: &str) -> String {
    if command.chars().count() <= COMMAND_MAX {
        return command.to_owned();
    }
    command.chars().take(COMMAND_MAX - 3).chain("...".chars()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_columns_vanish_and_the_rest_is_aligned() {
        let mut record = super::super::tests::example();
        record.command = "python3 a/very/long/path.py".into();
        let now = OffsetDateTime::from_unix_timestamp(1003).unwrap();
        let text = table(&[record.clone(), Record::default()], now);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        assert!(lines[0].starts_with("APP ID  HTTP PORT  GRPC PORT  APP PORT  COMMAND               AGE"), "{text}");
        assert!(lines[1].starts_with("cart    3500       50001      8080      python3 a/very/lo...  3s"), "{text}");
        assert!(lines[0].ends_with("APP PID  RUN_TEMPLATE_PATH"), "{text}");
        assert_eq!(table(&[], now), "No Dapr instances found.\n");
    }
}
