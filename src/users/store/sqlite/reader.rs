//! The threads that read.

use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{Connection, Statement, params};
use tokio::sync::mpsc;

use super::rows::{self, COLUMNS};
use super::{Packed, Page, Reply, Rest, StoreError, error};
use crate::users::domain::{User, UserId};

/// Pages that nobody has taken yet: a reader goes on for as long as there is room.
type Pages = mpsc::Sender<Result<Page, StoreError>>;

/// What a call wants to know.
pub(super) enum Read {
    Get(UserId, Reply<Option<Arc<User>>>),
    Scan(Rest, Pages),
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
        // That nobody waits for the answer any more is no fault.
        match (read, statements) {
            (Read::Get(_, reply), _) if reply.is_closed() => {}
            (Read::Get(id, reply), statements) => {
                let _ = reply.send(statements.and_then(|it| it.get(id)));
            }
            (Read::Scan(rest, pages), Ok(statements)) => {
                statements.scan(rest, &pages, calls_wait);
            }
            (Read::Scan(_, pages), Err(error)) => {
                let _ = pages.try_send(Err(error));
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

    /// Reads until there is no room, or no more to read, or somebody else's turn.
    fn scan(&mut self, mut rest: Rest, pages: &Pages, calls_wait: impl Fn() -> bool) {
        while let Ok(room) = pages.try_reserve() {
            let page = self.page(&rest);
            let behind = page.as_ref().ok().and_then(|page| rest.behind(page));
            room.send(page);
            match behind {
                Some(behind) if !calls_wait() => rest = behind,
                _ => return,
            }
        }
    }

    fn page(&mut self, rest: &Rest) -> Result<Page, StoreError> {
        // Any key is greater than the empty one.
        let after = rest.after.as_ref().map_or(Vec::new(), |after| rows::key(after).into());
        let rows = self.page.query(params![after, rows::key(&rest.until)]);
        let mut rows = rows.map_err(|error| error::of_call(&error))?;
        let mut page = Packed::with_room_for(rest.len);
        while !page.is_full()
            && let Some(row) = rows.next().map_err(|error| error::of_call(&error))?
        {
            page.push(rows::read(row)?);
        }
        Ok(page.into())
    }
}
