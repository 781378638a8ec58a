//! Streams whose clients send nothing more. Time is simulated.

use std::sync::Arc;
use std::time::Duration;

use balafon::{CallOptions, Router};
use h2::Reason;
use tokio::io::DuplexStream;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::support::echo::Echo;
use crate::support::peer::framed;
use crate::support::raw::{Frame, INITIAL_WINDOW_SIZE, Raw, head};
use crate::support::serve_pipe;

const UNARY: &str = "/test.Echo/Unary";
const CLIENT: &str = "/test.Echo/Client";
const BIDI: &str = "/test.Echo/Bidi";
const SERVER: &str = "/test.Echo/Server";

const SECOND: Duration = Duration::from_secs(1);

/// The longest time without a message.
const IDLE: Duration = Duration::from_secs(10);

type Started = (Raw<DuplexStream>, JoinHandle<()>, Echo);

async fn start(options: CallOptions) -> Started {
    start_with(options, &[]).await
}

async fn start_with(options: CallOptions, settings: &[(u16, u32)]) -> Started {
    let echo = Echo::default();
    let router = Router::new().add(echo.service()).configure("test.Echo", options);
    let server = crate::support::server().keepalive(Duration::MAX, Duration::MAX);
    let server = server.calls(CallOptions::new().request_timeout(Duration::MAX));
    let (io, serving) = serve_pipe(&server, &Arc::new(router));
    (Raw::over(io, settings).await, serving, echo)
}

#[track_caller]
fn assert_silent(answer: &[Frame], since: Instant) {
    let last = answer.last().unwrap();
    assert_eq!(last.field("grpc-status"), Some("4"));
    assert!(last.field("grpc-message").unwrap().contains("the client was idle"), "{last:?}");
    let passed = since.elapsed();
    assert!((IDLE..IDLE + SECOND).contains(&passed), "{passed:?}");
}

#[tokio::test(start_paused = true)]
async fn stream_of_a_silent_client_ends() {
    for spawned in [false, true] {
        let options = CallOptions::new().idle_timeout(IDLE).spawn(spawned);
        for path in [CLIENT, BIDI] {
            let (mut raw, _serving, _echo) = start(options).await;
            let begun = Instant::now();
            raw.headers(1, &head(path), false).await;
            assert_silent(&raw.answer(1).await, begun);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn silence_ends_with_whole_messages_only() {
    let (mut raw, _serving, _echo) = start(CallOptions::new().idle_timeout(IDLE)).await;
    raw.headers(1, &head(CLIENT), false).await;
    for _ in 0..20 {
        sleep(IDLE * 9 / 10).await;
        raw.data(1, &framed("here"), false).await;
    }
    let last = Instant::now();
    let message = framed("a message in parts");
    for byte in message.chunks(1).take(3) {
        raw.data(1, byte, false).await;
        sleep(IDLE / 4).await;
    }
    assert_silent(&raw.answer(1).await, last);
}

#[tokio::test(start_paused = true)]
async fn working_handler_makes_no_silence() {
    let (mut raw, _serving, echo) = start(CallOptions::new().idle_timeout(IDLE)).await;
    raw.headers(1, &head(CLIENT), false).await;
    raw.data(1, &framed("wait"), false).await;
    echo.until_running(1).await;
    sleep(100 * IDLE).await;
    assert_eq!(echo.running(), 1);
}

#[tokio::test(start_paused = true)]
async fn stopped_reader_is_silent_too() {
    let options = CallOptions::new().idle_timeout(IDLE);
    let (mut raw, _serving, _echo) = start_with(options, &[(INITIAL_WINDOW_SIZE, 100)]).await;
    raw.headers(1, &head(BIDI), false).await;
    let begun = Instant::now();
    // More than the buffer of a stream holds.
    for _ in 0..3 {
        raw.data(1, &framed(&"x".repeat(15_000)), false).await;
    }
    // A message is cut, so that there is no status.
    assert!(raw.answer(1).await.last().unwrap().is_reset(Reason::CANCEL));
    assert!((IDLE..IDLE + SECOND).contains(&begun.elapsed()));
}

#[tokio::test(start_paused = true)]
async fn silence_is_free_without_a_stream_or_limit() {
    for (options, path) in [
        (CallOptions::new(), CLIENT),
        (CallOptions::new(), BIDI),
        (CallOptions::new().idle_timeout(Duration::MAX), CLIENT),
        (CallOptions::new().idle_timeout(IDLE), UNARY),
        (CallOptions::new().idle_timeout(IDLE), SERVER),
    ] {
        let (mut raw, _serving, _echo) = start(options).await;
        raw.headers(1, &head(path), false).await;
        sleep(100 * IDLE).await;
        raw.data(1, &framed("here"), true).await;
        assert_eq!(raw.answer(1).await.last().unwrap().field("grpc-status"), Some("0"));
    }
}
