//! Detects clients that do not use HTTP/2 by their first bytes.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use crate::grpc::call::Peer;
use crate::http2::frame::PREFACE;
use crate::log_throttle::LogThrottle;

/// Limits the log lines about such clients, because a misconfigured health check connects again and
/// again.
static REJECTED: Mutex<LogThrottle> = Mutex::new(LogThrottle::new(10));

/// A record of a TLS handshake, of any version (RFC 8446, 5.1).
const HANDSHAKE_RECORD: &[u8] = &[22, 3];

/// The protocol of a client that does not use HTTP/2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OtherProtocol {
    Http1,
    Tls,
}

impl OtherProtocol {
    /// Detects the protocol from the first bytes of a connection. `None` if they may be HTTP/2 or
    /// are unknown.
    pub(crate) fn detect(first: &[u8]) -> Option<Self> {
        if PREFACE.starts_with(first) || first.starts_with(PREFACE) {
            None
        } else if first.starts_with(HANDSHAKE_RECORD) {
            Some(Self::Tls)
        } else {
            is_request_line(first).then_some(Self::Http1)
        }
    }

    /// The answer to such a client, in its own protocol.
    pub(crate) fn answer(self) -> &'static [u8] {
        match self {
            Self::Http1 => concat!(
                "HTTP/1.1 505 HTTP Version Not Supported\r\n",
                "content-type: text/plain; charset=utf-8\r\n",
                "content-length: 97\r\n",
                "connection: close\r\n\r\n",
                "This port serves only gRPC over HTTP/2. Use a gRPC client, such as grpcurl, or an HTTP/2 ",
                "client.\n"
            )
            .as_bytes(),
            // An alert: protocol_version (RFC 8446, 6).
            Self::Tls => &[21, 3, 3, 0, 2, 2, 70],
        }
    }

    pub(crate) fn log(self, peer: &Peer) {
        REJECTED.lock().unwrap_or_else(PoisonError::into_inner).log(|times| {
            tracing::warn!(%peer, times, "connection refused: {self}");
        });
    }
}

impl fmt::Display for OtherProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http1 => {
                "the client uses HTTP/1.1, but this port serves only gRPC over HTTP/2 (the admin \
                 endpoint uses HTTP/1.1 on another port)"
            }
            Self::Tls => {
                "the client uses TLS, but this port has no certificate and serves plaintext"
            }
        })
    }
}

/// Whether this starts like `GET / HTTP/1.1`: a method in capital letters, a space, a target.
fn is_request_line(first: &[u8]) -> bool {
    let line = first.split(|byte| *byte == b'\r').next().unwrap_or(first);
    let mut parts = line.split(|byte| *byte == b' ');
    let method = parts.next().unwrap_or_default();
    let is_method = !method.is_empty() && method.iter().all(u8::is_ascii_uppercase);
    // RFC 9112, 3.2: a path, `*`, a URI or an authority. The last two contain a colon.
    let is_target =
        |target: &[u8]| target.starts_with(b"/") || target == b"*" || target.contains(&b':');
    is_method && parts.next().is_some_and(is_target) && method != b"PRI"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_protocols_are_detected_by_first_bytes() {
        for end in 0..=PREFACE.len() {
            assert_eq!(OtherProtocol::detect(&PREFACE[..end]), None);
        }
        assert_eq!(OtherProtocol::detect(&[PREFACE, &[0; 9]].concat()), None);
        for request in
            ["GET / HTTP/1.1\r\n", "POST /a.B/C HTTP/1.1\r\nhost: x", "OPTIONS * HTTP/1.0\r\n"]
        {
            assert_eq!(OtherProtocol::detect(request.as_bytes()), Some(OtherProtocol::Http1));
        }
        assert_eq!(OtherProtocol::detect(&[22, 3, 1, 2, 0, 1]), Some(OtherProtocol::Tls));
        let others: [&[u8]; 6] = [
            b"hello\r\n",
            b"PRI * HTTP/3.0\r\n",
            b"SSH-2.0-x\r\n",
            &[0; 24],
            b"GET",
            b"INVALID CONNECTION PREFACE\r\n\r\n",
        ];
        for other in others {
            assert_eq!(OtherProtocol::detect(other), None, "{other:?}");
        }
    }

    #[test]
    fn http1_answer_matches_its_content_length() {
        let answer = str::from_utf8(OtherProtocol::Http1.answer()).unwrap_or_default();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
        assert!(head.contains(&format!("content-length: {}\r\n", body.len())), "{}", body.len());
    }
}
