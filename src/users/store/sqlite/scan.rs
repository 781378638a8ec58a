//! The side of a scan that takes what a reader has read.

use futures_util::{Stream, stream};
use tokio::sync::mpsc;

use super::reader::{self, Read};
use super::threads::Threads;
use super::{Page, StoreError};
use crate::users::domain::UserId;

/// How many pages a reader is ahead: it goes on while whoever takes them is being woken.
const AHEAD: usize = 2;

/// How many users the first page has; each has twice as many as the one before it, up to those of a
/// whole page: whoever has no window for what it asks for holds little.
const FIRST_LEN: usize = 64;

/// The users above `after` up to `until`.
pub(super) fn scan(
    readers: &Threads<Read>,
    after: Option<UserId>,
    until: Option<UserId>,
) -> impl Stream<Item = Result<Page, StoreError>> + Send {
    // As if a reader had stopped.
    let (_, coming) = mpsc::channel(1);
    let scan = Scan { readers, after, until, len: FIRST_LEN, coming };
    stream::try_unfold(scan, async |mut scan| Ok(scan.next().await?.map(|page| (page, scan))))
}

struct Scan<'a> {
    readers: &'a Threads<Read>,
    /// The last user that was taken.
    after: Option<UserId>,
    until: Option<UserId>,
    /// How many users to ask for.
    len: usize,
    /// From a reader, until it stops.
    coming: mpsc::Receiver<Result<Page, StoreError>>,
}

impl Scan<'_> {
    async fn next(&mut self) -> Result<Option<Page>, StoreError> {
        if self.is_over() {
            return Ok(None);
        }
        let page = loop {
            match self.coming.recv().await {
                Some(page) => break page?,
                None => self.ask().await?,
            }
        };
        self.after = page.last().or(self.until);
        self.len = page.next_len();
        // Before this page is sent, not after it.
        if self.coming.is_closed() && self.coming.is_empty() && !self.is_over() {
            self.ask().await?;
        }
        Ok(Some(page))
    }

    fn is_over(&self) -> bool {
        self.until.is_none_or(|until| self.after >= Some(until))
    }

    async fn ask(&mut self) -> Result<(), StoreError> {
        let Self { after, len, .. } = *self;
        let Some(until) = self.until else { return Ok(()) };
        let (pages, coming) = mpsc::channel(AHEAD);
        self.coming = coming;
        self.readers.put(Read::Scan(reader::Scan { after, until, len, pages })).await
    }
}
