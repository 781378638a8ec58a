//! `grpc.health.v1`: tells load balancers, orchestrators and clients whether calls are welcome
//! ([the protocol](https://github.com/grpc/grpc/blob/master/doc/health-checking.md)).

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::pin::pin;
use std::time::Duration;

use tokio::sync::watch;

use self::pb::{HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse};
use super::MAX_REQUEST;
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
    services: HashMap<Id, (String, ServingStatus)>,
    /// One that never changes.
    alive: Option<Id>,
    ids: RandomState,
    shut_down: bool,
}

/// A keyed hash of a service's name. A `Watch` stream keeps it in place of the name, which its
/// client chooses, at its full length, without our ever having heard of it. Nobody can look for two
/// names with one hash, since nobody knows the key.
type Id = u64;

impl Health {
    /// The server as a whole is SERVING; no service is known.
    pub fn new() -> Self {
        let mut states = States {
            services: HashMap::new(),
            alive: None,
            ids: RandomState::new(),
            shut_down: false,
        };
        states.set(String::new(), ServingStatus::Serving);
        Self { states: watch::Sender::new(states) }
    }

    /// The service that tells clients, for [`Router::add`](crate::Router::add). A request of more
    /// than 4 KiB ends with RESOURCE_EXHAUSTED, unless the router is
    /// [configured](crate::Router::configure) otherwise.
    pub fn service(&self) -> Service {
        pb::Health::into_service(self.clone()).max_receive_message_size(MAX_REQUEST)
    }

    /// Sets the health of a service, by its full name such as `helloworld.Greeter`; the empty name
    /// is the server as a whole. `ServiceUnknown` forgets the service. Without effect after
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

    /// Makes a name known that is SERVING for as long as the process lives, whatever becomes of the others,
    /// also after [`shutdown`](Self::shutdown): for probes that start a process again which does not
    /// answer, such as the liveness probe of Kubernetes.
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
            states.services.retain(|_, (_, status)| *status != ServingStatus::ServiceUnknown);
            true
        });
    }

    fn watcher(&self, service: &str) -> Watcher {
        let states = self.states.subscribe();
        let service = states.borrow().id(service);
        Watcher { states, service, told: None }
    }
}

impl States {
    fn id(&self, service: &str) -> Id {
        self.ids.hash_one(service)
    }

    fn status(&self, service: Id) -> ServingStatus {
        self.services.get(&service).map_or(ServingStatus::ServiceUnknown, |(_, status)| *status)
    }

    fn set(&mut self, service: String, status: ServingStatus) {
        let id = self.id(&service);
        if self.alive != Some(id) {
            self.services.insert(id, (service, status));
        }
    }

    fn set_all(&mut self, status: ServingStatus) {
        for (id, (_, known)) in &mut self.services {
            if self.alive != Some(*id) {
                *known = status;
            }
        }
    }
}

/// The health of one service as one client is told of it. It looks at the state that all share and
/// keeps no queue and no name, so a slow client costs no memory, and neither does a long name.
struct Watcher {
    states: watch::Receiver<States>,
    service: Id,
    told: Option<ServingStatus>,
}

impl Watcher {
    /// The current status at once, later the latest one that differs from what was told. Cancel
    /// safe.
    async fn next(&mut self) -> Result<ServingStatus, Status> {
        loop {
            let status = self.states.borrow_and_update().status(self.service);
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
        // Nothing of the request is kept for as long as the stream lives.
        let mut watcher = self.watcher(&request.into_message().service);
        loop {
            let status = tokio::select! {
                biased;
                status = watcher.next() => status?,
                // A stream without end would hold the server up until the drain times out.
                reason = &mut draining => return Err(reason),
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
            .field("services", &states.services.values().collect::<Vec<_>>())
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
        let mut watcher = health.watcher("");
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
        let mut watcher = health.watcher("");
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
        let mut watcher = health.watcher("a.A");
        assert_eq!(news(&mut watcher), Some(ServiceUnknown));
        health.set("a.B", Serving);
        assert_eq!(news(&mut watcher), None);
    }

    #[tokio::test]
    async fn watch_wakes_its_reader() {
        let health = Health::new();
        let mut watcher = health.watcher("");
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
    fn a_watch_keeps_nothing_of_a_name() {
        let health = Health::new();
        // A hash and a status beside the shared state: there is no place for a name.
        assert_eq!(size_of::<Watcher>(), size_of::<watch::Receiver<States>>() + 16);
        // And still two names are two.
        health.set("a", Serving);
        assert_eq!(news(&mut health.watcher("a")), Some(Serving));
        assert_eq!(news(&mut health.watcher("aa")), Some(ServiceUnknown));
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
    fn what_is_alive_is_serving_whatever_becomes_of_the_others() {
        let health = Health::new();
        health.set_alive("liveness");
        let mut watcher = health.watcher("liveness");
        assert_eq!(news(&mut watcher), Some(Serving));
        health.set_all(NotServing);
        health.set("liveness", NotServing);
        health.shutdown();
        assert_eq!(news(&mut watcher), None);
        assert_eq!(["", "liveness"].map(|name| health.status(name)), [NotServing, Serving]);
    }

    #[test]
    fn after_shutdown_everything_is_not_serving_and_stays_so() {
        let health = Health::new();
        health.set("a.A", Serving);
        let mut watcher = health.watcher("a.A");
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
        assert_eq!(news(&mut health.watcher("a.A")), Some(NotServing));
    }
}
