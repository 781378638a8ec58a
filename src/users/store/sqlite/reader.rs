//! The threads that read.

use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{Connection, Statement, params};
use tokio::sync::mpsc;

use super::rows::{self, COLUMNS};
use super::{Packed, Page, Reply, StoreError, error};
use crate::users::domain::{User, UserId};

/// What a call wants to know.
pub(super) enum Read {
    Get(UserId, Reply<Option<Arc<User>>>),
    Scan(Scan),
}

/// The users above `after` up to `until`, as pages.
pub(super) struct Scan {
    pub(super) after: Option<UserId>,
    pub(super) until: UserId,
    /// How many users the next page has.
    pub(super) len: usize,
    /// Pages that nobody has taken yet: a reader goes on for as long as there is room.
    pub(super) pages: mpsc::Sender<Result<Page, StoreError>>,
}

/// Answers until the queue, which it shares with others of its kind, is closed.
pub(super) fn run(connection: &Connection, queue: &Mutex<mpsc::Receiver<Read>>) {
    let mut statements = Statements::new(connection).inspect_err(|error| {
        tracing::error!(%error, "a thread cannot read users");
    });
    // One waits at the queue, the others for their turn.
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv();
    // If another reader waits there, no call does.
    let calls_wait = || queue.try_lock().is_ok_and(|queue| !queue.is_empty());
    while let Some(read) = next() {
        let statements = statements.as_mut().map_err(|error| error::of_call(error));
        match read {
            Read::Get(_, reply) if reply.is_closed() => {}
            Read::Get(id, reply) => {
                // That nobody waits for the answer any more is no fault.
                let _ = reply.send(statements.and_then(|it| it.get(id)));
            }
            Read::Scan(scan) => scan.run(statements, calls_wait),
        }
    }
}

impl Scan {
    /// Reads until there is no room, or no more to read, or somebody else's turn.
    fn run(
        mut self,
        mut statements: Result<&mut Statements<'_>, StoreError>,
        calls_wait: impl Fn() -> bool,
    ) {
        while self.after < Some(self.until)
            && let Ok(room) = self.pages.try_reserve()
        {
            let statements = statements.as_mut().map_err(|error| error.copied());
            let page = statements.and_then(|it| it.page(self.after, self.until, self.len));
            self.len = page.as_ref().map_or(0, Page::next_len);
            // An error is the end, and so is a page without users.
            self.after = page.as_ref().ok().and_then(Page::last).or(Some(self.until));
            room.send(page);
            if calls_wait() {
                return;
            }
        }
    }
}

/// What a reader asks, each without a transaction around it: of one page all is read at one moment.
struct Statements<'c> {
    get: Statement<'c>,
    page: Statement<'c>,
}

impl<'c> Statements<'c> {
    fn new(connection: &'c Connection) -> rusqlite::Result<Self> {
        let get = format!("SELECT {COLUMNS} FROM users WHERE id = ?1");
        let page = format!("SELECT {COLUMNS} FROM users WHERE id > ?1 AND id <= ?2 ORDER BY id");
        Ok(Self { get: connection.prepare(&get)?, page: connection.prepare(&page)? })
    }

    fn get(&mut self, id: UserId) -> Result<Option<Arc<User>>, StoreError> {
        let mut rows = self.get.query([rows::key(&id)]).map_err(|error| error::of_call(&error))?;
        let row = rows.next().map_err(|error| error::of_call(&error))?;
        row.map(|row| Ok(Arc::new(rows::read(row)?.into_owned()))).transpose()
    }

    fn page(
        &mut self,
        after: Option<UserId>,
        until: UserId,
        len: usize,
    ) -> Result<Page, StoreError> {
        // Any key is greater than the empty one.
        let after = after.as_ref().map_or(Vec::new(), |after| rows::key(after).into());
        let rows = self.page.query(params![after, rows::key(&until)]);
        let mut rows = rows.map_err(|error| error::of_call(&error))?;
        let mut page = Packed::with_room_for(len);
        while !page.is_full()
            && let Some(row) = rows.next().map_err(|error| error::of_call(&error))?
        {
            page.push(rows::read(row)?);
        }
        Ok(page.into())
    }
}
