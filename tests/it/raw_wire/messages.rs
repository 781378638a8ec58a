//! Request messages.

use h2::Reason;

use super::{BIDI, CLIENT, SERVER, UNARY, assert_alive, assert_served, assert_trailers_only, echo};
use crate::support::peer::framed;
use crate::support::raw::{DATA, END_STREAM, head, head_with};

const PADDED: u8 = 0x8;

#[tokio::test]
async fn empty_request_ends_with_headers_or_empty_data() {
    let (_server, _, mut raw) = echo().await;
    let mut streams = (1..).step_by(2);
    for in_headers in [true, false] {
        for path in [UNARY, SERVER, CLIENT, BIDI] {
            let stream = streams.next().unwrap();
            raw.headers(stream, &head(path), in_headers).await;
            if !in_headers {
                raw.data(stream, &[], true).await;
            }
            let answer = raw.answer(stream).await;
            match path {
                CLIENT => assert_served(&answer, &[""]),
                BIDI => assert_served(&answer, &[]),
                _ => assert_trailers_only(&answer, "12"),
            }
        }
    }
}

#[tokio::test]
async fn unary_handler_runs_after_the_half_close() {
    let (_server, echo, mut raw) = echo().await;
    for (stream, path) in [(1, UNARY), (3, SERVER)] {
        raw.headers(stream, &head(path), false).await;
        raw.data(stream, &framed("wait"), false).await;
        raw.settled().await;
        echo.until_running(0).await;
        raw.data(stream, &[], true).await;
        echo.until_running(1).await;
        raw.reset(stream, Reason::CANCEL).await;
        echo.until_running(0).await;
    }
}

#[tokio::test]
async fn compressed_message_under_identity_is_internal() {
    let (_server, _, mut raw) = echo().await;
    let mut message = framed("a").to_vec();
    message[0] = 1;
    for (stream, more) in [(1, &[][..]), (3, &[("grpc-encoding", "identity")])] {
        raw.request(stream, &head_with(UNARY, more), &message).await;
        assert_trailers_only(&raw.answer(stream).await, "13");
    }
}

#[tokio::test]
async fn empty_message_is_valid() {
    let (_server, _, mut raw) = echo().await;
    raw.request(1, &head(UNARY), &[0; 5]).await;
    let answer = raw.answer(1).await;
    assert_eq!(*answer[1].payload, [0; 5]);
    assert_served(&answer, &[""]);
    raw.request(3, &head(BIDI), &[0; 15]).await;
    assert_served(&raw.answer(3).await, &["", "", ""]);
}

#[tokio::test]
async fn data_frames_of_one_byte_form_messages() {
    let (_server, _, mut raw) = echo().await;
    raw.headers(1, &head(CLIENT), false).await;
    for byte in framed("word").repeat(200) {
        raw.data(1, &[byte], false).await;
    }
    raw.data(1, &[], true).await;
    assert_served(&raw.answer(1).await, &[&["word"; 200].join(" ")]);
}

#[tokio::test]
async fn request_trailers_are_accepted() {
    let (_server, _, mut raw) = echo().await;
    for (stream, path) in [(1, UNARY), (3, CLIENT)] {
        raw.headers(stream, &head(path), false).await;
        raw.data(stream, &framed("a"), false).await;
        raw.headers(stream, &[("x-trailer", "1")], true).await;
        assert_served(&raw.answer(stream).await, &["a"]);
    }
}

#[tokio::test]
async fn padding_is_no_part_of_a_message() {
    let (_server, _, mut raw) = echo().await;
    raw.headers(1, &head(UNARY), false).await;
    let padded = [&[3][..], &framed("a"), &[0; 3]].concat();
    raw.send(DATA, PADDED | END_STREAM, 1, &padded).await;
    assert_served(&raw.answer(1).await, &["a"]);
}

#[tokio::test]
async fn size_limit_is_answered_while_the_client_sends() {
    let (_server, echo, mut raw) = echo().await;
    for (stream, path) in [(1, UNARY), (3, CLIENT)] {
        raw.headers(stream, &head(path), false).await;
        // The default limit is 4 MiB; this is a byte more.
        raw.data(stream, &[0, 0, 0x40, 0, 1], false).await;
        raw.data(stream, &[b'x'; 1000], false).await;
        assert_trailers_only(&raw.answer(stream).await, "8");
        assert!(raw.next_of(stream).await.is_reset(Reason::NO_ERROR));
        // The client goes on for a while, since it has not seen the answer.
        raw.data(stream, &[b'x'; 1000], false).await;
    }
    echo.until_running(0).await;
    assert_alive(&mut raw, 5).await;
}
