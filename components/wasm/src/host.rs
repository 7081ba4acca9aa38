//! The host functions of the http-wasm handler ABI (module `http_handler`).
//!
//! *Neighbours:* [`crate::exchange`] holds what they read and change, [`crate::memory`] moves bytes. *Source:* http-wasm ABI, as
//! http-wasm-host-go implements it. *Invariant:* misuse is a trap with a text, which ends this guest and not the sidecar.

use http::{HeaderMap, Method, StatusCode, Uri, Version};
use percent_encoding::{AsciiSet, CONTROLS, percent_encode};
use pillion_contract::RemoteAddress;
use pillion_core::log::Level;
use wasmi::{Error, Linker};

use crate::draft::BUFFER_LIMIT;
use crate::exchange::{Exchange, HeaderKind, feature, header_name};
use crate::guest::{GuestState, Pause};
use crate::memory::{self, Host, charge, write_if_fits, write_values};

const MODULE: &str = "http_handler";
/// Extra fuel of a log line: it costs the host far more than its bytes.
const LOG_BYTES: usize = 64 * 1024;
/// What a URI cannot hold as it is; guests may pass it all the same, as Go's parser accepts it.
const NOT_IN_URI: &AsciiSet =
    &CONTROLS.add(b' ').add(b'"').add(b'<').add(b'>').add(b'\\').add(b'^').add(b'`').add(b'{').add(b'|').add(b'}');

/// Adds all functions to a linker.
///
/// # Errors
/// Never, as each name is defined once.
#[rustfmt::skip] // a table
pub(crate) fn link(linker: &mut Linker<GuestState>) -> Result<(), Error> {
    linker.func_wrap(MODULE, "enable_features", enable_features)?;
    linker.func_wrap(MODULE, "get_config", get_config)?;
    linker.func_wrap(MODULE, "log_enabled", |host: Host<'_>, level: i32| i32::from(log_enabled(&host, level)))?;
    linker.func_wrap(MODULE, "log", log)?;
    linker.func_wrap(MODULE, "get_method", get_method)?;
    linker.func_wrap(MODULE, "set_method", set_method)?;
    linker.func_wrap(MODULE, "get_uri", get_uri)?;
    linker.func_wrap(MODULE, "set_uri", set_uri)?;
    linker.func_wrap(MODULE, "get_protocol_version", get_protocol_version)?;
    linker.func_wrap(MODULE, "get_header_names", get_header_names)?;
    linker.func_wrap(MODULE, "get_header_values", get_header_values)?;
    linker.func_wrap(MODULE, "set_header_value", |host: Host<'_>, kind: u32, name: u32, name_length: u32, value: u32, value_length: u32| {
        put_header(host, kind, (name, name_length), (value, value_length), false)
    })?;
    linker.func_wrap(MODULE, "add_header_value", |host: Host<'_>, kind: u32, name: u32, name_length: u32, value: u32, value_length: u32| {
        put_header(host, kind, (name, name_length), (value, value_length), true)
    })?;
    linker.func_wrap(MODULE, "remove_header", remove_header)?;
    linker.func_wrap(MODULE, "read_body", read_body)?;
    linker.func_wrap(MODULE, "write_body", write_body)?;
    linker.func_wrap(MODULE, "get_source_addr", get_source_addr)?;
    linker.func_wrap(MODULE, "get_status_code", get_status_code)?;
    linker.func_wrap(MODULE, "set_status_code", set_status_code)?;
    Ok(())
}

fn exchange<'a>(host: &'a mut Host<'_>) -> Result<&'a mut Exchange, Error> {
    host.data_mut().exchange.as_deref_mut().ok_or_else(|| Error::new("no request at hand: the guest is still starting"))
}

fn enable_features(mut host: Host<'_>, features: u32) -> Result<u32, Error> {
    charge(&mut host, 0)?;
    let state = host.data_mut();
    let enabled = match &mut state.exchange {
        Some(exchange) => &mut exchange.features,
        None => &mut state.features,
    };
    *enabled |= features & feature::SUPPORTED;
    Ok(*enabled)
}

fn get_config(mut host: Host<'_>, buffer: u32, limit: u32) -> Result<u32, Error> {
    let config = host.data().config.clone();
    write_if_fits(&mut host, buffer, limit, &config)
}

/// The ABI's levels: -1 debug, 0 info, 1 warn, 2 error, 3 none.
fn log_enabled(host: &Host<'_>, level: i32) -> bool {
    log_level(level).is_some_and(|level| host.data().log.enabled(level))
}

fn log_level(level: i32) -> Option<Level> {
    Some(match level {
        -1 => Level::Debug,
        0 => Level::Info,
        1 => Level::Warning,
        2 => Level::Error,
        _ => return None,
    })
}

fn log(mut host: Host<'_>, level: i32, message: u32, length: u32) -> Result<(), Error> {
    let Some(level) = log_level(level).filter(|level| host.data().log.enabled(*level)) else {
        return charge(&mut host, 0);
    };
    charge(&mut host, LOG_BYTES)?;
    let message = memory::read(&mut host, "message", message, length)?;
    host.data().log.with_fields(level, String::from_utf8_lossy(&message), &[]);
    Ok(())
}

fn get_method(mut host: Host<'_>, buffer: u32, limit: u32) -> Result<u32, Error> {
    let method = exchange(&mut host)?.request.method.clone();
    write_if_fits(&mut host, buffer, limit, method.as_str().as_bytes())
}

fn set_method(mut host: Host<'_>, method: u32, length: u32) -> Result<(), Error> {
    exchange(&mut host)?.before_next("set", "method").map_err(Error::new)?;
    let method = not_empty("HTTP method", memory::read(&mut host, "method", method, length)?)?;
    let method = Method::from_bytes(&method)
        .map_err(|_| Error::new(format!("{:?} cannot be an HTTP method", String::from_utf8_lossy(&method))))?;
    exchange(&mut host)?.request.method = method;
    Ok(())
}

fn get_uri(mut host: Host<'_>, buffer: u32, limit: u32) -> Result<u32, Error> {
    let uri = exchange(&mut host)?.request.uri.clone();
    let text = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    write_if_fits(&mut host, buffer, limit, text.as_bytes())
}

fn set_uri(mut host: Host<'_>, uri: u32, length: u32) -> Result<(), Error> {
    exchange(&mut host)?.before_next("set", "uri").map_err(Error::new)?;
    let text = memory::read(&mut host, "uri", uri, length)?;
    let uri = parse_uri(&text)
        .ok_or_else(|| Error::new(format!("invalid URI for request: {:?}", String::from_utf8_lossy(&text))))?;
    exchange(&mut host)?.request.uri = uri;
    Ok(())
}

/// Origin form of a URI: a path with a query, also out of a full address; empty is the root.
pub(crate) fn parse_uri(text: &[u8]) -> Option<Uri> {
    if text.is_empty() {
        return Some(Uri::from_static("/"));
    }
    let encoded = percent_encode(text, NOT_IN_URI).to_string();
    let parsed: Uri = encoded.parse().ok()?;
    if parsed.scheme().is_none() && !encoded.starts_with('/') {
        return None;
    }
    let path = parsed.path_and_query().cloned()?;
    Some(Uri::from(path))
}

fn get_protocol_version(mut host: Host<'_>, buffer: u32, limit: u32) -> Result<u32, Error> {
    let text = match exchange(&mut host)?.request.version {
        Version::HTTP_09 => "HTTP/0.9",
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2.0",
        Version::HTTP_3 => "HTTP/3.0",
        _ => "HTTP/1.1",
    };
    write_if_fits(&mut host, buffer, limit, text.as_bytes())
}

fn header_kind(kind: u32) -> Result<HeaderKind, Error> {
    Ok(match kind {
        0 => HeaderKind::Request,
        1 => HeaderKind::Response,
        2 => HeaderKind::RequestTrailers,
        3 => HeaderKind::ResponseTrailers,
        _ => return Err(Error::new(format!("unsupported header kind: {kind}"))),
    })
}

fn get_header_names(mut host: Host<'_>, kind: u32, buffer: u32, limit: u32) -> Result<u64, Error> {
    let kind = header_kind(kind)?;
    let mut names: Vec<Vec<u8>> =
        exchange(&mut host)?.headers(kind).keys().map(|name| name.as_str().as_bytes().to_vec()).collect();
    names.sort_unstable();
    write_values(&mut host, buffer, limit, &names)
}

fn get_header_values(
    mut host: Host<'_>,
    kind: u32,
    name: u32,
    name_length: u32,
    buffer: u32,
    limit: u32,
) -> Result<u64, Error> {
    let kind = header_kind(kind)?;
    let name = not_empty("HTTP header name", memory::read(&mut host, "name", name, name_length)?)?;
    let headers: &HeaderMap = exchange(&mut host)?.headers(kind);
    let values: Vec<Vec<u8>> = match header_name(&name) {
        Ok(name) => headers.get_all(name).iter().map(|value| value.as_bytes().to_vec()).collect(),
        Err(_) => Vec::new(),
    };
    write_values(&mut host, buffer, limit, &values)
}

fn put_header(
    mut host: Host<'_>,
    kind: u32,
    (name, name_length): (u32, u32),
    (value, value_length): (u32, u32),
    append: bool,
) -> Result<(), Error> {
    let kind = header_kind(kind)?;
    let name = not_empty("HTTP header name", memory::read(&mut host, "name", name, name_length)?)?;
    let value = memory::read(&mut host, "value", value, value_length)?;
    exchange(&mut host)?.put_header(kind, &name, &value, append).map_err(Error::new)
}

fn remove_header(mut host: Host<'_>, kind: u32, name: u32, length: u32) -> Result<(), Error> {
    let kind = header_kind(kind)?;
    let name = not_empty("HTTP header name", memory::read(&mut host, "name", name, length)?)?;
    exchange(&mut host)?.remove_header(kind, &name).map_err(Error::new)
}

fn not_empty(what: &str, bytes: Vec<u8>) -> Result<Vec<u8>, Error> {
    if bytes.is_empty() { Err(Error::new(format!("{what} cannot be empty"))) } else { Ok(bytes) }
}

/// Body kinds: 0 request, 1 response. The answer has the length in the low 32 bits, and bit 32 at the end of the body.
fn read_body(mut host: Host<'_>, kind: u32, buffer: u32, limit: u32) -> Result<u64, Error> {
    if limit == 0 {
        return Err(Error::new("buf_limit==0 reading body"));
    }
    let exchange = exchange(&mut host)?;
    let (bytes, last) = match kind {
        0 => {
            if exchange.after_next && !exchange.enabled(feature::BUFFER_REQUEST) {
                return Err(Error::new("can't read request body after next handler unless buffer_request is enabled"));
            }
            if exchange.request_read_waits(limit as usize) {
                if limit as usize > BUFFER_LIMIT {
                    return Err(Error::new(format!("buf_limit is more than {BUFFER_LIMIT}, reading body")));
                }
                return Err(Error::host(Pause::RequestBody { buffer, limit }));
            }
            exchange.read_request(limit as usize).map_err(Error::new)?
        }
        1 => {
            exchange.response_open("read", "response body").map_err(Error::new)?;
            exchange.response.read(limit as usize)
        }
        _ => return Err(Error::new(format!("unsupported body kind: {kind}"))),
    };
    memory::write(&mut host, buffer, &bytes)?;
    Ok(u64::from(last) << 32 | bytes.len() as u64)
}

fn write_body(mut host: Host<'_>, kind: u32, body: u32, length: u32) -> Result<(), Error> {
    let bytes = memory::read(&mut host, "body", body, length)?;
    let exchange = exchange(&mut host)?;
    match kind {
        0 => exchange.write_request(&bytes),
        1 => exchange.response_open("write", "response body").and_then(|()| exchange.response.write(&bytes)),
        _ => Err(format!("unsupported body kind: {kind}")),
    }
    .map_err(Error::new)
}

fn get_source_addr(mut host: Host<'_>, buffer: u32, limit: u32) -> Result<u32, Error> {
    let address = exchange(&mut host)?.request.extensions.get::<RemoteAddress>().map(|address| address.0.to_string());
    write_if_fits(&mut host, buffer, limit, address.unwrap_or_default().as_bytes())
}

fn get_status_code(mut host: Host<'_>) -> Result<u32, Error> {
    charge(&mut host, 0)?;
    Ok(u32::from(exchange(&mut host)?.response.status().as_u16()))
}

fn set_status_code(mut host: Host<'_>, status: u32) -> Result<(), Error> {
    charge(&mut host, 0)?;
    let exchange = exchange(&mut host)?;
    exchange.response_open("set", "status code").map_err(Error::new)?;
    let code = u16::try_from(status).ok().and_then(|status| StatusCode::from_u16(status).ok());
    exchange.response.set_status(code.ok_or_else(|| Error::new(format!("invalid status code: {status}")))?);
    Ok(())
}
