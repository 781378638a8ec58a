//! Scans: the side of the caller, which receives the pages of a reader.

use futures_util::{Stream, stream};
use tokio::sync::mpsc;

use super::cursor::Cursor;
use super::read_queue::{self, Piece};
use super::reader::Readers;
use super::{Extent, Page, StoreError};
use crate::domain::UserId;
use crate::store::PAGE_LEN;

/// The number of whole pages that a reader reads ahead, so that it continues while the receiver is woken. For the shorter
/// pages at the start of a scan it is one.
const AHEAD: usize = 2;

pub(super) fn scan(
    readers: &Readers,
    after: Option<UserId>,
    extent: Extent,
) -> impl Stream<Item = Result<Page, StoreError>> + Send {
    // A closed channel, as if a reader had stopped.
    let (_, coming) = mpsc::channel(1);
    let scan = Scan { readers, cursor: Cursor::new(after, extent), coming };
    stream::try_unfold(scan, async |mut scan| Ok(scan.next().await?.map(|page| (page, scan))))
}

struct Scan<'a> {
    readers: &'a Readers,
    /// The position after the last received page; `None` if the scan is over.
    cursor: Option<Cursor>,
    /// The channel from a reader, which closes when the reader stops.
    coming: mpsc::Receiver<Result<Piece, StoreError>>,
}

impl Scan<'_> {
    async fn next(&mut self) -> Result<Option<Page>, StoreError> {
        let Some(cursor) = &self.cursor else { return Ok(None) };
        let (page, next) = loop {
            match self.coming.recv().await {
                Some(piece) => break piece?,
                None => self.coming = ask(self.readers, cursor.clone()).await?,
            }
        };
        // The next page is requested before this one is sent.
        if let Some(cursor) = &next
            && self.coming.is_closed()
            && self.coming.is_empty()
        {
            self.coming = ask(self.readers, cursor.clone()).await?;
        }
        self.cursor = next;
        Ok(Some(page))
    }
}

async fn ask(
    readers: &Readers,
    cursor: Cursor,
) -> Result<mpsc::Receiver<Result<Piece, StoreError>>, StoreError> {
    let ahead = if cursor.len < PAGE_LEN { 1 } else { AHEAD };
    let (pages, coming) = mpsc::channel(ahead);
    readers.scan(read_queue::Scan { cursor, pages }).await?;
    Ok(coming)
}
