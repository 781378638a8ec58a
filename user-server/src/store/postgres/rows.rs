//! Conversion of rows.

use std::sync::Arc;

use tokio_postgres::Row;
use uuid::Uuid;

use super::{Creation, Extent, Mark, Progress, Remembered, StoreError, error};
use crate::domain::{Timestamp, User, UserId, UserStatus};

/// The value of the column `status`.
pub(super) fn status(status: UserStatus) -> i16 {
    match status {
        UserStatus::Active => 0,
        UserStatus::Inactive => 1,
        UserStatus::Suspended => 2,
    }
}

/// Reads a user from the columns id, name, email, created_seconds, created_nanos and status.
pub(super) fn read(row: &Row) -> Result<User<&str>, StoreError> {
    let id = id(row)?;
    let corrupt = |field| StoreError::corrupt(format!("user {id} has an invalid {field}"));
    let seconds = row.try_get(3).map_err(|_| corrupt("creation time"))?;
    let nanos = row.try_get(4).map_err(|_| corrupt("creation time"))?;
    let number: i16 = row.try_get(5).map_err(|_| corrupt("status"))?;
    let all = [UserStatus::Active, UserStatus::Inactive, UserStatus::Suspended];
    Ok(User {
        id,
        name: row.try_get(1).map_err(|_| corrupt("name"))?,
        email: row.try_get(2).map_err(|_| corrupt("address"))?,
        created_at: Timestamp::new(seconds, nanos).ok_or_else(|| corrupt("creation time"))?,
        status: all
            .into_iter()
            .find(|it| status(*it) == number)
            .ok_or_else(|| corrupt("status"))?,
    })
}

/// Reads the id from the first column.
pub(super) fn id(row: &Row) -> Result<UserId, StoreError> {
    Ok(value::<Uuid>(row, 0)?.into())
}

/// The user of the first row, if there is a row.
pub(super) fn first(rows: &[Row]) -> Result<Option<Arc<User>>, StoreError> {
    rows.first().map(|row| Ok(Arc::new(read(row)?.into_owned()))).transpose()
}

/// Reads the columns newest and present.
pub(super) fn extent(row: &Row) -> Result<Extent, StoreError> {
    let total: i64 = value(row, 1)?;
    Ok(Extent { total: total.unsigned_abs(), newest: newest(row)? })
}

/// Reads the columns newest and last_place.
pub(super) fn sequence(row: &Row) -> Result<(Option<UserId>, i64), StoreError> {
    Ok((newest(row)?, value(row, 1)?))
}

fn newest(row: &Row) -> Result<Option<UserId>, StoreError> {
    Ok(value::<Option<Uuid>>(row, 0)?.map(UserId::from))
}

/// Reads the creation of a key, and its second, from the columns fingerprint, user_id, created_seconds, created_nanos,
/// users and ended.
pub(super) fn remembered(row: &Row) -> Result<(Remembered, i64), StoreError> {
    let corrupt = || StoreError::corrupt("the creation of an idempotency key is damaged");
    let fingerprint: &[u8] = value(row, 0)?;
    let fingerprint = fingerprint.try_into().map_err(|_| corrupt())?;
    let created_at = Timestamp::new(value(row, 2)?, value(row, 3)?).ok_or_else(corrupt)?;
    let remembered = match value::<Option<i64>>(row, 4)? {
        None => {
            let id = value::<Uuid>(row, 1)?.into();
            Remembered::One(Creation { fingerprint, id, created_at })
        }
        Some(users) => Remembered::Stream(Progress {
            mark: Mark {
                users: usize::try_from(users).map_err(|_| corrupt())?,
                digest: fingerprint,
            },
            ended: value::<Option<bool>>(row, 5)? == Some(true),
        }),
    };
    Ok((remembered, created_at.seconds()))
}

/// Reads the ids from the first column.
pub(super) fn ids(row: &Row) -> Result<Vec<UserId>, StoreError> {
    Ok(value::<Vec<Uuid>>(row, 0)?.into_iter().map(UserId::from).collect())
}

fn value<'row, T: tokio_postgres::types::FromSql<'row>>(
    row: &'row Row,
    column: usize,
) -> Result<T, StoreError> {
    row.try_get(column).map_err(|error| error::of_call(&error))
}
