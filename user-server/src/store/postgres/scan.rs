//! Scans of all users, page by page.

use futures_util::{Stream, StreamExt, stream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::connection::Value;
use super::queries::Queries;
use super::{Extent, PAGE_LEN, Packed, Page, StoreError, rows};
use crate::domain::UserId;

/// The number of pages that are read ahead.
const AHEAD: usize = 1;

/// The users after one id, up to another one. If no user has the first id, the next smaller id is used.
const PAGE: &str = "SELECT id, name, email, created_seconds, created_nanos, status FROM users
    WHERE place > coalesce((SELECT place FROM users WHERE id <= $1 ORDER BY id DESC LIMIT 1), 0)
    AND place <= (SELECT place FROM users WHERE id <= $2 ORDER BY id DESC LIMIT 1)
    ORDER BY place LIMIT $3";

/// The position of a scan.
#[derive(Clone, Copy)]
struct Cursor {
    /// The last user that was read.
    after: Option<UserId>,
    /// The last user of the scan.
    until: UserId,
    /// The number of users on the next page.
    len: usize,
}

/// Streams pages. A task reads them, so that no connection is in use while the client is slow: there are fewer
/// connections than clients.
pub(super) fn scan(
    queries: &Queries,
    after: Option<UserId>,
    extent: Extent,
) -> impl Stream<Item = Result<Page, StoreError>> + Send {
    let (pages, coming) = mpsc::channel(AHEAD);
    let mut reader = JoinSet::new();
    if let Some(until) = extent.newest.filter(|until| after != Some(*until)) {
        let cursor = Cursor { after, until, len: PAGE_LEN };
        reader.spawn(read(queries.clone(), cursor, pages));
    }
    // The stream owns the task. Dropping the stream cancels the statement of the task.
    let pages = stream::unfold((coming, reader), async |(mut coming, mut reader)| {
        let page = match coming.recv().await {
            Some(page) => page,
            // The task has ended. A panic is an error.
            None => match reader.join_next().await {
                Some(Err(error)) => Err(StoreError::internal(error)),
                Some(Ok(())) | None => return None,
            },
        };
        Some((page, (coming, reader)))
    });
    pages.fuse()
}

async fn read(queries: Queries, mut cursor: Cursor, pages: mpsc::Sender<Result<Page, StoreError>>) {
    while let Ok(room) = pages.reserve().await {
        match read_page(&queries, &cursor).await {
            Ok((page, Some(next))) => {
                room.send(Ok(page));
                cursor = next;
            }
            Ok((page, None)) => return room.send(Ok(page)),
            Err(error) => return room.send(Err(error)),
        };
    }
}

/// Reads a page, and returns the position after it.
async fn read_page(
    queries: &Queries,
    cursor: &Cursor,
) -> Result<(Page, Option<Cursor>), StoreError> {
    let (after, until) = (cursor.after.map(Uuid::from), Uuid::from(cursor.until));
    let limit = i64::try_from(cursor.len).unwrap_or(i64::MAX);
    let values: [Value<'_>; 3] = [(&after, Type::UUID), (&until, Type::UUID), (&limit, Type::INT8)];
    let rows = queries.query_page(PAGE, &values).await?;
    let mut page = Packed::with_room_for(rows.len());
    let mut last = None;
    let mut read = 0;
    for row in &rows {
        if page.is_full() {
            break; // The next page starts with this row.
        }
        last = Some(rows::id(row)?);
        read += 1;
        match rows::read(row) {
            Ok(user) => page.push(user),
            Err(error) => page.skip(&error),
        }
    }
    // Long users fill a page early, so the next page reads few more rows than fit.
    let len = PAGE_LEN.min(2 * read);
    let last = last.filter(|last| *last != cursor.until);
    Ok((page.into(), last.map(|last| Cursor { after: Some(last), len, ..*cursor })))
}
