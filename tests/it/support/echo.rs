//! A service without code generation that follows the commands of a test.

use std::future::pending;
use std::sync::Arc;

use balafon::google::rpc::ErrorInfo;
use balafon::{AsciiKey, Metadata, Request, Response, Rpc, Service, Sink, Status, Streaming};
use tokio::sync::{Notify, watch};

pub static UNARY: Rpc<String, String> = Rpc::unary("/test.Echo/Unary");
pub static SERVER: Rpc<String, String> = Rpc::server_streaming("/test.Echo/Server");
pub static CLIENT: Rpc<String, String> = Rpc::client_streaming("/test.Echo/Client");
pub static BIDI: Rpc<String, String> = Rpc::bidi_streaming("/test.Echo/Bidi");

pub static X_INITIAL: AsciiKey = AsciiKey::from_static("x-initial");
pub static X_TRAILING: AsciiKey = AsciiKey::from_static("x-trailing");

/// Echoes requests. The first word of a message may be a command:
///
/// - `panic`: the handler panics;
/// - `wait`: it waits for ever;
/// - `fail`: it returns NOT_FOUND "gone" with a detail and trailing metadata;
/// - `metadata`: it sets initial and trailing metadata;
/// - `count N` (server streaming): it sends N messages `0`, `1`, ...;
/// - `until told` (unary): it waits for [`Echo::tell`];
/// - `plain call` (unary), `plain message` (server streaming): it asks for no compression;
/// - `flood`: it sends messages of 1 KiB without end.
#[derive(Clone, Default)]
pub struct Echo {
    running: watch::Sender<usize>,
    told: Arc<Notify>,
}

struct Running<'a>(&'a Echo);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.send_modify(|running| *running -= 1);
    }
}

impl Echo {
    pub fn service(&self) -> Service {
        Service::builder("test.Echo", &[], self.clone())
            .unary(&UNARY, |echo, request| async move { echo.unary(request).await })
            .server_streaming(&SERVER, |echo, request, out| async move {
                echo.server(request, out).await
            })
            .client_streaming(&CLIENT, |echo, request| async move { echo.client(request).await })
            .bidi_streaming(
                &BIDI,
                |echo, request, out| async move { echo.bidi(request, out).await },
            )
            .build()
    }

    /// Waits until exactly this many handlers are running.
    pub async fn until_running(&self, count: usize) {
        let mut running = self.running.subscribe();
        super::patiently(running.wait_for(|running| *running == count)).await.unwrap();
    }

    /// The number of running handlers.
    pub fn running(&self) -> usize {
        *self.running.borrow()
    }

    pub fn tell(&self) {
        self.told.notify_one();
    }

    fn run(&self) -> Running<'_> {
        self.running.send_modify(|running| *running += 1);
        Running(self)
    }

    async fn unary(&self, mut request: Request<String>) -> Result<Response<String>, Status> {
        let _running = self.run();
        match request.message.as_str() {
            "until told" => self.told.notified().await,
            "plain call" => request.disable_compression(),
            _ => {}
        }
        obey(&request.message).await?;
        let mut response = Response::new(request.message);
        if response.message == "metadata" {
            response.metadata.insert(&X_INITIAL, 1);
            response.trailers.insert(&X_TRAILING, 2);
        }
        Ok(response)
    }

    async fn server(&self, request: Request<String>, mut out: Sink<String>) -> Result<(), Status> {
        let _running = self.run();
        match request.message.split_once(' ') {
            Some(("count", count)) => {
                for number in 0..count.parse().unwrap() {
                    out.send(u64::to_string(&number)).await?;
                }
            }
            _ if request.message == "flood" => loop {
                out.send("f".repeat(1024)).await?;
            },
            _ if request.message == "plain message" => {
                out.send_uncompressed(&request.message).await?;
            }
            _ if request.message == "metadata" => {
                out.metadata_mut().insert(&X_INITIAL, 1);
                out.trailers_mut().insert(&X_TRAILING, 2);
            }
            _ => {
                out.send(&request.message).await?;
                obey(&request.message).await?;
            }
        }
        Ok(())
    }

    async fn client(
        &self,
        mut request: Request<Streaming<String>>,
    ) -> Result<Response<String>, Status> {
        let _running = self.run();
        let mut all = Vec::new();
        while let Some(message) = request.message.message().await? {
            obey(&message).await?;
            all.push(message);
        }
        Ok(Response::new(all.join(" ")))
    }

    async fn bidi(
        &self,
        mut request: Request<Streaming<String>>,
        mut out: Sink<String>,
    ) -> Result<(), Status> {
        let _running = self.run();
        while let Some(message) = request.message.message().await? {
            obey(&message).await?;
            out.send(message).await?;
        }
        Ok(())
    }
}

async fn obey(message: &str) -> Result<(), Status> {
    match message {
        "panic" => panic!("as asked"),
        "wait" => pending().await,
        "fail" => {
            let mut trailers = Metadata::new();
            trailers.insert(&X_TRAILING, 2);
            Err(Status::not_found("gone")
                .with_detail(&ErrorInfo::new("GONE", "test"))
                .with_metadata(trailers))
        }
        _ => Ok(()),
    }
}
