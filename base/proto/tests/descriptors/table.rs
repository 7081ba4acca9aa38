//! Rows of the protocol tables.

use crate::facts::{Facts, json_name, line};

/// One row. Columns a table does not have are empty.
#[derive(Clone, Debug, Default)]
pub(crate) struct Row {
    pub(crate) kind: String,
    pub(crate) file: String,
    pub(crate) package: String,
    pub(crate) parent: String,
    pub(crate) name: String,
    pub(crate) number: String,
    pub(crate) kind_of_type: String,
    pub(crate) label: String,
    pub(crate) client_stream: bool,
    pub(crate) response_type: String,
    pub(crate) server_stream: bool,
    pub(crate) json_name: String,
    pub(crate) deprecated: bool,
    pub(crate) extra: String,
}

/// Reads a table whose first line names the columns.
pub(crate) fn read(text: &str) -> Vec<Row> {
    let mut lines = text.lines();
    let head: Vec<&str> = lines.next().expect("a head line").split('\t').collect();
    let rows = lines.map(|line| {
        let cells: Vec<&str> = line.split('\t').collect();
        let cell = |column: &str| {
            let at = head.iter().position(|name| *name == column);
            at.and_then(|at| cells.get(at)).copied().unwrap_or_default().to_owned()
        };
        Row {
            kind: cell("kind"),
            file: cell("file"),
            package: cell("package"),
            parent: cell("parent"),
            name: cell("name"),
            number: cell("number"),
            kind_of_type: cell("type"),
            label: cell("label"),
            client_stream: matches!(cell("client_stream").as_str(), "true" | "stream"),
            response_type: cell("response_type"),
            server_stream: matches!(cell("server_stream").as_str(), "true" | "stream"),
            json_name: cell("json_name"),
            deprecated: cell("deprecated") == "yes",
            extra: cell("extra"),
        }
    });
    rows.collect()
}

impl Row {
    /// The row in the form that [`Facts`] has for our descriptors.
    pub(crate) fn fact(&self) -> String {
        match self.kind.as_str() {
            "file" => {
                let syntax = self.extra.split(';').next().unwrap_or_default();
                line("file", &[&self.file, &self.package, syntax])
            }
            "import" | "import_wellknown" => line(&self.kind, &[&self.file, &self.package, &self.name]),
            "message" | "service" => {
                line(&self.kind, &[&self.file, &self.package, &self.parent, deprecated(self.deprecated)])
            }
            "field" => {
                let json = if self.json_name.is_empty() { json_name(&self.name) } else { self.json_name.clone() };
                let label = if self.label.is_empty() { "singular" } else { &self.label };
                let place = [&self.file, &self.package, &self.parent, &self.name].map(String::as_str);
                let rest = [&self.number, &self.kind_of_type, label, &json, deprecated(self.deprecated)];
                line("field", &[&place[..], &rest[..]].concat())
            }
            "rpc" => line(
                "rpc",
                &[
                    &self.file,
                    &self.package,
                    &self.parent,
                    &self.name,
                    &streamed(&self.kind_of_type, self.client_stream),
                    &streamed(&self.response_type, self.server_stream),
                    deprecated(self.deprecated),
                ],
            ),
            _ => line(&self.kind, &[&self.file, &self.package, &self.parent, &self.name, &self.number]),
        }
    }

    /// What the row's last column says of counts and default names, if it is not so.
    pub(crate) fn count_mismatch(&self, facts: &Facts, additions: &[Row]) -> Option<String> {
        let (key, value) = self.extra.split_once('=')?;
        let added = |kind: &str| additions.iter().filter(|row| row.kind == kind && row.parent == self.parent).count();
        let found = match key {
            "fields" => facts.count("field", self) - added("field"),
            "rpcs" => facts.count("rpc", self) - added("rpc"),
            "json_default" => {
                let ours = json_name(&self.name);
                return (ours != value).then(|| format!("default JSON name {ours}, table says {value}: {self:?}"));
            }
            _ => return None,
        };
        (found.to_string() != value).then(|| format!("{found} instead of {value} {key}: {self:?}"))
    }

    /// Whether an rpc row's request or response is the message `name` of the row's package.
    pub(crate) fn mentions(&self, name: &str) -> bool {
        let full = format!("{}.{name}", self.package);
        self.kind == "rpc" && (self.kind_of_type == full || self.response_type == full)
    }

    /// The HTTP/2 path of an rpc row.
    pub(crate) fn path(&self) -> String {
        let dot = if self.package.is_empty() { "" } else { "." };
        format!("/{}{dot}{}/{}", self.package, self.parent, self.name)
    }
}

/// Column text for an element that is, or is not, deprecated.
pub(crate) fn deprecated(yes: bool) -> &'static str {
    if yes { "deprecated" } else { "" }
}

/// A type as it stands in an rpc: `stream X` or `X`.
pub(crate) fn streamed(name: &str, stream: bool) -> String {
    if stream { format!("stream {name}") } else { name.to_owned() }
}
