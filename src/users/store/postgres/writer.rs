//! The task that creates users.

use std::sync::Arc;

use deadpool_postgres::{Object, Pool};
use tokio::sync::mpsc;

use super::breaker::{self, Breaker};
use super::plan::{self, Answer, Fault, Plan};
use super::{ATTEMPTS, IdSequence, IdempotencyKey, Reply, StoreError, error};
use crate::users::domain::{NewUser, User, UserId};

/// Calls that share a transaction at most, as for SQLite.
const MAX_GROUP: usize = 1024;

/// What a call wants to create.
pub(super) enum Write {
    One(Option<IdempotencyKey>, NewUser, Reply<Arc<User>>),
    All(Vec<NewUser>, Reply<Vec<UserId>>),
}

impl Write {
    fn is_abandoned(&self) -> bool {
        match self {
            Self::One(_, _, reply) => reply.is_closed(),
            Self::All(_, reply) => reply.is_closed(),
        }
    }

    /// That nobody waits for it any more is no fault.
    fn answer(self, answer: Result<Answer, StoreError>) {
        match (self, answer) {
            (Self::One(_, _, reply), Ok(Answer::User(answer))) => drop(reply.send(answer)),
            (Self::All(_, reply), Ok(Answer::Ids(ids))) => drop(reply.send(Ok(ids))),
            (Self::One(_, _, reply), Err(error)) => drop(reply.send(Err(error))),
            (Self::All(_, reply), Err(error)) => drop(reply.send(Err(error))),
            // Plans answer as they are asked; or else the call learns that nobody answers it.
            (Self::One(..), Ok(Answer::Ids(_))) | (Self::All(..), Ok(Answer::User(_))) => {}
        }
    }
}

/// Commits what comes until the queue is closed.
pub(super) async fn run(pool: Pool, mut jobs: mpsc::Receiver<Write>, breaker: Arc<Breaker>) {
    let mut ids = IdSequence::new();
    while let Some(first) = jobs.recv().await {
        let mut group = vec![first];
        while group.len() < MAX_GROUP
            && let Ok(next) = jobs.try_recv()
        {
            group.push(next);
        }
        group.retain(|write| !write.is_abandoned());
        if group.is_empty() {
            continue;
        }
        match commit(&pool, &breaker, &mut ids, &group).await {
            Ok(answers) => {
                for (write, answer) in group.into_iter().zip(answers) {
                    write.answer(Ok(answer));
                }
            }
            Err(error) => group.into_iter().for_each(|write| write.answer(Err(error.copied()))),
        }
    }
}

/// Tries again what has certainly not happened; and what may have happened, once it is known that it
/// has not.
async fn commit(
    pool: &Pool,
    breaker: &Breaker,
    ids: &mut IdSequence,
    group: &[Write],
) -> Result<Vec<Answer>, StoreError> {
    let mut planned = None;
    let mut left = ATTEMPTS;
    loop {
        breaker.check()?;
        let mut client = pool.get().await.map_err(|error| {
            breaker.suspect();
            error::of_pool(error)
        })?;
        left -= 1;
        let attempt = tokio::select! {
            attempt = attempt(&mut client, ids, group, &mut planned) => attempt,
            // The connection may hang for long.
            () = breaker.opened() => {
                drop(Object::take(client));
                return Err(breaker::away());
            }
        };
        match attempt {
            Ok(answers) => return Ok(answers),
            Err(Fault::Store(error)) => return Err(error),
            Err(Fault::Database(error)) => {
                let lost = error::is_lost(&error);
                if lost {
                    breaker.suspect();
                }
                if left == 0 || !(lost || error::is_conflict(&error)) {
                    return Err(error::of_call(&error));
                }
            }
        }
    }
}

/// One transaction. `planned` is what the one before may have stored.
async fn attempt(
    client: &mut Object,
    ids: &mut IdSequence,
    group: &[Write],
    planned: &mut Option<Plan>,
) -> Result<Vec<Answer>, Fault> {
    let transaction = client.transaction().await?;
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
