//! The workloads, and what runs them: the user service over a pipe in memory.

#[path = "client.rs"]
mod client;

use std::sync::Arc;

use balafon::grpc::frame::encode;
use balafon::interceptors::Metrics;
use balafon::prost::Message;
use balafon::users::Users;
use balafon::users::domain::NewUser;
use balafon::users::pb::{CreateUserRequest, GetUserRequest, UserService, UserUpdate};
use balafon::users::store::UserStore;
use balafon::users::store::memory::MemoryStore;
use balafon::{Router, Server};
use bytes::BytesMut;

use self::client::{Client, Script};

const USERS: usize = 1000;

/// Calls in flight at a time: what a busy connection has, and what one read brings.
const BATCH: u32 = 32;

#[derive(Clone, Copy)]
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    /// Calls at a time.
    batch: u32,
    /// What stands between the server and the service.
    chain: fn(Router) -> Router,
    script: fn(user_id: String) -> Script,
}

pub(crate) const WORKLOADS: [Workload; 5] = [
    Workload {
        name: "unary",
        batch: BATCH,
        chain: |router| router,
        script: |user_id| script("GetUser", [GetUserRequest { user_id }]),
    },
    Workload {
        name: "unary-metrics",
        batch: BATCH,
        chain: |router| {
            let metrics = Metrics::new(&router);
            router.intercept(metrics)
        },
        script: |user_id| script("GetUser", [GetUserRequest { user_id }]),
    },
    Workload {
        name: "server-streaming",
        batch: 1,
        chain: |router| router,
        script: |_| script("GetAllUsers", [()]),
    },
    Workload {
        name: "client-streaming",
        batch: 1,
        chain: |router| router,
        script: |_| script("CreateUsers", (0..USERS).map(new_user)),
    },
    Workload {
        name: "bidi-streaming",
        batch: 1,
        chain: |router| router,
        script: |user_id| {
            let update = |n| UserUpdate {
                user_id: user_id.clone(),
                name: format!("User {n}"),
                email: String::new(),
            };
            script("UpdateUsers", (0..USERS).map(update))
        },
    },
];

/// Serves about `calls` calls (whole batches) on one connection.
pub(crate) fn run(workload: &Workload, calls: u32) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let store = MemoryStore::new();
        let mut user_id = String::new();
        for n in 0..USERS {
            let CreateUserRequest { name, email } = new_user(n);
            let user = NewUser::parse(&name, &email).expect("a valid user");
            user_id = store.create(user).await.expect("room").id.to_string();
        }
        let router = Router::new().add(Users::new(store).into_service());
        let router = Arc::new((workload.chain)(router));
        let (near, far) = tokio::io::duplex(1 << 20);
        let serving = tokio::spawn(async move {
            Server::new().serve_connection(far, router).await;
        });
        let mut client = Client::open(near, (workload.script)(user_id)).await;
        for _ in 0..calls / workload.batch {
            client.calls(workload.batch).await;
        }
        drop(client);
        serving.await.expect("the server ends with its connection");
    });
}

fn new_user(n: usize) -> CreateUserRequest {
    CreateUserRequest { name: format!("User {n}"), email: format!("user{n}@example.com") }
}

fn script(method: &str, messages: impl IntoIterator<Item = impl Message>) -> Script {
    let mut body = BytesMut::new();
    for message in messages {
        encode(&mut body, &message, usize::MAX).expect("no limit");
    }
    Script { path: format!("/ru.tinkoff.kora.example.UserService/{method}"), body: body.to_vec() }
}
