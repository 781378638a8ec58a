//! The windows grow with the bandwidth.

use std::time::Duration;

use super::*;
use crate::http2::connection::Read;

const ROUND_TRIP: Duration = Duration::from_millis(100);

/// DATA of 10,000 bytes on stream 1.
fn part() -> Vec<u8> {
    data(1, 0, &[0; 10_000])
}

/// Reads all that has arrived on a stream, and releases it.
fn consume(client: &mut Client, key: Key) {
    while let Read::Data(chunk) = client.connection.read(key) {
        client.connection.release(key, chunk.len());
    }
}

/// Uploads `parts` on stream 1, which the call consumes. Returns the frames of the server.
fn upload(client: &mut Client, key: Key, parts: usize, now: Instant) -> Vec<(Head, Vec<u8>)> {
    let mut frames = Vec::new();
    for _ in 0..parts {
        client.send_at(&part(), now);
        consume(client, key);
        frames.extend(client.frames());
    }
    frames
}

fn is_ping(frame: &(Head, Vec<u8>)) -> bool {
    frame.0.kind == kind::PING && frame.0.flags == 0
}

/// Uploads until the server sends a PING. Returns the acknowledgement.
fn probe(client: &mut Client, key: Key, now: Instant) -> Vec<u8> {
    for _ in 0..30 {
        if let Some(ping) = upload(client, key, 1, now).into_iter().find(is_ping) {
            return frame(kind::PING, flag::ACK, 0, &ping.1);
        }
    }
    panic!("no PING");
}

/// The new initial window, and the increment of the connection's window.
fn growth(frames: &[(Head, Vec<u8>)]) -> Option<(u32, u32)> {
    let settings = frames.iter().position(|(head, _)| head.kind == kind::SETTINGS)?;
    let [(head, payload), (next, increment), ..] = &frames[settings..] else {
        panic!("the connection grows with its streams: {frames:?}");
    };
    assert_eq!((head.flags, &payload[..2]), (0, &[0, 4][..]), "INITIAL_WINDOW_SIZE only");
    assert_eq!((next.kind, next.stream), (kind::WINDOW_UPDATE, 0));
    Some((frame::number(payload[2..].try_into().unwrap()), number(increment)))
}

fn number(payload: &[u8]) -> u32 {
    frame::number(payload.try_into().unwrap())
}

fn open() -> (Client, Key) {
    let mut client = Client::new();
    client.send(&headers(1, 0));
    let key = client.accept();
    (client, key)
}

#[test]
fn windows_grow_to_twice_the_bandwidth_delay_product() {
    let (mut client, key) = open();
    let start = Instant::now();
    let ack = probe(&mut client, key, start);
    upload(&mut client, key, 7, start + ROUND_TRIP);
    client.send_at(&ack, start + ROUND_TRIP);
    // The frame that began the probe counts too.
    assert_eq!(growth(&client.frames()), Some((160_000, 120_000)));
    client.send_at(&ack, start + ROUND_TRIP);
    assert_eq!(growth(&client.frames()), None, "the PING was acknowledged before");
}

#[test]
fn windows_grow_up_to_their_limit() {
    let (mut client, key) = open();
    let mut now = Instant::now();
    let mut windows = vec![(100_000, 200_000)];
    for round in 1..=4 {
        let ack = probe(&mut client, key, now);
        upload(&mut client, key, 15 * round, now);
        now += ROUND_TRIP;
        client.send_at(&ack, now);
        if let Some((stream, more)) = growth(&client.frames()) {
            windows.push((stream, windows.last().unwrap().1 + more));
        }
        if windows.len() == 3 {
            break;
        }
    }
    assert_eq!(windows, [(100_000, 200_000), (320_000, 640_000), (400_000, 800_000)]);
    // Then nothing is measured any more.
    assert!(!upload(&mut client, key, 500, now).iter().any(is_ping));
}

#[test]
fn open_and_new_streams_get_the_grown_window() {
    let (mut client, key) = open();
    let start = Instant::now();
    client.send(&headers(3, 0));
    client.accept();
    let ack = probe(&mut client, key, start);
    upload(&mut client, key, 7, start);
    client.send_at(&data(3, 0, &[0; 10_000]), start);
    client.send_at(&ack, start + ROUND_TRIP);
    assert_eq!(growth(&client.frames()), Some((180_000, 160_000)));
    // A stream whose HEADERS were in flight has the same window.
    client.send(&headers(5, 0));
    client.accept();
    for (stream, parts) in [(3, 17), (5, 18)] {
        (0..parts).for_each(|_| client.send(&data(stream, 0, &[0; 10_000])));
        assert!(client.resets().is_empty(), "stream {stream}");
        client.send(&data(stream, 0, &[0]));
        assert_eq!(client.resets(), [(stream, ErrorCode::FLOW_CONTROL_ERROR)]);
    }
    assert_eq!(client.connection.closed(), None);
}

#[test]
fn slow_upload_keeps_the_windows() {
    let (mut client, key) = open();
    let start = Instant::now();
    let ack = probe(&mut client, key, start);
    upload(&mut client, key, 5, start);
    client.send_at(&ack, start + ROUND_TRIP);
    assert_eq!(growth(&client.frames()), None);
}

#[test]
fn unread_data_does_not_grow_the_windows() {
    let mut client = Client::new();
    client.send(&headers(1, 0));
    client.accept();
    (0..10).for_each(|_| client.send(&part()));
    assert!(!client.frames().iter().any(is_ping), "no window was returned");
}

#[test]
fn small_calls_are_hardly_probed() {
    let mut client = Client::new();
    let start = Instant::now();
    let mut pings = 0;
    // Ten seconds of a hundred calls each.
    for call in 0..1_000 {
        let now = start + Duration::from_millis(10) * call;
        let id = 2 * call + 1;
        client.send_at(&[headers(id, 0), data(id, flag::END_STREAM, &[0; 100])].concat(), now);
        let key = client.accept();
        consume(&mut client, key);
        respond(&mut client, key);
        for ping in client.frames().into_iter().filter(is_ping) {
            pings += 1;
            client.send_at(&frame(kind::PING, flag::ACK, 0, &ping.1), now);
        }
    }
    // 100,000 bytes return the window of the connection once or twice.
    assert!(pings <= 2, "{pings} PINGs");
}

#[test]
fn engine_is_full_until_calls_read() {
    let mut client = Client::new();
    let keys = [1, 3].map(|id| {
        client.send(&headers(id, 0));
        client.accept()
    });
    for (stream, key) in [(1, keys[0]), (3, keys[1])] {
        assert!(!client.connection.is_full());
        (0..10).for_each(|_| client.send(&data(stream, 0, &[0; 10_000])));
        client.connection.watch(key);
    }
    assert!(client.connection.is_full());
    consume(&mut client, keys[0]);
    assert!(!client.connection.is_full());
    client.send(&frame(kind::RST_STREAM, 0, 3, &[0, 0, 0, 8]));
    assert_eq!(client.connection.unread, 0, "a reset frees the data");
}

#[test]
fn data_after_the_end_of_a_call_is_discarded() {
    let mut client = Client::new();
    client.send(&setting(0x4, 0));
    client.send(&[headers(1, 0), part()].concat());
    let key = client.accept();
    client.connection.send_headers(key, StatusCode::OK, &grpc_headers(), false).unwrap();
    client.connection.send_data(key, "late".into(), true).unwrap();
    client.connection.finish(key);
    for _ in 0..100 {
        client.send(&part());
        assert_eq!(client.connection.unread, 0);
    }
    assert_eq!(client.connection.closed(), None);
    client.send(&window_update(1, 100));
    assert!(client.connection.streams.is_empty());
}
