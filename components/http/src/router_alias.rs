//! `middleware.http.routeralias`: gives routes other paths.
//!
//! A route is a path with `{name}` or `{name:expression}` parts; what stands there becomes query parameters of the new path.
//! *Source:* components-contrib `middleware/http/routeralias`. Where several routes match, the original takes one by chance;
//! here a route without parts wins, then the first in alphabetical order.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use http::Uri;
use http::uri::PathAndQuery;
use pillion_contract::{ComponentError, ErrorKind, HttpMiddleware, HttpRequest, HttpResponse, InitContext, Next};
use pillion_resources::{Value, read_document};
use regex::Regex;

use crate::form;

struct RouterAlias {
    literal: HashMap<String, String>,
    templates: Vec<(Template, String)>,
}

/// A path with variable parts.
struct Template {
    expression: Regex,
    /// Names of the groups, in their order.
    names: Vec<String>,
}

/// Makes the middleware.
///
/// # Errors
/// `InvalidRequest` when `routes` is neither JSON nor YAML of texts by text, or a route cannot be used.
pub async fn create(context: InitContext) -> Result<Arc<dyn HttpMiddleware>, ComponentError> {
    let routes = routes(&context)?;
    let mut alias = RouterAlias { literal: HashMap::new(), templates: Vec::new() };
    for (route, path) in routes {
        if !route.starts_with('/') {
            context.log.warn(format_args!(
                "middleware.http.routeralias {}: the route {route:?} never matches: it must start with /",
                context.name
            ));
        } else if route.contains('{') {
            alias.templates.push((Template::new(&route)?, path));
        } else {
            alias.literal.insert(route, path);
        }
    }
    Ok(Arc::new(alias))
}

fn routes(context: &InitContext) -> Result<BTreeMap<String, String>, ComponentError> {
    let text = context.metadata.get("routes").unwrap_or_default();
    let pairs: Vec<(&str, &str)> = context.metadata.iter().collect();
    if pairs.is_empty() {
        return Ok(BTreeMap::new());
    }
    if pairs.len() == 1 && !text.is_empty() {
        return parse(text);
    }
    context.log.warn(format_args!(
        "middleware.http.routeralias {}: one metadata field per route is deprecated; use the field \"routes\" instead",
        context.name
    ));
    if pairs.iter().any(|(key, value)| key.is_empty() || value.is_empty()) {
        return Err(invalid("invalid key/value pair in metadata: must not be empty"));
    }
    Ok(pairs.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect())
}

fn parse(text: &str) -> Result<BTreeMap<String, String>, ComponentError> {
    if let Ok(routes) = serde_json::from_str(text) {
        return Ok(routes);
    }
    let failed = |what: &str| invalid(format!("failed to decode 'routes' property as JSON or YAML: {what}"));
    let (document, _) = read_document(Path::new("routes"), text).map_err(|finding| failed(&finding.message))?;
    let Some(node) = document else { return Ok(BTreeMap::new()) };
    let Value::Map(entries) = node.value else { return Err(failed("expected paths by path")) };
    let mut routes = BTreeMap::new();
    for entry in entries {
        let Value::Scalar { text, .. } = entry.value.value else {
            return Err(failed(&format!("the route {:?} has no text as its path", entry.key)));
        };
        routes.insert(entry.key, text);
    }
    Ok(routes)
}

impl Template {
    fn new(route: &str) -> Result<Self, ComponentError> {
        let refused = |what: &str| invalid(format!("route {route:?}: {what}"));
        let mut expression = String::from("^");
        let mut names = Vec::new();
        let mut rest = route;
        while let Some((literal, tail)) = rest.split_once('{') {
            let end = closing_brace(tail).ok_or_else(|| refused("a { without its }"))?;
            let (part, after) = (tail.get(..end).unwrap_or_default(), tail.get(end + 1..).unwrap_or_default());
            let (name, pattern) = part.split_once(':').unwrap_or((part, "[^/]+"));
            if name.is_empty() || pattern.is_empty() {
                return Err(refused("expected {name} or {name:expression}"));
            }
            expression.push_str(&regex::escape(literal));
            // A group of its own, so that groups inside the pattern do not shift the numbers of ours.
            expression.push_str(&format!("(?P<v{}>{pattern})", names.len()));
            names.push(name.to_owned());
            rest = after;
        }
        expression.push_str(&regex::escape(rest));
        expression.push('$');
        let expression = Regex::new(&expression).map_err(|error| refused(&error.to_string()))?;
        Ok(Self { expression, names })
    }

    /// The values of the parts, by name, when the path matches.
    fn values(&self, path: &str) -> Option<Vec<(String, String)>> {
        let captures = self.expression.captures(path)?;
        let value = |(index, name): (usize, &String)| {
            let value = captures.name(&format!("v{index}")).map_or("", |part| part.as_str());
            (name.clone(), value.to_owned())
        };
        Some(self.names.iter().enumerate().map(value).collect())
    }
}

/// Where the brace that opens before `text` closes; braces of an expression inside count.
fn closing_brace(text: &str) -> Option<usize> {
    let mut depth = 0usize;
    for (index, byte) in text.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' if depth == 0 => return Some(index),
            b'}' => depth -= 1,
            _ => {}
        }
    }
    None
}

fn invalid(message: impl Into<String>) -> ComponentError {
    ComponentError::new(ErrorKind::InvalidRequest, message)
}

impl RouterAlias {
    /// The new path and query, when a route matches.
    fn target(&self, uri: &Uri) -> Option<String> {
        let path = form::decode_path(uri.path());
        if let Some(path) = self.literal.get(path.as_ref()) {
            let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
            return Some(form::escape_path(path) + &query);
        }
        let (values, path) =
            self.templates.iter().find_map(|(template, target)| Some((template.values(&path)?, target)))?;
        let mut pairs = form::parse(uri.query().unwrap_or_default());
        pairs.extend(values);
        Some(format!("{}?{}", form::escape_path(path), form::encode(pairs)))
    }
}

#[async_trait]
impl HttpMiddleware for RouterAlias {
    async fn handle(&self, mut request: HttpRequest, next: Next<'_>) -> HttpResponse {
        if let Some(target) = self.target(request.uri())
            && let Ok(target) = PathAndQuery::try_from(target)
        {
            let mut parts = request.uri().clone().into_parts();
            parts.path_and_query = Some(target);
            if let Ok(uri) = Uri::from_parts(parts) {
                *request.uri_mut() = uri;
            }
        }
        next.run(request).await
    }
}
