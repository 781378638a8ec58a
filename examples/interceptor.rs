//! Interceptors: one logs each call, the other checks metadata and passes a value to handlers.
//!
//! Run it: `cargo run --example interceptor`
//! Call it:
//!
//! ```text
//! grpcurl -plaintext -H 'x-tenant: acme' -d '{"name": "Alice"}' \
//!     localhost:50051 greeter.Greeter/SayHello
//! ```

use balafon::services::reflection;
use balafon::{
    AsciiKey, Call, Interceptor, Next, Outcome, Request, Response, Router, Server, Status,
};

use pb::{Greeter, HelloReply, HelloRequest};

mod pb {
    balafon::include_proto!("greeter");
}

/// Prints one line for each call.
struct Log;

impl Interceptor for Log {
    async fn intercept(&self, call: Call, next: Next<'_>) -> Outcome {
        let (method, started) = (call.method(), call.started());
        // Returns when the call has ended, also for streams, cancelled calls and passed deadlines.
        let outcome = next.run(call).await;
        let code = outcome.status.code();
        println!("{} ended with {code:?} after {:?}", method.path, started.elapsed());
        outcome
    }
}

/// The customer on whose behalf a call is made.
#[derive(Clone)]
struct Tenant(String);

static X_TENANT: AsciiKey = AsciiKey::from_static("x-tenant");

/// Requires `x-tenant` for the methods of the greeter.
struct RequireTenant;

impl Interceptor for RequireTenant {
    async fn intercept(&self, mut call: Call, next: Next<'_>) -> Outcome {
        if call.method().path.starts_with("/greeter.Greeter/") {
            let Some(tenant) = call.metadata().get(&X_TENANT) else {
                // The handler does not run.
                return Status::invalid_argument("the metadata has no x-tenant").into();
            };
            let tenant = Tenant(tenant.to_owned());
            call.extensions_mut().insert(tenant);
        }
        next.run(call).await
    }
}

struct Hello;

impl Greeter for Hello {
    async fn say_hello(
        &self,
        request: Request<HelloRequest>,
    ) -> Result<Response<HelloReply>, Status> {
        let Some(Tenant(tenant)) = request.extensions().get() else {
            return Err(Status::internal("the interceptor RequireTenant is missing"));
        };
        let text = format!("Hello, {} of {tenant}!", request.message.name);
        Ok(Response::new(HelloReply { text }))
    }
}

fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:50051".to_owned());
    // The first is the outermost: the log also has the calls that the second refuses.
    let router = Router::new().intercept(Log).intercept(RequireTenant).add(Hello.into_service());
    println!("listening on {address}");
    Server::new().run(address, reflection::reflect(router))
}
