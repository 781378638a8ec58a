//! Bearer tokens (JWT), roles and permissions.
//!
//! Run it:
//!
//! ```text
//! (umask 077; head -c 48 /dev/urandom | base64 >secret)
//! cargo run --example auth -- secret
//! ```
//!
//! It prints a token for trying it out. Call it with that token:
//!
//! ```text
//! grpcurl -plaintext -H "authorization: Bearer $TOKEN" -d '{"name": "Alice"}' \
//!     localhost:50051 greeter.Greeter/SayHello
//! ```

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use balafon::interceptors::auth::{Auth, DevelopmentToken, KeyFile, Permissions, Principal};
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
        // The interceptor puts the principal into the call's extensions.
        let caller = request.extensions().get::<Principal>().map_or("unknown", Principal::name);
        let text = format!("Hello, {}! You call as {caller}.", request.message.name);
        Ok(Response::new(HelloReply { text }))
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let secret = arguments.next().ok_or("usage: auth SECRET_FILE [ADDRESS]")?;
    let address = arguments.next().unwrap_or("127.0.0.1:50051".to_owned());

    // In production an issuer signs the tokens: use `KeyFile::jwks`, or `AuthBuilder::jwks_url`.
    let keys = KeyFile::secret(&secret);
    let token = DevelopmentToken::new("alice", Duration::from_secs(3600)).roles(["greeted"]);
    println!("token: {}", token.sign(Path::new(&secret), "HS256")?);

    // Every method that no line allows is denied.
    let permissions = Permissions::new()
        .open("*/ServerReflectionInfo")?
        .role("greeted", ["greeter.Greeter/SayHello"])?;
    let auth = Auth::builder().keys(keys).permissions(permissions).build()?;

    let router = Router::new().intercept(auth).add(Hello.into_service());
    println!("listening on {address}");
    Server::new().run(address, reflection::reflect(router))?;
    Ok(())
}
