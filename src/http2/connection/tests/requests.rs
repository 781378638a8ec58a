use super::*;
use crate::http2::connection::Read;

#[test]
fn request_has_its_parts() {
    let mut client = Client::new();
    client.send(&[headers(1, 0), data(1, flag::END_STREAM, b"body")].concat());
    let (key, parts) = client.connection.next_request().unwrap();
    assert_eq!(parts.method, "POST");
    assert_eq!(parts.uri, "http://host/s/m");
    assert_eq!(parts.headers["te"], "trailers");
    assert_eq!(client.connection.read(key), Read::Data("body".into()));
    assert_eq!(client.connection.read(key), Read::End);
    assert_eq!(client.connection.read(key), Read::End);
}

#[test]
fn response_ends_the_stream() {
    let mut client = Client::new();
    client.send(&headers(1, flag::END_STREAM));
    let key = client.accept();
    respond(&mut client, key);
    let sent: Vec<_> = client.frames().iter().map(|(head, _)| (head.kind, head.flags)).collect();
    assert_eq!(sent, [(kind::HEADERS, 4), (kind::HEADERS, 5)]);
    assert!(client.connection.streams.is_empty());
}

#[test]
fn early_response_is_followed_by_a_reset_without_error() {
    let mut client = Client::new();
    client.send(&headers(1, 0));
    let key = client.accept();
    respond(&mut client, key);
    assert_eq!(client.resets(), [(1, ErrorCode::NO_ERROR)]);
}

#[test]
fn streams_over_the_limit_are_refused_and_decoded() {
    let mut client = Client::new();
    for id in 0..6 {
        client.send(&headers(2 * id + 1, flag::END_STREAM));
    }
    let refused = ErrorCode::REFUSED_STREAM;
    assert_eq!(client.resets(), [(9, refused), (11, refused)]);
    let key = client.accept();
    respond(&mut client, key);
    client.send(&headers(13, flag::END_STREAM));
    assert!(client.resets().is_empty());
}

#[test]
fn requests_reset_before_they_are_taken_are_gone() {
    let mut client = Client::new();
    for id in 0..20 {
        let reset = frame(kind::RST_STREAM, 0, 2 * id + 1, &[0, 0, 0, 8]);
        client.send(&[headers(2 * id + 1, 0), reset].concat());
    }
    assert!(client.resets().is_empty());
    assert!(client.connection.next_request().is_none());
    assert!(client.connection.streams.is_empty());
}

#[test]
fn header_list_over_the_limit_is_answered_431() {
    let value = "v".repeat(120);
    let fields = [("x-long", &*value); 8];
    for end in [0, flag::END_STREAM] {
        let mut client = Client::new();
        let list = block(&[&PSEUDO[..], &fields].concat());
        client.send(&frame(kind::HEADERS, flag::END_HEADERS | end, 1, &list));
        let sent = client.frames();
        assert_eq!((sent[0].0.kind, sent[0].0.flags), (kind::HEADERS, 5));
        let status = [b"431".to_vec(), vec![0x68, 0x22, 0x7f]];
        assert!(status.iter().any(|text| sent[0].1.windows(3).any(|part| part == text)));
        assert_eq!(sent.len(), if end == 0 { 2 } else { 1 });
        assert!(client.connection.next_request().is_none());
    }
}

#[test]
fn header_list_far_over_the_limit_closes_the_connection() {
    let mut client = Client::new();
    // An entry of the dynamic table (RFC 7541, 6.2.1), and many references to it.
    let entry = [&[0x40, 1, b'a', 100][..], &[b'v'; 100]].concat();
    let list = [request_block(), entry, vec![0x80 | 62; 100]].concat();
    client.send(&frame(kind::HEADERS, 5, 1, &list));
    assert_eq!(client.error(), Some(ErrorCode::ENHANCE_YOUR_CALM));
}

#[test]
fn header_block_without_end_is_bounded() {
    let mut client = Client::new();
    client.send(&frame(kind::HEADERS, 0, 1, &request_block()));
    for _ in 0..10 {
        client.send(&frame(kind::CONTINUATION, 0, 1, &[0; 1000]));
    }
    assert_eq!(client.error(), Some(ErrorCode::ENHANCE_YOUR_CALM));
}

#[test]
fn trailers_end_the_request() {
    let mut client = Client::new();
    client.send(&[headers(1, 0), data(1, 0, b"x")].concat());
    let key = client.accept();
    assert!(matches!(client.connection.read(key), Read::Data(_)));
    client.connection.watch(key);
    client.send(&frame(kind::HEADERS, 5, 1, &block(&[("x-end", "1")])));
    assert_eq!(client.connection.next_event(), Some(key));
    assert_eq!(client.connection.read(key), Read::End);
}

#[test]
fn headers_longer_than_a_frame_are_continued() {
    let mut client = Client::new();
    client.send(&headers(1, flag::END_STREAM));
    let key = client.accept();
    let mut trailers = HeaderMap::new();
    for at in 0_u8..3 {
        // Binary values, which Huffman code does not shorten.
        let value = HeaderValue::from_bytes(&[b'!' + at; 9000]).unwrap();
        trailers.append("x-long", value);
    }
    client.connection.send_trailers(key, &trailers).unwrap();
    let sent = client.frames();
    assert_eq!((sent[0].0.kind, sent[0].0.flags), (kind::HEADERS, flag::END_STREAM));
    let last = sent.last().unwrap().0;
    assert_eq!((last.kind, last.flags), (kind::CONTINUATION, flag::END_HEADERS));
    assert!(sent.iter().all(|(head, _)| head.length <= frame::MAX_FRAME_SIZE));
}

#[test]
fn invalid_priority_closes_an_idle_stream() {
    let mut client = Client::new();
    client.send(&frame(kind::PRIORITY, 0, 3, &[0, 0, 0, 3, 0]));
    assert_eq!(client.resets(), [(3, ErrorCode::PROTOCOL_ERROR)]);
    client.send(&[headers(3, flag::END_STREAM), headers(5, flag::END_STREAM)].concat());
    let key = client.accept();
    assert_eq!(client.connection.streams.get(key).map(|stream| stream.id), Some(5));
    assert!(client.connection.next_request().is_none() && client.frames().is_empty());
}
