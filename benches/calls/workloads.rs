//! The workloads, and what runs them: calls of the user service.

#[path = "../client/mod.rs"]
mod client;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use balafon::grpc::frame::encode;
use balafon::interceptors::auth::{Auth, DevelopmentToken, KeyFile, Permissions};
use balafon::interceptors::rate_limit::RateLimit;
use balafon::interceptors::traces::Traces;
use balafon::interceptors::{AccessLog, Metrics};
use balafon::prost::Message;
use balafon::{Http2, Router, Server};
use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, duplex};
use tokio::net::TcpStream;
use user_server::log::Lines;
use user_server::pb::{CreateUserRequest, GetUserRequest, UserResponse, UserService, UserUpdate};
use user_server::service::Users;
use user_server::store::memory::MemoryStore;

use self::client::{Call, Client};

const USERS: usize = 1000;

/// What stands before each message: whether it is compressed, and its length.
const MESSAGE_HEADER: usize = 5;

/// Calls in flight at a time: what a busy connection has, and what one read brings.
const BATCH: u32 = 32;

#[derive(Clone, Copy)]
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    /// Calls at a time.
    batch: u32,
    /// What stands between the server and the service.
    chain: fn(Router) -> Router,
    /// What each call brings along to be let in.
    authorization: Option<fn() -> String>,
    call: fn(user_id: String) -> Call,
}

pub(crate) const WORKLOADS: [Workload; 10] = [
    Workload {
        name: "unary",
        batch: BATCH,
        chain: |router| router,
        authorization: None,
        call: |user_id| call("GetUser", [GetUserRequest { user_id }]),
    },
    Workload {
        name: "unary-metrics",
        batch: BATCH,
        chain: |router| {
            let metrics = Metrics::new(&router);
            router.intercept(metrics)
        },
        authorization: None,
        call: |user_id| call("GetUser", [GetUserRequest { user_id }]),
    },
    Workload {
        name: "unary-traces",
        batch: BATCH,
        // What every call takes; spans are made of those that are sampled.
        chain: |router| router.intercept(Traces::new()),
        authorization: None,
        call: |user_id| call("GetUser", [GetUserRequest { user_id }]),
    },
    Workload {
        name: "unary-auth",
        batch: BATCH,
        chain: |router| router.intercept(auth()),
        // Verified at the first call.
        authorization: Some(|| format!("Bearer {}", token())),
        call: |user_id| call("GetUser", [GetUserRequest { user_id }]),
    },
    Workload {
        name: "unary-rate-limit",
        batch: BATCH,
        chain: |router| router.intercept(rate_limit()),
        authorization: None,
        call: |user_id| call("GetUser", [GetUserRequest { user_id }]),
    },
    Workload {
        name: "unary-access-log",
        batch: BATCH,
        chain: |router| {
            log();
            router.intercept(AccessLog)
        },
        authorization: None,
        call: |user_id| call("GetUser", [GetUserRequest { user_id }]),
    },
    // What a server in production has.
    Workload {
        name: "unary-production",
        batch: BATCH,
        chain: |router| {
            log();
            let metrics = Metrics::new(&router);
            let router = router.intercept(metrics).intercept(AccessLog);
            router.intercept(auth()).intercept(rate_limit())
        },
        authorization: Some(|| format!("Bearer {}", token())),
        call: |user_id| call("GetUser", [GetUserRequest { user_id }]),
    },
    Workload {
        name: "server-streaming",
        batch: 1,
        chain: |router| router,
        authorization: None,
        call: |_| call("GetAllUsers", [()]),
    },
    Workload {
        name: "client-streaming",
        batch: 1,
        chain: |router| router,
        authorization: None,
        call: |_| call("CreateUsers", (0..USERS).map(new_user)),
    },
    Workload {
        name: "bidi-streaming",
        batch: 1,
        chain: |router| router,
        authorization: None,
        call: |user_id| {
            let update = |n| UserUpdate {
                user_id: user_id.clone(),
                name: format!("User {n}"),
                email: String::new(),
            };
            call("UpdateUsers", (0..USERS).map(update))
        },
    },
];

/// Makes about `calls` calls (whole batches) on one connection: to the server at `address`, or to
/// one over a pipe in memory.
pub(crate) fn run(workload: &Workload, calls: u32, address: Option<&str>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        if let Some(address) = address {
            let connect = async || TcpStream::connect(address).await.expect("a server is there");
            return run_on(connect, workload, calls).await;
        }
        let router = Router::new().add(Users::new(MemoryStore::new()).into_service());
        let router = Arc::new((workload.chain)(router));
        let connect = async || {
            let (near, far) = duplex(1 << 20);
            let router = router.clone();
            // What is counted is not to depend on how slow a simulated processor is.
            let server = Server::new().http2(http2()).time_slice(Duration::from_secs(3600));
            tokio::spawn(async move { server.serve_connection(far, router).await });
            near
        };
        run_on(connect, workload, calls).await;
    });
}

/// The implementation of HTTP/2 that the variable `USER_SERVER_HTTP2` names, as for the program.
fn http2() -> Http2 {
    std::env::var("USER_SERVER_HTTP2").map_or(Http2::H2, |name| name.parse().expect("h2 or native"))
}

async fn run_on<Io>(connect: impl AsyncFn() -> Io, workload: &Workload, calls: u32)
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    let authorization = workload.authorization.map(|authorization| authorization());
    let open =
        async |path: &str| Client::open(connect().await, path, authorization.as_deref()).await;
    let mut client = open("/").await;
    client.calls([&call("CreateUsers", (1..USERS).map(new_user))]).await;
    let created = client.calls([&call("CreateUser", [new_user(USERS)])]).await;
    let user = UserResponse::decode(&created[MESSAGE_HEADER..]).expect("one message");

    let call = (workload.call)(user.id);
    let mut client = open(&call.path).await;
    for _ in 0..calls / workload.batch {
        client.calls((0..workload.batch).map(|_| &call)).await;
    }
}

fn new_user(n: usize) -> CreateUserRequest {
    CreateUserRequest { name: format!("User {n}"), email: format!("user{n}@example.com") }
}

fn call(method: &str, messages: impl IntoIterator<Item = impl Message>) -> Call {
    let mut body = BytesMut::new();
    for message in messages {
        encode(&mut body, &message, usize::MAX).expect("no limit");
    }
    Call::new(&format!("/ru.tinkoff.kora.example.UserService/{method}"), &body)
}

/// A file with a secret; it stays where it is, and is the same for all.
fn secret() -> PathBuf {
    let path = std::env::temp_dir().join("balafon-bench-secret");
    std::fs::write(&path, [b's'; 32]).expect("a directory for temporary files");
    path
}

fn token() -> String {
    DevelopmentToken::new("bench", Duration::from_secs(24 * 3600))
        .roles(["reader", "writer"])
        .claim("iss", "https://issuer.example.com")
        .claim("aud", "users")
        .sign(&secret(), "HS256")
        .expect("a secret")
}

/// Lines are written in full, to nowhere.
fn log() {
    let log = tracing_subscriber::fmt().with_writer(io::sink).event_format(Lines::Text);
    // Another workload of this process may have begun it.
    let _ = log.try_init();
}

/// With limits that are never reached.
fn rate_limit() -> RateLimit {
    RateLimit::new()
        .unlimited("grpc.health.v1.Health/*")
        .and_then(|it| it.limit("*/CreateUsers", u32::MAX, Duration::from_secs(60)))
        .and_then(|it| it.limit("*", u32::MAX, Duration::from_secs(60)))
        .expect("patterns")
}

/// With as many rules as a service has that is in use.
fn auth() -> Auth {
    let permissions = Permissions::new()
        .open("grpc.health.v1.Health/*")
        .and_then(|it| it.role("admin", ["*"]))
        .and_then(|it| it.role("support", ["*/UpdateUsers", "*/GetUser"]))
        .and_then(|it| it.role("writer", ["*/CreateUser", "*/CreateUsers"]))
        .and_then(|it| it.role("reader", ["*/GetUser", "*/GetAllUsers"]))
        .expect("patterns");
    let auth = Auth::builder().keys(KeyFile::secret(secret())).permissions(permissions);
    auth.issuer("https://issuer.example.com").audience("users").build().expect("a secret")
}
