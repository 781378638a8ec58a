//! What callers may see and change of users, and the record of it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::config::Grantee;
use crate::domain::UserId;
use crate::pb::user_service;
use crate::service::{Caller, View};
use crate::store::ChangeListener;
use balafon::interceptors::auth::Principal;
use balafon::interceptors::{ClientAddr, CorrelationId, MethodPattern};
use balafon::{Call, Interceptor, Method, Next, Outcome};

/// Users that one line of the audit log names. A longer call has several, so that a stream without
/// end holds no more than this.
const AUDIT_LINE: usize = 100;

/// What comes with a role or a scope.
#[derive(Debug, Clone)]
pub(super) struct Grant {
    pub(super) to: Grantee,
    /// Methods that may be called.
    pub(super) allow: MethodPattern,
    /// What those methods show.
    pub(super) view: View,
}

impl Grant {
    /// Whether it is by this that the principal may call the method.
    fn covers(&self, principal: &Principal, method: &Method) -> bool {
        let is_granted = match &self.to {
            Grantee::Role(role) => principal.has_role(role),
            Grantee::Scope(scope) => principal.has_scope(scope),
        };
        self.allow.matches(method) && is_granted
    }
}

/// What a principal means to the user service: how much it sees, and that its changes are on record.
///
/// A call that changes users is an event of target `balafon::audit`, with the fields `principal`,
/// `method`, `users` (up to a hundred ids; a call with more has several lines, those of its end with
/// the status; of a call without success, they may be there or not), `status`, `peer`, `client` (if a trusted proxy names one) and `correlation_id`.
#[derive(Debug)]
pub(super) struct UserAccess {
    grants: Vec<Grant>,
}

impl UserAccess {
    pub(super) fn new(grants: Vec<Grant>) -> Self {
        Self { grants }
    }

    /// What the call shows: of all grants by which it may be made, the least limited one.
    fn view(&self, principal: &Principal, method: &Method) -> View {
        let grants = self.grants.iter().filter(|grant| grant.covers(principal, method));
        // There is one, or the call would not have come so far.
        let nothing_more = View { masked_email: true, active_only: true };
        grants.map(|grant| grant.view).reduce(View::or).unwrap_or(nothing_more)
    }
}

impl Interceptor for UserAccess {
    async fn intercept(&self, mut call: Call, next: Next<'_>) -> Outcome {
        let method = call.method();
        if method.service != user_service::NAME {
            return next.run(call).await;
        }
        let Some(principal) = call.extensions().get::<Principal>().cloned() else {
            // It is open to everybody.
            return next.run(call).await;
        };
        let view = self.view(&principal, method);
        if view != View::default() {
            call.extensions_mut().insert(view);
        }
        if matches!(method.name, "GetUser" | "GetAllUsers") {
            return next.run(call).await;
        }
        if matches!(method.name, "CreateUser" | "CreateUsers") {
            // Two ways to prove oneself may know two of the same name.
            let caller = format!("{:?} {}", principal.kind(), principal.name());
            call.extensions_mut().insert(Caller(caller.into()));
        }
        let record = Arc::new(Record::new(&call, principal));
        let told = record.clone();
        call.extensions_mut().insert(ChangeListener::new(move |id| told.add(id)));
        let outcome = next.run(call).await;
        record.end(outcome.status.code().name());
        outcome
    }
}

/// What goes into the audit log for one call.
struct Record {
    principal: Principal,
    method: &'static str,
    peer: String,
    client: Option<ClientAddr>,
    correlation_id: Option<CorrelationId>,
    noted: Mutex<Noted>,
}

/// What is to be written.
#[derive(Default)]
struct Noted {
    users: Vec<UserId>,
    /// How the call has ended. Users that the store tells of later have a line of their own: it was
    /// about to commit them when the client went away.
    ended: Option<&'static str>,
}

impl Record {
    fn new(call: &Call, principal: Principal) -> Self {
        Self {
            principal,
            method: call.method().path,
            peer: call.peer().to_string(),
            client: ClientAddr::of(call),
            correlation_id: call.extensions().get().cloned(),
            noted: Mutex::default(),
        }
    }

    fn add(&self, user: UserId) {
        let mut noted = self.noted();
        noted.users.push(user);
        if noted.users.len() >= AUDIT_LINE {
            self.write(&mut noted);
        }
    }

    fn end(&self, status: &'static str) {
        let mut noted = self.noted();
        noted.ended = Some(status);
        self.write(&mut noted);
    }

    /// Nothing here is ever half done.
    fn noted(&self) -> MutexGuard<'_, Noted> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, noted: &mut Noted) {
        let users: Vec<_> = noted.users.drain(..).map(|user| user.to_string()).collect();
        tracing::info!(
            target: "balafon::audit",
            principal = self.principal.name(),
            method = self.method,
            users = users.join(","),
            status = noted.ended.unwrap_or("OPEN"),
            peer = self.peer,
            client = self.client.map(tracing::field::display),
            correlation_id = self.correlation_id.as_ref().map(|id| &*id.0),
            "change"
        );
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let mut noted = std::mem::take(&mut *self.noted());
        if !noted.users.is_empty() {
            self.write(&mut noted);
        }
    }
}
