//! The user service, called by tonic's client.

use std::time::Duration;

use balafon::google::rpc::{self, BadRequest, ErrorInfo};
use balafon::services::health::Health;
use balafon::services::health::pb::{HealthCheckRequest, HealthCheckResponse};
use balafon::services::reflection::{self, pb::v1};
use balafon::{CallOptions, Router, Rpc};
use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::client::Grpc;
use tonic::codec::CompressionEncoding;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;
use user_server::pb::{
    CreateUserRequest, CreateUsersResponse, GetUserRequest, UserResponse, UserService, UserStatus,
    UserUpdate, user_service,
};
use user_server::service::Users;
use user_server::store::memory::MemoryStore;

use crate::support::{TestServer, patiently};

/// tonic without generated code: the descriptors have everything that it needs.
#[derive(Clone)]
struct Client(Grpc<Channel>);

impl Client {
    async fn connect(server: &TestServer) -> Self {
        let endpoint = Endpoint::new(format!("http://{}", server.addr)).unwrap();
        Self(Grpc::new(patiently(endpoint.connect()).await.unwrap()))
    }

    async fn unary<Q, S>(
        &mut self,
        rpc: &'static Rpc<Q, S>,
        request: Request<Q>,
    ) -> Result<Response<S>, Status>
    where
        Q: Message + 'static,
        S: Message + Default + 'static,
    {
        self.0.ready().await.unwrap();
        patiently(self.0.unary(request, rpc.path.parse().unwrap(), ProstCodec::default())).await
    }

    async fn server_streaming<Q, S>(
        &mut self,
        rpc: &'static Rpc<Q, S>,
        request: Request<Q>,
    ) -> Result<Response<Streaming<S>>, Status>
    where
        Q: Message + 'static,
        S: Message + Default + 'static,
    {
        self.0.ready().await.unwrap();
        let path = rpc.path.parse().unwrap();
        patiently(self.0.server_streaming(request, path, ProstCodec::default())).await
    }

    async fn client_streaming<Q, S>(
        &mut self,
        rpc: &'static Rpc<Q, S>,
        messages: Vec<Q>,
    ) -> Result<Response<S>, Status>
    where
        Q: Message + 'static,
        S: Message + Default + 'static,
    {
        self.0.ready().await.unwrap();
        let request = Request::new(tokio_stream::iter(messages));
        let path = rpc.path.parse().unwrap();
        patiently(self.0.client_streaming(request, path, ProstCodec::default())).await
    }

    async fn bidi<Q, S>(
        &mut self,
        rpc: &'static Rpc<Q, S>,
        request: Request<UnboundedReceiverStream<Q>>,
    ) -> Result<Response<Streaming<S>>, Status>
    where
        Q: Message + 'static,
        S: Message + Default + 'static,
    {
        self.0.ready().await.unwrap();
        let path = rpc.path.parse().unwrap();
        patiently(self.0.streaming(request, path, ProstCodec::default())).await
    }

    async fn create(&mut self, name: &str, email: &str) -> Result<UserResponse, Status> {
        let request = Request::new(new_user(name, email));
        Ok(self.unary(&user_service::CREATE_USER, request).await?.into_inner())
    }
}

fn new_user(name: &str, email: &str) -> CreateUserRequest {
    CreateUserRequest { name: name.into(), email: email.into() }
}

fn update(user_id: &str, name: &str) -> UserUpdate {
    UserUpdate { user_id: user_id.into(), name: name.into(), email: String::new() }
}

fn detail<D: prost::Name + Default>(status: &Status) -> D {
    let details = rpc::Status::decode(status.details()).unwrap();
    assert_eq!((details.code, details.message.as_str()), (status.code() as i32, status.message()));
    let any = details.details.iter().find(|any| any.type_url.ends_with(&D::full_name()));
    D::decode(any.unwrap().value.as_slice()).unwrap()
}

fn fields(detail: &BadRequest) -> Vec<&str> {
    detail.field_violations.iter().map(|violation| violation.field.as_str()).collect()
}

async fn users() -> (TestServer, Client) {
    users_with(Users::new(MemoryStore::new())).await
}

async fn users_with(users: Users<MemoryStore>) -> (TestServer, Client) {
    let router = Router::new().add(users.into_service()).add(Health::new().service());
    let router = reflection::reflect(router);
    let server = TestServer::start_with(crate::support::server().workers(2), router).await;
    let client = Client::connect(&server).await;
    (server, client)
}

#[tokio::test]
async fn create_user_trims_and_gives_a_time_ordered_id() {
    let (_server, mut client) = users().await;
    let user = client.create("  Ångström 👩‍🔬 ", "\tada@example.com ").await.unwrap();
    assert_eq!((user.name.as_str(), user.email.as_str()), ("Ångström 👩‍🔬", "ada@example.com"));
    assert_eq!(user.status(), UserStatus::Active);
    assert_eq!(user.id.as_bytes()[14], b'7', "{} is no UUID of version 7", user.id);
    assert!(user.created_at.unwrap().seconds > 1_700_000_000);

    let request = Request::new(GetUserRequest { user_id: user.id.clone() });
    let found = client.unary(&user_service::GET_USER, request).await.unwrap().into_inner();
    assert_eq!(found, user);
    assert!(client.create("B", "b@example.com").await.unwrap().id > user.id);
}

#[tokio::test]
async fn create_user_reports_a_violation_for_each_field() {
    let (_server, mut client) = users().await;
    let status = client.create(" ", "nowhere").await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(fields(&detail(&status)), ["name", "email"]);
}

#[tokio::test]
async fn get_user_distinguishes_empty_and_unknown_ids() {
    let (_server, mut client) = users().await;
    for (id, code, message) in [
        ("", Code::InvalidArgument, "user_id must not be empty"),
        ("nobody", Code::NotFound, "User not found: nobody"),
        ("Jürgen 100%", Code::NotFound, "User not found: Jürgen 100%"),
    ] {
        let request = Request::new(GetUserRequest { user_id: id.into() });
        let status = client.unary(&user_service::GET_USER, request).await.unwrap_err();
        assert_eq!((status.code(), status.message()), (code, message));
    }
}

async fn all_users(client: &mut Client, after: Option<&str>) -> (u64, Vec<UserResponse>) {
    let mut request = Request::new(());
    if let Some(after) = after {
        request.metadata_mut().insert("users-resume-after", after.parse().unwrap());
    }
    let response = client.server_streaming(&user_service::GET_ALL_USERS, request).await.unwrap();
    let total = response.metadata().get("users-total").unwrap().to_str().unwrap().parse().unwrap();
    let users: Result<_, _> = patiently(response.into_inner().collect()).await;
    (total, users.unwrap())
}

#[tokio::test]
async fn get_all_users_streams_by_creation_and_resumes() {
    let (_server, mut client) = users().await;
    assert_eq!(all_users(&mut client, None).await, (0, vec![]));
    let batch = (0..1000).map(|i| new_user(&format!("User {i}"), "u@example.com")).collect();
    let created = client.client_streaming(&user_service::CREATE_USERS, batch).await.unwrap();
    let ids = created.into_inner().user_ids;

    let (total, users) = all_users(&mut client, None).await;
    assert_eq!(total, 1000);
    assert_eq!(
        users.iter().map(|user| &user.id).collect::<Vec<_>>(),
        ids.iter().collect::<Vec<_>>()
    );

    let (total, rest) = all_users(&mut client, Some(&ids[299])).await;
    assert_eq!((total, rest.as_slice()), (1000, &users[300..]));

    let mut request = Request::new(());
    request.metadata_mut().insert("users-resume-after", "yesterday".parse().unwrap());
    let error = client.server_streaming(&user_service::GET_ALL_USERS, request).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn create_users_skips_invalid_messages_and_reports_them() {
    let (_server, mut client) = users().await;
    let batch = vec![
        new_user("Charlie", "charlie@example.com"),
        new_user("", "nobody@example.com"),
        new_user("Diana", "diana@example.com"),
        new_user("Eve", "not an address"),
    ];
    let response = client.client_streaming(&user_service::CREATE_USERS, batch).await.unwrap();
    // tonic merges the initial and trailing metadata of such a call.
    let metadata = response.metadata();
    assert_eq!(metadata.get("users-failed").unwrap(), "2");
    let failures = metadata.get_bin("users-failures-bin").unwrap().to_bytes().unwrap();
    let failures = BadRequest::decode(failures).unwrap();
    assert_eq!(fields(&failures), ["messages[1].name", "messages[3].email"]);
    let CreateUsersResponse { created_count, user_ids } = response.into_inner();
    assert_eq!((created_count, user_ids.len()), (2, 2));
    let (_, users) = all_users(&mut client, None).await;
    assert_eq!(users.iter().map(|user| &user.name).collect::<Vec<_>>(), ["Charlie", "Diana"]);
}

#[tokio::test]
async fn create_users_counts_failures_beyond_the_trailers() {
    let (_server, mut client) = users().await;
    let batch = vec![new_user("", ""); 1000];
    let response = client.client_streaming(&user_service::CREATE_USERS, batch).await.unwrap();
    assert_eq!(response.metadata().get("users-failed").unwrap(), "1000");
    assert!(
        response.metadata().get_bin("users-failures-bin").unwrap().as_encoded_bytes().len() < 6000
    );
}

#[tokio::test]
async fn create_users_over_the_limit_reports_the_created() {
    let (_server, mut client) = users_with(Users::new(MemoryStore::new()).max_batch(3)).await;
    let batch = |count| vec![new_user("Same", "same@example.com"); count];
    assert!(client.client_streaming(&user_service::CREATE_USERS, batch(3)).await.is_ok());
    let status = client.client_streaming(&user_service::CREATE_USERS, batch(4)).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    let info: ErrorInfo = detail(&status);
    assert_eq!(info.metadata["created"], "3");
    assert_eq!(all_users(&mut client, None).await.0, 6);
}

#[tokio::test]
async fn update_users_answers_at_once_until_an_unknown_id() {
    let (_server, mut client) = users().await;
    let user = client.create("Alice", "alice@example.com").await.unwrap();
    let (updates, stream) = mpsc::unbounded_channel();
    let stream = Request::new(UnboundedReceiverStream::new(stream));
    updates.send(update(&user.id, "First")).unwrap();
    let response = client.bidi(&user_service::UPDATE_USERS, stream).await.unwrap();
    let mut answers = response.into_inner();
    for name in ["First", "Second", "Third"] {
        if name != "First" {
            updates.send(update(&user.id, name)).unwrap();
        }
        let answer = patiently(answers.message()).await.unwrap().unwrap();
        assert_eq!((answer.name.as_str(), answer.email.as_str()), (name, "alice@example.com"));
    }
    updates.send(update(&user.id, "Last")).unwrap();
    updates.send(update("nobody", "X")).unwrap();
    assert_eq!(patiently(answers.message()).await.unwrap().unwrap().name, "Last");
    let status = patiently(answers.message()).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::NotFound, "User not found: nobody"));
}

#[tokio::test]
async fn concurrent_updates_of_one_user_never_lose_a_field() {
    let (_server, mut client) = users().await;
    let user = client.create("Old", "old@example.com").await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for round in 0..20 {
        for field in ["name", "email"] {
            let (mut client, user_id) = (client.clone(), user.id.clone());
            tasks.spawn(async move {
                let mut change = UserUpdate { user_id, ..UserUpdate::default() };
                match field {
                    "name" => change.name = format!("New {round}"),
                    _ => change.email = format!("new{round}@example.com"),
                }
                let (updates, stream) = mpsc::unbounded_channel();
                updates.send(change).unwrap();
                drop(updates);
                let request = Request::new(UnboundedReceiverStream::new(stream));
                let response = client.bidi(&user_service::UPDATE_USERS, request).await.unwrap();
                let answers: Vec<_> = patiently(response.into_inner().collect()).await;
                assert!(matches!(answers.as_slice(), [Ok(_)]));
            });
        }
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    let (_, users) = all_users(&mut client, None).await;
    assert!(users[0].name.starts_with("New"), "{}", users[0].name);
    assert!(users[0].email.starts_with("new"), "{}", users[0].email);
}

#[tokio::test]
async fn deadline_ends_a_stream_without_half_close() {
    let (_server, mut client) = users().await;
    let (_updates, stream) = mpsc::unbounded_channel::<UserUpdate>();
    let mut request = Request::new(UnboundedReceiverStream::new(stream));
    request.set_timeout(Duration::from_millis(50));
    let status = client.bidi(&user_service::UPDATE_USERS, request).await.unwrap_err();
    // tonic has its own timer for the same moment, and reports CANCELLED.
    assert!(matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled), "{status}");
    assert!(client.create("Alive", "alive@example.com").await.is_ok());
}

#[tokio::test]
async fn streams_may_be_dropped_in_the_middle() {
    let (_server, mut client) = users().await;
    let batch = vec![new_user("Same", "same@example.com"); 10_000];
    client.client_streaming(&user_service::CREATE_USERS, batch).await.unwrap();
    for _ in 0..20 {
        let request = Request::new(());
        let all = client.server_streaming(&user_service::GET_ALL_USERS, request).await.unwrap();
        let first = patiently(all.into_inner().message()).await.unwrap();
        assert!(first.is_some());
    }
    assert!(client.create("Alive", "alive@example.com").await.is_ok());
}

#[tokio::test]
async fn drain_ends_health_and_reflection_streams() {
    let (mut server, mut client) = users().await;
    let request = Request::new(HealthCheckRequest::default());
    let mut watch = client.server_streaming(&HEALTH_WATCH, request).await.unwrap().into_inner();
    assert!(patiently(watch.message()).await.unwrap().is_some());
    let (requests, stream) = mpsc::unbounded_channel();
    requests.send(v1::ServerReflectionRequest::default()).unwrap();
    let request = Request::new(UnboundedReceiverStream::new(stream));
    let mut reflected = client.bidi(&REFLECTION, request).await.unwrap().into_inner();
    assert!(patiently(reflected.message()).await.unwrap().is_some());

    server.shut_down();
    assert_eq!(patiently(watch.message()).await.unwrap_err().code(), Code::Unavailable);
    assert_eq!(patiently(reflected.message()).await.unwrap_err().code(), Code::Unavailable);
    server.served().await;
}

static HEALTH_WATCH: Rpc<HealthCheckRequest, HealthCheckResponse> =
    Rpc::server_streaming("/grpc.health.v1.Health/Watch");
#[tokio::test]
async fn compressing_client_gets_the_accepted_encodings() {
    let router = Router::new().add(Health::new().service());
    let gzip = crate::support::server()
        .calls(CallOptions::new().accept_encodings(&[balafon::Encoding::GZIP]));
    let server = TestServer::start_with(gzip, router).await;
    let mut client = Client::connect(&server).await;
    client.0 = client.0.send_compressed(CompressionEncoding::Gzip);
    let about = |service: &str| Request::new(HealthCheckRequest { service: service.into() });
    assert!(client.unary(&HEALTH_CHECK, about("")).await.is_ok());

    let router = Router::new().add(Health::new().service());
    let server = TestServer::start_with(
        crate::support::server().calls(CallOptions::new().accept_encodings(&[])),
        router,
    )
    .await;
    let mut client = Client::connect(&server).await;
    assert!(client.unary(&HEALTH_CHECK, about("")).await.is_ok());
    client.0 = client.0.send_compressed(CompressionEncoding::Gzip);
    let status = client.unary(&HEALTH_CHECK, about("")).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
    assert_eq!(status.metadata().get("grpc-accept-encoding").unwrap(), "identity");
}

static HEALTH_CHECK: Rpc<HealthCheckRequest, HealthCheckResponse> =
    Rpc::unary("/grpc.health.v1.Health/Check");
static REFLECTION: Rpc<v1::ServerReflectionRequest, v1::ServerReflectionResponse> =
    Rpc::bidi_streaming("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo");
static REFLECTION_ALPHA: Rpc<v1::ServerReflectionRequest, v1::ServerReflectionResponse> =
    Rpc::bidi_streaming("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo");

#[tokio::test]
async fn health_watch_answers_at_once_and_stays_open() {
    let (_server, mut client) = users().await;
    let request = Request::new(HealthCheckRequest::default());
    let mut watch = client.server_streaming(&HEALTH_WATCH, request).await.unwrap().into_inner();
    assert!(patiently(watch.message()).await.unwrap().is_some());
    let more = tokio::time::timeout(Duration::from_millis(20), watch.message()).await;
    assert!(more.is_err(), "{more:?}");
}

#[tokio::test]
async fn reflection_lists_the_services_in_both_versions() {
    let (_server, mut client) = users().await;
    for rpc in [&REFLECTION, &REFLECTION_ALPHA] {
        let request = v1::ServerReflectionRequest {
            message_request: Some(v1::server_reflection_request::MessageRequest::ListServices(
                String::new(),
            )),
            ..Default::default()
        };
        let (requests, stream) = mpsc::unbounded_channel();
        requests.send(request).unwrap();
        drop(requests);
        let request = Request::new(UnboundedReceiverStream::new(stream));
        let mut answers = client.bidi(rpc, request).await.unwrap().into_inner();
        let answer = patiently(answers.message()).await.unwrap().unwrap();
        let Some(v1::server_reflection_response::MessageResponse::ListServicesResponse(list)) =
            answer.message_response
        else {
            panic!("{answer:?}")
        };
        let names: Vec<_> = list.service.iter().map(|service| service.name.as_str()).collect();
        let expected = [
            "grpc.health.v1.Health",
            "grpc.reflection.v1.ServerReflection",
            "grpc.reflection.v1alpha.ServerReflection",
            user_service::NAME,
        ];
        assert_eq!(names, expected);
    }
}
