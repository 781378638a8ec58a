//! The side of a scan that takes what a reader has read.

use futures_util::{Stream, stream};
use tokio::sync::mpsc;

use super::order::Rest;
use super::queue::{self, Piece};
use super::reader::Readers;
use super::{Extent, Page, StoreError};
use crate::domain::UserId;
use crate::store::PAGE_LEN;

/// How many whole pages a reader is ahead: it goes on while whoever takes them is being woken. Of
/// shorter ones, at the beginning, it is one ahead.
const AHEAD: usize = 2;

pub(super) fn scan(
    readers: &Readers,
    after: Option<UserId>,
    extent: Extent,
) -> impl Stream<Item = Result<Page, StoreError>> + Send {
    // As if a reader had stopped.
    let (_, coming) = mpsc::channel(1);
    let scan = Scan { readers, rest: Rest::new(after, extent), coming };
    stream::try_unfold(scan, async |mut scan| Ok(scan.next().await?.map(|page| (page, scan))))
}

struct Scan<'a> {
    readers: &'a Readers,
    /// Behind the last page that was taken; `None` if the scan is over.
    rest: Option<Rest>,
    /// From a reader, until it stops.
    coming: mpsc::Receiver<Result<Piece, StoreError>>,
}

impl Scan<'_> {
    async fn next(&mut self) -> Result<Option<Page>, StoreError> {
        let Some(rest) = &self.rest else { return Ok(None) };
        let (page, rest) = loop {
            match self.coming.recv().await {
                Some(piece) => break piece?,
                None => self.coming = ask(self.readers, rest.clone()).await?,
            }
        };
        // Before this page is sent, not after it.
        if let Some(rest) = &rest
            && self.coming.is_closed()
            && self.coming.is_empty()
        {
            self.coming = ask(self.readers, rest.clone()).await?;
        }
        self.rest = rest;
        Ok(Some(page))
    }
}

async fn ask(
    readers: &Readers,
    rest: Rest,
) -> Result<mpsc::Receiver<Result<Piece, StoreError>>, StoreError> {
    let ahead = if rest.len < PAGE_LEN { 1 } else { AHEAD };
    let (pages, coming) = mpsc::channel(ahead);
    readers.scan(queue::Scan { rest, pages }).await?;
    Ok(coming)
}
