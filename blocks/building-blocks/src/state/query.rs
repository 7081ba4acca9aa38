//! Queries in their JSON form. *Source:* spec http_api.md, the query API.
//!
//! *Invariant:* a filter that a component gets is one operator with operands of the right form.

use std::collections::BTreeMap;

use pillion_contract::{QueryRequest, QuerySort};
use serde::Deserialize;
use serde_json::{Map, Value};

#[derive(Deserialize, Default)]
#[serde(default)]
struct Body {
    filter: Option<Map<String, Value>>,
    sort: Option<Vec<Sort>>,
    page: Option<Page>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Sort {
    key: String,
    order: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Page {
    limit: i64,
    token: String,
}

/// Reads a query.
///
/// # Errors
/// What is wrong with it.
pub(super) fn parse(text: &str, metadata: BTreeMap<String, String>) -> Result<QueryRequest, String> {
    let body: Option<Body> = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let Body { filter, sort, page } = body.unwrap_or_default();
    let (filter, page) = (filter.unwrap_or_default(), page.unwrap_or_default());
    if !filter.is_empty() {
        check_unit(&filter)?;
    }
    let sort = sort.unwrap_or_default().into_iter();
    // Any other order means ascending, as in the original.
    let sort = sort.map(|sort| QuerySort { key: sort.key, descending: sort.order == "DESC" }).collect();
    Ok(QueryRequest { filter, sort, limit: page.limit, token: page.token, metadata })
}

/// Depth is bounded by the JSON reader.
fn check_unit(unit: &Map<String, Value>) -> Result<(), String> {
    let mut entries = unit.iter();
    let (Some((operator, operand)), None) = (entries.next(), entries.next()) else {
        return Err("filter unit must have a single element".to_owned());
    };
    match operator.as_str() {
        "EQ" | "NEQ" | "GT" | "GTE" | "LT" | "LTE" | "IN" => {
            let pair = operand.as_object().ok_or_else(|| format!("{operator} filter must be a map"))?;
            if pair.len() != 1 {
                return Err(format!("{operator} filter must contain a single key/value pair"));
            }
            if operator == "IN" && !pair.values().all(Value::is_array) {
                return Err("IN filter value must be an array".to_owned());
            }
            Ok(())
        }
        "AND" | "OR" => {
            let units = operand.as_array().ok_or_else(|| format!("{operator} filter must be an array"))?;
            if units.len() < 2 {
                return Err(format!("{operator} filter must contain at least two entries"));
            }
            units.iter().try_for_each(|unit| check_unit(unit.as_object().ok_or("filter unit must be a map")?))
        }
        other => Err(format!("unsupported filter {other:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_and_its_filter_checked() {
        let text = r#"{"filter":{"OR":[{"EQ":{"a":1}},{"IN":{"b":["x"]}}]},"sort":[{"key":"a","order":"DESC"},{"key":"b"}],
            "page":{"limit":2,"token":"t"}}"#;
        let query = parse(text, BTreeMap::new()).unwrap();
        assert_eq!((query.filter.len(), query.limit, query.token.as_str()), (1, 2, "t"));
        assert_eq!(query.sort.iter().map(|sort| sort.descending).collect::<Vec<_>>(), [true, false]);
        for empty in ["{}", "null", r#"{"filter":{}}"#] {
            assert!(parse(empty, BTreeMap::new()).unwrap().filter.is_empty(), "{empty}");
        }
        for (text, wanted) in [
            (r#"{"filter":{"EQ":{"a":1},"GT":{"a":1}}}"#, "filter unit must have a single element"),
            (r#"{"filter":{"EQ":1}}"#, "EQ filter must be a map"),
            (r#"{"filter":{"LT":{}}}"#, "LT filter must contain a single key/value pair"),
            (r#"{"filter":{"IN":{"a":1}}}"#, "IN filter value must be an array"),
            (r#"{"filter":{"AND":[{"EQ":{"a":1}}]}}"#, "AND filter must contain at least two entries"),
            (r#"{"filter":{"OR":[1,2]}}"#, "filter unit must be a map"),
            (r#"{"filter":{"LIKE":{"a":1}}}"#, "unsupported filter \"LIKE\""),
        ] {
            assert_eq!(parse(text, BTreeMap::new()).unwrap_err(), wanted);
        }
        assert!(parse("{", BTreeMap::new()).is_err());
    }
}
