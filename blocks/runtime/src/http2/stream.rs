//! A gRPC call as an HTTP/2 stream: bodies onto streams and streams as bodies, with the flow control of both sides kept.
//!
//! *Neighbours:* the front and the server for other sidecars [`answer`], the app channel and the proxy [`send`]. *Invariant:* a
//! stream ends with its body, or is reset: no side waits for what will not come.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body as HttpBody, Frame};
use pillion_http2::client::SendRequest;
use pillion_http2::server::SendResponse;
use pillion_http2::{Reason, RecvStream, SendStream};
use tokio_util::task::AbortOnDropHandle;
use tonic::body::Body;
use tonic::{Code, Status};

use crate::body::BodyError;

/// The status of a failure of HTTP/2: what the other side's reset means, else that the connection is gone. *Source:* gRPC over
/// HTTP/2, section "Errors", and the original's texts.
pub fn status_of(error: &pillion_http2::Error) -> Status {
    let Some(reason) = error.reason().filter(|_| error.is_reset()) else {
        return Status::unavailable(format!("error reading from server: {error}"));
    };
    let code = match reason {
        Reason::REFUSED_STREAM => Code::Unavailable,
        Reason::CANCEL => Code::Cancelled,
        Reason::ENHANCE_YOUR_CALM | Reason::FLOW_CONTROL_ERROR => Code::ResourceExhausted,
        Reason::INADEQUATE_SECURITY => Code::PermissionDenied,
        _ => Code::Internal,
    };
    Status::new(code, format!("stream terminated by RST_STREAM with error code: {reason:?}"))
}

/// Sends a request and waits for the head of the answer. The request's body goes on in the background until it has ended or the
/// answer is dropped; `kept` lives as long as the answer's body has something to come.
///
/// # Errors
/// The connection's, or the stream's.
pub async fn send<K>(
    sender: &mut SendRequest,
    request: Request<Body>,
    kept: K,
) -> Result<Response<Body>, pillion_http2::Error>
where
    K: Send + Unpin + 'static,
{
    let (parts, body) = request.into_parts();
    let ended = body.is_end_stream();
    let (response, stream) = sender.send_request(Request::from_parts(parts, ()), ended)?;
    let sending = if ended { None } else { begin(send_body(stream, body)).await };
    let (parts, receive) = response.await?.into_parts();
    Ok(Response::from_parts(parts, StreamBody::wrap(receive, (kept, sending))))
}

/// Does what can be done of `work` at once; the rest gets a task of its own.
async fn begin(work: impl Future<Output = ()> + Send + 'static) -> Option<AbortOnDropHandle<()>> {
    let mut work = Box::pin(work);
    let done = std::future::poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx).is_ready())).await;
    (!done).then(|| AbortOnDropHandle::new(tokio::spawn(work)))
}

async fn send_body(mut stream: SendStream, body: Body) {
    match send_frames(&mut stream, body).await {
        Ok(false) => {
            let _ = stream.send_data(Bytes::new(), true); // a closed stream has its status already
        }
        Ok(true) => {}
        Err(()) => stream.send_reset(Reason::CANCEL),
    }
}

/// Waits for an answer and sends it, until the caller gives up.
pub async fn answer(response: impl Future<Output = Response<Body>>, mut respond: SendResponse) {
    let response = tokio::select! {
        biased;
        response = response => response,
        _ = std::future::poll_fn(|cx| respond.poll_reset(cx)) => return,
    };
    let (parts, body) = response.into_parts();
    let ended = body.is_end_stream();
    // Where sending fails the caller is gone, and there is nobody to tell.
    let Ok(mut stream) = respond.send_response(Response::from_parts(parts, ()), ended) else { return };
    if !ended && send_frames(&mut stream, body).await != Ok(true) {
        stream.send_reset(Reason::CANCEL);
    }
}

/// Sends a body with its trailers as the receiver has room for it; tells whether the stream was ended. `Err`: the body
/// broke or the receiver is gone.
async fn send_frames(stream: &mut SendStream, mut body: Body) -> Result<bool, ()> {
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
                send_data(stream, data, last).await.map_err(|_| ())?;
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

/// Sends bytes, waiting until the receiver has room for them.
///
/// # Errors
/// The stream was reset or the connection is gone.
pub async fn send_data(stream: &mut SendStream, mut data: Bytes, end: bool) -> Result<(), BodyError> {
    if data.is_empty() && end {
        stream.send_data(data, true)?;
        return Ok(());
    }
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        let granted = match stream.capacity() {
            0 => match std::future::poll_fn(|cx| stream.poll_capacity(cx)).await {
                Some(granted) => granted?,
                None => return Err("the stream was closed by the receiver".into()),
            },
            granted => granted,
        };
        let part = data.split_to(granted.min(data.len()));
        stream.send_data(part, end && data.is_empty())?;
    }
    Ok(())
}

/// The receiving half of a stream as a body.
pub struct StreamBody<K> {
    receive: RecvStream,
    data_ended: bool,
    ended: bool,
    kept: Option<K>,
}

impl<K: Send + Unpin + 'static> StreamBody<K> {
    /// `kept` is dropped with the last of the body.
    pub fn wrap(receive: RecvStream, kept: K) -> Body {
        let ended = receive.is_end_stream();
        if ended {
            return Body::empty();
        }
        Body::new(Self { receive, data_ended: false, ended: false, kept: Some(kept) })
    }
}

impl<K: Unpin> HttpBody for StreamBody<K> {
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
                    return Poll::Ready(Some(Err(status_of(&error))));
                }
                None => this.data_ended = true,
            }
        }
        let trailers = ready!(this.receive.poll_trailers(cx));
        this.ended = true;
        this.kept = None;
        Poll::Ready(trailers.map_err(|error| status_of(&error)).transpose().map(|frame| frame.map(Frame::trailers)))
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.receive.is_end_stream()
    }
}
