use std::time::Duration;

use tokio::time::Instant;

/// The time in which so many lines of the log about the same trouble are enough: clients that are
/// turned away come back at once, and the log should not be what the server is busy with.
const INTERVAL: Duration = Duration::from_secs(5);

/// Trouble that may come a thousand times a second.
#[derive(Debug)]
pub struct LogThrottle {
    /// Lines in an [`INTERVAL`].
    enough: u32,
    begun: Option<Instant>,
    logged: u32,
    /// How often it came since the last line.
    unlogged: u64,
}

impl LogThrottle {
    /// Lets `enough` lines pass in each interval of five seconds.
    pub const fn new(enough: u32) -> Self {
        Self { enough, begun: None, logged: 0, unlogged: 0 }
    }

    /// Gives `line` how often it has happened since the last line, unless there were enough just now.
    pub fn log(&mut self, line: impl FnOnce(u64)) {
        self.unlogged += 1;
        if self.begun.is_none_or(|begun| begun.elapsed() >= INTERVAL) {
            self.begun = Some(Instant::now());
            self.logged = 0;
        }
        if self.logged < self.enough {
            self.logged += 1;
            line(std::mem::take(&mut self.unlogged));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn there_are_enough_lines_in_an_interval_and_the_next_one_tells_of_the_rest() {
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
