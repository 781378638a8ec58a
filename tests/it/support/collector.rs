//! A collector of traces in this process.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use balafon::interceptors::traces::{Endpoint, Exporter, Resource};
use balafon::prost::Message;
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::patiently;
use crate::tls::Identity;

/// The answer of a collector to a request.
#[derive(Clone, Copy, Default)]
pub enum Answer {
    #[default]
    Accepted,
    /// Accepts all spans but one.
    InPart,
    Status(u16),
    /// Asks for another attempt after this many seconds.
    RetryAfter(&'static str),
}

type Sender = mpsc::UnboundedSender<(HeaderMap, Bytes)>;

/// Gives these answers in turn, and then accepts everything.
pub struct Collector {
    addr: SocketAddr,
    listener: Option<TcpListener>,
    received: mpsc::UnboundedReceiver<(HeaderMap, Bytes)>,
    sender: Sender,
}

impl Collector {
    pub async fn start() -> Self {
        Self::answering([]).await
    }

    pub async fn answering(answers: impl Into<Vec<Answer>>) -> Self {
        let mut collector = Self::stopped().await;
        collector.go_on(answers);
        collector
    }

    /// Accepts connections, but reads nothing.
    pub async fn stopped() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (sender, received) = mpsc::unbounded_channel();
        Self { addr, listener: Some(listener), received, sender }
    }

    /// A collector behind TLS.
    pub async fn with(identity: &Identity) -> Self {
        let mut collector = Self::stopped().await;
        let listener = collector.listener.take().expect("it is stopped");
        let (sender, tls) = (collector.sender.clone(), acceptor(identity));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // A client with another trust store closes the connection.
                if let Ok(stream) = tls.accept(stream).await {
                    serve(stream, Answer::Accepted, &sender);
                }
            }
        });
        collector
    }

    pub fn go_on(&mut self, answers: impl Into<Vec<Answer>>) {
        let listener = self.listener.take().expect("it is stopped");
        let (sender, mut answers) = (self.sender.clone(), answers.into().into_iter());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                serve(stream, answers.next().unwrap_or_default(), &sender);
            }
        });
    }

    pub fn port(&self) -> u16 {
        self.addr.port()
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    pub fn exporter(&self) -> Exporter {
        let endpoint: Endpoint = self.url().parse().unwrap();
        Exporter::start(endpoint, Resource::new("test")).unwrap()
    }

    /// The next request with its head and body.
    pub async fn bytes(&mut self) -> Bytes {
        self.headers_and_bytes().await.1
    }

    pub async fn headers_and_bytes(&mut self) -> (HeaderMap, Bytes) {
        patiently(self.received.recv()).await.unwrap()
    }

    pub async fn request(&mut self) -> ExportTraceServiceRequest {
        ExportTraceServiceRequest::decode(self.bytes().await).unwrap()
    }

    /// The spans of the next request.
    pub async fn spans(&mut self) -> Vec<Span> {
        spans(self.request().await)
    }

    /// The spans of all requests so far.
    pub fn spans_so_far(&mut self) -> Vec<Span> {
        let mut all = Vec::new();
        while let Ok((_, bytes)) = self.received.try_recv() {
            all.extend(spans(ExportTraceServiceRequest::decode(bytes).unwrap()));
        }
        all
    }
}

pub fn acceptor(identity: &Identity) -> TlsAcceptor {
    let chain = CertificateDer::pem_slice_iter(identity.chain.as_bytes());
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain.map(Result::unwrap).collect(), key)
        .unwrap();
    Arc::new(config).into()
}

fn serve<S>(stream: S, answer: Answer, received: &Sender)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let received = Arc::new(received.clone());
    let service = service_fn(move |request| respond(request, answer, received.clone()));
    tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
}

async fn respond(
    request: Request<Incoming>,
    answer: Answer,
    received: Arc<Sender>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    assert_eq!((request.method().as_str(), request.uri().path()), ("POST", "/v1/traces"));
    assert_eq!(request.headers()["content-type"], "application/x-protobuf");
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let _ = received.send((head.headers, body));
    let mut success = ExportTraceServiceResponse::default();
    let mut status = StatusCode::OK;
    match answer {
        Answer::Accepted => {}
        Answer::InPart => {
            let error_message = "one is too odd".to_owned();
            let partial = ExportTracePartialSuccess { rejected_spans: 1, error_message };
            success.partial_success = Some(partial);
        }
        Answer::Status(code) => status = StatusCode::from_u16(code).unwrap(),
        Answer::RetryAfter(_) => status = StatusCode::TOO_MANY_REQUESTS,
    }
    let mut response = Response::new(Full::from(success.encode_to_vec()));
    *response.status_mut() = status;
    if let Answer::RetryAfter(time) = answer {
        response.headers_mut().insert("retry-after", time.parse().unwrap());
    }
    Ok(response)
}

fn spans(request: ExportTraceServiceRequest) -> Vec<Span> {
    let scopes = request.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
    scopes.flat_map(|scope| scope.spans).collect()
}

/// The attribute with this name, as text.
pub fn attribute(attributes: &[KeyValue], key: &str) -> Option<String> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    match found.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        Value::IntValue(number) => Some(number.to_string()),
        other => panic!("{key} is {other:?}"),
    }
}
