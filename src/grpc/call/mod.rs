use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Extensions;
use http::uri::Authority;

mod handles;
mod outcome;
mod peer;

pub use self::handles::{CallHandle, Charge};
pub use self::outcome::{MetadataMut, Outcome};
pub use self::peer::{Peer, PeerAddr};
use super::compression::Encoding;
use super::exchange::{Exchange, MessageEvent};
use super::metadata::Metadata;
use super::method::Method;
use super::spawned::SpawnedHandler;
use super::status::Status;

/// A call, as interceptors and handlers get it. A [`Request`](crate::Request) derefs to it.
pub struct Call {
    /// On the heap, because interceptors move the call along the chain.
    parts: Box<CallParts>,
}

/// The parts of a call.
pub(crate) struct CallParts {
    /// The path, if it differs from the method's.
    pub(crate) unknown_path: Option<Box<str>>,
    pub(crate) metadata: Metadata,
    pub(crate) peer: Arc<Peer>,
    pub(crate) started: Instant,
    pub(crate) extensions: Extensions,
    /// Set if the handler runs as a separate task. On the heap, because few handlers do.
    pub(crate) spawned: Option<Box<SpawnedHandler>>,
    pub(crate) authority: Option<Authority>,
    pub(crate) exchange: Arc<Exchange>,
}

impl Call {
    pub(crate) fn new(parts: CallParts) -> Self {
        Self { parts: Box::new(parts) }
    }

    /// A call without a transport, for tests of handlers.
    pub(crate) fn detached(method: &'static Method) -> Self {
        Self::new(CallParts {
            unknown_path: None,
            metadata: Metadata::new(),
            peer: Arc::new(Peer::new(PeerAddr::Memory)),
            started: Instant::now(),
            extensions: Extensions::new(),
            spawned: None,
            authority: None,
            exchange: Exchange::detached(method),
        })
    }

    pub(crate) fn exchange(&self) -> &Arc<Exchange> {
        &self.parts.exchange
    }

    /// Takes the settings of a handler that runs as a separate task.
    pub(crate) fn take_spawned(&mut self) -> Option<Box<SpawnedHandler>> {
        self.parts.spawned.take()
    }

    /// Returns the method's static description, or [`UNKNOWN_METHOD`](crate::UNKNOWN_METHOD) for an
    /// unknown path.
    pub fn method(&self) -> &'static Method {
        self.parts.exchange.terms().method
    }

    /// Returns the path that the client sent, such as `/helloworld.Greeter/SayHello`. For an
    /// unknown method it is any text that the client chose.
    pub fn path(&self) -> &str {
        self.parts.unknown_path.as_deref().unwrap_or(self.method().path)
    }

    /// Returns the request metadata as it arrived, including `user-agent` and the protocol's
    /// headers.
    pub fn metadata(&self) -> &Metadata {
        &self.parts.metadata
    }

    /// Returns the request metadata, for an interceptor to change before the handler reads it.
    pub fn metadata_mut(&mut self) -> &mut Metadata {
        &mut self.parts.metadata
    }

    /// Returns the client's target host, and optionally a port: `:authority`, otherwise `host`.
    pub fn authority(&self) -> Option<&str> {
        self.parts.authority.as_ref().map(Authority::as_str)
    }

    /// Returns the client's address and certificates.
    pub fn peer(&self) -> &Arc<Peer> {
        &self.parts.peer
    }

    /// Replaces the peer, for tests of handlers and interceptors.
    pub fn set_peer(&mut self, peer: Peer) {
        self.parts.peer = Arc::new(peer);
    }

    /// Returns the time at which the server began the call. The connection reads its clock once for
    /// several calls.
    pub fn started(&self) -> Instant {
        self.parts.started
    }

    /// Returns the time at which the call ends with DEADLINE_EXCEEDED. `None` if neither the client
    /// nor the server ([`CallOptions::max_duration`](crate::CallOptions::max_duration)) sets a
    /// limit.
    pub fn deadline(&self) -> Option<Instant> {
        self.parts.exchange.terms().deadline.map(tokio::time::Instant::into_std)
    }

    /// Returns the time that is left until the deadline; zero after it has passed.
    pub fn time_left(&self) -> Option<Duration> {
        let now = tokio::time::Instant::now();
        self.parts.exchange.terms().deadline.map(|deadline| deadline.saturating_duration_since(now))
    }

    /// Returns values of any type that interceptors set for the handler, such as the authenticated
    /// caller. The map is that of the `http` crate: other HTTP libraries hand over the same type.
    pub fn extensions(&self) -> &Extensions {
        &self.parts.extensions
    }

    /// Returns the extensions to be changed.
    pub fn extensions_mut(&mut self) -> &mut Extensions {
        &mut self.parts.extensions
    }

    /// Returns the initial metadata of the response, to be changed. Changes have no effect once the
    /// headers are sent.
    pub fn response_metadata(&mut self) -> MetadataMut<'_> {
        MetadataMut::initial(&self.parts.exchange)
    }

    /// Returns the encoding of the client's messages: its `grpc-encoding`. A single message may
    /// still be uncompressed, see [`Request::was_compressed`](crate::Request::was_compressed) and
    /// [`Streaming::was_compressed`](crate::Streaming::was_compressed).
    pub fn request_encoding(&self) -> Option<Encoding> {
        self.parts.exchange.terms().encoding
    }

    /// Sends this call's responses uncompressed, regardless of the settings. Use it for data that
    /// does not compress. Also use it where a secret and text chosen by an attacker share a message
    /// (the BREACH attack).
    pub fn disable_compression(&mut self) {
        self.parts.exchange.lock().outbound.compressor = None;
    }

    /// Calls `observer` from now on for each message that the handler receives or sends. It runs
    /// inside the call's future, so it must not block.
    pub fn observe_messages(&mut self, observer: impl FnMut(MessageEvent<'_>) + Send + 'static) {
        self.parts.exchange.observe(Box::new(observer));
    }

    /// Calls `admit` before the handler receives each message. An error ends the input: the handler
    /// gets the error in place of the message, and may still respond. `admit` runs inside the
    /// call's future, so it must not block.
    pub fn admit_messages(&mut self, admit: impl FnMut() -> Result<(), Status> + Send + 'static) {
        self.parts.exchange.gate(Box::new(admit));
    }

    /// Returns a handle that observes this call from outside: its messages, its caller, its end.
    pub fn handle(&self) -> CallHandle {
        CallHandle::new(self.parts.exchange.clone())
    }

    /// Sets the name of the caller. Outer interceptors can log it ([`CallHandle::principal`]). Only
    /// the first name counts.
    pub fn attribute_to(&self, principal: &str) {
        self.parts.exchange.principal().get_or_init(|| principal.into());
    }

    /// Charges memory that a handler holds for this call to the buffer limits of the connection and
    /// the server ([`Server::connection_buffer_limit`](crate::Server::connection_buffer_limit)).
    /// Rows read from a store that the client has not read yet are an example. Over a limit, the
    /// call ends with RESOURCE_EXHAUSTED where its handler next awaits. Several charges add up.
    pub fn charge(&self, bytes: usize) -> Charge {
        let mut charge = Charge::new(self.parts.exchange.clone());
        charge.set(bytes);
        charge
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
