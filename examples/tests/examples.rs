//! Starts each example as its reader would, calls it over the network, and stops it. The tests of
//! `testing.rs` are in that file.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use balafon::prost::Message;
use bytes::{BufMut, Bytes, BytesMut};
use h2::client::SendRequest;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use greeter::{HelloReply, HelloRequest};
use numbers::Number;

#[allow(dead_code)] // The tests need the messages only.
mod greeter {
    balafon::include_proto!("greeter");
}

#[allow(dead_code)]
mod numbers {
    balafon::include_proto!("numbers");
}

const SAY_HELLO: &str = "/greeter.Greeter/SayHello";

/// Longer than a start takes on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// An example that runs.
struct Running {
    process: Child,
    address: SocketAddr,
}

impl Running {
    /// Starts the example with these arguments and a free address, and waits until it listens.
    async fn start(name: &str, arguments: &[&Path]) -> Self {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let process = Command::new(program(name))
            .args(arguments)
            .arg(address.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut running = Self { process, address };
        let started = Instant::now();
        while TcpStream::connect(address).await.is_err() {
            let ended = running.process.try_wait().unwrap();
            assert!(ended.is_none(), "{name} has ended: {ended:?}");
            assert!(started.elapsed() < PATIENCE, "{name} does not listen");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        running
    }

    async fn client(&self) -> Client {
        Client::over(TcpStream::connect(self.address).await.unwrap()).await
    }

    /// Ends the example as Ctrl-C or a service manager would, and returns its output.
    #[cfg(unix)]
    async fn stop(mut self) -> String {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        let started = Instant::now();
        loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                assert!(status.success(), "{status}");
                break;
            }
            assert!(started.elapsed() < PATIENCE, "it does not stop");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        std::io::read_to_string(self.process.stdout.take().unwrap()).unwrap()
    }

    #[cfg(not(unix))]
    async fn stop(self) {}
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// `cargo test` builds the examples beside this test.
fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let folder = test.parent().and_then(Path::parent).unwrap().join("examples");
    let program = folder.join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    assert!(program.exists(), "no {}: run cargo test without --test", program.display());
    program
}

/// A small gRPC client.
struct Client(SendRequest<Bytes>);

impl Client {
    async fn over<T>(io: T) -> Self
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (client, connection) = h2::client::handshake(io).await.unwrap();
        tokio::spawn(connection);
        Self(client)
    }

    /// Makes a call and returns its answers and the code of its status.
    async fn call<T: Message + Default>(
        &mut self,
        path: &str,
        metadata: &[(&str, &str)],
        messages: &[impl Message],
    ) -> (Vec<T>, String) {
        let mut request = http::Request::post(format!("http://localhost{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        for (name, value) in metadata {
            request = request.header(*name, *value);
        }
        let mut client = self.0.clone().ready().await.unwrap();
        let (response, mut body) = client.send_request(request.body(()).unwrap(), false).unwrap();
        for message in messages {
            body.send_data(framed(message), false).unwrap();
        }
        body.send_data(Bytes::new(), true).unwrap();

        let (head, mut body) = response.await.unwrap().into_parts();
        let mut received = BytesMut::new();
        while let Some(data) = body.data().await {
            let data = data.unwrap();
            body.flow_control().release_capacity(data.len()).unwrap();
            received.put(data);
        }
        let trailers = body.trailers().await.unwrap().unwrap_or(head.headers);
        let status = trailers["grpc-status"].to_str().unwrap().to_owned();
        (unframed(received.freeze()), status)
    }

    async fn hello(&mut self, name: &str, metadata: &[(&str, &str)]) -> (Vec<String>, String) {
        let request = HelloRequest { name: name.to_owned() };
        let (replies, status) = self.call::<HelloReply>(SAY_HELLO, metadata, &[request]).await;
        (replies.into_iter().map(|reply| reply.text).collect(), status)
    }

    async fn numbers(&mut self, method: &str, values: &[i64]) -> (Vec<i64>, String) {
        let path = format!("/numbers.Numbers/{method}");
        let numbers: Vec<Number> = values.iter().map(|&value| Number { value }).collect();
        let (answers, status) = self.call::<Number>(&path, &[], &numbers).await;
        (answers.into_iter().map(|number| number.value).collect(), status)
    }
}

/// The message with its length prefix.
fn framed(message: &impl Message) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(message.encoded_len().try_into().unwrap());
    message.encode(&mut frame).unwrap();
    frame.freeze()
}

fn unframed<T: Message + Default>(mut frames: Bytes) -> Vec<T> {
    let mut messages = Vec::new();
    while !frames.is_empty() {
        let prefix = frames.split_to(5);
        assert_eq!(prefix[0], 0, "no message is compressed");
        let length = u32::from_be_bytes(prefix[1..].try_into().unwrap());
        messages.push(T::decode(frames.split_to(length as usize)).unwrap());
    }
    messages
}

fn answer<T: Clone>(messages: &[T], status: &str) -> (Vec<T>, String) {
    (messages.to_vec(), status.to_owned())
}

fn texts(messages: &[&str], status: &str) -> (Vec<String>, String) {
    let messages: Vec<String> = messages.iter().map(|&text| text.to_owned()).collect();
    answer(&messages, status)
}

#[tokio::test]
async fn hello_greets_and_refuses_an_empty_name() {
    let example = Running::start("hello", &[]).await;
    let mut client = example.client().await;
    assert_eq!(client.hello("Alice", &[]).await, texts(&["Hello, Alice!"], "0"));
    assert_eq!(client.hello("", &[]).await, texts(&[], "3"));
    example.stop().await;
}

#[tokio::test]
async fn streaming_shows_three_kinds_of_streams() {
    let example = Running::start("streaming", &[]).await;
    let mut client = example.client().await;
    assert_eq!(client.numbers("CountDown", &[3]).await, answer(&[3, 2, 1], "0"));
    assert_eq!(client.numbers("Sum", &[1, 2, 3]).await, answer(&[6], "0"));
    assert_eq!(client.numbers("RunningSum", &[1, 2, 3]).await, answer(&[1, 3, 6], "0"));
    assert_eq!(client.numbers("Sum", &[i64::MAX, 1]).await, answer(&[], "11"));
    example.stop().await;
}

#[tokio::test]
async fn interceptor_requires_a_tenant() {
    let example = Running::start("interceptor", &[]).await;
    let mut client = example.client().await;
    let reply = client.hello("Alice", &[("x-tenant", "acme")]).await;
    assert_eq!(reply, texts(&["Hello, Alice of acme!"], "0"));
    assert_eq!(client.hello("Alice", &[]).await, texts(&[], "3"));
    example.stop().await;
}

#[tokio::test]
async fn auth_accepts_the_token_that_it_prints() {
    use std::io::{BufRead, BufReader};

    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "0123456789abcdef0123456789abcdef").unwrap();
    let mut example = Running::start("auth", &[&secret]).await;
    let mut first = String::new();
    let mut output = BufReader::new(example.process.stdout.take().unwrap());
    output.read_line(&mut first).unwrap();
    let token = first.trim_end().strip_prefix("token: ").unwrap();

    let mut client = example.client().await;
    let reply = client.hello("Alice", &[("authorization", &format!("Bearer {token}"))]).await;
    assert_eq!(reply, texts(&["Hello, Alice! You call as alice."], "0"));
    assert_eq!(client.hello("Alice", &[]).await, texts(&[], "16"));
    let reply = client.hello("Alice", &[("authorization", "Bearer a.b.c")]).await;
    assert_eq!(reply, texts(&[], "16"));
    example.process.stdout = Some(output.into_inner());
    example.stop().await;
}

#[cfg(unix)]
#[tokio::test]
async fn shutdown_answers_open_calls_first() {
    let example = Running::start("shutdown", &[]).await;
    let mut client = example.client().await;
    // The call takes two seconds: the signal comes while it is open.
    let (reply, output) = tokio::join!(client.hello("Alice", &[]), async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        example.stop().await
    });
    assert_eq!(reply, texts(&["Hello at last, Alice!"], "0"));
    assert!(output.ends_with("stopping\nstopped\n"), "{output}");
}

#[tokio::test]
async fn tls_serves_clients_with_a_certificate_only() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let (server, client) = (authority.sign("localhost"), authority.sign("client"));
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let (ca, certificate) = (file("ca.pem", &authority.pem), file("cert.pem", &server.certificate));
    let key = file("key.pem", &server.key);
    let example = Running::start("tls", &[&certificate, &key, &ca]).await;

    let stream = connect(example.address, &authority, Some(&client)).await.unwrap();
    let reply = Client::over(stream).await.hello("Alice", &[]).await;
    assert_eq!(reply, texts(&["Hello, Alice! Certificates received: 1."], "0"));

    // With TLS 1.3 the refusal arrives after the client's part of the handshake.
    let stream = connect(example.address, &authority, None).await.unwrap();
    let (_client, connection) = h2::client::handshake::<_>(stream).await.unwrap();
    assert!(connection.await.is_err());
    example.stop().await;
}

struct Authority {
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
    pem: String,
}

struct Identity {
    certificate: String,
    key: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: rcgen::Issuer::new(params, key), pem }
    }

    fn sign(&self, name: &str) -> Identity {
        let params = rcgen::CertificateParams::new([name.to_owned()]).unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        Identity { certificate, key: key.serialize_pem() }
    }
}

async fn connect(
    address: SocketAddr,
    authority: &Authority,
    client: Option<&Identity>,
) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap()).unwrap();
    let config = ClientConfig::builder().with_root_certificates(roots);
    let mut config = match client {
        None => config.with_no_client_auth(),
        Some(identity) => {
            let chain =
                vec![CertificateDer::from_pem_slice(identity.certificate.as_bytes()).unwrap()];
            let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
            config.with_client_auth_cert(chain, key).unwrap()
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(address).await?;
    TlsConnector::from(std::sync::Arc::new(config))
        .connect("localhost".try_into().unwrap(), stream)
        .await
}
