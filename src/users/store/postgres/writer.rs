//! The task that creates users.

use std::sync::Arc;

use deadpool_postgres::Pool;
use tokio::sync::{mpsc, oneshot};

use super::breaker::Breaker;
use super::plan::{self, Fault, Plan};
use super::session::Session;
use super::tls::Tls;
use super::{ATTEMPTS, IdSequence, IdempotencyKey, StoreError, error};
use crate::users::domain::{NewUser, User};

/// Calls that share a transaction at most, as for SQLite.
const MAX_GROUP: usize = 1024;

/// What a call wants to create, in one step.
pub(super) struct Write {
    /// Only of one user.
    pub(super) key: Option<IdempotencyKey>,
    pub(super) users: Vec<NewUser>,
}

/// The users as they are stored.
pub(super) type Answer = Result<Vec<Arc<User>>, StoreError>;

/// What is to be written, and where its call waits: closed when it does not any more.
pub(super) type Job = (Write, oneshot::Sender<Answer>);

/// Where creations are committed.
pub(super) struct Writer {
    /// Of one connection.
    pub(super) pool: Pool,
    pub(super) tls: Tls,
    pub(super) breaker: Arc<Breaker>,
    pub(super) ids: IdSequence,
}

impl Writer {
    /// Commits what comes until the queue is closed.
    pub(super) async fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        while let Some(first) = jobs.recv().await {
            let mut group = vec![first];
            while group.len() < MAX_GROUP
                && let Ok(next) = jobs.try_recv()
            {
                group.push(next);
            }
            group.retain(|(_, reply)| !reply.is_closed());
            let (writes, mut replies): (Vec<_>, Vec<_>) = group.into_iter().unzip();
            let outcome = tokio::select! {
                outcome = self.commit(&writes) => outcome,
                // Deadlines have passed, or the database is away. It may hang for long.
                () = abandoned(&mut replies) => continue,
            };
            let answers = match outcome {
                Ok(answers) => answers,
                Err(error) => replies.iter().map(|_| Err(error.copied())).collect(),
            };
            for (reply, answer) in replies.into_iter().zip(answers) {
                // That nobody waits for it any more is no fault.
                let _ = reply.send(answer);
            }
        }
    }

    /// Tries again what has certainly not happened; and what may have happened, once it is known that
    /// it has not.
    async fn commit(&mut self, group: &[Write]) -> Result<Vec<Answer>, StoreError> {
        let mut planned = None;
        let mut left = ATTEMPTS;
        loop {
            let opened = Session::open(&self.pool, &self.tls).await;
            let mut session = opened.inspect_err(|_| self.breaker.suspect())?;
            left -= 1;
            let attempt = attempt(&mut session, &mut self.ids, group, &mut planned).await;
            session.release();
            match attempt {
                Ok(answers) => return Ok(answers),
                Err(Fault::Store(error)) => return Err(error),
                Err(Fault::Database(error)) => {
                    let lost = error::is_lost(&error);
                    if lost {
                        self.breaker.suspect();
                    }
                    if left == 0 || !(lost || error::is_conflict(&error)) {
                        return Err(error::of_call(&error));
                    }
                }
            }
        }
    }
}

/// When nobody waits any more.
async fn abandoned(replies: &mut [oneshot::Sender<Answer>]) {
    for reply in replies {
        reply.closed().await;
    }
}

/// One transaction. `planned` is what the one before may have stored.
async fn attempt(
    session: &mut Session<'_>,
    ids: &mut IdSequence,
    group: &[Write],
    planned: &mut Option<Plan>,
) -> Result<Vec<Answer>, Fault> {
    let transaction = session.client().transaction().await?;
    // From here on no other server creates users; what a lost transaction has begun is over.
    let newest = plan::lock(&transaction).await?;
    if let Some(plan) = &*planned
        && plan.is_stored(&transaction).await?
    {
        return Ok(planned.take().map_or_else(Vec::new, Plan::into_answers));
    }
    let plan = Plan::make(&transaction, ids, newest, group).await?;
    plan.store(&transaction).await?;
    *planned = Some(plan);
    transaction.commit().await?;
    Ok(planned.take().map_or_else(Vec::new, Plan::into_answers))
}
