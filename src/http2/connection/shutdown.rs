use super::{Connection, ConnectionError};
use crate::http2::error_code::ErrorCode;
use crate::http2::frame::{self, MAX_31_BITS};
use crate::http2::policy::Policy;

/// The opaque data of PING frames that the server sends.
const SHUTDOWN_PING: [u8; 8] = *b"shutdown";
const KEEPALIVE_PING: [u8; 8] = *b"keepaliv";
pub(super) const BANDWIDTH_PING: [u8; 8] = *b"bandwdth";

/// The graceful shutdown (RFC 9113, 6.8).
///
/// ```text
///  None --- GOAWAY(2^31-1), PING ---> Announced --- PING acknowledged: GOAWAY(last) ---> Final(last)
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shutdown {
    None,
    /// Requests that the client has sent meanwhile are still served.
    Announced,
    /// Later streams are ignored.
    Final(u32),
}

impl Shutdown {
    pub(super) fn last_stream(self) -> Option<u32> {
        match self {
            Self::Final(last) => Some(last),
            Self::None | Self::Announced => None,
        }
    }
}

impl<P: Policy> Connection<P> {
    /// Asks the client to open no more streams. Open streams continue.
    pub(crate) fn shut_down(&mut self) {
        if self.shutdown == Shutdown::None && self.closed.is_none() {
            self.shutdown = Shutdown::Announced;
            frame::put_go_away(self.output.frames(), MAX_31_BITS, ErrorCode::NO_ERROR, "");
            frame::put_ping(self.output.frames(), SHUTDOWN_PING, false);
        }
    }

    /// Whether the shutdown is complete: the client has acknowledged it, and no stream is open.
    pub(crate) fn is_shut_down(&self) -> bool {
        self.shutdown.last_stream().is_some() && self.streams.is_empty()
    }

    /// Sends a last GOAWAY. The caller closes the connection next.
    pub(crate) fn go_away(&mut self, code: ErrorCode, debug: &str) {
        let last = self.shutdown.last_stream().unwrap_or(self.last_stream);
        frame::put_go_away(self.output.frames(), last, code, debug);
    }

    /// Sends a PING for keepalive.
    pub(crate) fn ping(&mut self) {
        frame::put_ping(self.output.frames(), KEEPALIVE_PING, false);
    }

    /// Whether a keepalive PING was acknowledged since the last time.
    pub(crate) fn take_pong(&mut self) -> bool {
        std::mem::take(&mut self.pong)
    }

    pub(super) fn receive_ping(&mut self, payload: [u8; 8], ack: bool) {
        if !ack {
            frame::put_ping(self.output.frames(), payload, true);
        } else if payload == KEEPALIVE_PING {
            self.pong = true;
        } else if payload == BANDWIDTH_PING {
            if let Some(bytes) = self.bandwidth.acknowledged(self.stream_window, self.now) {
                self.grow_windows(bytes);
            }
        } else if payload == SHUTDOWN_PING && self.shutdown == Shutdown::Announced {
            self.shutdown = Shutdown::Final(self.last_stream);
            frame::put_go_away(self.output.frames(), self.last_stream, ErrorCode::NO_ERROR, "");
        }
    }

    /// The client's GOAWAY. It concerns streams of the server, which has none.
    pub(super) fn receive_go_away(&mut self, payload: &[u8]) -> Result<(), ConnectionError> {
        if payload.len() < 8 {
            return Err(ConnectionError::new(
                ErrorCode::FRAME_SIZE_ERROR,
                "GOAWAY is shorter than 8 bytes (6.8)",
            ));
        }
        Ok(())
    }
}
