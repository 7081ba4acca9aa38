//! SETTINGS: what this side is configured with and what the peer has said. *Source:* RFC 9113 §6.5.
//!
//! *Neighbours:* the builders fill [`Config`], `input` applies the peer's. *Invariant:* values out of range never get
//! further.

use crate::error::Reason;
use crate::frame::{self, MAX_31};

pub(crate) const DEFAULT_WINDOW: u32 = 65_535;
/// The longest frame anybody has to take, and we do.
pub(crate) const FRAME_MIN: u32 = 16_384;
const FRAME_MAX: u32 = (1 << 24) - 1;
/// Longer frames than this are not sent, so that streams can take turns.
const FRAME_SENT_MAX: u32 = 65_536;
/// As the `h2` crate and gRPC's own servers have it.
const HEADER_LIST_DEFAULT: u32 = 16 << 20;

const HEADER_TABLE_SIZE: u16 = 1;
const ENABLE_PUSH: u16 = 2;
const MAX_CONCURRENT_STREAMS: u16 = 3;
const INITIAL_WINDOW_SIZE: u16 = 4;
const MAX_FRAME_SIZE: u16 = 5;
const MAX_HEADER_LIST_SIZE: u16 = 6;

/// What a connection of ours is made with.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) stream_window: u32,
    pub(crate) connection_window: u32,
    pub(crate) header_list: Option<u32>,
    /// Streams the peer may open; `None` = no limit.
    pub(crate) streams: Option<u32>,
    /// Streams this side opens before the peer has said how many it takes.
    pub(crate) send_streams: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            stream_window: DEFAULT_WINDOW,
            connection_window: DEFAULT_WINDOW,
            header_list: None,
            streams: None,
            send_streams: 100,
        }
    }
}

impl Config {
    pub(crate) fn header_list_max(&self) -> usize {
        self.header_list.unwrap_or(HEADER_LIST_DEFAULT) as usize
    }

    /// Writes SETTINGS, and the window of the connection, which is no setting.
    pub(crate) fn write(&self, out: &mut Vec<u8>, client: bool) {
        let begin = out.len();
        frame::put_head(out, 0, frame::SETTINGS, 0, 0);
        let mut put = |name: u16, value: u32| {
            out.extend_from_slice(&name.to_be_bytes());
            out.extend_from_slice(&value.to_be_bytes());
        };
        if client {
            put(ENABLE_PUSH, 0);
        }
        if let Some(streams) = self.streams {
            put(MAX_CONCURRENT_STREAMS, streams);
        }
        if self.stream_window != DEFAULT_WINDOW {
            put(INITIAL_WINDOW_SIZE, self.stream_window);
        }
        if let Some(size) = self.header_list {
            put(MAX_HEADER_LIST_SIZE, size);
        }
        out[begin + 2] = (out.len() - begin - frame::HEAD_BYTES) as u8; // at most four of six bytes
        if self.connection_window > DEFAULT_WINDOW {
            frame::put_window_update(out, 0, self.connection_window - DEFAULT_WINDOW);
        }
    }
}

/// The settings both builders have.
macro_rules! common_settings {
    () => {
        /// The defaults of RFC 9113.
        pub fn new() -> Self {
            Self::default()
        }

        /// How much the peer may send on a stream before any of it is used.
        pub fn initial_window_size(&mut self, size: u32) -> &mut Self {
            self.config.stream_window = size.min(crate::frame::MAX_31);
            self
        }

        /// The same for all streams together; not less than 65535.
        pub fn initial_connection_window_size(&mut self, size: u32) -> &mut Self {
            self.config.connection_window = size.min(crate::frame::MAX_31);
            self
        }

        /// How long the header fields of the peer's messages may be.
        pub fn max_header_list_size(&mut self, size: u32) -> &mut Self {
            self.config.header_list = Some(size);
            self
        }
    };
}
pub(crate) use common_settings;

/// What the peer has said, and the defaults for the rest.
#[derive(Clone, Debug)]
pub(crate) struct PeerSettings {
    pub(crate) stream_window: u32,
    pub(crate) frame_size: usize,
    pub(crate) streams: usize,
    /// Whether the peer has said nothing yet.
    is_unsaid: bool,
    pub(crate) header_table: u32,
}

impl PeerSettings {
    pub(crate) fn new(send_streams: usize) -> Self {
        Self {
            stream_window: DEFAULT_WINDOW,
            frame_size: FRAME_MIN as usize,
            streams: send_streams,
            is_unsaid: true,
            header_table: 4096,
        }
    }

    /// Takes the payload of a SETTINGS frame over; its length is a multiple of six.
    pub(crate) fn apply(&mut self, payload: &[u8], client: bool) -> Result<(), Reason> {
        let (settings, _) = payload.as_chunks::<6>();
        if std::mem::take(&mut self.is_unsaid) {
            self.streams = usize::MAX; // no limit, unless there is one
        }
        for [a, b, value @ ..] in settings {
            let value = u32::from_be_bytes(*value);
            match u16::from_be_bytes([*a, *b]) {
                HEADER_TABLE_SIZE => self.header_table = value,
                ENABLE_PUSH if value > u32::from(!client) => return Err(Reason::PROTOCOL_ERROR),
                MAX_CONCURRENT_STREAMS => self.streams = value as usize,
                INITIAL_WINDOW_SIZE if value > MAX_31 => return Err(Reason::FLOW_CONTROL_ERROR),
                INITIAL_WINDOW_SIZE => self.stream_window = value,
                MAX_FRAME_SIZE if !(FRAME_MIN..=FRAME_MAX).contains(&value) => return Err(Reason::PROTOCOL_ERROR),
                MAX_FRAME_SIZE => self.frame_size = value.min(FRAME_SENT_MAX) as usize,
                _ => {}
            }
        }
        Ok(())
    }
}
