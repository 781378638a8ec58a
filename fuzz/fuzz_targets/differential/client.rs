//! The client's bytes, cut where a server has something to decide: after the preface, after each
//! frame, and after each header block.

use std::collections::BTreeSet;
use std::fmt;

use balafon::hpack::{Decoder, Pair};
use bytes::Bytes;

use crate::seen::{End, Seen, printable};
use crate::wire::{self, Head};

/// The first bytes of a connection, without the SETTINGS.
const PREFACE_LEN: usize = 24;

/// The longest payload that the server accepts.
pub const MAX_FRAME_SIZE: usize = 16_384;

/// The smallest part of the input that both servers have to treat alike.
pub struct Unit {
    pub bytes: Vec<u8>,
    /// `None` for the preface.
    pub head: Option<Head>,
    /// The frames of a header block, or the one frame.
    pub frames: usize,
    /// The payload of the first frame.
    pub payload: Vec<u8>,
    /// The header list of a well-formed block: `None` if it is not well-formed or cannot be
    /// decoded.
    pub fields: Option<Vec<Pair>>,
}

impl fmt::Debug for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unit")
            .field("bytes", &Bytes::copy_from_slice(&self.bytes))
            .field("head", &self.head)
            .field("frames", &self.frames)
            .field("fields", &self.fields.as_deref().map(printable))
            .finish()
    }
}

/// The client's bytes, and the facts that it knows of the connection.
pub struct Client {
    unsent: Vec<u8>,
    has_preface: bool,
    decoder: Decoder,
    pub history: History,
}

#[derive(Debug, Default)]
pub struct History {
    pub settings_acks: usize,
    pub go_away: bool,
    /// The largest stream that has been used.
    pub last: u32,
    /// Streams whose request has begun and that are not over.
    pub open: BTreeSet<u32>,
    /// Streams on which the client has sent END_STREAM.
    pub ended: BTreeSet<u32>,
    pub reset_by_server: BTreeSet<u32>,
    pub reset_by_client: BTreeSet<u32>,
}

impl Client {
    pub fn new() -> Self {
        Self {
            unsent: Vec::new(),
            has_preface: false,
            decoder: Decoder::new(),
            history: History::default(),
        }
    }

    pub fn write(&mut self, bytes: &[u8]) {
        self.unsent.extend_from_slice(bytes);
    }

    /// Returns the bytes that are no complete unit.
    pub fn rest(&self) -> &[u8] {
        &self.unsent
    }

    pub fn next_unit(&mut self) -> Option<Unit> {
        if !self.has_preface {
            let length = self.unsent.len().min(PREFACE_LEN);
            let wrong = self.unsent[..length] != wire::PREFACE[..length];
            if length < PREFACE_LEN && !wrong {
                return None;
            }
            self.has_preface = true;
            let bytes: Vec<u8> = self.unsent.drain(..length).collect();
            return Some(Unit { bytes, head: None, frames: 0, payload: Vec::new(), fields: None });
        }
        let first = Head::parse(&self.unsent)?;
        if first.length > MAX_FRAME_SIZE {
            // The header is enough to refuse it.
            let bytes = self.unsent.drain(..9).collect();
            let head = Some(first);
            return Some(Unit { bytes, head, frames: 1, payload: Vec::new(), fields: None });
        }
        let (head, payload, mut rest) = Head::split(&self.unsent)?;
        let payload = payload.to_vec();
        let mut block = fragment(&head, &payload);
        let (mut frames, mut flags) = (1, head.flags);
        while head.kind == wire::HEADERS && block.is_some() && flags & wire::END_HEADERS == 0 {
            let next = Head::parse(rest)?;
            if next.kind != wire::CONTINUATION
                || next.stream != head.stream
                || next.length > MAX_FRAME_SIZE
            {
                // The block is interrupted. The header of the frame is enough to see that; h2
                // waits for all of the frame.
                block = None;
                rest = if next.length > MAX_FRAME_SIZE { &rest[9..] } else { Head::split(rest)?.2 };
                frames += 1;
                break;
            }
            let (next, payload, behind) = Head::split(rest)?;
            if let Some(block) = &mut block {
                block.extend_from_slice(payload);
            }
            (rest, flags) = (behind, next.flags);
            frames += 1;
        }
        let length = self.unsent.len() - rest.len();
        let bytes = self.unsent.drain(..length).collect();
        let fields = block.and_then(|block| self.decoder.decode(&block).ok());
        Some(Unit { bytes, head: Some(head), frames, payload, fields })
    }
}

/// The header block of HEADERS, without padding and priority.
fn fragment(head: &Head, payload: &[u8]) -> Option<Vec<u8>> {
    if head.kind != wire::HEADERS {
        return None;
    }
    let (mut rest, mut padding) = (payload, 0);
    if head.flags & wire::PADDED != 0 {
        let (first, behind) = rest.split_first()?;
        (rest, padding) = (behind, usize::from(*first));
    }
    if head.flags & wire::WITH_PRIORITY != 0 {
        rest = rest.get(5..)?;
    }
    Some(rest[..rest.len().checked_sub(padding)?].to_vec())
}

impl History {
    /// Records a unit that both servers have treated alike.
    pub fn record(&mut self, unit: &Unit, seen: &Seen) {
        if let Some(head) = unit.head {
            match head.kind {
                wire::SETTINGS if head.flags & 1 != 0 => self.settings_acks += 1,
                wire::GOAWAY => self.go_away = true,
                wire::HEADERS => self.last = self.last.max(head.stream),
                _ => {}
            }
            let can_end = head.kind == wire::HEADERS || head.kind == wire::DATA;
            if can_end && head.flags & wire::END_STREAM != 0 {
                self.ended.insert(head.stream);
            }
        }
        self.observe(seen);
    }

    /// Records the events of a unit, or of an action.
    pub fn observe(&mut self, seen: &Seen) {
        for request in &seen.requests {
            self.open.insert(request.stream);
        }
        for (stream, end) in &seen.ends {
            match end {
                End::Complete => self.ended.insert(*stream),
                End::ClientReset(_) => self.reset_by_client.insert(*stream),
                End::ServerReset => self.reset_by_server.insert(*stream),
            };
        }
        self.reset_by_server.extend(seen.sent.resets.iter().map(|(stream, _)| *stream));
    }
}
