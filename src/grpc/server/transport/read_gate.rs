use std::io;
use std::task::{Context, Poll, ready};

use crate::grpc::server::policy::enforcement::EnforcementPolicy;
use crate::grpc::server::scheduling::timer::{Timer, timer_at};

/// Holds back reads as the enforcement policy demands.
#[derive(Default)]
pub(crate) struct ReadGate {
    /// Set while reading is paused.
    pause: Option<Timer>,
}

impl ReadGate {
    /// Ready when more may be read: reading is not paused, and the turn has work left.
    ///
    /// # Errors
    /// The client has violated the policy, so the connection closes.
    pub(crate) fn poll(
        &mut self,
        policy: &mut EnforcementPolicy,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        if policy.go_away().is_some() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        if policy.turn_is_over() {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        while let Some(until) = policy.paused_until() {
            let pause = self.pause.get_or_insert_with(|| timer_at(until));
            ready!(pause.as_mut().poll(cx));
            self.pause = None;
        }
        Poll::Ready(Ok(()))
    }
}
