//! The threads that read.

use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{Connection, Statement, params};
use tokio::sync::mpsc;

use super::rows::{self, COLUMNS, Packed};
use super::{Reply, StoreError, error};
use crate::users::domain::{User, UserId};

/// What a call wants to know.
pub(super) enum Read {
    Get(UserId, Reply<Option<Arc<User>>>),
    /// See [`UserStore::page`](super::UserStore::page).
    Page {
        after: Option<UserId>,
        until: UserId,
        limit: usize,
        reply: Reply<Packed>,
    },
}

/// Answers until the queue, which it shares with others of its kind, is closed.
pub(super) fn run(connection: &Connection, queue: &Mutex<mpsc::Receiver<Read>>) {
    let mut statements = Statements::new(connection).inspect_err(|error| {
        tracing::error!(%error, "a thread cannot read users");
    });
    loop {
        // One waits at the queue, the others for their turn.
        let read = queue.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv();
        let Some(read) = read else { return };
        let statements = statements.as_mut().map_err(|error| error::of_call(error));
        read.answer(statements);
    }
}

impl Read {
    fn answer(self, statements: Result<&mut Statements<'_>, StoreError>) {
        // That nobody waits for the answer any more is no fault.
        match self {
            Self::Get(id, reply) => {
                let _ = reply.send(statements.and_then(|it| it.get(id)));
            }
            Self::Page { reply, .. } if reply.is_closed() => {}
            Self::Page { after, until, limit, reply } => {
                let _ = reply.send(statements.and_then(|it| it.page(after, until, limit)));
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
        let page =
            format!("SELECT {COLUMNS} FROM users WHERE id > ?1 AND id <= ?2 ORDER BY id LIMIT ?3");
        Ok(Self { get: connection.prepare(&get)?, page: connection.prepare(&page)? })
    }

    fn get(&mut self, id: UserId) -> Result<Option<Arc<User>>, StoreError> {
        let mut rows = self.get.query([rows::key(&id)]).map_err(|error| error::of_call(&error))?;
        let row = rows.next().map_err(|error| error::of_call(&error))?;
        row.map(|row| rows::read(row).map(Arc::new)).transpose()
    }

    fn page(
        &mut self,
        after: Option<UserId>,
        until: UserId,
        limit: usize,
    ) -> Result<Packed, StoreError> {
        // Any key is greater than the empty one.
        let after = after.as_ref().map_or(Vec::new(), |after| rows::key(after).into());
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = self.page.query(params![after, rows::key(&until), limit]);
        let mut rows = rows.map_err(|error| error::of_call(&error))?;
        let mut page = Packed::default();
        while let Some(row) = rows.next().map_err(|error| error::of_call(&error))? {
            page.push(row)?;
        }
        Ok(page)
    }
}
