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

/// One RPC as interceptors and handlers see it. A [`Request`](crate::Request) derefs to it.
pub struct Call {
    /// On the heap, since a call is handed from interceptor to interceptor.
    parts: Box<CallParts>,
}

/// What a call consists of.
pub(crate) struct CallParts {
    /// Only what differs from the method's own path.
    pub(crate) unknown_path: Option<Box<str>>,
    pub(crate) metadata: Metadata,
    pub(crate) peer: Arc<Peer>,
    pub(crate) started: Instant,
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

    /// How its handler is to run, if not in place.
    pub(crate) fn take_spawned(&mut self) -> Option<Box<SpawnedHandler>> {
        self.parts.spawned.take()
    }

    /// The method's static description; [`UNKNOWN_METHOD`](crate::UNKNOWN_METHOD) if no service has the path.
    pub fn method(&self) -> &'static Method {
        self.parts.exchange.terms().method
    }

    /// The path that the client called, such as `/helloworld.Greeter/SayHello`. For an unknown
    /// method this is text of the client's choice.
    pub fn path(&self) -> &str {
        self.parts.unknown_path.as_deref().unwrap_or(self.method().path)
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

    /// Replaces the peer, for tests of handlers and interceptors.
    pub fn set_peer(&mut self, peer: Peer) {
        self.parts.peer = Arc::new(peer);
    }

    /// When the server began with the call, by a clock that its connection reads once for many.
    pub fn started(&self) -> Instant {
        self.parts.started
    }

    /// When the call is ended with DEADLINE_EXCEEDED; `None` if the client set no timeout.
    pub fn deadline(&self) -> Option<Instant> {
        self.parts.exchange.terms().deadline.map(tokio::time::Instant::into_std)
    }

    /// What is left until the deadline, zero once it has passed.
    pub fn time_left(&self) -> Option<Duration> {
        let now = tokio::time::Instant::now();
        self.parts.exchange.terms().deadline.map(|deadline| deadline.saturating_duration_since(now))
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
        self.parts.exchange.terms().encoding
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

    /// Observes this call from elsewhere: its messages, its caller, its end.
    pub fn handle(&self) -> CallHandle {
        CallHandle::new(self.parts.exchange.clone())
    }

    /// Sets the name of the caller, which outer interceptors can log ([`CallHandle::principal`]). The first name stays.
    pub fn attribute_to(&self, principal: &str) {
        self.parts.exchange.principal().get_or_init(|| principal.into());
    }

    /// Charges the memory that a handler holds for this call, such as what it has read of a store and
    /// the client does not take, to the buffer limits of the connection and the server
    /// ([`Server::connection_buffer_limit`](crate::Server::connection_buffer_limit)). Over a limit the
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
