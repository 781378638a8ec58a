//! Whether workers hold each other up: `cargo bench --bench scaling`.
//!
//! One worker serves one client, then two serve two, in rounds by turns. Each client has a connection
//! and 32 calls in flight. What counts is the CPU time of the workers for a call: it rises where they
//! wait for each other's cache lines or locks. Calls per second say little, since the clients are on
//! the same cores.
//!
//! Linux alone tells the CPU time of a thread, in `/proc`.

mod client;

use std::fs::read_to_string;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use balafon::grpc::frame::encode;
use balafon::interceptors::{AccessLog, Metrics};
use balafon::prost::Message;
use balafon::{Router, Server};
use bytes::BytesMut;
use mimalloc::MiMalloc;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::sync::oneshot;
use user_server::pb::{CreateUserRequest, GetUserRequest, UserResponse, UserService};
use user_server::service::Users;
use user_server::store::memory::MemoryStore;

use self::client::{Call, Client};

/// That of `user-server`.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

const ROUNDS: usize = 7;
const ROUND: Duration = Duration::from_secs(2);

/// Calls in flight on each connection.
const BATCH: usize = 32;

#[allow(clippy::print_stdout)] // It is what this program is for.
fn main() {
    let mut figures = [1, 2].map(|workers| (workers, Vec::new()));
    for _ in 0..ROUNDS {
        for (workers, of_rounds) in &mut figures {
            of_rounds.push(round(*workers));
        }
    }
    for (workers, mut of_rounds) in figures {
        of_rounds.sort_by(f64::total_cmp);
        let [least, median] = [0, ROUNDS / 2].map(|n| of_rounds[n]);
        println!("{workers} worker(s): {median:.2} us of CPU a call, {least:.2} in the best round");
    }
}

/// The CPU time of the workers for a call, in microseconds.
fn round(workers: usize) -> f64 {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let router = Router::new().add(Users::new(MemoryStore::new()).into_service());
        let metrics = Metrics::new(&router);
        let router = router.intercept(AccessLog).intercept(metrics);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async { stopped.await.unwrap_or_default() };
        let server = Server::new().workers(workers);
        let serving = tokio::spawn(server.serve(listener, router, shutdown));

        let call = Arc::new(get_user(&address).await);
        let enough = Arc::new(AtomicBool::new(false));
        let clients: Vec<_> = (0..workers)
            .map(|_| {
                let (address, call, enough) = (address.clone(), call.clone(), enough.clone());
                tokio::task::spawn_blocking(move || load(&address, &call, &enough))
            })
            .collect();
        let before = cpu_of_workers();
        tokio::time::sleep(ROUND).await;
        enough.store(true, Ordering::Relaxed);
        let mut calls = 0;
        for client in clients {
            calls += client.await.expect("no call fails");
        }
        let spent = cpu_of_workers() - before;
        drop(stop);
        serving.await.expect("no panic").expect("it serves");
        spent.as_secs_f64() * 1e6 / calls as f64
    })
}

/// Makes calls on one connection until it is enough, and gives their count.
fn load(address: &str, call: &Call, enough: &AtomicBool) -> usize {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut client = open(address, &call.path).await;
        let mut count = 0;
        while !enough.load(Ordering::Relaxed) {
            client.calls(std::iter::repeat_n(call, BATCH)).await;
            count += BATCH;
        }
        count
    })
}

async fn open(address: &str, path: &str) -> Client<TcpStream> {
    Client::open(TcpStream::connect(address).await.expect("a server is there"), path, None).await
}

/// A call for a user that is there.
async fn get_user(address: &str) -> Call {
    let request = CreateUserRequest { name: "User".into(), email: "user@example.com".into() };
    let mut client = open(address, "/").await;
    let created = client.calls([&call("CreateUser", &request)]).await;
    // Behind the header of a message.
    let user = UserResponse::decode(&created[5..]).expect("one message");
    call("GetUser", &GetUserRequest { user_id: user.id })
}

fn call(method: &str, message: &impl Message) -> Call {
    let mut body = BytesMut::new();
    encode(&mut body, message, usize::MAX).expect("no limit");
    Call::new(&format!("/ru.tinkoff.kora.example.UserService/{method}"), &body)
}

/// What the threads of workers have used so far.
fn cpu_of_workers() -> Duration {
    let tasks = std::fs::read_dir("/proc/self/task").expect("this is Linux");
    let of_worker = |task: std::path::PathBuf| {
        let name = read_to_string(task.join("comm")).ok()?;
        let schedstat = read_to_string(task.join("schedstat")).ok()?;
        let nanoseconds = schedstat.split(' ').next()?.parse().ok()?;
        name.starts_with("worker-").then(|| Duration::from_nanos(nanoseconds))
    };
    tasks.filter_map(|task| of_worker(task.ok()?.path())).sum()
}
