//! The connection to one socket, as one component uses it.
//!
//! *Invariant:* every call carries `x-component-instance`, by which one process serves several components.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use hyper_util::rt::TokioIo;
use pillion_contract::{ComponentError, ErrorKind, InitContext};
use pillion_proto::components::v1::{MetadataRequest, PingResponse};
use tokio::net::UnixStream;
use tokio::sync::Mutex;
use tonic::codegen::InterceptedService;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Request, Response, Status};
use tower_service::Service;

/// Tells instances of one component type apart. *Source:* spec components.md §5.2.
const INSTANCE: &str = "x-component-instance";
/// Only fills the `:authority` of requests. *Source:* gRPC clients send this name to Unix sockets.
const AUTHORITY: &str = "http://localhost";

/// What the generated clients are made of.
pub(crate) type Transport = InterceptedService<Channel, Instance>;

/// A connection that is made anew by the call that finds it broken.
#[derive(Clone)]
pub(crate) struct Connection {
    transport: Transport,
    /// How many connections were made so far.
    made: Arc<AtomicU64>,
    /// The connection the component was last initialised on.
    initialised: Arc<Mutex<u64>>,
}

impl Connection {
    /// Connects for the component of `context`.
    ///
    /// # Errors
    /// `Unavailable` when nobody listens on the socket; `InvalidRequest` for a name that is not ASCII.
    pub(crate) async fn open(socket: &Path, context: &InitContext) -> Result<Self, ComponentError> {
        let name = context.name.as_str();
        let value = if name.is_ascii() { MetadataValue::try_from(name).ok() } else { None };
        let name = value.ok_or_else(|| {
            ComponentError::new(
                ErrorKind::InvalidRequest,
                format!(
                    "component name {:?} cannot be sent to the pluggable component: expected printable ASCII",
                    context.name
                ),
            )
        })?;
        let (channel, made) = dial(socket).await.map_err(|error| {
            ComponentError::new(
                ErrorKind::Unavailable,
                format!(
                    "unable to open GRPC connection using socket '{}': {}; check that the component runs",
                    socket.display(),
                    causes(&error)
                ),
            )
        })?;
        let initialised = Arc::new(Mutex::new(made.load(Ordering::Relaxed)));
        Ok(Self { transport: InterceptedService::new(channel, Instance(name)), made, initialised })
    }

    /// For a generated client.
    pub(crate) fn transport(&self) -> Transport {
        self.transport.clone()
    }

    /// Makes the component usable after a break: `ping` connects, and what is at the other end of a new connection may be
    /// another process, which wants `init` first. Of many that find the break one initialises.
    ///
    /// # Errors
    /// The component is not back yet, or does not want to be initialised.
    pub(crate) async fn revive<Init>(
        &self,
        ping: impl Future<Output = Result<Response<PingResponse>, Status>>,
        init: impl FnOnce() -> Init,
    ) -> Result<(), Status>
    where
        Init: Future<Output = Result<(), Status>>,
    {
        ping.await?;
        let mut initialised = self.initialised.lock().await;
        let made = self.made.load(Ordering::Relaxed);
        if *initialised != made {
            init().await?;
            *initialised = made;
        }
        Ok(())
    }
}

/// The metadata of a component as `Init` takes it.
pub(crate) fn properties(context: &InitContext) -> Option<MetadataRequest> {
    let pairs = context.metadata.iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
    Some(MetadataRequest { properties: pairs.collect::<HashMap<_, _>>() })
}

/// Metadata as protobuf maps take it.
pub(crate) fn to_map(pairs: &BTreeMap<String, String>) -> HashMap<String, String> {
    pairs.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// Connects to a socket; the counter tells how often.
pub(crate) async fn dial(socket: &Path) -> Result<(Channel, Arc<AtomicU64>), tonic::transport::Error> {
    let made = Arc::new(AtomicU64::new(0));
    let connector = Connector { socket: socket.to_owned(), made: made.clone() };
    let channel = Endpoint::from_static(AUTHORITY).connect_with_connector(connector).await?;
    Ok((channel, made))
}

/// An error with all its causes; tonic's own text is only `transport error`.
pub(crate) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

/// Adds the name of the component to each call.
#[derive(Clone)]
pub(crate) struct Instance(MetadataValue<Ascii>);

impl Interceptor for Instance {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert(INSTANCE, self.0.clone());
        Ok(request)
    }
}

#[derive(Clone)]
struct Connector {
    socket: PathBuf,
    made: Arc<AtomicU64>,
}

impl Service<Uri> for Connector {
    type Response = TokioIo<UnixStream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _uri: Uri) -> Self::Future {
        let Self { socket, made } = self.clone();
        Box::pin(async move {
            let stream = UnixStream::connect(socket).await?;
            made.fetch_add(1, Ordering::Relaxed);
            Ok(TokioIo::new(stream))
        })
    }
}
