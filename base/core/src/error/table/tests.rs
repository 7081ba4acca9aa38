//! What holds for the table as a whole; `api` has a test for each row.

use std::collections::HashSet;

use super::ALL;
use crate::error::{DetailKind, ErrorSpec, GrpcCode, Shape};

fn rows() -> impl Iterator<Item = &'static ErrorSpec> {
    ALL.iter().flat_map(|rows| rows.iter().copied())
}

#[test]
fn no_row_is_there_twice() {
    let mut seen = HashSet::new();
    for row in rows() {
        assert!(seen.insert((row.code, row.reason, row.http, row.text)), "{row:?}");
    }
}

#[test]
fn statuses_are_errors() {
    for row in rows() {
        assert!((400..600).contains(&row.http), "{row:?}");
        assert!(row.grpc != GrpcCode::Ok || row.code == "ERR_CONFIGURATION_UNSUBSCRIBE", "{row:?}");
    }
}

#[test]
fn rich_rows_have_a_reason_and_end_with_it() {
    for row in rows() {
        match row.shape {
            Shape::Rich(details) => {
                assert!(!row.reason.is_empty(), "{row:?}");
                assert_eq!(details.last(), Some(&DetailKind::ErrorInfo), "{row:?}");
            }
            Shape::Basic | Shape::Legacy => assert!(row.reason.is_empty(), "{row:?}"),
        }
    }
}
