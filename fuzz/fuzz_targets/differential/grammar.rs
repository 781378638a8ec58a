//! The program of a client and of the calls that serve it:
//!
//! ```text
//! mode(1) { op(1) stream(1) arg(1) length(1) payload(length) }*
//! ```

use bytes::BufMut;

use crate::wire::{self, CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, frame};

/// Bits of the first byte of the input.
mod mode {
    /// The client acknowledges the server's SETTINGS at once.
    pub const ACKNOWLEDGES: u8 = 1;
    /// The calls return the windows of the data that they have read.
    pub const RELEASES: u8 = 2;
    /// The program writes the preface.
    pub const NO_PREFACE: u8 = 4;
}

pub struct Program {
    pub acknowledges: bool,
    pub releases: bool,
    pub steps: Vec<Step>,
}

pub enum Step {
    /// The client writes.
    Write(Vec<u8>),
    /// The call on a stream acts.
    Act(u32, Action),
}

#[derive(Debug, Clone, Copy)]
pub enum Action {
    /// Sends the headers of a response, and whether they end it.
    Headers(bool),
    /// Sends this many bytes, and whether they end the response.
    Data(usize, bool),
    Trailers,
    Reset(u32),
    Drop,
}

pub fn program(input: &[u8]) -> Program {
    let (mode, mut rest) = input.split_first().unwrap_or((&0, &[]));
    let is = |bit| mode & bit != 0;
    let mut steps = Vec::new();
    if !is(mode::NO_PREFACE) {
        steps.push(Step::Write(wire::PREFACE.to_vec()));
    }
    if is(mode::ACKNOWLEDGES) {
        steps.push(Step::Write(frame(wire::SETTINGS, 1, 0, &[])));
    }
    while let Some(([op, stream, arg, length], behind)) = rest.split_first_chunk() {
        let (payload, behind) = behind.split_at(usize::from(*length).min(behind.len()));
        rest = behind;
        steps.push(step(*op, *stream, *arg, payload));
    }
    Program { acknowledges: is(mode::ACKNOWLEDGES), releases: is(mode::RELEASES), steps }
}

fn step(op: u8, place: u8, arg: u8, payload: &[u8]) -> Step {
    // The streams that a client may open, and few of them: most steps shall meet a call.
    let stream = 1 + 2 * u32::from(place % 8);
    let padding = place >> 3;
    let bytes = match op % 16 {
        0 | 1 => headers(stream, arg, padding, &block(payload)),
        // A request by indexes of the static table, with fields in any encoding (RFC 7541).
        2 => headers(stream, arg, padding, &[&[0x83, 0x86, 0x84], payload].concat()),
        3 => headers(stream, arg, padding, payload),
        4 => data(stream, arg, padding, payload),
        5 => {
            let frames = 1 + usize::from(arg >> 1 & 3);
            let length = 16_384 - usize::from(padding);
            frame(DATA, arg & END_STREAM, stream, &vec![arg; length]).repeat(frames)
        }
        6 => frame(wire::RST_STREAM, 0, stream, &u32::from(arg).to_be_bytes()),
        7 => {
            let stream = if padding & 1 == 0 { stream } else { 0 };
            let increment = match *payload {
                [] => u32::from(arg) << 8,
                [a, ..] => u32::from(arg) << 24 | u32::from(a) << 16 | 0xffff,
            };
            frame(wire::WINDOW_UPDATE, 0, stream, &increment.to_be_bytes())
        }
        8 => frame(wire::SETTINGS, 0, 0, &settings(payload)),
        9 if arg & 2 == 0 => frame(wire::SETTINGS, 1, 0, &[]),
        9 => frame(wire::PING, arg & 1, 0, b"fuzz ran"),
        10 => {
            let priority = [0, 0, 0, arg, 16];
            frame(wire::PRIORITY, 0, stream, &priority[..5 - usize::from(padding % 2)])
        }
        11 => frame(wire::GOAWAY, 0, 0, &[0, 0, 0, padding, 0, 0, 0, arg]),
        12 => {
            let stream = if padding & 1 == 0 { stream } else { stream - 1 };
            frame(arg, payload.first().copied().unwrap_or(0), stream, payload)
        }
        13 => {
            let mut bytes = headers(stream, END_HEADERS, 0, &block(payload));
            bytes.extend(data(stream, 0, 0, payload));
            let at = usize::from(arg) % bytes.len();
            bytes[at] ^= 1 << (padding % 8);
            bytes
        }
        14 => payload.to_vec(),
        _ => return Step::Act(stream, action(arg, payload)),
    };
    Step::Write(bytes)
}

fn action(arg: u8, payload: &[u8]) -> Action {
    let end = arg & 0x80 != 0;
    match arg % 5 {
        0 => Action::Headers(end),
        1 => Action::Data(usize::from(arg >> 1) << (2 * payload.len().min(5)), end),
        2 => Action::Trailers,
        3 => Action::Reset(u32::from(arg >> 3)),
        _ => Action::Drop,
    }
}

/// HEADERS with `flags`, in up to four frames.
fn headers(stream: u32, flags: u8, padding: u8, block: &[u8]) -> Vec<u8> {
    let pieces = 1 + usize::from(flags >> 6);
    let mut pieces = block.chunks(block.len().div_ceil(pieces).max(1));
    let first = pieces.next().unwrap_or_default();
    let mut payload = Vec::new();
    if flags & wire::PADDED != 0 {
        payload.push(padding);
    }
    if flags & wire::WITH_PRIORITY != 0 {
        payload.put_slice(&[0x80, 0, 0, padding, 16]);
    }
    payload.extend_from_slice(first);
    if flags & wire::PADDED != 0 {
        payload.resize(payload.len() + usize::from(padding), 0);
    }
    let flags = flags & (END_STREAM | wire::PADDED | wire::WITH_PRIORITY);
    let mut left = pieces.len();
    let last = |left| if left == 0 { END_HEADERS } else { 0 };
    let mut bytes = frame(HEADERS, flags | last(left), stream, &payload);
    for piece in pieces {
        left -= 1;
        bytes.extend(frame(CONTINUATION, last(left), stream, piece));
    }
    bytes
}

fn data(stream: u32, flags: u8, padding: u8, payload: &[u8]) -> Vec<u8> {
    let mut content = payload.repeat(1 + usize::from(flags >> 5));
    if flags & wire::PADDED != 0 {
        content.insert(0, padding);
        content.resize(content.len() + usize::from(padding), 0);
    }
    frame(DATA, flags & (END_STREAM | wire::PADDED), stream, &content)
}

/// Settings: an identifier and a value for each three bytes (RFC 9113, 6.5.2).
fn settings(choices: &[u8]) -> Vec<u8> {
    let mut settings = Vec::new();
    for [id, value, shift] in choices.as_chunks::<3>().0 {
        settings.put_u16(u16::from(id % 10));
        settings.put_u32(u32::from(*value).wrapping_shl(u32::from(*shift % 32)));
        if shift & 0x80 != 0 {
            let last = settings.len() - 1;
            settings[last] ^= 1;
        }
    }
    settings
}

/// Fields of requests. The first ones are pseudo-headers.
const FIELDS: [(&str, &str); 32] = [
    (":method", "GET"),
    (":method", "CONNECT"),
    (":scheme", "https"),
    (":path", "/a?b=c"),
    (":path", "*"),
    (":path", "/a#b"),
    (":path", "a"),
    (":path", ""),
    (":authority", "host:1"),
    (":authority", "a b"),
    (":authority", ""),
    (":status", "200"),
    (":protocol", "websocket"),
    (":own", "1"),
    ("te", "trailers"),
    ("te", "gzip"),
    ("content-length", "5"),
    ("content-length", "0"),
    ("content-length", "x"),
    ("content-length", ""),
    ("content-length", "18446744073709551615"),
    ("connection", "close"),
    ("transfer-encoding", "chunked"),
    ("x-a", "1"),
    ("x-a", "2"),
    ("x-b", " spaces "),
    ("x-b", "a\nb"),
    ("X-Upper", "1"),
    ("x name", "1"),
    ("", "no name"),
    ("cookie", "a=b"),
    ("x-long", LONG),
];
const PSEUDO: usize = 14;

/// Three of these exceed no limit, and nine do.
const LONG: &str = "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789";

/// Texts in Huffman code (RFC 7541, C.4 and C.6).
const HUFFMAN: [(&[u8], &[u8]); 3] = [
    (b"\x25\xa8\x49\xe9\x5b\xa9\x7d\x7f", b"\x25\xa8\x49\xe9\x5b\xb8\xe8\xb4\xbf"),
    (b"\x25\xa8\x49\xe9\x5b\xa9\x7d\x7f", b"\xa8\xeb\x10\x64\x9c\xbf"),
    // An invalid end (RFC 7541, 5.2).
    (b"\x25\xa8\x49\xe9\x5b\xa9\x7d\x7f", b"\xa8\xeb\x10\x64\x9c\xff\xff\xff\xff"),
];

/// A header block. Each choice is a field: its lower bits say which one, the upper ones its
/// encoding. The choice 0xff keeps the order of the choices, which may be wrong.
fn block(choices: &[u8]) -> Vec<u8> {
    let keeps_order = choices.contains(&0xff);
    let mut fields: Vec<u8> = choices.iter().copied().filter(|choice| *choice != 0xff).collect();
    let is_field = |choice: u8| choice >> 5 < 3;
    if !keeps_order {
        // Size updates, pseudo-headers, headers.
        fields.sort_by_key(|choice| match *choice {
            choice if choice >> 5 == 5 => 0,
            choice if is_field(choice) && usize::from(choice & 31) < PSEUDO => 1,
            _ => 2,
        });
    }
    let mut block = Vec::new();
    let updates = fields.iter().take_while(|choice| **choice >> 5 == 5).count();
    fields[..updates].iter().for_each(|choice| encode(&mut block, *choice));
    let connect = fields.iter().any(|choice| is_field(*choice) && choice & 31 == 1);
    for field in [(":method", "POST"), (":scheme", "http"), (":path", "/s/m")] {
        let chosen =
            |choice: &u8| is_field(*choice) && FIELDS[usize::from(choice & 31)].0 == field.0;
        if !fields.iter().any(chosen) && !connect {
            literal(&mut block, 0, field);
        }
    }
    fields[updates..].iter().for_each(|choice| encode(&mut block, *choice));
    block
}

fn encode(block: &mut Vec<u8>, choice: u8) {
    let low = choice & 31;
    let field = FIELDS[usize::from(low)];
    match choice >> 5 {
        0 => literal(block, 0, field),
        1 => literal(block, 0x40, field),
        2 => literal(block, 0x10, field),
        // The newest entries of the dynamic table.
        3 => block.push(0x80 | (62 + low % 4)),
        4 => {
            let (name, value) = HUFFMAN[usize::from(low) % HUFFMAN.len()];
            block.push(0x40);
            for text in [name, value] {
                block.push(0x80 | text.len() as u8);
                block.extend_from_slice(text);
            }
        }
        5 => block.put_slice(&match low {
            0..31 => vec![0x20 | low],
            _ => vec![0x3f, 0xe1, 0x1f],
        }),
        // A name of the static table: `:path`, a text that is no path, or `accept-encoding`.
        6 => block.put_slice(&[[0x04, 2, b'/', b'x'], [0x50, 2, b'h', b'i']][usize::from(low % 2)]),
        _ => block.push(0x80 | (14 + low)),
    }
}

/// A literal with a new name (RFC 7541, 6.2). All texts are shorter than 127 bytes.
fn literal(block: &mut Vec<u8>, kind: u8, (name, value): (&str, &str)) {
    block.put_u8(kind);
    for text in [name, value] {
        block.put_u8(text.len() as u8);
        block.put_slice(text.as_bytes());
    }
}
