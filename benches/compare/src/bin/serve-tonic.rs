//! tonic.

#[path = "../tonic_layers/mod.rs"]
mod layers;

use std::error::Error;
use std::pin::Pin;

use compare::args::Args;
use compare::echo::Payload;
use compare::production::CALLS_PER_MINUTE;
use compare::tonic_pb::echo::echo_server::{Echo, EchoServer};
use compare::tonic_pb::users::user_service_server::{UserService, UserServiceServer};
use compare::users::{Fault, Users, message};
use futures_util::{Stream, StreamExt, stream};
use tonic::transport::{Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status, Streaming};
use user_server::pb::{
    CreateUserRequest, CreateUsersResponse, GetUserRequest, UserResponse, UserUpdate,
};

use self::layers::access_log::AccessLog;
use self::layers::metrics::Metrics;
use self::layers::{auth, rate_limit, watched};

type Answers = Pin<Box<dyn Stream<Item = Result<UserResponse, Status>> + Send>>;

struct Service(Users);

#[tonic::async_trait]
impl UserService for Service {
    async fn create_user(
        &self,
        request: Request<CreateUserRequest>,
    ) -> Result<Response<UserResponse>, Status> {
        let CreateUserRequest { name, email } = request.get_ref();
        let user = self.0.create(name, email).map_err(status)?;
        Ok(Response::new(message(user.borrowed())))
    }

    async fn get_user(
        &self,
        request: Request<GetUserRequest>,
    ) -> Result<Response<UserResponse>, Status> {
        let user = self.0.get(&request.get_ref().user_id).map_err(status)?;
        Ok(Response::new(message(user.borrowed())))
    }

    type GetAllUsersStream = Answers;

    async fn get_all_users(&self, _: Request<()>) -> Result<Response<Answers>, Status> {
        let (total, users) = self.0.all(message).map_err(status)?;
        let users: Answers = Box::pin(stream::iter(users).map(Ok));
        let mut response = Response::new(users);
        response.metadata_mut().insert("users-total", total.into());
        Ok(response)
    }

    async fn create_users(
        &self,
        request: Request<Streaming<CreateUserRequest>>,
    ) -> Result<Response<CreateUsersResponse>, Status> {
        let mut requests = request.into_inner();
        let mut user_ids = Vec::new();
        while let Some(CreateUserRequest { name, email }) = requests.message().await? {
            if let Ok(user) = self.0.create(&name, &email) {
                user_ids.push(user.id.to_string());
            }
        }
        let created_count = user_ids.len().try_into().unwrap_or(i32::MAX);
        Ok(Response::new(CreateUsersResponse { created_count, user_ids }))
    }

    type UpdateUsersStream = Answers;

    async fn update_users(
        &self,
        request: Request<Streaming<UserUpdate>>,
    ) -> Result<Response<Answers>, Status> {
        let users = self.0.clone();
        Ok(Response::new(Box::pin(request.into_inner().map(move |update| {
            let UserUpdate { user_id, name, email } = update?;
            users
                .update(&user_id, &name, &email)
                .map(|user| message(user.borrowed()))
                .map_err(status)
        }))))
    }
}

struct Echoes;

#[tonic::async_trait]
impl Echo for Echoes {
    async fn echo(&self, request: Request<Payload>) -> Result<Response<Payload>, Status> {
        Ok(Response::new(request.into_inner()))
    }
}

fn status(fault: Fault) -> Status {
    match fault {
        Fault::InvalidArgument(message) => Status::invalid_argument(message),
        Fault::NotFound(message) => Status::not_found(message),
        Fault::Internal => Status::internal("the user store failed"),
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    let users = UserServiceServer::new(Service(Users::seeded()));
    let echo = EchoServer::new(Echoes);
    let mut server = Server::builder();
    if args.tuned {
        server = server
            .initial_stream_window_size(1 << 20)
            .initial_connection_window_size(4 << 20)
            .max_frame_size(1 << 20);
    }
    if let Some((certificate, key)) = args.identity()? {
        let identity = Identity::from_pem(certificate, key);
        server = server.tls_config(ServerTlsConfig::new().identity(identity))?;
    }
    args.runtime()?.block_on(async {
        if let Some(secret) = &args.production {
            let mut server = server
                .layer(watched(Metrics::new()))
                .layer(watched(AccessLog))
                .layer(auth::layer(secret)?)
                .layer(rate_limit::layer(CALLS_PER_MINUTE));
            server.add_service(users).add_service(echo).serve(args.address).await?;
        } else if args.access_log {
            let mut server = server.layer(watched(AccessLog));
            server.add_service(users).add_service(echo).serve(args.address).await?;
        } else {
            server.add_service(users).add_service(echo).serve(args.address).await?;
        }
        Ok(())
    })
}
