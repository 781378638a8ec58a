//! Methods without a permission are denied.

use serde_json::json;

use super::support::{Fixture, UNARY, claims, hs256, trusting_the_secret};

async fn status(test: &mut Fixture, path: &str, changes: serde_json::Value) -> String {
    let bearer = format!("Bearer {}", hs256(&claims(changes)));
    let reply = test.call(path, &[("authorization", &bearer)]).await;
    reply.grpc_status().to_owned()
}

#[tokio::test]
async fn roles_and_scopes_decide() {
    let mut test = Fixture::new(trusting_the_secret).await;
    let reader = json!({});
    assert_eq!(status(&mut test, UNARY, reader.clone()).await, "0");
    assert_eq!(status(&mut test, "/test.Echo/Client", reader.clone()).await, "7");
    let none = json!({"roles": null});
    assert_eq!(status(&mut test, UNARY, none).await, "7");
    let scope = json!({"roles": [], "scope": "openid echo.count"});
    assert_eq!(status(&mut test, "/test.Echo/Server", scope.clone()).await, "0");
    assert_eq!(status(&mut test, UNARY, scope).await, "7");
    let admin = json!({"roles": "other admin"});
    assert_eq!(status(&mut test, "/test.Echo/Client", admin).await, "0");
    // A role must be a whole text.
    for roles in [json!([["admin"]]), json!({"admin": true}), json!("admin,x"), json!([7])] {
        assert_eq!(status(&mut test, UNARY, json!({"roles": roles})).await, "7");
    }
}

#[tokio::test]
async fn denial_gives_no_reason_and_is_audited() {
    let mut test = Fixture::new(trusting_the_secret).await;
    let bearer = format!("Bearer {}", hs256(&claims(json!({}))));
    let reply = test.call("/test.Echo/Bidi", &[("authorization", &bearer)]).await;
    assert_eq!(reply.trailer("grpc-message"), Some("permission denied"));
    assert!(reply.is_trailers_only());
    assert_eq!(test.principal(), None);
    let log = test.log();
    let line = log.lines().find(|line| line.contains("balafon::audit")).unwrap();
    for part in ["alice", "/test.Echo/Bidi", "PERMISSION_DENIED"] {
        assert!(line.contains(part), "{line}");
    }
}

#[tokio::test]
async fn open_methods_ignore_credentials() {
    let mut test = Fixture::new(trusting_the_secret).await;
    for headers in [&[][..], &[("authorization", "Bearer nonsense")]] {
        assert_eq!(test.call("/grpc.health.v1.Health/List", headers).await.grpc_status(), "0");
    }
    // Only these methods are open.
    assert_eq!(test.call("/grpc.health.v1.Health2/List", &[]).await.grpc_status(), "16");
}

#[tokio::test]
async fn unknown_methods_are_unimplemented_only_with_credentials() {
    let mut test = Fixture::new(trusting_the_secret).await;
    for path in
        ["/test.Echo/Missing", "/test.Missing/Unary", "/test.Echo/unary", "//test.Echo/Unary"]
    {
        assert_eq!(test.call(path, &[]).await.grpc_status(), "16", "{path}");
        assert_eq!(status(&mut test, path, json!({})).await, "12", "{path}");
        assert_eq!(status(&mut test, path, json!({"roles": ["admin"]})).await, "12", "{path}");
    }
    assert_eq!(test.call("/test.Echo/Unary?x", &[]).await.grpc_status(), "16");
}

#[tokio::test]
async fn malformed_head_needs_credentials_too() {
    let mut test = Fixture::new(trusting_the_secret).await;
    let reply = test.call(UNARY, &[("grpc-timeout", "soon")]).await;
    assert_eq!(reply.grpc_status(), "16");
}
