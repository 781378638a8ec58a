//! The reader threads.

use std::sync::Arc;
use std::thread::JoinHandle;

use rusqlite::{Connection, OptionalExtension, Row, Statement, params};
use tokio::sync::oneshot;

use super::cursor::{Cursor, ISSUED, Imported, is_issued};
use super::read_queue::{Piece, Point, Queue, Read, Scan, Turn};
use super::rows::{self, COLUMNS, Position};
use super::threads::{join, start};
use super::write_queue::stopped;
use super::{PAGE_LEN, Packed, StoreError, error};
use crate::domain::{User, UserId};

/// The reader threads and their queue. Dropping it waits for the end of the threads.
pub(super) struct Readers {
    queue: Arc<Queue>,
    threads: Vec<JoinHandle<()>>,
}

impl Readers {
    /// No threads at first.
    pub(super) fn new() -> Self {
        Self { queue: Arc::new(Queue::new()), threads: Vec::new() }
    }

    pub(super) fn start(&mut self, connection: Connection) -> Result<(), StoreError> {
        let queue = self.queue.clone();
        self.threads.push(start("users-read", move || run(&connection, &queue))?);
        Ok(())
    }

    /// Reads a user. If the future is dropped before a reader has started, the user is not read.
    pub(super) async fn get(&self, id: UserId) -> Result<Option<Arc<User>>, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.queue.put_point(Point { id, reply }).await?;
        answer.await.map_err(|_| stopped())?
    }

    /// Queues a scan. Its pages are read while the receiver of `scan` exists.
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

/// Answers reads until the queue is closed. All readers share the queue.
fn run(connection: &Connection, queue: &Queue) {
    let mut statements = Statements::new(connection).inspect_err(|error| {
        tracing::error!(%error, "a reader thread cannot prepare its statements");
    });
    while let Some(read) = queue.take() {
        let statements = statements.as_mut().map_err(|error| error::of_call(error));
        // A failure is ignored: the caller may have disconnected.
        match (read, statements) {
            (Read::Point(Point { id, reply }), statements) => {
                let _ = reply.send(statements.and_then(|it| it.get(id)));
            }
            (Read::Scan(scan, turn), Ok(statements)) => statements.scan(scan, &turn),
            (Read::Scan(scan, _), Err(error)) => {
                let _ = scan.pages.try_send(Box::new(Err(error)));
            }
        }
    }
}

/// The statements of a reader. They run without a transaction around them: each statement sees one snapshot.
struct Statements<'c> {
    get: Statement<'c>,
    issued: Statement<'c>,
    imported: Statement<'c>,
    position: Statement<'c>,
}

impl<'c> Statements<'c> {
    fn new(connection: &'c Connection) -> rusqlite::Result<Self> {
        let get = format!("SELECT {COLUMNS} FROM users WHERE id = ?1");
        let issued = format!("SELECT {COLUMNS} FROM users WHERE id > ?1 AND id <= ?2 ORDER BY id");
        let imported = format!(
            "SELECT {COLUMNS} FROM users INDEXED BY users_brought_in
             WHERE NOT {ISSUED} AND (created_seconds, created_nanos, id) > (?1, ?2, ?3)
             ORDER BY created_seconds, created_nanos, id"
        );
        let position = "SELECT created_seconds, created_nanos FROM users WHERE id = ?1";
        Ok(Self {
            get: connection.prepare(&get)?,
            issued: connection.prepare(&issued)?,
            imported: connection.prepare(&imported)?,
            position: connection.prepare(position)?,
        })
    }

    fn get(&mut self, id: UserId) -> Result<Option<Arc<User>>, StoreError> {
        let mut rows = self.get.query([rows::key(&id)]).map_err(|error| error::of_call(&error))?;
        let row = rows.next().map_err(|error| error::of_call(&error))?;
        row.map(|row| Ok(Arc::new(rows::read(row)?.into_owned()))).transpose()
    }

    /// Reads pages until the channel is full, the scan is over, or another read waits.
    fn scan(&mut self, scan: Scan, turn: &Turn<'_>) {
        let Scan { mut cursor, pages } = scan;
        // The reservation fails if the channel is full, and if the caller has disconnected.
        while let Ok(permit) = pages.try_reserve() {
            let piece = self.piece(cursor);
            let next = piece.as_ref().ok().and_then(|(_, next)| next.clone());
            permit.send(Box::new(piece));
            match next {
                Some(next) if !turn.is_over() => cursor = next,
                _ => return,
            }
        }
    }

    fn piece(&mut self, mut cursor: Cursor) -> Result<Piece, StoreError> {
        let mut page = PageBuilder { page: Packed::with_room_for(cursor.len), rows: 0 };
        let is_over = self.add_imported(&mut cursor, &mut page)?
            && self.add_issued(&mut cursor, &mut page)?;
        let users = page.page.len();
        let next = if is_over { None } else { Some(cursor.lengthened(users)) };
        Ok((page.page.into(), next))
    }

    /// Adds imported users. True if no more of them remain.
    fn add_imported(
        &mut self,
        cursor: &mut Cursor,
        page: &mut PageBuilder,
    ) -> Result<bool, StoreError> {
        if let Imported::AfterUser(id) = cursor.imported {
            let position = self.position_of(id)?;
            // No user has this id, so the scan continues after its place among the issued ids.
            if position.is_none() {
                cursor.after = rows::key(&id).into();
            }
            cursor.imported = Imported::After(position);
        }
        let Imported::After(last) = &mut cursor.imported else { return Ok(true) };
        let first = || Position { seconds: i64::MIN, nanos: i64::MIN, id: Vec::new() };
        let Position { seconds, nanos, id } = last.clone().unwrap_or_else(first);
        let rows = self.imported.query(params![seconds, nanos, id]);
        let mut rows = rows.map_err(|error| error::of_call(&error))?;
        while !page.is_full() {
            let Some(row) = rows.next().map_err(|error| error::of_call(&error))? else {
                cursor.imported = Imported::None;
                return Ok(true);
            };
            page.add(row)?;
            *last = Some(rows::position(row)?);
        }
        Ok(false)
    }

    fn position_of(&mut self, id: UserId) -> Result<Option<Position>, StoreError> {
        let id = rows::key(&id);
        let position = self.position.query_row([id], |row| {
            Ok(Position { seconds: row.get(0)?, nanos: row.get(1)?, id: id.into() })
        });
        position.optional().map_err(|error| error::of_call(&error))
    }

    /// Adds users with issued ids. True if no more of them remain.
    fn add_issued(
        &mut self,
        cursor: &mut Cursor,
        page: &mut PageBuilder,
    ) -> Result<bool, StoreError> {
        let rows = self.issued.query(params![cursor.after, cursor.until]);
        let mut rows = rows.map_err(|error| error::of_call(&error))?;
        while !page.is_full() {
            let Some(row) = rows.next().map_err(|error| error::of_call(&error))? else {
                return Ok(true);
            };
            let key = rows::id_bytes(row)?;
            if is_issued(key) {
                page.add(row)?;
            } else {
                page.rows += 1;
            }
            cursor.after = key.into();
        }
        Ok(cursor.after >= cursor.until)
    }
}

/// A page, and the number of rows that were read for it. Rows of damaged and of imported users are not on the page.
struct PageBuilder {
    page: Packed,
    rows: usize,
}

impl PageBuilder {
    fn is_full(&self) -> bool {
        self.page.is_full() || self.rows >= PAGE_LEN
    }

    fn add(&mut self, row: &Row<'_>) -> Result<(), StoreError> {
        self.rows += 1;
        match rows::read(row) {
            Ok(user) => self.page.push(user),
            Err(error) if error.is_corrupt() => self.page.skip(&error),
            Err(error) => return Err(error),
        }
        Ok(())
    }
}
