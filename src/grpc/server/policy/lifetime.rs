use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;

use crate::grpc::server::scheduling::timer::{Timer, timer_after};
use crate::grpc::server::transport::Pings;

/// Time limits of a connection (gRFC A9). `None` is no limit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LifetimePolicy {
    /// Time without calls.
    pub(crate) idle: Option<Duration>,
    /// Age, give or take 10 %.
    pub(crate) age: Option<Duration>,
    /// Time for open calls to end after the age is reached.
    pub(crate) grace: Option<Duration>,
    /// Time without input after which the server sends a PING.
    pub(crate) keepalive_time: Option<Duration>,
    /// Time without input after that PING until the connection counts as dead.
    pub(crate) keepalive_timeout: Duration,
}

impl Default for LifetimePolicy {
    /// The defaults of gRFC A9.
    fn default() -> Self {
        Self {
            idle: None,
            age: None,
            grace: None,
            keepalive_time: Some(Duration::from_secs(2 * 60 * 60)),
            keepalive_timeout: Duration::from_secs(20),
        }
    }
}

/// The timer that has expired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expired {
    /// The connection is too old or idle. Its client should open another one.
    Retire,
    /// The client does not respond.
    Dead,
}

/// The timers of one connection.
pub(crate) struct Lifetime {
    policy: LifetimePolicy,
    age: Option<Timer>,
    idle: Option<Timer>,
    keepalive: Option<Keepalive>,
}

struct Keepalive {
    timer: Timer,
    /// Whether a PING is in flight.
    pinged: bool,
}

impl Lifetime {
    /// `jitter` in 0..1 spreads the ages of connections that were opened at the same time, as after
    /// a restart. Their clients then do not reconnect at the same time either.
    pub(crate) fn new(policy: LifetimePolicy, jitter: f64) -> Self {
        let age = policy.age.map(|age| {
            let spread = (age / 5).mul_f64(jitter);
            timer_after((age - age / 10).saturating_add(spread))
        });
        let keepalive =
            policy.keepalive_time.map(|time| Keepalive { timer: timer_after(time), pinged: false });
        Self { policy, age, idle: None, keepalive }
    }

    pub(crate) fn grace(&self) -> Option<Duration> {
        self.policy.grace
    }

    /// Restarts the idle time, because a call was opened.
    pub(crate) fn call_opened(&mut self) {
        self.idle = None;
    }

    /// Ready when a limit is reached. `Retire` is returned once. `last_received` is when the client
    /// last sent anything.
    pub(crate) fn poll(
        &mut self,
        busy: bool,
        last_received: Instant,
        pings: &mut impl Pings,
        cx: &mut Context<'_>,
    ) -> Poll<Expired> {
        if self.poll_keepalive(last_received, pings, cx).is_ready() {
            return Poll::Ready(Expired::Dead);
        }
        match (busy, self.policy.idle) {
            (true, _) => self.idle = None,
            (false, Some(idle)) => {
                self.idle.get_or_insert_with(|| timer_after(idle));
            }
            (false, None) => {}
        }
        let clocks = [&mut self.age, &mut self.idle].into_iter().flatten();
        let expired = clocks.map(|timer| timer.as_mut().poll(cx)).any(|polled| polled.is_ready());
        if expired {
            self.policy.idle = None;
            (self.age, self.idle) = (None, None);
            return Poll::Ready(Expired::Retire);
        }
        Poll::Pending
    }

    /// Ready when the client does not respond.
    fn poll_keepalive(
        &mut self,
        last_received: Instant,
        pings: &mut impl Pings,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        let (Some(keepalive), Some(time)) = (&mut self.keepalive, self.policy.keepalive_time)
        else {
            return Poll::Pending;
        };
        let Keepalive { timer, pinged } = keepalive;
        if *pinged && pings.poll_pong(cx).is_ready() {
            *pinged = false;
            *timer = timer_after(time);
        }
        while timer.as_mut().poll(cx).is_ready() {
            // Any input shows that the client is alive.
            let left = time.saturating_sub(last_received.elapsed());
            let wait = match (left.is_zero(), *pinged) {
                (false, _) => left,
                (true, true) => return Poll::Ready(()),
                (true, false) => {
                    *pinged = pings.ping();
                    self.policy.keepalive_timeout
                }
            };
            *timer = timer_after(wait);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use tokio::time::advance;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    const NONE: LifetimePolicy = LifetimePolicy {
        idle: None,
        age: None,
        grace: None,
        keepalive_time: None,
        keepalive_timeout: Duration::ZERO,
    };

    fn poll(lifetime: &mut Lifetime, last_received: Instant) -> Poll<Expired> {
        let cx = &mut Context::from_waker(Waker::noop());
        lifetime.poll(false, last_received, &mut Unanswered, cx)
    }

    /// A client that answers no PING.
    struct Unanswered;

    impl Pings for Unanswered {
        fn ping(&mut self) -> bool {
            true
        }

        fn poll_pong(&mut self, _: &mut Context<'_>) -> Poll<()> {
            Poll::Pending
        }
    }

    #[tokio::test(start_paused = true)]
    async fn lifetime_retires_once_after_the_idle_time() {
        let policy = LifetimePolicy { idle: Some(10 * SECOND), grace: Some(SECOND), ..NONE };
        let mut lifetime = Lifetime::new(policy, 0.0);
        assert_eq!(lifetime.grace(), Some(SECOND));
        assert_eq!(poll(&mut lifetime, Instant::now()), Poll::Pending);
        advance(9 * SECOND).await;
        lifetime.call_opened();
        // The call ended between two polls.
        for _ in 0..2 {
            assert_eq!(poll(&mut lifetime, Instant::now()), Poll::Pending);
            advance(9 * SECOND).await;
        }
        assert_eq!(poll(&mut lifetime, Instant::now()), Poll::Ready(Expired::Retire));
        advance(20 * SECOND).await;
        assert_eq!(poll(&mut lifetime, Instant::now()), Poll::Pending);
    }

    #[tokio::test(start_paused = true)]
    async fn lifetime_age_is_spread_by_the_jitter() {
        for (jitter, age) in [(0.0, 90), (0.5, 100), (1.0, 110)] {
            let policy = LifetimePolicy { age: Some(100 * SECOND), ..NONE };
            let mut lifetime = Lifetime::new(policy, jitter);
            advance(age * SECOND - SECOND).await;
            assert_eq!(poll(&mut lifetime, Instant::now()), Poll::Pending);
            advance(SECOND).await;
            assert_eq!(poll(&mut lifetime, Instant::now()), Poll::Ready(Expired::Retire));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn keepalive_counts_from_the_last_input_until_the_timeout() {
        let policy = LifetimePolicy {
            keepalive_time: Some(10 * SECOND),
            keepalive_timeout: 2 * SECOND,
            ..NONE
        };
        let mut lifetime = Lifetime::new(policy, 0.0);
        let mut last_received = Instant::now();
        assert_eq!(poll(&mut lifetime, last_received), Poll::Pending);
        advance(3 * SECOND).await;
        last_received = Instant::now();
        // After 10 s the timer restarts, after 13 s the server sends a PING.
        for wait in [7, 3, 1] {
            advance(wait * SECOND).await;
            assert_eq!(poll(&mut lifetime, last_received), Poll::Pending);
        }
        advance(SECOND).await;
        assert_eq!(poll(&mut lifetime, last_received), Poll::Ready(Expired::Dead));
    }
}
