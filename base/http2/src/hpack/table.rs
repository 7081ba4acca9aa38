//! The static table, and the decoder's dynamic one. *Source:* RFC 7541 §2.3 and appendix A.
//!
//! *Neighbours:* `decode` and `encode`. *Invariant:* entries are kept parsed, so that a field that comes again costs
//! two counters.

use std::collections::VecDeque;

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::uri::{PathAndQuery, Scheme};
use http::{Method, StatusCode};

use crate::head::{Field, Name};

/// Entries of the static table, which come before the dynamic ones.
pub(super) const STATIC: usize = 61;
/// The size of an entry besides its name and value.
pub(super) const OVERHEAD: usize = 32;
/// The first of the static table that is no pseudo-header.
const FIRST_NAME: usize = 15;

#[rustfmt::skip] // a table
static NAMES: [HeaderName; STATIC + 1 - FIRST_NAME] = [
    header::ACCEPT_CHARSET, header::ACCEPT_ENCODING, header::ACCEPT_LANGUAGE, header::ACCEPT_RANGES, header::ACCEPT,
    header::ACCESS_CONTROL_ALLOW_ORIGIN, header::AGE, header::ALLOW, header::AUTHORIZATION, header::CACHE_CONTROL,
    header::CONTENT_DISPOSITION, header::CONTENT_ENCODING, header::CONTENT_LANGUAGE, header::CONTENT_LENGTH,
    header::CONTENT_LOCATION, header::CONTENT_RANGE, header::CONTENT_TYPE, header::COOKIE, header::DATE, header::ETAG,
    header::EXPECT, header::EXPIRES, header::FROM, header::HOST, header::IF_MATCH, header::IF_MODIFIED_SINCE,
    header::IF_NONE_MATCH, header::IF_RANGE, header::IF_UNMODIFIED_SINCE, header::LAST_MODIFIED, header::LINK,
    header::LOCATION, header::MAX_FORWARDS, header::PROXY_AUTHENTICATE, header::PROXY_AUTHORIZATION, header::RANGE,
    header::REFERER, header::REFRESH, header::RETRY_AFTER, header::SERVER, header::SET_COOKIE,
    header::STRICT_TRANSPORT_SECURITY, header::TRANSFER_ENCODING, header::USER_AGENT, header::VARY, header::VIA,
    header::WWW_AUTHENTICATE,
];

/// The statuses 8 to 14 of the static table.
pub(super) const STATUSES: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];

/// The number of a header's name in the static table, for what need not be fast.
pub(super) fn static_name(name: &HeaderName) -> Option<usize> {
    NAMES.iter().position(|known| known == name).map(|place| place + FIRST_NAME)
}

fn static_field(index: usize) -> Option<Field> {
    Some(match index {
        1 => Field::Authority(None),
        2 => Field::Method(Method::GET),
        3 => Field::Method(Method::POST),
        4 => Field::Path(PathAndQuery::from_static("/")),
        5 => Field::Path(PathAndQuery::from_static("/index.html")),
        6 => Field::Scheme(Scheme::HTTP),
        7 => Field::Scheme(Scheme::HTTPS),
        8..=14 => Field::Status(StatusCode::from_u16(STATUSES[index - 8]).ok()?),
        16 => Field::Header(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip, deflate")),
        _ => Field::Header(NAMES.get(index.checked_sub(FIRST_NAME)?)?.clone(), HeaderValue::from_static("")),
    })
}

struct Entry {
    field: Field,
    size: usize,
}

/// What the peer's encoder has put into its dynamic table, the newest first, after the static one.
pub(super) struct Table {
    entries: VecDeque<Entry>,
    size: usize,
    max: usize,
}

impl Table {
    pub(super) fn new(max: usize) -> Self {
        Self { entries: VecDeque::new(), size: 0, max }
    }

    /// The field with a number, and its size.
    pub(super) fn field(&self, index: usize) -> Option<(Field, usize)> {
        if index > STATIC {
            return self.entries.get(index - STATIC - 1).map(|entry| (entry.field.clone(), entry.size));
        }
        let field = static_field(index)?;
        let size = field.static_size();
        Some((field, size))
    }

    /// The name of the field with a number.
    pub(super) fn name(&self, index: usize) -> Option<Name> {
        if index > STATIC {
            return self.entries.get(index - STATIC - 1).map(|entry| entry.field.name());
        }
        static_field(index).map(|field| field.name())
    }

    pub(super) fn insert(&mut self, field: Field, size: usize) {
        self.shrink(self.max.saturating_sub(size));
        if size <= self.max {
            self.size += size;
            self.entries.push_front(Entry { field, size });
        }
    }

    pub(super) fn resize(&mut self, max: usize) {
        self.max = max;
        self.shrink(max);
    }

    fn shrink(&mut self, to: usize) {
        while self.size > to {
            let Some(last) = self.entries.pop_back() else { return };
            self.size -= last.size;
        }
    }
}

/// A field of this name; what its rules forbid is kept as malformed, since others may refer to its name.
pub(super) fn parse(name: Name, value: &[u8]) -> Field {
    let copy = || Bytes::copy_from_slice(value);
    let parsed = match &name {
        Name::Authority if value.is_empty() => Some(Field::Authority(None)),
        Name::Authority => {
            http::uri::Authority::from_maybe_shared(copy()).ok().map(|value| Field::Authority(Some(value)))
        }
        Name::Method => Method::from_bytes(value).ok().map(Field::Method),
        Name::Path if value != b"*" && value.first() != Some(&b'/') => None,
        Name::Path => PathAndQuery::from_maybe_shared(copy()).ok().map(Field::Path),
        Name::Scheme => Scheme::try_from(value).ok().map(Field::Scheme),
        Name::Status => StatusCode::from_bytes(value).ok().map(Field::Status),
        Name::Header(name) => {
            HeaderValue::from_maybe_shared(copy()).ok().map(|value| Field::Header(name.clone(), value))
        }
        Name::Malformed => None,
    };
    parsed.unwrap_or(Field::Malformed(name))
}
