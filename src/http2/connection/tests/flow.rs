use super::*;
use crate::http2::connection::{Failure, Read};

/// Opens a call on stream 1 whose headers are sent.
fn open(client: &mut Client) -> Key {
    client.send(&headers(1, 0));
    let key = client.accept();
    client.connection.send_headers(key, StatusCode::OK, &grpc_headers(), false).unwrap();
    client.frames();
    key
}

#[test]
fn data_is_sent_within_both_windows() {
    let mut client = Client::new();
    client.send(&setting(0x4, 10));
    let key = open(&mut client);
    assert_eq!(client.connection.capacity(key, 100), Ok(10));
    client.connection.send_data(key, vec![1; 10].into(), false).unwrap();
    assert_eq!(client.connection.capacity(key, 100), Ok(0));
    assert_eq!(client.connection.next_event(), None);
    client.send(&window_update(1, 200_000));
    assert_eq!(client.connection.next_event(), Some(key));
    // What is left of the connection's window.
    assert_eq!(client.connection.capacity(key, 200_000), Ok(65_525));
    client.connection.send_data(key, vec![1; 65_525].into(), false).unwrap();
    assert_eq!(client.connection.capacity(key, 1), Ok(0));
    client.send(&window_update(0, 5));
    assert_eq!(client.connection.next_event(), Some(key));
    assert_eq!(client.connection.capacity(key, 100), Ok(5));
}

#[test]
fn reduced_initial_window_can_be_negative() {
    let mut client = Client::new();
    let key = open(&mut client);
    client.connection.send_data(key, vec![1; 100].into(), false).unwrap();
    client.send(&setting(0x4, 50));
    assert_eq!(client.connection.capacity(key, 1), Ok(0));
    client.send(&window_update(1, 50));
    assert_eq!(client.connection.capacity(key, 1), Ok(0));
    client.send(&window_update(1, 1));
    assert_eq!(client.connection.capacity(key, 100), Ok(1));
}

#[test]
fn data_beyond_the_window_is_kept_until_the_client_accepts_it() {
    let mut client = Client::new();
    client.send(&setting(0x4, 3));
    let key = open(&mut client);
    client.connection.send_data(key, "hello".into(), true).unwrap();
    client.send(&data(1, flag::END_STREAM, b""));
    client.connection.finish(key);
    let sent = client.frames().remove(0);
    assert_eq!((sent.0.flags, &sent.1[..]), (0, &b"hel"[..]));
    client.send(&window_update(1, 1));
    assert_eq!(client.frames()[0].1, b"l");
    client.send(&window_update(1, 100));
    let sent = client.frames().remove(0);
    assert_eq!((sent.0.flags, &sent.1[..]), (flag::END_STREAM, &b"o"[..]));
    assert!(client.connection.streams.is_empty());
}

#[test]
fn raised_initial_window_continues_kept_data() {
    let mut client = Client::new();
    client.send(&setting(0x4, 0));
    client.send(&headers(1, flag::END_STREAM));
    let key = client.accept();
    client.connection.send_headers(key, StatusCode::OK, &grpc_headers(), false).unwrap();
    client.connection.send_data(key, "hi".into(), true).unwrap();
    client.connection.finish(key);
    client.frames();
    client.send(&setting(0x4, 1));
    let sent: Vec<_> = client.frames().into_iter().filter(|(head, _)| head.kind == 0).collect();
    assert_eq!((sent[0].0.flags, &sent[0].1[..]), (0, &b"h"[..]));
}

#[test]
fn large_data_is_split_into_frames() {
    let mut client = Client::new();
    let key = open(&mut client);
    client.connection.send_data(key, vec![7; 40_000].into(), true).unwrap();
    let sent: Vec<_> = client.frames().iter().map(|(head, _)| (head.length, head.flags)).collect();
    assert_eq!(sent, [(16_384, 0), (16_384, 0), (7_232, flag::END_STREAM)]);
}

#[test]
fn client_that_exceeds_a_window_is_stopped() {
    let mut client = Client::new();
    client.send(&[headers(1, 0), headers(3, 0)].concat());
    let (first, second) = (client.accept(), client.accept());
    for _ in 0..6 {
        client.send(&data(1, 0, &[0; 16_000]));
    }
    assert!(client.resets().is_empty());
    client.send(&data(1, 0, &[0; 16_000]));
    assert_eq!(client.resets(), [(1, ErrorCode::FLOW_CONTROL_ERROR)]);
    assert!(matches!(client.connection.read(first), Read::Failed(Failure::Protocol(_))));
    // The failed stream returns its share of the connection's window.
    for _ in 0..6 {
        client.send(&data(3, 0, &[0; 16_000]));
    }
    assert_eq!(client.connection.closed(), None);
    for _ in 0..10 {
        client.connection.release(second, 8_000);
        client.send(&data(3, 0, &[0; 16_000]));
    }
    assert_eq!(client.connection.closed(), None);
}

#[test]
fn window_of_the_connection_is_enforced() {
    let mut client = Client::new();
    client.send(&[headers(1, 0), headers(3, 0), headers(5, 0)].concat());
    for stream in [1, 3, 5] {
        for _ in 0..4 {
            client.send(&data(stream, 0, &[0; 16_384]));
        }
    }
    assert_eq!(client.connection.closed(), None);
    client.send(&data(5, 0, &[0; 4_000]));
    assert_eq!(client.error(), Some(ErrorCode::FLOW_CONTROL_ERROR));
}

#[test]
fn released_bytes_return_to_both_windows() {
    let mut client = Client::new();
    client.send(&headers(1, 0));
    let key = client.accept();
    for _ in 0..6 {
        client.send(&data(1, 0, &[0; 16_000]));
    }
    // The client may send 4,000 bytes more. Half of that is worth a frame.
    client.connection.release(key, 1_999);
    assert!(client.frames().is_empty());
    client.connection.release(key, 1);
    let head = Head { length: 4, kind: kind::WINDOW_UPDATE, flags: 0, stream: 1 };
    assert_eq!(client.frames(), [(head, 2_000_u32.to_be_bytes().to_vec())]);
    // No more than was received is released.
    client.connection.release(key, 1_000_000);
    let updates: Vec<_> = client.frames();
    assert_eq!(
        updates,
        [
            (head, 94_000_u32.to_be_bytes().to_vec()),
            (Head { stream: 0, ..head }, 96_000_u32.to_be_bytes().to_vec()),
        ]
    );
}

#[test]
fn dropped_call_returns_its_bytes_to_the_connection() {
    let mut client = Client::new();
    for round in 0..20 {
        let id = 2 * round + 1;
        client.send(&headers(id, 0));
        let key = client.accept();
        for _ in 0..6 {
            client.send(&data(id, 0, &[0; 16_000]));
        }
        assert_eq!(client.connection.closed(), None);
        client.connection.finish(key);
    }
}

#[test]
fn blocked_streams_continue_in_their_order() {
    let mut client = Client::new();
    client.send(&[headers(1, 0), headers(3, 0), headers(5, 0)].concat());
    let keys = [client.accept(), client.accept(), client.accept()];
    for key in keys {
        client.connection.send_headers(key, StatusCode::OK, &grpc_headers(), false).unwrap();
    }
    client.connection.send_data(keys[0], vec![0; 65_535].into(), false).unwrap();
    for key in keys {
        assert_eq!(client.connection.capacity(key, 10), Ok(0));
    }
    client.frames();
    client.send(&window_update(1, 65_535));
    assert_eq!(client.connection.next_event(), Some(keys[0]));
    client.send(&window_update(0, 20_000));
    let woken = [client.connection.next_event(), client.connection.next_event()];
    assert!(woken.contains(&Some(keys[1])) && woken.contains(&Some(keys[2])), "{woken:?}");
}

#[test]
fn blocked_streams_that_end_are_forgotten() {
    let mut client = Client::new();
    client.send(&headers(1, 0));
    let first = client.accept();
    client.connection.send_headers(first, StatusCode::OK, &grpc_headers(), false).unwrap();
    client.connection.send_data(first, vec![0; 65_535].into(), false).unwrap();
    for round in 0..100 {
        let id = 2 * round + 3;
        client.send(&headers(id, 0));
        let key = client.accept();
        client.connection.send_headers(key, StatusCode::OK, &grpc_headers(), false).unwrap();
        assert_eq!(client.connection.capacity(key, 10), Ok(0));
        client.send(&frame(kind::RST_STREAM, 0, id, &[0, 0, 0, 8]));
        client.connection.finish(key);
        assert!(client.connection.blocked.is_empty());
    }
}

#[test]
fn reset_by_the_client_frees_the_stream() {
    let mut client = Client::new();
    client.send(&[headers(1, 0), data(1, 0, b"unread")].concat());
    let key = client.accept();
    client.connection.watch(key);
    client.send(&frame(kind::RST_STREAM, 0, 1, &[0, 0, 0, 8]));
    assert_eq!(client.connection.next_event(), Some(key));
    let reset = Failure::Reset(ErrorCode::CANCEL);
    assert_eq!(client.connection.read(key), Read::Failed(reset));
    assert_eq!(client.connection.capacity(key, 1), Err(reset));
    client.connection.finish(key);
    assert!(client.connection.streams.is_empty() && client.resets().is_empty());
}
