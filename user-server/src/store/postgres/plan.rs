//! The users and keys that one transaction creates.

use std::sync::Arc;

use tokio_postgres::Error;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::connection::{Connection, Value};
use super::creation::{Answer, CreateRequest, Created, Users};
use super::error::Fault;
use super::keys::Keys;
use super::{Creation, IdSequence, Remembered, StoreError, Stored, notify, rows};
use crate::domain::{NewUser, Timestamp, UserId, UserStatus};
use crate::store::ChangeListener;

/// The users of a transaction with their ids, and the answers to the calls after the commit.
pub(super) struct Plan {
    now: Timestamp,
    /// The `place` of the last user before them.
    place: i64,
    ids: Vec<Uuid>,
    names: Vec<String>,
    emails: Vec<String>,
    keys: Keys,
    /// One answer for each call.
    answers: Vec<Answer>,
}

/// The last user before a transaction.
pub(super) struct LastUser {
    /// The newest id that a server has issued.
    newest: Option<UserId>,
    /// The `place` of the last user, also if another program has created it.
    place: i64,
}

/// Waits until no other transaction creates users, on this server and all others.
pub(super) async fn lock(transaction: &Connection) -> Result<LastUser, Fault> {
    let sql = "SELECT newest, last_place FROM user_sequence FOR UPDATE";
    let rows = transaction.run(sql, &[]).await?;
    let row = rows.first().ok_or_else(|| StoreError::corrupt("its sequence is missing"))?;
    let (newest, place) = rows::sequence(row)?;
    Ok(LastUser { newest, place })
}

impl Plan {
    /// Plans users with ids and places above those of all existing users.
    pub(super) async fn make(
        transaction: &Connection,
        ids: &mut IdSequence,
        LastUser { newest, place }: LastUser,
        group: &[CreateRequest],
    ) -> Result<Self, Fault> {
        let now = Timestamp::now();
        // The clock of another server may be ahead of this one's.
        if let Some(newest) = newest
            && ids.next(now) <= newest
        {
            *ids = IdSequence::resume(newest);
        }
        let keys =
            Keys::recall(transaction, now, group.iter().filter_map(CreateRequest::key)).await?;
        let mut plan = Self {
            now,
            place,
            ids: Vec::new(),
            names: Vec::new(),
            emails: Vec::new(),
            keys,
            answers: Vec::new(),
        };
        for creation in group {
            let answer = plan.add(transaction, ids, creation).await;
            plan.answers.push(match answer {
                Err(Fault::Database(error)) => return Err(error.into()),
                Err(Fault::Store(error)) => Err(error),
                Ok(created) => Ok(created),
            });
        }
        Ok(plan)
    }

    async fn add(
        &mut self,
        transaction: &Connection,
        ids: &mut IdSequence,
        CreateRequest { users, listener }: &CreateRequest,
    ) -> Result<Created, Fault> {
        let listener = listener.as_ref();
        match users {
            Users::One(user, key) => {
                if let Some(answer) = key.as_ref().and_then(|key| self.keys.answer(key, user)) {
                    let user = answer?;
                    notify(listener, user.id);
                    return Ok(Created::One(Arc::new(user)));
                }
                let id = self.create(ids, user, listener);
                let user = user.clone().into_user(id, self.now);
                if let Some(key) = key {
                    let creation = Remembered::One(Creation::of(&user));
                    self.keys.remember(key, creation, id.into());
                }
                Ok(Created::One(Arc::new(user)))
            }
            Users::Many(users, part) => {
                if let Some(part) = part
                    && !part.follows(self.keys.progress(&part.key)?)
                {
                    let known = self.keys.known(transaction, &part.key).await?;
                    return Ok(Created::Many(Stored::Before(known)));
                }
                let created: Vec<_> =
                    users.iter().map(|user| self.create(ids, user, listener)).collect();
                if let Some(part) = part {
                    let ids = created.iter().copied().map(Uuid::from).collect();
                    self.keys.extend(part, ids);
                }
                Ok(Created::Many(Stored::Now(created)))
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

    /// Whether its transaction was committed although the answer was lost.
    pub(super) async fn is_stored(&self, transaction: &Connection) -> Result<bool, Error> {
        let Some(last) = self.ids.last() else { return Ok(false) };
        let sql = "SELECT FROM users WHERE id = $1";
        Ok(!transaction.run(sql, &[(last, Type::UUID)]).await?.is_empty())
    }

    /// Stores users and keys, before the commit.
    pub(super) async fn store(&self, transaction: &Connection) -> Result<(), Error> {
        self.keys.store(transaction).await?;
        let Some(newest) = self.ids.last() else { return Ok(()) };
        // A trigger counts the users.
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
        // Only older servers, without places, read this number.
        let sql = "UPDATE user_sequence SET newest = $1, total = total + $2";
        let count = self.ids.len() as i64;
        transaction.run(sql, &[(newest, Type::UUID), (&count, Type::INT8)]).await?;
        Ok(())
    }

    /// The number of created users.
    pub(super) fn users(&self) -> usize {
        self.ids.len()
    }

    pub(super) fn into_answers(self) -> Vec<Answer> {
        self.answers
    }
}
