use std::io::{self, ErrorKind, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{mem, thread};

use prometheus::IntCounter;
use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

/// How long a line may wait for others to be written along with.
const LINGER: Duration = Duration::from_millis(10);

/// Bytes of lines that may wait, beside as many in the hands of the writer: 12,000 lines of the access
/// log, about a second of the calls that one core serves.
const CAPACITY: usize = 4 << 20;

/// A buffer that grew beyond this is not kept for the next lines: three times what 100,000 calls a
/// second log while they linger.
const KEPT: usize = 1 << 20;

/// How long the last lines may take when the process ends.
pub(crate) const AT_EXIT: Duration = Duration::from_secs(1);

/// Writes lines by the hundred: a system call for each would take more than all else that a line of
/// the access log costs.
///
/// ```text
/// callers -- append --> waiting (4 MiB) -- swapped --> batch -- the thread "log" --> writer
///               `-- no room: dropped, counted
/// ```
///
/// Whoever logs never waits for the writer. If it stalls, lines wait in a bounded buffer. When that
/// is full, lines are dropped and counted, and a line says how many once the writer goes on. Warnings
/// and errors are written at once, and all before them; other lines within ten milliseconds. Only a
/// process that is killed loses those.
#[derive(Clone)]
pub struct Output {
    shared: Arc<Shared>,
}

struct Shared {
    waiting: Mutex<Waiting>,
    /// Told when a line has come that is the first, or urgent.
    filled: Condvar,
    /// Told when a batch is written.
    written: Condvar,
    dropped: IntCounter,
}

#[derive(Default)]
struct Waiting {
    lines: Vec<u8>,
    /// These do not linger for others.
    urgent: bool,
    /// Lines that had no room. While there are some, no other gets in: the gap stays in one place.
    dropped: u64,
    /// Bytes that ever got in, and those of them that the writer is done with.
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
                "log lines were dropped, since the log was not read or could not be written"
            );
        })
    }

    fn reporting(
        writer: impl Write + Send + 'static,
        report: impl Fn(u64) + Send + 'static,
    ) -> io::Result<Self> {
        let dropped = IntCounter::new(
            "log_lines_dropped_total",
            "Total number of log lines dropped, since the log was not read or could not be written.",
        );
        let shared = Arc::new(Shared {
            waiting: Mutex::default(),
            filled: Condvar::new(),
            written: Condvar::new(),
            dropped: dropped.map_err(io::Error::other)?,
        });
        let writing = shared.clone();
        let run = move || writing.run(writer, report);
        thread::Builder::new().name("log".to_owned()).spawn(run)?;
        Ok(Self { shared })
    }

    /// Lines dropped so far, for Prometheus.
    pub fn dropped(&self) -> &IntCounter {
        &self.shared.dropped
    }

    /// Waits until no line waits any more, for `at_most` this long. Says whether that is so.
    pub fn flush(&self, at_most: Duration) -> bool {
        let mut waiting = self.shared.lock();
        waiting.urgent = true;
        self.shared.filled.notify_one();
        // A line about dropped ones is accepted before those in front of it count as done.
        let undone = |waiting: &mut Waiting| waiting.done < waiting.accepted || waiting.dropped > 0;
        let waited = self.shared.written.wait_timeout_while(waiting, at_most, undone);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The thread that writes. It alone ever waits for the writer.
    fn run(&self, mut writer: impl Write, report: impl Fn(u64)) {
        let (mut batch, mut unreported, mut failing) = (Vec::new(), 0, false);
        loop {
            unreported += self.take(&mut batch);
            if unreported > 0 && !failing {
                // This line comes right behind the batch, where the gap is.
                report(mem::take(&mut unreported));
            }
            match write_out(&mut writer, &batch) {
                Ok(()) => {
                    failing = false;
                    if unreported > 0 {
                        report(mem::take(&mut unreported));
                    }
                }
                // A log that cannot be written must not take the service with it.
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

    /// Waits for lines and takes them all. Gives the number of lines that were dropped behind them.
    fn take(&self, batch: &mut Vec<u8>) -> u64 {
        batch.clear();
        if batch.capacity() > KEPT {
            *batch = Vec::new();
        }
        let empty = |waiting: &mut Waiting| waiting.lines.is_empty();
        let calm = |waiting: &mut Waiting| !waiting.urgent;
        let waiting = self.filled.wait_while(self.lock(), empty);
        let waiting = waiting.unwrap_or_else(PoisonError::into_inner);
        let waiting = self.filled.wait_timeout_while(waiting, LINGER, calm);
        let (mut waiting, _) = waiting.unwrap_or_else(PoisonError::into_inner);
        mem::swap(batch, &mut waiting.lines);
        waiting.urgent = false;
        mem::take(&mut waiting.dropped)
    }
}

/// # Errors
/// The number of lines that are lost.
fn write_out(writer: &mut impl Write, mut batch: &[u8]) -> Result<(), u64> {
    while !batch.is_empty() {
        match writer.write(batch) {
            Ok(count @ 1..) => batch = &batch[count..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // Another process that has the same pipe has made it non-blocking.
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(LINGER),
            Ok(0) | Err(_) => {
                return Err(batch.iter().filter(|byte| **byte == b'\n').count() as u64);
            }
        }
    }
    // Whatever fails here has no number.
    let _ = writer.flush();
    Ok(())
}

/// The target of the line about dropped lines, for which there is always room.
const REPORT: &str = "balafon::log";

impl<'a> MakeWriter<'a> for Output {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { shared: &self.shared, at_once: true, reports: false }
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Line<'a> {
        let at_once = *metadata.level() <= Level::WARN;
        let reports = at_once && metadata.target() == REPORT;
        Line { shared: &self.shared, at_once, reports }
    }
}

/// One line on its way, in one piece.
pub struct Line<'a> {
    shared: &'a Shared,
    at_once: bool,
    reports: bool,
}

impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut waiting = self.shared.lock();
        let full = waiting.dropped > 0 || waiting.lines.len() + line.len() > CAPACITY;
        if full && !self.reports {
            waiting.dropped += 1;
            drop(waiting);
            self.shared.dropped.inc();
            return Ok(line.len());
        }
        let first = waiting.lines.is_empty();
        waiting.lines.extend_from_slice(line);
        waiting.accepted += line.len() as u64;
        let hurry = self.at_once && !mem::replace(&mut waiting.urgent, true);
        drop(waiting);
        if first || hurry {
            self.shared.filled.notify_one();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use tracing::Dispatch;
    use tracing::dispatcher::with_default;

    use super::*;
    use crate::log::Lines;

    const PATIENCE: Duration = Duration::from_secs(30);

    /// Sends on what each system call would write.
    struct Writes(Sender<String>);

    impl Write for Writes {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let text = String::from_utf8(bytes.to_vec()).unwrap();
            self.0.send(text).map_err(|_| ErrorKind::BrokenPipe)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Does what it is told to, in turn, and writes at most so many bytes at a time. Nothing is
    /// written while it is told nothing.
    struct Steered {
        orders: Receiver<io::Result<()>>,
        writes: Writes,
        most: usize,
    }

    impl Write for Steered {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // Nobody steers any more: all is well.
            self.orders.recv().unwrap_or(Ok(()))?;
            self.writes.write(&bytes[..bytes.len().min(self.most)])
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Log {
        output: Output,
        dispatch: Dispatch,
        written: Receiver<String>,
        reported: Receiver<u64>,
    }

    impl Log {
        fn to<W: Write + Send + 'static>(writer: impl FnOnce(Writes) -> W) -> Self {
            let (sender, written) = channel();
            let (report, reported) = channel();
            let reported_to = move |dropped| report.send(dropped).unwrap();
            let output = Output::reporting(writer(Writes(sender)), reported_to).unwrap();
            let log = tracing_subscriber::fmt().with_writer(output.clone());
            let dispatch = Dispatch::new(log.event_format(Lines::Text).finish());
            Self { output, dispatch, written, reported }
        }

        fn steered(most: usize) -> (Self, Sender<io::Result<()>>) {
            let (steer, orders) = channel();
            (Self::to(|writes| Steered { orders, writes, most }), steer)
        }

        fn log(&self, log: impl FnOnce()) {
            with_default(&self.dispatch, log);
        }

        /// What is written, up to a line that ends with `last`.
        fn until(&self, last: &str) -> Vec<String> {
            let mut writes = Vec::new();
            let last = format!("{last}\n");
            while !writes.last().is_some_and(|text: &String| text.ends_with(&last)) {
                writes.push(self.written.recv_timeout(PATIENCE).unwrap());
            }
            writes
        }
    }

    fn messages(text: &str) -> Vec<&str> {
        text.lines().map(|line| line.rsplit_once(": ").unwrap().1).collect()
    }

    #[test]
    fn a_line_goes_out_by_itself() {
        let log = Log::to(|writes| writes);
        log.log(|| tracing::info!("alone"));
        log.until("alone");
    }

    #[test]
    fn a_warning_goes_out_with_all_before_it() {
        let log = Log::to(|writes| writes);
        log.log(|| {
            (0..100).for_each(|n| tracing::info!("line {n}"));
            tracing::warn!("look");
        });
        let text = log.until("look").concat();
        let expected = (0..100).map(|n| format!("line {n}")).chain(["look".to_owned()]);
        assert_eq!(messages(&text), expected.collect::<Vec<_>>());
    }

    #[test]
    fn many_lines_are_few_writes_of_whole_lines() {
        const LINES: usize = 10_000;
        let log = Log::to(|writes| writes);
        log.log(|| {
            (0..LINES).for_each(|_| tracing::info!("line"));
            tracing::warn!("end");
        });
        let writes = log.until("end");
        assert!(writes.iter().all(|text| text.ends_with('\n')));
        assert_eq!(writes.concat().lines().count(), LINES + 1);
        assert!(writes.len() < LINES / 20, "{}", writes.len());
    }

    #[test]
    fn flush_returns_when_the_last_line_is_written() {
        let log = Log::to(|writes| writes);
        log.log(|| tracing::info!("last"));
        assert!(log.output.flush(PATIENCE));
        assert!(log.written.try_recv().unwrap().ends_with("last\n"));
        assert!(log.output.flush(Duration::ZERO), "there is nothing to wait for");
    }

    #[test]
    fn a_stalled_writer_bounds_what_waits_and_counts_the_rest() {
        let (log, steer) = Log::steered(usize::MAX);
        log.log(|| tracing::info!("line 0"));
        // The writer has it in hand, or will take it along with others.
        let text = "x".repeat(1000);
        let mut logged = 1;
        while log.output.dropped().get() < 100 {
            log.log(|| tracing::info!("{text}line {logged}"));
            logged += 1;
        }
        let waiting = log.output.shared.lock().lines.len();
        assert!((CAPACITY - 1100..=CAPACITY).contains(&waiting), "{waiting} bytes wait");
        // A short line would have room, but it comes behind the gap.
        log.log(|| tracing::error!("short"));
        assert_eq!(log.output.dropped().get(), 101);
        assert!(!log.output.flush(Duration::from_millis(20)));

        drop(steer);
        assert_eq!(log.reported.recv_timeout(PATIENCE), Ok(101));
        log.log(|| tracing::warn!("back"));
        let text = log.until("back").concat().replace(&text, "");
        let expected = (0..logged - 100).map(|n| format!("line {n}")).chain(["back".to_owned()]);
        assert_eq!(messages(&text), expected.collect::<Vec<_>>());
        assert!(log.reported.try_recv().is_err());
    }

    #[test]
    fn a_report_has_room_when_nothing_else_has() {
        let (log, steer) = Log::steered(usize::MAX);
        log.log(|| {
            let text = "x".repeat(1000);
            while log.output.dropped().get() == 0 {
                tracing::info!("{text}");
            }
            tracing::error!(target: REPORT, "report");
        });
        drop(steer);
        log.until("report");
        assert_eq!(log.output.dropped().get(), 1);
    }

    #[test]
    fn lines_that_cannot_be_written_are_counted_and_reported_once_they_can() {
        let (log, steer) = Log::steered(usize::MAX);
        for failures in 1..=3 {
            log.log(|| tracing::warn!("lost"));
            steer.send(Err(ErrorKind::StorageFull.into())).unwrap();
            assert!(log.output.flush(PATIENCE));
            assert_eq!(log.output.dropped().get(), failures);
            assert!(log.reported.try_recv().is_err(), "nobody could read it");
        }
        steer.send(Ok(())).unwrap();
        log.log(|| tracing::warn!("kept"));
        assert_eq!(messages(&log.until("kept").concat()), ["kept"]);
        assert_eq!(log.reported.recv_timeout(PATIENCE), Ok(3));
    }

    #[test]
    fn a_writer_that_takes_little_or_nothing_now_gets_all() {
        let (log, steer) = Log::steered(7);
        steer.send(Err(ErrorKind::Interrupted.into())).unwrap();
        steer.send(Err(ErrorKind::WouldBlock.into())).unwrap();
        drop(steer);
        log.log(|| tracing::info!("a line of more than seven bytes"));
        assert!(log.output.flush(PATIENCE));
        let text: String = log.written.try_iter().collect();
        assert_eq!(messages(&text), ["a line of more than seven bytes"]);
        assert_eq!(log.output.dropped().get(), 0);
    }
}
