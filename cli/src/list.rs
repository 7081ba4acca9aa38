//! `list`: the sidecars that run here.

mod table;

use anyhow::{Result, bail};
use pillion_core::flags::{Flag, FlagSet, Kind, Parsed};
use serde_json::{Value as Json, json};
use time::OffsetDateTime;
use time::macros::format_description;

use crate::command::{Command, Outcome, block_on_local};
use crate::console;
use crate::context::Context;
use crate::instances::{self, record::Record};

pub(crate) const COMMAND: Command = Command {
    name: "list",
    arguments: "[flags]",
    about: "List the sidecars and applications that run on this machine",
    details: "",
    examples: "  dapr list\n  dapr list -o json",
    flags: || {
        FlagSet::new().with_all([
            Flag::new(Kind::Text, "output", "table", "the `format`: table, json or yaml").short('o'),
            Flag::new(Kind::Bool, "kubernetes", "", "list in a cluster").short('k').hidden(),
            Flag::new(Kind::Bool, "all-namespaces", "", "for Kubernetes").short('A').hidden(),
            Flag::new(Kind::Text, "namespace", "", "for Kubernetes").short('n').hidden(),
        ])
    },
    run,
};

fn run(context: &Context, parsed: &Parsed) -> Outcome {
    if parsed.bool("kubernetes") {
        bail!(
            "listing in Kubernetes is not possible with this version; leave out -k to list what runs on this machine"
        );
    }
    let format: fn(&[Record], OffsetDateTime) -> String = match parsed.text("output") {
        "" | "table" => table::table,
        "json" => json_text,
        "yaml" => yaml,
        other => bail!("an invalid output format was specified: {other:?}; expected table, json or yaml"),
    };
    block_on_local(async {
        let records = instances::find(context).await;
        console::output(&format(&records, OffsetDateTime::now_utc()));
        Ok(0)
    })
}

/// The keys and values of a record, in their known order. *Source:* the original's JSON and YAML.
fn fields(record: &Record, now: OffsetDateTime) -> Vec<(&'static str, Json)> {
    vec![
        ("appId", json!(record.app_id)),
        ("httpPort", json!(record.http_port)),
        ("grpcPort", json!(record.grpc_port)),
        ("appPort", json!(record.app_port)),
        ("metricsEnabled", json!(record.metrics_enabled)),
        ("command", json!(record.command)),
        ("age", json!(age(record.created, now))),
        ("created", json!(created(record.created))),
        ("daprdPid", json!(record.daprd_pid)),
        ("cliPid", json!(record.cli_pid)),
        ("appPid", json!(record.app_pid)),
        ("maxRequestBodySize", json!(record.max_request_body_size)),
        ("httpReadBufferSize", json!(record.http_read_buffer_size)),
        ("runTemplatePath", json!(record.run_template_path)),
        ("appLogPath", json!(record.app_log_path)),
        ("daprdLogPath", json!(record.daprd_log_path)),
        ("runTemplateName", json!(record.run_template_name)),
    ]
}

/// Indented by two blanks; written by hand, because the order of keys counts for readers.
fn json_text(records: &[Record], now: OffsetDateTime) -> String {
    let objects: Vec<String> = records
        .iter()
        .map(|record| {
            let lines: Vec<String> =
                fields(record, now).iter().map(|(key, value)| format!("    \"{key}\": {value}")).collect();
            format!("  {{\n{}\n  }}", lines.join(",\n"))
        })
        .collect();
    if objects.is_empty() { "[]\n".to_owned() } else { format!("[\n{}\n]\n", objects.join(",\n")) }
}

/// A text in JSON's quotes is a text in YAML too.
fn yaml(records: &[Record], now: OffsetDateTime) -> String {
    if records.is_empty() {
        return "[]\n".to_owned();
    }
    let mut out = String::new();
    for record in records {
        for (number, (key, value)) in fields(record, now).iter().enumerate() {
            let lead = if number == 0 { "- " } else { "  " };
            out += &format!("{lead}{key}: {value}\n");
        }
    }
    out
}

/// Time since the start, in its largest unit. *Source:* the original's column AGE.
fn age(created: i64, now: OffsetDateTime) -> String {
    let seconds = (now.unix_timestamp() - created).max(0);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86400),
    }
}

/// *Source:* the original's form `2006-01-02 15:04.05`, in local time.
fn created(created: i64) -> String {
    let form = format_description!("[year]-[month]-[day] [hour]:[minute].[second]");
    let text = || -> Result<String> {
        let moment = OffsetDateTime::from_unix_timestamp(created)?;
        let offset = time::UtcOffset::local_offset_at(moment).unwrap_or(time::UtcOffset::UTC);
        Ok(moment.to_offset(offset).format(form)?)
    };
    text().unwrap_or_default()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn example() -> Record {
        Record {
            app_id: "cart".into(),
            http_port: 3500,
            grpc_port: 50001,
            app_port: 8080,
            metrics_enabled: true,
            command: "node \"app.js\"".into(),
            created: 1000,
            daprd_pid: 7,
            cli_pid: 6,
            max_request_body_size: 4 << 20,
            http_read_buffer_size: 4096,
            run_template_path: "/d/dapr.yaml".into(),
            ..Record::default()
        }
    }

    #[test]
    fn json_and_yaml_have_the_known_keys() {
        let now = OffsetDateTime::from_unix_timestamp(1075).unwrap();
        let text = json_text(&[example(), Record::default()], now);
        let parsed: Vec<serde_json::Map<String, Json>> = serde_json::from_str(&text).unwrap();
        assert_eq!((parsed[0]["appId"].as_str(), parsed[0]["age"].as_str()), (Some("cart"), Some("1m")));
        assert_eq!(
            (parsed[0]["daprdPid"].as_i64(), parsed[0]["maxRequestBodySize"].as_i64()),
            (Some(7), Some(4194304))
        );
        assert_eq!(parsed[0].len(), 17);
        assert!(yaml(&[example()], now).starts_with("- appId: \"cart\"\n  httpPort: 3500\n"));
        assert_eq!((json_text(&[], now).as_str(), yaml(&[], now).as_str()), ("[]\n", "[]\n"));
    }

    #[test]
    fn ages_in_their_largest_unit() {
        let at = |seconds| age(0, OffsetDateTime::from_unix_timestamp(seconds).unwrap());
        assert_eq!([at(-5), at(59), at(60), at(3599), at(7200), at(200_000)], ["0s", "59s", "1m", "59m", "2h", "2d"]);
    }
}
