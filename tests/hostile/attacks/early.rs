//! Honest clients whose connection must survive: calls that are answered while they still send,
//! refused streams, malformed heads, small frames. At a moderate rate, none of them is a flood.

use std::cell::Cell;
use std::time::Duration;

use futures_util::future::{join, join_all};
use tokio::time::{interval, sleep, timeout};

use super::shared::{Event, Shared};
use crate::client::{CHECK, CREATE_USERS, NO_METHOD, UPDATE_USERS, WATCH};
use crate::link::Target;
use crate::scenario::{Rule, Scenario};
use crate::wire::{CANCEL, Frames, NO_ERROR, head, literal, message, string_field};

/// Concurrent calls.
const AT_A_TIME: usize = 100;

/// The time for which a client goes on sending after the answer, as data in flight.
const DELAY: Duration = Duration::from_millis(25);

/// The bytes that a call sends at a time, and the interval.
const PIECE: usize = 1024;
const PACE: Duration = Duration::from_millis(5);

pub(crate) fn scenarios() -> Vec<Scenario> {
    let none: &[(&str, &str)] = &[];
    vec![
        early("early-unauthenticated", CREATE_USERS, none, &[0, 0, 0], 16).with_auth(),
        early("early-unimplemented", NO_METHOD, none, &[0, 0, 0], 12).also_over_tls(),
        // Announces a message of 16 MiB.
        early("early-resource-exhausted", CREATE_USERS, none, &[0, 1, 0], 8),
        early("early-deadline-exceeded", CREATE_USERS, &[("grpc-timeout", "10m")], &[0, 0, 64], 4),
        // A message with the flag 2.
        early("early-internal", CREATE_USERS, none, &[2, 0, 0], 13),
        early("early-not-found", UPDATE_USERS, none, &[0, 0, 0], 5),
        spread("refused-now-and-then", 998, refused),
        spread("malformed-now-and-then", 0, malformed),
        spread("reset-now-and-then", 0, reset),
        small_frames("small-frames-of-call-that-is-over", NO_METHOD),
        small_frames("small-frames-of-open-call", CREATE_USERS),
    ]
}

/// Calls that send until their answer has come, with `status`, and for a while longer. Other calls
/// on the same connection must not be affected. `prefix` is the beginning of their first message.
fn early(
    name: &str,
    path: &'static str,
    more: &'static [(&str, &str)],
    prefix: &'static [u8; 3],
    status: u32,
) -> Scenario {
    let scenario = Scenario::new(name, Rule::Bounded, move || {
        let block = head(path, more);
        let mut piece = match path {
            // A whole message, of which the server reads as much as it wants.
            UPDATE_USERS => message(false, &string_field(1, &[b'a'; PIECE])),
            _ => vec![0; PIECE],
        };
        if path != UPDATE_USERS {
            piece[..3].copy_from_slice(prefix);
        }
        async move |target: Target| {
            let shared = Shared::connect(&target).await;
            let answered = Cell::new(0);
            let callers = (0..AT_A_TIME).map(|index| {
                let (shared, block, piece, answered, target) =
                    (&shared, &block, &piece, &answered, &target);
                async move {
                    let mut turn = index;
                    while target.goes_on() && one(shared, block, piece, status, turn).await {
                        answered.set(answered.get() + 1);
                        turn += 1;
                    }
                }
            });
            join(join_all(callers), shared.bystander(&target)).await;
            shared.report().noting(format!("{} calls", answered.get()))
        }
    });
    scenario.seconds(4)
}

/// Whether it got the expected answer.
async fn one(shared: &Shared, block: &[u8], piece: &[u8], status: u32, turn: usize) -> bool {
    let sent = async {
        if !shared.writer.claim(piece.len()).await {
            return None;
        }
        let (stream, mut events) = shared
            .call(block, |frames, stream| {
                frames.data(stream, piece);
            })
            .await?;
        let send = || async {
            let data = Frames::default().data(stream, piece).0.clone();
            shared.writer.claim(piece.len()).await && shared.writer.send(&data).await.is_ok()
        };
        // Until the client has the answer ...
        let event = loop {
            match timeout(PACE, events.recv()).await {
                Ok(event) => break event?,
                Err(_) if send().await => {}
                Err(_) => return None,
            }
        };
        // ... and then the data in flight.
        for _ in 0..5 {
            sleep(DELAY / 5).await;
            if !send().await {
                return None;
            }
        }
        let mut end = Frames::default();
        match turn % 3 {
            0 => end.reset(stream, NO_ERROR),
            1 => end.reset(stream, CANCEL),
            _ => end.last_data(stream, &[]),
        };
        shared.writer.send(&end.0).await.ok()?;
        Some(event)
    };
    match timeout(Duration::from_secs(5), sent).await {
        Ok(Some(Event::Status(Some(code)))) if code == status => true,
        Ok(None) => false,
        Ok(Some(other)) => {
            shared.fails(format!("a call ended with {other:?} rather than status {status}"));
            false
        }
        Err(_) => {
            shared.fails("a call was not answered in 5 s");
            false
        }
    }
}

/// An unserved call, of which there are 1,200 in the life of a connection.
type Broken = fn(&mut Frames, u32, u32);

fn refused(frames: &mut Frames, stream: u32, _: u32) {
    // Room for one call is left.
    for more in [0, 2, 4] {
        frames.headers(stream + more, &head(CHECK, &[]));
        frames.last_data(stream + more, &[0; 5]);
    }
}

/// Heads that break one rule each (RFC 9113, 8.2 and 8.3).
fn malformed(frames: &mut Frames, stream: u32, turn: u32) {
    let mut block = head(CHECK, &[]);
    match turn % 4 {
        0 => block = vec![0x83, 0x86],
        1 => literal(&mut block, "connection", "close"),
        2 => literal(&mut block, ":path", "/behind/others"),
        _ => literal(&mut block, "content-length", "3"),
    }
    frames.headers(stream, &block).last_data(stream, &[0; 5]);
}

fn reset(frames: &mut Frames, stream: u32, _: u32) {
    frames.headers(stream, &head(CREATE_USERS, &[])).data(stream, &[0; 5]);
    frames.reset(stream, CANCEL);
}

/// Sends one after the other. Other calls on the same connection must not be affected.
fn spread(name: &str, stalled: usize, broken: Broken) -> Scenario {
    let scenario = Scenario::new(name, Rule::Bounded, move || {
        async move |target: Target| {
            let shared = Shared::connect(&target).await;
            let (mut watched, mut count) = (Vec::new(), 0);
            for _ in 0..stalled {
                let none = |frames: &mut Frames, stream| {
                    frames.last_data(stream, &[0; 5]);
                };
                watched.push(shared.call(&head(WATCH, &[]), none).await);
            }
            let attack = async {
                // 300 a second.
                let mut ticks = interval(Duration::from_micros(3333));
                while target.goes_on() && !shared.writer.seen.is_cut() {
                    ticks.tick().await;
                    if !shared.break_a_rule(|frames, stream| broken(frames, stream, count)).await {
                        return;
                    }
                    count += 1;
                }
            };
            join(attack, shared.bystander(&target)).await;
            shared.report().noting(format!("{count} turns"))
        }
    });
    scenario.seconds(4)
}

/// 70,000 frames of 40 bytes, at 10,000 a second.
fn small_frames(name: &str, path: &'static str) -> Scenario {
    let scenario = Scenario::new(name, Rule::Bounded, move || {
        async move |target: Target| {
            let shared = Shared::connect(&target).await;
            let mut count = 0;
            let attack = async {
                let Some((stream, _events)) = shared.call(&head(path, &[]), |_, _| {}).await else {
                    return;
                };
                let message = message(false, &string_field(1, &[b'a'; 33]));
                let data = Frames::default().data(stream, &message).0.repeat(100);
                let mut ticks = interval(Duration::from_millis(10));
                while target.goes_on() {
                    ticks.tick().await;
                    let room = shared.writer.claim(100 * message.len()).await;
                    if !room || shared.writer.send(&data).await.is_err() {
                        return;
                    }
                    count += 100;
                }
            };
            join(attack, shared.bystander(&target)).await;
            shared.report().noting(format!("{count} frames"))
        }
    });
    scenario.seconds(7)
}
