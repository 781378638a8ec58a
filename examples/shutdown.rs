//! Graceful shutdown, in a runtime of your own.
//!
//! Run it:  `cargo run --example shutdown`
//! Call it: `grpcurl -plaintext -d '{"name": "Alice"}' localhost:50051 greeter.Greeter/SayHello`
//!
//! The call takes two seconds. Press Ctrl-C in the server's terminal meanwhile: the call still gets
//! its answer, and then the server stops. SIGTERM does the same.

use std::time::Duration;

use balafon::services::health::{Health, ServingStatus};
use balafon::services::reflection;
use balafon::{
    Listeners, Request, Response, Router, Server, Status, exit_at_next_signal, shutdown_signal,
};

use pb::{Greeter, HelloReply, HelloRequest};

mod pb {
    balafon::include_proto!("greeter");
}

struct Slow;

impl Greeter for Slow {
    async fn say_hello(
        &self,
        request: Request<HelloRequest>,
    ) -> Result<Response<HelloReply>, Status> {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let text = format!("Hello at last, {}!", request.message.name);
        Ok(Response::new(HelloReply { text }))
    }
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:50051".to_owned());
    let health = Health::new();
    health.set(pb::greeter::NAME, ServingStatus::Serving);
    let router = Router::new().add(Slow.into_service()).add(health.service());

    // 1. The first signal. A second one ends the process at once, with the exit code 130.
    let first = shutdown_signal();
    let signal = async {
        first.await;
        println!("stopping");
        exit_at_next_signal(|| ());
    };
    // 2. Health is NOT_SERVING for a second, so that load balancers turn to other servers.
    let shutdown = health.lame_duck(signal, Duration::from_secs(1));
    // 3. Clients get GOAWAY. Open calls have ten seconds to end; then they are UNAVAILABLE.
    let server = Server::new().drain_timeout(Duration::from_secs(10));

    let mut listeners = Listeners::new();
    listeners.bind(&address).await?;
    println!("listening on {address}");
    server.serve(listeners, reflection::reflect(router), shutdown).await?;

    // 4. No call is open any more: close databases, flush logs.
    println!("stopped");
    Ok(())
}
