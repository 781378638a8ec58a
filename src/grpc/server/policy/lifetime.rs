use std::task::{Context, Poll};
use std::time::Duration;

use h2::{Ping, PingPong};
use tokio::time::Instant;

use crate::grpc::server::scheduling::timer::{Timer, timer_after};

/// How long connections may live (gRFC A9). `None` is for ever.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LifetimePolicy {
    /// Without calls.
    pub(crate) idle: Option<Duration>,
    /// At all, give or take a tenth.
    pub(crate) age: Option<Duration>,
    /// For the calls that are open then.
    pub(crate) grace: Option<Duration>,
    /// Silence after which the client is pinged.
    pub(crate) keepalive_time: Option<Duration>,
    /// Silence after that ping which means that the client is gone.
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

/// What ends a connection by the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expired {
    /// It is old or idle: its client should open another one.
    Retire,
    /// Its client does not answer.
    Dead,
}

/// The clocks of one connection.
pub(crate) struct Lifetime {
    policy: LifetimePolicy,
    age: Option<Timer>,
    idle: Option<Timer>,
    keepalive: Option<Keepalive>,
}

struct Keepalive {
    ping_pong: PingPong,
    timer: Timer,
    /// A ping is on its way.
    pinged: bool,
}

impl Lifetime {
    /// `jitter` in 0..1 spreads the ages of connections that were opened together, after a restart
    /// of the server say, so that they do not all come back together.
    pub(crate) fn new(policy: LifetimePolicy, ping_pong: Option<PingPong>, jitter: f64) -> Self {
        let age = policy.age.map(|age| {
            let spread = (age / 5).mul_f64(jitter);
            timer_after((age - age / 10).saturating_add(spread))
        });
        let keepalive = policy.keepalive_time.zip(ping_pong).map(|(time, ping_pong)| Keepalive {
            ping_pong,
            timer: timer_after(time),
            pinged: false,
        });
        Self { policy, age, idle: None, keepalive }
    }

    pub(crate) fn grace(&self) -> Option<Duration> {
        self.policy.grace
    }

    /// A call was opened: however soon it ends, the idle time starts again.
    pub(crate) fn call_opened(&mut self) {
        self.idle = None;
    }

    /// Ready when the connection has lived long enough; `Retire` comes once. The client was last
    /// `last_received`.
    pub(crate) fn poll(
        &mut self,
        busy: bool,
        last_received: Instant,
        cx: &mut Context<'_>,
    ) -> Poll<Expired> {
        if self.poll_keepalive(last_received, cx).is_ready() {
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

    /// Ready when the client is gone.
    fn poll_keepalive(&mut self, last_received: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let (Some(keepalive), Some(time)) = (&mut self.keepalive, self.policy.keepalive_time)
        else {
            return Poll::Pending;
        };
        let Keepalive { ping_pong, timer, pinged } = keepalive;
        if *pinged && ping_pong.poll_pong(cx).is_ready() {
            *pinged = false;
            *timer = timer_after(time);
        }
        while timer.as_mut().poll(cx).is_ready() {
            // Whatever was received shows that the client lives.
            let left = time.saturating_sub(last_received.elapsed());
            let wait = match (left.is_zero(), *pinged) {
                (false, _) => left,
                (true, true) => return Poll::Ready(()),
                (true, false) => {
                    // It fails only if one is on its way already, or the connection is closing.
                    *pinged = ping_pong.send_ping(Ping::opaque()).is_ok();
                    self.policy.keepalive_timeout
                }
            };
            *timer = timer_after(wait);
        }
        Poll::Pending
    }
}
