//! Small pieces of messages in large buffers: the counted bytes are fewer than the held ones.

use super::held::on_connections;
use crate::client::{CHECK, CREATE_USER};
use crate::link::{Target, Writer};
use crate::scenario::{Rule, Scenario};
use crate::wire::{Frames, UNKNOWN, indexed_heads, literal, message, string_field};

/// Calls with messages that are never complete.
const STREAMS: u32 = 500;

/// The pieces that they send, and the bytes between them.
const PIECE: usize = 1024;
const FILLER: usize = 7 * 1024;

/// The other bytes in a buffer with the pieces.
#[derive(Clone, Copy)]
enum Filler {
    /// Frames that receivers ignore.
    Unknown,
    /// Calls that end as soon as they arrive.
    Calls,
    /// DATA padding of 255 bytes.
    Padding,
}

pub(crate) fn scenarios() -> Vec<Scenario> {
    [("unknown", Filler::Unknown), ("calls", Filler::Calls), ("padding", Filler::Padding)]
        .into_iter()
        .map(|(name, filler)| pinned(&format!("pinned-by-{name}"), filler))
        .collect()
}

fn pinned(name: &str, filler: Filler) -> Scenario {
    Scenario::new(name, Rule::Bounded, move || {
        async move |target: Target| {
            on_connections(&target, 2, async |writer| pieces(&target, writer, filler).await).await
        }
    })
}

async fn pieces(target: &Target, writer: Writer, filler: Filler) {
    let mut frames = Frames::default();
    let heads = indexed_heads(CREATE_USER, &[]);
    // A path that is not in the table; the rest of the head is.
    let mut check = vec![0x83, 0x86];
    literal(&mut check, ":path", CHECK);
    check.extend_from_slice(&[0x80 | 64, 0x80 | 63, 0x80 | 62]);
    for index in 0..STREAMS {
        frames.headers(1 + 2 * index, &heads[usize::from(index > 0)]);
        // A message of 4 MiB begins.
        frames.data(1 + 2 * index, &[0, 0, 0x40, 0, 0]);
    }
    let request = message(false, &string_field(1, &[b'a'; FILLER]));
    if !writer.claim(STREAMS as usize * 5).await || writer.send(&frames.0).await.is_err() {
        return;
    }
    let mut next = 1 + 2 * STREAMS;
    let (piece, unknown) = ([b'a'; PIECE], [0; FILLER]);
    while target.goes_on() {
        for index in 0..STREAMS {
            let (stream, mut frames, mut bytes) = (1 + 2 * index, Frames::default(), PIECE);
            match filler {
                Filler::Unknown => {
                    frames.data(stream, &piece).add(UNKNOWN, 0, 0, &unknown);
                }
                Filler::Calls => {
                    frames.data(stream, &piece).headers(next, &check);
                    frames.last_data(next, &request);
                    bytes += request.len();
                    next += 2;
                }
                Filler::Padding => {
                    // One byte of data for each 256 sent bytes.
                    for _ in 0..4 {
                        frames.padded(stream, b"a", 255);
                    }
                    bytes = 4 * 257;
                }
            }
            if !writer.claim(bytes).await || writer.send(&frames.0).await.is_err() {
                return;
            }
        }
    }
}
