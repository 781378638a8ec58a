use std::time::{Duration, Instant};

/// The pause after two probes in a row that did not grow the windows. It doubles with each further
/// one, so a connection whose windows suffice is hardly probed.
const FIRST_PAUSE: Duration = Duration::from_millis(10);

/// The longest pause, after which a route that has become longer is noticed.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Measures the bandwidth-delay product of a connection: the bytes that arrive in a round trip. If
/// they nearly fill the window, the window is what limits the client.
///
/// A probe is a PING. It is sent with DATA that follows a WINDOW_UPDATE. So a client that sends
/// nothing, or little, gets no PING.
///
/// ```text
///  Idle --- WINDOW_UPDATE sent ---> Due --- DATA arrives: PING ---> Open --- PING acknowledged ---> Idle
/// ```
#[derive(Debug)]
pub(super) struct Bandwidth {
    state: State,
    /// The bytes that have arrived since the probe began.
    bytes: usize,
    /// The highest bandwidth that was measured, in bytes per second.
    highest: f64,
    /// Probes in a row that did not grow the windows.
    fruitless: u32,
    /// No probe begins before this.
    pause: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Idle,
    Due,
    Open(Instant),
}

impl Bandwidth {
    pub(super) fn new() -> Self {
        Self { state: State::Idle, bytes: 0, highest: 0.0, fruitless: 0, pause: None }
    }

    /// Records that a window that may still grow was returned to the client.
    pub(super) fn window_returned(&mut self) {
        if self.state == State::Idle {
            self.state = State::Due;
        }
    }

    /// Counts received DATA. Returns whether a probe begins.
    pub(super) fn received(&mut self, bytes: usize, now: Instant) -> bool {
        self.bytes = self.bytes.saturating_add(bytes);
        self.state == State::Due && self.begin(bytes, now)
    }

    fn begin(&mut self, bytes: usize, now: Instant) -> bool {
        if self.pause.is_some_and(|end| now < end) {
            self.state = State::Idle;
            return false;
        }
        self.state = State::Open(now);
        self.bytes = bytes;
        true
    }

    /// Ends the probe, because its PING was acknowledged. Returns the bandwidth-delay product, in
    /// bytes, if the `window` limits the client.
    pub(super) fn acknowledged(&mut self, window: u32, now: Instant) -> Option<usize> {
        let State::Open(began) = self.state else { return None };
        self.state = State::Idle;
        // At least a microsecond, so that the quotient is a number.
        let time = now.duration_since(began).max(Duration::from_micros(1));
        let bandwidth = self.bytes as f64 / time.as_secs_f64();
        // The window is returned in thirds, so two thirds are what a limited client can have sent.
        let is_filled = self.bytes as u64 * 3 >= u64::from(window) * 2;
        // More bytes at the same bandwidth only wait in a queue on the way.
        let is_faster = bandwidth > self.highest;
        if is_faster {
            self.highest = bandwidth;
        }
        if is_filled && is_faster {
            (self.fruitless, self.pause) = (0, None);
            return Some(self.bytes);
        }
        if self.fruitless > 0 {
            let pause = FIRST_PAUSE.saturating_mul(1 << (self.fruitless - 1).min(16));
            self.pause = Some(now + pause.min(LONGEST_PAUSE));
        }
        self.fruitless = self.fruitless.saturating_add(1);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: u32 = 90_000;
    const ROUND_TRIP: Duration = Duration::from_millis(100);

    /// Receives `bytes` in the round trip of a probe.
    fn probe(bandwidth: &mut Bandwidth, bytes: usize, began: Instant) -> Option<usize> {
        bandwidth.window_returned();
        assert!(bandwidth.received(bytes / 2, began), "a probe begins");
        assert!(!bandwidth.received(bytes - bytes / 2, began + ROUND_TRIP / 2));
        bandwidth.acknowledged(WINDOW, began + ROUND_TRIP)
    }

    #[test]
    fn bandwidth_is_probed_only_after_the_window_was_returned() {
        let (mut bandwidth, now) = (Bandwidth::new(), Instant::now());
        for _ in 0..100 {
            assert!(!bandwidth.received(16_384, now));
        }
        bandwidth.window_returned();
        assert!(bandwidth.received(1, now));
        assert!(!bandwidth.received(1, now), "one probe at a time");
        bandwidth.window_returned();
        assert!(!bandwidth.received(1, now));
    }

    #[test]
    fn bandwidth_delay_product_is_reported_if_the_window_limits_the_client() {
        let now = Instant::now();
        assert_eq!(probe(&mut Bandwidth::new(), 60_000, now), Some(60_000));
        assert_eq!(probe(&mut Bandwidth::new(), 59_999, now), None);
    }

    #[test]
    fn bandwidth_that_does_not_rise_reports_nothing() {
        let (mut bandwidth, now) = (Bandwidth::new(), Instant::now());
        assert_eq!(probe(&mut bandwidth, 80_000, now), Some(80_000));
        let second = now + ROUND_TRIP;
        bandwidth.window_returned();
        assert!(bandwidth.received(160_000, second));
        assert_eq!(bandwidth.acknowledged(WINDOW, second + 2 * ROUND_TRIP), None);
        assert_eq!(probe(&mut bandwidth, 80_001, second + 2 * ROUND_TRIP), Some(80_001));
    }

    #[test]
    fn fruitless_probes_become_rare() {
        let (mut bandwidth, start) = (Bandwidth::new(), Instant::now());
        let mut probes = 0;
        for millisecond in 0..60_000 {
            let now = start + Duration::from_millis(millisecond);
            bandwidth.window_returned();
            if bandwidth.received(1_000, now) {
                probes += 1;
                let acknowledged = now + Duration::from_micros(500);
                assert_eq!(bandwidth.acknowledged(WINDOW, acknowledged), None);
            }
        }
        assert!((12..=18).contains(&probes), "{probes} probes in a minute");
        // A success ends the pauses.
        let later = start + Duration::from_secs(120);
        assert!(probe(&mut bandwidth, 300_000, later).is_some());
        bandwidth.window_returned();
        assert!(bandwidth.received(1, later + ROUND_TRIP));
    }

    #[test]
    fn acknowledgement_without_a_probe_is_ignored() {
        let (mut bandwidth, now) = (Bandwidth::new(), Instant::now());
        bandwidth.received(1_000_000, now);
        assert_eq!(bandwidth.acknowledged(WINDOW, now), None);
        assert_eq!(probe(&mut bandwidth, 90_000, now), Some(90_000), "it left no trace");
    }
}
