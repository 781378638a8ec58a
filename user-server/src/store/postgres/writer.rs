//! The task that creates users.

use std::sync::Arc;

use super::breaker::Breaker;
use super::creation::{Answer, CreateRequest, Created, Job};
use super::error::Fault;
use super::plan::{self, Plan};
use super::pool::{Pool, Session};
use super::write_queue::{Groups, Reply};
use super::{ATTEMPTS, CommitMetrics, IdSequence, StoreError, error};

/// Commits creations.
pub(super) struct Writer {
    /// A pool of one connection.
    pub(super) pool: Pool,
    pub(super) breaker: Arc<Breaker>,
    pub(super) ids: IdSequence,
    pub(super) metrics: CommitMetrics,
}

impl Writer {
    /// Commits creations until the queue is closed.
    pub(super) async fn run(mut self, mut groups: Groups<Job>) {
        let breaker = self.breaker.clone();
        while let Some(mut group) = groups.next().await {
            group.retain(|(_, reply)| !reply.is_closed());
            let (creations, mut replies): (Vec<_>, Vec<_>) = group.into_iter().unzip();
            let mut planned = None;
            let outcome = tokio::select! {
                outcome = breaker.guard(self.commit(&creations, &mut planned)) => outcome,
                // All calls have ended: their deadlines have passed. The commit may hang for a long time.
                () = abandoned(&mut replies) => continue,
            };
            let answers = match outcome {
                Ok(answers) => answers,
                Err(error) => {
                    // The commit was sent, and it is not known whether it succeeded.
                    let error = if planned.is_some() { error.into_unknown() } else { error };
                    replies.iter().map(|_| Err(error.copied())).collect()
                }
            };
            for (reply, answer) in replies.into_iter().zip(answers) {
                // A failure is ignored: the caller may have disconnected.
                let _ = reply.send(answer);
            }
        }
    }

    /// Commits a group. Retries if the transaction certainly had no effect, or once that is verified. `planned` is
    /// the plan whose result is unknown.
    async fn commit(
        &mut self,
        group: &[CreateRequest],
        planned: &mut Option<Plan>,
    ) -> Result<Vec<Answer>, StoreError> {
        let mut left = ATTEMPTS;
        loop {
            let opened = self.pool.get().await;
            let session = opened.inspect_err(|_| self.breaker.suspect())?;
            left -= 1;
            let timer = self.metrics.seconds.start_timer();
            let attempt = attempt(&session, &mut self.ids, group, planned).await;
            timer.observe_duration();
            if let Err(fault) = &attempt {
                if matches!(fault, Fault::Database(error) if error::is_stale(error)) {
                    session.connection().forget_prepared();
                }
                // If the rollback fails, the connection is lost, and its transaction with it.
                let _ = session.connection().rollback().await;
            }
            session.release();
            match attempt {
                Ok(plan) => {
                    let users = plan.as_ref().map_or(0, Plan::users);
                    if users > 0 {
                        self.metrics.users.observe(users as f64);
                    }
                    return Ok(plan.map_or_else(Vec::new, Plan::into_answers));
                }
                Err(Fault::Store(error)) => return Err(error),
                Err(Fault::Database(error)) => {
                    let lost = error::is_lost(&error);
                    if lost || error::is_read_only(&error) {
                        self.breaker.suspect();
                    }
                    let may_retry = lost || error::is_conflict(&error) || error::is_stale(&error);
                    if left == 0 || !may_retry {
                        return Err(error::of_call(&error));
                    }
                }
            }
        }
    }
}

/// Completes when all callers have disconnected.
async fn abandoned(replies: &mut [Reply<Created>]) {
    for reply in replies {
        reply.closed().await;
    }
}

/// Runs one transaction, and returns the plan that it has stored. `planned` is the plan that the transaction before
/// may have stored.
async fn attempt(
    session: &Session,
    ids: &mut IdSequence,
    group: &[CreateRequest],
    planned: &mut Option<Plan>,
) -> Result<Option<Plan>, Fault> {
    let transaction = session.connection();
    transaction.begin().await?;
    // From here on no other server creates users, and a lost transaction has ended.
    let last = plan::lock(transaction).await?;
    if let Some(plan) = &*planned
        && plan.is_stored(transaction).await?
    {
        // This transaction has nothing to do. If the rollback fails, its connection is lost.
        let _ = transaction.rollback().await;
        return Ok(planned.take());
    }
    *planned = None;
    let plan = Plan::make(transaction, ids, last, group).await?;
    plan.store(transaction).await?;
    *planned = Some(plan);
    if let Err(error) = transaction.commit().await {
        if !error::is_lost(&error) {
            // The database reports that nothing was committed.
            *planned = None;
        }
        return Err(error.into());
    }
    Ok(planned.take())
}
