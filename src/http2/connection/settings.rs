use super::{Config, Connection, ConnectionError};
use crate::http2::error_code::ErrorCode;
use crate::http2::frame::{self, MAX_31_BITS, MAX_FRAME_SIZE, setting};
use crate::http2::policy::Policy;

/// The window of new connections and streams (RFC 9113, 6.9.2).
pub(super) const DEFAULT_WINDOW: u32 = 65_535;

/// The values of SETTINGS_MAX_FRAME_SIZE (RFC 9113, 6.5.2).
const FRAME_SIZES: std::ops::RangeInclusive<u32> = MAX_FRAME_SIZE as u32..=(1 << 24) - 1;

/// The settings of the client.
#[derive(Debug)]
pub(super) struct PeerSettings {
    pub(super) initial_window: u32,
    /// The longest frame that this server sends: the smaller of the client's limit and ours.
    pub(super) max_frame_size: usize,
    pub(super) max_header_list_size: u32,
    /// Whether the first SETTINGS frame has arrived.
    pub(super) received: bool,
}

impl Default for PeerSettings {
    fn default() -> Self {
        Self {
            initial_window: DEFAULT_WINDOW,
            max_frame_size: MAX_FRAME_SIZE,
            max_header_list_size: u32::MAX,
            received: false,
        }
    }
}

/// Returns `window * to / from`.
fn scale(window: u32, to: u32, from: u32) -> u32 {
    let scaled = u64::from(window) * u64::from(to) / u64::from(from.max(1));
    u32::try_from(scaled).unwrap_or(u32::MAX)
}

impl<P: Policy> Connection<P> {
    /// Sends the server's preface (RFC 9113, 3.4).
    pub(super) fn send_settings(&mut self) {
        let config = &self.config;
        let settings = [
            (setting::MAX_CONCURRENT_STREAMS, config.max_concurrent_streams),
            (setting::INITIAL_WINDOW_SIZE, config.stream_window),
            (setting::MAX_HEADER_LIST_SIZE, config.max_header_list_size),
        ];
        frame::put_settings(self.output.frames(), &settings);
    }

    /// Raises the window of the connection, once the client's preface has arrived. A client whose
    /// kernel uses Nagle's algorithm (RFC 896) sends its SETTINGS only after the server has
    /// acknowledged the preface. The frame carries that acknowledgement without a delay.
    pub(super) fn raise_window(&mut self) {
        if !self.window_raised && self.input.has_preface() {
            self.window_raised = true;
            let more = self.config.connection_window.saturating_sub(DEFAULT_WINDOW);
            if more > 0 {
                frame::put_window_update(self.output.frames(), 0, more);
            }
        }
    }

    /// Lets the bandwidth be measured, unless the windows have reached their limit.
    pub(super) fn window_returned(&mut self) {
        if self.stream_window < self.max_stream_window() {
            self.bandwidth.window_returned();
        }
    }

    /// The window that streams have when that of the connection has reached its limit. The
    /// connection keeps room for as many full streams.
    fn max_stream_window(&self) -> u32 {
        let Config { stream_window, connection_window, max_connection_window, .. } = self.config;
        let limit = max_connection_window.min(MAX_31_BITS);
        scale(stream_window, limit, connection_window).min(limit)
    }

    /// Grows the windows so that a stream can have twice `bytes` in flight, as far as the limit
    /// permits.
    pub(super) fn grow_windows(&mut self, bytes: usize) {
        let wanted = u32::try_from(bytes).unwrap_or(u32::MAX).saturating_mul(2);
        let stream_window = wanted.min(self.max_stream_window());
        let Some(more @ 1..) = stream_window.checked_sub(self.stream_window) else { return };
        self.stream_window = stream_window;
        // The client adds the difference to the windows of its open streams (RFC 9113, 6.9.2). It
        // does so before it acknowledges, and before it reads any later WINDOW_UPDATE. So they
        // count as grown from here on.
        let settings = [(setting::INITIAL_WINDOW_SIZE, stream_window)];
        frame::put_settings(self.output.frames(), &settings);
        self.streams.iter_mut().for_each(|stream| stream.receive_window.grow(more));
        let Config { stream_window, connection_window, .. } = self.config;
        let connection_window = scale(self.stream_window, connection_window, stream_window);
        if let Some(more @ 1..) = connection_window.checked_sub(self.connection_window) {
            self.connection_window = connection_window;
            self.receive_window.grow(more);
            frame::put_window_update(self.output.frames(), 0, more);
        }
    }

    /// Applies SETTINGS of the client, in their order (RFC 9113, 6.5.3).
    pub(super) fn receive_settings(&mut self, payload: &[u8]) -> Result<(), ConnectionError> {
        self.peer.received = true;
        let (settings, rest) = payload.as_chunks::<6>();
        if !rest.is_empty() {
            return Err(ConnectionError::new(
                ErrorCode::FRAME_SIZE_ERROR,
                "the length of SETTINGS is no multiple of 6 (6.5)",
            ));
        }
        // The windows of all streams are changed once, however often the frame has the setting.
        let before = self.peer.initial_window;
        let mut window = before;
        for [a, b, c, d, e, f] in settings {
            let value = u32::from_be_bytes([*c, *d, *e, *f]);
            match u16::from_be_bytes([*a, *b]) {
                setting::INITIAL_WINDOW_SIZE if value > MAX_31_BITS => {
                    return Err(ConnectionError::new(
                        ErrorCode::FLOW_CONTROL_ERROR,
                        "INITIAL_WINDOW_SIZE is above 2^31-1 (6.5.2)",
                    ));
                }
                setting::INITIAL_WINDOW_SIZE => window = value,
                id => self.apply(id, value)?,
            }
        }
        self.change_initial_window(window)?;
        frame::put_settings_ack(self.output.frames());
        if window > before {
            let keys: Vec<_> = self.streams.keys().collect();
            keys.into_iter().for_each(|key| self.window_opened(key));
        }
        Ok(())
    }

    fn apply(&mut self, id: u16, value: u32) -> Result<(), ConnectionError> {
        match id {
            setting::HEADER_TABLE_SIZE => self.encoder.set_max_table_size(value),
            setting::ENABLE_PUSH if value > 1 => {
                return Err(ConnectionError::protocol("ENABLE_PUSH is neither 0 nor 1 (6.5.2)"));
            }
            setting::MAX_FRAME_SIZE if !FRAME_SIZES.contains(&value) => {
                return Err(ConnectionError::protocol(
                    "MAX_FRAME_SIZE is not between 2^14 and 2^24-1 (6.5.2)",
                ));
            }
            setting::MAX_HEADER_LIST_SIZE => self.peer.max_header_list_size = value,
            // MAX_CONCURRENT_STREAMS limits pushed streams. Unknown settings are ignored.
            _ => {}
        }
        Ok(())
    }

    /// Changes the windows of all streams (RFC 9113, 6.9.2).
    fn change_initial_window(&mut self, value: u32) -> Result<(), ConnectionError> {
        let change = i64::from(value) - i64::from(self.peer.initial_window);
        self.peer.initial_window = value;
        if change == 0 {
            return Ok(());
        }
        for stream in self.streams.iter_mut() {
            stream.send_window += change;
            if stream.send_window > i64::from(MAX_31_BITS) {
                return Err(ConnectionError::new(
                    ErrorCode::FLOW_CONTROL_ERROR,
                    "INITIAL_WINDOW_SIZE overflows the window of a stream (6.9.2)",
                ));
            }
        }
        Ok(())
    }
}
