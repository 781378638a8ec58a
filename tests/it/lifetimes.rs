//! The lifetime of connections, and conduct that ends them. Time is simulated.

use std::sync::Arc;
use std::time::Duration;

use balafon::google::rpc::ErrorInfo;
use balafon::{Call, Code, Router, Server, Status};
use h2::{Ping, PingPong, Reason};
use tokio::io::DuplexStream;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};

use crate::support::echo::Echo;
use crate::support::peer::{Peer, framed, request};
use crate::support::raw::{
    ACK, CONTINUATION, DATA, END_HEADERS, GOAWAY, HEADERS, PING, PRIORITY, RST_STREAM, Raw,
    SETTINGS, UNKNOWN, block, frame, head,
};
use crate::support::witness::{Seen, Witness};
use crate::support::{patiently, serve_pipe};

const SECOND: Duration = Duration::from_secs(1);

/// An echo server, and the outcomes of its calls.
struct Fixture {
    server: Server,
    router: Arc<Router>,
    echo: Echo,
    seen: Seen,
}

impl Fixture {
    fn new(server: Server) -> Self {
        let echo = Echo::default();
        let (witness, seen) = Witness::new();
        let router = Arc::new(Router::new().intercept(witness).add(echo.service()));
        Self { server, router, echo, seen }
    }

    async fn raw(&self) -> (Raw<DuplexStream>, JoinHandle<()>) {
        let (io, serving) = serve_pipe(&self.server, &self.router);
        (Raw::over(io, &[]).await, serving)
    }

    async fn peer(&self) -> (Peer, JoinHandle<()>) {
        let (io, serving) = serve_pipe(&self.server, &self.router);
        (Peer::over(io, &h2::client::Builder::new()).await, serving)
    }
}

/// Asserts that this much time has passed, give or take the resolution of the clock.
#[track_caller]
fn assert_passed(since: Instant, time: Duration) {
    let passed = since.elapsed();
    assert!(passed >= time && passed < time + SECOND / 10, "{passed:?} instead of {time:?}");
}

async fn assert_alive(peer: &mut Peer) {
    assert_eq!(peer.unary("/test.Echo/Unary", "alive").await.messages(), ["alive"]);
}

// Keepalive.

#[tokio::test(start_paused = true)]
async fn keepalive_closes_a_silent_connection() {
    let mut fixture = Fixture::new(crate::support::server().keepalive(10 * SECOND, 2 * SECOND));
    for with_call in [false, true] {
        let (mut raw, serving) = fixture.raw().await;
        if with_call {
            raw.request(1, &head("/test.Echo/Unary"), &framed("wait")).await;
            fixture.echo.until_running(1).await;
        }
        let start = Instant::now();
        assert_eq!(raw.next_kind(PING).await.flags, 0);
        assert_passed(start, 10 * SECOND);
        while raw.next().await.is_some() {}
        assert_passed(start, 12 * SECOND);
        patiently(serving).await.unwrap();
        if with_call {
            assert_eq!(fixture.seen.code().await, Code::Cancelled);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn keepalive_counts_from_the_last_received_frame() {
    let fixture = Fixture::new(crate::support::server().keepalive(10 * SECOND, 2 * SECOND));
    let (mut raw, _serving) = fixture.raw().await;
    let start = Instant::now();
    for quiet in [7, 9] {
        sleep(quiet * SECOND).await;
        raw.send(UNKNOWN, 0, 0, &[]).await;
    }
    raw.next_kind(PING).await;
    assert_passed(start, (7 + 9 + 10) * SECOND);
}

#[tokio::test(start_paused = true)]
async fn keepalive_spares_a_client_that_answers() {
    let fixture = Fixture::new(crate::support::server().keepalive(10 * SECOND, 2 * SECOND));
    let (mut peer, _serving) = fixture.peer().await;
    sleep(1000 * SECOND).await;
    assert_alive(&mut peer).await;

    let (mut raw, _serving) = fixture.raw().await;
    for _ in 0..10 {
        let ping = raw.next_kind(PING).await;
        sleep(SECOND).await;
        raw.send(PING, ACK, 0, &ping.payload).await;
    }
}

// Idle connections.

#[tokio::test(start_paused = true)]
async fn idle_connection_is_closed_after_its_time() {
    let fixture = Fixture::new(crate::support::server().max_connection_idle(10 * SECOND));
    let (mut raw, serving) = fixture.raw().await;
    let start = Instant::now();
    let first = raw.next_kind(GOAWAY).await;
    assert_eq!((first.last_stream(), first.reason()), (i32::MAX as u32, Reason::NO_ERROR));
    assert_passed(start, 10 * SECOND);
    // Once the PING is answered, nothing is in progress.
    let ping = raw.next_kind(PING).await;
    raw.send(PING, ACK, 0, &ping.payload).await;
    let last = raw.goodbye().await.unwrap();
    assert_eq!((last.last_stream(), last.reason()), (0, Reason::NO_ERROR));
    patiently(serving).await.unwrap();
    assert_passed(start, 10 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn idle_time_starts_after_the_last_call() {
    let fixture = Fixture::new(crate::support::server().max_connection_idle(10 * SECOND));
    let (mut peer, serving) = fixture.peer().await;
    // Calls that are answered at once,
    for _ in 0..5 {
        sleep(8 * SECOND).await;
        assert_alive(&mut peer).await;
    }
    // and one that is open for long.
    let mut open = peer.open("/test.Echo/Unary").await;
    open.message("until told", true);
    sleep(60 * SECOND).await;
    fixture.echo.tell();
    assert_eq!(open.reply().await.unwrap().grpc_status(), "0");
    let end = Instant::now();
    patiently(serving).await.unwrap();
    assert_passed(end, 10 * SECOND);
}

/// The frames of a client that has not seen the GOAWAY yet are served.
#[tokio::test(start_paused = true)]
async fn goaway_serves_a_call_that_crosses_it() {
    let fixture = Fixture::new(crate::support::server().max_connection_idle(10 * SECOND));
    let (mut raw, serving) = fixture.raw().await;
    raw.next_kind(GOAWAY).await;
    let ping = raw.next_kind(PING).await;
    raw.request(1, &head("/test.Echo/Unary"), &framed("late")).await;
    raw.send(PING, ACK, 0, &ping.payload).await;
    let mut answered = false;
    let mut last = None;
    while let Some(frame) = raw.next().await {
        answered |= frame.kind == HEADERS && frame.stream == 1;
        last = (frame.kind == GOAWAY).then(|| frame.last_stream()).or(last);
    }
    assert!(answered);
    assert_eq!(last, Some(1));
    patiently(serving).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn idle_client_that_ignores_goaway_is_cut_off() {
    let fixture = Fixture::new(crate::support::server().max_connection_idle(10 * SECOND));
    let (mut raw, serving) = fixture.raw().await;
    raw.next_kind(GOAWAY).await;
    let start = Instant::now();
    patiently(serving).await.unwrap();
    assert_passed(start, 2 * SECOND);
}

// Old connections.

#[tokio::test(start_paused = true)]
async fn max_age_refuses_new_calls_and_keeps_open_ones() {
    let server = crate::support::server().max_connection_age(10 * SECOND, None);
    let mut fixture = Fixture::new(server);
    let (mut peer, serving) = fixture.peer().await;
    let mut open = peer.open("/test.Echo/Unary").await;
    open.message("until told", true);
    fixture.echo.until_running(1).await;
    sleep(8 * SECOND).await;
    assert_alive(&mut peer).await;
    assert_eq!(fixture.seen.code().await, Code::Ok);
    // The age is reached, give or take a tenth.
    sleep(4 * SECOND).await;
    let refused = peer.try_open(request("/test.Echo/Unary")).await.err().expect("it is too old");
    assert!(refused.is_go_away(), "{refused}");
    assert!(!serving.is_finished());
    let (mut other, _serving) = fixture.peer().await;
    assert_alive(&mut other).await;

    sleep(1000 * SECOND).await;
    fixture.echo.tell();
    assert_eq!(open.reply().await.unwrap().grpc_status(), "0");
    patiently(serving).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn max_age_grace_ends_calls_as_unavailable() {
    let server = crate::support::server().max_connection_age(10 * SECOND, Some(3 * SECOND));
    let mut fixture = Fixture::new(server);
    let (mut peer, serving) = fixture.peer().await;
    let start = Instant::now();
    let mut open = peer.open("/test.Echo/Server").await;
    open.message("wait", true);
    let reply = open.reply().await.unwrap();
    assert_eq!((reply.messages(), reply.grpc_status()), (vec!["wait".to_owned()], "14"));
    let age = start.elapsed() - 3 * SECOND;
    assert!(age >= 9 * SECOND && age <= 11 * SECOND + SECOND / 10, "{age:?}");
    assert_eq!(fixture.seen.code().await, Code::Unavailable);
    patiently(serving).await.unwrap();
}

/// The peer does not acknowledge the shutdown's PING, so the server must assume that it does not
/// know.
#[tokio::test(start_paused = true)]
async fn drained_connection_still_answers_a_late_call() {
    let server = crate::support::server().max_connection_age(10 * SECOND, Some(SECOND));
    let mut fixture = Fixture::new(server);
    let (mut raw, serving) = fixture.raw().await;
    raw.next_kind(GOAWAY).await;
    sleep(SECOND + SECOND / 2).await;
    raw.request(1, &head("/test.Echo/Unary"), &framed("wait")).await;
    fixture.echo.until_running(1).await;
    patiently(serving).await.unwrap();
    assert_eq!(fixture.seen.code().await, Code::Cancelled);
    assert_eq!(fixture.seen.now(), None);
    fixture.echo.until_running(0).await;
}

// Pings.

async fn pinging(fixture: &Fixture) -> (Peer, PingPong, JoinHandle<()>) {
    let (io, serving) = serve_pipe(&fixture.server, &fixture.router);
    let (peer, ping_pong) = Peer::over_with_pings(io, &h2::client::Builder::new()).await;
    (peer, ping_pong, serving)
}

async fn ping(ping_pong: &mut PingPong) -> Result<(), h2::Error> {
    patiently(ping_pong.ping(Ping::opaque())).await.map(drop)
}

#[tokio::test(start_paused = true)]
async fn ping_strikes_end_the_connection_with_goaway() {
    for server in
        [crate::support::server(), crate::support::server().permit_pings(10 * SECOND, true)]
    {
        let fixture = Fixture::new(server);
        let (mut neighbour, _serving) = fixture.peer().await;
        let (peer, mut ping_pong, serving) = pinging(&fixture).await;
        // The first ping is free, and two strikes are forgiven.
        for _ in 0..3 {
            ping(&mut ping_pong).await.unwrap();
            sleep(SECOND).await;
        }
        ping(&mut ping_pong).await.unwrap_err();
        let error = peer.closed().await.unwrap_err();
        assert!(error.is_go_away() && error.is_remote(), "{error}");
        assert_eq!(error.reason(), Some(Reason::ENHANCE_YOUR_CALM));
        assert!(error.to_string().contains("too_many_pings"), "{error}");
        patiently(serving).await.unwrap();
        assert_alive(&mut neighbour).await;
    }
}

#[tokio::test(start_paused = true)]
async fn pings_at_the_permitted_pace_are_answered() {
    let fixture = Fixture::new(crate::support::server().permit_pings(10 * SECOND, true));
    let (_peer, mut ping_pong, _serving) = pinging(&fixture).await;
    for _ in 0..100 {
        ping(&mut ping_pong).await.unwrap();
        sleep(10 * SECOND).await;
    }
}

#[tokio::test(start_paused = true)]
async fn ping_limit_without_calls_follows_its_setting() {
    let fixture = Fixture::new(crate::support::server().permit_pings(10 * SECOND, false));
    let (mut peer, mut ping_pong, _serving) = pinging(&fixture).await;
    let mut open = peer.open("/test.Echo/Unary").await;
    open.message("until told", true);
    fixture.echo.until_running(1).await;
    for _ in 0..100 {
        ping(&mut ping_pong).await.unwrap();
        sleep(10 * SECOND).await;
    }
    fixture.echo.tell();
    assert_eq!(open.reply().await.unwrap().grpc_status(), "0");
    for _ in 0..3 {
        ping(&mut ping_pong).await.unwrap();
        sleep(10 * SECOND).await;
    }
    ping(&mut ping_pong).await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn ping_strikes_reset_when_the_server_sends() {
    let fixture = Fixture::new(crate::support::server());
    let (mut peer, mut ping_pong, _serving) = pinging(&fixture).await;
    // In the manner of clients that measure the bandwidth.
    for _ in 0..20 {
        for _ in 0..3 {
            ping(&mut ping_pong).await.unwrap();
        }
        assert_alive(&mut peer).await;
    }
}

// Floods.

/// The last frames that the attacker gets; another connection is not affected.
async fn flood(bytes: &[u8], times: usize) -> (Reason, String) {
    let fixture = Fixture::new(crate::support::server());
    let (mut neighbour, _serving) = fixture.peer().await;
    let (raw, serving) = fixture.raw().await;
    let flooding = tokio::spawn({
        let bytes = bytes.to_vec();
        async move { raw.flood(&bytes, times).await }
    });
    while !flooding.is_finished() {
        assert_alive(&mut neighbour).await;
        // Lets the clock advance.
        sleep(SECOND / 100).await;
    }
    patiently(serving).await.unwrap();
    assert_alive(&mut neighbour).await;
    fixture.echo.until_running(0).await;
    let goaway = flooding.await.unwrap().expect("the server says why");
    (goaway.reason(), goaway.debug().to_owned())
}

#[tokio::test(start_paused = true)]
async fn flood_of_idle_frames_ends_only_its_connection() {
    for frame in [
        frame(PRIORITY, 0, 3, &[0, 0, 0, 0, 1]),
        frame(UNKNOWN, 0, 0, b"grease"),
        frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100]),
    ] {
        let end = flood(&frame.repeat(1000), 100).await;
        assert_eq!(
            end,
            (Reason::ENHANCE_YOUR_CALM, "too_many_idle_frames".to_owned()),
            "{frame:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn flood_of_pings_ends_only_its_connection() {
    let end = flood(&frame(PING, 0, 0, &[7; 8]).repeat(1000), 10).await;
    assert_eq!(end, (Reason::ENHANCE_YOUR_CALM, "too_many_pings".to_owned()));
}

/// CVE-2023-44487.
#[tokio::test(start_paused = true)]
async fn flood_of_rapid_resets_ends_only_its_connection() {
    let reset = |stream| {
        let cancel = frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]);
        let open = frame(HEADERS, END_HEADERS, stream, &block(&head("/test.Echo/Unary")));
        [open, cancel].concat()
    };
    let bytes: Vec<u8> = (0..20_000).flat_map(|call| reset(2 * call + 1)).collect();
    let (code, _) = flood(&bytes, 1).await;
    assert_eq!(code, Reason::ENHANCE_YOUR_CALM);
}

/// CVE-2024-27316.
#[tokio::test(start_paused = true)]
async fn flood_of_continuations_ends_only_its_connection() {
    let fixture = Fixture::new(crate::support::server());
    let (mut neighbour, _serving) = fixture.peer().await;
    let (mut raw, serving) = fixture.raw().await;
    raw.send(HEADERS, 0, 1, &block(&head("/test.Echo/Unary"))).await;
    let more = frame(CONTINUATION, 0, 1, &block(&[("x", "")]));
    let goaway = raw.flood(&more.repeat(1000), 100).await.unwrap();
    assert_eq!(goaway.reason(), Reason::ENHANCE_YOUR_CALM);
    patiently(serving).await.unwrap();
    assert_alive(&mut neighbour).await;
}

#[tokio::test(start_paused = true)]
async fn flood_of_empty_data_ends_only_its_connection() {
    let mut fixture = Fixture::new(crate::support::server());
    let (mut neighbour, _serving) = fixture.peer().await;
    let (mut raw, serving) = fixture.raw().await;
    raw.headers(1, &head("/test.Echo/Client"), false).await;
    fixture.echo.until_running(1).await;
    let goaway = raw.flood(&frame(DATA, 0, 1, &[]).repeat(1000), 100).await.unwrap();
    assert_eq!(goaway.reason(), Reason::ENHANCE_YOUR_CALM);
    patiently(serving).await.unwrap();
    assert_ne!(fixture.seen.code().await, Code::Ok);
    assert_alive(&mut neighbour).await;
}

// The header list size that the client accepts.

#[tokio::test]
async fn status_too_large_for_the_client_keeps_its_code() {
    let router = Router::new().fallback(|call: Call| async move {
        let message = if call.path() == "/long" { 20_000 } else { 10 };
        let detail = ErrorInfo::new("x".repeat(20_000), "test");
        Status::aborted("é".repeat(message)).with_detail(&detail).into()
    });
    let router = Arc::new(router);
    for limit in [200, 1024, 8192] {
        let mut builder = h2::client::Builder::new();
        builder.max_header_list_size(limit);
        let (io, _serving) = serve_pipe(&crate::support::server(), &router);
        let mut peer = Peer::over(io, &builder).await;
        for path in ["/short", "/long"] {
            let reply = peer.call(request(path), framed("a")).await;
            assert_eq!(reply.grpc_status(), "10", "{path} with {limit}");
            assert_eq!(reply.trailer("grpc-status-details-bin"), None);
            let message = reply.trailer("grpc-message").unwrap_or_default();
            assert!(message.len() <= limit as usize);
            assert!(limit < 1024 || message.starts_with("%C3%A9"), "{path} with {limit}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn unlimited_connection_does_not_end_by_time() {
    let fixture = Fixture::new(crate::support::server());
    let (mut peer, _serving) = fixture.peer().await;
    let start = Instant::now();
    sleep_until(start + 100 * 3600 * SECOND).await;
    assert_alive(&mut peer).await;
}

#[tokio::test(start_paused = true)]
async fn time_limits_may_be_the_longest_duration() {
    const MAX: Duration = Duration::MAX;
    let server = crate::support::server()
        .handshake_timeout(MAX)
        .max_connection_idle(MAX)
        .max_connection_age(MAX, Some(MAX))
        .keepalive(MAX, MAX)
        .permit_pings(MAX, true);
    let fixture = Fixture::new(server);
    // The age of a connection is random.
    for _ in 0..20 {
        let (mut peer, _serving) = fixture.peer().await;
        sleep(1000 * SECOND).await;
        let head = request("/test.Echo/Unary").header("grpc-timeout", "99999999H");
        assert_eq!(peer.call(head, framed("alive")).await.grpc_status(), "0");
    }
}
