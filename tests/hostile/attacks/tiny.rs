//! DATA frames of a few bytes, in open and in ended calls.

use super::floods::chunk;
use super::held::on_connections;
use crate::client::{CREATE_USERS, NO_METHOD};
use crate::link::{Target, Writer};
use crate::scenario::{Rule, Scenario};
use crate::wire::{Frames, PRIORITY, indexed_heads};

pub(crate) fn scenarios() -> Vec<Scenario> {
    let mut all = Vec::new();
    for size in [0, 1, 40] {
        let data = Frames::default().data(1, &[0; 40][..size]).0.clone();
        all.push(tiny(format!("tiny-{size}-of-open-call"), CREATE_USERS, data.clone(), size));
        all.push(tiny(format!("tiny-{size}-of-call-that-is-over"), NO_METHOD, data, size));
    }
    let mut earning = Frames::default();
    earning.data(1, &[0]);
    for _ in 0..2 {
        earning.add(PRIORITY, 0, 1, &[0, 0, 0, 0, 16]);
    }
    all.push(tiny("tiny-that-pays-for-priority", CREATE_USERS, earning.0, 1).also_over_tls());
    all
}

/// One call on each of two connections. Its message of 4 MiB arrives in pieces of this many bytes,
/// or its answer has come already.
fn tiny(name: impl Into<String>, path: &'static str, bytes: Vec<u8>, size: usize) -> Scenario {
    Scenario::new(name, Rule::Flood, move || {
        let frames = chunk(&bytes);
        let data = frames.len() / bytes.len() * size;
        async move |target: Target| {
            let attack = async |writer| pieces(&target, writer, path, &frames, data).await;
            on_connections(&target, 2, attack).await
        }
    })
}

async fn pieces(target: &Target, writer: Writer, path: &str, frames: &[u8], data: usize) {
    let mut begin = Frames::default();
    begin.headers(1, &indexed_heads(path, &[])[0]).data(1, &[0, 0, 0x40, 0, 0]);
    if !writer.claim(5).await || writer.send(&begin.0).await.is_err() {
        return;
    }
    while target.goes_on() {
        let room = if path == CREATE_USERS {
            writer.claim_of(1, data).await
        } else {
            writer.claim(data).await
        };
        if !room || writer.send(frames).await.is_err() {
            return;
        }
    }
}
