//! The one body type of requests and responses inside the sidecar: already here, or still streaming.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::sync::mpsc;

/// Any error of a body.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// The sending half of [`Body::channel`]; dropping it ends the body.
pub type BodySender = mpsc::Sender<Result<Bytes, BodyError>>;

type Boxed = Pin<Box<dyn HttpBody<Data = Bytes, Error = BodyError> + Send + Sync>>;

/// A body: empty, whole, or a stream of chunks.
#[derive(Default)]
pub struct Body(Kind);

#[derive(Default)]
enum Kind {
    #[default]
    Empty,
    Full(Bytes),
    Incoming(Incoming),
    Channel(mpsc::Receiver<Result<Bytes, BodyError>>),
    Boxed(Boxed),
}

/// Why [`Body::collect`] failed.
#[derive(Debug)]
pub enum CollectError {
    /// More bytes than the limit.
    TooLarge,
    /// The stream broke.
    Broken(BodyError),
}

impl fmt::Display for CollectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge => f.write_str("stream too large"),
            Self::Broken(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for CollectError {}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &self.0 {
            Kind::Empty => "empty",
            Kind::Full(_) => "full",
            Kind::Incoming(_) | Kind::Channel(_) | Kind::Boxed(_) => "stream",
        };
        write!(f, "Body({kind})")
    }
}

impl Body {
    /// No bytes.
    pub fn empty() -> Self {
        Self(Kind::Empty)
    }

    /// Bytes that are here.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        if bytes.is_empty() { Self::empty() } else { Self(Kind::Full(bytes)) }
    }

    /// A body fed by a sender that holds at most `capacity` chunks.
    pub fn channel(capacity: usize) -> (BodySender, Self) {
        let (sender, receiver) = mpsc::channel(capacity);
        (sender, Self(Kind::Channel(receiver)))
    }

    /// Any other body.
    pub fn boxed<B>(body: B) -> Self
    where
        B: HttpBody<Data = Bytes, Error = BodyError> + Send + Sync + 'static,
    {
        Self(Kind::Boxed(Box::pin(body)))
    }

    /// The bytes, when the body is whole; cheap.
    pub fn as_full(&self) -> Option<Bytes> {
        match &self.0 {
            Kind::Empty => Some(Bytes::new()),
            Kind::Full(bytes) => Some(bytes.clone()),
            _ => None,
        }
    }

    /// The exact length, when it is known before reading.
    pub fn known_length(&self) -> Option<u64> {
        self.size_hint().exact()
    }

    /// The next chunk of data; trailers are skipped.
    ///
    /// *Cancel safe:* a chunk that was not returned stays in the body.
    pub async fn chunk(&mut self) -> Option<Result<Bytes, BodyError>> {
        loop {
            match std::future::poll_fn(|cx| Pin::new(&mut *self).poll_frame(cx)).await? {
                Ok(frame) => {
                    if let Ok(data) = frame.into_data() {
                        return Some(Ok(data));
                    }
                }
                Err(error) => return Some(Err(error)),
            }
        }
    }

    /// Reads all, at most `limit` bytes (0 = no limit).
    ///
    /// # Errors
    /// [`CollectError`].
    pub async fn collect(mut self, limit: usize) -> Result<Bytes, CollectError> {
        if let Some(bytes) = self.as_full() {
            return if limit > 0 && bytes.len() > limit { Err(CollectError::TooLarge) } else { Ok(bytes) };
        }
        if limit > 0 && self.known_length().is_some_and(|length| length > limit as u64) {
            return Err(CollectError::TooLarge);
        }
        let Some(first) = self.chunk().await else { return Ok(Bytes::new()) };
        let first = first.map_err(CollectError::Broken)?;
        let mut all: Option<BytesMut> = None;
        let mut length = first.len();
        while limit == 0 || length <= limit {
            let Some(next) = self.chunk().await else {
                return Ok(all.map_or(first, BytesMut::freeze));
            };
            let next = next.map_err(CollectError::Broken)?;
            length += next.len();
            all.get_or_insert_with(|| BytesMut::from(first.as_ref())).extend_from_slice(&next);
        }
        Err(CollectError::TooLarge)
    }
}

impl From<Incoming> for Body {
    fn from(incoming: Incoming) -> Self {
        if incoming.is_end_stream() { Self::empty() } else { Self(Kind::Incoming(incoming)) }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.0 {
            Kind::Empty => Poll::Ready(None),
            Kind::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                self.0 = Kind::Empty;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Kind::Incoming(incoming) => Pin::new(incoming).poll_frame(cx).map_err(Into::into),
            Kind::Channel(receiver) => receiver.poll_recv(cx).map(|chunk| chunk.map(|chunk| chunk.map(Frame::data))),
            Kind::Boxed(boxed) => boxed.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Empty => true,
            Kind::Full(_) | Kind::Channel(_) => false,
            Kind::Incoming(incoming) => incoming.is_end_stream(),
            Kind::Boxed(boxed) => boxed.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Incoming(incoming) => incoming.size_hint(),
            Kind::Channel(_) => SizeHint::default(),
            Kind::Boxed(boxed) => boxed.size_hint(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn collects_whole_and_streamed_bodies() {
        assert_eq!(Body::full("abc").collect(0).await.unwrap(), "abc");
        let (sender, body) = Body::channel(4);
        for chunk in ["a", "b", "c"] {
            sender.send(Ok(Bytes::from(chunk))).await.unwrap();
        }
        drop(sender);
        assert_eq!(body.collect(3).await.unwrap(), "abc");
    }

    #[tokio::test]
    async fn a_limit_holds_for_known_and_unknown_lengths() {
        assert!(matches!(Body::full("abcd").collect(3).await, Err(CollectError::TooLarge)));
        let (sender, body) = Body::channel(4);
        for chunk in ["ab", "cd"] {
            sender.send(Ok(Bytes::from(chunk))).await.unwrap();
        }
        assert!(matches!(body.collect(3).await, Err(CollectError::TooLarge)));
    }

    #[tokio::test]
    async fn a_broken_stream_is_an_error() {
        let (sender, body) = Body::channel(4);
        sender.send(Ok(Bytes::from("ab"))).await.unwrap();
        sender.send(Err("reset".into())).await.unwrap();
        drop(sender);
        assert!(matches!(body.collect(0).await, Err(CollectError::Broken(_))));
    }
}
