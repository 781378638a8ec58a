//! Deadlines and cancellation.

use std::time::Duration;

use balafon::{Code, Request, Router, Rpc, Service};
use h2::Reason;

use super::{
    BIDI, CLIENT, SERVER, UNARY, Witness, assert_served, assert_trailers_only, echo, echo_with,
    mirror, serve, server, unary,
};
use crate::support::echo::Echo;
use crate::support::patiently;
use crate::support::peer::framed;
use crate::support::raw::{DATA, HEADERS, INITIAL_WINDOW_SIZE, Raw, head, head_with};

#[tokio::test]
async fn deadline_runs_from_the_headers() {
    let (_server, echo, mut raw) = echo().await;
    for (stream, path) in [(1, UNARY), (3, SERVER), (5, CLIENT), (7, BIDI)] {
        raw.headers(stream, &head_with(path, &[("grpc-timeout", "50m")]), false).await;
        assert_trailers_only(&raw.answer(stream).await, "4");
        assert!(raw.next_of(stream).await.is_reset(Reason::NO_ERROR));
    }
    echo.until_running(0).await;
}

#[tokio::test]
async fn zero_window_passes_headers_and_trailers_at_the_deadline() {
    let (_server, echo, mut raw) = echo_with(server(), &[(INITIAL_WINDOW_SIZE, 0)]).await;
    raw.request(1, &head_with(SERVER, &[("grpc-timeout", "100m")]), &framed("wait")).await;
    let [headers, trailers] = &raw.answer(1).await[..] else { panic!() };
    assert!(!headers.ends());
    assert_eq!(headers.field(":status"), Some("200"));
    assert_eq!(trailers.field("grpc-status"), Some("4"));
    echo.until_running(0).await;
}

#[tokio::test]
async fn zero_window_passes_an_answer_without_messages() {
    let (_server, _, mut raw) = echo_with(server(), &[(INITIAL_WINDOW_SIZE, 0)]).await;
    raw.request(1, &head(UNARY), &framed("fail")).await;
    assert_trailers_only(&raw.answer(1).await, "5");
    raw.request(3, &head(SERVER), &framed("count 0")).await;
    assert_served(&raw.answer(3).await, &[]);
}

#[tokio::test]
async fn deadline_in_mid_message_is_followed_by_cancel() {
    let (_server, echo, mut raw) = echo_with(server(), &[(INITIAL_WINDOW_SIZE, 3)]).await;
    raw.request(1, &head_with(SERVER, &[("grpc-timeout", "100m")]), &framed("wait")).await;
    let [_, data, reset] = &raw.answer(1).await[..] else { panic!() };
    assert_eq!((data.kind, data.payload.len()), (DATA, 3));
    assert!(reset.is_reset(Reason::CANCEL));
    echo.until_running(0).await;
    assert_alive_within(&mut raw, 3).await;
}

/// For a window that is too small for an answer of its own.
async fn assert_alive_within(raw: &mut Raw, stream: u32) {
    raw.headers(stream, &head(UNARY), false).await;
    raw.window(stream, 1024).await;
    raw.data(stream, &framed("alive"), true).await;
    assert_served(&raw.answer(stream).await, &["alive"]);
}

#[tokio::test]
async fn deadline_ends_a_handler_that_is_never_idle() {
    let router = unary((), |_, _: Request<String>| async {
        loop {
            tokio::task::yield_now().await;
        }
    });
    let (_server, mut raw) = serve(router).await;
    let fields = head_with("/test.Own/Unary", &[("grpc-timeout", "50m")]);
    raw.request(1, &fields, &framed("")).await;
    assert_trailers_only(&raw.answer(1).await, "4");
}

#[tokio::test]
async fn deadline_is_visible_to_the_handler() {
    let router = mirror(|call, _| {
        let left = call.time_left().unwrap();
        assert!(call.deadline().is_some());
        Ok(format!("{}", left > Duration::from_secs(50) && left <= Duration::from_secs(60)))
    });
    let (_server, mut raw) = serve(router).await;
    let fields = head_with("/test.Own/Unary", &[("grpc-timeout", "1M")]);
    raw.request(1, &fields, &framed("")).await;
    assert_served(&raw.answer(1).await, &["true"]);
}

#[tokio::test]
async fn cancellation_is_visible_to_a_handlers_task() {
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let router = unary(tell, |tell, request: Request<String>| async move {
        let cancellation = request.handle();
        tokio::spawn(async move { tell.send(cancellation.ended().await) });
        std::future::pending().await
    });
    let (_server, mut raw) = serve(router).await;
    raw.request(1, &head("/test.Own/Unary"), &framed("")).await;
    raw.settled().await;
    raw.reset(1, Reason::CANCEL).await;
    assert_eq!(patiently(told.recv()).await.unwrap().code(), Code::Cancelled);
}

#[tokio::test]
async fn reset_before_the_first_message_is_cancelled() {
    let witness = Witness::default();
    let echo = Echo::default();
    let (_server, mut raw) =
        serve(Router::new().intercept(witness.clone()).add(echo.service())).await;
    for (stream, path) in [(1, UNARY), (3, SERVER), (5, CLIENT), (7, BIDI)] {
        raw.headers(stream, &head(path), false).await;
        raw.settled().await;
        raw.reset(stream, Reason::CANCEL).await;
        assert_eq!(witness.next().await.0, Code::Cancelled, "{path}");
    }
    // In one packet with the headers: the call may never begin, but it does not fail in another
    // way.
    raw.headers(9, &head(UNARY), false).await;
    raw.reset(9, Reason::CANCEL).await;
    raw.settled().await;
    let seen = witness.seen.lock().unwrap().pop();
    assert!(seen.is_none_or(|(code, _)| code == Code::Cancelled));
    echo.until_running(0).await;
}

#[tokio::test]
async fn reset_codes_map_as_the_protocol_says() {
    let witness = Witness::default();
    let echo = Echo::default();
    let (_server, mut raw) =
        serve(Router::new().intercept(witness.clone()).add(echo.service())).await;
    let map = [
        (Reason::CANCEL, Code::Cancelled),
        (Reason::REFUSED_STREAM, Code::Unavailable),
        (Reason::ENHANCE_YOUR_CALM, Code::ResourceExhausted),
        (Reason::INADEQUATE_SECURITY, Code::PermissionDenied),
        (Reason::NO_ERROR, Code::Internal),
        (Reason::PROTOCOL_ERROR, Code::Internal),
        (Reason::INTERNAL_ERROR, Code::Internal),
        (Reason::FLOW_CONTROL_ERROR, Code::Internal),
        (Reason::STREAM_CLOSED, Code::Internal),
        (Reason::CONNECT_ERROR, Code::Internal),
        (Reason::HTTP_1_1_REQUIRED, Code::Internal),
        (Reason::from(0xff), Code::Internal),
    ];
    // Before the response headers, after them, and after the half-close.
    let mut streams = (1..).step_by(2);
    for (reason, code) in map {
        for (path, message, end) in
            [(CLIENT, "wait", false), (BIDI, "a", false), (UNARY, "wait", true)]
        {
            let stream = streams.next().unwrap();
            raw.headers(stream, &head(path), false).await;
            raw.data(stream, &framed(message), end).await;
            echo.until_running(1).await;
            if path == BIDI {
                assert_eq!(raw.next_of(stream).await.kind, HEADERS);
            }
            raw.reset(stream, reason).await;
            assert_eq!(witness.next().await.0, code, "{reason:?} {path}");
            echo.until_running(0).await;
        }
    }
}

#[tokio::test]
async fn reset_is_never_a_clean_end_of_requests() {
    static STREAM: Rpc<String, String> = Rpc::client_streaming("/test.Own/Stream");
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    // One handler reads by itself, the other in a task that outlives it.
    let service = Service::builder("test.Own", &[], tell).client_streaming(
        &STREAM,
        |tell, request| async move {
            let mut messages = request.into_message();
            let first: String = messages.message().await?.unwrap();
            let rest = async move { tell.send(messages.message().await) };
            if first == "task" {
                tokio::spawn(rest);
            } else {
                rest.await.unwrap();
            }
            std::future::pending().await
        },
    );
    let (_server, mut raw) = serve(Router::new().add(service.build())).await;
    for (stream, (how, reason)) in (1..).step_by(2).zip([
        ("here", Reason::CANCEL),
        ("task", Reason::CANCEL),
        ("here", Reason::NO_ERROR),
    ]) {
        raw.headers(stream, &head("/test.Own/Stream"), false).await;
        raw.data(stream, &framed(how), false).await;
        raw.settled().await;
        raw.reset(stream, reason).await;
        let seen = patiently(told.recv()).await.unwrap();
        let expected = if reason == Reason::CANCEL { Code::Cancelled } else { Code::Internal };
        assert_eq!(seen.unwrap_err().code(), expected, "{how} {reason:?}");
    }
}
