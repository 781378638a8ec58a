//! Scans.

use futures_util::{Stream, StreamExt, stream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::connection::Value;
use super::queries::Queries;
use super::{Extent, PAGE_LEN, Packed, Page, Rest, StoreError, rows};
use crate::users::domain::UserId;

/// How many pages are read ahead.
const AHEAD: usize = 1;

const PAGE: &str = "SELECT id, name, email, created_seconds, created_nanos, status
    FROM users WHERE id > $1 AND id <= $2 ORDER BY id LIMIT $3";

/// Pages are read by a task, so that nobody has a connection who waits for a client to read: there are
/// fewer connections than clients.
pub(super) fn scan(
    queries: &Queries,
    after: Option<UserId>,
    extent: Extent,
) -> impl Stream<Item = Result<Page, StoreError>> + Send {
    let (pages, coming) = mpsc::channel(AHEAD);
    let mut reader = JoinSet::new();
    if let Some(rest) = Rest::new(after, extent, PAGE_LEN) {
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
        let page = read_page(&queries, &rest).await;
        let behind = page.as_ref().ok().and_then(|page| rest.behind(page));
        room.send(page);
        match behind {
            Some(behind) => rest = behind,
            None => return,
        }
    }
}

async fn read_page(queries: &Queries, rest: &Rest) -> Result<Page, StoreError> {
    let after = rest.after.map_or(Uuid::nil(), Uuid::from);
    let limit = i64::try_from(rest.len).unwrap_or(i64::MAX);
    let until = Uuid::from(rest.until);
    let values: [Value<'_>; 3] = [(&after, Type::UUID), (&until, Type::UUID), (&limit, Type::INT8)];
    let rows = queries.query_page(PAGE, &values).await?;
    let mut page = Packed::with_room_for(rows.len());
    for row in &rows {
        if page.is_full() {
            break; // The next page begins there.
        }
        page.push(rows::read(row)?);
    }
    Ok(page.into())
}
