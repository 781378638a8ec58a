//! The side of a scan that takes what a reader has read.

use futures_util::{Stream, stream};
use tokio::sync::mpsc;

use super::queue;
use super::reader::Readers;
use super::{Extent, Page, Rest, StoreError};
use crate::users::domain::UserId;
use crate::users::store::PAGE_LEN;

/// How many whole pages a reader is ahead: it goes on while whoever takes them is being woken. Of
/// shorter ones, at the beginning, it is one ahead.
const AHEAD: usize = 2;

/// How many users the first page has; each has twice as many as the one before it, up to those of a
/// whole page: whoever has no window for what it asks for holds little.
const FIRST_LEN: usize = 64;

pub(super) fn scan(
    readers: &Readers,
    after: Option<UserId>,
    extent: Extent,
) -> impl Stream<Item = Result<Page, StoreError>> + Send {
    // As if a reader had stopped.
    let (_, coming) = mpsc::channel(1);
    let scan = Scan { readers, rest: Rest::new(after, extent, FIRST_LEN), coming };
    stream::try_unfold(scan, async |mut scan| Ok(scan.next().await?.map(|page| (page, scan))))
}

struct Scan<'a> {
    readers: &'a Readers,
    /// Behind the last page that was taken; `None` if the scan is over.
    rest: Option<Rest>,
    /// From a reader, until it stops.
    coming: mpsc::Receiver<Result<Page, StoreError>>,
}

impl Scan<'_> {
    async fn next(&mut self) -> Result<Option<Page>, StoreError> {
        let Some(rest) = self.rest else { return Ok(None) };
        let page = loop {
            match self.coming.recv().await {
                Some(page) => break page?,
                None => self.ask(rest).await?,
            }
        };
        self.rest = rest.behind(&page);
        // Before this page is sent, not after it.
        if let Some(rest) = self.rest
            && self.coming.is_closed()
            && self.coming.is_empty()
        {
            self.ask(rest).await?;
        }
        Ok(Some(page))
    }

    async fn ask(&mut self, rest: Rest) -> Result<(), StoreError> {
        let ahead = if rest.len < PAGE_LEN { 1 } else { AHEAD };
        let (pages, coming) = mpsc::channel(ahead);
        self.coming = coming;
        self.readers.scan(queue::Scan { rest, pages }).await
    }
}
