//! A sliding-window counter.

use std::time::Duration;

/// The number of calls in each period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rate {
    pub(crate) calls: u32,
    pub(crate) period: Duration,
}

impl Rate {
    /// In microseconds, as Redis counts; at least one.
    #[cfg(feature = "redis")]
    pub(crate) fn micros(self) -> u64 {
        self.nanos().div_ceil(1000)
    }

    /// In nanoseconds, at least one. The upper bound keeps sums of times from overflowing.
    fn nanos(self) -> u64 {
        u64::try_from(self.period.as_nanos()).unwrap_or(u64::MAX).clamp(1, u64::MAX / 8)
    }
}

/// The call was counted, or the next one will be after this time.
pub(crate) type Taken = Result<(), Duration>;

/// A sliding window: the current period, which begins with the first call, and the previous one. Calls
/// of the previous period count by the share of it that the window still covers:
///
/// ```text
///      previous: 80       current: 30
/// |--------------------|-----:··············|
///          '- a period ago   '- now: a quarter is over, so that 80 · ¾ + 30 = 90 calls count
/// ```
///
/// So a client never gets more than its calls in a period. A token bucket would allow twice as many in
/// the first period.
///
/// Times are in nanoseconds since any moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Window {
    /// The time when no call of this counts any more: the end of the period after the current one.
    pub(crate) over: u64,
    pub(crate) previous: u32,
    pub(crate) current: u32,
}

impl Window {
    /// Counts a call, or returns the time until the next one fits. `window.lua` does the same.
    pub(crate) fn take(&mut self, rate: Rate, now: u64) -> Taken {
        let period = rate.nanos();
        let Self { over, previous, current } = self.at(now, period);
        let rest = over.saturating_sub(period).saturating_sub(now);
        if fits(previous, rest, rate.calls.saturating_sub(current), period) {
            *self = Self { over, previous, current: current + 1 };
            return Ok(());
        }
        Err(Duration::from_nanos(wait([previous, current], rate.calls, period, rest)))
    }

    /// The window whose current period contains this time. A refused call does not store it.
    fn at(self, now: u64, period: u64) -> Self {
        let newest = now.saturating_add(2 * period);
        // After the clock was set back, no client waits longer than a window lasts.
        if now >= self.over || self.over > newest {
            Self { over: newest, previous: 0, current: 0 }
        } else if now >= self.over.saturating_sub(period) {
            let over = self.over.saturating_add(period);
            Self { over, previous: self.current, current: 0 }
        } else {
            self
        }
    }
}

/// The time until a call fits.
fn wait([previous, current]: [u32; 2], calls: u32, period: u64, rest: u64) -> u64 {
    match calls.saturating_sub(current) {
        _ if calls == 0 => period,
        // In the next period, whose previous calls are those of this one.
        0 => rest + period - latest_rest(current, calls, period),
        free => rest - latest_rest(previous, free, period).min(rest),
    }
}

/// Whether a call fits, if the current period lasts `rest` more and its calls leave `free`:
/// ⌊previous · rest / period⌋ < free.
fn fits(previous: u32, rest: u64, free: u32, period: u64) -> bool {
    u128::from(previous) * u128::from(rest) < u128::from(free) * u128::from(period)
}

/// The longest rest of the period with which a call [`fits`].
fn latest_rest(previous: u32, free: u32, period: u64) -> u64 {
    let exact = u128::from(free) * u128::from(period);
    let rest = exact.div_ceil(u128::from(previous.max(1))).saturating_sub(1);
    u64::try_from(rest).unwrap_or(u64::MAX).min(period)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const RATE: Rate = Rate { calls: 100, period: Duration::from_secs(60) };

    /// How many calls at these times pass.
    fn passed(rate: Rate, times: impl Iterator<Item = u64>) -> usize {
        let mut window = Window::default();
        times.filter(|now| window.take(rate, *now).is_ok()).count()
    }

    #[test]
    fn window_allows_the_rate_in_each_period() {
        for calls in [1, 2, 3, 7, 100] {
            let rate = Rate { calls, ..RATE };
            for periods in 1..5 {
                let tries = (0..periods * 6000).map(|n| 17 + n * SECOND / 100);
                assert_eq!(passed(rate, tries), (u64::from(calls) * periods) as usize);
            }
        }
    }

    #[test]
    fn window_is_empty_after_two_silent_periods() {
        let mut window = Window::default();
        for round in 0..3 {
            let now = 17 + round * 120 * SECOND;
            assert_eq!((0..200).filter(|_| window.take(RATE, now).is_ok()).count(), 100);
        }
    }

    #[test]
    fn window_wait_is_exact() {
        for calls in [1, 2, 3, 7, 100] {
            let rate = Rate { calls, ..RATE };
            let (mut window, mut now) = (Window::default(), 17);
            for _ in 0..1000 {
                if let Err(wait) = window.take(rate, now) {
                    let wait = wait.as_nanos() as u64;
                    assert!(wait > 0);
                    assert!(window.take(rate, now + wait - 1).is_err());
                    assert_eq!(window.take(rate, now + wait), Ok(()));
                    now += wait;
                }
                now += SECOND / 10;
            }
        }
    }

    #[test]
    fn window_counts_a_share_of_the_previous_period() {
        let mut window = Window { over: 120 * SECOND, previous: 80, current: 30 };
        let free = (0..100).filter(|_| window.take(RATE, 15 * SECOND).is_ok()).count();
        assert_eq!(free, 10);
    }

    #[test]
    fn window_accepts_extreme_rates() {
        let none = Rate { calls: 0, ..RATE };
        assert_eq!(Window::default().take(none, 0), Err(RATE.period));
        let at_once = Rate { calls: 1, period: Duration::ZERO };
        assert_eq!(passed(at_once, (0..10).map(|n| n * SECOND)), 10);
        let forever = Rate { calls: u32::MAX, period: Duration::MAX };
        assert_eq!(passed(forever, 0..10), 10);
    }

    #[test]
    #[cfg(feature = "redis")]
    fn rate_period_is_rounded_up_to_microseconds() {
        for (period, micros) in [(0, 1), (1_000, 1), (1_001, 2), (60 * SECOND, 60_000_000)] {
            let rate = Rate { calls: 1, period: Duration::from_nanos(period) };
            assert_eq!(rate.micros(), micros, "{period} ns");
        }
    }

    #[test]
    fn window_wait_is_exact_after_the_rate_was_lowered() {
        let mut window = Window { over: 120 * SECOND, previous: 0, current: 200 };
        // Half of the 200 calls count at the middle of the next period.
        let wait = 75 * SECOND + 1;
        assert_eq!(window.take(RATE, 15 * SECOND), Err(Duration::from_nanos(wait)));
        assert!(window.take(RATE, 15 * SECOND + wait - 1).is_err());
        assert_eq!(window.take(RATE, 15 * SECOND + wait), Ok(()));
    }
}
