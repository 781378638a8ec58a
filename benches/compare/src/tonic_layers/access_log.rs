//! A correlation id, and one line for each call, at its end.

use std::net::SocketAddr;
use std::time::Instant;

use http::{HeaderValue, Request};
use tonic::body::Body;
use tonic::transport::server::TcpConnectInfo;
use tonic::{Code, Status};
use uuid::Uuid;

use super::{Watch, Watcher, code};

const X_REQUEST_ID: &str = "x-request-id";

#[derive(Clone)]
pub struct AccessLog;

/// What is known of a call at its start.
pub struct Line {
    start: Instant,
    method: String,
    peer: Option<SocketAddr>,
    id: HeaderValue,
}

impl Watcher for AccessLog {
    type Watch = Line;

    fn begin(&self, request: &Request<Body>) -> Line {
        let peer = request.extensions().get::<TcpConnectInfo>().and_then(|info| info.remote_addr());
        let id = request.headers().get(X_REQUEST_ID).cloned();
        Line {
            start: Instant::now(),
            method: request.uri().path().to_owned(),
            peer,
            id: id.unwrap_or_else(|| {
                HeaderValue::try_from(Uuid::now_v7().to_string()).expect("a UUID is ASCII")
            }),
        }
    }
}

impl Watch for Line {
    fn header(&self) -> Option<(&'static str, HeaderValue)> {
        Some((X_REQUEST_ID, self.id.clone()))
    }

    fn end(&mut self, status: Option<Status>) {
        let code = code(status.as_ref());
        let error = status.as_ref().map(Status::message).filter(|_| code != Code::Ok);
        tracing::info!(
            target: "access",
            method = self.method,
            peer = self.peer.map(tracing::field::display),
            status = ?code,
            error,
            duration_us = self.start.elapsed().as_micros() as u64,
            correlation_id = self.id.to_str().unwrap_or_default(),
            "call"
        );
    }
}
