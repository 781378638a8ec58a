//! What one transaction creates.

use std::collections::HashMap;
use std::sync::Arc;

use deadpool_postgres::Transaction;
use tokio_postgres::{Error, Row};
use uuid::Uuid;

use super::writer::{Answer, Write};
use super::{Creation, IdSequence, IdempotencyKey, StoreError, error, forgotten, rows};
use crate::users::domain::{NewUser, Timestamp, User, UserId, UserStatus};

/// Users with ids of their own, and what the calls are told once they are stored.
pub(super) struct Plan {
    now: Timestamp,
    ids: Vec<Uuid>,
    names: Vec<String>,
    emails: Vec<String>,
    keys: Vec<(IdempotencyKey, Creation)>,
    /// One for each call.
    answers: Vec<Answer>,
}

/// Why nothing was stored, as far as is known.
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

/// Waits until no other transaction creates users, on whatever server. Gives the newest one's id.
pub(super) async fn lock(transaction: &Transaction<'_>) -> Result<Option<UserId>, Fault> {
    let sql = "SELECT newest FROM user_sequence FOR UPDATE";
    let statement = transaction.prepare_cached(sql).await?;
    let row = transaction.query_opt(&statement, &[]).await?;
    let row = row.ok_or_else(|| StoreError::corrupt("its sequence is missing"))?;
    Ok(rows::newest(&row)?)
}

impl Plan {
    /// With ids above `newest`.
    pub(super) async fn make(
        transaction: &Transaction<'_>,
        ids: &mut IdSequence,
        newest: Option<UserId>,
        group: &[Write],
    ) -> Result<Self, Fault> {
        let now = Timestamp::now();
        let mut known = recall(transaction, now, group).await?;
        // Another server may have been ahead of this one's clock.
        if let Some(newest) = newest
            && ids.next(now) <= newest
        {
            *ids = IdSequence::resume(newest);
        }
        let mut plan = Self {
            now,
            ids: Vec::new(),
            names: Vec::new(),
            emails: Vec::new(),
            keys: Vec::new(),
            answers: Vec::with_capacity(group.len()),
        };
        for Write { key, users } in group {
            let answer = match key.as_ref().and_then(|key| known.get(key)) {
                Some(creation) => users
                    .iter()
                    .map(|user| creation.answer(user.clone()).map(Arc::new))
                    .collect::<Option<_>>()
                    .ok_or_else(StoreError::key_reused),
                None => {
                    let users: Vec<_> = users.iter().map(|user| plan.create(ids, user)).collect();
                    if let (Some(key), [user]) = (key, &users[..]) {
                        known.insert(key.clone(), Creation::of(user));
                        plan.keys.push((key.clone(), Creation::of(user)));
                    }
                    Ok(users)
                }
            };
            plan.answers.push(answer);
        }
        Ok(plan)
    }

    fn create(&mut self, ids: &mut IdSequence, user: &NewUser) -> Arc<User> {
        let user = user.clone().into_user(ids.next(self.now), self.now);
        self.ids.push(user.id.into());
        self.names.push(user.name.clone());
        self.emails.push(user.email.clone());
        Arc::new(user)
    }

    /// Whether its transaction was committed, although nobody was told.
    pub(super) async fn is_stored(&self, transaction: &Transaction<'_>) -> Result<bool, Error> {
        let Some(last) = self.ids.last() else { return Ok(false) };
        let sql = "SELECT FROM users WHERE id = $1";
        Ok(transaction.query_opt(sql, &[last]).await?.is_some())
    }

    /// Stores all, to be committed.
    pub(super) async fn store(&self, transaction: &Transaction<'_>) -> Result<(), Error> {
        let Some(newest) = self.ids.last() else { return Ok(()) };
        let sql = "INSERT INTO users (id, name, email, created_seconds, created_nanos, status)
            SELECT id, name, email, $4::bigint, $5::integer, $6::smallint
            FROM unnest($1::uuid[], $2::text[], $3::text[]) AS created (id, name, email)";
        let statement = transaction.prepare_cached(sql).await?;
        let (seconds, nanos) = (self.now.seconds(), self.now.nanos());
        let active = rows::status(UserStatus::Active);
        transaction
            .execute(&statement, &[&self.ids, &self.names, &self.emails, &seconds, &nanos, &active])
            .await?;
        self.remember(transaction).await?;
        let sql = "UPDATE user_sequence SET newest = $1, total = total + $2";
        let statement = transaction.prepare_cached(sql).await?;
        transaction.execute(&statement, &[newest, &(self.ids.len() as i64)]).await?;
        Ok(())
    }

    /// Stores the keys, and forgets two old ones for each.
    async fn remember(&self, transaction: &Transaction<'_>) -> Result<(), Error> {
        if self.keys.is_empty() {
            return Ok(());
        }
        let sql = "DELETE FROM idempotency_keys WHERE (principal, key) IN (
            SELECT principal, key FROM idempotency_keys WHERE created_seconds <= $1 LIMIT $2)";
        let statement = transaction.prepare_cached(sql).await?;
        let count = 2 * self.keys.len() as i64;
        transaction.execute(&statement, &[&forgotten(self.now), &count]).await?;

        let sql = "INSERT INTO idempotency_keys
            (principal, key, fingerprint, user_id, created_seconds, created_nanos)
            SELECT principal, key, fingerprint, user_id, $5::bigint, $6::integer
            FROM unnest($1::text[], $2::text[], $3::bytea[], $4::uuid[])
                AS created (principal, key, fingerprint, user_id)
            ON CONFLICT (principal, key) DO UPDATE SET
                fingerprint = excluded.fingerprint, user_id = excluded.user_id,
                created_seconds = excluded.created_seconds, created_nanos = excluded.created_nanos";
        let statement = transaction.prepare_cached(sql).await?;
        let (principals, keys) = names(self.keys.iter().map(|(key, _)| key));
        let of = self.keys.iter().map(|(_, creation)| creation);
        let fingerprints: Vec<_> = of.clone().map(|it| &it.fingerprint[..]).collect();
        let ids: Vec<_> = of.map(|it| Uuid::from(it.id)).collect();
        let (seconds, nanos) = (self.now.seconds(), self.now.nanos());
        transaction
            .execute(&statement, &[&principals, &keys, &fingerprints, &ids, &seconds, &nanos])
            .await?;
        Ok(())
    }

    pub(super) fn into_answers(self) -> Vec<Answer> {
        self.answers
    }
}

/// What was created with the keys of these calls.
async fn recall(
    transaction: &Transaction<'_>,
    now: Timestamp,
    group: &[Write],
) -> Result<HashMap<IdempotencyKey, Creation>, Fault> {
    let (principals, keys) = names(group.iter().filter_map(|write| write.key.as_ref()));
    if keys.is_empty() {
        return Ok(HashMap::new());
    }
    let sql = "SELECT fingerprint, user_id, created_seconds, created_nanos, principal, key
        FROM idempotency_keys
        WHERE (principal, key) IN (SELECT * FROM unnest($1::text[], $2::text[]))
            AND created_seconds > $3";
    let statement = transaction.prepare_cached(sql).await?;
    let found = transaction.query(&statement, &[&principals, &keys, &forgotten(now)]).await?;
    let creation = |row: &Row| {
        let text = |column| row.try_get(column).map_err(|error| error::of_call(&error));
        let key = IdempotencyKey { principal: text(4)?, key: text(5)? };
        Ok((key, rows::creation(row)?))
    };
    Ok(found.iter().map(creation).collect::<Result<_, StoreError>>()?)
}

/// Of several keys, the principals and the keys.
fn names<'a>(keys: impl Iterator<Item = &'a IdempotencyKey>) -> (Vec<&'a str>, Vec<&'a str>) {
    keys.map(|key| (&*key.principal, &*key.key)).unzip()
}
