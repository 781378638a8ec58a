//! The number of users in a file, and the newest of them.

use rusqlite::{Connection, OptionalExtension};
use uuid::Uuid;

use super::Extent;
use super::cursor::ISSUED;

/// Counts the users of a file, which reads all of its pages with users. The newest user is one whose id was issued by
/// this program.
pub(super) fn count(connection: &Connection) -> rusqlite::Result<Extent> {
    let total: i64 = connection.query_row("SELECT count(*) FROM users", [], |row| row.get(0))?;
    let newest = format!("SELECT id FROM users WHERE {ISSUED} ORDER BY id DESC LIMIT 1");
    let newest = connection.query_row(&newest, [], |row| row.get::<_, [u8; 16]>(0)).optional()?;
    let newest = newest.map(|key| Uuid::from_bytes(key).into());
    Ok(Extent { total: total.unsigned_abs(), newest })
}
