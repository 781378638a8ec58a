//! A client that costs next to nothing, so that what is measured is the server: requests are bytes
//! that only differ in their streams, answers are counted and not read. The pipe is memory, and
//! both ends share one thread.

use std::pin::Pin;
use std::sync::Arc;

use balafon::grpc::frame;
use balafon::{Router, Server};
use bytes::{Buf, BufMut, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::runtime::Runtime;

/// More than a batch of calls and its answers take, so that neither end ever waits for room.
const PIPE_SIZE: usize = 1 << 20;

/// Room for each read: the answers of a batch mostly come in one piece.
const READ_SIZE: usize = 16 << 10;

/// The connection preface with empty SETTINGS (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

// RFC 9113, 6.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const WINDOW_UPDATE: u8 = 8;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

const FRAME_HEADER_LEN: usize = 9;

/// The window of a connection at its start, and at its largest (RFC 9113, 6.9).
const FIRST_WINDOW: u32 = (1 << 16) - 1;
const LARGEST_WINDOW: u32 = (1 << 31) - 1;

/// The header block of a call of a path, and its message, which is empty.
pub(crate) struct Call {
    block: Vec<u8>,
    body: Vec<u8>,
}

impl Call {
    pub(crate) fn unary(path: &str) -> Self {
        // RFC 7541, appendix A: `:method: POST` and `:scheme: http`.
        let mut block = vec![0x83, 0x86];
        // RFC 7541, 6.2.2: literals that are not indexed, the first three with indexed names.
        literal(&mut block, &[0x04], path);
        literal(&mut block, &[0x01], "localhost");
        literal(&mut block, &[0x0f, 31 - 0x0f], "application/grpc");
        literal(&mut block, b"\0\x02te", "trailers");
        let mut body = BytesMut::new();
        frame::encode(&mut body, &(), usize::MAX).expect("it is empty");
        Self { block, body: body.into() }
    }

    fn put(&self, wire: &mut BytesMut, stream: u32) {
        put_frame(wire, HEADERS, END_HEADERS, stream, &self.block);
        put_frame(wire, DATA, END_STREAM, stream, &self.body);
    }
}

/// A connection to a server of its own.
pub(crate) struct Pipe {
    runtime: Runtime,
    server: Pin<Box<dyn Future<Output = ()>>>,
    client: Client,
}

struct Client {
    io: DuplexStream,
    next_stream: u32,
    /// Kept, as is the other: allocating their size costs as much as some calls do.
    sent: BytesMut,
    received: BytesMut,
}

impl Pipe {
    pub(crate) fn new(router: Router) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime can be made");
        let (io, server_io) = duplex(PIPE_SIZE);
        let server =
            async move { Server::new().serve_connection(server_io, Arc::new(router)).await };
        let (sent, received) = (BytesMut::new(), BytesMut::new());
        let client = Client { io, next_stream: 1, sent, received };
        let mut pipe = Self { runtime, server: Box::pin(server), client };
        pipe.run(async |client| client.handshake().await);
        pipe
    }

    /// Makes these calls, all at once, and waits for their answers.
    pub(crate) fn call<'a>(&mut self, calls: impl IntoIterator<Item = &'a Call>) {
        self.run(async |client| client.call(calls).await);
    }

    fn run(&mut self, work: impl AsyncFnOnce(&mut Client)) {
        let Self { runtime, server, client } = self;
        runtime.block_on(async {
            tokio::select! {
                biased;
                () = work(client) => {}
                () = server => panic!("the server has closed the connection"),
            }
        });
    }
}

impl Client {
    async fn handshake(&mut self) {
        self.sent.put_slice(PREFACE);
        // All responses ever fit into it, as they hold nothing.
        let window = LARGEST_WINDOW - FIRST_WINDOW;
        put_frame(&mut self.sent, WINDOW_UPDATE, 0, 0, &window.to_be_bytes());
        self.send().await;
        while self.frame().await != (SETTINGS, 0) {}
        put_frame(&mut self.sent, SETTINGS, ACK, 0, &[]);
        self.send().await;
    }

    async fn call<'a>(&mut self, calls: impl IntoIterator<Item = &'a Call>) {
        let mut open = 0;
        for call in calls {
            call.put(&mut self.sent, self.next_stream);
            self.next_stream += 2;
            open += 1;
        }
        self.send().await;
        let (mut messages, mut ended) = (0, 0);
        while ended < open {
            let (kind, flags) = self.frame().await;
            messages += usize::from(kind == DATA);
            ended += usize::from(kind == HEADERS && flags & END_STREAM != 0);
        }
        assert_eq!(messages, open, "every call is answered with a message");
    }

    async fn send(&mut self) {
        self.io.write_all(&self.sent).await.expect("the server is there");
        self.sent.clear();
    }

    /// Kind and flags of the next frame.
    async fn frame(&mut self) -> (u8, u8) {
        while self.received.len() < FRAME_HEADER_LEN {
            self.receive().await;
        }
        let length = (&self.received[..3]).get_uint(3) as usize;
        let (kind, flags) = (self.received[3], self.received[4]);
        while self.received.len() < FRAME_HEADER_LEN + length {
            self.receive().await;
        }
        self.received.advance(FRAME_HEADER_LEN + length);
        (kind, flags)
    }

    async fn receive(&mut self) {
        self.received.reserve(READ_SIZE);
        let count = self.io.read_buf(&mut self.received).await.expect("the server is there");
        assert_ne!(count, 0, "the server has closed the connection");
    }
}

/// RFC 7541, 6.2.2 and 5.2: a name as it stands there, and a value of less than 127 bytes.
fn literal(block: &mut Vec<u8>, name: &[u8], value: &str) {
    block.extend_from_slice(name);
    block.push(u8::try_from(value.len()).ok().filter(|len| *len < 127).expect("a short value"));
    block.extend_from_slice(value.as_bytes());
}

/// RFC 9113, 4.1.
fn put_frame(wire: &mut BytesMut, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    wire.put_uint(payload.len() as u64, 3);
    wire.put_u8(kind);
    wire.put_u8(flags);
    wire.put_u32(stream);
    wire.put_slice(payload);
}
