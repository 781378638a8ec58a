//! The threads that read.

use std::sync::Arc;
use std::thread::JoinHandle;

use rusqlite::{Connection, Statement, params};
use tokio::sync::oneshot;

use super::queue::{Point, Queue, Read, Scan, Turn};
use super::rows::{self, COLUMNS};
use super::threads::{join, start};
use super::turns::stopped;
use super::{Packed, Page, Rest, StoreError, error};
use crate::users::domain::{User, UserId};

/// Threads that read what waits in a queue. Dropping it waits for their end.
pub(super) struct Readers {
    queue: Arc<Queue>,
    threads: Vec<JoinHandle<()>>,
}

impl Readers {
    /// None at first.
    pub(super) fn new() -> Self {
        Self { queue: Arc::new(Queue::new()), threads: Vec::new() }
    }

    pub(super) fn start(&mut self, connection: Connection) -> Result<(), StoreError> {
        let queue = self.queue.clone();
        self.threads.push(start("users-read", move || run(&connection, &queue))?);
        Ok(())
    }

    /// Waits for a user. If the future is dropped, it is not read, unless that was begun.
    pub(super) async fn get(&self, id: UserId) -> Result<Option<Arc<User>>, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.queue.put_point(Point { id, reply }).await?;
        answer.await.map_err(|_| stopped())?
    }

    /// Has pages read for as long as somebody holds the other end of `scan`.
    pub(super) async fn scan(&self, scan: Scan) -> Result<(), StoreError> {
        self.queue.put_scan(scan).await
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.queue.close();
        join(&mut self.threads);
    }
}

/// Answers until the queue, which it shares with others of its kind, is closed.
fn run(connection: &Connection, queue: &Queue) {
    let mut statements = Statements::new(connection).inspect_err(|error| {
        tracing::error!(%error, "a thread cannot read users");
    });
    while let Some(read) = queue.take() {
        let statements = statements.as_mut().map_err(|error| error::of_call(error));
        // That nobody waits for the answer any more is no fault.
        match (read, statements) {
            (Read::Point(Point { id, reply }), statements) => {
                let _ = reply.send(statements.and_then(|it| it.get(id)));
            }
            (Read::Scan(scan, turn), Ok(statements)) => statements.scan(scan, &turn),
            (Read::Scan(scan, _), Err(error)) => {
                let _ = scan.pages.try_send(Err(error));
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
    fn scan(&mut self, scan: Scan, turn: &Turn<'_>) {
        let Scan { mut rest, pages } = scan;
        // There is never room for a caller who is gone.
        while let Ok(room) = pages.try_reserve() {
            let page = self.page(&rest);
            let behind = page.as_ref().ok().and_then(|page| rest.behind(page));
            room.send(page);
            match behind {
                Some(behind) if !turn.is_over() => rest = behind,
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
