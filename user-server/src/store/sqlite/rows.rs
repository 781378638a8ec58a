//! Users as rows.

use rusqlite::Row;
use rusqlite::types::ValueRef;
use uuid::Uuid;

use super::super::Progress;
use super::order::Place;
use super::{Creation, Mark, Remembered, StoreError, error};
use crate::domain::{Timestamp, User, UserId, UserStatus};

/// What [`read`] wants, in this order.
pub(super) const COLUMNS: &str = "id, name, email, created_seconds, created_nanos, status";

/// How ids are kept: 16 bytes, which sort as ids do.
pub(super) fn key(id: &UserId) -> [u8; 16] {
    *Uuid::from(*id).as_bytes()
}

pub(super) fn status(status: UserStatus) -> i64 {
    match status {
        UserStatus::Active => 0,
        UserStatus::Inactive => 1,
        UserStatus::Suspended => 2,
    }
}

/// The user of a row of [`COLUMNS`]; corrupt if it cannot be one.
pub(super) fn read<'row>(row: &'row Row<'_>) -> Result<User<&'row str>, StoreError> {
    let id = id(row, 0)?;
    let corrupt = |what| StoreError::corrupt(format!("user {id} has a bad {what}"));
    let text = |column, what| match value(row, column)? {
        ValueRef::Text(text) => str::from_utf8(text).map_err(|_| corrupt(what)),
        _ => Err(corrupt(what)),
    };
    let (name, email) = (text(1, "name")?, text(2, "email")?);
    let created_at = timestamp(row, 3)?.ok_or_else(|| corrupt("creation time"))?;
    let number_of_status = number(row, 5)?;
    let status = [UserStatus::Active, UserStatus::Inactive, UserStatus::Suspended]
        .into_iter()
        .find(|it| status(*it) == number_of_status)
        .ok_or_else(|| corrupt("status"))?;
    Ok(User { id, name, email, created_at, status })
}

/// What [`remembered`] wants, in this order.
pub(super) const KEY_COLUMNS: &str =
    "fingerprint, user_id, created_seconds, created_nanos, users, ended";

/// What was created with a key, and in which second.
pub(super) fn remembered(row: &Row<'_>) -> Result<(Remembered, i64), StoreError> {
    let corrupt = || StoreError::corrupt("a remembered creation is damaged");
    let created_at = timestamp(row, 2)?.ok_or_else(corrupt)?;
    let fingerprint = value(row, 0)?.as_blob().unwrap_or_default();
    let fingerprint = fingerprint.try_into().map_err(|_| corrupt())?;
    let remembered = match value(row, 4)? {
        ValueRef::Null => Remembered::One(Creation { fingerprint, id: id(row, 1)?, created_at }),
        ValueRef::Integer(users) => Remembered::Stream(Progress {
            mark: Mark {
                users: usize::try_from(users).map_err(|_| corrupt())?,
                digest: fingerprint,
            },
            ended: number(row, 5)? == 1,
        }),
        _ => return Err(corrupt()),
    };
    Ok((remembered, created_at.seconds()))
}

/// The ids of a part of a stream, of the first column.
pub(super) fn ids(row: &Row<'_>) -> Result<Vec<UserId>, StoreError> {
    let corrupt = || StoreError::corrupt("a remembered stream is damaged");
    let (ids, rest) = value(row, 0)?.as_blob().map_err(|_| corrupt())?.as_chunks();
    if !rest.is_empty() {
        return Err(corrupt());
    }
    Ok(ids.iter().map(|id| Uuid::from_bytes(*id).into()).collect())
}

/// Of two columns, seconds and nanoseconds.
fn timestamp(row: &Row<'_>, column: usize) -> Result<Option<Timestamp>, StoreError> {
    let nanos = i32::try_from(number(row, column + 1)?).unwrap_or(-1);
    Ok(Timestamp::new(number(row, column)?, nanos))
}

/// The least, which is good for nothing, if it is none.
fn number(row: &Row<'_>, column: usize) -> Result<i64, StoreError> {
    Ok(value(row, column)?.as_i64().unwrap_or(i64::MIN))
}

/// The id in the first column, whatever it is.
pub(super) fn id_bytes<'row>(row: &'row Row<'_>) -> Result<&'row [u8], StoreError> {
    Ok(value(row, 0)?.as_blob().unwrap_or_default())
}

fn id(row: &Row<'_>, column: usize) -> Result<UserId, StoreError> {
    let bytes = value(row, column)?.as_blob().unwrap_or_default();
    let uuid = Uuid::from_slice(bytes).map_err(|_| {
        let shown: String = bytes.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        let len = bytes.len();
        StoreError::corrupt(format!(
            "a user has an id of {len} bytes, beginning with x'{shown}': wanted 16"
        ))
    })?;
    Ok(uuid.into())
}

/// The place of a user that was brought in.
pub(super) fn place(row: &Row<'_>) -> Result<Place, StoreError> {
    Ok(Place { seconds: number(row, 3)?, nanos: number(row, 4)?, id: id_bytes(row)?.into() })
}

fn value<'row>(row: &'row Row<'_>, column: usize) -> Result<ValueRef<'row>, StoreError> {
    row.get_ref(column).map_err(|error| error::of_call(&error))
}
