//! Connections that begin, and do not go on.

use tokio::io::AsyncWriteExt;

use crate::attacker::Report;
use crate::link::{Target, open};
use crate::scenario::{Rule, Scenario};
use crate::wire::{CONTINUATION, Frames, HEADERS, PREFACE};

/// A fifth of what the server has by default.
const CONNECTIONS: usize = 2000;

pub(crate) fn scenarios() -> Vec<Scenario> {
    // The head of a TLS record of 512 bytes, and of a ClientHello in it (RFC 8446, 5.1 and 4).
    let hello = vec![22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3];
    let headers = Frames::default().add(HEADERS, 0, 1, &[0x83]).0.clone();
    let pieces =
        Frames::default().add(HEADERS, 0, 1, &[0x83]).add(CONTINUATION, 0, 1, &[]).0.clone();
    vec![
        raw("loris-silent", Vec::new()).also_over_tls(),
        raw("loris-client-hello", hello).only_over_tls(),
        raw("loris-half-preface", PREFACE[..10].to_vec()),
        raw("loris-preface", PREFACE.to_vec()),
        behind_handshake("loris-headers", headers),
        behind_handshake("loris-continuation", pieces),
        behind_handshake("loris-idle", Vec::new()),
    ]
}

/// Connections over TCP, with these bytes and no more.
fn raw(name: &str, bytes: Vec<u8>) -> Scenario {
    let scenario = Scenario::new(name, Rule::Bounded, move || {
        let bytes = bytes.clone();
        async move |target: Target| {
            let mut connections = Vec::new();
            let tcp = Target { tls: None, ..target.clone() };
            while connections.len() < CONNECTIONS && target.goes_on() {
                let Ok(mut io) = tcp.connect().await else { break };
                let _ = io.write_all(&bytes).await;
                connections.push(io);
            }
            target.end().await;
            Report::default().noting(format!("{} connections", connections.len()))
        }
    });
    scenario.beside_new_connections()
}

/// Whole connections, which then send no more than this.
fn behind_handshake(name: &str, bytes: Vec<u8>) -> Scenario {
    let scenario = Scenario::new(name, Rule::Bounded, move || {
        let bytes = bytes.clone();
        async move |target: Target| {
            let mut connections = Vec::new();
            while connections.len() < CONNECTIONS && target.goes_on() {
                let Ok((reader, writer)) = open(&target, 0).await else { break };
                let _ = writer.send(&bytes).await;
                connections.push((reader, writer));
            }
            target.end().await;
            Report::default().noting(format!("{} connections", connections.len()))
        }
    });
    scenario.beside_new_connections()
}
