#![allow(clippy::unwrap_used)]

use std::sync::mpsc::{Receiver, Sender, channel};

use tracing::Dispatch;
use tracing::dispatcher::with_default;

use super::*;
use crate::log::Lines;

const PATIENCE: Duration = Duration::from_secs(30);

/// Sends the bytes of each write to a channel.
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

/// Returns the results that a test orders, one for each write, and writes at most `most` bytes at a time. A
/// write waits for its order.
struct Steered {
    orders: Receiver<io::Result<()>>,
    writes: Writes,
    most: usize,
}

impl Write for Steered {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Once the test has dropped the sender, every write succeeds.
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

    /// The writes up to a line that ends with `last`.
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
fn log_line_is_written_alone() {
    let log = Log::to(|writes| writes);
    log.log(|| tracing::info!("alone"));
    log.until("alone");
}

#[test]
fn log_warning_flushes_earlier_lines() {
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
fn log_lines_are_written_in_batches() {
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
fn log_flush_waits_for_the_last_line() {
    let log = Log::to(|writes| writes);
    log.log(|| tracing::info!("last"));
    assert!(log.output.flush(PATIENCE));
    assert!(log.written.try_recv().unwrap().ends_with("last\n"));
    assert!(log.output.flush(Duration::ZERO), "there is nothing to wait for");
}

#[test]
fn log_writer_that_stalls_drops_and_counts_lines() {
    let (log, steer) = Log::steered(usize::MAX);
    log.log(|| tracing::info!("line 0"));
    // The writer has taken the line, or takes it with the next ones.
    let text = "x".repeat(1000);
    let mut logged = 1;
    while log.output.dropped().get() < 100 {
        log.log(|| tracing::info!("{text}line {logged}"));
        logged += 1;
    }
    let waiting = log.output.shared.lock().lines.len();
    assert!((CAPACITY - 1100..=CAPACITY).contains(&waiting), "{waiting} bytes wait");
    // A short line would fit, but it comes after the gap.
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
fn log_drop_report_always_fits() {
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
fn log_lines_lost_by_errors_are_reported_later() {
    let (log, steer) = Log::steered(usize::MAX);
    for failures in 1..=3 {
        log.log(|| tracing::warn!("lost"));
        steer.send(Err(ErrorKind::StorageFull.into())).unwrap();
        assert!(log.output.flush(PATIENCE));
        assert_eq!(log.output.dropped().get(), failures);
        assert!(log.reported.try_recv().is_err(), "it was reported while the writer failed");
    }
    steer.send(Ok(())).unwrap();
    log.log(|| tracing::warn!("kept"));
    assert_eq!(messages(&log.until("kept").concat()), ["kept"]);
    assert_eq!(log.reported.recv_timeout(PATIENCE), Ok(3));
}

#[test]
fn log_short_writes_lose_nothing() {
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
