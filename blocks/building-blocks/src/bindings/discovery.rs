//! Which input bindings the app takes.
//!
//! *Source:* spec app_channel.md §2 and §4: `OPTIONS` of the route over HTTP, where any 2xx or 405 means yes; `ListInputBindings` over
//! gRPC, asked once. *Invariant:* an app that cannot be asked has not been asked: it is asked again when bindings start again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method};
use pillion_core::duration::format_go;
use pillion_proto::runtime::v1::app_callback_client::AppCallbackClient;
use pillion_runtime::app_channel::{AppChannel, GrpcChannel, HttpChannel};
use pillion_runtime::body::Body;
use pillion_runtime::message::{AppStatus, InvokeRequest};

/// An answer nobody reads, up to this many bytes, so that its connection can be used again.
const REST_BYTES: usize = 64 * 1024;

/// What an app is asked about its input bindings.
pub struct AppBindings {
    channel: AppChannel,
    limit: Duration,
    /// What a gRPC app listed.
    listed: tokio::sync::Mutex<Option<Arc<BTreeSet<String>>>>,
}

impl AppBindings {
    /// Asks over a channel; no question may take longer than `limit` (`--app-binding-options-timeout`).
    pub fn new(channel: AppChannel, limit: Duration) -> Self {
        Self { channel, limit, listed: tokio::sync::Mutex::default() }
    }

    /// Whether the app takes events of a binding.
    ///
    /// # Errors
    /// Why it is not known.
    pub async fn wants(&self, name: &str, route: &str) -> Result<bool, String> {
        match &self.channel {
            AppChannel::Http(channel) => self.within(ask_http(channel, route)).await.map_err(|problem| {
                format!("could not invoke OPTIONS method on input binding subscription endpoint {route:?}: {problem}")
            }),
            AppChannel::Grpc(channel) => {
                let mut listed = self.listed.lock().await;
                if let Some(listed) = &*listed {
                    return Ok(listed.contains(name));
                }
                let found = Arc::new(self.within(ask_grpc(channel)).await.map_err(|problem| {
                    format!("could not ask the app with ListInputBindings which bindings it takes: {problem}")
                })?);
                Ok(listed.insert(found).contains(name))
            }
        }
    }

    async fn within<T>(&self, question: impl Future<Output = Result<T, String>>) -> Result<T, String> {
        tokio::time::timeout(self.limit, question).await.unwrap_or_else(|_elapsed| {
            Err(format!("no answer within {}; see --app-binding-options-timeout", format_go(self.limit)))
        })
    }
}

async fn ask_http(channel: &HttpChannel, route: &str) -> Result<bool, String> {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let (method, query) = route.split_once('?').unwrap_or((route, ""));
    let request = InvokeRequest {
        method: method.to_owned(),
        verb: Method::OPTIONS,
        query: query.to_owned(),
        headers,
        body: Body::empty(),
        data_type_url: String::new(),
    };
    let response = channel.invoke(request).await.map_err(|error| error.to_string())?;
    let status = match response.status {
        AppStatus::Http(status) => status,
        AppStatus::Grpc(_) => 500, // an HTTP channel never answers so
    };
    let _ = response.body.collect(REST_BYTES).await; // what it says does not matter
    Ok(matches!(status, 200..=299 | 405))
}

async fn ask_grpc(channel: &GrpcChannel) -> Result<BTreeSet<String>, String> {
    let mut request = tonic::Request::new(());
    channel.add_token(request.metadata_mut());
    match AppCallbackClient::new(channel.callbacks()).list_input_bindings(request).await {
        Ok(answer) => Ok(answer.into_inner().bindings.into_iter().collect()),
        Err(status) if status.code() == tonic::Code::Unimplemented => Ok(BTreeSet::new()),
        Err(status) => Err(status.message().to_owned()),
    }
}
