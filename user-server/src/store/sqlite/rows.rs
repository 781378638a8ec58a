//! Conversion of rows.

use rusqlite::Row;
use rusqlite::types::ValueRef;
use uuid::Uuid;

use super::super::Progress;
use super::{Creation, Mark, Remembered, StoreError, error};
use crate::domain::{Timestamp, User, UserId, UserStatus};

/// The columns for [`read`], in this order.
pub(super) const COLUMNS: &str = "id, name, email, created_seconds, created_nanos, status";

/// The stored form of an id: 16 bytes, which sort like ids.
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

/// Reads a user from [`COLUMNS`]. Corrupt if the values are invalid.
pub(super) fn read<'row>(row: &'row Row<'_>) -> Result<User<&'row str>, StoreError> {
    let id = id(row, 0)?;
    let corrupt = |field| StoreError::corrupt(format!("user {id} has an invalid {field}"));
    let text = |column, field| match value(row, column)? {
        ValueRef::Text(text) => str::from_utf8(text).map_err(|_| corrupt(field)),
        _ => Err(corrupt(field)),
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

/// The columns for [`remembered`], in this order.
pub(super) const KEY_COLUMNS: &str =
    "fingerprint, user_id, created_seconds, created_nanos, users, ended";

/// Reads the creation of a key, and its second.
pub(super) fn remembered(row: &Row<'_>) -> Result<(Remembered, i64), StoreError> {
    let corrupt = || StoreError::corrupt("the creation of an idempotency key is damaged");
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

/// Reads the ids of a part of a stream from the first column.
pub(super) fn ids(row: &Row<'_>) -> Result<Vec<UserId>, StoreError> {
    let corrupt = || StoreError::corrupt("the stream of an idempotency key is damaged");
    let (ids, rest) = value(row, 0)?.as_blob().map_err(|_| corrupt())?.as_chunks();
    if !rest.is_empty() {
        return Err(corrupt());
    }
    Ok(ids.iter().map(|id| Uuid::from_bytes(*id).into()).collect())
}

/// Reads a time from two columns, seconds and nanoseconds.
fn timestamp(row: &Row<'_>, column: usize) -> Result<Option<Timestamp>, StoreError> {
    let nanos = i32::try_from(number(row, column + 1)?).unwrap_or(-1);
    Ok(Timestamp::new(number(row, column)?, nanos))
}

/// Reads a number. Any other type becomes the smallest number, which is invalid everywhere.
fn number(row: &Row<'_>, column: usize) -> Result<i64, StoreError> {
    Ok(value(row, column)?.as_i64().unwrap_or(i64::MIN))
}

/// Reads the id in the first column, also if it is not a UUID.
pub(super) fn id_bytes<'row>(row: &'row Row<'_>) -> Result<&'row [u8], StoreError> {
    Ok(value(row, 0)?.as_blob().unwrap_or_default())
}

fn id(row: &Row<'_>, column: usize) -> Result<UserId, StoreError> {
    let bytes = value(row, column)?.as_blob().unwrap_or_default();
    let uuid = Uuid::from_slice(bytes).map_err(|_| {
        let shown: String = bytes.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        let len = bytes.len();
        StoreError::corrupt(format!(
            "a user has an id of {len} bytes, starting with x'{shown}': wanted 16 bytes"
        ))
    })?;
    Ok(uuid.into())
}

/// The position of an imported user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) seconds: i64,
    pub(super) nanos: i64,
    pub(super) id: Vec<u8>,
}

/// Reads the position of an imported user.
pub(super) fn position(row: &Row<'_>) -> Result<Position, StoreError> {
    Ok(Position { seconds: number(row, 3)?, nanos: number(row, 4)?, id: id_bytes(row)?.into() })
}

fn value<'row>(row: &'row Row<'_>, column: usize) -> Result<ValueRef<'row>, StoreError> {
    row.get_ref(column).map_err(|error| error::of_call(&error))
}
