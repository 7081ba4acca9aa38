//! Header fields and what they may be: requests, responses, trailers. *Source:* RFC 9113 §8.
//!
//! *Neighbours:* `hpack` decodes into a [`Head`], `fields` makes requests and responses of it. *Invariant:* what breaks
//! a rule, or is longer than allowed, is counted and forgotten; it is the stream's end, not the connection's.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, Request, Response, StatusCode, Uri, Version};

use crate::error::Reason;

/// Past so many times the limit nobody reads on.
const FAR_PAST_LIMIT: usize = 4;

/// A field's name.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Name {
    Authority,
    Method,
    Path,
    Scheme,
    Status,
    Header(HeaderName),
    /// Capitals, or a pseudo-header nobody knows.
    Malformed,
}

impl Name {
    pub(crate) fn length(&self) -> usize {
        match self {
            Self::Authority => 10,
            Self::Method | Self::Scheme | Self::Status => 7,
            Self::Path => 5,
            Self::Header(name) => name.as_str().len(),
            Self::Malformed => 0,
        }
    }
}

/// A field with its value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Field {
    Authority(Option<Authority>),
    Method(Method),
    Path(PathAndQuery),
    Scheme(Scheme),
    Status(StatusCode),
    Header(HeaderName, HeaderValue),
    Malformed(Name),
}

impl Field {
    pub(crate) fn name(&self) -> Name {
        match self {
            Self::Authority(_) => Name::Authority,
            Self::Method(_) => Name::Method,
            Self::Path(_) => Name::Path,
            Self::Scheme(_) => Name::Scheme,
            Self::Status(_) => Name::Status,
            Self::Header(name, _) => Name::Header(name.clone()),
            Self::Malformed(name) => name.clone(),
        }
    }

    /// The size of a field of the static table.
    pub(crate) fn static_size(&self) -> usize {
        let value = match self {
            Self::Method(method) => method.as_str().len(),
            Self::Path(path) => path.as_str().len(),
            Self::Scheme(scheme) => scheme.as_str().len(),
            Self::Status(_) => 3,
            Self::Header(_, value) => value.len(),
            Self::Authority(_) | Self::Malformed(_) => 0,
        };
        self.name().length() + value + 32
    }

    pub(crate) fn set_sensitive(&mut self) {
        if let Self::Header(_, value) = self {
            value.set_sensitive(true);
        }
    }
}

/// The fields of one block.
#[derive(Debug, Default)]
pub(crate) struct Head {
    method: Option<Method>,
    scheme: Option<Scheme>,
    authority: Option<Authority>,
    path: Option<PathAndQuery>,
    status: Option<StatusCode>,
    headers: HeaderMap,
    has_pseudo: bool,
    has_authority: bool,
    pub(crate) malformed: bool,
    size: usize,
    limit: usize,
}

impl Head {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, ..Self::default() }
    }

    /// Whether it is longer than allowed; its fields are not all there then.
    pub(crate) fn is_oversize(&self) -> bool {
        self.size > self.limit
    }

    /// Takes a field.
    ///
    /// # Errors
    /// The block is far too long.
    pub(crate) fn add(&mut self, field: Field, size: usize) -> Result<(), Reason> {
        self.size += size;
        if self.size > self.limit {
            let far = self.size > self.limit.saturating_mul(FAR_PAST_LIMIT);
            return if far { Err(Reason::ENHANCE_YOUR_CALM) } else { Ok(()) };
        }
        let fits = match field {
            Field::Header(name, value) => {
                let fits = is_allowed(&name, &value);
                // Room is for 2^15 names, which the limit need not keep.
                return match self.headers.try_append(name, value) {
                    Ok(_) => {
                        self.malformed |= !fits;
                        Ok(())
                    }
                    Err(_) => Err(Reason::ENHANCE_YOUR_CALM),
                };
            }
            Field::Authority(value) => {
                let first = !std::mem::replace(&mut self.has_authority, true);
                self.authority = value;
                first
            }
            Field::Method(value) => self.method.replace(value).is_none(),
            Field::Path(value) => self.path.replace(value).is_none(),
            Field::Scheme(value) => self.scheme.replace(value).is_none(),
            Field::Status(value) => self.status.replace(value).is_none(),
            Field::Malformed(_) => false,
        };
        // Pseudo-headers come first, and once.
        self.malformed |= !fits || !self.headers.is_empty();
        self.has_pseudo = true;
        Ok(())
    }

    /// The request it is, if it is one.
    pub(crate) fn into_request(self) -> Option<Request<()>> {
        if self.malformed || self.status.is_some() {
            return None;
        }
        let method = self.method?;
        let mut uri = http::uri::Parts::default();
        if method == Method::CONNECT {
            if self.scheme.is_some() || self.path.is_some() || self.authority.is_none() {
                return None;
            }
            uri.authority = self.authority;
        } else {
            let (scheme, path) = (self.scheme?, self.path?);
            if path.as_str() == "*" && method != Method::OPTIONS {
                return None;
            }
            // A scheme without an authority makes no URI.
            uri.scheme = self.authority.is_some().then_some(scheme);
            uri.authority = self.authority;
            uri.path_and_query = Some(path);
        }
        let mut request = Request::new(());
        *request.method_mut() = method;
        *request.uri_mut() = Uri::from_parts(uri).ok()?;
        *request.version_mut() = Version::HTTP_2;
        *request.headers_mut() = self.headers;
        Some(request)
    }

    /// The response it is, if it is one.
    pub(crate) fn into_response(self) -> Option<Response<()>> {
        let of_request = self.method.is_some() || self.scheme.is_some() || self.path.is_some() || self.has_authority;
        if self.malformed || of_request {
            return None;
        }
        let mut response = Response::new(());
        *response.status_mut() = self.status?;
        *response.version_mut() = Version::HTTP_2;
        *response.headers_mut() = self.headers;
        Some(response)
    }

    /// The trailers it is, if it is such.
    pub(crate) fn into_trailers(self) -> Option<HeaderMap> {
        (!self.malformed && !self.has_pseudo).then_some(self.headers)
    }
}

/// Whether HTTP/2 allows a field in a message.
fn is_allowed(name: &HeaderName, value: &HeaderValue) -> bool {
    if *name == header::TE {
        return value.as_bytes() == b"trailers";
    }
    !is_of_connection(name)
}

fn is_of_connection(name: &HeaderName) -> bool {
    *name == header::CONNECTION
        || *name == header::TRANSFER_ENCODING
        || *name == header::UPGRADE
        || matches!(name.as_str(), "keep-alive" | "proxy-connection")
}

/// Whether fields may be sent.
pub(crate) fn may_be_sent(headers: &HeaderMap) -> bool {
    headers.iter().all(|(name, value)| is_allowed(name, value))
}

/// What `content-length` says. `Err`: it contradicts itself.
pub(crate) fn content_length(headers: &HeaderMap) -> Result<Option<u64>, ()> {
    let mut length = None;
    for value in headers.get_all(header::CONTENT_LENGTH) {
        let text = value.to_str().map_err(|_| ())?;
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let said = text.parse().ok().filter(|_| digits).ok_or(())?;
        if length.replace(said).is_some_and(|before: u64| before != said) {
            return Err(());
        }
    }
    Ok(length)
}
