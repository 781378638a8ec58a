//! `grpc.health.v1`: tells load balancers, orchestrators and clients whether calls are welcome
//! ([the protocol](https://github.com/grpc/grpc/blob/master/doc/health-checking.md)).

use std::collections::HashMap;
use std::fmt;
use std::pin::pin;
use std::time::Duration;

use tokio::sync::watch;

use self::pb::{HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse};
use crate::{Request, Response, Service, Sink, Status};

pub use self::pb::health_check_response::ServingStatus;

/// The messages and the service as generated from `grpc/health/v1/health.proto`.
pub mod pb {
    include!(concat!(env!("OUT_DIR"), "/grpc.health.v1.rs"));
}

/// The most services that `List` answers with; grpc-go has the same bound.
const LIST_LIMIT: usize = 100;

/// The health of the server and of its services, set by the application and served to clients.
/// Clones share one state.
///
/// A service has the health that was set for its name and no other: it does not follow from that
/// of the server, whose name is the empty one.
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

struct States {
    by_service: HashMap<String, ServingStatus>,
    shut_down: bool,
}

impl Health {
    /// The server as a whole is SERVING; no service is known.
    pub fn new() -> Self {
        let by_service = HashMap::from([(String::new(), ServingStatus::Serving)]);
        Self { states: watch::Sender::new(States { by_service, shut_down: false }) }
    }

    /// The service that tells clients, for [`Router::add`](crate::Router::add).
    pub fn service(&self) -> Service {
        pb::Health::into_service(self.clone())
    }

    /// Sets the health of a service, by its full name such as `helloworld.Greeter`; the empty name
    /// is the server as a whole. `ServiceUnknown` forgets the service. Without effect after
    /// [`shutdown`](Self::shutdown).
    pub fn set(&self, service: impl Into<String>, status: ServingStatus) {
        let service = service.into();
        self.update(|states| {
            states.by_service.insert(service, status);
        });
    }

    /// Sets the health of the server and of all services that are known, as [`set`](Self::set)
    /// does.
    pub fn set_all(&self, status: ServingStatus) {
        self.update(|states| states.set_all(status));
    }

    /// The health of a service: `ServiceUnknown` if none was set.
    pub fn status(&self, service: &str) -> ServingStatus {
        self.states.borrow().status(service)
    }

    /// Makes everything NOT_SERVING for good: clients go elsewhere while the server still serves.
    /// `Watch` streams see it; they end when their connections begin to drain.
    pub fn shutdown(&self) {
        self.update(|states| {
            states.set_all(ServingStatus::NotServing);
            states.shut_down = true;
        });
    }

    /// A shutdown for [`Server::serve`](crate::Server::serve) that clients can see coming: when
    /// `signal` completes everything is NOT_SERVING, as by [`shutdown`](Self::shutdown), and the
    /// server begins to drain when `time` has passed. Until then it serves whatever comes, so that
    /// load balancers find the time to send calls elsewhere.
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
            states.by_service.retain(|_, status| *status != ServingStatus::ServiceUnknown);
            true
        });
    }

    fn watcher(&self, service: String) -> Watcher {
        Watcher { states: self.states.subscribe(), service, told: None }
    }
}

impl States {
    fn status(&self, service: &str) -> ServingStatus {
        self.by_service.get(service).copied().unwrap_or(ServingStatus::ServiceUnknown)
    }

    fn set_all(&mut self, status: ServingStatus) {
        self.by_service.values_mut().for_each(|known| *known = status);
    }
}

/// The health of one service as one client is told of it. It looks at the state that all share and
/// keeps no queue, so a slow client costs no memory, and neither does an unknown name.
struct Watcher {
    states: watch::Receiver<States>,
    service: String,
    told: Option<ServingStatus>,
}

impl Watcher {
    /// The current status at once, later the latest one that differs from what was told. Cancel
    /// safe.
    async fn next(&mut self) -> Result<ServingStatus, Status> {
        loop {
            let status = self.states.borrow_and_update().status(&self.service);
            if self.told.replace(status) != Some(status) {
                return Ok(status);
            }
            let changed = self.states.changed().await;
            changed.map_err(|_| Status::unavailable("health is no longer reported"))?;
        }
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
        if states.by_service.len() > LIST_LIMIT {
            let message = format!("there are more than {LIST_LIMIT} services");
            return Err(Status::resource_exhausted(message));
        }
        let statuses = states.by_service.iter();
        let statuses = statuses.map(|(service, status)| (service.clone(), (*status).into()));
        Ok(Response::new(HealthListResponse { statuses: statuses.collect() }))
    }

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
        mut out: Sink<HealthCheckResponse>,
    ) -> Result<(), Status> {
        let mut draining = pin!(request.draining());
        let mut watcher = self.watcher(request.into_message().service);
        loop {
            let status = tokio::select! {
                biased;
                status = watcher.next() => status?,
                // A stream without end would hold the server up until the drain times out.
                () = &mut draining => return Err(Status::unavailable("the server is shutting down")),
            };
            out.send(HealthCheckResponse::from(status)).await?;
            // A slow client then gets the latest, not all that was in between.
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
            .field("by_service", &states.by_service)
            .field("shut_down", &states.shut_down)
            .finish()
    }
}

#[cfg(test)]
mod tests {
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

    /// What the watcher gives without waiting.
    fn news(watcher: &mut Watcher) -> Option<ServingStatus> {
        watcher.next().now_or_never().map(|news| news.expect("the state lives"))
    }

    #[tokio::test]
    async fn check_answers_what_was_set_and_not_found_for_an_unknown_service() {
        let health = Health::new();
        health.set("a.A", NotServing);
        health.set("a.B", Unknown);
        assert_eq!(check(&health, "").await, Ok(Serving));
        assert_eq!(check(&health, "a.A").await, Ok(NotServing));
        assert_eq!(check(&health, "a.B").await, Ok(Unknown));
        assert_eq!(check(&health, "a.C").await, Err(Code::NotFound));
    }

    #[tokio::test]
    async fn service_unknown_forgets_a_service() {
        let health = Health::new();
        health.set("a.A", Serving);
        health.set("a.A", ServiceUnknown);
        assert_eq!(check(&health, "a.A").await, Err(Code::NotFound));
        health.set_all(ServiceUnknown);
        assert_eq!(list(&health).await, Ok(HealthListResponse::default()));
    }

    #[tokio::test]
    async fn list_has_all_services_and_at_most_a_hundred() {
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

    #[test]
    fn watch_tells_the_current_status_at_once_and_drops_repeats() {
        let health = Health::new();
        let mut watcher = health.watcher(String::new());
        assert_eq!(news(&mut watcher), Some(Serving));
        assert_eq!(news(&mut watcher), None);
        health.set("", Serving);
        assert_eq!(news(&mut watcher), None);
        health.set("", NotServing);
        assert_eq!(news(&mut watcher), Some(NotServing));
    }

    #[test]
    fn a_slow_reader_of_watch_gets_the_latest_status() {
        let health = Health::new();
        let mut watcher = health.watcher(String::new());
        assert_eq!(news(&mut watcher), Some(Serving));
        [NotServing, Serving, Unknown].into_iter().for_each(|status| health.set("", status));
        assert_eq!(news(&mut watcher), Some(Unknown));
        assert_eq!(news(&mut watcher), None);
        // Back to what was told last: a repeat.
        [Serving, Unknown].into_iter().for_each(|status| health.set("", status));
        assert_eq!(news(&mut watcher), None);
    }

    #[test]
    fn watch_of_one_service_is_silent_about_the_others() {
        let health = Health::new();
        let mut watcher = health.watcher("a.A".into());
        assert_eq!(news(&mut watcher), Some(ServiceUnknown));
        health.set("a.B", Serving);
        assert_eq!(news(&mut watcher), None);
    }

    #[tokio::test]
    async fn watch_wakes_its_reader() {
        let health = Health::new();
        let mut watcher = health.watcher(String::new());
        assert_eq!(news(&mut watcher), Some(Serving));
        let reader = tokio::spawn(async move { watcher.next().await });
        tokio::task::yield_now().await;
        health.set("", NotServing);
        assert_eq!(reader.await.unwrap(), Ok(NotServing));
    }

    #[tokio::test]
    async fn watch_of_an_unknown_service_stays_open_and_stores_nothing() {
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
    fn a_watch_that_is_over_leaves_nothing_behind() {
        let health = Health::new();
        let recorder = Recorder::new();
        assert!(health.watch(about("a.A"), recorder.sink()).now_or_never().is_none());
        assert_eq!(health.states.receiver_count(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lame_duck_is_not_serving_and_ends_when_its_time_has_passed() {
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
    fn after_shutdown_everything_is_not_serving_and_stays_so() {
        let health = Health::new();
        health.set("a.A", Serving);
        let mut watcher = health.watcher("a.A".into());
        assert_eq!(news(&mut watcher), Some(Serving));

        health.clone().shutdown();
        assert_eq!(news(&mut watcher), Some(NotServing));
        health.set("a.A", Serving);
        health.set("a.B", Serving);
        health.set_all(Serving);
        assert_eq!(news(&mut watcher), None);
        assert_eq!(
            ["", "a.A", "a.B"].map(|name| health.status(name)),
            [NotServing, NotServing, ServiceUnknown]
        );
        assert_eq!(news(&mut health.watcher("a.A".into())), Some(NotServing));
    }
}
