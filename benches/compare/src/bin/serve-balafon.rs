//! balafon as `user-server` runs it, on one worker, with the echo service beside.

use std::error::Error;

use balafon::interceptors::AccessLog;
use balafon::services::health::{Health, ServingStatus};
use balafon::services::reflection;
use balafon::users::Users;
use balafon::users::pb::{UserService, user_service};
use balafon::{Request, Response, Router, Server, Status, Tls};
use compare::args::Args;
use compare::echo::{Echo, Payload};
use compare::users::seeded;

struct Echoes;

impl Echo for Echoes {
    async fn echo(&self, request: Request<Payload>) -> Result<Response<Payload>, Status> {
        Ok(Response::new(request.message))
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    let mut server = Server::new().workers(1);
    if let Some((certificate, key)) = args.identity()? {
        server = server.tls(Tls::from_pem(&certificate, &key)?);
    }
    let mut router = Router::new();
    if args.access_log {
        router = router.intercept(AccessLog);
    }
    let health = Health::new();
    health.set(user_service::NAME, ServingStatus::Serving);
    let router = router
        .add(Users::new(seeded()).into_service())
        .add(Echoes.into_service())
        .add(health.service());
    server.run(args.address, reflection::reflect(router))?;
    Ok(())
}
