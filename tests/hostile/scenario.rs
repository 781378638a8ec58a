//! The definition of a scenario.

use std::pin::Pin;
use std::time::Duration;

use crate::attacker::Report;
use crate::bystander::Habit;
use crate::link::Target;

/// The default duration of an attack: 1,200 calls of the bystander, of which twelve may be slow. A
/// burst at the beginning that delays all others for 30 ms is detected.
const USUAL: Duration = Duration::from_secs(3);

type Attack = Box<dyn FnOnce(Target) -> Pin<Box<dyn Future<Output = Report>>>>;

/// The criteria besides memory and the bystander.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Rule {
    Bounded,
    /// The attacker is cut off, or uses more CPU time than the server.
    Flood,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Store {
    Memory,
    Sqlite,
}

pub(crate) struct Scenario {
    pub(crate) name: String,
    pub(crate) rule: Rule,
    pub(crate) time: Duration,
    pub(crate) stores: &'static [Store],
    /// Whether it also runs over TLS, where that is another code path, or only there.
    pub(crate) tls: &'static [bool],
    /// Whether the store has 100,000 users.
    pub(crate) seeded: bool,
    /// Whether clients have to authenticate.
    pub(crate) auth: bool,
    pub(crate) habit: Habit,
    /// Whether it runs only on request, because it differs little from one that always runs.
    pub(crate) on_request: bool,
    attack: Box<dyn Fn() -> Attack>,
}

impl Scenario {
    /// `prepare` makes the bytes of the attack, before anything is measured.
    pub(crate) fn new<P, A>(name: impl Into<String>, rule: Rule, prepare: P) -> Self
    where
        P: Fn() -> A + 'static,
        A: AsyncFnOnce(Target) -> Report + 'static,
    {
        let attack = move || -> Attack {
            let attack = prepare();
            Box::new(move |target| Box::pin(async move { attack(target).await }))
        };
        Self {
            name: name.into(),
            rule,
            time: USUAL,
            stores: &[Store::Memory],
            tls: &[false],
            seeded: false,
            auth: false,
            habit: Habit::Calls,
            on_request: false,
            attack: Box::new(attack),
        }
    }

    pub(crate) fn seconds(mut self, seconds: u64) -> Self {
        self.time = Duration::from_secs(seconds);
        self
    }

    pub(crate) fn on_both_stores(mut self) -> Self {
        self.stores = &[Store::Memory, Store::Sqlite];
        self
    }

    pub(crate) fn on_sqlite(mut self) -> Self {
        self.stores = &[Store::Sqlite];
        self
    }

    pub(crate) fn also_over_tls(mut self) -> Self {
        self.tls = &[false, true];
        self
    }

    pub(crate) fn only_over_tls(mut self) -> Self {
        self.tls = &[true];
        self
    }

    /// With 100,000 users in the store.
    pub(crate) fn with_users(mut self) -> Self {
        self.seeded = true;
        self
    }

    pub(crate) fn with_auth(mut self) -> Self {
        self.auth = true;
        self
    }

    pub(crate) fn beside_new_connections(mut self) -> Self {
        self.habit = Habit::Connections;
        self
    }

    pub(crate) fn beside_creations(mut self) -> Self {
        self.habit = Habit::Creations;
        self
    }

    pub(crate) fn on_request(mut self) -> Self {
        self.on_request = true;
        self
    }

    pub(crate) fn prepare(&self) -> Attack {
        (self.attack)()
    }
}
