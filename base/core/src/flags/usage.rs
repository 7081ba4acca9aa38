//! The help text of a table.

use super::{Flag, FlagSet, Kind};

pub(super) fn usage(set: &FlagSet) -> String {
    let rows: Vec<(String, String)> =
        set.flags().iter().filter(|flag| !flag.hidden).map(|flag| (left(flag), right(flag))).collect();
    let width = rows.iter().map(|(left, _)| left.chars().count()).max().unwrap_or(0);
    rows.into_iter().map(|(left, right)| format!("{left:width$}   {right}\n")).collect()
}

/// `  -a, --app-id string`.
fn left(flag: &Flag) -> String {
    let short = flag.short.map_or_else(|| "      ".to_owned(), |letter| format!("  -{letter}, "));
    let value = value_name(flag);
    let space = if value.is_empty() { "" } else { " " };
    format!("{short}--{}{space}{value}", flag.name)
}

fn right(flag: &Flag) -> String {
    let help = flag.help.replace('`', "");
    let unsaid = flag.default.is_empty() || (flag.kind == Kind::Bool && flag.default == "false") || flag.default == "0";
    match flag.kind {
        _ if unsaid => help,
        Kind::Text => format!("{help} (default {:?})", flag.default),
        Kind::List | Kind::Repeated => format!("{help} (default [{}])", flag.default),
        _ => format!("{help} (default {})", flag.default),
    }
}

/// The word in backquotes of the help, else the kind's name.
fn value_name(flag: &Flag) -> &str {
    let named = flag.help.split('`').nth(1);
    match (named, flag.kind) {
        (_, Kind::Bool) => "",
        (Some(name), _) => name,
        (None, Kind::Text) => "string",
        (None, Kind::Int) => "int",
        (None, Kind::Uint) => "uint",
        (None, Kind::Duration) => "duration",
        (None, Kind::List) => "strings",
        (None, Kind::Repeated) => "stringArray",
    }
}
