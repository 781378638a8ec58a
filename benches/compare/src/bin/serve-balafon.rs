//! balafon as `user-server` runs it, on one worker, with the echo service beside.

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use balafon::interceptors::auth::{Auth, KeyFile, Permissions};
use balafon::interceptors::rate_limit::RateLimit;
use balafon::interceptors::{AccessLog, Metrics};
use balafon::services::health::{Health, ServingStatus};
use balafon::services::reflection;
use balafon::{Http2, Request, Response, Router, Server, Status, Tls};
use compare::args::Args;
use compare::echo::{Echo, Payload};
use compare::production::{AUDIENCE, CALLS_PER_MINUTE, ISSUER, ROLES};
use compare::users::seeded;
use user_server::pb::{UserService, user_service};
use user_server::service::Users;

struct Echoes;

impl Echo for Echoes {
    async fn echo(&self, request: Request<Payload>) -> Result<Response<Payload>, Status> {
        Ok(Response::new(request.message))
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    let mut server = Server::new().workers(1);
    if args.native {
        server = server.http2(Http2::Native);
    }
    if let Some((certificate, key)) = args.identity()? {
        server = server.tls(Tls::from_pem(&certificate, &key)?);
    }
    let health = Health::new();
    health.set(user_service::NAME, ServingStatus::Serving);
    let mut router = reflection::reflect(
        Router::new()
            .add(Users::new(seeded()).into_service())
            .add(Echoes.into_service())
            .add(health.service()),
    );
    if args.production.is_some() {
        let metrics = Metrics::new(&router);
        router = router.intercept(metrics);
    }
    if args.access_log {
        router = router.intercept(AccessLog);
    }
    if let Some(secret) = &args.production {
        let minute = Duration::from_secs(60);
        let limit = RateLimit::new().limit("*", CALLS_PER_MINUTE.get(), minute)?;
        router = router.intercept(auth(secret)?).intercept(limit);
    }
    server.run(args.address, router)?;
    Ok(())
}

fn auth(secret: &Path) -> Result<Auth, Box<dyn Error>> {
    let mut permissions = Permissions::new();
    for (role, methods) in ROLES {
        let patterns: Vec<_> = methods.iter().map(|method| format!("*{method}")).collect();
        permissions = permissions.role(role, patterns.iter().map(String::as_str))?;
    }
    let auth = Auth::builder().keys(KeyFile::secret(secret)).permissions(permissions);
    Ok(auth.issuer(ISSUER).audience(AUDIENCE).build()?)
}
