//! volo-grpc, which is built on hyper and on messages of its own.

#[allow(clippy::all, clippy::pedantic, dead_code)]
mod pb {
    include!(concat!(env!("OUT_DIR"), "/volo_gen.rs"));
    pub use self::volo_gen::compare as echo;
    pub use self::volo_gen::google::protobuf::{Empty, Timestamp};
    pub use self::volo_gen::ru::tinkoff::kora::example as users;
}

use std::error::Error;

use compare::args::Args;
use compare::users::{Fault, Users};
use futures_util::{StreamExt, stream};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use user_server::domain::User;
use volo::net::Address;
use volo::net::tls::ServerTlsConfig;
use volo_grpc::server::{Server, ServiceBuilder};
use volo_grpc::{BoxStream, Code, RecvStream, Request, Response, Status};

use self::pb::echo::{Echo, EchoServer, Payload};
use self::pb::users::{
    CreateUserRequest, CreateUsersResponse, GetUserRequest, UserResponse, UserService,
    UserServiceServer, UserUpdate,
};
use self::pb::{Empty, Timestamp};

type Answers = BoxStream<'static, Result<UserResponse, Status>>;

struct Service(Users);

// Its status is large, and has to be returned all the same.
#[allow(clippy::result_large_err)]
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

    async fn get_all_users(&self, _: Request<Empty>) -> Result<Response<Answers>, Status> {
        let (total, users) = self.0.all(message).map_err(status)?;
        let users: Answers = Box::pin(stream::iter(users).map(Ok));
        let mut response = Response::new(users);
        response.metadata_mut().insert("users-total", total.into());
        Ok(response)
    }

    async fn create_users(
        &self,
        request: Request<RecvStream<CreateUserRequest>>,
    ) -> Result<Response<CreateUsersResponse>, Status> {
        let mut requests = request.into_inner();
        let mut user_ids = Vec::new();
        while let Some(request) = requests.next().await {
            let CreateUserRequest { name, email } = request?;
            if let Ok(user) = self.0.create(&name, &email) {
                user_ids.push(user.id.to_string().into());
            }
        }
        let created_count = user_ids.len().try_into().unwrap_or(i32::MAX);
        Ok(Response::new(CreateUsersResponse { created_count, user_ids }))
    }

    async fn update_users(
        &self,
        request: Request<RecvStream<UserUpdate>>,
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

impl Echo for Echoes {
    async fn echo(&self, request: Request<Payload>) -> Result<Response<Payload>, Status> {
        Ok(Response::new(request.into_inner()))
    }
}

/// All users of this comparison are active, the zero value.
fn message(user: User<&str>) -> UserResponse {
    UserResponse {
        id: user.id.to_string().into(),
        name: user.name.to_owned().into(),
        email: user.email.to_owned().into(),
        created_at: Some(Timestamp {
            seconds: user.created_at.seconds(),
            nanos: user.created_at.nanos(),
        }),
        ..Default::default()
    }
}

fn status(fault: Fault) -> Status {
    match fault {
        Fault::InvalidArgument(message) => Status::new(Code::InvalidArgument, message),
        Fault::NotFound(message) => Status::new(Code::NotFound, message),
        Fault::Internal => Status::new(Code::Internal, "the user store failed"),
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    let mut server = Server::new()
        .add_service(ServiceBuilder::new(UserServiceServer::new(Service(Users::seeded()))).build())
        .add_service(ServiceBuilder::new(EchoServer::new(Echoes)).build());
    if let Some((certificate, key)) = args.identity()? {
        server = server.tls_config(tls(&certificate, &key)?);
    }
    let served = args.runtime()?.block_on(server.run(Address::from(args.address)));
    served.map_err(|error| error as Box<dyn Error>)
}

/// With the cryptography that the others have; volo's own constructor would take another one.
fn tls(certificate: &[u8], key: &[u8]) -> Result<ServerTlsConfig, Box<dyn Error>> {
    let certificate = CertificateDer::from_pem_slice(certificate)?;
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], PrivateKeyDer::from_pem_slice(key)?)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(ServerTlsConfig { acceptor: config.into() })
}
