//! Personal data that clients send stays out of the log and of traces.

use balafon::prost::Message;
use bytes::Bytes;
use user_server::pb::{CreateUserRequest, GetUserRequest, UserResponse, UserUpdate};

use crate::access::SERVICE;
use crate::support::collector::Collector;
use crate::support::peer::{Peer, encoded, request};
use crate::support::program::Running;
use crate::traces::program::end;

/// A marker in every text that the clients send here.
const MARK: &str = "trillian";

fn create(name: &str, email: &str) -> Bytes {
    encoded(&CreateUserRequest { name: name.to_owned(), email: email.to_owned() })
}

fn update(id: &str, name: &str, email: &str) -> Bytes {
    let (user_id, name, email) = (id.to_owned(), name.to_owned(), email.to_owned());
    encoded(&UserUpdate { user_id, name, email })
}

#[tokio::test]
async fn client_text_is_never_logged_or_exported() {
    let mut collector = Collector::start().await;
    let running = Running::start(&["--otlp-endpoint", &collector.url()], &[]);
    let mut peer = Peer::connect(running.address.parse().unwrap()).await;
    let (name, email) = (&*format!("{MARK} McMillan"), &*format!("{MARK}@example.com"));
    let bad_email = &*format!("{MARK} at example.com");
    let unknown = "01a2035c-fbdf-74b5-ac2d-30dbfd63b6c3";

    let head = request(&format!("{SERVICE}CreateUser")).header("idempotency-key", MARK);
    let created = peer.call(head, create(name, email)).await;
    let id = &*UserResponse::decode(created.body.slice(5..)).unwrap().id;

    let get = |id: &str| encoded(&GetUserRequest { user_id: id.to_owned() });
    let several = |messages: &[Bytes]| Bytes::from(messages.concat());
    let key = ("idempotency-key", MARK);
    let calls = [
        ("CreateUser", vec![], create(name, email), "0"),
        ("CreateUser", vec![], create(name, bad_email), "3"),
        ("CreateUser", vec![], create(&format!("{MARK}\n"), MARK), "3"),
        ("CreateUser", vec![key], create("Arthur", email), "9"),
        ("CreateUser", vec![key, key], create(name, email), "3"),
        ("GetUser", vec![], get(id), "0"),
        ("GetUser", vec![], get(unknown), "5"),
        ("GetUser", vec![], get(email), "5"),
        ("GetUser", vec![], get(name), "5"),
        ("GetUser", vec![], Bytes::from(vec![0, 0, 0, 0, 1, 0x0f]), "13"),
        ("GetUser", vec![("grpc-encoding", MARK)], get(id), "12"),
        ("GetUser", vec![("grpc-timeout", MARK)], get(id), "13"),
        ("GetAllUsers", vec![], encoded(&()), "0"),
        ("GetAllUsers", vec![("users-resume-after", email)], encoded(&()), "3"),
        ("CreateUsers", vec![], several(&[create(name, email), create(name, bad_email)]), "0"),
        ("CreateUsers", vec![("users-batch", "atomic")], create(name, bad_email), "3"),
        ("CreateUsers", vec![("users-batch", email)], create(name, email), "3"),
        ("UpdateUsers", vec![], update(id, name, email), "0"),
        ("UpdateUsers", vec![], several(&[update(id, name, ""), update(email, name, "")]), "5"),
        ("UpdateUsers", vec![], update(unknown, name, email), "5"),
        ("UpdateUsers", vec![], update(id, name, bad_email), "3"),
        ("UpdateUsers", vec![], update("", name, email), "3"),
    ];
    for (method, headers, body, status) in &calls {
        let head = request(&format!("{SERVICE}{method}"));
        let head = headers.iter().fold(head, |head, (name, value)| head.header(*name, *value));
        assert_eq!(peer.call(head, body.clone()).await.grpc_status(), *status, "{method}");
    }

    let log = end(running).await;
    assert_eq!(log.matches("balafon::access").count(), 1 + calls.len(), "{log}");
    assert_eq!(log.matches(&format!("User not found: {unknown}")).count(), 2, "{log}");
    assert!(!log.to_lowercase().contains(MARK), "{log}");
    let spans = format!("{:?}", collector.spans_so_far());
    assert!(spans.contains("UpdateUsers") && !spans.to_lowercase().contains(MARK), "{spans}");
}
