//! The server under test for connectconformance: the suite starts one process for each
//! configuration of a server, and calls it with its own clients.

mod answer;
mod compat;
mod service;

use std::error::Error;
use std::process::ExitCode;

use balafon::{
    CallOptions, ClientCertificate, Compression, Http2, Router, Server, Tls, TlsError,
    shutdown_signal,
};
use tokio::net::TcpListener;

use pb::{ConformanceService, ServerCompatRequest, ServerCompatResponse};
use service::Conformance;

mod pb {
    #![allow(dead_code, reason = "the files also define what only the suite itself needs")]

    balafon::include_proto!("connectrpc.conformance.v1");
}

/// Calls of one suite run on several connections: on more than one thread, as in production.
const WORKERS: usize = 2;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("conformance-server: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn Error>> {
    let wanted = compat::read_request()?;
    let server = configure(&wanted)?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    // From here on a signal drains the server: the suite may send one once it has the response.
    let shutdown = shutdown_signal();
    let address = listener.local_addr()?;
    compat::write_response(&ServerCompatResponse {
        host: address.ip().to_string(),
        port: address.port().into(),
        pem_cert: wanted.server_creds.unwrap_or_default().cert,
    })?;
    let router = Router::new().add(Conformance.into_service());
    Ok(server.serve(listener, router, shutdown).await?)
}

fn configure(wanted: &ServerCompatRequest) -> Result<Server, TlsError> {
    // Small answers too, unlike the default: nearly all of the suite's are.
    let compression = Compression::mirror().min_size(0);
    let http2 = std::env::var("USER_SERVER_HTTP2");
    let http2 = http2.map_or(Http2::H2, |name| name.parse().expect("h2 or native"));
    let mut server = Server::new()
        .http2(http2)
        .workers(WORKERS)
        .calls(CallOptions::new().compression(compression));
    if wanted.message_receive_limit > 0 {
        server = server.calls(
            CallOptions::new().max_receive_message_size(wanted.message_receive_limit as usize),
        );
    }
    if wanted.use_tls {
        server = server.tls(tls(wanted)?);
    }
    Ok(server)
}

fn tls(wanted: &ServerCompatRequest) -> Result<Tls, TlsError> {
    let own = wanted.server_creds.clone().unwrap_or_default();
    let tls = Tls::from_pem(&own.cert, &own.key)?;
    if wanted.client_tls_cert.is_empty() {
        return Ok(tls);
    }
    tls.client_ca(&wanted.client_tls_cert, ClientCertificate::Required)
}
