//! HTTP for those who operate the server: Prometheus, orchestrators, people with curl.

mod room;

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

use self::room::{Place, Room};
use super::StartError;
use balafon::services::health::{Health, ServingStatus};

/// From `accept` to the last byte of the one response that a connection gets, for clients that stall
/// on either way: as long as Prometheus waits for a scrape by default.
const TIME_LIMIT: Duration = Duration::from_secs(10);

/// For a request's line and headers to arrive: a connection that sends nothing is closed after this. A
/// lost packet is sent again within a second, and then within two.
const HEAD_TIME_LIMIT: Duration = Duration::from_secs(5);

/// For a request's line and headers: what hyper takes as the least.
const MAX_HEAD: usize = 8 * 1024;

/// See `Listener` of the server, where calls come in.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

const PLAIN: &str = "text/plain; charset=utf-8";

/// What the endpoint tells.
pub(super) struct Admin {
    pub(super) registry: Registry,
    pub(super) health: Health,
    /// Those that have to be SERVING for the server to be ready.
    pub(super) services: &'static [&'static str],
}

impl Admin {
    /// Answers on `address` for as long as the runtime lives, also in a drain. Gives the address
    /// that it is.
    pub(super) async fn start(self, address: &str) -> Result<SocketAddr, StartError> {
        let cannot =
            |error| StartError(format!("--admin-listen: cannot listen on {address}: {error}"));
        let listener = TcpListener::bind(address).await.map_err(cannot)?;
        let address = listener.local_addr().map_err(cannot)?;
        tokio::spawn(Arc::new(self).serve(listener));
        Ok(address)
    }

    async fn serve(self: Arc<Self>, listener: TcpListener) {
        let room = Arc::new(Room::default());
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => room.admit(peer.ip(), |place| {
                    let admin = self.clone();
                    async move {
                        match timeout(TIME_LIMIT, admin.serve_connection(stream, place)).await {
                            Ok(Ok(())) => {}
                            Ok(Err(error)) => {
                                tracing::debug!(%peer, %error, "admin request failed")
                            }
                            Err(_) => tracing::debug!(%peer, "admin request timed out"),
                        }
                    }
                }),
                Err(error) => {
                    tracing::debug!(%error, "cannot accept an admin connection, trying again");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn serve_connection(&self, stream: TcpStream, place: Place) -> hyper::Result<()> {
        let answer = |request| {
            place.has_request();
            async move { Ok::<_, Infallible>(self.answer(&request)) }
        };
        http1::Builder::new()
            // One request each: so the time limit is one for all that a client may do.
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
                let there_is = "there is /metrics, /healthz, /readyz and /version\n";
                return response(StatusCode::NOT_FOUND, PLAIN, there_is);
            }
        };
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut refusal = response(StatusCode::METHOD_NOT_ALLOWED, PLAIN, "GET or HEAD\n");
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
                let why = "the metrics cannot be written; the log says why\n";
                response(StatusCode::INTERNAL_SERVER_ERROR, PLAIN, why)
            }
        }
    }

    /// Whether calls are welcome: not from the moment on at which a shutdown begins.
    fn readiness(&self) -> Response<String> {
        let waiting = |service: &&&str| self.health.status(service) != ServingStatus::Serving;
        match self.services.iter().find(waiting) {
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

    /// What comes back until the connection is closed, or lost.
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
    async fn admin_answers_beside_connections_that_are_silent() {
        let address = start().await;
        let mut silent = Vec::new();
        for _ in 0..2 * room::MAX_CONNECTIONS {
            silent.push(connect(address).await);
        }
        assert!(ask(connect(address).await).await.ends_with("ok\n"));
        // It has not waited for them to time out.
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
        for _ in 0..2 * room::MAX_CONNECTIONS {
            idle.push(connect(address).await);
        }
        assert!(ask(connect(address).await).await.ends_with("ok\n"));
        assert!(ask(other).await.ends_with("ok\n"));
    }

    #[tokio::test(start_paused = true)]
    async fn admin_closes_connections_that_send_no_request() {
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
