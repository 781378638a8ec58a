//! HTTP for those who operate the server: Prometheus, orchestrators, people with curl.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use prometheus::{Registry, TEXT_FORMAT, TextEncoder};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use super::StartError;
use crate::services::health::{Health, ServingStatus};

/// Connections at a time; more wait. A Prometheus or two, the probes of an orchestrator, people.
const MAX_CONNECTIONS: usize = 32;

/// From `accept` to the last byte of the one response that a connection gets, for clients that stall
/// on either way: as long as Prometheus waits for a scrape by default.
const TIME_LIMIT: Duration = Duration::from_secs(10);

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
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        while let Ok(place) = places.clone().acquire_owned().await {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    let admin = self.clone();
                    tokio::spawn(async move {
                        let _place = place;
                        match timeout(TIME_LIMIT, admin.serve_connection(stream)).await {
                            Ok(Ok(())) => {}
                            Ok(Err(error)) => {
                                tracing::debug!(%peer, %error, "admin request failed")
                            }
                            Err(_) => tracing::debug!(%peer, "admin request timed out"),
                        }
                    });
                }
                Err(error) => {
                    tracing::debug!(%error, "cannot accept an admin connection, trying again");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn serve_connection(&self, stream: TcpStream) -> hyper::Result<()> {
        let answer = |request| async move { Ok::<_, Infallible>(self.answer(&request)) };
        http1::Builder::new()
            // One request each: so the time limit is one for all that a client may do.
            .keep_alive(false)
            .max_buf_size(MAX_HEAD)
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
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn answer_to(request: &str, address: SocketAddr) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test(start_paused = true)]
    async fn clients_that_stall_give_up_their_places_in_time() {
        let admin = Admin { registry: Registry::new(), health: Health::new(), services: &[""] };
        let address = admin.start("127.0.0.1:0").await.unwrap();
        let started = tokio::time::Instant::now();
        let mut stalled = Vec::new();
        for _ in 0..MAX_CONNECTIONS {
            stalled.push(tokio::spawn(answer_to("GET /healthz HT", address)));
        }
        assert!(answer_to("GET /healthz HTTP/1.1\r\n\r\n", address).await.ends_with("ok\n"));
        for client in stalled {
            assert_eq!(client.await.unwrap(), "");
        }
        assert!(started.elapsed() >= TIME_LIMIT);
    }
}
