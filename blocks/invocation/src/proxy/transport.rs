//! A call as an HTTP/2 stream: bodies onto streams and streams as bodies, with the flow control of both sides kept.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream};
use http::uri::PathAndQuery;
use http::{Request, Response, Uri};
use http_body::{Body as HttpBody, Frame};
use tokio_util::task::AbortOnDropHandle;
use tonic::Status;
use tonic::body::Body;

use super::status;
use crate::peer::{Lease, StreamGuard};

/// Why a call has no answer.
pub(super) struct Broken {
    pub(super) status: Status,
    /// Whether the connection itself is of no use any more.
    pub(super) connection: bool,
}

impl From<h2::Error> for Broken {
    fn from(error: h2::Error) -> Self {
        Self { status: status::from_h2(&error), connection: !error.is_reset() }
    }
}

/// The address of a call on a connection to `address`.
pub(super) fn at(address: &str, called: &Uri) -> Result<Uri, Status> {
    let path = called.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    let uri = Uri::builder().scheme("http").authority(address).path_and_query(path).build();
    uri.map_err(|error| Status::internal(format!("the name resolver gave {address:?}, which is no address: {error}")))
}

/// Sends a request and waits for the head of the answer. The request's body goes on in the background until it has ended
/// or the answer is dropped.
pub(super) async fn send(lease: Lease, request: Request<Body>) -> Result<Response<Body>, Broken> {
    let Lease { mut sender, guard } = lease;
    let (parts, body) = request.into_parts();
    let ended = body.is_end_stream();
    let (response, stream) = sender.send_request(Request::from_parts(parts, ()), ended)?;
    let sending = if ended { None } else { begin(send_body(stream, body)).await };
    let (parts, receive) = response.await?.into_parts();
    Ok(Response::from_parts(parts, StreamBody::wrap(receive, Some((guard, sending)))))
}

/// Does what can be done of `work` at once; the rest gets a task of its own.
async fn begin(work: impl Future<Output = ()> + Send + 'static) -> Option<AbortOnDropHandle<()>> {
    let mut work = Box::pin(work);
    let done = std::future::poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx).is_ready())).await;
    (!done).then(|| AbortOnDropHandle::new(tokio::spawn(work)))
}

async fn send_body(mut stream: SendStream<Bytes>, body: Body) {
    match send_frames(&mut stream, body).await {
        Ok(false) => {
            let _ = stream.send_data(Bytes::new(), true); // a closed stream has its status already
        }
        Ok(true) => {}
        Err(()) => stream.send_reset(Reason::CANCEL),
    }
}

/// Sends a body with its trailers as the receiver has room for it; tells whether the stream was ended. `Err`: the body
/// broke or the receiver is gone.
pub(super) async fn send_frames(stream: &mut SendStream<Bytes>, mut body: Body) -> Result<bool, ()> {
    loop {
        let frame = tokio::select! {
            biased;
            frame = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)) => frame,
            _ = std::future::poll_fn(|cx| stream.poll_reset(cx)) => return Err(()),
        };
        let Some(frame) = frame else { return Ok(false) };
        match frame.map_err(|_| ())?.into_data() {
            Ok(data) => {
                let last = body.is_end_stream();
                send_data(stream, data, last).await?;
                if last {
                    return Ok(true);
                }
            }
            Err(frame) => {
                if let Ok(trailers) = frame.into_trailers() {
                    stream.send_trailers(trailers).map_err(|_| ())?;
                    return Ok(true);
                }
            }
        }
    }
}

async fn send_data(stream: &mut SendStream<Bytes>, mut data: Bytes, end: bool) -> Result<(), ()> {
    if data.is_empty() {
        return if end { stream.send_data(data, true).map_err(|_| ()) } else { Ok(()) };
    }
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        let granted = match stream.capacity() {
            0 => match std::future::poll_fn(|cx| stream.poll_capacity(cx)).await {
                Some(granted) => granted.map_err(|_| ())?,
                None => return Err(()),
            },
            granted => granted,
        };
        let part = data.split_to(granted.min(data.len()));
        stream.send_data(part, end && data.is_empty()).map_err(|_| ())?;
    }
    Ok(())
}

/// What lives as long as the answer: the place on the connection, and the request's body on its way.
type Kept = Option<(StreamGuard, Option<AbortOnDropHandle<()>>)>;

/// The receiving half of a stream as a body.
pub(super) struct StreamBody {
    receive: RecvStream,
    data_ended: bool,
    ended: bool,
    kept: Kept,
}

impl StreamBody {
    pub(super) fn wrap(receive: RecvStream, kept: Kept) -> Body {
        let ended = receive.is_end_stream();
        Body::new(Self { receive, data_ended: ended, ended, kept })
    }
}

impl HttpBody for StreamBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        if this.ended {
            return Poll::Ready(None);
        }
        if !this.data_ended {
            match ready!(this.receive.poll_data(cx)) {
                Some(Ok(data)) => {
                    let _ = this.receive.flow_control().release_capacity(data.len()); // fails only on a closed stream
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Err(error)) => {
                    this.ended = true;
                    return Poll::Ready(Some(Err(status::from_h2(&error))));
                }
                None => this.data_ended = true,
            }
        }
        let trailers = ready!(this.receive.poll_trailers(cx));
        this.ended = true;
        this.kept = None;
        Poll::Ready(
            trailers.map_err(|error| status::from_h2(&error)).transpose().map(|trailers| trailers.map(Frame::trailers)),
        )
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.receive.is_end_stream()
    }
}
