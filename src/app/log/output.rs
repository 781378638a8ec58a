use std::io::{self, BufWriter, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

/// How long a line may wait for others to be written along with.
const LINGER: Duration = Duration::from_millis(10);

/// When so many bytes wait they are written, by whoever brings the next line: a log that is read too
/// slowly slows the calls down, and loses nothing.
const CAPACITY: usize = 64 << 10;

/// Writes lines by the hundred: a system call for each would take more than all else that a line of
/// the access log costs. Warnings and errors go out at once, and all before them; other lines within
/// ten milliseconds, or when this is dropped. Only a process that is killed loses those.
pub struct Output<W: Write> {
    shared: Arc<Shared<W>>,
}

struct Shared<W: Write> {
    buffer: Mutex<BufWriter<W>>,
    /// Told when the buffer is empty no more.
    waiting: Condvar,
}

impl<W: Write + Send + 'static> Output<W> {
    /// # Errors
    /// If the thread that writes cannot be started. It ends with the process.
    pub fn new(writer: W) -> io::Result<Self> {
        let buffer = Mutex::new(BufWriter::with_capacity(CAPACITY, writer));
        let shared = Arc::new(Shared { buffer, waiting: Condvar::new() });
        let writing = shared.clone();
        thread::Builder::new().name("log".to_owned()).spawn(move || writing.run())?;
        Ok(Self { shared })
    }
}

/// Another way to the same output.
impl<W: Write> Clone for Output<W> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<W: Write> Drop for Output<W> {
    fn drop(&mut self) {
        self.shared.write_out();
    }
}

impl<W: Write> Shared<W> {
    fn lock(&self) -> MutexGuard<'_, BufWriter<W>> {
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A log that cannot be written must not take the service with it.
    fn write_out(&self) {
        let _ = self.lock().flush();
    }

    fn run(&self) {
        loop {
            let empty = |buffer: &mut BufWriter<W>| buffer.buffer().is_empty();
            drop(self.waiting.wait_while(self.lock(), empty));
            thread::sleep(LINGER);
            self.write_out();
        }
    }
}

impl<'a, W: Write + 'static> MakeWriter<'a> for Output<W> {
    type Writer = Line<'a, W>;

    fn make_writer(&'a self) -> Line<'a, W> {
        Line { shared: &self.shared, at_once: true }
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Line<'a, W> {
        Line { shared: &self.shared, at_once: *metadata.level() <= Level::WARN }
    }
}

/// One line on its way, in one piece.
pub struct Line<'a, W: Write> {
    shared: &'a Shared<W>,
    at_once: bool,
}

impl<W: Write> Write for Line<'_, W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut buffer = self.shared.lock();
        let first = buffer.buffer().is_empty();
        buffer.write_all(line)?;
        if self.at_once {
            buffer.flush()?;
        } else if first {
            self.shared.waiting.notify_one();
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

    use tracing::subscriber::with_default;

    use super::*;
    use crate::app::log::Lines;

    const PATIENCE: Duration = Duration::from_secs(30);

    /// Sends on what each system call would write.
    struct Writes(Sender<String>);

    impl Write for Writes {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let text = String::from_utf8(bytes.to_vec()).unwrap();
            self.0.send(text).map_err(|_| io::ErrorKind::BrokenPipe)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is written of that which is logged.
    fn written(log: impl FnOnce()) -> Receiver<String> {
        let (sender, receiver) = channel();
        let output = Output::new(Writes(sender)).unwrap();
        let log_to = tracing_subscriber::fmt().with_writer(output).event_format(Lines::Text);
        let log_to = tracing::Dispatch::new(log_to.finish());
        tracing::dispatcher::with_default(&log_to, log);
        // It is not this end that makes lines go out.
        std::mem::forget(log_to);
        receiver
    }

    #[test]
    fn a_line_goes_out_by_itself() {
        let writes = written(|| tracing::info!("alone"));
        assert!(writes.recv_timeout(PATIENCE).unwrap().ends_with("alone\n"));
    }

    #[test]
    fn a_warning_goes_out_at_once_with_all_before_it() {
        let writes = written(|| {
            (0..100).for_each(|n| tracing::info!("line {n}"));
            tracing::warn!("look");
        });
        let text: String = writes.try_iter().collect();
        let lines: Vec<_> = text.lines().map(|line| line.rsplit_once(": ").unwrap().1).collect();
        let expected = (0..100).map(|n| format!("line {n}")).chain(["look".to_owned()]);
        assert_eq!(lines, expected.collect::<Vec<_>>());
    }

    #[test]
    fn many_lines_are_few_writes_of_whole_lines() {
        const LINES: usize = 10_000;
        let writes = written(|| {
            (0..LINES).for_each(|_| tracing::info!("line"));
            tracing::warn!("end");
        });
        let writes: Vec<_> = writes.try_iter().collect();
        assert!(writes.iter().all(|text| text.ends_with('\n')));
        assert_eq!(writes.concat().lines().count(), LINES + 1);
        assert!(writes.len() < LINES / 20, "{}", writes.len());
    }

    #[test]
    fn the_last_lines_go_out_when_it_is_dropped() {
        let (sender, writes) = channel();
        let output = Output::new(Writes(sender)).unwrap();
        let log_to = tracing_subscriber::fmt().with_writer(output.clone()).finish();
        with_default(log_to, || tracing::info!("last"));
        drop(output);
        assert!(writes.try_recv().unwrap().ends_with("last\n"));
    }

    #[test]
    fn a_log_that_cannot_be_written_fails_nobody() {
        let (sender, writes) = channel();
        drop(writes);
        let output = Output::new(Writes(sender)).unwrap();
        let log_to = tracing_subscriber::fmt().with_writer(output).log_internal_errors(false);
        with_default(log_to.finish(), || (0..10_000).for_each(|n| tracing::warn!("line {n}")));
    }
}
