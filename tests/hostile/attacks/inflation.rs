//! Compressed messages that cost far more time than bytes.

use super::held::on_connections;
use super::payloads::*;
use crate::attacker::Report;
use crate::client::{CHECK, CREATE_USER, GET_USER};
use crate::link::{Target, Writer};
use crate::scenario::{Rule, Scenario};
use crate::wire::{Frames, indexed_heads, message, string_field};

/// Concurrent calls of a connection: while one is inflated, the next one waits.
const AT_A_TIME: u64 = 4;

pub(crate) fn scenarios() -> Vec<Scenario> {
    let slow = |name: &str, encoding: &'static str, payload: fn() -> Vec<u8>| {
        Scenario::new(name, Rule::Bounded, move || {
            let body = message(true, &payload());
            let heads = indexed_heads(CREATE_USER, &[("grpc-encoding", encoding)]);
            async move |target: Target| at_full_speed(&target, &heads, &body).await
        })
    };
    let bomb = |what: &str, path: &'static str, encoding: &'static str| {
        Scenario::new(format!("bomb-{encoding}-{what}"), Rule::Flood, move || {
            let text = string_field(1, &vec![b'a'; LARGEST - 16]);
            let body = message(true, &compress(encoding, &text));
            let heads = indexed_heads(path, &[("grpc-encoding", encoding)]);
            async move |target: Target| at_full_speed(&target, &heads, &body).await
        })
    };
    vec![
        slow("gzip-empty-members", "gzip", empty_members).also_over_tls(),
        slow("deflate-stored-blocks", "deflate", stored_blocks),
        slow("deflate-fixed-blocks", "deflate", fixed_blocks),
        slow("deflate-dynamic-blocks", "deflate", dynamic_blocks),
        slow("zstd-empty-blocks", "zstd", zstd_empty_blocks),
        slow("zstd-rle-blocks", "zstd", zstd_rle_blocks),
        slow("zstd-empty-frames", "zstd", zstd_empty_frames),
        slow("zstd-skippable-frames", "zstd", zstd_skippable_frames),
        bomb("check", CHECK, "zstd").also_over_tls(),
        bomb("check", CHECK, "gzip"),
        bomb("get-user", GET_USER, "zstd"),
        bomb("create-user", CREATE_USER, "zstd"),
    ]
}

/// One call after the other with this body, on two connections.
async fn at_full_speed(target: &Target, heads: &[Vec<u8>; 2], body: &[u8]) -> Report {
    let attack = async |writer| calls_in_a_row(target, writer, heads, body).await;
    on_connections(target, 2, attack).await
}

async fn calls_in_a_row(target: &Target, writer: Writer, heads: &[Vec<u8>; 2], body: &[u8]) {
    let mut stream = 1;
    while target.goes_on() && !writer.seen.is_cut() {
        let head = &heads[usize::from(stream > 1)];
        if writer.send(&Frames::default().headers(stream, head).0).await.is_err() {
            return;
        }
        writer.upload(stream, body, true).await;
        writer.open_calls_below(AT_A_TIME, u64::from(stream / 2 + 1)).await;
        stream += 2;
    }
}
