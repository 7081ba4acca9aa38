//! A caller's messages for more than one attempt: the first message is kept, a second one cannot be.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame};
use parking_lot::Mutex;
use tonic::Status;
use tonic::body::Body;

use super::frames::Meter;
use super::relay::Refusal;

/// Text of the original.
const SECOND_MESSAGE: &str = "cannot use resiliency policies with retries on streaming RPCs";

/// Where the attempts of a call get their request body from.
pub(super) enum Source {
    /// There is only one attempt.
    Once(Mutex<Body>),
    /// Bytes are kept as they pass.
    Replay(Arc<Mutex<Kept>>),
}

/// What has passed of a request body, and the rest.
pub(super) struct Kept {
    rest: Body,
    ended: bool,
    chunks: Vec<Bytes>,
    meter: Meter,
    /// Number of the attempt that may read: an earlier one that still runs must not take what belongs to the next.
    attempt: u64,
    refusal: Refusal,
}

impl Source {
    pub(super) fn new(body: Body, replay: bool, refusal: Refusal) -> Self {
        if !replay {
            return Self::Once(Mutex::new(body));
        }
        // Lengths are checked where the body comes from.
        let kept = Kept { rest: body, ended: false, chunks: Vec::new(), meter: Meter::new(0), attempt: 0, refusal };
        Self::Replay(Arc::new(Mutex::new(kept)))
    }

    /// The body of the next attempt.
    pub(super) fn body(&self) -> Body {
        match self {
            Self::Once(body) => std::mem::take(&mut *body.lock()),
            Self::Replay(kept) => {
                let attempt = {
                    let mut kept = kept.lock();
                    kept.attempt += 1;
                    kept.attempt
                };
                Body::new(Replay { kept: kept.clone(), attempt, next: 0 })
            }
        }
    }
}

struct Replay {
    kept: Arc<Mutex<Kept>>,
    attempt: u64,
    next: usize,
}

impl HttpBody for Replay {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        let mut kept = this.kept.lock();
        if kept.attempt != this.attempt {
            return Poll::Ready(Some(Err(Status::cancelled("another attempt has begun"))));
        }
        if let Some(chunk) = kept.chunks.get(this.next) {
            this.next += 1;
            return Poll::Ready(Some(Ok(Frame::data(chunk.clone()))));
        }
        while !kept.ended {
            match ready!(Pin::new(&mut kept.rest).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    let Ok(data) = frame.into_data() else { continue };
                    let counted = kept.meter.pass(&data).is_ok();
                    if !counted || kept.meter.messages() > 1 {
                        kept.rest = Body::empty();
                        return Poll::Ready(Some(Err(kept.refusal.set(Status::failed_precondition(SECOND_MESSAGE)))));
                    }
                    kept.chunks.push(data.clone());
                    this.next += 1;
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => kept.ended = true,
            }
        }
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        let kept = self.kept.lock();
        self.next == kept.chunks.len() && (kept.ended || kept.rest.is_end_stream())
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt as _, Full, StreamBody};

    use super::*;

    const MESSAGE: &[u8] = &[0, 0, 0, 0, 2, 8, 9];

    #[tokio::test]
    async fn one_message_can_be_read_again() {
        let source = Source::new(Body::new(Full::from(MESSAGE)), true, Refusal::default());
        let mut earlier = source.body();
        assert_eq!(earlier.frame().await.unwrap().unwrap().into_data().unwrap(), MESSAGE);
        for _ in 0..2 {
            assert_eq!(source.body().collect().await.unwrap().to_bytes(), MESSAGE);
        }
        assert!(earlier.frame().await.unwrap().is_err(), "a body of an earlier attempt takes nothing");
    }

    #[tokio::test]
    async fn a_second_message_is_refused_once_it_begins() {
        let refusal = Refusal::default();
        let frames = [MESSAGE, &MESSAGE[..1]].map(|data| Ok::<_, Status>(Frame::data(Bytes::from_static(data))));
        let source = Source::new(Body::new(StreamBody::new(futures_util::stream::iter(frames))), true, refusal.clone());
        let mut body = source.body();
        assert!(body.frame().await.unwrap().is_ok());
        let status = body.frame().await.unwrap().unwrap_err();
        assert_eq!((status.code(), status.message()), (tonic::Code::FailedPrecondition, SECOND_MESSAGE));
        assert_eq!(refusal.get().unwrap().message(), SECOND_MESSAGE);
    }
}
