use std::time::Duration;

use crate::grpc::call::{Peer, PeerAddr};
use crate::rate::{Local, Rate, network};

/// Connections of one network that may be closed for floods before its new connections get a small
/// frame budget. A few may come from a faulty client that shares its address with others.
const TOLERATED: Rate = Rate { calls: 4, period: Duration::from_secs(60) };

/// Networks in the table, at 24 bytes each.
const ROOM: usize = 1 << 14;

/// The networks whose connections were closed for floods in the last minute. Otherwise an attacker
/// who reconnects would get a new frame budget each time.
pub(crate) struct Offenders(Local);

impl Offenders {
    pub(crate) fn new() -> Self {
        Self(Local::with_room_for(ROOM))
    }

    /// Records that a connection of this peer was closed for a flood.
    pub(crate) fn add(&self, peer: &Peer) {
        if let PeerAddr::Tcp(from) = peer.addr {
            let _ = self.0.take(network(from.ip()), TOLERATED);
        }
    }

    pub(crate) fn contain(&self, peer: &Peer) -> bool {
        match peer.addr {
            PeerAddr::Tcp(from) => self.0.peek(network(from.ip()), TOLERATED).is_err(),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(addr: &str) -> Peer {
        Peer::new(PeerAddr::Tcp(addr.parse().unwrap()))
    }

    #[tokio::test(start_paused = true)]
    async fn offenders_are_remembered_for_a_minute() {
        let offenders = Offenders::new();
        for _ in 0..4 {
            assert!(!offenders.contain(&peer("192.0.2.1:1")));
            offenders.add(&peer("192.0.2.1:2"));
        }
        assert!(offenders.contain(&peer("192.0.2.1:3")));
        assert!(!offenders.contain(&peer("192.0.2.2:1")));
        assert!(!offenders.contain(&Peer::new(PeerAddr::Unix)));
        tokio::time::advance(Duration::from_secs(120)).await;
        assert!(!offenders.contain(&peer("192.0.2.1:3")));
    }
}
