use std::time::Duration;

use tokio::time::Instant;

/// The ping limits of clients (gRFC A8).
#[derive(Debug, Clone, Copy)]
pub(crate) struct PingPolicy {
    /// The minimum interval between pings of a client with open calls.
    pub(crate) min_interval: Duration,
    /// Whether `min_interval` also applies without open calls. Otherwise the interval is two hours.
    pub(crate) without_calls: bool,
}

impl Default for PingPolicy {
    /// The defaults of gRFC A8, as in all implementations.
    fn default() -> Self {
        Self { min_interval: Duration::from_secs(5 * 60), without_calls: false }
    }
}

/// The minimum interval between pings of a client without calls: two hours, the keepalive time of
/// TCP (gRFC A8).
const IDLE_PING_INTERVAL: Duration = Duration::from_secs(2 * 60 * 60);

/// Ping strikes that are tolerated between two HEADERS or DATA frames of the server (gRFC A8).
const MAX_PING_STRIKES: u32 = 2;

/// Counts the ping strikes of a client: pings that come too early.
pub(super) struct PingStrikes {
    policy: PingPolicy,
    last: Option<Instant>,
    strikes: u32,
}

impl PingStrikes {
    pub(super) fn new(policy: PingPolicy) -> Self {
        Self { policy, last: None, strikes: 0 }
    }

    /// Counts a ping. Returns true if the client has too many strikes.
    pub(super) fn ping(&mut self, has_calls: bool) -> bool {
        let interval = match has_calls || self.policy.without_calls {
            true => self.policy.min_interval,
            false => IDLE_PING_INTERVAL.max(self.policy.min_interval),
        };
        let now = Instant::now();
        let last = self.last.replace(now);
        if last.is_some_and(|last| now.duration_since(last) < interval) {
            self.strikes += 1;
        }
        self.strikes > MAX_PING_STRIKES
    }

    /// Resets the strikes, because the server has sent DATA or HEADERS.
    pub(super) fn reset(&mut self) {
        self.strikes = 0;
        self.last = None;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::grpc::server::policy::enforcement::{EnforcementPolicy, GoAway};
    use crate::http2::policy::ObservedFrame;

    fn policy(pings: PingPolicy) -> EnforcementPolicy {
        EnforcementPolicy::new(pings, Arc::default(), false)
    }

    async fn pings(policy: &mut EnforcementPolicy, count: u32, interval: Duration) -> bool {
        for _ in 0..count {
            policy.received(ObservedFrame::Ping);
            tokio::time::advance(interval).await;
        }
        policy.go_away() == Some(GoAway("too_many_pings"))
    }

    #[tokio::test(start_paused = true)]
    async fn ping_strikes_close_the_connection() {
        let mut policy = policy(PingPolicy::default());
        policy.set_calls(1, 0);
        assert!(!pings(&mut policy, 3, Duration::from_secs(1)).await);
        assert!(pings(&mut policy, 1, Duration::from_secs(1)).await);
    }

    #[tokio::test(start_paused = true)]
    async fn ping_strikes_ignore_pings_at_the_allowed_interval() {
        let mut patient = policy(PingPolicy::default());
        patient.set_calls(1, 0);
        assert!(!pings(&mut patient, 100, Duration::from_secs(300)).await);
        let mut without_calls = policy(PingPolicy::default());
        assert!(!pings(&mut without_calls, 100, Duration::from_secs(7200)).await);
    }

    #[tokio::test(start_paused = true)]
    async fn ping_interval_without_calls_is_two_hours_by_default() {
        let pace = Duration::from_secs(300);
        assert!(pings(&mut policy(PingPolicy::default()), 4, pace).await);
        let permitted = PingPolicy { without_calls: true, ..PingPolicy::default() };
        assert!(!pings(&mut policy(permitted), 100, pace).await);
    }

    #[tokio::test(start_paused = true)]
    async fn ping_strikes_reset_when_the_server_sends_data() {
        let mut policy = policy(PingPolicy::default());
        for _ in 0..100 {
            policy.received(ObservedFrame::Ping);
            policy.received(ObservedFrame::Ping);
            policy.sent(ObservedFrame::Data(0));
        }
        assert_eq!(policy.go_away(), None);
    }
}
