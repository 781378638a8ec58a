use std::time::Duration;

use tokio::time::Instant;

/// The interval of the limit. Refused clients return at once, and logging must not keep the server busy.
const INTERVAL: Duration = Duration::from_secs(5);

/// Limits the log lines about an event that may happen a thousand times a second.
#[derive(Debug)]
pub struct LogThrottle {
    /// Lines in an [`INTERVAL`].
    limit: u32,
    begun: Option<Instant>,
    logged: u32,
    /// The events since the last line.
    unlogged: u64,
}

impl LogThrottle {
    /// Allows so many lines in each interval of five seconds.
    pub const fn new(limit: u32) -> Self {
        Self { limit, begun: None, logged: 0, unlogged: 0 }
    }

    /// Counts an event, and calls `line` with the events since the last line, unless the limit is
    /// reached.
    pub fn log(&mut self, line: impl FnOnce(u64)) {
        self.unlogged += 1;
        if self.begun.is_none_or(|begun| begun.elapsed() >= INTERVAL) {
            self.begun = Some(Instant::now());
            self.logged = 0;
        }
        if self.logged < self.limit {
            self.logged += 1;
            line(std::mem::take(&mut self.unlogged));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn log_throttle_counts_suppressed_lines() {
        let mut trouble = LogThrottle::new(2);
        let mut lines = Vec::new();
        for _ in 0..5 {
            trouble.log(|times| lines.push(times));
        }
        assert_eq!(lines, [1, 1]);
        tokio::time::advance(INTERVAL).await;
        for _ in 0..3 {
            trouble.log(|times| lines.push(times));
        }
        assert_eq!(lines, [1, 1, 4, 1]);
    }
}
