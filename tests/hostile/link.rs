//! Connections of attackers, which record the server's reactions.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::BytesMut;
use loona_hpack::Decoder;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::wire::{
    ACK, DATA, FIRST_WINDOW, Frame, Frames, GOAWAY, HEADERS, INITIAL_WINDOW_SIZE, MAX_FRAME,
    NO_ERROR, PREFACE, RST_STREAM, SETTINGS, WINDOW_UPDATE,
};

pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// The server's address, and the duration of the attack.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) tls: Option<TlsConnector>,
    /// The credentials of honest clients, where auth is on.
    pub(crate) token: Option<String>,
    pub(crate) time: Duration,
    /// Set when the attack begins.
    pub(crate) until: Option<Instant>,
}

impl Target {
    pub(crate) async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        let tcp = TcpStream::connect(self.address).await?;
        tcp.set_nodelay(true)?;
        let Some(tls) = &self.tls else { return Ok(Box::new(tcp)) };
        let name = ServerName::try_from("localhost").unwrap();
        Ok(Box::new(tls.connect(name, tcp).await?))
    }

    /// Whether the attack goes on.
    pub(crate) fn goes_on(&self) -> bool {
        self.until.is_none_or(|until| Instant::now() < until)
    }

    /// Waits for the end of the attack.
    pub(crate) async fn end(&self) {
        if let Some(until) = self.until {
            sleep_until(until).await;
        }
    }
}

/// The server's reactions on a connection.
#[derive(Default)]
pub(crate) struct Seen {
    /// Calls that it has ended with trailers, and by RST_STREAM.
    pub(crate) answered: AtomicU64,
    pub(crate) reset: AtomicU64,
    pub(crate) closed: AtomicBool,
    goaway: Mutex<Option<String>>,
    windows: Mutex<Windows>,
    opened: Notify,
    ended: Notify,
}

/// The send windows. For streams, only the difference from the initial window.
#[derive(Default)]
struct Windows {
    connection: i64,
    initial: i64,
    streams: HashMap<u32, i64>,
}

impl Seen {
    pub(crate) fn is_cut(&self) -> bool {
        self.closed.load(Ordering::Relaxed) || self.goaway.lock().unwrap().is_some()
    }

    pub(crate) fn goaway(&self) -> Option<String> {
        self.goaway.lock().unwrap().clone()
    }

    fn note(&self, frame: &Frame) {
        match frame.kind {
            HEADERS if frame.ends() => {
                self.answered.fetch_add(1, Ordering::Relaxed);
            }
            // RST_STREAM with NO_ERROR after an early answer is no failure.
            RST_STREAM if frame.number() != NO_ERROR => {
                self.reset.fetch_add(1, Ordering::Relaxed);
            }
            WINDOW_UPDATE => {
                let mut windows = self.windows.lock().unwrap();
                let more = i64::from(frame.number());
                if frame.stream == 0 {
                    windows.connection += more;
                } else if let Some(window) = windows.streams.get_mut(&frame.stream) {
                    *window += more;
                }
                drop(windows);
                self.opened.notify_waiters();
            }
            GOAWAY => {
                let code = u32::from_be_bytes(frame.payload[4..8].try_into().unwrap());
                let text = String::from_utf8_lossy(&frame.payload[8..]);
                *self.goaway.lock().unwrap() = Some(format!("{code}:{text}"));
            }
            _ => {}
        }
        if frame.ends() {
            self.windows.lock().unwrap().streams.remove(&frame.stream);
            self.opened.notify_waiters();
        }
        if frame.ends() || frame.kind == GOAWAY {
            self.ended.notify_waiters();
        }
    }
}

pub(crate) struct Reader {
    io: ReadHalf<Box<dyn Stream>>,
    read: BytesMut,
    hpack: Decoder<'static>,
    seen: Arc<Seen>,
}

#[derive(Clone)]
pub(crate) struct Writer {
    io: Arc<tokio::sync::Mutex<WriteHalf<Box<dyn Stream>>>>,
    pub(crate) seen: Arc<Seen>,
}

/// Opens a connection with this window for answers, on the connection and on each stream.
pub(crate) async fn open(target: &Target, window: u32) -> io::Result<(Reader, Writer)> {
    let (io, write) = split(target.connect().await?);
    let seen = Arc::<Seen>::default();
    let mut reader =
        Reader { io, read: BytesMut::new(), hpack: Decoder::new(), seen: seen.clone() };
    let writer = Writer { io: Arc::new(tokio::sync::Mutex::new(write)), seen: seen.clone() };
    let mut hello = Frames(PREFACE.to_vec());
    hello.settings(&[(INITIAL_WINDOW_SIZE, window)]);
    if window > FIRST_WINDOW {
        hello.window(0, window - FIRST_WINDOW);
    }
    hello.add(SETTINGS, ACK, 0, &[]);
    writer.send(&hello.0).await?;
    seen.windows.lock().unwrap().connection = FIRST_WINDOW.into();
    // The first frame of a server is its SETTINGS (RFC 9113, 3.4).
    let settings = reader.next().await.ok_or(io::ErrorKind::UnexpectedEof)?;
    let mut initial = FIRST_WINDOW;
    for setting in settings.payload.chunks_exact(6) {
        if setting[..2] == INITIAL_WINDOW_SIZE.to_be_bytes() {
            initial = u32::from_be_bytes(setting[2..].try_into().unwrap());
        }
    }
    seen.windows.lock().unwrap().initial = initial.into();
    Ok((reader, writer))
}

/// Opens a connection whose answers are read and ignored.
pub(crate) async fn open_unwatched(target: &Target, window: u32) -> io::Result<Writer> {
    let (mut reader, writer) = open(target, window).await?;
    tokio::spawn(async move { while reader.next().await.is_some() {} });
    Ok(writer)
}

impl Reader {
    /// The next frame; `None` at the end of the connection.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Ok(Some(frame)) = Frame::take(&mut self.read) {
                self.seen.note(&frame);
                return Some(frame);
            }
            self.read.reserve(64 * 1024);
            if self.io.read_buf(&mut self.read).await.unwrap_or(0) == 0 {
                self.seen.closed.store(true, Ordering::Relaxed);
                self.seen.opened.notify_waiters();
                self.seen.ended.notify_waiters();
                return None;
            }
        }
    }

    /// The status in these trailers. Either every header block of a connection goes through this
    /// function, or none does.
    pub(crate) fn status(&mut self, headers: &Frame) -> Option<u32> {
        let fields = self.hpack.decode(&headers.payload).ok()?;
        let (_, value) = fields.into_iter().find(|(name, _)| name == b"grpc-status")?;
        std::str::from_utf8(&value).ok()?.parse().ok()
    }
}

impl Writer {
    /// # Errors
    /// If the connection is closed.
    pub(crate) async fn send(&self, bytes: &[u8]) -> io::Result<()> {
        let mut io = self.io.lock().await;
        io.write_all(bytes).await?;
        io.flush().await
    }

    /// Sends the same bytes until the end of the attack, or of the connection.
    pub(crate) async fn flood(&self, target: &Target, bytes: &[u8]) {
        let left = target.until.unwrap().duration_since(Instant::now());
        let flood = async { while target.goes_on() && self.send(bytes).await.is_ok() {} };
        // A server that no longer reads would block this write for ever.
        let _ = timeout(left, flood).await;
    }

    /// Sends a body as far as the windows allow, and waits for more. False if the stream or the
    /// connection has ended before.
    pub(crate) async fn upload(&self, stream: u32, body: &[u8], end: bool) -> bool {
        self.track(stream);
        let mut rest = body;
        while !rest.is_empty() {
            let Some(room) = self.room(stream, rest.len().min(MAX_FRAME)).await else {
                return false;
            };
            let (part, more) = rest.split_at(room);
            rest = more;
            let mut frames = Frames::default();
            frames.add(DATA, u8::from(end && rest.is_empty()), stream, part);
            if self.send(&frames.0).await.is_err() {
                return false;
            }
        }
        true
    }

    /// Takes up to this much of the windows, at least a byte. `None` if the stream has ended.
    async fn room(&self, stream: u32, wanted: usize) -> Option<usize> {
        loop {
            let opened = self.seen.opened.notified();
            if self.seen.closed.load(Ordering::Relaxed) {
                return None;
            }
            {
                let mut windows = self.seen.windows.lock().unwrap();
                let window = *windows.streams.get(&stream)?;
                let room = window.min(windows.connection).min(wanted as i64);
                if room > 0 {
                    windows.connection -= room;
                    *windows.streams.get_mut(&stream)? -= room;
                    return Some(room as usize);
                }
            }
            opened.await;
        }
    }

    /// Waits until fewer than `count` of its calls are open.
    pub(crate) async fn open_calls_below(&self, count: u64, made: u64) {
        loop {
            let ended = self.seen.ended.notified();
            let over = [&self.seen.answered, &self.seen.reset];
            let over: u64 = over.iter().map(|count| count.load(Ordering::Relaxed)).sum();
            if self.seen.is_cut() || made < over + count {
                return;
            }
            ended.await;
        }
    }

    /// Takes this much of the connection's window for DATA that is sent by other means, and waits
    /// until there is enough. False if the connection has ended before.
    pub(crate) async fn claim(&self, bytes: usize) -> bool {
        loop {
            let opened = self.seen.opened.notified();
            if self.seen.closed.load(Ordering::Relaxed) {
                return false;
            }
            {
                let mut windows = self.seen.windows.lock().unwrap();
                if windows.connection >= bytes as i64 {
                    windows.connection -= bytes as i64;
                    return true;
                }
            }
            opened.await;
        }
    }

    /// The same for a stream whose window counts too.
    pub(crate) async fn claim_of(&self, stream: u32, bytes: usize) -> bool {
        self.track(stream);
        let mut left = bytes;
        while left > 0 {
            match self.room(stream, left).await {
                Some(room) => left -= room,
                None => return false,
            }
        }
        true
    }

    fn track(&self, stream: u32) {
        let mut windows = self.seen.windows.lock().unwrap();
        let initial = windows.initial;
        windows.streams.entry(stream).or_insert(initial);
    }
}
