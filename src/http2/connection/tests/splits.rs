//! Any split of the input gives the same events.

use super::*;
use crate::http2::connection::Read;
use crate::http2::random::Random;

#[test]
fn events_are_the_same_for_every_split_of_the_input() {
    let trailers = frame(kind::HEADERS, 5, 3, &block(&[("x-end", "1")]));
    let bytes = [
        setting(0x4, 70_000),
        headers(1, 0),
        data(1, 0, b"hello"),
        frame(kind::DATA, flag::PADDED | flag::END_STREAM, 1, b"\x02ab\0\0"),
        frame(kind::HEADERS, 0, 3, &request_block()[..10]),
        frame(kind::CONTINUATION, flag::END_HEADERS, 3, &request_block()[10..]),
        data(3, 0, b"world"),
        trailers,
        window_update(0, 100),
    ]
    .concat();
    let outcome = |chunks: &[&[u8]]| {
        let mut client = Client::new();
        chunks.iter().for_each(|chunk| client.send(chunk));
        let mut requests = Vec::new();
        while let Some((key, parts)) = client.connection.next_request() {
            let data = client.connection.read(key);
            let end = client.connection.read(key);
            requests.push(format!("{parts:?} {data:?} {end:?}"));
        }
        assert_eq!(requests.len(), 2);
        (requests, client.frames(), client.connection.closed())
    };
    let whole = outcome(&[&bytes]);
    for at in 1..bytes.len() {
        let (first, second) = bytes.split_at(at);
        assert_eq!(outcome(&[first, second]), whole, "split at {at}");
    }
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(outcome(&single), whole);
}

/// A header block that uses and changes the dynamic table (RFC 7541, 6.1 and 6.2.1).
fn random_block(random: &mut Random) -> Vec<u8> {
    let mut block = request_block();
    for _ in 0..random.below(4) {
        match random.below(5) {
            0 => block.extend_from_slice(&[0x40, 1, b'a' + random.below(3) as u8, 1, b'1']),
            // If there is no such entry, the connection ends.
            1 if random.below(8) == 0 => block.push(0x80 | 62),
            2 => block.extend_from_slice(b"\0\x0econtent-length\x0210"),
            3 if random.below(2) == 0 => block.extend_from_slice(b"\0\x01X\x011"),
            _ => block.extend_from_slice(&[0x10, 1, b'b', 2, b'x', b'y']),
        }
    }
    block
}

/// The next frame, or header block, of a client that mostly obeys the protocol. `last` is its last
/// stream.
fn random_frame(random: &mut Random, last: &mut u32) -> Vec<u8> {
    let opens = *last == 0 || random.below(4) == 0;
    let stream = if opens {
        *last + 1 + *last % 2
    } else {
        *last - 2 * random.below(*last as usize / 2 + 1) as u32
    };
    *last = stream.max(*last);
    let end = random.pick(&[0, 0, flag::END_STREAM]);
    match if opens { 0 } else { random.below(40) } {
        0 => {
            let block = random_block(random);
            let padded = [&[3][..], &block, &[0; 3]].concat();
            let (first, second) = block.split_at(random.below(block.len()));
            match random.below(3) {
                0 => frame(kind::HEADERS, flag::END_HEADERS | end, stream, &block),
                1 => frame(kind::HEADERS, flag::PADDED | flag::END_HEADERS | end, stream, &padded),
                _ => [
                    frame(kind::HEADERS, end, stream, first),
                    frame(kind::CONTINUATION, flag::END_HEADERS, stream, second),
                ]
                .concat(),
            }
        }
        1..20 => {
            let length = random.pick(&[0, 1, 10, 500, 3000, 16_384]);
            data(stream, end, &vec![random.next() as u8; length])
        }
        20..26 => data(stream, flag::PADDED | end, b"\x04data\0\0\0\0"),
        26..29 => window_update(random.pick(&[0, stream]), 1 + random.below(1000) as u32),
        29..32 => setting(random.pick(&[1, 3, 4, 6]), random.pick(&[0, 1, 16_384, 70_000])),
        32..35 => frame(kind::PING, random.pick(&[0, flag::ACK]), 0, b"12345678"),
        35..38 => frame(kind::RST_STREAM, 0, stream, &[0, 0, 0, 8]),
        38 => frame(0xfe, random.next() as u8, stream, &[0; 9]),
        _ => frame(random.next() as u8 % 16, random.next() as u8, stream, &[0; 9]),
    }
}

/// A client, and calls that read all that arrives.
struct Served {
    client: Client,
    calls: Vec<Key>,
    log: Vec<String>,
}

impl Served {
    fn new() -> Self {
        Self { client: Client::new(), calls: Vec::new(), log: Vec::new() }
    }

    /// Writes down the requests, the changes and the data of streams, and the output.
    fn serve(&mut self) {
        let connection = &mut self.client.connection;
        let mut events: Vec<_> = std::iter::from_fn(|| connection.next_event()).collect();
        events.sort_by_key(|key| key.index());
        self.log.push(format!("{events:?} {:?}", connection.closed()));
        while let Some((key, parts)) = connection.next_request() {
            self.log.push(format!("{key:?} {parts:?}"));
            self.calls.push(key);
        }
        let log = &mut self.log;
        self.calls.retain(|key| {
            let mut received = Vec::new();
            let end = loop {
                match connection.read(*key) {
                    Read::Data(data) => received.extend_from_slice(&data),
                    end => break end,
                }
            };
            log.push(format!("{key:?} {received:?} {end:?}"));
            connection.release(*key, received.len());
            connection.watch(*key);
            let is_over = matches!(end, Read::Failed(_));
            if is_over {
                connection.finish(*key);
            }
            !is_over
        });
        let frames = self.client.frames();
        self.log.push(format!("{frames:?}"));
    }
}

/// Cuts bytes at random.
fn cut<'a>(random: &mut Random, mut bytes: &'a [u8]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    while !bytes.is_empty() {
        let length = random.pick(&[1, 2, 8, 9, 10, 30, 1000, 20_000]).min(bytes.len());
        let (piece, rest) = bytes.split_at(length);
        pieces.push(piece);
        bytes = rest;
    }
    pieces
}

#[test]
fn random_splits_of_random_input_give_the_same_events() {
    let mut random = Random(3);
    let mut errors = 0;
    for round in 0..300 {
        let mut last = 0;
        let frames: Vec<_> = (0..30).map(|_| random_frame(&mut random, &mut last)).collect();
        // The calls act when all has arrived.
        let all = frames.concat();
        let mut whole = Served::new();
        whole.client.send(&all);
        whole.serve();
        for _ in 0..3 {
            let mut pieces = Served::new();
            cut(&mut random, &all).into_iter().for_each(|piece| pieces.client.send(piece));
            pieces.serve();
            assert_eq!(pieces.log, whole.log, "round {round}");
        }
        // The calls act after each frame.
        let (mut whole, mut pieces) = (Served::new(), Served::new());
        for frame in &frames {
            whole.client.send(frame);
            whole.serve();
            cut(&mut random, frame).into_iter().for_each(|piece| pieces.client.send(piece));
            pieces.serve();
            assert_eq!(pieces.log, whole.log, "round {round}");
        }
        errors += usize::from(whole.client.error().is_some());
    }
    assert!((30..270).contains(&errors), "{errors} of the connections end with an error");
}
