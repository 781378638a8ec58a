//! Checks that a server answers as the user service does, with tonic's client: whoever does not is not measured.
//!
//! `check ADDRESS KIND [CERTIFICATE]`; the kind is `unary` for a server that has nothing else, or `all`. The ids of the
//! users are the first line of the standard input.

use std::error::Error;
use std::fs;

use compare::echo::Payload;
use compare::tonic_pb::echo::echo_client::EchoClient;
use compare::tonic_pb::users::user_service_client::UserServiceClient;
use compare::users::COUNT;
use futures_util::stream;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Request, Status, Streaming};
use user_server::pb::{CreateUserRequest, GetUserRequest, UserResponse, UserUpdate};

type Failure = Box<dyn Error>;

const UNKNOWN: &str = "00000000-0000-7000-8000-000000000000";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [address, kind, certificate @ ..] = &words[..] else {
        return Err("check ADDRESS KIND [CERTIFICATE]".into());
    };
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    let ids: Vec<&str> = line.split_whitespace().collect();
    wanted("ids", ids.len(), COUNT)?;

    let endpoint = match certificate.first() {
        None => Endpoint::from_shared(format!("http://{address}"))?,
        Some(file) => {
            let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(fs::read(file)?));
            let endpoint = Endpoint::from_shared(format!("https://{address}"))?;
            endpoint.tls_config(tls.domain_name("localhost"))?
        }
    };
    let channel = endpoint.connect().await?;
    let streams = kind == "all";
    unary(UserServiceClient::new(channel.clone()), ids[7]).await?;
    echo(EchoClient::new(channel.clone()), streams).await?;
    if streams {
        server_streaming(UserServiceClient::new(channel.clone()), ids.len()).await?;
        client_streaming(UserServiceClient::new(channel.clone())).await?;
        bidi(UserServiceClient::new(channel), ids[8]).await?;
    }
    Ok(())
}

async fn unary(mut users: UserServiceClient<Channel>, id: &str) -> Result<(), Failure> {
    let user = users.get_user(get(id)).await?.into_inner();
    wanted("the user", (&*user.id, &*user.name), (id, "User Number 7"))?;
    wanted("the time of creation", user.created_at.is_some(), true)?;

    let unknown = users.get_user(get(UNKNOWN)).await;
    failed("an unknown id", unknown, Code::NotFound, &format!("User not found: {UNKNOWN}"))?;
    failed("an empty id", users.get_user(get("")).await, Code::InvalidArgument, "user_id")?;
    let nameless = create("", "alice@example.com");
    failed("an empty name", users.create_user(nameless).await, Code::InvalidArgument, "name")?;

    let created = users.create_user(create(" Zoë ", "zoe@example.com")).await?.into_inner();
    wanted("the name", &*created.name, "Zoë")?;
    let read = users.get_user(get(&created.id)).await?.into_inner();
    wanted("the created user", read, created)
}

async fn echo(echo: EchoClient<Channel>, long: bool) -> Result<(), Failure> {
    let mut echo = echo.max_decoding_message_size(2 << 20);
    for len in [0, 1024, 1 << 20] {
        if len <= 1024 || long {
            let data: Vec<u8> = (0..len).map(|n| n as u8).collect();
            let answer = echo.echo(Payload { data: data.clone().into() }).await?.into_inner();
            wanted("the echo", answer.data == data, true)?;
        }
    }
    Ok(())
}

async fn server_streaming(
    mut users: UserServiceClient<Channel>,
    seeded: usize,
) -> Result<(), Failure> {
    let response = users.get_all_users(()).await?;
    // `unary` has created one.
    let total = response.metadata().get("users-total").and_then(|total| total.to_str().ok());
    wanted("users-total", total, Some(&*(seeded + 1).to_string()))?;
    let all = collect(response.into_inner()).await.0;
    wanted("all users", all.len(), seeded + 1)?;
    wanted("the order", all.is_sorted_by(|a, b| a.id < b.id), true)
}

async fn client_streaming(mut users: UserServiceClient<Channel>) -> Result<(), Failure> {
    let batch = (0..500).map(|n| create("Eve", if n == 3 { "" } else { "eve@example.com" }));
    let response = users.create_users(stream::iter(batch)).await?.into_inner();
    wanted("created_count", response.created_count, 499)?;
    wanted("user_ids", response.user_ids.len(), 499)?;
    let last = users.get_user(get(&response.user_ids[498])).await?.into_inner();
    wanted("the last user", &*last.name, "Eve")
}

async fn bidi(mut users: UserServiceClient<Channel>, id: &str) -> Result<(), Failure> {
    let update = |id: &str, name: &str| UserUpdate {
        user_id: id.into(),
        name: name.into(),
        email: String::new(),
    };
    let updates = vec![update(id, "One"), update(id, "Two"), update(UNKNOWN, "Three")];
    let response = users.update_users(stream::iter(updates)).await?;
    let (answers, end) = collect(response.into_inner()).await;
    let names: Vec<_> = answers.iter().map(|user| &*user.name).collect();
    wanted("the updates", names, vec!["One", "Two"])?;
    failed("an unknown id", end, Code::NotFound, "User not found")?;
    wanted("the update", users.get_user(get(id)).await?.into_inner().name, "Two".to_owned())
}

fn get(id: &str) -> Request<GetUserRequest> {
    Request::new(GetUserRequest { user_id: id.to_owned() })
}

fn create(name: &str, email: &str) -> CreateUserRequest {
    CreateUserRequest { name: name.to_owned(), email: email.to_owned() }
}

/// The messages of a stream, and how it ended.
async fn collect(mut answers: Streaming<UserResponse>) -> (Vec<UserResponse>, Result<(), Status>) {
    let mut all = Vec::new();
    loop {
        match answers.message().await {
            Ok(Some(user)) => all.push(user),
            Ok(None) => return (all, Ok(())),
            Err(status) => return (all, Err(status)),
        }
    }
}

fn failed<T>(
    what: &str,
    result: Result<T, Status>,
    code: Code,
    message: &str,
) -> Result<(), Failure> {
    let status = result.err().ok_or_else(|| format!("{what}: no error"))?;
    wanted(what, status.code(), code)?;
    wanted(&format!("{what}: {status}"), status.message().contains(message), true)
}

fn wanted<T: PartialEq + std::fmt::Debug>(what: &str, got: T, wanted: T) -> Result<(), Failure> {
    if got == wanted {
        return Ok(());
    }
    Err(format!("{what}: wanted {wanted:?}, got {got:?}").into())
}
