//! GetAllUsers of 100,000 users: opened again and again, and never read.

use tokio::task::JoinSet;

use crate::attacker::Report;
use crate::client::GET_ALL_USERS;
use crate::link::{Reader, Target, Writer, open};
use crate::scenario::{Rule, Scenario};
use crate::wire::{CANCEL, DATA, Frames, MAX_WINDOW, indexed_heads};

pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![
        again("scans-again", 1),
        again("scans-again-50-at-a-time", 50),
        stalled("scans-unread", MAX_WINDOW).also_over_tls(),
        stalled("scans-without-window", 0),
    ]
}

/// This many scans at a time on each of four connections. Each is reset at the first DATA and
/// opened again.
fn again(name: &str, at_a_time: u32) -> Scenario {
    let scenario = Scenario::new(name, Rule::Bounded, move || {
        async move |target: Target| {
            let (mut connections, mut seen) = (JoinSet::new(), Vec::new());
            for _ in 0..4 {
                let (reader, writer) = open(&target, MAX_WINDOW).await.unwrap();
                seen.push(writer.seen.clone());
                connections.spawn(scans(target.clone(), reader, writer, at_a_time));
            }
            let scans: u32 = connections.join_all().await.into_iter().sum();
            Report::of(&seen).noting(format!("{scans} scans"))
        }
    });
    scenario.with_users().on_both_stores()
}

/// The number of scans.
async fn scans(target: Target, mut reader: Reader, writer: Writer, at_a_time: u32) -> u32 {
    let heads = indexed_heads(GET_ALL_USERS, &[]);
    let mut begun = 0;
    let mut begin = |frames: &mut Frames| {
        let stream = 1 + 2 * begun;
        frames.headers(stream, &heads[usize::from(begun > 0)]).last_data(stream, &[0; 5]);
        begun += 1;
    };
    let mut frames = Frames::default();
    (0..at_a_time).for_each(|_| begin(&mut frames));
    // Streams are reset in the order of their first DATA; their later frames are skipped.
    let mut reset = std::collections::HashSet::new();
    let end = tokio::time::sleep_until(target.until.unwrap());
    tokio::pin!(end);
    while writer.send(&frames.0).await.is_ok() {
        frames.0.clear();
        while frames.0.is_empty() {
            let frame = tokio::select! {
                frame = reader.next() => frame,
                () = &mut end => None,
            };
            let Some(frame) = frame else { return begun };
            if frame.kind == DATA && reset.insert(frame.stream) {
                frames.reset(frame.stream, CANCEL);
                begin(&mut frames);
            }
        }
    }
    begun
}

/// As many scans as may be open, on each of two connections with unread sockets.
fn stalled(name: &str, window: u32) -> Scenario {
    let scenario = Scenario::new(name, Rule::Bounded, move || {
        async move |target: Target| {
            let heads = indexed_heads(GET_ALL_USERS, &[]);
            let (mut frames, mut connections) = (Frames::default(), Vec::new());
            for index in 0..1000 {
                let stream = 1 + 2 * index;
                frames.headers(stream, &heads[usize::from(index > 0)]).last_data(stream, &[0; 5]);
            }
            for _ in 0..2 {
                let (reader, writer) = open(&target, window).await.unwrap();
                let _ = writer.send(&frames.0).await;
                connections.push((reader, writer));
            }
            target.end().await;
            Report::of(connections.iter().map(|(_, writer)| &writer.seen))
        }
    });
    scenario.with_users().on_both_stores()
}
