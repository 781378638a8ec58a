//! connectrpc, which is built on hyper and on messages of its own.

use std::error::Error;
use std::sync::Arc;

use buffa::MessageField;
use buffa_types::google::protobuf::{Empty, Timestamp};
use compare::args::Args;
use compare::connect_pb::compare::{Echo, Payload};
use compare::connect_pb::ru::tinkoff::kora::example::{
    CreateUserRequest, CreateUsersResponse, GetUserRequest, UserResponse, UserService, UserUpdate,
};
use compare::users::{Fault, Users};
use connectrpc::{
    ConnectError, Encodable, InboundStream, RequestContext, Response, Router, Server,
    ServiceRequest, ServiceResult, ServiceStream,
};
use futures_util::{StreamExt, stream};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use user_server::domain::User;

struct Service(Users);

impl UserService for Service {
    async fn create_user<'a>(
        &'a self,
        _: RequestContext,
        request: ServiceRequest<'_, CreateUserRequest>,
    ) -> ServiceResult<impl Encodable<UserResponse> + Send + use<'a>> {
        let user = self.0.create(request.name, request.email).map_err(error)?;
        Response::ok(message(user.borrowed()))
    }

    async fn get_user<'a>(
        &'a self,
        _: RequestContext,
        request: ServiceRequest<'_, GetUserRequest>,
    ) -> ServiceResult<impl Encodable<UserResponse> + Send + use<'a>> {
        let user = self.0.get(request.user_id).map_err(error)?;
        Response::ok(message(user.borrowed()))
    }

    async fn get_all_users(
        &self,
        _: RequestContext,
        _: ServiceRequest<'_, Empty>,
    ) -> ServiceResult<ServiceStream<impl Encodable<UserResponse> + Send + use<>>> {
        let (total, users) = self.0.all(message).map_err(error)?;
        let users = stream::iter(users).map(Ok);
        Ok(Response::stream(users).with_header("users-total", total.to_string()))
    }

    async fn create_users<'a>(
        &'a self,
        _: RequestContext,
        mut requests: InboundStream<CreateUserRequest>,
    ) -> ServiceResult<impl Encodable<CreateUsersResponse> + Send + use<'a>> {
        let mut user_ids = Vec::new();
        while let Some(request) = requests.next().await {
            let request = request?;
            let request = request.view();
            if let Ok(user) = self.0.create(request.name, request.email) {
                user_ids.push(user.id.to_string());
            }
        }
        let created_count = user_ids.len().try_into().unwrap_or(i32::MAX);
        Response::ok(CreateUsersResponse { created_count, user_ids, ..Default::default() })
    }

    async fn update_users(
        &self,
        _: RequestContext,
        requests: InboundStream<UserUpdate>,
    ) -> ServiceResult<ServiceStream<impl Encodable<UserResponse> + Send + use<>>> {
        let users = self.0.clone();
        Ok(Response::stream(requests.map(move |update| {
            let update = update?;
            let update = update.view();
            let user = users.update(update.user_id, update.name, update.email);
            user.map(|user| message(user.borrowed())).map_err(error)
        })))
    }
}

struct Echoes;

impl Echo for Echoes {
    async fn echo<'a>(
        &'a self,
        _: RequestContext,
        request: ServiceRequest<'_, Payload>,
    ) -> ServiceResult<impl Encodable<Payload> + Send + use<'a>> {
        Response::ok(request.to_owned_view())
    }
}

/// All users of this comparison are active, the zero value.
fn message(user: User<&str>) -> UserResponse {
    UserResponse {
        id: user.id.to_string(),
        name: user.name.to_owned(),
        email: user.email.to_owned(),
        created_at: MessageField::some(Timestamp {
            seconds: user.created_at.seconds(),
            nanos: user.created_at.nanos(),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn error(fault: Fault) -> ConnectError {
    match fault {
        Fault::InvalidArgument(message) => ConnectError::invalid_argument(message),
        Fault::NotFound(message) => ConnectError::not_found(message),
        Fault::Internal => ConnectError::internal("the user store failed"),
    }
}

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let args = Args::parse();
    let router =
        Router::new().add_service(Arc::new(Service(Users::seeded()))).add_service(Arc::new(Echoes));
    let mut server = Server::new(router);
    if args.tuned {
        server = server
            .with_http2_initial_stream_window_size(1 << 20)
            .with_http2_initial_connection_window_size(4 << 20);
    }
    if let Some((certificate, key)) = args.identity()? {
        let certificate = CertificateDer::from_pem_slice(&certificate)?;
        let mut tls = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate], PrivateKeyDer::from_pem_slice(&key)?)?;
        tls.alpn_protocols = vec![b"h2".to_vec()];
        server = server.with_tls(Arc::new(tls));
    }
    args.runtime()?.block_on(server.serve(args.address))
}
