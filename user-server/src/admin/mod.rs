//! The admin endpoint: HTTP for Prometheus, orchestrators and operators.

mod slots;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus::{Registry, TEXT_FORMAT, TextEncoder};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

use self::slots::{Slot, Slots};
use crate::start_error::StartError;
use balafon::services::health::{Health, ServingStatus};

/// The time limit of a connection, from `accept` to the last byte of its only response. It covers clients
/// that stall while sending or reading. Prometheus waits as long for a scrape by default.
const TIME_LIMIT: Duration = Duration::from_secs(10);

/// The time limit for the request line and the headers. It leaves room for two lost packets: TCP sends a
/// packet again after one second, and then after two.
const HEAD_TIME_LIMIT: Duration = Duration::from_secs(5);

/// The maximum size of the request line and the headers, in bytes: the minimum that hyper accepts.
const MAX_HEAD: usize = 8 * 1024;

/// The pause after a failed `accept`, such as for lack of file descriptors, as for calls.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

const PLAIN: &str = "text/plain; charset=utf-8";

/// The sources of the endpoint's answers.
pub(super) struct Admin {
    pub(super) registry: Registry,
    pub(super) health: Health,
    /// The server is ready if all of these are SERVING.
    pub(super) services: &'static [&'static str],
}

impl Admin {
    /// Serves on `address` for the lifetime of the runtime, also in a drain. Returns the actual address.
    pub(super) async fn start(self, address: &str) -> Result<SocketAddr, StartError> {
        let cannot = |error| {
            let context = format_args!("--admin-listen: cannot listen on {address}");
            StartError::caused_by(context, error)
        };
        let listener = TcpListener::bind(address).await.map_err(cannot)?;
        let address = listener.local_addr().map_err(cannot)?;
        tokio::spawn(Arc::new(self).serve(listener));
        Ok(address)
    }

    async fn serve(self: Arc<Self>, listener: TcpListener) {
        let slots = Arc::new(Slots::default());
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => slots.admit(peer.ip(), |slot| {
                    let admin = self.clone();
                    async move {
                        match timeout(TIME_LIMIT, admin.serve_connection(stream, slot)).await {
                            Ok(Ok(())) => {}
                            Ok(Err(error)) => {
                                tracing::debug!(%peer, %error, "admin request failed")
                            }
                            Err(_) => tracing::debug!(%peer, "admin request timed out"),
                        }
                    }
                }),
                Err(error) => {
                    tracing::debug!(%error, "cannot accept an admin connection; retrying");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn serve_connection(&self, stream: TcpStream, slot: Slot) -> hyper::Result<()> {
        let answer = |request| {
            slot.has_request();
            async move { Ok::<_, Infallible>(self.answer(&request)) }
        };
        http1::Builder::new()
            // One request per connection, so that one time limit covers everything a client does.
            .keep_alive(false)
            .max_buf_size(MAX_HEAD)
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIME_LIMIT)
            .serve_connection(TokioIo::new(stream), service_fn(answer))
            .await
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<String> {
        let respond = match request.uri().path() {
            "/metrics" => Self::metrics,
            "/healthz" => |_: &Self| response(StatusCode::OK, PLAIN, "ok\n"),
            "/readyz" => Self::readiness,
            "/version" => |_: &Self| {
                let version = env!("CARGO_PKG_VERSION");
                let json = format!("{{\"name\":\"user-server\",\"version\":\"{version}\"}}\n");
                response(StatusCode::OK, "application/json", json)
            },
            _ => {
                let text = "not found; the paths are /metrics, /healthz, /readyz and /version\n";
                return response(StatusCode::NOT_FOUND, PLAIN, text);
            }
        };
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut refusal = response(StatusCode::METHOD_NOT_ALLOWED, PLAIN, "use GET or HEAD\n");
            refusal.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return refusal;
        }
        respond(self)
    }

    fn metrics(&self) -> Response<String> {
        match TextEncoder::new().encode_to_string(&self.registry.gather()) {
            Ok(text) => response(StatusCode::OK, TEXT_FORMAT, text),
            Err(error) => {
                tracing::error!(%error, "cannot write the metrics");
                let why = "cannot write the metrics; the log has the error\n";
                response(StatusCode::INTERNAL_SERVER_ERROR, PLAIN, why)
            }
        }
    }

    /// Whether the server is ready for calls. It is not once a shutdown has begun.
    fn readiness(&self) -> Response<String> {
        let not_serving = |service: &&&str| self.health.status(service) != ServingStatus::Serving;
        match self.services.iter().find(not_serving) {
            None => response(StatusCode::OK, PLAIN, "SERVING\n"),
            Some(&service) => {
                let status = self.health.status(service).as_str_name();
                let of = if service.is_empty() { "the server" } else { service };
                response(StatusCode::SERVICE_UNAVAILABLE, PLAIN, format!("{status}: {of}\n"))
            }
        }
    }
}

fn response(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<String>,
) -> Response<String> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpSocket;

    use super::*;

    const HEALTHZ: &[u8] = b"GET /healthz HTTP/1.1\r\n\r\n";

    async fn start() -> SocketAddr {
        let admin = Admin { registry: Registry::new(), health: Health::new(), services: &[""] };
        admin.start("127.0.0.1:0").await.unwrap()
    }

    async fn connect(address: SocketAddr) -> TcpStream {
        TcpStream::connect(address).await.unwrap()
    }

    /// Reads until the connection is closed or lost.
    async fn answer(mut stream: TcpStream) -> String {
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer).await;
        answer
    }

    async fn ask(mut stream: TcpStream) -> String {
        stream.write_all(HEALTHZ).await.unwrap();
        answer(stream).await
    }

    #[tokio::test]
    async fn admin_answers_despite_silent_connections() {
        let address = start().await;
        let mut silent = Vec::new();
        for _ in 0..2 * slots::MAX_CONNECTIONS {
            silent.push(connect(address).await);
        }
        assert!(ask(connect(address).await).await.ends_with("ok\n"));
        // The answer did not wait for the silent connections to time out.
        let newest = silent.last().unwrap().try_read(&mut [0]);
        assert_eq!(newest.unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    }

    #[cfg(target_os = "linux")] // All of 127.0.0.0/8 is the machine's own.
    #[tokio::test]
    async fn admin_keeps_connections_of_other_addresses() {
        let address = start().await;
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        let other = socket.connect(address).await.unwrap();
        let mut idle = Vec::new();
        for _ in 0..2 * slots::MAX_CONNECTIONS {
            idle.push(connect(address).await);
        }
        assert!(ask(connect(address).await).await.ends_with("ok\n"));
        assert!(ask(other).await.ends_with("ok\n"));
    }

    #[tokio::test(start_paused = true)]
    async fn admin_closes_connections_without_a_request() {
        let address = start().await;
        for part in [0, 1, HEALTHZ.len() - 1] {
            let started = tokio::time::Instant::now();
            let mut stream = connect(address).await;
            stream.write_all(&HEALTHZ[..part]).await.unwrap();
            assert!(!answer(stream).await.contains("200"));
            let time = started.elapsed();
            assert!((HEAD_TIME_LIMIT..TIME_LIMIT).contains(&time), "{part} bytes: {time:?}");
        }
    }
}
