//! The server that is killed, and its clients.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use balafon::Rpc;
use http::uri::PathAndQuery;
use prost::Message;
use tokio_stream::{Stream, iter};
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tonic_prost::ProstCodec;
use user_server::pb::{GetUserRequest, UserResponse, UserUpdate, user_service};

pub(crate) struct Server {
    child: Child,
    pub(crate) address: String,
}

impl Server {
    pub(crate) fn start(store: &str) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_user-server"));
        command.args(["--listen", "127.0.0.1:0", "--log-format", "json", "--store", store]);
        command.args(["--log-level", "info,balafon::access=off"]);
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let listening = lines.by_ref().map_while(Result::ok).find(|it| it.contains("listening"));
        let listening = listening.expect("the server does not start");
        let (_, address) = listening.split_once(r#""address":""#).expect(&listening);
        let address = address.split_once('"').unwrap().0.to_owned();
        // Its output must not wait for a reader.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address }
    }

    pub(crate) async fn client(&self) -> Client {
        let endpoint = Endpoint::new(format!("http://{}", self.address)).unwrap();
        Client(Grpc::new(endpoint.connect().await.unwrap()))
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[derive(Clone)]
pub(crate) struct Client(Grpc<Channel>);

impl Client {
    /// Waits for the connection and returns the path of the method.
    async fn ready_for<Q, S>(&mut self, rpc: &'static Rpc<Q, S>) -> Result<PathAndQuery, Status> {
        let ready = self.0.ready().await;
        ready.map_err(|error| Status::unavailable(error.to_string()))?;
        Ok(rpc.path.parse().unwrap())
    }

    pub(crate) async fn call<Q, S>(
        &mut self,
        rpc: &'static Rpc<Q, S>,
        request: Request<Q>,
    ) -> Result<S, Status>
    where
        Q: Message + 'static,
        S: Message + Default + 'static,
    {
        let path = self.ready_for(rpc).await?;
        Ok(self.0.unary(request, path, ProstCodec::default()).await?.into_inner())
    }

    /// A stream of requests and its answer.
    pub(crate) async fn stream<Q, S>(
        &mut self,
        rpc: &'static Rpc<Q, S>,
        request: Request<impl Stream<Item = Q> + Send + 'static>,
    ) -> Result<S, Status>
    where
        Q: Message + 'static,
        S: Message + Default + 'static,
    {
        let path = self.ready_for(rpc).await?;
        let answer = self.0.client_streaming(request, path, ProstCodec::default()).await;
        Ok(answer?.into_inner())
    }

    /// A stream of one update and its answer.
    pub(crate) async fn update(&mut self, update: UserUpdate) -> Result<UserResponse, Status> {
        let ready = self.0.ready().await;
        ready.map_err(|error| Status::unavailable(error.to_string()))?;
        let path = user_service::UPDATE_USERS.path.parse().unwrap();
        let (updates, codec) = (Request::new(iter([update])), ProstCodec::default());
        let mut answers = self.0.streaming(updates, path, codec).await?.into_inner();
        answers.message().await?.ok_or_else(|| Status::unknown("no answer"))
    }

    pub(crate) async fn user(&mut self, id: &str) -> UserResponse {
        let request = Request::new(GetUserRequest { user_id: id.to_owned() });
        self.call(&user_service::GET_USER, request).await.unwrap()
    }

    pub(crate) async fn users_after(&mut self, id: Option<&str>) -> Vec<UserResponse> {
        let mut request = Request::new(());
        if let Some(id) = id {
            request.metadata_mut().insert("users-resume-after", id.parse().unwrap());
        }
        self.0.ready().await.unwrap();
        let path = user_service::GET_ALL_USERS.path.parse().unwrap();
        let codec = ProstCodec::<(), UserResponse>::default();
        let mut stream = self.0.server_streaming(request, path, codec).await.unwrap().into_inner();
        let mut users = Vec::new();
        while let Some(user) = stream.message().await.unwrap() {
            users.push(user);
        }
        users
    }
}
