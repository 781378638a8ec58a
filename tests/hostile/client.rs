//! An honest client, on h2.

use std::io;

use bytes::{Bytes, BytesMut};
use h2::client::SendRequest;
use http::Request;
use prost::Message;
use user_server::pb::{CreateUserRequest, UserResponse};

use crate::link::Target;
use crate::wire::message;

pub(crate) const CHECK: &str = "/grpc.health.v1.Health/Check";
pub(crate) const WATCH: &str = "/grpc.health.v1.Health/Watch";
pub(crate) const REFLECTION: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
pub(crate) const GET_USER: &str = "/ru.tinkoff.kora.example.UserService/GetUser";
pub(crate) const CREATE_USER: &str = "/ru.tinkoff.kora.example.UserService/CreateUser";
pub(crate) const CREATE_USERS: &str = "/ru.tinkoff.kora.example.UserService/CreateUsers";
pub(crate) const UPDATE_USERS: &str = "/ru.tinkoff.kora.example.UserService/UpdateUsers";
pub(crate) const GET_ALL_USERS: &str = "/ru.tinkoff.kora.example.UserService/GetAllUsers";
pub(crate) const NO_METHOD: &str = "/ru.tinkoff.kora.example.UserService/NoMethod";

/// Messages of one CreateUsers: the server's default of `--max-batch`.
const BATCH: usize = 10_000;

#[derive(Clone)]
pub(crate) struct Client {
    h2: SendRequest<Bytes>,
    authorization: Option<String>,
}

impl Client {
    pub(crate) async fn connect(target: &Target) -> io::Result<Self> {
        let io = target.connect().await?;
        let mut builder = h2::client::Builder::new();
        builder.initial_connection_window_size(1 << 20);
        let (h2, connection) = builder.handshake(io).await.map_err(io::Error::other)?;
        tokio::spawn(connection);
        let authorization = target.token.as_ref().map(|token| format!("Bearer {token}"));
        Ok(Self { h2, authorization })
    }

    /// Makes a call with one message and returns the status.
    pub(crate) async fn call(&self, path: &str, request: &[u8]) -> Result<u32, String> {
        Ok(self.exchange(path, message(false, request).into()).await?.0)
    }

    /// The id of a new user.
    pub(crate) async fn create_user(&self) -> String {
        let user = message(false, &alice().encode_to_vec());
        let (status, answer) = self.exchange(CREATE_USER, user.into()).await.unwrap();
        assert_eq!(status, 0, "a user is created");
        UserResponse::decode(&answer[5..]).unwrap().id
    }

    pub(crate) async fn create_users(&self, count: usize) {
        let batch: Bytes = message(false, &alice().encode_to_vec()).repeat(BATCH).into();
        for _ in 0..count / BATCH {
            let (status, _) = self.exchange(CREATE_USERS, batch.clone()).await.unwrap();
            assert_eq!(status, 0, "users are created");
        }
    }

    async fn exchange(&self, path: &str, body: Bytes) -> Result<(u32, Bytes), String> {
        let mut request = Request::post(format!("http://test{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        if let Some(authorization) = &self.authorization {
            request = request.header("authorization", authorization);
        }
        let mut client = self.h2.clone().ready().await.map_err(text)?;
        let (response, mut send) =
            client.send_request(request.body(()).unwrap(), false).map_err(text)?;
        send.send_data(body, true).map_err(text)?;
        let response = response.await.map_err(text)?;
        let head = response.headers().clone();
        let mut stream = response.into_body();
        let mut answer = BytesMut::new();
        while let Some(data) = stream.data().await {
            let data = data.map_err(text)?;
            let _ = stream.flow_control().release_capacity(data.len());
            answer.extend_from_slice(&data);
        }
        let trailers = stream.trailers().await.map_err(text)?.unwrap_or(head);
        let status = trailers.get("grpc-status").and_then(|it| it.to_str().ok()?.parse().ok());
        Ok((status.ok_or("an answer without a status")?, answer.freeze()))
    }
}

fn text(error: h2::Error) -> String {
    error.to_string()
}

pub(crate) fn alice() -> CreateUserRequest {
    CreateUserRequest { name: "Alice".to_owned(), email: "alice@example.com".to_owned() }
}
