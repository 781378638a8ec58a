//! `grpc.health.v1`: load balancers, orchestrators and clients ask whether the server is ready for calls
//! ([the protocol](https://github.com/grpc/grpc/blob/master/doc/health-checking.md)).

mod states;

use std::fmt;
use std::pin::pin;
use std::time::Duration;

use tokio::sync::watch;

use self::pb::{HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse};
use self::states::{States, Watcher};
use super::MAX_REQUEST;
use crate::{Request, Response, Service, Sink, Status};

pub use self::pb::health_check_response::ServingStatus;

/// The messages and the service as generated from `grpc/health/v1/health.proto`.
pub mod pb {
    include!(concat!(env!("OUT_DIR"), "/grpc.health.v1.rs"));
}

/// The most services that `List` answers with; grpc-go has the same bound.
const LIST_LIMIT: usize = 100;

/// The health of the server and of its services. The application sets it, and clients ask for it.
/// Clones share one state.
///
/// The empty name is the server as a whole. The health of a service does not follow from that of the
/// server.
///
/// ```
/// use balafon::Router;
/// use balafon::services::health::{Health, ServingStatus};
///
/// let health = Health::new();
/// health.set("helloworld.Greeter", ServingStatus::Serving);
/// let router = Router::new().add(health.service());
/// // Before the server drains:
/// health.shutdown();
/// assert_eq!(health.status(""), ServingStatus::NotServing);
/// # drop(router);
/// ```
#[derive(Clone)]
pub struct Health {
    states: watch::Sender<States>,
}

impl Health {
    /// The server as a whole is SERVING, and no service is known.
    pub fn new() -> Self {
        let mut states = States::new();
        states.set(String::new(), ServingStatus::Serving);
        Self { states: watch::Sender::new(states) }
    }

    /// The service for [`Router::add`](crate::Router::add). A request of more than 4 KiB ends with
    /// RESOURCE_EXHAUSTED, unless the router is [configured](crate::Router::configure) otherwise.
    pub fn service(&self) -> Service {
        pb::Health::into_service(self.clone()).max_receive_message_size(MAX_REQUEST)
    }

    /// Sets the health of a service, by its full name such as `helloworld.Greeter`. The empty name is
    /// the server as a whole. `ServiceUnknown` removes the service. Has no effect after
    /// [`shutdown`](Self::shutdown).
    pub fn set(&self, service: impl Into<String>, status: ServingStatus) {
        let service = service.into();
        self.update(|states| states.set(service, status));
    }

    /// Sets the health of the server and of all services that are known, as [`set`](Self::set)
    /// does.
    pub fn set_all(&self, status: ServingStatus) {
        self.update(|states| states.set_all(status));
    }

    /// Adds a service that is always SERVING, also after [`shutdown`](Self::shutdown). It is for probes
    /// that restart a process without an answer, such as the liveness probe of Kubernetes.
    pub fn set_alive(&self, name: impl Into<String>) {
        let name = name.into();
        self.update(|states| {
            states.alive = Some(states.id(&name));
            states.services.insert(states.id(&name), (name, ServingStatus::Serving));
        });
    }

    /// The health of a service: `ServiceUnknown` if none was set.
    pub fn status(&self, service: &str) -> ServingStatus {
        let states = self.states.borrow();
        states.status(states.id(service))
    }

    /// Makes everything NOT_SERVING for good: clients choose another server while this one still
    /// serves. `Watch` streams report it, and end when their connections begin to drain.
    pub fn shutdown(&self) {
        self.update(|states| {
            states.set_all(ServingStatus::NotServing);
            states.shut_down = true;
        });
    }

    /// A shutdown for [`Server::serve`](crate::Server::serve) that is announced to clients. When
    /// `signal` completes, everything becomes NOT_SERVING, as by [`shutdown`](Self::shutdown). The
    /// server serves calls for `time` more and then begins to drain, so that load balancers can send
    /// calls to other servers.
    ///
    /// ```no_run
    /// use std::time::Duration;
    ///
    /// use balafon::services::health::Health;
    /// use balafon::{Router, Server, shutdown_signal};
    /// use tokio::net::TcpListener;
    ///
    /// # async fn run(router: Router, listener: TcpListener) -> std::io::Result<()> {
    /// let health = Health::new();
    /// let router = router.add(health.service());
    /// let shutdown = health.lame_duck(shutdown_signal(), Duration::from_secs(10));
    /// Server::new().serve(listener, router, shutdown).await
    /// # }
    /// ```
    pub fn lame_duck<F>(&self, signal: F, time: Duration) -> impl Future<Output = ()> + use<F>
    where
        F: Future<Output = ()>,
    {
        let health = self.clone();
        async move {
            signal.await;
            health.shutdown();
            tokio::time::sleep(time).await;
        }
    }

    fn update(&self, change: impl FnOnce(&mut States)) {
        self.states.send_if_modified(|states| {
            if states.shut_down {
                return false;
            }
            change(states);
            states.services.retain(|_, (_, status)| *status != ServingStatus::ServiceUnknown);
            true
        });
    }

    fn watcher(&self, service: &str) -> Watcher {
        Watcher::new(self.states.subscribe(), service)
    }
}

impl pb::Health for Health {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        match self.status(&request.message.service) {
            ServingStatus::ServiceUnknown => Err(Status::not_found("unknown service")),
            status => Ok(Response::new(status.into())),
        }
    }

    async fn list(
        &self,
        _: Request<HealthListRequest>,
    ) -> Result<Response<HealthListResponse>, Status> {
        let states = self.states.borrow();
        if states.services.len() > LIST_LIMIT {
            let message = format!("there are more than {LIST_LIMIT} services");
            return Err(Status::resource_exhausted(message));
        }
        let statuses = states.services.values();
        let statuses = statuses.map(|(service, status)| (service.clone(), (*status).into()));
        Ok(Response::new(HealthListResponse { statuses: statuses.collect() }))
    }

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
        mut out: Sink<HealthCheckResponse>,
    ) -> Result<(), Status> {
        let handle = request.handle();
        let mut draining = pin!(handle.draining());
        // The stream keeps no part of the request.
        let mut watcher = self.watcher(&request.into_message().service);
        loop {
            let status = tokio::select! {
                biased;
                status = watcher.next() => status?,
                // An endless stream would delay the shutdown until the drain times out.
                reason = &mut draining => return Err(reason),
            };
            out.send(HealthCheckResponse::from(status)).await?;
            // A slow client then gets the latest status, not each one in between.
            out.flushed().await?;
        }
    }
}

impl From<ServingStatus> for HealthCheckResponse {
    fn from(status: ServingStatus) -> Self {
        Self { status: status.into() }
    }
}

impl Default for Health {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let states = self.states.borrow();
        f.debug_struct("Health")
            .field("services", &states.services.values().collect::<Vec<_>>())
            .field("shut_down", &states.shut_down)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use futures_util::FutureExt;

    use super::ServingStatus::{NotServing, ServiceUnknown, Serving, Unknown};
    use super::pb::Health as _;
    use super::*;
    use crate::Code;
    use crate::testing::Recorder;

    fn about(service: &str) -> Request<HealthCheckRequest> {
        Request::new(HealthCheckRequest { service: service.into() })
    }

    async fn check(health: &Health, service: &str) -> Result<ServingStatus, Code> {
        let answer = health.check(about(service)).await;
        answer.map(|response| response.message.status()).map_err(|status| status.code())
    }

    async fn list(health: &Health) -> Result<HealthListResponse, Status> {
        Ok(health.list(Request::new(HealthListRequest {})).await?.message)
    }

    /// The next status of the watcher, if there is one now.
    fn next_now(watcher: &mut Watcher) -> Option<ServingStatus> {
        watcher.next().now_or_never().map(|status| status.expect("the state lives"))
    }

    #[tokio::test]
    async fn check_gives_the_status_or_not_found() {
        let health = Health::new();
        health.set("a.A", NotServing);
        health.set("a.B", Unknown);
        assert_eq!(check(&health, "").await, Ok(Serving));
        assert_eq!(check(&health, "a.A").await, Ok(NotServing));
        assert_eq!(check(&health, "a.B").await, Ok(Unknown));
        assert_eq!(check(&health, "a.C").await, Err(Code::NotFound));
    }

    #[tokio::test]
    async fn service_unknown_removes_a_service() {
        let health = Health::new();
        health.set("a.A", Serving);
        health.set("a.A", ServiceUnknown);
        assert_eq!(check(&health, "a.A").await, Err(Code::NotFound));
        health.set_all(ServiceUnknown);
        assert_eq!(list(&health).await, Ok(HealthListResponse::default()));
    }

    #[tokio::test]
    async fn list_has_at_most_a_hundred_services() {
        let health = Health::new();
        health.set("a.A", NotServing);
        let statuses = list(&health).await.unwrap().statuses;
        assert_eq!(
            statuses,
            HashMap::from([("".into(), Serving.into()), ("a.A".into(), NotServing.into())])
        );

        (2..100).for_each(|n| health.set(format!("a.{n}"), Serving));
        assert_eq!(list(&health).await.unwrap().statuses.len(), 100);
        health.set("a.100", Serving);
        assert_eq!(list(&health).await.unwrap_err().code(), Code::ResourceExhausted);
    }

    #[tokio::test]
    async fn watch_of_an_unknown_service_stays_open() {
        let health = Health::new();
        let recorder = Recorder::new();
        let mut watch = pin!(health.watch(about("a.A"), recorder.sink()));
        assert!(watch.as_mut().now_or_never().is_none());
        assert_eq!(recorder.values(), [ServiceUnknown.into()]);
        assert_eq!(list(&health).await.unwrap().statuses.len(), 1);

        health.set("a.A", Serving);
        assert!(watch.as_mut().now_or_never().is_none());
        health.set("a.A", ServiceUnknown);
        assert!(watch.as_mut().now_or_never().is_none());
        assert_eq!(recorder.values(), [ServiceUnknown, Serving, ServiceUnknown].map(Into::into));
    }

    #[test]
    fn watch_leaves_no_receiver_behind() {
        let health = Health::new();
        let recorder = Recorder::new();
        assert!(health.watch(about("a.A"), recorder.sink()).now_or_never().is_none());
        assert_eq!(health.states.receiver_count(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn lame_duck_is_not_serving_until_its_time_ends() {
        let health = Health::new();
        let started = tokio::time::Instant::now();
        let (time, signal) = (Duration::from_secs(5), Duration::from_secs(1));
        let mut duck = pin!(health.lame_duck(tokio::time::sleep(signal), time));
        assert!(tokio::time::timeout(signal / 2, &mut duck).await.is_err());
        assert_eq!(health.status(""), Serving);
        assert!(tokio::time::timeout(signal, &mut duck).await.is_err());
        assert_eq!(health.status(""), NotServing);
        duck.await;
        assert_eq!(started.elapsed(), signal + time);
    }

    #[test]
    fn set_alive_keeps_a_service_serving() {
        let health = Health::new();
        health.set_alive("liveness");
        let mut watcher = health.watcher("liveness");
        assert_eq!(next_now(&mut watcher), Some(Serving));
        health.set_all(NotServing);
        health.set("liveness", NotServing);
        health.shutdown();
        assert_eq!(next_now(&mut watcher), None);
        assert_eq!(["", "liveness"].map(|name| health.status(name)), [NotServing, Serving]);
    }

    #[test]
    fn shutdown_makes_everything_not_serving_for_good() {
        let health = Health::new();
        health.set("a.A", Serving);
        let mut watcher = health.watcher("a.A");
        assert_eq!(next_now(&mut watcher), Some(Serving));

        health.clone().shutdown();
        assert_eq!(next_now(&mut watcher), Some(NotServing));
        health.set("a.A", Serving);
        health.set("a.B", Serving);
        health.set_all(Serving);
        assert_eq!(next_now(&mut watcher), None);
        assert_eq!(
            ["", "a.A", "a.B"].map(|name| health.status(name)),
            [NotServing, NotServing, ServiceUnknown]
        );
        assert_eq!(next_now(&mut health.watcher("a.A")), Some(NotServing));
    }
}
