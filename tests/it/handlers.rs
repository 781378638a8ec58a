//! Handlers called without a network, in the manner of `StreamRecorder` tests.

use balafon::google::rpc::ErrorInfo;
use balafon::testing::{Recorder, requests};
use balafon::{AsciiValue, Code, Request, Streaming};
use user_server::domain::NewUser;
use user_server::pb::{
    CreateUserRequest, GetUserRequest, UserResponse, UserService, UserStatus, UserUpdate,
};
use user_server::service::{Caller, IDEMPOTENCY_KEY, USERS_FAILED, USERS_TOTAL, Users};
use user_server::store::UserStore;
use user_server::store::memory::MemoryStore;

fn service() -> Users<MemoryStore> {
    Users::new(MemoryStore::new())
}

fn create_request(name: &str, email: &str) -> CreateUserRequest {
    CreateUserRequest { name: name.into(), email: email.into() }
}

async fn service_with(users: &[(&str, &str)]) -> (Users<MemoryStore>, Vec<String>) {
    let store = MemoryStore::new();
    let mut ids = Vec::new();
    for (name, email) in users {
        let user = store.create(NewUser::parse(name, email).unwrap()).await.unwrap();
        ids.push(user.id.to_string());
    }
    (Users::new(store), ids)
}

#[tokio::test]
async fn create_user_answers_with_the_user() {
    let request = Request::new(create_request("Test User", "test@example.com"));
    let user = service().create_user(request).await.unwrap().message;
    assert_eq!((user.name.as_str(), user.email.as_str()), ("Test User", "test@example.com"));
    assert!(!user.id.is_empty());
    assert_eq!(user.status(), UserStatus::Active);
    assert!(user.created_at.is_some());
}

fn with_key(key: &'static str, name: &str) -> Request<CreateUserRequest> {
    let mut request = Request::new(create_request(name, "test@example.com"));
    request.metadata_mut().append(&IDEMPOTENCY_KEY, AsciiValue::from_static(key));
    request
}

#[tokio::test]
async fn create_user_with_a_repeated_key_answers_as_before() {
    let service = service();
    let first = service.create_user(with_key("k", "Alice")).await.unwrap().message;
    // Trimmed characters make no difference.
    let again = service.create_user(with_key("k", " Alice ")).await.unwrap().message;
    assert_eq!(again, first);
    let other = service.create_user(with_key("l", "Alice")).await.unwrap().message;
    assert_ne!(other.id, first.id);
}

#[tokio::test]
async fn create_user_with_another_users_key_fails() {
    let service = service();
    service.create_user(with_key("k", "Alice")).await.unwrap();
    let status = service.create_user(with_key("k", "Bob")).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert_eq!(status.detail::<ErrorInfo>().unwrap().reason, "IDEMPOTENCY_KEY_REUSED");
}

#[tokio::test]
async fn create_user_with_another_callers_key_is_independent() {
    let service = service();
    let called_by = |caller: &str| {
        let mut request = with_key("k", "Alice");
        request.extensions_mut().insert(Caller(caller.into()));
        request
    };
    let first = service.create_user(called_by("one")).await.unwrap().message;
    let other = service.create_user(called_by("other")).await.unwrap().message;
    assert_ne!(other.id, first.id);
    let again = service.create_user(called_by("one")).await.unwrap().message;
    assert_eq!(again, first);
}

#[tokio::test]
async fn create_user_refuses_an_invalid_key() {
    let mut twice = with_key("k", "Alice");
    twice.metadata_mut().append(&IDEMPOTENCY_KEY, AsciiValue::from_static("l"));
    for request in [with_key("", "Alice"), twice] {
        let status = service().create_user(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().contains("1 to 255"), "{status:?}");
    }
}

#[tokio::test]
async fn get_user_answers_not_found_with_the_id() {
    let request = Request::new(GetUserRequest { user_id: "nobody".into() });
    let status = service().get_user(request).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::NotFound, "User not found: nobody"));
}

#[tokio::test]
async fn get_all_users_streams_in_order_of_creation() {
    let users = [("User1", "user1@example.com"), ("User2", "user2@example.com")];
    let (service, _) = service_with(&users).await;
    let recorder = Recorder::new();
    recorder.record(|out| service.get_all_users(Request::new(()), out)).await;
    let names: Vec<_> = recorder.values().into_iter().map(|user| user.name).collect();
    assert_eq!(names, ["User1", "User2"]);
    assert_eq!(recorder.metadata().get(&USERS_TOTAL), Some("2"));
    assert!(recorder.is_completed());
}

#[tokio::test]
async fn create_users_answers_once_with_all_ids() {
    let requests = Streaming::from_messages([
        create_request("Batch User 1", "batch1@example.com"),
        create_request("Batch User 2", "batch2@example.com"),
    ]);
    let response = service().create_users(Request::new(requests)).await.unwrap();
    assert_eq!(response.message.created_count, 2);
    assert_eq!(response.message.user_ids.len(), 2);
    assert_eq!(response.trailers.get(&USERS_FAILED), Some("0"));
}

#[tokio::test]
async fn create_users_stores_in_order() {
    let service = service();
    let requests = Streaming::from_messages([
        create_request("Alice", "alice@example.com"),
        create_request("Bob", "bob@example.com"),
    ]);
    let ids = service.create_users(Request::new(requests)).await.unwrap().message.user_ids;
    let recorder = Recorder::new();
    recorder.record(|out| service.get_all_users(Request::new(()), out)).await;
    let stored: Vec<_> = recorder.values().into_iter().map(|user| user.id).collect();
    assert_eq!(stored, ids);
}

#[tokio::test]
async fn update_users_answers_with_the_updated_user() {
    let (service, ids) = service_with(&[("Original", "original@example.com")]).await;
    let updates = Streaming::from_messages([UserUpdate {
        user_id: ids[0].clone(),
        name: "Updated Name".into(),
        email: "updated@example.com".into(),
    }]);
    let recorder = Recorder::new();
    recorder.record(|out| service.update_users(Request::new(updates), out)).await;
    let [user]: [UserResponse; 1] = recorder.values().try_into().unwrap();
    assert_eq!((user.name.as_str(), user.email.as_str()), ("Updated Name", "updated@example.com"));
    assert!(recorder.is_completed());
}

#[tokio::test]
async fn update_users_keeps_the_value_of_an_empty_field() {
    let (service, ids) = service_with(&[("Alice", "alice@example.com")]).await;
    let updates = Streaming::from_messages([UserUpdate {
        user_id: ids[0].clone(),
        name: "Alice Updated".into(),
        email: String::new(),
    }]);
    let recorder = Recorder::new();
    recorder.record(|out| service.update_users(Request::new(updates), out)).await;
    let user = &recorder.values()[0];
    assert_eq!((user.name.as_str(), user.email.as_str()), ("Alice Updated", "alice@example.com"));
}

#[tokio::test]
async fn update_users_answers_each_update_before_the_next_arrives() {
    let (service, ids) = service_with(&[("Alice", "alice@example.com")]).await;
    let (client, updates) = requests();
    let recorder = Recorder::new();
    let handler = recorder.record(|out| service.update_users(Request::new(updates), out));
    let test = async {
        for name in ["First", "Second"] {
            let (user_id, name) = (ids[0].clone(), name.to_owned());
            client.send(&UserUpdate { user_id, name: name.clone(), email: String::new() });
            while recorder.values().last().is_none_or(|user| user.name != name) {
                tokio::task::yield_now().await;
            }
        }
        client.send(&UserUpdate { user_id: "nobody".into(), ..UserUpdate::default() });
        client.half_close();
    };
    tokio::join!(handler, test);
    assert_eq!(recorder.values().len(), 2);
    let error = recorder.error().unwrap();
    assert_eq!((error.code(), error.message()), (Code::NotFound, "User not found: nobody"));
}
