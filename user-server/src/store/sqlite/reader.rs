//! The threads that read.

use std::sync::Arc;
use std::thread::JoinHandle;

use rusqlite::{Connection, OptionalExtension, Row, Statement, params};
use tokio::sync::oneshot;

use super::order::{BroughtIn, ISSUED, Place, Rest, is_issued};
use super::queue::{Piece, Point, Queue, Read, Scan, Turn};
use super::rows::{self, COLUMNS};
use super::threads::{join, start};
use super::turns::stopped;
use super::{PAGE_LEN, Packed, StoreError, error};
use crate::domain::{User, UserId};

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
    issued: Statement<'c>,
    brought_in: Statement<'c>,
    place: Statement<'c>,
}

impl<'c> Statements<'c> {
    fn new(connection: &'c Connection) -> rusqlite::Result<Self> {
        let get = format!("SELECT {COLUMNS} FROM users WHERE id = ?1");
        let issued = format!("SELECT {COLUMNS} FROM users WHERE id > ?1 AND id <= ?2 ORDER BY id");
        let brought_in = format!(
            "SELECT {COLUMNS} FROM users INDEXED BY users_brought_in
             WHERE NOT {ISSUED} AND (created_seconds, created_nanos, id) > (?1, ?2, ?3)
             ORDER BY created_seconds, created_nanos, id"
        );
        let place = "SELECT created_seconds, created_nanos FROM users WHERE id = ?1";
        Ok(Self {
            get: connection.prepare(&get)?,
            issued: connection.prepare(&issued)?,
            brought_in: connection.prepare(&brought_in)?,
            place: connection.prepare(place)?,
        })
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
            let piece = self.piece(rest);
            let behind = piece.as_ref().ok().and_then(|(_, behind)| behind.clone());
            room.send(piece);
            match behind {
                Some(behind) if !turn.is_over() => rest = behind,
                _ => return,
            }
        }
    }

    fn piece(&mut self, mut rest: Rest) -> Result<Piece, StoreError> {
        let mut page = Filled { page: Packed::with_room_for(rest.len), rows: 0 };
        let is_over =
            self.add_brought_in(&mut rest, &mut page)? && self.add_issued(&mut rest, &mut page)?;
        let users = page.page.len();
        let behind = (!is_over).then(|| rest.lengthened(users));
        Ok((page.page.into(), behind))
    }

    /// Adds users that were brought in. True if there are no more of them.
    fn add_brought_in(&mut self, rest: &mut Rest, page: &mut Filled) -> Result<bool, StoreError> {
        if let BroughtIn::BehindUser(id) = rest.brought_in {
            let place = self.place_of(id)?;
            // No user has that id: what has issued it is not known, but where it stands among those issued.
            if place.is_none() {
                rest.after = rows::key(&id).into();
            }
            rest.brought_in = BroughtIn::Behind(place);
        }
        let BroughtIn::Behind(behind) = &mut rest.brought_in else { return Ok(true) };
        let first = || Place { seconds: i64::MIN, nanos: i64::MIN, id: Vec::new() };
        let Place { seconds, nanos, id } = behind.clone().unwrap_or_else(first);
        let rows = self.brought_in.query(params![seconds, nanos, id]);
        let mut rows = rows.map_err(|error| error::of_call(&error))?;
        while !page.is_full() {
            let Some(row) = rows.next().map_err(|error| error::of_call(&error))? else {
                rest.brought_in = BroughtIn::Over;
                return Ok(true);
            };
            page.add(row)?;
            *behind = Some(rows::place(row)?);
        }
        Ok(false)
    }

    fn place_of(&mut self, id: UserId) -> Result<Option<Place>, StoreError> {
        let id = rows::key(&id);
        let place = self.place.query_row([id], |row| {
            Ok(Place { seconds: row.get(0)?, nanos: row.get(1)?, id: id.into() })
        });
        place.optional().map_err(|error| error::of_call(&error))
    }

    /// Adds users with ids that were issued. True if there are no more of them.
    fn add_issued(&mut self, rest: &mut Rest, page: &mut Filled) -> Result<bool, StoreError> {
        let rows = self.issued.query(params![rest.after, rest.until]);
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
            rest.after = key.into();
        }
        Ok(rest.after >= rest.until)
    }
}

/// A page, and how many rows were read for it: those of damaged users and of other places are not in it.
struct Filled {
    page: Packed,
    rows: usize,
}

impl Filled {
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
