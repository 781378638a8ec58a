use std::collections::VecDeque;

use super::unread::Unread;
use super::window::ReceiveWindow;
use crate::http2::error_code::ErrorCode;

/// The place of a stream in the table. It is reused after the stream was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key(pub(super) u32);

impl Key {
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// The reason why a stream carries no more data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The client has reset the stream.
    Reset(ErrorCode),
    /// The client has violated the protocol, and the server has reset the stream.
    Protocol(&'static str),
    /// The server has reset the stream.
    Cancelled,
    /// The connection is closed.
    ConnectionLost,
}

/// The client's half of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Receiving {
    Open,
    /// END_STREAM has arrived.
    Ended,
    Failed(Failure),
}

/// A stream that a client has opened.
///
/// ```text
///               HEADERS                   END_STREAM received
///  (idle) -----------------> open ----------------------------> half-closed (remote)
///                             |  \                                  |
///         END_STREAM sent     |   `-- RST_STREAM, either way --.    |  END_STREAM sent
///                             v                                v    v
///                    half-closed (local) -------------------> closed
///                                       END_STREAM received
/// ```
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) id: u32,
    pub(super) receiving: Receiving,
    /// Whether END_STREAM is still to be sent.
    pub(super) sending: bool,
    pub(super) unread: Unread,
    /// Received bytes whose window was not returned to the client, including the unread ones.
    pub(super) held: usize,
    pub(super) receive_window: ReceiveWindow,
    /// The bytes that the client accepts. Negative after the client has reduced the initial window.
    pub(super) send_window: i64,
    /// The bytes that the `content-length` announces and that have not arrived.
    pub(super) expected: Option<u64>,
    /// Data that exceeds the window, and whether END_STREAM follows it.
    pub(super) unsent: Vec<u8>,
    pub(super) unsent_end: bool,
    /// Whether a call uses the stream.
    pub(super) taken: bool,
    /// Whether the call waits for a change.
    pub(super) watched: bool,
    /// Whether the stream waits for the window of the connection.
    pub(super) blocked: bool,
}

impl Stream {
    /// A stream whose request has begun. `ended` is whether END_STREAM has arrived.
    pub(super) fn new(
        id: u32,
        ended: bool,
        expected: Option<u64>,
        receive_window: u32,
        send_window: u32,
    ) -> Self {
        Self {
            id,
            receiving: if ended { Receiving::Ended } else { Receiving::Open },
            sending: true,
            unread: Unread::default(),
            held: 0,
            receive_window: ReceiveWindow::new(receive_window),
            send_window: i64::from(send_window),
            expected,
            unsent: Vec::new(),
            unsent_end: false,
            taken: false,
            watched: false,
            blocked: false,
        }
    }

    /// Whether the call has ended, and only the rest of its response is still to be sent.
    pub(super) fn is_finished(&self) -> bool {
        !self.taken && !self.unsent.is_empty()
    }

    /// The bytes that both windows permit to send. `connection` is the window of the connection.
    pub(super) fn sendable(&self, connection: i64) -> usize {
        usize::try_from(self.send_window.min(connection)).unwrap_or(0)
    }

    /// Ends both halves. Returns the received bytes whose window the connection gets back.
    pub(super) fn fail(&mut self, failure: Failure) -> usize {
        self.receiving = Receiving::Failed(failure);
        self.sending = false;
        self.unread = Unread::default();
        self.unsent = Vec::new();
        std::mem::take(&mut self.held)
    }

    pub(super) fn failure(&self) -> Option<Failure> {
        match self.receiving {
            Receiving::Failed(failure) => Some(failure),
            Receiving::Open | Receiving::Ended => None,
        }
    }
}

/// The streams of a connection: those that are open, and those that a call still uses.
#[derive(Debug, Default)]
pub(super) struct Streams {
    slots: Vec<Option<Stream>>,
    free: Vec<Key>,
    /// The keys, in the order of the stream IDs. New IDs are always the largest.
    order: VecDeque<(u32, Key)>,
}

impl Streams {
    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    pub(super) fn find(&self, id: u32) -> Option<Key> {
        // Most frames belong to the newest stream.
        match self.order.back() {
            Some((last, key)) if *last == id => Some(*key),
            Some((last, _)) if *last > id => {
                let at = self.order.binary_search_by_key(&id, |(id, _)| *id).ok()?;
                self.order.get(at).map(|(_, key)| *key)
            }
            _ => None,
        }
    }

    pub(super) fn get(&self, key: Key) -> Option<&Stream> {
        self.slots.get(key.index())?.as_ref()
    }

    pub(super) fn get_mut(&mut self, key: Key) -> Option<&mut Stream> {
        self.slots.get_mut(key.index())?.as_mut()
    }

    /// Adds a stream, whose ID is larger than all others.
    pub(super) fn insert(&mut self, stream: Stream) -> Key {
        let key = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            Key(self.slots.len() as u32 - 1)
        });
        self.order.push_back((stream.id, key));
        self.slots[key.index()] = Some(stream);
        key
    }

    /// Removes a stream.
    pub(super) fn remove(&mut self, key: Key) {
        let Some(slot) = self.slots.get_mut(key.index()) else { return };
        let Some(Stream { id, .. }) = *slot else { return };
        *slot = None;
        if self.order.front() == Some(&(id, key)) {
            self.order.pop_front();
        } else if let Ok(at) = self.order.binary_search_by_key(&id, |(id, _)| *id) {
            self.order.remove(at);
        }
        self.free.push(key);
        if self.order.is_empty() && self.slots.len() > 4 {
            // An idle connection keeps no memory of earlier calls.
            *self = Self::default();
        }
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = Key> + use<'_> {
        self.order.iter().map(|(_, key)| *key)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Stream> {
        self.slots.iter_mut().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(id: u32) -> Stream {
        Stream::new(id, false, None, 0, 0)
    }

    #[test]
    fn streams_are_found_until_they_are_removed() {
        let mut streams = Streams::default();
        let keys = [1, 5, 7, 11].map(|id| streams.insert(stream(id)));
        assert_eq!(
            [1, 3, 5, 7, 11, 13].map(|id| streams.find(id).is_some()),
            [true, false, true, true, true, false]
        );
        streams.remove(keys[1]);
        assert_eq!(streams.find(5), None);
        assert_eq!(streams.find(7), Some(keys[2]));
        assert_eq!(streams.insert(stream(13)), keys[1], "a free slot is used again");
        assert_eq!(streams.keys().count(), 4);
        for key in [keys[0], keys[1], keys[2], keys[3]] {
            // The second time does nothing.
            streams.remove(key);
            streams.remove(key);
            assert!(streams.get(key).is_none());
        }
        assert!(streams.is_empty());
        let keys = [15, 17].map(|id| streams.insert(stream(id)));
        assert_ne!(keys[0], keys[1]);
    }
}
