//! The data of users that each principal can see, and the audit log of changes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::config::Grantee;
use crate::domain::UserId;
use crate::pb::user_service;
use crate::service::{Caller, View};
use crate::store::ChangeListener;
use balafon::interceptors::auth::Principal;
use balafon::interceptors::{ClientAddr, CorrelationId, MethodPattern};
use balafon::{Call, Interceptor, Method, Next, Outcome};

/// The maximum number of users on a line of the audit log. A longer call has several lines, so that an
/// endless stream does not use more memory.
const AUDIT_LINE: usize = 100;

/// A permission of a role or a scope.
#[derive(Debug, Clone)]
pub(super) struct Grant {
    pub(super) to: Grantee,
    /// The methods that it allows.
    pub(super) allow: MethodPattern,
    /// The data that these methods show.
    pub(super) view: View,
}

impl Grant {
    /// Whether this grant allows the principal to call the method.
    fn covers(&self, principal: &Principal, method: &Method) -> bool {
        let is_granted = match &self.to {
            Grantee::Role(role) => principal.has_role(role),
            Grantee::Scope(scope) => principal.has_scope(scope),
        };
        self.allow.matches(method) && is_granted
    }
}

/// Limits the data that a principal sees, and logs the changes that it makes.
///
/// Each call that changes users is logged with the target `balafon::audit`. The fields are `principal`,
/// `method`, `users`, `status`, `peer`, `client` (if a trusted proxy names one) and `correlation_id`.
/// `users` has up to a hundred ids. A call with more has several lines, and the last one has its status.
/// The users of a call that failed may or may not be stored.
#[derive(Debug)]
pub(super) struct UserAccess {
    grants: Vec<Grant>,
}

impl UserAccess {
    pub(super) fn new(grants: Vec<Grant>) -> Self {
        Self { grants }
    }

    /// The view of the call: that of the least limited grant that allows it.
    fn view(&self, principal: &Principal, method: &Method) -> View {
        let grants = self.grants.iter().filter(|grant| grant.covers(principal, method));
        // At least one grant allows the call, or `Auth` would have refused it.
        let most_limited = View { masked_email: true, active_only: true };
        grants.map(|grant| grant.view).reduce(View::or).unwrap_or(most_limited)
    }
}

impl Interceptor for UserAccess {
    async fn intercept(&self, mut call: Call, next: Next<'_>) -> Outcome {
        let method = call.method();
        if method.service != user_service::NAME {
            return next.run(call).await;
        }
        let Some(principal) = call.extensions().get::<Principal>().cloned() else {
            // The method is open to unauthenticated clients.
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
            // Principals of different kinds may have the same name.
            let caller = format!("{:?} {}", principal.kind(), principal.name());
            call.extensions_mut().insert(Caller(caller.into()));
        }
        let record = Arc::new(Record::new(&call, principal));
        let listening = record.clone();
        call.extensions_mut().insert(ChangeListener::new(move |id| listening.add(id)));
        let outcome = next.run(call).await;
        record.end(outcome.status.code().name());
        outcome
    }
}

/// The audit lines of one call.
struct Record {
    principal: Principal,
    method: &'static str,
    peer: String,
    client: Option<ClientAddr>,
    correlation_id: Option<CorrelationId>,
    pending: Mutex<Pending>,
}

/// The part that is not written yet.
#[derive(Default)]
struct Pending {
    users: Vec<UserId>,
    /// The status of the call once it has ended. Users that are reported later get a line of their own: the
    /// store was about to commit them when the client disconnected.
    status: Option<&'static str>,
}

impl Record {
    fn new(call: &Call, principal: Principal) -> Self {
        Self {
            principal,
            method: call.method().path,
            peer: call.peer().to_string(),
            client: ClientAddr::of(call),
            correlation_id: call.extensions().get().cloned(),
            pending: Mutex::default(),
        }
    }

    fn add(&self, user: UserId) {
        let mut pending = self.pending();
        pending.users.push(user);
        if pending.users.len() >= AUDIT_LINE {
            self.write(&mut pending);
        }
    }

    fn end(&self, status: &'static str) {
        let mut pending = self.pending();
        pending.status = Some(status);
        self.write(&mut pending);
    }

    /// No panic can leave the data half changed, so a poisoned lock is harmless.
    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, pending: &mut Pending) {
        let users: Vec<_> = pending.users.drain(..).map(|user| user.to_string()).collect();
        tracing::info!(
            target: "balafon::audit",
            principal = self.principal.name(),
            method = self.method,
            users = users.join(","),
            status = pending.status.unwrap_or("OPEN"),
            peer = self.peer,
            client = self.client.map(tracing::field::display),
            correlation_id = self.correlation_id.as_ref().map(|id| &*id.0),
            "change"
        );
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let mut pending = std::mem::take(&mut *self.pending());
        if !pending.users.is_empty() {
            self.write(&mut pending);
        }
    }
}
