//! An issuer that publishes its keys by HTTPS, on a thread of its own, because a server waits for
//! it at its start.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::collector::acceptor;
use super::patiently;
use crate::tls::Identity;

/// The answer to requests.
#[derive(Clone)]
struct Published {
    status: u16,
    body: String,
    cache_control: Option<&'static str>,
}

pub struct Issuer {
    addr: SocketAddr,
    published: Arc<Mutex<Published>>,
    requests: watch::Receiver<usize>,
}

impl Issuer {
    /// An issuer with this certificate, which answers with a failure until it has published keys.
    pub fn with(identity: &Identity) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let addr = listener.local_addr().unwrap();
        let published = Published { status: 503, body: String::new(), cache_control: None };
        let published = Arc::new(Mutex::new(published));
        let (counted, requests) = watch::channel(0);
        let (counted, answers, tls) = (Arc::new(counted), published.clone(), acceptor(identity));
        let serve = async move {
            let listener = TcpListener::from_std(listener).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                // A client with another trust store closes the connection.
                let Ok(stream) = tls.accept(stream).await else { continue };
                let (counted, answers) = (counted.clone(), answers.clone());
                let service = service_fn(move |_| {
                    let answer = respond(&answers.lock().unwrap());
                    counted.send_modify(|count| *count += 1);
                    async { Ok::<_, Infallible>(answer) }
                });
                let served = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                tokio::spawn(served);
            }
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        // It ends with the tests.
        std::thread::spawn(move || runtime.block_on(serve));
        Self { addr, published, requests }
    }

    pub fn url(&self) -> String {
        format!("https://{}/jwks.json", self.addr)
    }

    pub fn publish(&self, keys: &[Value]) {
        let mut published = self.published.lock().unwrap();
        (published.status, published.body) = (200, json!({"keys": keys}).to_string());
    }

    pub fn answer(&self, status: u16, body: &str) {
        let mut published = self.published.lock().unwrap();
        (published.status, published.body) = (status, body.to_owned());
    }

    pub fn cache_control(&self, value: &'static str) {
        self.published.lock().unwrap().cache_control = Some(value);
    }

    /// The number of requests so far.
    pub fn requests(&self) -> usize {
        *self.requests.borrow()
    }

    /// Waits for this many more requests.
    pub async fn asked(&mut self, times: usize) {
        let enough = self.requests() + times;
        patiently(self.requests.wait_for(|count| *count >= enough)).await.unwrap();
    }
}

fn respond(published: &Published) -> Response<Full<Bytes>> {
    let mut response = Response::builder().status(published.status);
    if let Some(value) = published.cache_control {
        response = response.header("cache-control", value);
    }
    response.body(Full::from(published.body.clone())).unwrap()
}
