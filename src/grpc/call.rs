use std::fmt;
use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Extensions;
use http::uri::Authority;

use super::compression::Encoding;
use super::exchange::{Exchange, MessageEvent};
use super::metadata::Metadata;
use super::method::Method;
use super::spawned::SpawnedHandler;
use super::status::Status;

/// One RPC as interceptors and handlers see it. A [`Request`](crate::Request) derefs to it.
pub struct Call {
    /// On the heap, since a call is handed from interceptor to interceptor.
    parts: Box<CallParts>,
}

/// What a call consists of.
pub(crate) struct CallParts {
    pub(crate) method: &'static Method,
    /// Only what differs from the method's own path.
    pub(crate) unknown_path: Option<Box<str>>,
    pub(crate) metadata: Metadata,
    pub(crate) peer: Arc<Peer>,
    pub(crate) started: Instant,
    pub(crate) deadline: Option<tokio::time::Instant>,
    pub(crate) extensions: Extensions,
    /// Set if the handler is to be a task of its own. On the heap, since few are.
    pub(crate) spawned: Option<Box<SpawnedHandler>>,
    pub(crate) authority: Option<Authority>,
    pub(crate) exchange: Arc<Exchange>,
}

impl Call {
    pub(crate) fn new(parts: CallParts) -> Self {
        Self { parts: Box::new(parts) }
    }

    /// A call that no transport drives, for tests of handlers.
    pub(crate) fn detached(method: &'static Method) -> Self {
        Self::new(CallParts {
            method,
            unknown_path: None,
            metadata: Metadata::new(),
            peer: Arc::new(Peer::new(PeerAddr::Memory)),
            started: Instant::now(),
            deadline: None,
            extensions: Extensions::new(),
            spawned: None,
            authority: None,
            exchange: Exchange::detached(),
        })
    }

    pub(crate) fn exchange(&self) -> &Arc<Exchange> {
        &self.parts.exchange
    }

    /// How its handler is to run, if not in place.
    pub(crate) fn take_spawned(&mut self) -> Option<Box<SpawnedHandler>> {
        self.parts.spawned.take()
    }

    /// The method's static description; [`UNKNOWN_METHOD`](crate::UNKNOWN_METHOD) if no service has the path.
    pub fn method(&self) -> &'static Method {
        self.parts.method
    }

    /// The path that the client called, such as `/helloworld.Greeter/SayHello`. For an unknown
    /// method this is text of the client's choice.
    pub fn path(&self) -> &str {
        self.parts.unknown_path.as_deref().unwrap_or(self.parts.method.path)
    }

    /// The request metadata, as it arrived: with `user-agent` and the headers of the protocol.
    pub fn metadata(&self) -> &Metadata {
        &self.parts.metadata
    }

    /// The request metadata; an interceptor may change what the handler will see.
    pub fn metadata_mut(&mut self) -> &mut Metadata {
        &mut self.parts.metadata
    }

    /// The host that the client believes to call, and perhaps a port: `:authority`, else `host`.
    pub fn authority(&self) -> Option<&str> {
        self.parts.authority.as_ref().map(Authority::as_str)
    }

    /// Who calls.
    pub fn peer(&self) -> &Arc<Peer> {
        &self.parts.peer
    }

    /// When the server began with the call, by a clock that its connection reads once for many.
    pub fn started(&self) -> Instant {
        self.parts.started
    }

    /// When the call is ended with DEADLINE_EXCEEDED; `None` if the client set no timeout.
    pub fn deadline(&self) -> Option<Instant> {
        self.parts.deadline.map(tokio::time::Instant::into_std)
    }

    /// What is left until the deadline, zero once it has passed.
    pub fn time_left(&self) -> Option<Duration> {
        let now = tokio::time::Instant::now();
        self.parts.deadline.map(|deadline| deadline.saturating_duration_since(now))
    }

    /// Values of any type that interceptors leave for the handler, such as who the caller is.
    pub fn extensions(&self) -> &Extensions {
        &self.parts.extensions
    }

    /// The same, to be changed.
    pub fn extensions_mut(&mut self) -> &mut Extensions {
        &mut self.parts.extensions
    }

    /// The initial metadata of the response, as far as it is set, to be added to. It has no effect
    /// once the headers are sent.
    pub fn response_metadata(&mut self) -> MetadataMut<'_> {
        MetadataMut::initial(&self.parts.exchange)
    }

    /// How the client compresses its messages, if it does: its `grpc-encoding`. Each message may be
    /// plain all the same: [`Request::was_compressed`](crate::Request::was_compressed),
    /// [`Streaming::was_compressed`](crate::Streaming::was_compressed).
    pub fn request_encoding(&self) -> Option<Encoding> {
        self.parts.exchange.encoding()
    }

    /// Sends the responses of this call plain, whatever the settings and the client say: for what
    /// is secret and stands beside what a stranger may choose (as in the BREACH attack), or does not compress.
    pub fn disable_compression(&mut self) {
        self.parts.exchange.lock().outbound.compressor = None;
    }

    /// Calls `observer` for each message of this call, in both directions, that its handler takes or
    /// gives from now on. It runs inside the call's own future, so it must not block.
    pub fn observe_messages(&mut self, observer: impl FnMut(MessageEvent<'_>) + Send + 'static) {
        self.parts.exchange.observe(Box::new(observer));
    }

    /// Asks `admit` before the handler has a message of the client, each time. An error ends the
    /// input: the handler gets it in the place of that message, and may still answer. It runs inside the
    /// call's own future, so it must not block.
    pub fn admit_messages(&mut self, admit: impl FnMut() -> Result<(), Status> + Send + 'static) {
        self.parts.exchange.gate(Box::new(admit));
    }

    /// Counts of messages, to be read when the call is over.
    pub fn counts(&self) -> Counts {
        Counts { exchange: self.parts.exchange.clone() }
    }

    /// Says who calls, for interceptors further out to log. The first name stays.
    pub fn attribute_to(&self, principal: &str) {
        self.parts.exchange.principal().get_or_init(|| principal.into());
    }

    /// Who calls, to be read when the call is over.
    pub fn attribution(&self) -> Attribution {
        Attribution { exchange: self.parts.exchange.clone() }
    }

    /// Charges the memory that a handler holds for this call, such as what it has read of a store and
    /// the client does not take, to the buffer limits of the connection and the server
    /// ([`Server::connection_buffer_limit`](crate::Server::connection_buffer_limit)). Over a limit the
    /// call ends with RESOURCE_EXHAUSTED where its handler next awaits. Several charges add up.
    pub fn charge(&self, bytes: usize) -> Charge {
        let mut charge = Charge { exchange: self.parts.exchange.clone(), bytes: 0 };
        charge.set(bytes);
        charge
    }

    /// For work outside the handler's future (a spawned task, a thread) that has to stop when the
    /// call does. The handler's future itself is simply dropped.
    pub fn cancellation(&self) -> Cancellation {
        Cancellation { exchange: self.parts.exchange.clone() }
    }

    /// Completes when the server begins to drain, or the call is over: for a handler that streams
    /// for as long as the client likes, to end by itself instead of at the drain timeout. Gives the
    /// status to end with: UNAVAILABLE, or the reason why the call is over. Cancel safe.
    pub fn draining(&self) -> impl Future<Output = Status> + Send + use<> {
        let exchange = self.parts.exchange.clone();
        async move { exchange.until_draining().await }
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("path", &self.path())
            .field("peer", &self.parts.peer)
            .field("metadata", &self.parts.metadata)
            .finish_non_exhaustive()
    }
}

/// How a call ended, on its way out through the interceptors.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Outcome {
    /// The status that the client will see.
    pub status: Status,
    /// Trailing metadata.
    pub trailers: Metadata,
}

impl Outcome {
    /// Success without trailing metadata.
    pub fn ok() -> Self {
        Self { status: Status::ok(), trailers: Metadata::new() }
    }
}

/// Metadata that a status carries becomes trailing metadata.
impl From<Status> for Outcome {
    fn from(mut status: Status) -> Self {
        let trailers = status.take_metadata();
        Self { status, trailers }
    }
}

/// The other end of a connection.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Peer {
    /// Where it is.
    pub addr: PeerAddr,
    /// The address, for logs: it is written once a connection, and read for each call.
    pub(crate) text: Box<str>,
    pub(crate) certificates: Vec<Bytes>,
}

impl Peer {
    pub(crate) fn new(addr: PeerAddr) -> Self {
        let text = match addr {
            PeerAddr::Tcp(addr) => addr.to_string().into(),
            PeerAddr::Unix => "unix".into(),
            PeerAddr::Memory => "memory".into(),
        };
        Self { addr, text, certificates: Vec::new() }
    }

    /// The address as text: `192.0.2.1:50000`, `[2001:db8::1]:50000`, `unix`, `memory`.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The certificates of a TLS client, each in DER; none if it has not shown any, or was not
    /// asked to.
    ///
    /// The first is the client's own: it has the key, and an authority that the server trusts has
    /// signed it. The others are what the client sent along to show that, perhaps more than was
    /// needed: they prove nothing by themselves.
    pub fn certificates(&self) -> &[Bytes] {
        &self.certificates
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer")
            .field("addr", &self.addr)
            .field("certificates", &self.certificates.len())
            .finish()
    }
}

/// Where a peer is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PeerAddr {
    /// Behind a TCP socket.
    Tcp(SocketAddr),
    /// Behind a Unix socket, on this machine.
    Unix,
    /// In this process: a test or a pipe.
    Memory,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Metadata that is yet to be sent, taken out to be changed and put back when this is dropped.
pub struct MetadataMut<'a> {
    exchange: &'a Exchange,
    trailing: bool,
    metadata: Metadata,
}

impl<'a> MetadataMut<'a> {
    pub(crate) fn trailing(exchange: &'a Exchange) -> Self {
        let metadata = std::mem::take(&mut exchange.lock().outbound.trailers);
        Self { exchange, trailing: true, metadata }
    }

    pub(crate) fn initial(exchange: &'a Exchange) -> Self {
        let metadata = std::mem::take(&mut exchange.lock().outbound.metadata);
        Self { exchange, trailing: false, metadata }
    }
}

impl Drop for MetadataMut<'_> {
    fn drop(&mut self) {
        let mut metadata = std::mem::take(&mut self.metadata);
        let outbound = &mut self.exchange.lock().outbound;
        let place = if self.trailing { &mut outbound.trailers } else { &mut outbound.metadata };
        // What was set meanwhile in another way stays as well.
        metadata.merge(std::mem::take(place));
        *place = metadata;
    }
}

impl Deref for MetadataMut<'_> {
    type Target = Metadata;

    fn deref(&self) -> &Metadata {
        &self.metadata
    }
}

impl DerefMut for MetadataMut<'_> {
    fn deref_mut(&mut self) -> &mut Metadata {
        &mut self.metadata
    }
}

impl fmt::Debug for MetadataMut<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.metadata.fmt(f)
    }
}

/// How many messages have passed through a call so far.
#[derive(Clone)]
pub struct Counts {
    exchange: Arc<Exchange>,
}

impl Counts {
    /// Messages taken by the handler.
    pub fn received(&self) -> u64 {
        self.exchange.received()
    }

    /// Messages given by the handler.
    pub fn sent(&self) -> u64 {
        self.exchange.sent()
    }
}

impl fmt::Debug for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Counts")
            .field("received", &self.received())
            .field("sent", &self.sent())
            .finish()
    }
}

/// Who calls, as far as an interceptor has [said so](Call::attribute_to).
#[derive(Clone)]
pub struct Attribution {
    exchange: Arc<Exchange>,
}

impl Attribution {
    /// The name; `None` if nobody has said one.
    pub fn principal(&self) -> Option<&str> {
        self.exchange.principal().get().map(|name| &**name)
    }
}

impl fmt::Debug for Attribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attribution").field("principal", &self.principal()).finish()
    }
}

/// Memory that is charged to a call until this is dropped.
pub struct Charge {
    exchange: Arc<Exchange>,
    bytes: usize,
}

impl Charge {
    /// Changes how many bytes are held.
    pub fn set(&mut self, bytes: usize) {
        if bytes != self.bytes {
            self.exchange.charge(self.bytes, bytes);
            self.bytes = bytes;
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.set(0);
    }
}

impl fmt::Debug for Charge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Charge").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

/// Tells when a call is over, in whatever way: done, cancelled by the client, past its deadline,
/// or ended by a shutdown.
#[derive(Clone)]
pub struct Cancellation {
    exchange: Arc<Exchange>,
}

impl Cancellation {
    /// Whether the call is over.
    pub fn is_cancelled(&self) -> bool {
        self.exchange.ended().is_some()
    }

    /// Waits until the call is over and says why. Cancel safe.
    pub async fn cancelled(&self) -> Status {
        self.exchange.until_ended().await
    }
}

impl fmt::Debug for Cancellation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cancellation").field("is_cancelled", &self.is_cancelled()).finish()
    }
}
