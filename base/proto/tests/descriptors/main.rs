//! Our descriptors against the protocol tables, row by row, both ways.
//!
//! `data/proto.tsv` lists every file, message, field, enum value, reserved number, service and rpc of the wire
//! protocols; `data/proto_1.19.tsv` what SDK 1.19 knows beyond it. Every row must be in our descriptors as it is in the
//! table, everything in our descriptors must be a row, and what the table calls removed must be gone.

mod facts;
mod table;

use std::collections::BTreeSet;

use facts::Facts;
use table::{Row, read};

const TABLE: &str = include_str!("../data/proto.tsv");
const ADDITIONS: &str = include_str!("../data/proto_1.19.tsv");

/// Rows of the two tables; a test that reads nothing must not pass.
const TABLE_ROWS: usize = 2232;
const ADDITION_ROWS: usize = 184;

#[test]
fn descriptors_are_the_table() {
    let facts = Facts::of(pillion_proto::FILE_DESCRIPTOR_SET);
    let rows = read(TABLE);
    let additions = read(ADDITIONS);
    let wrong = compare(&facts, &rows, &additions);
    println!("{} rows of proto.tsv and {} of proto_1.19.tsv compared", rows.len(), additions.len());
    assert_eq!((rows.len(), additions.len()), (TABLE_ROWS, ADDITION_ROWS));
    assert!(wrong.is_empty(), "{} mismatches:\n{}", wrong.len(), wrong.join("\n"));
}

/// Each kind of damage to a row must be seen, so that an empty report means something.
#[test]
fn a_changed_row_is_reported() {
    let facts = Facts::of(pillion_proto::FILE_DESCRIPTOR_SET);
    let additions = read(ADDITIONS);
    let rows = read(TABLE);
    type Damage = (&'static str, fn(&mut Row));
    let damages: [Damage; 13] = [
        ("field", |row| row.number.push('7')),
        ("field", |row| row.name.push('x')),
        ("field", |row| row.json_name = "other".to_owned()),
        ("field", |row| row.label = "repeated?".to_owned()),
        ("field", |row| row.kind_of_type.push('x')),
        ("field", |row| row.deprecated = !row.deprecated),
        ("rpc", |row| row.client_stream = !row.client_stream),
        ("rpc", |row| row.server_stream = !row.server_stream),
        ("rpc", |row| row.response_type.push('x')),
        ("enum_value", |row| row.number.push('7')),
        ("reserved_number", |row| row.number.push('7')),
        ("import", |row| row.name.push('x')),
        ("message", |row| row.extra = "fields=99".to_owned()),
    ];
    for (kind, damage) in damages {
        let mut rows = rows.clone();
        let row = rows.iter_mut().find(|row| row.kind == kind).expect("the table has every kind");
        damage(row);
        let damaged = row.clone();
        assert!(!compare(&facts, &rows, &additions).is_empty(), "damage to a {kind} went unseen: {damaged:?}");
    }
    for kind in ["message", "field", "rpc", "enum_value", "service", "import", "reserved_name"] {
        let mut rows = rows.clone();
        let at = rows.iter().position(|row| row.kind == kind).expect("the table has every kind");
        rows.remove(at);
        assert!(!compare(&facts, &rows, &additions).is_empty(), "a missing {kind} row went unseen");
    }
}

/// The generated clients and servers use the paths of the table.
#[test]
fn generated_code_calls_and_serves_every_path() {
    let mut code = String::new();
    // Cargo's word at run time: with a build directory that clones share, the path compiled in may be another clone's.
    let own = std::env::var("CARGO_MANIFEST_DIR").expect("cargo runs this");
    for entry in std::fs::read_dir(own + "/src/gen").expect("src/gen is there") {
        let path = entry.expect("readable").path();
        if path.extension().is_some_and(|ext| ext == "rs") {
            code.push_str(&std::fs::read_to_string(path).expect("readable"));
        }
    }
    let mut paths = 0;
    for row in read(TABLE).iter().chain(&read(ADDITIONS)).filter(|row| row.kind == "rpc") {
        let path = format!("\"{}\"", row.path());
        assert_eq!(code.matches(&path).count(), 2, "{path} must be in the client and in the server");
        if let Some(given) = row.extra.strip_prefix("path=") {
            assert_eq!(given, row.path());
        }
        paths += 1;
    }
    assert_eq!(paths, 184);
}

/// All differences between descriptors and tables, one line each.
fn compare(facts: &Facts, rows: &[Row], additions: &[Row]) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut wanted = BTreeSet::new();
    for row in rows {
        match row.kind.strip_prefix("removed_") {
            Some(kind) if facts.has(kind, row) => wrong.push(format!("is back: {row:?}")),
            Some(_) => {}
            None => {
                wanted.insert(row.fact());
            }
        }
        wrong.extend(row.count_mismatch(facts, additions));
    }
    wanted.extend(additions.iter().map(Row::fact));
    wrong.extend(
        facts
            .lines
            .difference(&wanted)
            .filter(|fact| !is_implied(fact, additions))
            .map(|fact| format!("only in our files: {fact}")),
    );
    wrong.extend(wanted.difference(&facts.lines).map(|fact| format!("only in the table:  {fact}")));
    wrong
}

/// The table of additions lists neither files, imports nor messages; those that its rows need are no mismatch.
fn is_implied(fact: &str, additions: &[Row]) -> bool {
    let columns: Vec<&str> = fact.split('|').collect();
    let (kind, file, name) = (columns[0], columns[1], columns[3]);
    match kind {
        "file" | "import" | "import_wellknown" => additions.iter().any(|row| row.file == file),
        "message" => additions.iter().any(|row| row.parent == name || row.mentions(name)),
        _ => false,
    }
}
