//! Our descriptors as lines of text, one for each thing that a row of the table can state.

use std::collections::BTreeSet;

use prost::Message;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet};
use prost_types::{ServiceDescriptorProto, field_descriptor_proto};

use crate::table::{Row, deprecated, streamed};

/// The facts of all files except the well-known types and `google.rpc`, which the tables do not list.
pub(crate) struct Facts {
    pub(crate) lines: BTreeSet<String>,
}

/// A fact: its kind and columns.
pub(crate) fn line(kind: &str, columns: &[&str]) -> String {
    format!("{kind}|{}", columns.join("|"))
}

/// The JSON name that protobuf gives a field by default.
pub(crate) fn json_name(field: &str) -> String {
    let mut out = String::new();
    let mut upper = false;
    for c in field.chars() {
        match c {
            '_' => upper = true,
            _ if upper => {
                out.extend(c.to_uppercase());
                upper = false;
            }
            _ => out.push(c),
        }
    }
    out
}

impl Facts {
    /// Reads a serialized `FileDescriptorSet`.
    pub(crate) fn of(descriptors: &[u8]) -> Self {
        let set = FileDescriptorSet::decode(descriptors).expect("the descriptors decode");
        let mut facts = Self { lines: BTreeSet::new() };
        for file in set.file.iter().filter(|file| !file.name().starts_with("google/")) {
            facts.add_file(file);
        }
        facts
    }

    /// Whether there is a thing of this kind with the row's package, parent, name and number, in whatever file.
    pub(crate) fn has(&self, kind: &str, row: &Row) -> bool {
        self.lines.iter().any(|fact| {
            let columns: Vec<&str> = fact.split('|').collect();
            let is = |at: usize, value: &str| columns.get(at).is_some_and(|column| *column == value);
            let same_place = is(0, kind) && is(2, &row.package) && is(3, &row.parent);
            match kind {
                "field" | "enum_value" => same_place && is(4, &row.name) && is(5, &row.number),
                "rpc" => same_place && is(4, &row.name),
                _ => same_place,
            }
        })
    }

    /// How many things of this kind are in the row's message or service.
    pub(crate) fn count(&self, kind: &str, row: &Row) -> usize {
        let start = line(kind, &[&row.file, &row.package, &row.parent, ""]);
        self.lines.iter().filter(|fact| fact.starts_with(&start)).count()
    }

    fn add_file(&mut self, file: &FileDescriptorProto) {
        let at = [file.name(), file.package()];
        let syntax = format!("syntax={}", file.syntax());
        self.add("file", &[&at[..], &[&syntax]].concat());
        for import in &file.dependency {
            let kind = if import.starts_with("google/protobuf/") { "import_wellknown" } else { "import" };
            self.add(kind, &[&at[..], &[import]].concat());
        }
        for message in &file.message_type {
            self.add_message(&at, "", message);
        }
        for one in &file.enum_type {
            self.add_enum(&at, "", one);
        }
        for service in &file.service {
            self.add_service(&at, service);
        }
    }

    fn add_message(&mut self, at: &[&str], outer: &str, message: &DescriptorProto) {
        if message.options.as_ref().is_some_and(|options| options.map_entry()) {
            return;
        }
        let name = nested(outer, message.name());
        let old = message.options.as_ref().is_some_and(|options| options.deprecated());
        self.add("message", &[at, &[&name, deprecated(old)]].concat());
        for field in &message.field {
            let number = field.number().to_string();
            let old = field.options.as_ref().is_some_and(|options| options.deprecated());
            let place = [name.as_str(), field.name(), &number];
            let shape = [type_of(field, message), label_of(field, message)];
            let rest = [shape[0].as_str(), &shape[1], field.json_name(), deprecated(old)];
            self.add("field", &[at, &place, &rest].concat());
        }
        for range in &message.reserved_range {
            for number in range.start()..range.end() {
                self.add("reserved_number", &[at, &[&name, "", &number.to_string()]].concat());
            }
        }
        for reserved in &message.reserved_name {
            self.add("reserved_name", &[at, &[&name, reserved, ""]].concat());
        }
        for inner in &message.nested_type {
            self.add_message(at, &name, inner);
        }
        for inner in &message.enum_type {
            self.add_enum(at, &name, inner);
        }
    }

    fn add_enum(&mut self, at: &[&str], outer: &str, one: &EnumDescriptorProto) {
        let name = nested(outer, one.name());
        for value in &one.value {
            self.add("enum_value", &[at, &[&name, value.name(), &value.number().to_string()]].concat());
        }
        for range in &one.reserved_range {
            for number in range.start()..=range.end() {
                self.add("enum_reserved_number", &[at, &[&name, "", &number.to_string()]].concat());
            }
        }
        for reserved in &one.reserved_name {
            self.add("enum_reserved_name", &[at, &[&name, reserved, ""]].concat());
        }
    }

    fn add_service(&mut self, at: &[&str], service: &ServiceDescriptorProto) {
        let old = service.options.as_ref().is_some_and(|options| options.deprecated());
        self.add("service", &[at, &[service.name(), deprecated(old)]].concat());
        for method in &service.method {
            let old = method.options.as_ref().is_some_and(|options| options.deprecated());
            let input = streamed(method.input_type().trim_start_matches('.'), method.client_streaming());
            let output = streamed(method.output_type().trim_start_matches('.'), method.server_streaming());
            let rest = [service.name(), method.name(), &input, &output, deprecated(old)];
            self.add("rpc", &[at, &rest].concat());
        }
    }

    fn add(&mut self, kind: &str, columns: &[&str]) {
        self.lines.insert(line(kind, columns));
    }
}

fn nested(outer: &str, name: &str) -> String {
    if outer.is_empty() { name.to_owned() } else { format!("{outer}.{name}") }
}

/// The entry message of a map field.
fn map_entry<'a>(field: &FieldDescriptorProto, message: &'a DescriptorProto) -> Option<&'a DescriptorProto> {
    let entry = field.type_name().rsplit('.').next()?;
    let found = message.nested_type.iter().find(|inner| inner.name() == entry)?;
    found.options.as_ref().is_some_and(|options| options.map_entry()).then_some(found)
}

fn type_of(field: &FieldDescriptorProto, message: &DescriptorProto) -> String {
    match map_entry(field, message) {
        Some(entry) => {
            let part = |at: usize| entry.field.get(at).map(plain_type).unwrap_or_default();
            format!("map<{},{}>", part(0), part(1))
        }
        None => plain_type(field),
    }
}

fn plain_type(field: &FieldDescriptorProto) -> String {
    let named = field.type_name().trim_start_matches('.');
    if named.is_empty() { scalar(field.r#type()).to_owned() } else { named.to_owned() }
}

fn scalar(kind: Type) -> &'static str {
    use field_descriptor_proto::Type as T;
    match kind {
        T::Double => "double",
        T::Float => "float",
        T::Int64 => "int64",
        T::Uint64 => "uint64",
        T::Int32 => "int32",
        T::Fixed64 => "fixed64",
        T::Fixed32 => "fixed32",
        T::Bool => "bool",
        T::String => "string",
        T::Bytes => "bytes",
        T::Uint32 => "uint32",
        T::Sfixed32 => "sfixed32",
        T::Sfixed64 => "sfixed64",
        T::Sint32 => "sint32",
        T::Sint64 => "sint64",
        T::Group | T::Message | T::Enum => "type without a name",
    }
}

fn label_of(field: &FieldDescriptorProto, message: &DescriptorProto) -> String {
    if map_entry(field, message).is_some() {
        return "map".to_owned();
    }
    if field.label() == Label::Repeated {
        return "repeated".to_owned();
    }
    if field.proto3_optional() {
        return "optional".to_owned();
    }
    let index = field.oneof_index.and_then(|index| usize::try_from(index).ok());
    match index.and_then(|index| message.oneof_decl.get(index)) {
        Some(oneof) => format!("oneof {}", oneof.name()),
        None => "singular".to_owned(),
    }
}
