use std::sync::Arc;

use bytes::Bytes;
use http::header::{HOST, HeaderMap, HeaderValue};
use http::uri::Authority;
use http::{Extensions, Method, Response, request};

use super::ServerCall;
use super::response::{Response as CallResponse, Stage};
use crate::cut::for_log;
use crate::grpc::call::{Call, CallParts};
use crate::grpc::exchange::{Exchange, Terms};
use crate::grpc::head::{NonGrpc, Rejection, RequestHead, accepts, require_te_trailers};
use crate::grpc::metadata::Metadata;
use crate::grpc::options::CallOptions;
use crate::grpc::router::Route;
use crate::grpc::server::connection::context::ConnectionContext;
use crate::grpc::server::connection::linger::SizedRequest;
use crate::grpc::server::connection::non_grpc::NonGrpcResponse;
use crate::grpc::server::policy::budget::Share;
use crate::grpc::server::policy::call_limits::{CallLimits, deadline_exceeded};
use crate::grpc::server::transport::{Head, Stream};
use crate::grpc::status::Status;

impl<S: Stream> ServerCall<S> {
    /// Starts the call of a new stream: finds the route, parses the head, and builds the call. An
    /// invalid gRPC head still creates a call, so that interceptors see it.
    ///
    /// # Errors
    /// The HTTP response to a request that is not gRPC.
    pub(crate) fn start(
        parts: Head,
        stream: S,
        started: std::time::Instant,
        context: &Arc<ConnectionContext>,
    ) -> Result<Self, Box<NonGrpcResponse<S>>> {
        let route = context.router.route(path(&parts));
        let options = route.options(&context.settings.calls);
        match parse(&parts, &options, context.settings.require_te_trailers) {
            Ok(head) => {
                let opened = Opened { parts, stream, started };
                Ok(Self::build(opened, route, &options, head, context))
            }
            Err(non_grpc) => {
                let response = response_to(&parts, non_grpc);
                Err(Box::new(NonGrpcResponse::new(stream, response)))
            }
        }
    }

    fn build(
        opened: Opened<S>,
        route: &Route,
        options: &CallOptions,
        head: Result<RequestHead, Status>,
        context: &Arc<ConnectionContext>,
    ) -> Self {
        let Opened { parts, stream, started } = opened;
        let (head, refusal) = match head {
            Ok(head) => (head, None),
            Err(status) => (RequestHead::default(), Some(status)),
        };
        let limits = CallLimits::new(options, route.method, head.timeout);
        let compression = options.compression.unwrap_or_default();
        let exchange = Exchange::new(Terms {
            method: route.method,
            deadline: limits.deadline(),
            receive_limit: options.receive_limit(),
            send_limit: options.send_limit(),
            encoding: head.encoding,
            inflate_budget: head.encoding.map(|_| context.inflate_budget.clone()),
            compressor: compression
                .choose(head.encoding, |encoding| accepts(&parts.headers, encoding)),
        });
        if head.timeout.is_some_and(|timeout| timeout.is_zero()) {
            exchange.end(deadline_exceeded());
        }
        let HeaderScan { memory, content_length, has_host } = HeaderScan::of(&parts.headers);
        let sized_request = content_length.and_then(SizedRequest::new);
        let authority = authority(&parts);
        let path = path(&parts);
        let unknown_path = (path != route.method.path).then(|| path.into());
        // The `:authority` replaces a `host`.
        let drops_host = has_host && parts.uri.authority().is_some();
        let mut metadata = Metadata::from(parts);
        if drops_host {
            metadata.remove("host");
        }
        let call = Call::new(CallParts {
            unknown_path,
            metadata,
            peer: context.peer.clone(),
            started,
            extensions: Extensions::new(),
            spawned: context.spawned(options).map(Box::new),
            authority,
            exchange: exchange.clone(),
        });
        let running = match refusal {
            None => context.router.run(route, call),
            Some(status) => context.router.refuse(call, status),
        };
        Self {
            exchange,
            running: Some(running),
            stream,
            receiving: true,
            response: CallResponse {
                stage: Stage::Headers,
                outcome: None,
                method: route.method,
                accepted: options.accepted(),
                reset: false,
            },
            sized_request,
            limits,
            head_size: memory,
            started,
            counted: 0,
            share: Share::new(&context.budgets),
            context: context.clone(),
        }
    }
}

/// A new stream.
struct Opened<S> {
    parts: Head,
    stream: S,
    started: std::time::Instant,
}

/// The head of a call, or the status that refuses it.
///
/// # Errors
/// The request is not gRPC.
fn parse(
    parts: &request::Parts,
    options: &CallOptions,
    require_te: bool,
) -> Result<Result<RequestHead, Status>, NonGrpc> {
    let parsed = RequestHead::parse_accepting(parts, options.accepted());
    let parsed = match parsed {
        Ok(head) if require_te => require_te_trailers(&parts.headers).map(|()| head),
        parsed => parsed,
    };
    match parsed {
        Ok(head) => Ok(Ok(head)),
        Err(Rejection::Status(status)) => Ok(Err(status)),
        Err(Rejection::NonGrpc(non_grpc)) => Err(non_grpc),
    }
}

fn response_to(parts: &request::Parts, non_grpc: NonGrpc) -> Response<Bytes> {
    let path = for_log(parts.uri.path());
    tracing::debug!(path = &*path, ?non_grpc, "the request is not gRPC");
    let mut response = non_grpc.into_response();
    if parts.method == Method::HEAD {
        // RFC 9110, 9.3.2: a response to HEAD has no content.
        response.body_mut().clear();
    }
    response
}

fn path(parts: &request::Parts) -> &str {
    parts.uri.path_and_query().map_or("", |path| path.as_str())
}

/// The `:authority`, or else the `host`.
fn authority(parts: &request::Parts) -> Option<Authority> {
    match parts.uri.authority() {
        Some(authority) => Some(authority.clone()),
        None => parts.headers.get(HOST)?.to_str().ok()?.parse().ok(),
    }
}

/// The result of one pass over the headers of a request.
struct HeaderScan<'h> {
    /// Bytes of memory: the text, the table with its spare capacity, and extra entries for repeated
    /// names. These are in a vector that doubles when it grows.
    memory: usize,
    content_length: Option<&'h HeaderValue>,
    has_host: bool,
}

impl<'h> HeaderScan<'h> {
    fn of(headers: &'h HeaderMap) -> Self {
        const ENTRY: usize = 112;
        const REPEATED: usize = 144;
        let repeated = headers.len() - headers.keys_len();
        let memory = headers.capacity() * ENTRY + repeated * REPEATED;
        let mut scan = Self { memory, content_length: None, has_host: false };
        for (name, value) in headers {
            let name = name.as_str();
            scan.memory += name.len() + value.len();
            match name {
                "content-length" => scan.content_length = Some(value),
                "host" => scan.has_host = true,
                _ => {}
            }
        }
        scan
    }
}
