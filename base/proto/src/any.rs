//! `google.protobuf.Any` with its value as [`Bytes`].
//!
//! Bodies of invocations, jobs and reminders travel in an `Any`. `prost_types::Any` holds a `Vec<u8>`, which costs a
//! copy of every body on the way in and one on the way out; this one shares the buffer it was decoded from.

use bytes::Bytes;
use prost::{DecodeError, Message, Name};

/// A message of any type, or plain bytes when `type_url` is empty. Wire format: `google/protobuf/any.proto`.
#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct Any {
    /// What `value` is, as `<host>/<full message name>`; empty for plain bytes.
    #[prost(string, tag = "1")]
    pub type_url: String,
    /// The serialized message, or the plain bytes.
    #[prost(bytes = "bytes", tag = "2")]
    pub value: Bytes,
}

impl Any {
    /// Wraps plain bytes, the way invocation bodies travel: with no type.
    pub fn from_bytes(value: impl Into<Bytes>) -> Self {
        Self { type_url: String::new(), value: value.into() }
    }

    /// Wraps `message` under `type.googleapis.com/<full message name>`.
    pub fn from_message<M: Message + Name>(message: &M) -> Self {
        Self { type_url: format!("type.googleapis.com/{}", M::full_name()), value: message.encode_to_vec().into() }
    }

    /// The full message name in `type_url`: what follows the last slash.
    pub fn type_name(&self) -> &str {
        self.type_url.rsplit('/').next().unwrap_or_default()
    }

    /// Decodes the value when it is an `M`; `Ok(None)` when it is of another type.
    ///
    /// # Errors
    /// The value says it is an `M` but does not decode as one.
    pub fn to_message<M: Message + Name + Default>(&self) -> Result<Option<M>, DecodeError> {
        if self.type_name() == M::full_name() { M::decode(self.value.clone()).map(Some) } else { Ok(None) }
    }
}

impl From<prost_types::Any> for Any {
    fn from(any: prost_types::Any) -> Self {
        Self { type_url: any.type_url, value: any.value.into() }
    }
}

impl From<Any> for prost_types::Any {
    fn from(any: Any) -> Self {
        Self { type_url: any.type_url, value: any.value.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::google::rpc::ErrorInfo;

    #[test]
    fn has_the_wire_format_of_the_well_known_type() {
        let theirs = prost_types::Any { type_url: "x/y.Z".to_owned(), value: vec![1, 2, 3] };
        let ours = Any::decode(theirs.encode_to_vec().as_slice()).expect("decodes");
        assert_eq!(ours, Any::from(theirs.clone()));
        assert_eq!(ours.encode_to_vec(), theirs.encode_to_vec());
    }

    #[test]
    fn decoding_shares_the_buffer() {
        let wire = Bytes::from(Any::from_bytes(vec![7_u8; 64]).encode_to_vec());
        let any = Any::decode(wire.clone()).expect("decodes");
        assert!(wire.as_ptr_range().contains(&any.value.as_ptr()));
    }

    #[test]
    fn wraps_and_unwraps_by_type_name() {
        let info = ErrorInfo { reason: "R".to_owned(), domain: "d".to_owned(), ..Default::default() };
        let any = Any::from_message(&info);
        assert_eq!(any.type_url, "type.googleapis.com/google.rpc.ErrorInfo");
        assert_eq!(any.to_message::<ErrorInfo>().expect("decodes"), Some(info));
        assert_eq!(any.to_message::<crate::google::rpc::Help>().expect("other type"), None);
    }
}
