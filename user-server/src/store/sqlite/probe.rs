//! Whether the file can be read and written.
//!
//! ```text
//!  writer ── begins, ends, fails ──> Progress ──> probe, each second and when that changes ──> health
//!     ^                                             |    is it the same file, can it be read?
//!     `── while it fails: a change of nothing ──────'
//! ```
//!
//! As long as the writer commits, nothing is written to find that out.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::watch;

use super::file::{self, Files};
use super::turns::Queue;
use super::writer::Write;
use super::{Availability, StoreError};

/// How long what was found is taken for the truth.
const INTERVAL: Duration = Duration::from_secs(1);

/// How long a transaction may be under way: twice what it may wait for another program.
const PATIENCE: Duration = file::BUSY_TIMEOUT.saturating_mul(2);

/// What the writer is about.
#[derive(Default)]
pub(super) struct Progress {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// When the transaction that is under way has begun.
    begun: Option<Instant>,
    /// Why nothing can be written.
    fault: Option<String>,
    /// Whether there is a fault, or none any more, since the probe has looked.
    is_news: bool,
    stopped: bool,
}

impl Progress {
    pub(super) fn begin(&self) {
        self.state().begun = Some(Instant::now());
    }

    /// With a fault, if it shows that nothing can be written.
    pub(super) fn end(&self, fault: Option<String>) {
        let mut state = self.state();
        state.is_news |= state.fault.is_some() != fault.is_some();
        (state.begun, state.fault) = (None, fault);
        if state.is_news {
            self.changed.notify_one();
        }
    }

    /// Waits for news, but not for long. False if it is over.
    fn wait(&self) -> bool {
        let none_yet = |state: &mut State| !state.is_news && !state.stopped;
        let waited = self.changed.wait_timeout_while(self.state(), INTERVAL, none_yet);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.is_news = false;
        !state.stopped
    }

    fn stop(&self) {
        self.state().stopped = true;
        self.changed.notify_one();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A thread that looks. Dropping it waits for its end.
pub(super) struct Probe {
    progress: Arc<Progress>,
    availability: Arc<Availability>,
    thread: Option<JoinHandle<()>>,
}

impl Probe {
    /// Looks at a file that was just opened, and at its writer.
    pub(super) fn start(
        connection: Connection,
        files: Arc<Files>,
        writer: Queue<Write>,
        progress: Arc<Progress>,
    ) -> Result<Self, StoreError> {
        let look = Look { files, connection, writer, progress: progress.clone() };
        let availability = Arc::new(Availability::new());
        let told = availability.clone();
        let thread = thread::Builder::new().name("users-probe".into()).spawn(move || {
            while look.progress.wait() {
                told.set(look.look());
            }
        });
        let thread = Some(thread.map_err(StoreError::unavailable)?);
        Ok(Self { progress, availability, thread })
    }

    pub(super) fn availability(&self) -> watch::Receiver<bool> {
        self.availability.watch()
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.progress.stop();
        // If it has panicked, it has said so.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// What the thread has.
struct Look {
    files: Arc<Files>,
    connection: Connection,
    writer: Queue<Write>,
    progress: Arc<Progress>,
}

impl Look {
    fn look(&self) -> Result<(), String> {
        self.files.are_in_place()?;
        self.files.may_be_written()?;
        self.read().map_err(|error| error.to_string())?;
        self.written()
    }

    /// What the next user is to be written beside, from the file rather than from memory.
    fn read(&self) -> rusqlite::Result<()> {
        self.connection.execute_batch("PRAGMA shrink_memory")?;
        self.connection.query_row("SELECT max(id) FROM users", [], |_| Ok(()))
    }

    /// What the last transaction says, or the one that does not end.
    fn written(&self) -> Result<(), String> {
        let state = self.progress.state();
        if let Some(fault) = &state.fault {
            // Or else nobody would write any more. If there is no room in the queue, others do.
            self.writer.try_put(Write::Nothing);
            return Err(fault.clone());
        }
        // Costs next to nothing, unless another program has written.
        self.writer.try_put(Write::Look);
        match state.begun {
            Some(begun) if begun.elapsed() > PATIENCE => Err("a commit does not end".to_owned()),
            _ => Ok(()),
        }
    }
}
