//! Tests of a connection by frames, as a client sends and receives them.

mod bandwidth;
mod errors;
mod flow;
mod repeated;
mod requests;
mod splits;

use std::time::Instant;

use bytes::Buf;
use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::{Closed, Config, Connection, Key};
use crate::http2::error_code::ErrorCode;
use crate::http2::frame::{self, HEAD_LEN, Head, flag, kind};
use crate::http2::policy::Permissive;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const CONFIG: Config = Config {
    max_concurrent_streams: 4,
    max_header_list_size: 1000,
    stream_window: 100_000,
    connection_window: 200_000,
    max_connection_window: 800_000,
};

/// A header block without indexes, Huffman code or changes of the table (RFC 7541, 6.2.2).
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            assert!(text.len() < 127);
            block.push(text.len() as u8);
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

const PSEUDO: [(&str, &str); 4] =
    [(":method", "POST"), (":scheme", "http"), (":path", "/s/m"), (":authority", "host")];

fn request_block() -> Vec<u8> {
    block(&[&PSEUDO[..], &[("content-type", "application/grpc"), ("te", "trailers")]].concat())
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = (payload.len() as u32).to_be_bytes();
    let [s, t, u, v] = stream.to_be_bytes();
    [&[a, b, c, kind, flags, s, t, u, v][..], payload].concat()
}

fn headers(stream: u32, flags: u8) -> Vec<u8> {
    frame(kind::HEADERS, flag::END_HEADERS | flags, stream, &request_block())
}

fn data(stream: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
    frame(kind::DATA, flags, stream, payload)
}

fn window_update(stream: u32, increment: u32) -> Vec<u8> {
    frame(kind::WINDOW_UPDATE, 0, stream, &increment.to_be_bytes())
}

fn setting(id: u16, value: u32) -> Vec<u8> {
    frame(kind::SETTINGS, 0, 0, &[&id.to_be_bytes()[..], &value.to_be_bytes()].concat())
}

/// A connection, seen by its client.
struct Client {
    connection: Connection<Permissive>,
}

impl Client {
    fn new() -> Self {
        let connection = Connection::new(CONFIG, Permissive, Instant::now());
        let mut client = Self { connection };
        client.send(&[PREFACE, &frame(kind::SETTINGS, 0, 0, &[])].concat());
        let sent: Vec<_> = client.frames().iter().map(|(head, _)| head.kind).collect();
        assert_eq!(sent, [kind::SETTINGS, kind::SETTINGS, kind::WINDOW_UPDATE]);
        client
    }

    fn send(&mut self, bytes: &[u8]) {
        self.send_at(bytes, Instant::now());
    }

    fn send_at(&mut self, bytes: &[u8], now: Instant) {
        self.connection.receive(bytes, now);
    }

    /// Returns the next request.
    fn accept(&mut self) -> Key {
        self.connection.next_request().expect("a request").0
    }

    /// Removes and returns the frames of the server.
    fn frames(&mut self) -> Vec<(Head, Vec<u8>)> {
        let output = self.connection.output();
        let output = output.copy_to_bytes(output.len());
        let (mut rest, mut frames) = (&output[..], Vec::new());
        while let Some((head, after)) = rest.split_first_chunk::<HEAD_LEN>() {
            let head = Head::parse(head);
            let (payload, after) = after.split_at(head.length);
            frames.push((head, payload.to_vec()));
            rest = after;
        }
        assert!(rest.is_empty());
        frames
    }

    /// The streams that the server has reset, with the codes.
    fn resets(&mut self) -> Vec<(u32, ErrorCode)> {
        let mut resets = Vec::new();
        for (head, payload) in self.frames() {
            if head.kind == kind::RST_STREAM {
                let code = u32::from_be_bytes(payload.try_into().expect("4 bytes"));
                resets.push((head.stream, ErrorCode(code)));
            }
        }
        resets
    }

    /// The code of the error that has closed the connection.
    fn error(&self) -> Option<ErrorCode> {
        match self.connection.closed() {
            Some(Closed::Error(error)) => Some(error.code),
            _ => None,
        }
    }
}

fn grpc_headers() -> HeaderMap {
    let value = HeaderValue::from_static("application/grpc");
    [(header::CONTENT_TYPE, value)].into_iter().collect()
}

/// Sends a complete response without messages.
fn respond(client: &mut Client, key: Key) {
    client.connection.send_headers(key, StatusCode::OK, &grpc_headers(), false).unwrap();
    client.connection.send_trailers(key, &HeaderMap::new()).unwrap();
    client.connection.finish(key);
}

#[test]
fn connection_drains_after_the_client_has_acknowledged() {
    let mut client = Client::new();
    client.send(&headers(1, flag::END_STREAM));
    let first = client.accept();
    client.connection.shut_down();
    let sent = client.frames();
    assert_eq!(sent[0].1[..8], [0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
    let ping = sent[1].1.clone();
    // Sent before the client has read the GOAWAY.
    client.send(&headers(3, flag::END_STREAM));
    let second = client.accept();
    client.send(&frame(kind::PING, flag::ACK, 0, &ping));
    assert_eq!(client.frames()[0].1[..8], [0, 0, 0, 3, 0, 0, 0, 0]);
    client.send(&[headers(5, 0), data(5, flag::END_STREAM, b"late")].concat());
    assert!(client.connection.next_request().is_none());
    assert_eq!(client.connection.closed(), None);
    assert!(!client.connection.is_shut_down());
    respond(&mut client, first);
    respond(&mut client, second);
    assert!(client.connection.is_shut_down());
}

#[test]
fn ping_is_acknowledged_with_its_data() {
    let mut client = Client::new();
    client.send(&frame(kind::PING, 0, 0, b"12345678"));
    let (head, payload) = client.frames().remove(0);
    assert_eq!((head.kind, head.flags, &payload[..]), (kind::PING, flag::ACK, &b"12345678"[..]));
}

#[test]
fn keepalive_ping_is_answered_once() {
    let mut client = Client::new();
    client.connection.ping();
    let ping = client.frames().remove(0).1;
    assert!(!client.connection.take_pong());
    client.send(&frame(kind::PING, flag::ACK, 0, &ping));
    assert!(client.connection.take_pong());
    assert!(!client.connection.take_pong());
}

#[test]
fn idle_connection_keeps_little_memory() {
    let mut client = Client::new();
    for id in 0..4 {
        client.send(&[headers(2 * id + 1, 0), data(2 * id + 1, 1, &[0; 10_000])].concat());
    }
    for _ in 0..4 {
        let key = client.accept();
        respond(&mut client, key);
    }
    let length = client.connection.output().len();
    client.connection.output().advance(length);
    client.connection.written();
    assert!(client.connection.output().frames().capacity() <= 4096);
    assert!(client.connection.streams.is_empty());
}
