use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::grpc::server::policy::shared_state::SharedState;

/// A DATA frame of this many bytes is free. A DATA frame of one byte takes h2 and a call about a
/// microsecond, and costs the client almost nothing.
const FAIR_BYTES: usize = 64;

/// Missing bytes that a connection may accumulate at once: 64,000 empty frames, about 50 ms of one
/// core.
const BURST: usize = 64_000 * FAIR_BYTES;

/// Missing bytes that are forgiven per second: half the burst, 2 % of a core.
const PER_SECOND: usize = BURST / 2;

/// The length of a pause. It is long enough for the next read to be worth its system call.
const PAUSE: Duration = Duration::from_millis(10);

/// Consecutive pauses without a message that count as an attack: two seconds.
const MAX_PAUSES: u32 = 200;

/// Throttles clients that send many small DATA frames, by pausing reads. Honest clients send them
/// too, when they stream short messages or have not yet seen the end of a call. A client that
/// continues through all pauses is disconnected.
pub(crate) struct DataThrottle {
    left: usize,
    refilled: Instant,
    /// Counts the messages of streams that handlers have taken. Each of them pays for one frame.
    shared_state: Arc<SharedState>,
    /// Consecutive pauses, without a taken message or a break in between.
    pauses: u32,
}

impl DataThrottle {
    pub(crate) fn new(shared_state: Arc<SharedState>, now: Instant) -> Self {
        Self { left: BURST, refilled: now, shared_state, pauses: 0 }
    }

    /// Counts a DATA frame.
    pub(crate) fn data(&mut self, length: usize) {
        self.left = self.left.saturating_sub(FAIR_BYTES.saturating_sub(length));
    }

    /// Pays for the frame of a call's only message, because the call has been answered.
    pub(crate) fn responded(&mut self) {
        self.left = self.left.saturating_add(FAIR_BYTES).min(BURST);
    }

    /// Whether the client has continued through all pauses.
    pub(crate) fn is_over_limit(&self) -> bool {
        self.pauses > MAX_PAUSES
    }

    /// The end of the current pause. `None` if reading is not paused.
    pub(crate) fn paused_until(&mut self) -> Option<Instant> {
        if self.left > 0 {
            return None;
        }
        let now = Instant::now();
        let time = now.duration_since(self.refilled);
        let earned = self.shared_state.messages.take() as usize * FAIR_BYTES;
        if time < PAUSE && earned == 0 {
            return Some(self.refilled + PAUSE);
        }
        let rested = earned > 0 || time > 2 * PAUSE;
        self.pauses = if rested { 0 } else { self.pauses + 1 };
        let refill = (time.as_secs_f64() * PER_SECOND as f64) as usize;
        self.left = refill.saturating_add(earned).min(BURST);
        self.refilled = now;
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts the frames of `length` bytes that a client can send in `time`, including the initial
    /// burst.
    async fn frames(data_throttle: &mut DataThrottle, length: usize, time: Duration) -> u32 {
        let end = Instant::now() + time;
        let mut count = 0;
        while Instant::now() < end {
            match data_throttle.paused_until() {
                Some(until) => tokio::time::sleep_until(until).await,
                None => {
                    data_throttle.data(length);
                    count += 1;
                }
            }
        }
        count
    }

    fn data_throttle() -> (DataThrottle, Arc<SharedState>) {
        let shared_state = Arc::new(SharedState::default());
        (DataThrottle::new(shared_state.clone(), Instant::now()), shared_state)
    }

    #[tokio::test(start_paused = true)]
    async fn data_throttle_slows_small_frames_only() {
        let seconds = Duration::from_secs(10);
        let tiny = frames(&mut data_throttle().0, 0, seconds).await;
        assert!((300_000..400_000).contains(&tiny), "{tiny}");
        let half = frames(&mut data_throttle().0, FAIR_BYTES / 2, seconds).await;
        assert!((600_000..800_000).contains(&half), "{half}");

        let mut large = data_throttle().0;
        (0..1_000_000).for_each(|_| large.data(FAIR_BYTES));
        assert_eq!(large.paused_until(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn data_throttle_ignores_one_frame_for_each_answered_call() {
        let (mut data_throttle, _) = data_throttle();
        for _ in 0..1_000_000 {
            assert_eq!(data_throttle.paused_until(), None);
            data_throttle.data(0);
            data_throttle.responded();
        }
        // Answers in advance do not pay for a larger burst.
        let tiny = frames(&mut data_throttle, 0, Duration::from_secs(1)).await;
        assert!((90_000..100_000).contains(&tiny), "{tiny}");
    }

    #[tokio::test(start_paused = true)]
    async fn data_throttle_ignores_frames_that_became_messages() {
        let (mut data_throttle, shared_state) = data_throttle();
        for _ in 0..1_000_000 {
            assert_eq!(data_throttle.paused_until(), None);
            data_throttle.data(1);
            shared_state.messages.add(1);
        }
    }
}
