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
    /// How large the chunks are that arrive; all at once if `None`.
    chunk: Option<usize>,
}

fn message(size: usize) -> Opts {
    Opts { size, count: 1, chunk: None }
}

impl Opts {
    fn times(self, count: usize) -> Self {
        Self { count, ..self }
    }

    fn in_chunks_of(self, bytes: usize) -> Self {
        Self { chunk: Some(bytes), ..self }
    }

    fn name(self, action: &str) -> String {
        let times = if self.count > 1 { format!("{}x", self.count) } else { String::new() };
        let chunks = self.chunk.map_or(String::new(), |size| format!("/chunks of {}", bytes(size)));
        format!("{action}/{times}{}{chunks}", bytes(self.size))
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
}

fn bytes(size: usize) -> String {
    match size {
        MIB.. => format!("{}MiB", size / MIB),
        KIB.. => format!("{}KiB", size / KIB),
        _ => format!("{size}B"),
    }
}

fn decode(criterion: &mut Criterion, opts: Opts) {
    let wire = opts.wire();
    let mut group = criterion.benchmark_group("framing");
    group.throughput(Throughput::Bytes(wire.len() as u64));
    let chunks: Vec<_> =
        wire.chunks(opts.chunk.unwrap_or(usize::MAX)).map(Bytes::copy_from_slice).collect();
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
