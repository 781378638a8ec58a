//! A client that does whatever the input says, against a whole connection. Whatever it does:
//!
//! - nothing panics (the fuzzer aborts on a panic, also on one that the library would catch);
//! - what the server sends on a stream is a response: headers, whole messages, one end;
//! - when the client is gone the connection ends, and no handler outlives it.
//!
//! The input is a program of steps, so that calls really start and a change of one byte changes
//! one frame:
//!
//! ```text
//! mode(1) { op(1) stream(1) arg(1) length(1) payload(length) }*
//! ```

#![no_main]

#[allow(dead_code, reason = "each target uses a part of it")]
mod wire;

use std::future::pending;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use balafon::{
    CallOptions, Http2, Request, Response, Router, Rpc, Server, Service, Sink, Status, Streaming,
};
use libfuzzer_sys::fuzz_target;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};
use tokio::task::yield_now;
use tokio::time::{sleep, timeout};

use self::wire::Responses;

/// Bits of the first byte of the input.
mod mode {
    /// The client reads nothing until it has written all.
    pub const READS_LATE: u8 = 1;
    /// The client does not send the preface; the program may.
    pub const NO_PREFACE: u8 = 2;
    /// The client closes its side and reads on, instead of vanishing.
    pub const HALF_CLOSES: u8 = 4;
    /// The client waits for answers before it goes.
    pub const IS_PATIENT: u8 = 8;
    /// All steps arrive at once.
    pub const IN_ONE_WRITE: u8 = 16;
    /// The server uses its own engine instead of the crate h2.
    pub const NATIVE: u8 = 32;
}

/// Virtual time, far more than any wait of the server that a client can cause.
const PATIENCE: Duration = Duration::from_secs(60);

/// Handlers that have started and are not dropped.
static RUNNING: AtomicUsize = AtomicUsize::new(0);

fuzz_target!(|input: &[u8]| {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O needs nothing that may be missing");
    runtime.block_on(async {
        let (near, far) = tokio::io::duplex(16 * 1024);
        let native = input.first().is_some_and(|mode| mode & mode::NATIVE != 0);
        let server = tokio::spawn(serve(far, if native { Http2::Native } else { Http2::H2 }));
        client(near, input).await;
        let ended = timeout(PATIENCE, server).await.expect("the connection outlives its client");
        ended.expect("the connection's future panicked");
        assert_eq!(RUNNING.load(Ordering::Relaxed), 0, "a handler outlives its connection");
    });
});

async fn serve(io: DuplexStream, http2: Http2) {
    Server::new()
        .http2(http2)
        .max_concurrent_streams(4)
        .max_header_list_size(1024)
        .calls(
            CallOptions::new().max_receive_message_size(8 * 1024).max_send_message_size(32 * 1024),
        )
        .serve_connection(io, ROUTER.clone())
        .await;
}

async fn client(io: DuplexStream, input: &[u8]) {
    let Some((mode, program)) = input.split_first() else {
        return;
    };
    let is = |bit| mode & bit != 0;
    let (reader, mut writer) = tokio::io::split(io);
    let mut reader = Some(reader);
    let mut reading = None;
    if !is(mode::READS_LATE) {
        reading = reader.take().map(|reader| tokio::spawn(read(reader)));
    }

    let preface: &[u8] = if is(mode::NO_PREFACE) { b"" } else { wire::PREFACE };
    let steps = wire::steps(program);
    if is(mode::IN_ONE_WRITE) {
        let all = steps.fold(preface.to_vec(), |all, step| [all, step.bytes].concat());
        write(&mut writer, &all).await;
    } else {
        write(&mut writer, preface).await;
        for step in steps {
            sleep(step.pause).await;
            write(&mut writer, &step.bytes).await;
        }
    }

    let reading = reading.or_else(|| reader.map(|reader| tokio::spawn(read(reader))));
    let mut reading = reading.expect("the client reads sooner or later");
    if is(mode::IS_PATIENT) {
        sleep(Duration::from_secs(1)).await;
    }
    if is(mode::HALF_CLOSES) {
        let _ = writer.shutdown().await;
        let read = timeout(PATIENCE, &mut reading).await.expect("the server does not close");
        read.expect("a response is not one");
    } else if reading.is_finished() {
        reading.await.expect("a response is not one");
    } else {
        reading.abort();
        let _ = reading.await;
    }
}

/// A server that has closed the connection, or that is not read from, need not take more.
async fn write(writer: &mut WriteHalf<DuplexStream>, bytes: &[u8]) {
    let _ = timeout(Duration::from_secs(1), writer.write_all(bytes)).await;
    yield_now().await;
}

/// Checks what the server sends until it closes.
async fn read(mut reader: ReadHalf<DuplexStream>) {
    let mut responses = Responses::default();
    let mut chunk = vec![0; 4096];
    while let Ok(count @ 1..) = reader.read(&mut chunk).await {
        responses.receive(&chunk[..count]);
    }
}

static ECHO: Rpc<String, String> = Rpc::unary(wire::PATHS[0]);
static COUNT: Rpc<String, String> = Rpc::server_streaming(wire::PATHS[1]);
static JOIN: Rpc<String, String> = Rpc::client_streaming(wire::PATHS[2]);
static CHAT: Rpc<String, String> = Rpc::bidi_streaming(wire::PATHS[3]);
static HANG: Rpc<(), ()> = Rpc::client_streaming(wire::PATHS[4]);

static ROUTER: LazyLock<Arc<Router>> = LazyLock::new(|| {
    let service = Service::builder("fuzz.Fuzz", &[], ())
        .unary(&ECHO, |_, request| echo(request))
        .server_streaming(&COUNT, |_, request, sink| count(request, sink))
        .client_streaming(&JOIN, |_, request| join(request))
        .bidi_streaming(&CHAT, |_, request, sink| chat(request, sink))
        .client_streaming(&HANG, |_, request| hang(request))
        .build();
    Arc::new(Router::new().add(service))
});

struct Running;

impl Running {
    fn start() -> Self {
        RUNNING.fetch_add(1, Ordering::Relaxed);
        Self
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        RUNNING.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Fails with what the client says if it says anything after "!".
fn check(text: &str) -> Result<(), Status> {
    match text.strip_prefix('!') {
        Some(why) => Err(Status::aborted(why.to_owned())),
        None => Ok(()),
    }
}

async fn echo(request: Request<String>) -> Result<Response<String>, Status> {
    let _running = Running::start();
    check(&request.message)?;
    Ok(Response::new(request.into_message()))
}

/// A hundred times the same, at first as fast as the client reads and then slowly.
async fn count(request: Request<String>, mut sink: Sink<String>) -> Result<(), Status> {
    let _running = Running::start();
    sink.flush_headers();
    for number in 0..100 {
        sink.send(&request.message).await?;
        if number > 50 {
            sleep(Duration::from_millis(1)).await;
        }
    }
    check(&request.message)
}

async fn join(mut request: Request<Streaming<String>>) -> Result<Response<String>, Status> {
    let _running = Running::start();
    let mut all = String::new();
    while let Some(text) = request.message.message().await? {
        check(&text)?;
        all.push_str(&text);
    }
    Ok(Response::new(all))
}

async fn chat(
    mut request: Request<Streaming<String>>,
    mut sink: Sink<String>,
) -> Result<(), Status> {
    let _running = Running::start();
    while let Some(text) = request.message.message().await? {
        check(&text)?;
        sink.send(text).await?;
    }
    Ok(())
}

/// Reads nothing and answers nothing.
async fn hang(_request: Request<Streaming<()>>) -> Result<Response<()>, Status> {
    let _running = Running::start();
    pending().await
}
