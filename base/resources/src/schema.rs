//! Which fields each kind has: tables that [`crate::check`] compares documents with.
//!
//! *Source:* the API types of group `dapr.io`; see docs/resources.md.

mod component;
mod configuration;
mod mcp_server;
mod resiliency;
mod subscription;
mod workflow_access_policy;

/// The form of a value.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Shape {
    /// Text; numbers and booleans are taken as their text.
    Text,
    /// One of these words. The flag tells whether case matters.
    Word(&'static [&'static str], Case),
    /// `true` or `false`.
    Bool,
    /// A whole number between the two.
    Integer(i128, i128),
    /// Text that is a Go duration.
    Duration,
    /// Text that is a Go duration or a bare number of milliseconds.
    PolicyDuration,
    /// Any value.
    Any,
    /// A list of one shape.
    List(&'static Shape),
    /// A map from free names to one shape.
    Map(&'static Shape),
    /// A map with these keys.
    Object(&'static [Field]),
    /// A name/value item: an object, or (Configuration files only) a `k=v` text.
    HeaderItem,
}

/// Whether a word is compared with case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Case {
    Exact,
    Ignored,
}

/// A key of an object.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) required: bool,
    pub(crate) shape: Shape,
}

/// An optional field.
pub(crate) const fn optional(name: &'static str, shape: Shape) -> Field {
    Field { name, required: false, shape }
}

/// A field that must be there and not be empty.
pub(crate) const fn required(name: &'static str, shape: Shape) -> Field {
    Field { name, required: true, shape }
}

/// A kind of manifest with one API version.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) api_version: &'static str,
    pub(crate) fields: &'static [Field],
}

/// Every kind that can be written in a file.
pub(crate) const KINDS: [Kind; 8] = [
    Kind { name: "Component", api_version: "dapr.io/v1alpha1", fields: component::COMPONENT },
    Kind { name: "Configuration", api_version: "dapr.io/v1alpha1", fields: configuration::CONFIGURATION },
    Kind { name: "Subscription", api_version: "dapr.io/v2alpha1", fields: subscription::V2 },
    Kind { name: "Subscription", api_version: "dapr.io/v1alpha1", fields: subscription::V1 },
    Kind { name: "Resiliency", api_version: "dapr.io/v1alpha1", fields: resiliency::RESILIENCY },
    Kind { name: "HTTPEndpoint", api_version: "dapr.io/v1alpha1", fields: component::HTTP_ENDPOINT },
    Kind { name: "MCPServer", api_version: "dapr.io/v1alpha1", fields: mcp_server::MCP_SERVER },
    Kind {
        name: "WorkflowAccessPolicy",
        api_version: "dapr.io/v1alpha1",
        fields: workflow_access_policy::WORKFLOW_ACCESS_POLICY,
    },
];

/// `metadata` of every kind; other keys of Kubernetes are let through by the check of free maps.
pub(crate) const OBJECT_META: Shape = Shape::Object(&[
    required("name", Shape::Text),
    optional("namespace", Shape::Text),
    optional("labels", Shape::Map(&Shape::Text)),
    optional("annotations", Shape::Map(&Shape::Text)),
    optional("creationTimestamp", Shape::Any),
    optional("resourceVersion", Shape::Any),
    optional("uid", Shape::Any),
    optional("generation", Shape::Any),
    optional("managedFields", Shape::Any),
    optional("finalizers", Shape::Any),
    optional("ownerReferences", Shape::Any),
]);

pub(crate) const TEXTS: Shape = Shape::List(&Shape::Text);
pub(crate) const I32: Shape = Shape::Integer(i32::MIN as i128, i32::MAX as i128);
pub(crate) const COUNT: Shape = Shape::Integer(0, i32::MAX as i128);

/// `secretKeyRef`.
pub(crate) const SECRET_KEY_REF: Shape = Shape::Object(&[required("name", Shape::Text), optional("key", Shape::Text)]);

/// A `metadata[]`, `headers[]` or `env[]` item.
pub(crate) const NAME_VALUE: Shape = Shape::Object(&[
    required("name", Shape::Text),
    optional("value", Shape::Any),
    optional("secretKeyRef", SECRET_KEY_REF),
    optional("envRef", Shape::Text),
]);

pub(crate) const NAME_VALUES: Shape = Shape::List(&NAME_VALUE);

/// `auth` of Component and HTTPEndpoint.
pub(crate) const AUTH: Shape = Shape::Object(&[optional("secretStore", Shape::Text)]);

pub(crate) const API_VERSION: Field = optional("apiVersion", Shape::Text);
/// Also looked at before the schema is known, where its absence is reported.
pub(crate) const KIND: Field = optional("kind", Shape::Text);
pub(crate) const METADATA: Field = required("metadata", OBJECT_META);
pub(crate) const SCOPES: Field = optional("scopes", TEXTS);
