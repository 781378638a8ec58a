//! The task that creates users.

use std::sync::Arc;

use super::breaker::Breaker;
use super::plan::{self, Fault, Plan};
use super::pool::{Pool, Session};
use super::turns::{Reply, Turns};
use super::{ATTEMPTS, CommitMetrics, IdSequence, IdempotencyKey, Part, StoreError, Stored, error};
use crate::domain::{NewUser, User};
use crate::store::ChangeListener;

/// What a call wants to create, in one step.
pub(super) struct Write {
    pub(super) what: What,
    pub(super) listener: Option<ChangeListener>,
}

pub(super) enum What {
    One(NewUser, Option<IdempotencyKey>),
    Many(Vec<NewUser>, Option<Part>),
}

impl Write {
    pub(super) fn key(&self) -> Option<&IdempotencyKey> {
        match &self.what {
            What::One(_, key) => key.as_ref(),
            What::Many(_, part) => part.as_ref().map(|part| &part.key),
        }
    }
}

/// What was created.
pub(super) enum Done {
    One(Arc<User>),
    Many(Stored),
}

pub(super) type Answer = Result<Done, StoreError>;

/// What is to be written, and where its call waits: closed when it does not any more.
pub(super) type Job = (Write, Reply<Done>);

/// Where creations are committed.
pub(super) struct Writer {
    /// Of one connection.
    pub(super) pool: Pool,
    pub(super) breaker: Arc<Breaker>,
    pub(super) ids: IdSequence,
    pub(super) metrics: CommitMetrics,
}

impl Writer {
    /// Commits what comes until the queue is closed.
    pub(super) async fn run(mut self, mut turns: Turns<Job>) {
        let breaker = self.breaker.clone();
        while let Some(mut group) = turns.next().await {
            group.retain(|(_, reply)| !reply.is_closed());
            let (writes, mut replies): (Vec<_>, Vec<_>) = group.into_iter().unzip();
            let mut planned = None;
            let outcome = tokio::select! {
                outcome = breaker.guard(self.commit(&writes, &mut planned)) => outcome,
                // Deadlines have passed, or the database is away. It may hang for long.
                () = abandoned(&mut replies) => continue,
            };
            let answers = match outcome {
                Ok(answers) => answers,
                Err(error) => {
                    // It was about to be committed, and nobody has said that it was not.
                    let error = if planned.is_some() { error.into_unknown() } else { error };
                    replies.iter().map(|_| Err(error.copied())).collect()
                }
            };
            for (reply, answer) in replies.into_iter().zip(answers) {
                // That nobody waits for it any more is no fault.
                let _ = reply.send(answer);
            }
        }
    }

    /// Tries again what has certainly not happened; and what may have happened, once it is known that
    /// it has not. `planned` is what may have happened.
    async fn commit(
        &mut self,
        group: &[Write],
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
                    session.connection().forget();
                }
                // If that fails the connection is lost, and its transaction with it.
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
                    let again = lost || error::is_conflict(&error) || error::is_stale(&error);
                    if left == 0 || !again {
                        return Err(error::of_call(&error));
                    }
                }
            }
        }
    }
}

/// When nobody waits any more.
async fn abandoned(replies: &mut [Reply<Done>]) {
    for reply in replies {
        reply.closed().await;
    }
}

/// One transaction, and what it has stored. `planned` is what the one before may have stored.
async fn attempt(
    session: &Session,
    ids: &mut IdSequence,
    group: &[Write],
    planned: &mut Option<Plan>,
) -> Result<Option<Plan>, Fault> {
    let transaction = session.connection();
    transaction.begin().await?;
    // From here on no other server creates users; what a lost transaction has begun is over.
    let behind = plan::lock(transaction).await?;
    if let Some(plan) = &*planned
        && plan.is_stored(transaction).await?
    {
        // That one has nothing to do. If it cannot be ended, its connection is lost.
        let _ = transaction.rollback().await;
        return Ok(planned.take());
    }
    *planned = None;
    let plan = Plan::make(transaction, ids, behind, group).await?;
    plan.store(transaction).await?;
    *planned = Some(plan);
    if let Err(error) = transaction.commit().await {
        if !error::is_lost(&error) {
            // The database itself says that it was not.
            *planned = None;
        }
        return Err(error.into());
    }
    Ok(planned.take())
}
