//! Scans.

use futures_util::{Stream, StreamExt, stream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::connection::Value;
use super::queries::Queries;
use super::{Extent, PAGE_LEN, Packed, Page, StoreError, rows};
use crate::domain::UserId;

/// How many pages are read ahead.
const AHEAD: usize = 1;

/// Behind the user with an id, or the one before it if there is none, up to another one.
const PAGE: &str = "SELECT id, name, email, created_seconds, created_nanos, status FROM users
    WHERE place > coalesce((SELECT place FROM users WHERE id <= $1 ORDER BY id DESC LIMIT 1), 0)
    AND place <= (SELECT place FROM users WHERE id <= $2 ORDER BY id DESC LIMIT 1)
    ORDER BY place LIMIT $3";

/// What is left of a scan: some users, or else it is over.
#[derive(Clone, Copy)]
struct Rest {
    /// They come behind this one, if there is one.
    after: Option<UserId>,
    /// The last of them.
    until: UserId,
    /// How many of them the next page has.
    len: usize,
}

/// Pages are read by a task, so that nobody has a connection who waits for a client to read: there are
/// fewer connections than clients.
pub(super) fn scan(
    queries: &Queries,
    after: Option<UserId>,
    extent: Extent,
) -> impl Stream<Item = Result<Page, StoreError>> + Send {
    let (pages, coming) = mpsc::channel(AHEAD);
    let mut reader = JoinSet::new();
    if let Some(until) = extent.newest.filter(|until| after != Some(*until)) {
        let rest = Rest { after, until, len: PAGE_LEN };
        reader.spawn(read(queries.clone(), rest, pages));
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

async fn read(queries: Queries, mut rest: Rest, pages: mpsc::Sender<Result<Page, StoreError>>) {
    while let Ok(room) = pages.reserve().await {
        match read_page(&queries, &rest).await {
            Ok((page, Some(behind))) => {
                room.send(Ok(page));
                rest = behind;
            }
            Ok((page, None)) => return room.send(Ok(page)),
            Err(error) => return room.send(Err(error)),
        };
    }
}

/// A page, and what is left behind it.
async fn read_page(queries: &Queries, rest: &Rest) -> Result<(Page, Option<Rest>), StoreError> {
    let (after, until) = (rest.after.map(Uuid::from), Uuid::from(rest.until));
    let limit = i64::try_from(rest.len).unwrap_or(i64::MAX);
    let values: [Value<'_>; 3] = [(&after, Type::UUID), (&until, Type::UUID), (&limit, Type::INT8)];
    let rows = queries.query_page(PAGE, &values).await?;
    let mut page = Packed::with_room_for(rows.len());
    let (mut last, mut read) = (None, 0);
    for row in &rows {
        if page.is_full() {
            break; // The next page begins there.
        }
        (last, read) = (Some(rows::id(row)?), read + 1);
        match rows::read(row) {
            Ok(user) => page.push(user),
            Err(error) => page.skip(&error),
        }
    }
    // Not many more than fit, if they are long.
    let len = PAGE_LEN.min(2 * read);
    let behind = last.filter(|last| *last != rest.until);
    Ok((page.into(), behind.map(|last| Rest { after: Some(last), len, ..*rest })))
}
