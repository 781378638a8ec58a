//! What one transaction creates.

use std::sync::Arc;

use tokio_postgres::Error;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::connection::{Connection, Value};
use super::keys::Keys;
use super::writer::{Answer, Done, What, Write};
use super::{Creation, IdSequence, Remembered, StoreError, Stored, notify, rows};
use crate::domain::{NewUser, Timestamp, UserId, UserStatus};
use crate::store::ChangeListener;

/// Users with ids of their own, and what the calls are told once they are stored.
pub(super) struct Plan {
    now: Timestamp,
    /// That before the first of them.
    place: i64,
    ids: Vec<Uuid>,
    names: Vec<String>,
    emails: Vec<String>,
    keys: Keys,
    /// One for each call.
    answers: Vec<Answer>,
}

/// Why a transaction has failed.
pub(super) enum Fault {
    Database(Error),
    Store(StoreError),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Database(error)
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// What the users that are to be created come behind.
pub(super) struct Behind {
    /// The newest id that a server has issued.
    newest: Option<UserId>,
    /// Where the last user stands, whoever has created it.
    place: i64,
}

/// Waits until no other transaction creates users, on whatever server.
pub(super) async fn lock(transaction: &Connection) -> Result<Behind, Fault> {
    let sql = "SELECT newest, last_place FROM user_sequence FOR UPDATE";
    let rows = transaction.run(sql, &[]).await?;
    let row = rows.first().ok_or_else(|| StoreError::corrupt("its sequence is missing"))?;
    let (newest, place) = rows::sequence(row)?;
    Ok(Behind { newest, place })
}

impl Plan {
    /// With ids and places above those of users that are there.
    pub(super) async fn make(
        transaction: &Connection,
        ids: &mut IdSequence,
        Behind { newest, place }: Behind,
        group: &[Write],
    ) -> Result<Self, Fault> {
        let now = Timestamp::now();
        // Another server may have been ahead of this one's clock.
        if let Some(newest) = newest
            && ids.next(now) <= newest
        {
            *ids = IdSequence::resume(newest);
        }
        let keys = Keys::recall(transaction, now, group.iter().filter_map(Write::key)).await?;
        let (names, emails) = (Vec::new(), Vec::new());
        let (ids_of_all, answers) = (Vec::new(), Vec::new());
        let mut plan = Self { now, place, ids: ids_of_all, names, emails, keys, answers };
        for write in group {
            let answer = plan.add(transaction, ids, write).await;
            plan.answers.push(match answer {
                Err(Fault::Database(error)) => return Err(error.into()),
                Err(Fault::Store(error)) => Err(error),
                Ok(done) => Ok(done),
            });
        }
        Ok(plan)
    }

    async fn add(
        &mut self,
        transaction: &Connection,
        ids: &mut IdSequence,
        Write { what, listener }: &Write,
    ) -> Result<Done, Fault> {
        let listener = listener.as_ref();
        match what {
            What::One(user, key) => {
                if let Some(answer) = key.as_ref().and_then(|key| self.keys.answer(key, user)) {
                    let user = answer?;
                    notify(listener, user.id);
                    return Ok(Done::One(Arc::new(user)));
                }
                let id = self.create(ids, user, listener);
                let user = user.clone().into_user(id, self.now);
                if let Some(key) = key {
                    let creation = Remembered::One(Creation::of(&user));
                    self.keys.remember(key, creation, id.into());
                }
                Ok(Done::One(Arc::new(user)))
            }
            What::Many(users, part) => {
                if let Some(part) = part
                    && !part.follows(self.keys.progress(&part.key)?)
                {
                    let known = self.keys.known(transaction, &part.key).await?;
                    return Ok(Done::Many(Stored::Before(known)));
                }
                let created: Vec<_> =
                    users.iter().map(|user| self.create(ids, user, listener)).collect();
                if let Some(part) = part {
                    let ids = created.iter().copied().map(Uuid::from).collect();
                    self.keys.extend(part, ids);
                }
                Ok(Done::Many(Stored::Now(created)))
            }
        }
    }

    fn create(
        &mut self,
        ids: &mut IdSequence,
        user: &NewUser,
        listener: Option<&ChangeListener>,
    ) -> UserId {
        let id = ids.next(self.now);
        notify(listener, id);
        self.ids.push(id.into());
        self.names.push(user.name().to_owned());
        self.emails.push(user.email().to_owned());
        id
    }

    /// Whether its transaction was committed, although nobody was told.
    pub(super) async fn is_stored(&self, transaction: &Connection) -> Result<bool, Error> {
        let Some(last) = self.ids.last() else { return Ok(false) };
        let sql = "SELECT FROM users WHERE id = $1";
        Ok(!transaction.run(sql, &[(last, Type::UUID)]).await?.is_empty())
    }

    /// Stores all, to be committed.
    pub(super) async fn store(&self, transaction: &Connection) -> Result<(), Error> {
        self.keys.store(transaction).await?;
        let Some(newest) = self.ids.last() else { return Ok(()) };
        // A trigger counts them.
        let sql =
            "INSERT INTO users (id, name, email, created_seconds, created_nanos, status, place)
            SELECT id, name, email, $4::bigint, $5::integer, $6::smallint, $7::bigint + number
            FROM unnest($1::uuid[], $2::text[], $3::text[])
                WITH ORDINALITY AS created (id, name, email, number)";
        let (seconds, nanos) = (self.now.seconds(), self.now.nanos());
        let active = rows::status(UserStatus::Active);
        let values: [Value<'_>; 7] = [
            (&self.ids, Type::UUID_ARRAY),
            (&self.names, Type::TEXT_ARRAY),
            (&self.emails, Type::TEXT_ARRAY),
            (&seconds, Type::INT8),
            (&nanos, Type::INT4),
            (&active, Type::INT2),
            (&self.place, Type::INT8),
        ];
        transaction.run(sql, &values).await?;
        // Only servers before places were introduced read this number.
        let sql = "UPDATE user_sequence SET newest = $1, total = total + $2";
        let count = self.ids.len() as i64;
        transaction.run(sql, &[(newest, Type::UUID), (&count, Type::INT8)]).await?;
        Ok(())
    }

    /// How many users are created.
    pub(super) fn users(&self) -> usize {
        self.ids.len()
    }

    pub(super) fn into_answers(self) -> Vec<Answer> {
        self.answers
    }
}
