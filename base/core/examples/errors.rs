//! Prints the error table as the Markdown of `docs/errors.md`; `cargo xtask errors` writes it there.

use pillion_core::error::{Category, DetailKind, ErrorSpec, GrpcCode, Shape, table};

const HEAD: &str = "# Errors of the API

Printed from the code by `cargo xtask errors`; do not edit.

Over HTTP an error is `{\"errorCode\", \"message\"}`, with `details` where the column names some. Over gRPC it is a status
with the same message and, in `grpc-status-details-bin`, the details of the column. Details are messages of `google.rpc`;
`ErrorInfo` has the domain `dapr.io` and the reason of its column.
`gRPC: ErrorInfo` means: nothing over HTTP, over gRPC an `ErrorInfo` whose reason is the code. `…` in a message is a value of
the call. A component or a scheduler that gives a status of its own replaces both statuses of a row; stale ETags are 409 and
ABORTED, malformed ones 400 and INVALID_ARGUMENT.

Each error is counted in `dapr_error_code_total` with its code as `error_code`, under the category of its heading, unless
the last column says otherwise. Rows of blocks that are not built yet are listed too; their calls answer
that nothing of the kind is configured.
";

fn main() {
    println!("{HEAD}");
    let mut first = true;
    for rows in table::ALL {
        if !std::mem::take(&mut first) {
            println!();
        }
        print_block(rows);
    }
}

fn print_block(rows: &[&ErrorSpec]) {
    let category = rows.iter().find_map(|row| row.metric).map_or(Category::Common, |(_, category)| category);
    println!("## {}\n", category.label());
    println!("| errorCode | HTTP | gRPC | reason | details | message | counted as |");
    println!("|---|---|---|---|---|---|---|");
    for row in rows {
        let reason = if row.reason.is_empty() || row.reason == row.code { "" } else { row.reason };
        let details = match row.shape {
            Shape::Legacy => String::new(),
            Shape::Basic => "gRPC: ErrorInfo".to_owned(),
            Shape::Rich(kinds) => kinds.iter().map(|kind| DetailKind::name(*kind)).collect::<Vec<_>>().join(", "),
        };
        let counted = match row.metric {
            None => "not counted".to_owned(),
            Some((code, kind)) if (code, kind) != (row.code, category) => format!("{code}, {}", kind.label()),
            Some(_) => String::new(),
        };
        let text = row.text.replace("{}", "…").replace('|', "\\|");
        println!(
            "| {} | {} | {} | {reason} | {details} | {text} | {counted} |",
            row.code,
            row.http,
            code_name(row.grpc)
        );
    }
}

/// The name in the gRPC specification.
fn code_name(code: GrpcCode) -> String {
    let mut name = String::new();
    for letter in format!("{code:?}").chars() {
        if letter.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}
