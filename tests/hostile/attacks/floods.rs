//! Frames at full speed: frames of the connection, and frames of calls that have ended or never
//! end.

use super::held::on_connections_with;
use crate::attacker::Report;
use crate::client::WATCH;
use crate::link::{Target, open_unwatched};
use crate::scenario::{Rule, Scenario};
use crate::wire::*;

/// Calls that stay open: as many as a connection may have.
const STALLED: u32 = 1000;

/// Bytes that a flood writes at a time.
const CHUNK: usize = 64 * 1024;

pub(crate) fn scenarios() -> Vec<Scenario> {
    let window = |value| Frames::default().settings(&[(INITIAL_WINDOW_SIZE, value)]).0.clone();
    let settings = [window(1000), window(2000)].concat();
    let table = [4096, 0].map(|size| Frames::default().settings(&[(0x1, size)]).0.clone()).concat();
    let frame = |kind, flags, stream, payload: &[u8]| {
        Frames::default().add(kind, flags, stream, payload).0.clone()
    };
    let priority = frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 16]);
    let ping = frame(PING, 0, 0, &[7; 8]);
    let own_window = Frames::default().window(1, 1).0.clone();
    vec![
        flood("flood-settings", STALLED, settings.clone()).also_over_tls(),
        flood("flood-settings-idle", 0, settings.clone()),
        flood("flood-settings-table", STALLED, table),
        flood("flood-settings-empty", 0, frame(SETTINGS, 0, 0, &[])),
        flood("flood-ping", 1, ping.clone()),
        flood("flood-ping-ack", 1, frame(PING, ACK, 0, &[7; 8])),
        flood("flood-priority", 1, priority.clone()).also_over_tls(),
        flood("flood-window", STALLED, Frames::default().window(0, 1).0.clone()),
        flood("flood-window-of-call", STALLED, own_window),
        flood("flood-unknown", 1, frame(UNKNOWN, 0, 1, &[])),
        flood("flood-unknown-large", 1, frame(UNKNOWN, 0, 1, &[0; MAX_FRAME])),
        flood("flood-reset-again", 1, Frames::default().reset(1, CANCEL).0.clone()),
        again("flood-settings-reconnecting", STALLED, settings),
        again("flood-ping-reconnecting", 1, ping),
        again("flood-priority-reconnecting", 1, priority),
        continuation(),
    ]
}

/// The same frames at full speed on each of two connections, with this many open calls.
fn flood(name: &str, stalled: u32, bytes: Vec<u8>) -> Scenario {
    Scenario::new(name, Rule::Flood, move || {
        let bytes = chunk(&bytes);
        async move |target: Target| {
            on_connections_with(&target, 2, FIRST_WINDOW, async |writer| {
                if writer.send(&watches(stalled)).await.is_ok() {
                    writer.flood(&target, &bytes).await;
                }
            })
            .await
        }
    })
}

/// The same from a client that reconnects after each GOAWAY, so that the cost counts.
fn again(name: &str, stalled: u32, bytes: Vec<u8>) -> Scenario {
    Scenario::new(name, Rule::Flood, move || {
        let bytes = chunk(&bytes);
        async move |target: Target| {
            let mut connections = 0;
            while target.goes_on() {
                let Ok(writer) = open_unwatched(&target, 0).await else { continue };
                connections += 1;
                if writer.send(&watches(stalled)).await.is_ok() {
                    writer.flood(&target, &bytes).await;
                }
            }
            Report { opened: 1, ..Report::default() }.noting(format!("{connections} connections"))
        }
    })
}

/// A header block that does not end, in pieces of one byte.
fn continuation() -> Scenario {
    Scenario::new("flood-continuation", Rule::Flood, || {
        // Literals of the static table: an empty `:path`.
        let bytes = chunk(Frames::default().add(CONTINUATION, 0, 1, &[0x82]).0.as_slice());
        async move |target: Target| {
            on_connections_with(&target, 2, FIRST_WINDOW, async |writer| {
                let begin = Frames::default().add(HEADERS, 0, 1, &[0x83]).0.clone();
                if writer.send(&begin).await.is_ok() {
                    writer.flood(&target, &bytes).await;
                }
            })
            .await
        }
    })
}

pub(super) fn chunk(bytes: &[u8]) -> Vec<u8> {
    bytes.repeat((CHUNK / bytes.len()).max(1))
}

/// Calls of `Health/Watch`, which stay open, on the first streams.
pub(super) fn watches(count: u32) -> Vec<u8> {
    let heads = indexed_heads(WATCH, &[]);
    let mut frames = Frames::default();
    for index in 0..count {
        let stream = 1 + 2 * index;
        frames.headers(stream, &heads[usize::from(index > 0)]);
        frames.last_data(stream, &message(false, &[]));
    }
    frames.0
}
