//! Scans: the side of the caller, which receives the pages of a reader.

use futures_util::{Stream, stream};
use tokio::sync::mpsc;

use super::cursor::Cursor;
use super::read_queue::{self, Answer};
use super::reader::Readers;
use super::{Extent, Page, StoreError};
use crate::domain::UserId;
use crate::store::PAGE_LEN;

/// The number of whole pages that a reader reads ahead, so that it continues while the receiver is woken. For the shorter
/// pages at the start of a scan it is one.
const AHEAD: usize = 2;

/// The number of pages at the start of a scan after which nothing is read ahead: as much as a client gets without reading.
const NOT_AHEAD: usize = 2;

pub(super) fn scan(
    readers: &Readers,
    after: Option<UserId>,
    extent: Extent,
) -> impl Stream<Item = Result<Page, StoreError>> + Send {
    let scan = Scan { readers, cursor: Cursor::new(after, extent), coming: None, pages: 0 };
    stream::try_unfold(scan, async |mut scan| Ok(scan.next().await?.map(|page| (page, scan))))
}

struct Scan<'a> {
    readers: &'a Readers,
    /// The position after the last received page; `None` if the scan is over.
    cursor: Option<Cursor>,
    /// The channel from a reader, which closes when the reader stops.
    coming: Option<mpsc::Receiver<Answer>>,
    /// The number of received pages.
    pages: usize,
}

impl Scan<'_> {
    async fn next(&mut self) -> Result<Option<Page>, StoreError> {
        let Some(cursor) = &self.cursor else { return Ok(None) };
        let (page, next) = loop {
            if let Some(coming) = &mut self.coming
                && let Some(piece) = coming.recv().await
            {
                break (*piece)?;
            }
            self.coming = Some(ask(self.readers, cursor.clone()).await?);
        };
        self.pages += 1;
        if self.coming.take_if(|coming| coming.is_closed() && coming.is_empty()).is_some()
            && self.pages > NOT_AHEAD
            && let Some(cursor) = &next
        {
            // Requested before this page is sent.
            self.coming = Some(ask(self.readers, cursor.clone()).await?);
        }
        self.cursor = next;
        Ok(Some(page))
    }
}

async fn ask(readers: &Readers, cursor: Cursor) -> Result<mpsc::Receiver<Answer>, StoreError> {
    let ahead = if cursor.len < PAGE_LEN { 1 } else { AHEAD };
    let (pages, coming) = mpsc::channel(ahead);
    readers.scan(read_queue::Scan { cursor, pages }).await?;
    Ok(coming)
}
