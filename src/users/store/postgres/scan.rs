//! Scans.

use futures_util::{Stream, StreamExt, stream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::queries::{Again, Queries};
use super::{PAGE_LEN, Packed, Page, StoreError, rows};
use crate::users::domain::UserId;

/// How many pages are read ahead.
const AHEAD: usize = 1;

const PAGE: &str = "SELECT id, name, email, created_seconds, created_nanos, status
    FROM users WHERE id > $1 AND id <= $2 ORDER BY id LIMIT $3";

/// The users above `after` up to `until`.
///
/// They are read by a task, so that nobody has a connection who waits for a client to read: there are
/// fewer connections than clients.
pub(super) fn scan(
    queries: &Queries,
    after: Option<UserId>,
    until: Option<UserId>,
) -> impl Stream<Item = Result<Page, StoreError>> + Send {
    let (pages, coming) = mpsc::channel(AHEAD);
    let mut reader = JoinSet::new();
    if let Some(until) = until {
        reader.spawn(read(queries.clone(), after, until, pages));
    }
    // With the stream the task is dropped, and what it has asked is cancelled.
    let pages = stream::unfold((coming, reader), async |(mut coming, mut reader)| {
        let page = match coming.recv().await {
            Some(page) => page,
            // It has ended: but how?
            None => match reader.join_next().await {
                Some(Err(error)) => Err(StoreError::internal(error)),
                Some(Ok(())) | None => return None,
            },
        };
        Some((page, (coming, reader)))
    });
    pages.fuse()
}

async fn read(
    queries: Queries,
    mut after: Option<UserId>,
    until: UserId,
    pages: mpsc::Sender<Result<Page, StoreError>>,
) {
    let mut len = PAGE_LEN;
    while after < Some(until)
        && let Ok(room) = pages.reserve().await
    {
        let page = read_page(&queries, after, until, len).await;
        len = page.as_ref().map_or(0, Page::next_len);
        // An error is the end, and so is a page without users.
        after = page.as_ref().ok().and_then(Page::last).or(Some(until));
        room.send(page);
    }
}

async fn read_page(
    queries: &Queries,
    after: Option<UserId>,
    until: UserId,
    len: usize,
) -> Result<Page, StoreError> {
    let after = after.map_or(Uuid::nil(), Uuid::from);
    let limit = i64::try_from(len).unwrap_or(i64::MAX);
    let rows = queries.query(PAGE, &[&after, &Uuid::from(until), &limit], Again::Reads).await?;
    let mut page = Packed::with_room_for(rows.len());
    for row in &rows {
        if page.is_full() {
            break; // The next page begins there.
        }
        page.push(rows::read(row)?);
    }
    Ok(page.into())
}
