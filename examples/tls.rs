//! TLS with client certificates.
//!
//! Make an authority, and a certificate for the server and for a client:
//!
//! ```text
//! openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -days 30 \
//!     -subj /CN=authority -keyout ca.key -out ca.pem
//! for name in localhost client; do
//!     openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -days 30 \
//!         -CA ca.pem -CAkey ca.key -subj /CN=$name -addext subjectAltName=DNS:$name \
//!         -addext basicConstraints=critical,CA:FALSE -keyout $name.key -out $name.pem
//! done
//! ```
//!
//! Run it: `cargo run --example tls -- localhost.pem localhost.key ca.pem`
//! Call it:
//!
//! ```text
//! grpcurl -cacert ca.pem -cert client.pem -key client.key -d '{"name": "Alice"}' \
//!     localhost:50051 greeter.Greeter/SayHello
//! ```

use std::error::Error;

use balafon::services::reflection;
use balafon::{ClientCertificate, Request, Response, Router, Server, Status, Tls};

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
        // In DER; TLS has verified the first one. See the example `auth` for roles: the same
        // interceptor also maps the names of certificates to roles.
        let certificates = request.peer().certificates().len();
        let name = &request.message.name;
        let text = format!("Hello, {name}! Certificates received: {certificates}.");
        Ok(Response::new(HelloReply { text }))
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [certificate, key, client_ca, rest @ ..] = &arguments[..] else {
        return Err("usage: tls CERTIFICATE KEY CLIENT_CA [ADDRESS]".into());
    };
    let address = rest.first().map_or("127.0.0.1:50051", String::as_str);

    // Clients without a certificate of this authority fail in the handshake. To renew certificates
    // without a restart, give the server a `SharedTls` and call its `replace`.
    let tls = Tls::from_pem(&std::fs::read(certificate)?, &std::fs::read(key)?)?
        .client_ca(&std::fs::read(client_ca)?, ClientCertificate::Required)?;

    let router = reflection::reflect(Router::new().add(Hello.into_service()));
    println!("listening on {address}");
    Server::new().tls(tls).run(address, router)?;
    Ok(())
}
