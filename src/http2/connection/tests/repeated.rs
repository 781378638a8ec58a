//! Requests with the same header block as the request before.

use std::sync::Arc;

use http::request::Parts;

use super::*;

/// A literal that enters the dynamic table (RFC 7541, 6.2.1), or that must never (6.2.3).
const INDEXED: u8 = 0x40;
const NEVER_INDEXED: u8 = 0x10;

fn literal(kind: u8, name: &str, value: &str) -> Vec<u8> {
    let mut literal = block(&[(name, value)]);
    literal[0] = kind;
    literal
}

/// Sends the block of a request without a body, and returns the request.
fn request(client: &mut Client, stream: u32, block: &[u8]) -> Arc<Parts> {
    let flags = flag::END_HEADERS | flag::END_STREAM;
    client.send(&frame(kind::HEADERS, flags, stream, block));
    let (key, parts) = client.connection.next_request().expect("a request");
    respond(client, key);
    parts
}

#[test]
fn repeated_request_is_shared() {
    let mut client = Client::new();
    let first = request(&mut client, 1, &request_block());
    let second = request(&mut client, 3, &request_block());
    assert!(Arc::ptr_eq(&first, &second));
    let other = [request_block(), literal(0, "x", "y")].concat();
    let third = request(&mut client, 5, &other);
    assert_eq!((third.headers["x"].as_bytes(), third.headers.len()), (&b"y"[..], 3));
}

#[test]
fn repeated_block_is_another_request_after_the_table_has_changed() {
    let mut client = Client::new();
    // The newest entry of the table has the index 62.
    let newest = [block(&PSEUDO), vec![0x80 | 62]].concat();
    for (stream, value) in [(1, "a"), (7, "b")] {
        let entry = [block(&PSEUDO), literal(INDEXED, "x", value)].concat();
        assert_eq!(request(&mut client, stream, &entry).headers["x"], value);
        for stream in [stream + 2, stream + 4] {
            assert_eq!(request(&mut client, stream, &newest).headers["x"], value);
        }
    }
}

#[test]
fn block_that_changes_the_table_changes_it_each_time() {
    let mut client = Client::new();
    let entry = [block(&PSEUDO), literal(INDEXED, "x", "a")].concat();
    request(&mut client, 1, &entry);
    request(&mut client, 3, &entry);
    // The second newest entry exists.
    let second = [block(&PSEUDO), vec![0x80 | 63]].concat();
    assert_eq!(request(&mut client, 5, &second).headers["x"], "a");
}

#[test]
fn request_with_a_secret_is_not_kept() {
    let mut client = Client::new();
    let secret = [block(&PSEUDO), literal(NEVER_INDEXED, "authorization", "Bearer x")].concat();
    let [first, second] = [1, 3].map(|stream| request(&mut client, stream, &secret));
    assert!(!Arc::ptr_eq(&first, &second));
    assert!(client.connection.repeated.is_none());
}

#[test]
fn long_request_is_not_kept() {
    let mut client = Client::new();
    // A short block of indexes that is a long list.
    let entry = [block(&PSEUDO), literal(INDEXED, "x", &"v".repeat(120))].concat();
    request(&mut client, 1, &entry);
    let mut config = CONFIG;
    config.max_header_list_size = 100_000;
    client.connection.config = config;
    let list = [block(&PSEUDO), vec![0x80 | 62; 20]].concat();
    request(&mut client, 3, &list);
    assert!(client.connection.repeated.is_none());
    let long =
        [block(&PSEUDO), literal(0, "x", &"v".repeat(120)), literal(0, "y", &"v".repeat(120))];
    request(&mut client, 5, &long.concat());
    assert!(client.connection.repeated.is_none());
}

#[test]
fn repeated_content_length_is_checked_again() {
    let mut client = Client::new();
    let list = block(&[&PSEUDO[..], &[("content-length", "4")]].concat());
    client.send(&frame(kind::HEADERS, flag::END_HEADERS, 1, &list));
    client.send(&data(1, flag::END_STREAM, b"body"));
    let key = client.accept();
    respond(&mut client, key);
    client.frames();
    client.send(&frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 3, &list));
    client.send(&frame(kind::HEADERS, flag::END_HEADERS, 5, &list));
    client.send(&data(5, flag::END_STREAM, b"longer"));
    let error = ErrorCode::PROTOCOL_ERROR;
    assert_eq!(client.resets(), [(3, error), (5, error)]);
}
