use bytes::Bytes;
use h2::{RecvStream, SendStream};

use super::peer::Peer;

/// The health status of the server: now, and at each change.
pub struct Health {
    /// Kept, because dropping it would reset the stream.
    _send: SendStream<Bytes>,
    statuses: RecvStream,
}

impl Health {
    pub async fn watch(peer: &mut Peer) -> Self {
        let mut call = peer.open("/grpc.health.v1.Health/Watch").await;
        call.send.send_data(Bytes::from_static(&[0; 5]), true).unwrap();
        let (send, statuses) = call.split().await.unwrap();
        Self { _send: send, statuses }
    }

    /// The next status.
    pub async fn is_serving(&mut self) -> bool {
        let status = self.statuses.data().await.unwrap().unwrap();
        match status[..] {
            [0, 0, 0, 0, 2, 8, 1] => true,
            [0, 0, 0, 0, 2, 8, 2] => false,
            _ => panic!("{status:?}"),
        }
    }
}
