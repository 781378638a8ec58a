//! Memory that calls hold.

use std::time::Duration;

use futures_util::future::join_all;
use prost::Message;
use tokio::time::{sleep, timeout, timeout_at};
use user_server::pb::CreateUserRequest;

use super::payloads::{LARGEST, compress, zstd_wide_window};
use crate::attacker::Report;
use crate::client::{CHECK, CREATE_USER, CREATE_USERS, GET_USER, REFLECTION, WATCH, alice};
use crate::link::{Target, Writer, open_unwatched};
use crate::scenario::{Rule, Scenario};
use crate::wire::{Frames, MAX_WINDOW, indexed_heads, message, string_field};

/// Calls of one connection: a few fewer than the server allows.
const STREAMS: u32 = 990;

/// The bytes of one message of 4 MiB.
const PATIENCE: Duration = Duration::from_millis(100);

pub(crate) fn scenarios() -> Vec<Scenario> {
    let mut all = Vec::new();
    for (what, path) in [
        ("check", CHECK),
        ("watch", WATCH),
        ("get-user", GET_USER),
        ("create-user", CREATE_USER),
        ("reflection", REFLECTION),
    ] {
        let zstd = complete(format!("complete-zstd-{what}"), path, "zstd", true);
        all.push(if what == "check" { zstd.also_over_tls() } else { zstd });
    }
    for encoding in ["gzip", "deflate", "identity"] {
        all.push(complete(format!("complete-{encoding}-check"), CHECK, encoding, true));
    }
    all.push(complete("complete-identity-create-user", CREATE_USER, "identity", true));
    all.push(complete("complete-zstd-create-users", CREATE_USERS, "zstd", true).on_both_stores());
    all.push(complete("complete-gzip-create-users", CREATE_USERS, "gzip", true));
    all.push(complete("watch-long-name", WATCH, "zstd", false).also_over_tls());
    all.push(calls("unfinished-create-user", CREATE_USER, "identity", true, || {
        let mut body = message(false, &string_field(1, &vec![b'a'; LARGEST - 16]));
        body.pop();
        body
    }));
    all.push(calls("zstd-wide-window", CREATE_USER, "zstd", true, || {
        message(true, &zstd_wide_window())
    }));
    all.push(unfinished_on_many_connections());
    all.push(atomic_batches().on_both_stores());
    all.push(batches_that_end_together());
    all
}

/// The most that the calls of one connection may hold, on each of many connections.
fn unfinished_on_many_connections() -> Scenario {
    Scenario::new("unfinished-on-20-connections", Rule::Bounded, || {
        let heads = indexed_heads(CREATE_USER, &[]);
        let mut body = message(false, &string_field(1, &vec![b'a'; LARGEST - 16]));
        body.pop();
        async move |target: Target| {
            let attack = async |writer| many_calls(&target, writer, &heads, &body, false).await;
            on_connections(&target, 20, attack).await
        }
    })
}

/// Batches that are stored at their end, and do not end: 10,000 users of 1 KiB each, in 50 bytes.
fn atomic_batches() -> Scenario {
    Scenario::new("atomic-batches", Rule::Bounded, || {
        let user = CreateUserRequest { name: "😀".repeat(200), email: alice().email };
        let body = message(true, &compress("zstd", &user.encode_to_vec())).repeat(9_000);
        let metadata = [("grpc-encoding", "zstd"), ("users-batch", "atomic")];
        let heads = indexed_heads(CREATE_USERS, &metadata);
        async move |target: Target| {
            let attack = async |writer| many_calls(&target, writer, &heads, &body, false).await;
            on_connections(&target, 2, attack).await
        }
    })
}

/// 250 batches of 10,000 users, which are stored at their end, and end together. Then again.
fn batches_that_end_together() -> Scenario {
    const BATCHES: u32 = 250;
    let scenario = Scenario::new("batches-that-end-together", Rule::Bounded, || {
        let body = message(false, &alice().encode_to_vec()).repeat(10_000);
        let heads = indexed_heads(CREATE_USERS, &[("users-batch", "atomic")]);
        async move |target: Target| {
            on_connections(&target, 1, async |writer| {
                let mut stream = 1;
                while target.goes_on() && !writer.seen.is_cut() {
                    let mut ends = Frames::default();
                    for _ in 0..BATCHES {
                        let head = &heads[usize::from(stream > 1)];
                        let _ = writer.send(&Frames::default().headers(stream, head).0).await;
                        if writer.upload(stream, &body, false).await {
                            ends.last_data(stream, &[]);
                        }
                        stream += 2;
                    }
                    let _ = writer.send(&ends.0).await;
                    writer.open_calls_below(1, u64::from(stream / 2)).await;
                }
            })
            .await
        }
    });
    scenario.seconds(6).on_sqlite().beside_creations()
}

/// Calls with one complete message of 4 MiB, on each of two connections.
fn complete(
    name: impl Into<String>,
    path: &'static str,
    encoding: &'static str,
    waiting: bool,
) -> Scenario {
    calls(name, path, encoding, waiting, move || {
        // The first field of each of these messages: 4 for reflection, file_containing_symbol.
        let number = if path == REFLECTION { 4 } else { 1 };
        let text = string_field(number, &vec![b'a'; LARGEST - 16]);
        message(encoding != "identity", &compress(encoding, &text))
    })
}

/// As many calls as may be open, on each of two connections. With `waiting` they do not end their
/// requests.
fn calls(
    name: impl Into<String>,
    path: &'static str,
    encoding: &'static str,
    waiting: bool,
    body: impl Fn() -> Vec<u8> + 'static,
) -> Scenario {
    Scenario::new(name, Rule::Bounded, move || {
        let body = body();
        let heads = indexed_heads(path, &[("grpc-encoding", encoding)]);
        async move |target: Target| {
            let attack = async |writer| many_calls(&target, writer, &heads, &body, !waiting).await;
            on_connections(&target, 2, attack).await
        }
    })
}

/// Opens the streams and sends the same bytes on each, as far as the server accepts them.
async fn many_calls(target: &Target, writer: Writer, heads: &[Vec<u8>; 2], body: &[u8], end: bool) {
    for index in 0..STREAMS {
        let (stream, head) = (1 + 2 * index, &heads[usize::from(index > 0)]);
        if writer.send(&Frames::default().headers(stream, head).0).await.is_err() {
            return;
        }
        // A stream that the server stops reading does not delay the next one.
        let _ = timeout(PATIENCE, writer.upload(stream, body, end)).await;
        if writer.seen.is_cut() {
            return;
        }
    }
    target.end().await;
}

/// Runs the same on several connections and reports their ends.
pub(super) async fn on_connections(
    target: &Target,
    count: usize,
    attack: impl AsyncFn(Writer),
) -> Report {
    on_connections_with(target, count, MAX_WINDOW, attack).await
}

/// The same with this window for answers.
pub(super) async fn on_connections_with(
    target: &Target,
    count: usize,
    window: u32,
    attack: impl AsyncFn(Writer),
) -> Report {
    let (mut seen, mut attacks) = (Vec::new(), Vec::new());
    for _ in 0..count {
        match open_unwatched(target, window).await {
            Ok(writer) => {
                seen.push(writer.seen.clone());
                attacks.push(attack(writer));
            }
            Err(error) => return Report::default().noting(format!("cannot connect: {error}")),
        }
    }
    let _ = timeout_at(target.until.unwrap(), join_all(attacks)).await;
    // After a failed write the reason may be in the unread input.
    while target.goes_on() && !seen.iter().all(|seen| seen.is_cut()) {
        sleep(Duration::from_millis(10)).await;
    }
    Report::of(&seen)
}
