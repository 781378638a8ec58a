//! Unread answers: the attacker's socket is full, and it goes on sending requests.

use super::floods::chunk;
use crate::attacker::Report;
use crate::client::{CHECK, NO_METHOD, REFLECTION};
use crate::link::{Target, Writer, open};
use crate::scenario::{Rule, Scenario};
use crate::wire::*;

pub(crate) fn scenarios() -> Vec<Scenario> {
    let frame = |kind, payload: &[u8]| Frames::default().add(kind, 0, 0, payload).0.clone();
    vec![
        calls("unread-checks", |frames, stream, [check, _]| {
            frames.headers(stream, check).last_data(stream, &[0; 5]);
        })
        .also_over_tls(),
        calls("unread-errors", |frames, stream, [_, no_method]| {
            frames.head_alone(stream, no_method);
        }),
        calls("unread-resets", |frames, stream, _| {
            // No path.
            frames.head_alone(stream, &[0x83, 0x86]);
        }),
        same("unread-pings", frame(PING, &[7; 8])),
        same("unread-settings", frame(SETTINGS, &[])),
        reflection(),
    ]
}

/// Runs `attack` on each of two connections, whose answers are not read.
async fn without_reading(target: &Target, window: u32, attack: impl AsyncFn(&Writer)) -> Report {
    let mut connections = Vec::new();
    for _ in 0..2 {
        let (reader, writer) = open(target, window).await.unwrap();
        connections.push((reader, writer));
    }
    let attacks = connections.iter().map(|(_, writer)| attack(writer));
    let all = futures_util::future::join_all(attacks);
    // If the server stops reading, this write waits.
    let _ = tokio::time::timeout_at(target.until.unwrap(), all).await;
    target.end().await;
    // Without reading, the attacker cannot see a close.
    Report::default()
}

fn same(name: &str, bytes: Vec<u8>) -> Scenario {
    Scenario::new(name, Rule::Bounded, move || {
        let bytes = chunk(&bytes);
        async move |target: Target| {
            let attack = async |writer: &Writer| writer.flood(&target, &bytes).await;
            without_reading(&target, FIRST_WINDOW, attack).await
        }
    })
}

/// Calls one after the other with the heads of these two methods, 100 of them in a write.
fn calls(name: &str, call: fn(&mut Frames, u32, &[Vec<u8>; 2])) -> Scenario {
    Scenario::new(name, Rule::Bounded, move || {
        let heads = [head(CHECK, &[]), head(NO_METHOD, &[])];
        async move |target: Target| {
            without_reading(&target, MAX_WINDOW, async |writer| {
                let (mut frames, mut stream) = (Frames::default(), 1);
                while target.goes_on() && writer.send(&frames.0).await.is_ok() {
                    frames.0.clear();
                    for _ in 0..100 {
                        call(&mut frames, stream, &heads);
                        stream += 2;
                    }
                }
            })
            .await
        }
    })
}

/// Requests of 40 bytes, with answers of some KiB without a window.
fn reflection() -> Scenario {
    Scenario::new("unread-reflection", Rule::Bounded, || {
        let heads = indexed_heads(REFLECTION, &[]);
        // The field file_containing_symbol.
        let symbol = string_field(4, b"ru.tinkoff.kora.example.UserService");
        let requests = message(false, &symbol).repeat(20);
        async move |target: Target| {
            without_reading(&target, 0, async |writer| {
                let mut frames = Frames::default();
                for index in 0..990 {
                    let stream = 1 + 2 * index;
                    frames.headers(stream, &heads[usize::from(index > 0)]);
                    frames.data(stream, &requests);
                }
                let _ = writer.send(&frames.0).await;
            })
            .await
        }
    })
}
