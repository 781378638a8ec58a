//! ntex-grpc, on an HTTP/2 stack, a runtime and messages of its own.
//!
//! Its runtime uses io_uring where the system allows that, and epoll elsewhere.

/// `benches/README.md` has the command that generates it.
#[path = "../generated"]
mod pb {
    #[rustfmt::skip]
    pub mod echo;
    #[rustfmt::skip]
    pub mod users;
}

use std::convert::Infallible;
use std::error::Error;
use std::sync::Arc;

use compare::args::Args;
use compare::users::{Fault, Users};
use ntex::http::header::HeaderName;
use ntex::server::Server;
use ntex::server::rustls::TlsAcceptor;
use ntex::{ServiceFactory, SharedCfg, service};
use ntex_grpc::google_types::Timestamp;
use ntex_grpc::server::{GrpcServer, NamedService, ServerError, ServerRequest, ServerResponse};
use ntex_grpc::{
    BytePages, Ctx, GrpcStatus, HeaderValue, Message, RecvStream, SendStream, Service,
    encode_grpc_message,
};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use user_server::domain::User;

use self::pb::echo::Payload;
use self::pb::users::{
    CreateUserRequest, CreateUsersResponse, GetUserRequest, UserResponse, UserUpdate,
};

/// The unary calls, by hand: a method of `#[server]` that is unary has no way to fail with a status.
#[derive(Clone)]
struct UserService {
    users: Users,
    streams: Streams,
}

impl NamedService for UserService {
    const NAME: &'static str = Streams::NAME;

    fn is_streaming(method: &str) -> bool {
        Streams::is_streaming(method)
    }
}

impl Service<(), ServerRequest> for UserService {
    type Res = ServerResponse;
    type Error = ServerError;

    async fn call(
        &self,
        mut request: ServerRequest,
        context: Ctx<'_, Self, ()>,
    ) -> Result<ServerResponse, ServerError> {
        let user = match &*request.name {
            "GetUser" => {
                let GetUserRequest { user_id } = Message::read(&mut request.payload)?;
                self.users.get(&user_id)
            }
            "CreateUser" => {
                let CreateUserRequest { name, email } = Message::read(&mut request.payload)?;
                self.users.create(&name, &email)
            }
            _ => return context.call(&self.streams, request).await,
        };
        let mut payload = BytePages::default();
        message(user.map_err(error)?.borrowed()).write(&mut payload);
        Ok(ServerResponse::new(payload))
    }
}

#[derive(Clone)]
struct Streams(Users);

#[ntex_grpc::server(pb::users::UserService)]
impl Streams {
    #[method(GetAllUsers)]
    async fn get_all_users(
        &self,
        _: (),
        answers: SendStream<UserResponse>,
    ) -> Result<(), ServerError> {
        let (total, users) = self.0.all(message).map_err(error)?;
        answers.header(HeaderName::from_static("users-total"), HeaderValue::from(total));
        for user in users {
            answers.send(&user).await?;
        }
        Ok(())
    }

    #[method(CreateUsers)]
    async fn create_users(
        &self,
        mut requests: RecvStream<CreateUserRequest>,
    ) -> CreateUsersResponse {
        let mut user_ids = Vec::new();
        while let Some(Ok(CreateUserRequest { name, email })) = requests.recv().await {
            if let Ok(user) = self.0.create(&name, &email) {
                user_ids.push(user.id.to_string().into());
            }
        }
        let created_count = user_ids.len().try_into().unwrap_or(i32::MAX);
        CreateUsersResponse { created_count, user_ids }
    }

    #[method(UpdateUsers)]
    async fn update_users(
        &self,
        mut updates: RecvStream<UserUpdate>,
        answers: SendStream<UserResponse>,
    ) -> Result<(), ServerError> {
        while let Some(update) = updates.recv().await {
            let UserUpdate { user_id, name, email } = update?;
            let user = self.0.update(&user_id, &name, &email).map_err(error)?;
            answers.send(&message(user.borrowed())).await?;
        }
        Ok(())
    }
}

#[derive(Clone)]
struct Echoes;

#[ntex_grpc::server(pb::echo::Echo)]
impl Echoes {
    #[method(Echo)]
    async fn echo(&self, request: Payload) -> Payload {
        request
    }
}

/// A connection has an instance of each service, which all have one store.
macro_rules! instances {
    ($service:ident) => {
        impl ServiceFactory<(), ServerRequest> for $service {
            type Res = ServerResponse;
            type Error = ServerError;
            type Service = Self;
            type InitError = Infallible;

            async fn create(&self, _: &()) -> Result<Self, Infallible> {
                Ok(self.clone())
            }
        }
    };
}

instances!(UserService);
instances!(Echoes);

/// All users of this comparison are active, the zero value.
fn message(user: User<&str>) -> UserResponse {
    UserResponse {
        id: user.id.to_string().into(),
        name: user.name.to_owned().into(),
        email: user.email.to_owned().into(),
        created_at: Timestamp {
            seconds: user.created_at.seconds(),
            nanos: user.created_at.nanos(),
        },
        ..Default::default()
    }
}

fn error(fault: Fault) -> ServerError {
    let (status, message) = match fault {
        Fault::InvalidArgument(message) => (GrpcStatus::InvalidArgument, message),
        Fault::NotFound(message) => (GrpcStatus::NotFound, message),
        Fault::Internal => (GrpcStatus::Internal, "the user store failed".to_owned()),
    };
    ServerError::new(status, encode_grpc_message(&message), None)
}

#[ntex::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    let users = Users::seeded();
    let grpc = move || {
        let streams = Streams(users.clone());
        GrpcServer::new(UserService { users: users.clone(), streams }).service(Echoes)
    };
    let server = Server::builder();
    let config = SharedCfg::new("compare");
    let server = match args.identity()? {
        None => server.bind("plaintext", args.address, config, async move |_| grpc())?,
        Some((certificate, key)) => {
            let tls = tls(&certificate, &key)?;
            server.bind("tls", args.address, config, async move |_| {
                let accept = service(TlsAcceptor::new(Arc::clone(&tls)));
                accept.map_err(Box::<dyn Error>::from).and_then(grpc())
            })?
        }
    };
    Ok(server.run().await?)
}

fn tls(certificate: &[u8], key: &[u8]) -> Result<Arc<ServerConfig>, Box<dyn Error>> {
    let certificate = CertificateDer::from_pem_slice(certificate)?;
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], PrivateKeyDer::from_pem_slice(key)?)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}
