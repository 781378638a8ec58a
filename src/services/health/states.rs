//! The state that all clones of [`Health`](super::Health) share, and its watchers.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use tokio::sync::watch;

use super::ServingStatus;
use crate::Status;

pub(super) struct States {
    pub(super) services: HashMap<Id, (String, ServingStatus)>,
    /// A service that is always SERVING.
    pub(super) alive: Option<Id>,
    ids: RandomState,
    pub(super) shut_down: bool,
}

/// A keyed hash of a service's name. A `Watch` stream keeps it in place of the name, which its client
/// chooses freely, at any length. Clients cannot search for two names with one hash, since they do not
/// know the key.
pub(super) type Id = u64;

impl States {
    pub(super) fn new() -> Self {
        Self { services: HashMap::new(), alive: None, ids: RandomState::new(), shut_down: false }
    }

    pub(super) fn id(&self, service: &str) -> Id {
        self.ids.hash_one(service)
    }

    pub(super) fn status(&self, service: Id) -> ServingStatus {
        self.services.get(&service).map_or(ServingStatus::ServiceUnknown, |(_, status)| *status)
    }

    pub(super) fn set(&mut self, service: String, status: ServingStatus) {
        let id = self.id(&service);
        if self.alive != Some(id) {
            self.services.insert(id, (service, status));
        }
    }

    pub(super) fn set_all(&mut self, status: ServingStatus) {
        for (id, (_, known)) in &mut self.services {
            if self.alive != Some(*id) {
                *known = status;
            }
        }
    }
}

/// The health of one service, for one client. It reads the shared state, and has no queue and no name:
/// neither a slow client nor a long name costs memory.
pub(super) struct Watcher {
    states: watch::Receiver<States>,
    service: Id,
    /// The status that was sent last.
    sent: Option<ServingStatus>,
}

impl Watcher {
    pub(super) fn new(states: watch::Receiver<States>, service: &str) -> Self {
        let service = states.borrow().id(service);
        Self { states, service, sent: None }
    }

    /// The first time the current status, later the latest one that differs from the status sent
    /// last. Cancel safe.
    pub(super) async fn next(&mut self) -> Result<ServingStatus, Status> {
        loop {
            let status = self.states.borrow_and_update().status(self.service);
            if self.sent.replace(status) != Some(status) {
                return Ok(status);
            }
            let changed = self.states.changed().await;
            changed.map_err(|_| Status::unavailable("health is no longer reported"))?;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::services::health::Health;
    use crate::services::health::ServingStatus::{NotServing, ServiceUnknown, Serving, Unknown};

    /// The next status of the watcher, if there is one now.
    fn next_now(watcher: &mut Watcher) -> Option<ServingStatus> {
        watcher.next().now_or_never().map(|status| status.expect("the state lives"))
    }

    #[test]
    fn watch_begins_with_the_status_and_skips_repeats() {
        let health = Health::new();
        let mut watcher = health.watcher("");
        assert_eq!(next_now(&mut watcher), Some(Serving));
        assert_eq!(next_now(&mut watcher), None);
        health.set("", Serving);
        assert_eq!(next_now(&mut watcher), None);
        health.set("", NotServing);
        assert_eq!(next_now(&mut watcher), Some(NotServing));
    }

    #[test]
    fn watch_gives_a_slow_reader_the_latest_status() {
        let health = Health::new();
        let mut watcher = health.watcher("");
        assert_eq!(next_now(&mut watcher), Some(Serving));
        [NotServing, Serving, Unknown].into_iter().for_each(|status| health.set("", status));
        assert_eq!(next_now(&mut watcher), Some(Unknown));
        assert_eq!(next_now(&mut watcher), None);
        // Back to the status that was sent last: a repeat.
        [Serving, Unknown].into_iter().for_each(|status| health.set("", status));
        assert_eq!(next_now(&mut watcher), None);
    }

    #[test]
    fn watch_ignores_other_services() {
        let health = Health::new();
        let mut watcher = health.watcher("a.A");
        assert_eq!(next_now(&mut watcher), Some(ServiceUnknown));
        health.set("a.B", Serving);
        assert_eq!(next_now(&mut watcher), None);
    }

    #[tokio::test]
    async fn watch_wakes_its_reader() {
        let health = Health::new();
        let mut watcher = health.watcher("");
        assert_eq!(next_now(&mut watcher), Some(Serving));
        let reader = tokio::spawn(async move { watcher.next().await });
        tokio::task::yield_now().await;
        health.set("", NotServing);
        assert_eq!(reader.await.unwrap(), Ok(NotServing));
    }

    #[test]
    fn watch_stores_no_service_name() {
        let health = Health::new();
        // A hash and a status beside the shared state: there is no room for a name.
        assert_eq!(size_of::<Watcher>(), size_of::<watch::Receiver<States>>() + 16);
        // Still, two names differ.
        health.set("a", Serving);
        assert_eq!(next_now(&mut health.watcher("a")), Some(Serving));
        assert_eq!(next_now(&mut health.watcher("aa")), Some(ServiceUnknown));
    }
}
