//! Which kind of payload a content type announces. *Source:* spec app_channel.md §4.1; parameters and case do not count.

/// Content type of a CloudEvent in JSON form.
pub(super) const CLOUD_EVENT: &str = "application/cloudevents+json";
/// Content type of bytes.
pub(super) const OCTET_STREAM: &str = "application/octet-stream";

fn essence(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default()
}

pub(crate) fn is_json(content_type: &str) -> bool {
    essence(content_type).eq_ignore_ascii_case("application/json")
}

pub(super) fn is_cloud_event(content_type: &str) -> bool {
    essence(content_type).eq_ignore_ascii_case(CLOUD_EVENT)
}

pub(crate) fn is_binary(content_type: &str) -> bool {
    essence(content_type).eq_ignore_ascii_case(OCTET_STREAM)
}

pub(super) fn is_text(content_type: &str) -> bool {
    content_type.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("text/"))
        || essence(content_type).eq_ignore_ascii_case("application/xml")
}

pub(crate) fn is_cloud_event_protobuf(content_type: &str, data: &[u8]) -> bool {
    let essence = essence(content_type);
    essence.eq_ignore_ascii_case("application/cloudevents+protobuf")
        || (essence.eq_ignore_ascii_case("application/x-protobuf") && has_required_fields(data))
}

/// Whether bytes read as an `io.cloudevents.v1.CloudEvent`: the strings id, source, spec_version and type are fields 1 to 4.
fn has_required_fields(mut data: &[u8]) -> bool {
    let mut seen = [false; 4];
    while !data.is_empty() {
        let Some(tag) = varint(&mut data) else { return false };
        let (field, wire_type) = (tag >> 3, tag & 7);
        if wire_type != 2 {
            return false; // all fields of that message are length-delimited
        }
        let Some(length) = varint(&mut data).and_then(|length| usize::try_from(length).ok()) else { return false };
        let Some((value, rest)) = data.split_at_checked(length) else { return false };
        if let 1..=4 = field {
            if value.is_empty() || std::str::from_utf8(value).is_err() {
                return false;
            }
            seen[field as usize - 1] = true;
        }
        data = rest;
    }
    seen == [true; 4]
}

fn varint(data: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = data.split_first()?;
        *data = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}
