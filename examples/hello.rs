//! A unary method, an error with details, health and reflection.
//!
//! Run it:  `cargo run --example hello`
//! Call it: `grpcurl -plaintext -d '{"name": "Alice"}' localhost:50051 greeter.Greeter/SayHello`

use balafon::google::rpc::BadRequest;
use balafon::services::health::{Health, ServingStatus};
use balafon::services::reflection;
use balafon::{Request, Response, Router, Server, Status};

use pb::{Greeter, HelloReply, HelloRequest};

mod pb {
    balafon::include_proto!("greeter");
}

struct Hello;

impl Greeter for Hello {
    async fn say_hello(
        &self,
        request: Request<HelloRequest>,
    ) -> Result<Response<HelloReply>, Status> {
        let name = &request.message.name;
        if name.is_empty() {
            let detail = BadRequest::new().violation("name", "must not be empty");
            return Err(Status::invalid_argument("the name is empty").with_detail(&detail));
        }
        Ok(Response::new(HelloReply { text: format!("Hello, {name}!") }))
    }
}

fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:50051".to_owned());
    let health = Health::new();
    health.set(pb::greeter::NAME, ServingStatus::Serving);
    let router = Router::new().add(Hello.into_service()).add(health.service());
    // Reflection comes last: it describes the services that the router has by then.
    let router = reflection::reflect(router);
    println!("listening on {address}");
    Server::new().run(address, router) // until SIGINT or SIGTERM
}
