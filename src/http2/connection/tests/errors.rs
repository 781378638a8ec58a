use super::*;

const PROTOCOL: ErrorCode = ErrorCode::PROTOCOL_ERROR;
const SIZE: ErrorCode = ErrorCode::FRAME_SIZE_ERROR;
const FLOW: ErrorCode = ErrorCode::FLOW_CONTROL_ERROR;
const CLOSED: ErrorCode = ErrorCode::STREAM_CLOSED;

/// The error of a connection that receives this after its handshake.
fn connection_error(bytes: &[u8]) -> Option<ErrorCode> {
    let mut client = Client::new();
    client.send(bytes);
    client.error()
}

/// The reset of a stream that receives this.
fn stream_error(bytes: &[u8]) -> Option<(u32, ErrorCode)> {
    let mut client = Client::new();
    client.send(bytes);
    assert_eq!(client.connection.closed(), None);
    let resets = client.resets();
    assert!(resets.len() <= 1, "{resets:?}");
    resets.first().copied()
}

#[test]
fn violations_of_the_connection_close_it() {
    let open = headers(1, 0);
    let done = headers(1, flag::END_STREAM);
    let cases: &[(&str, &str, Vec<u8>, ErrorCode)] = &[
        ("5.1", "DATA on an idle stream", data(1, 0, b"x"), PROTOCOL),
        ("5.1", "RST_STREAM on an idle stream", frame(3, 0, 1, &[0; 4]), PROTOCOL),
        ("5.1", "WINDOW_UPDATE on an idle stream", window_update(1, 1), PROTOCOL),
        ("5.1.1", "an even stream ID", headers(2, 1), PROTOCOL),
        ("5.1.1", "a smaller stream ID", [headers(5, 1), headers(3, 1)].concat(), CLOSED),
        ("6.1", "DATA on stream 0", data(0, 0, b"x"), PROTOCOL),
        (
            "6.1",
            "padding over the frame",
            [open.clone(), data(1, 8, b"\x05abc")].concat(),
            PROTOCOL,
        ),
        ("6.2", "HEADERS on stream 0", headers(0, 1), PROTOCOL),
        (
            "6.2",
            "padding over the priority",
            frame(1, 0x2d, 1, &[3, 0, 0, 0, 0, 0, 1, 0]),
            PROTOCOL,
        ),
        ("6.2", "HEADERS without their priority", frame(1, 0x24, 1, &[0; 4]), SIZE),
        ("6.3", "PRIORITY on stream 0", frame(2, 0, 0, &[0; 5]), PROTOCOL),
        ("6.4", "RST_STREAM on stream 0", frame(3, 0, 0, &[0; 4]), PROTOCOL),
        ("6.4", "a short RST_STREAM", [open.clone(), frame(3, 0, 1, &[0; 3])].concat(), SIZE),
        ("6.5", "SETTINGS on a stream", frame(4, 0, 1, &[]), PROTOCOL),
        ("6.5", "SETTINGS of 5 bytes", frame(4, 0, 0, &[0; 5]), SIZE),
        ("6.5", "an acknowledgement with settings", frame(4, 1, 0, &[0; 6]), SIZE),
        ("6.5.2", "ENABLE_PUSH of 2", setting(0x2, 2), PROTOCOL),
        ("6.5.2", "a window of 2^31", setting(0x4, 1 << 31), FLOW),
        (
            "6.5.2",
            "a window of 2^31 before another one",
            frame(4, 0, 0, &[0, 4, 0x80, 0, 0, 0, 0, 4, 0, 0, 0, 0]),
            FLOW,
        ),
        ("6.5.2", "a frame size below 2^14", setting(0x5, 16_383), PROTOCOL),
        ("6.5.2", "a frame size of 2^24", setting(0x5, 1 << 24), PROTOCOL),
        ("6.6", "PUSH_PROMISE", [open.clone(), frame(5, 4, 1, &[0; 4])].concat(), PROTOCOL),
        ("6.7", "PING on a stream", frame(6, 0, 1, &[0; 8]), PROTOCOL),
        ("6.7", "PING of 7 bytes", frame(6, 0, 0, &[0; 7]), SIZE),
        ("6.8", "GOAWAY on a stream", frame(7, 0, 1, &[0; 8]), PROTOCOL),
        ("6.8", "GOAWAY of 7 bytes", frame(7, 0, 0, &[0; 7]), SIZE),
        ("6.9", "a WINDOW_UPDATE of 0", window_update(0, 0), PROTOCOL),
        ("6.9", "WINDOW_UPDATE of 3 bytes", frame(8, 0, 0, &[0; 3]), SIZE),
        ("6.9.1", "a window over 2^31-1", window_update(0, (1 << 31) - 1), FLOW),
        (
            "6.9.2",
            "a setting that overflows a stream",
            [open.clone(), window_update(1, (1 << 31) - 1 - 65_535), setting(0x4, 65_536)].concat(),
            FLOW,
        ),
        ("6.10", "CONTINUATION without HEADERS", frame(9, 4, 1, &[]), PROTOCOL),
        ("6.10", "CONTINUATION after the block", [open, frame(9, 4, 1, &[])].concat(), PROTOCOL),
        (
            "6.10",
            "a frame within a block",
            [frame(1, 0, 1, &request_block()), frame(6, 0, 0, &[0; 8])].concat(),
            PROTOCOL,
        ),
        (
            "6.10",
            "CONTINUATION of another stream",
            [frame(1, 0, 1, &request_block()), frame(9, 4, 3, &[])].concat(),
            PROTOCOL,
        ),
        ("4.3", "an invalid block", frame(1, 5, 1, &[0x80]), ErrorCode::COMPRESSION_ERROR),
        ("4.2", "a frame over 2^14", frame(0xfe, 0, 0, &[0; 16_385]), SIZE),
    ];
    for (section, what, bytes, code) in cases {
        assert_eq!(connection_error(bytes), Some(*code), "{section}: {what}");
    }
    // A GOAWAY has the code and the last stream that was handled.
    let mut client = Client::new();
    client.send(&[done, window_update(0, 0)].concat());
    let (head, payload) = client.frames().pop().unwrap();
    assert_eq!((head.kind, &payload[..8]), (kind::GOAWAY, &[0, 0, 0, 1, 0, 0, 0, 1][..]));
}

#[test]
fn first_frame_is_settings() {
    for (kind, flags) in [(kind::PING, 0), (kind::HEADERS, 5), (kind::SETTINGS, flag::ACK)] {
        let mut connection = Connection::new(CONFIG, Permissive, Instant::now());
        connection.receive(&[PREFACE, &frame(kind, flags, 0, &[])].concat(), Instant::now());
        assert!(matches!(connection.closed(), Some(Closed::Error(_))), "{kind}");
    }
}

#[test]
fn violations_of_a_stream_reset_it() {
    let open = headers(1, 0);
    let done = headers(1, flag::END_STREAM);
    let with = |fields: &[(&str, &str)]| {
        frame(kind::HEADERS, 5, 1, &block(&[&PSEUDO[..], fields].concat()))
    };
    let only = |fields: &[(&str, &str)]| frame(kind::HEADERS, 5, 1, &block(fields));
    let trailers = |flags, fields: &[(&str, &str)]| {
        [open.clone(), frame(1, flags, 1, &block(fields))].concat()
    };
    let cases: &[(&str, &str, Vec<u8>, ErrorCode)] = &[
        ("5.1", "DATA after END_STREAM", [done.clone(), data(1, 0, b"x")].concat(), CLOSED),
        ("5.1", "HEADERS after END_STREAM", [done, headers(1, 1)].concat(), CLOSED),
        ("5.3.1", "PRIORITY on itself", frame(2, 0, 1, &[0, 0, 0, 1, 0]), PROTOCOL),
        ("6.3", "PRIORITY of 4 bytes", frame(2, 0, 1, &[0; 4]), SIZE),
        ("6.9", "a WINDOW_UPDATE of 0", [open.clone(), window_update(1, 0)].concat(), PROTOCOL),
        (
            "6.9.1",
            "a window over 2^31-1",
            [open.clone(), window_update(1, (1 << 31) - 1)].concat(),
            FLOW,
        ),
        ("8.1", "trailers without END_STREAM", trailers(4, &[("x", "1")]), PROTOCOL),
        ("8.1", "trailers with a pseudo-header", trailers(5, &[(":path", "/")]), PROTOCOL),
        ("8.1.1", "a content-length and no DATA", with(&[("content-length", "1")]), PROTOCOL),
        ("8.1.1", "a content-length of letters", with(&[("content-length", "a")]), PROTOCOL),
        (
            "8.1.1",
            "two values of content-length",
            with(&[("content-length", "0"), ("content-length", "1")]),
            PROTOCOL,
        ),
        ("8.2.1", "upper case", with(&[("X-Name", "1")]), PROTOCOL),
        ("8.2.1", "a line break in a value", with(&[("x-name", "a\nb")]), PROTOCOL),
        ("8.2.1", "a space in a name", with(&[("x name", "1")]), PROTOCOL),
        ("8.2.2", "connection", with(&[("connection", "close")]), PROTOCOL),
        ("8.2.2", "keep-alive", with(&[("keep-alive", "1")]), PROTOCOL),
        ("8.2.2", "transfer-encoding", with(&[("transfer-encoding", "chunked")]), PROTOCOL),
        ("8.2.2", "another te", with(&[("te", "gzip")]), PROTOCOL),
        ("8.3", "an unknown pseudo-header", with(&[(":own", "1")]), PROTOCOL),
        ("8.3", "a pseudo-header of a response", with(&[(":status", "200")]), PROTOCOL),
        ("8.3", "a repeated pseudo-header", with(&[(":path", "/")]), PROTOCOL),
        ("8.3", "a pseudo-header at the end", only(&[("x", "1"), (":method", "GET")]), PROTOCOL),
        ("8.3.1", "no method", only(&PSEUDO[1..]), PROTOCOL),
        ("8.3.1", "no scheme", only(&[PSEUDO[0], PSEUDO[2]]), PROTOCOL),
        ("8.3.1", "no path", only(&[PSEUDO[0], PSEUDO[1]]), PROTOCOL),
        ("8.3.1", "an empty path", only(&[PSEUDO[0], PSEUDO[1], (":path", "")]), PROTOCOL),
        ("8.5", "CONNECT with a path", only(&[(":method", "CONNECT"), PSEUDO[2]]), PROTOCOL),
    ];
    for (section, what, bytes, code) in cases {
        assert_eq!(stream_error(bytes), Some((1, *code)), "{section}: {what}");
    }
}

#[test]
fn content_length_is_compared_with_the_data() {
    let head = block(&[&PSEUDO[..], &[("content-length", "5")]].concat());
    for (parts, reset) in [
        (&[&b"abc"[..], b"de"][..], None),
        (&[b"abc"], Some((1, PROTOCOL))),
        (&[b"abc", b"def"], Some((1, PROTOCOL))),
    ] {
        let mut client = Client::new();
        client.send(&frame(kind::HEADERS, flag::END_HEADERS, 1, &head));
        for (at, part) in parts.iter().enumerate() {
            client.send(&data(1, u8::from(at + 1 == parts.len()), part));
        }
        assert_eq!(client.resets().first().copied(), reset);
    }
}

#[test]
fn frames_in_flight_on_a_reset_stream_are_ignored() {
    let mut client = Client::new();
    client.send(&headers(1, 0));
    let key = client.accept();
    client.connection.reset(key, ErrorCode::CANCEL);
    client.connection.finish(key);
    assert_eq!(client.resets(), [(1, ErrorCode::CANCEL)]);
    let trailers = frame(kind::HEADERS, 5, 1, &block(&[("x", "1")]));
    client.send(&[data(1, 0, b"in flight"), window_update(1, 5), trailers].concat());
    assert_eq!((client.resets(), client.connection.closed()), (vec![], None));
}

#[test]
fn unknown_frames_and_priorities_are_ignored() {
    let mut client = Client::new();
    let unknown = frame(0xfe, 0xff, 9, b"anything");
    client.send(&[unknown, frame(2, 0, 7, &[0; 5]), frame(0x10, 0, 0, &[0; 4])].concat());
    client.send(&setting(0xfe, 1));
    assert_eq!(client.connection.closed(), None);
    assert_eq!(client.frames().len(), 1, "the acknowledgement of SETTINGS");
}
