//! What goes wrong: [`Error`] for callers, [`Cause`] inside, [`Reason`] on the wire. *Source:* RFC 9113 §7.
//!
//! *Invariant:* texts say who found the problem (this library, this program, the peer), as those of the `h2` crate do.

use std::{error, fmt, io};

use bytes::Bytes;

/// An error code of HTTP/2.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Reason(u32);

macro_rules! reasons {
    ($($number:literal $name:ident $text:literal;)*) => {
        impl Reason {
            $(#[doc = $text] pub const $name: Reason = Reason($number);)*

            /// What it means.
            pub fn description(&self) -> &'static str {
                match self.0 { $($number => $text,)* _ => "unknown reason" }
            }

            fn name(self) -> Option<&'static str> {
                match self.0 { $($number => Some(stringify!($name)),)* _ => None }
            }
        }
    };
}

reasons! {
    0 NO_ERROR "not a result of an error";
    1 PROTOCOL_ERROR "unspecific protocol error detected";
    2 INTERNAL_ERROR "unexpected internal error encountered";
    3 FLOW_CONTROL_ERROR "flow-control protocol violated";
    4 SETTINGS_TIMEOUT "settings ACK not received in timely manner";
    5 STREAM_CLOSED "received frame when stream half-closed";
    6 FRAME_SIZE_ERROR "frame with invalid size";
    7 REFUSED_STREAM "refused stream before processing any application logic";
    8 CANCEL "stream no longer needed";
    9 COMPRESSION_ERROR "unable to maintain the header compression context";
    10 CONNECT_ERROR "connection established in response to a CONNECT request was reset or abnormally closed";
    11 ENHANCE_YOUR_CALM "detected excessive load generating behavior";
    12 INADEQUATE_SECURITY "security properties do not meet minimum requirements";
    13 HTTP_1_1_REQUIRED "endpoint requires HTTP/1.1";
}

impl From<u32> for Reason {
    fn from(number: u32) -> Self {
        Self(number)
    }
}

impl From<Reason> for u32 {
    fn from(reason: Reason) -> Self {
        reason.0
    }
}

impl fmt::Debug for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "Reason({:x})", self.0),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.description())
    }
}

/// Who ended a stream or connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Initiator {
    /// The program, through a handle.
    User,
    /// This crate, because of what the peer did.
    Library,
    Remote,
}

/// What the program asked for and cannot have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Misuse {
    Inactive,
    UnexpectedFrame,
    ReleaseTooBig,
    Rejected,
    OutOfIds,
    MalformedHeaders,
    NoSchemeOrAuthority,
    PingPending,
    PollResetAfterResponse,
}

impl fmt::Display for Misuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Inactive => "inactive stream",
            Self::UnexpectedFrame => "unexpected frame type",
            Self::ReleaseTooBig => "release capacity too big",
            Self::Rejected => "rejected",
            Self::OutOfIds => "stream ID overflowed",
            Self::MalformedHeaders => "malformed headers",
            Self::NoSchemeOrAuthority => "request URI missing scheme and authority",
            Self::PingPending => "send_ping before received previous pong",
            Self::PollResetAfterResponse => "poll_reset after send_response is illegal",
        })
    }
}

/// Why a stream or a connection ended; kept and told to whoever asks.
#[derive(Clone, Debug)]
pub(crate) enum Cause {
    Reset(Reason, Initiator),
    GoAway(Reason, Initiator, Bytes),
    Io(io::ErrorKind, String),
    Misuse(Misuse),
}

impl Cause {
    pub(crate) fn broken(what: &str) -> Self {
        Self::Io(io::ErrorKind::BrokenPipe, format!("{what} closed because of a broken pipe"))
    }
}

impl From<&io::Error> for Cause {
    fn from(error: &io::Error) -> Self {
        Self::Io(error.kind(), error.to_string())
    }
}

impl From<Misuse> for Cause {
    fn from(misuse: Misuse) -> Self {
        Self::Misuse(misuse)
    }
}

/// Why something of HTTP/2 failed.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Reset(Reason, Initiator),
    GoAway(Reason, Initiator, Bytes),
    Reason(Reason),
    Io(io::Error),
    Misuse(Misuse),
}

impl Error {
    /// The code, of a reset or an end of the connection.
    pub fn reason(&self) -> Option<Reason> {
        match self.kind {
            Kind::Reset(reason, _) | Kind::GoAway(reason, _, _) | Kind::Reason(reason) => Some(reason),
            Kind::Io(_) | Kind::Misuse(_) => None,
        }
    }

    /// Whether the bytes' way broke.
    pub fn is_io(&self) -> bool {
        matches!(self.kind, Kind::Io(_))
    }

    /// Whether the connection was ended by GOAWAY.
    pub fn is_go_away(&self) -> bool {
        matches!(self.kind, Kind::GoAway(..))
    }

    /// Whether the stream was ended by RST_STREAM.
    pub fn is_reset(&self) -> bool {
        matches!(self.kind, Kind::Reset(..))
    }

    /// Whether the peer ended it.
    pub fn is_remote(&self) -> bool {
        self.is_by(Initiator::Remote)
    }

    /// Whether this crate ended it.
    pub fn is_library(&self) -> bool {
        self.is_by(Initiator::Library)
    }

    fn is_by(&self, who: Initiator) -> bool {
        matches!(self.kind, Kind::Reset(_, by) | Kind::GoAway(_, by, _) if by == who)
    }
}

impl From<Cause> for Error {
    fn from(cause: Cause) -> Self {
        let kind = match cause {
            Cause::Reset(reason, by) => Kind::Reset(reason, by),
            Cause::GoAway(reason, by, text) => Kind::GoAway(reason, by, text),
            Cause::Io(kind, text) => Kind::Io(io::Error::new(kind, text)),
            Cause::Misuse(misuse) => Kind::Misuse(misuse),
        };
        Self { kind }
    }
}

impl From<Misuse> for Error {
    fn from(misuse: Misuse) -> Self {
        Self { kind: Kind::Misuse(misuse) }
    }
}

impl From<Reason> for Error {
    fn from(reason: Reason) -> Self {
        Self { kind: Kind::Reason(reason) }
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self { kind: Kind::Io(error) }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who = |by: Initiator| match by {
            Initiator::User => "sent by user",
            Initiator::Library => "detected",
            Initiator::Remote => "received",
        };
        match &self.kind {
            Kind::Reset(reason, by) => write!(f, "stream error {}: {reason}", who(*by)),
            Kind::GoAway(reason, by, text) => {
                write!(f, "connection error {}: {reason}", who(*by))?;
                if text.is_empty() { Ok(()) } else { write!(f, " ({text:?})") }
            }
            Kind::Reason(reason) => write!(f, "protocol error: {reason}"),
            Kind::Io(error) => error.fmt(f),
            Kind::Misuse(misuse) => write!(f, "user error: {misuse}"),
        }
    }
}

impl error::Error for Error {}
