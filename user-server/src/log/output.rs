//! The thread that writes the log, and the buffer before it.

use std::io::{self, ErrorKind, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{mem, thread};

use prometheus::IntCounter;
use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

/// How long a line waits for others, to be written in the same batch.
const LINGER: Duration = Duration::from_millis(10);

/// The maximum size of the buffer, in bytes. The batch in the writer can be as large. It fits 12,000 lines of the
/// access log, about a second of the calls that one core serves.
const CAPACITY: usize = 4 << 20;

/// The maximum capacity of a buffer that is reused, in bytes: three times the log of 100,000 calls per
/// second within [`LINGER`].
const KEPT: usize = 1 << 20;

/// The time limit for the last lines when the process ends.
pub(crate) const AT_EXIT: Duration = Duration::from_secs(1);

/// Writes lines in batches of hundreds. A system call for each line would cost more than the rest of an access
/// log line.
///
/// ```text
/// callers -- append --> buffer (4 MiB) -- swapped --> batch -- the thread "log" --> writer
///               `-- full: dropped, counted
/// ```
///
/// A caller never waits for the writer. If the writer stalls, lines wait in a bounded buffer. If the buffer is
/// full, lines are dropped and counted, and a line reports their number once the writer continues. A warning
/// or an error is written immediately, with all lines before it. Other lines are written within ten
/// milliseconds. Only a killed process loses them.
#[derive(Clone)]
pub struct Output {
    shared: Arc<Shared>,
}

struct Shared {
    buffer: Mutex<Buffer>,
    /// Notified of the first line in the buffer, and of an urgent one.
    filled: Condvar,
    /// Notified when a batch is written.
    written: Condvar,
    dropped: IntCounter,
}

#[derive(Default)]
struct Buffer {
    lines: Vec<u8>,
    /// Whether the lines are written without buffer for others.
    urgent: bool,
    /// The number of lines that did not fit. While it is not zero, all lines are dropped, so that the gap stays
    /// in one place.
    dropped: u64,
    /// The total bytes that were accepted, and that were written or lost.
    accepted: u64,
    done: u64,
}

impl Output {
    /// Starts the thread that writes. It ends with the process.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn new(writer: impl Write + Send + 'static) -> io::Result<Self> {
        Self::reporting(writer, |dropped| {
            tracing::error!(
                target: REPORT,
                dropped,
                "log lines were dropped, because the log was not read or could not be written"
            );
        })
    }

    fn reporting(
        writer: impl Write + Send + 'static,
        report: impl Fn(u64) + Send + 'static,
    ) -> io::Result<Self> {
        let dropped = IntCounter::new(
            "log_lines_dropped_total",
            "Total number of log lines dropped, because the log was not read or could not be written.",
        );
        let shared = Arc::new(Shared {
            buffer: Mutex::default(),
            filled: Condvar::new(),
            written: Condvar::new(),
            dropped: dropped.map_err(io::Error::other)?,
        });
        let writing = shared.clone();
        let run = move || writing.run(writer, report);
        thread::Builder::new().name("log".to_owned()).spawn(run)?;
        Ok(Self { shared })
    }

    /// The number of dropped lines, for Prometheus.
    pub fn dropped(&self) -> &IntCounter {
        &self.shared.dropped
    }

    /// Waits until all lines are written, but at most for this time. Returns whether they are.
    pub fn flush(&self, at_most: Duration) -> bool {
        let mut buffer = self.shared.lock();
        buffer.urgent = true;
        self.shared.filled.notify_one();
        // The report of dropped lines is accepted before the lines before it count as done.
        let undone = |buffer: &mut Buffer| buffer.done < buffer.accepted || buffer.dropped > 0;
        let waited = self.shared.written.wait_timeout_while(buffer, at_most, undone);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Buffer> {
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs the thread that writes. Only this thread waits for the writer.
    fn run(&self, mut writer: impl Write, report: impl Fn(u64)) {
        let mut batch = Vec::new();
        let mut unreported = 0;
        let mut failing = false;
        loop {
            unreported += self.take(&mut batch);
            if unreported > 0 && !failing {
                // The report follows the batch directly, at the position of the gap.
                report(mem::take(&mut unreported));
            }
            match write_out(&mut writer, &batch) {
                Ok(()) => {
                    failing = false;
                    if unreported > 0 {
                        report(mem::take(&mut unreported));
                    }
                }
                // A log that cannot be written must not stop the service.
                Err(lost) => {
                    failing = true;
                    self.dropped.inc_by(lost);
                    unreported += lost;
                }
            }
            self.lock().done += batch.len() as u64;
            self.written.notify_all();
        }
    }

    /// Waits for lines and takes all of them. Returns the number of lines that were dropped after them.
    fn take(&self, batch: &mut Vec<u8>) -> u64 {
        batch.clear();
        if batch.capacity() > KEPT {
            *batch = Vec::new();
        }
        let empty = |buffer: &mut Buffer| buffer.lines.is_empty();
        let may_linger = |buffer: &mut Buffer| !buffer.urgent;
        let buffer = self.filled.wait_while(self.lock(), empty);
        let buffer = buffer.unwrap_or_else(PoisonError::into_inner);
        let buffer = self.filled.wait_timeout_while(buffer, LINGER, may_linger);
        let (mut buffer, _) = buffer.unwrap_or_else(PoisonError::into_inner);
        mem::swap(batch, &mut buffer.lines);
        buffer.urgent = false;
        mem::take(&mut buffer.dropped)
    }
}

/// Writes a batch.
///
/// # Errors
/// The number of lost lines.
fn write_out(writer: &mut impl Write, mut batch: &[u8]) -> Result<(), u64> {
    while !batch.is_empty() {
        match writer.write(batch) {
            Ok(count @ 1..) => batch = &batch[count..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // Another process with the same pipe has made it non-blocking.
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(LINGER),
            Ok(0) | Err(_) => {
                return Err(batch.iter().filter(|byte| **byte == b'\n').count() as u64);
            }
        }
    }
    // The number of lines that a failed flush loses is not known.
    let _ = writer.flush();
    Ok(())
}

/// The target of the report of dropped lines, which always fits into the buffer.
const REPORT: &str = "balafon::log";

impl<'a> MakeWriter<'a> for Output {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { shared: &self.shared, is_urgent: true, is_report: false }
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Line<'a> {
        let is_urgent = *metadata.level() <= Level::WARN;
        let is_report = is_urgent && metadata.target() == REPORT;
        Line { shared: &self.shared, is_urgent, is_report }
    }
}

/// Appends one line to the buffer, as a whole.
pub struct Line<'a> {
    shared: &'a Shared,
    is_urgent: bool,
    is_report: bool,
}

impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut buffer = self.shared.lock();
        let full = buffer.dropped > 0 || buffer.lines.len() + line.len() > CAPACITY;
        if full && !self.is_report {
            buffer.dropped += 1;
            drop(buffer);
            self.shared.dropped.inc();
            return Ok(line.len());
        }
        let first = buffer.lines.is_empty();
        buffer.lines.extend_from_slice(line);
        buffer.accepted += line.len() as u64;
        let newly_urgent = self.is_urgent && !mem::replace(&mut buffer.urgent, true);
        drop(buffer);
        if first || newly_urgent {
            self.shared.filled.notify_one();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
