//! Framing alone, without a network: what a message of a size costs to cut out of the bytes that
//! arrive, and to put into the bytes that leave.
//!
//! `cargo bench --bench framing -- decode/1KiB` runs what has that in its name.

use std::hint::black_box;

use balafon::grpc::frame::{FrameDecoder, HEADER_LEN, encode};
use bytes::{Bytes, BytesMut};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

fn framing(criterion: &mut Criterion) {
    decode(criterion, message(16));
    decode(criterion, message(KIB));
    decode(criterion, message(64 * KIB));
    decode(criterion, message(64 * KIB).in_chunks_of(KIB));
    decode(criterion, message(64 * KIB).in_chunks_of(16 * KIB));
    decode(criterion, message(MIB));
    decode(criterion, message(MIB).in_chunks_of(KIB));
    decode(criterion, message(MIB).in_chunks_of(16 * KIB));
    // What one DATA frame of a client that streams may hold.
    decode(criterion, message(16).times(700).in_chunks_of(16 * KIB));
    decode(criterion, message(16).cut_anywhere());
    decode(criterion, message(KIB).cut_anywhere());
    decode(criterion, message(64 * KIB).cut_anywhere());
    decode(criterion, message(MIB).cut_anywhere());
    decode(criterion, message(16).times(700).cut_anywhere());

    encode_into(criterion, message(16));
    encode_into(criterion, message(KIB));
    encode_into(criterion, message(64 * KIB));
    encode_into(criterion, message(MIB));
    encode_into(criterion, message(16).times(700));
}

/// One scenario.
#[derive(Clone, Copy)]
struct Opts {
    /// The length of the field of bytes that a message consists of.
    size: usize,
    count: usize,
    cut: Cut,
}

/// In what chunks the bytes arrive.
#[derive(Clone, Copy)]
enum Cut {
    Nowhere,
    Every(usize),
    Anywhere,
}

fn message(size: usize) -> Opts {
    Opts { size, count: 1, cut: Cut::Nowhere }
}

impl Opts {
    fn times(self, count: usize) -> Self {
        Self { count, ..self }
    }

    fn in_chunks_of(self, bytes: usize) -> Self {
        Self { cut: Cut::Every(bytes), ..self }
    }

    /// In chunks of any size, also inside the headers of messages: the same ones every time.
    fn cut_anywhere(self) -> Self {
        Self { cut: Cut::Anywhere, ..self }
    }

    fn name(self, action: &str) -> String {
        let times = if self.count > 1 { format!("{}x", self.count) } else { String::new() };
        let cut = match self.cut {
            Cut::Nowhere => String::new(),
            Cut::Every(size) => format!("/chunks of {}", bytes(size)),
            Cut::Anywhere => "/cut anywhere".to_owned(),
        };
        format!("{action}/{times}{}{cut}", bytes(self.size))
    }

    fn message(self) -> Bytes {
        vec![0xa5; self.size].into()
    }

    fn wire(self) -> BytesMut {
        let message = self.message();
        let mut wire = BytesMut::new();
        for _ in 0..self.count {
            encode(&mut wire, &message, usize::MAX).expect("it is far from 4 GiB");
        }
        wire
    }

    /// What arrives, chunk by chunk.
    fn chunks(self) -> Vec<Bytes> {
        let mut wire = self.wire().freeze();
        let mut random = SEED;
        let mut chunks = Vec::new();
        while !wire.is_empty() {
            let size = match self.cut {
                Cut::Nowhere => wire.len(),
                Cut::Every(size) => size,
                Cut::Anywhere => any_size(&mut random),
            };
            // Each in memory of its own, as it is when every one was a DATA frame.
            chunks.push(Bytes::copy_from_slice(&wire.split_to(size.min(wire.len()))));
        }
        chunks
    }
}

/// Any number but zero does.
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;

/// From one byte to what a DATA frame holds unless both sides agree on more (RFC 9113, 4.2): each
/// order of magnitude as often as any other.
fn any_size(random: &mut u64) -> usize {
    let largest = 1 << (next(random) % 15);
    1 + next(random) as usize % largest
}

/// Marsaglia's xorshift.
fn next(random: &mut u64) -> u64 {
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    *random
}

fn bytes(size: usize) -> String {
    match size {
        MIB.. => format!("{}MiB", size / MIB),
        KIB.. => format!("{}KiB", size / KIB),
        _ => format!("{size}B"),
    }
}

fn decode(criterion: &mut Criterion, opts: Opts) {
    let chunks = opts.chunks();
    let mut group = criterion.benchmark_group("framing");
    group.throughput(Throughput::Bytes(chunks.iter().map(|chunk| chunk.len() as u64).sum()));
    group.bench_function(opts.name("decode"), |bencher| {
        bencher.iter(|| {
            let mut decoder = FrameDecoder::new(opts.size + HEADER_LEN);
            let mut frames = 0;
            for chunk in &chunks {
                decoder.push(chunk.clone());
                while let Some(frame) = decoder.next_frame().expect("the wire is well-formed") {
                    black_box(frame);
                    frames += 1;
                }
            }
            assert_eq!(frames, opts.count);
        });
    });
}

fn encode_into(criterion: &mut Criterion, opts: Opts) {
    let (message, wire) = (opts.message(), opts.wire().len());
    let mut group = criterion.benchmark_group("framing");
    group.throughput(Throughput::Bytes(wire as u64));
    group.bench_function(opts.name("encode"), |bencher| {
        // A fresh buffer each time, as a call has it.
        bencher.iter(|| {
            let mut buffer = BytesMut::new();
            for _ in 0..opts.count {
                encode(&mut buffer, black_box(&message), usize::MAX).expect("it is small");
            }
            buffer
        });
    });
}

criterion_group!(benches, framing);
criterion_main!(benches);
