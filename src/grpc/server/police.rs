use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::follow::{Follower, Seen};

/// How often clients may ping, and what follows if they do more often (gRFC A8).
#[derive(Debug, Clone, Copy)]
pub(super) struct PingPolicy {
    /// The least time between two pings of a client that has calls open.
    pub(super) min_interval: Duration,
    /// Whether that is so for one without calls as well; else it may ping every two hours.
    pub(super) without_calls: bool,
}

impl Default for PingPolicy {
    /// The defaults of gRFC A8, which all implementations share.
    fn default() -> Self {
        Self { min_interval: Duration::from_secs(5 * 60), without_calls: false }
    }
}

/// What a client without calls may do at the most, unless it is permitted more: two hours, the
/// keepalive time of TCP (gRFC A8).
const IDLE_PING_INTERVAL: Duration = Duration::from_secs(2 * 60 * 60);

/// Pings that come too early are forgiven this often between two frames of ours (gRFC A8).
const MAX_PING_STRIKES: u32 = 2;

/// Frames that move no call forward, such as PRIORITY or SETTINGS, cost h2 more than the client.
/// A client may send this many at once, which is far more than any has reason to ...
const IDLE_FRAMES_BURST: u32 = 10_000;

/// ... then this many a second, and ...
const IDLE_FRAMES_PER_SECOND: u32 = 1_000;

/// ... this many for each frame of a call that goes either way: clients open the windows again, of
/// the stream and of the connection, for what they have read.
const IDLE_FRAMES_PER_CALL_FRAME: u32 = 2;

/// A call that the client resets takes back what its HEADERS and DATA have earned, and one more:
/// h2 minds only resets that come in one burst with their calls (CVE-2023-44487). One that had an
/// answer has earned more than this.
const IDLE_FRAMES_PER_RESET: u32 = 2 * IDLE_FRAMES_PER_CALL_FRAME + 1;

/// Why a client is sent away: the debug data of the GOAWAY, which says ENHANCE_YOUR_CALM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Expulsion(pub(super) &'static str);

/// Reads along what goes over a connection, for what h2 does not tell or does not mind.
pub(super) struct Police {
    client: Follower,
    server: Follower,
    record: Record,
}

/// What is held for and against a client.
struct Record {
    policy: PingPolicy,
    last_ping: Option<Instant>,
    strikes: u32,
    /// Whether the client has calls open, as the connection last said.
    has_calls: bool,
    idle_frames: u32,
    refilled: Instant,
    /// The last stream that the client has opened.
    last_stream: u32,
    /// When the client last sent anything, by which keepalive sees that it lives.
    heard: Instant,
    header_limit: Arc<AtomicU32>,
    expulsion: Option<Expulsion>,
}

impl Police {
    /// `header_limit` is set to what the client accepts as a header list.
    pub(super) fn new(policy: PingPolicy, header_limit: Arc<AtomicU32>) -> Self {
        let record = Record {
            policy,
            last_ping: None,
            strikes: 0,
            has_calls: false,
            idle_frames: IDLE_FRAMES_BURST,
            refilled: Instant::now(),
            last_stream: 0,
            heard: Instant::now(),
            header_limit,
            expulsion: None,
        };
        Self { client: Follower::of_client(), server: Follower::of_server(), record }
    }

    /// Looks at what the client has sent.
    pub(super) fn received(&mut self, bytes: &[u8]) {
        let record = &mut self.record;
        record.heard = Instant::now();
        self.client.read(bytes, |seen| match seen {
            Seen::Call { stream } => {
                record.last_stream = record.last_stream.max(stream);
                record.earn();
            }
            Seen::MaxHeaderListSize(bytes) => record.header_limit.store(bytes, Ordering::Relaxed),
            Seen::Ping => {
                record.spend(1);
                record.ping();
            }
            Seen::Reset => record.spend(IDLE_FRAMES_PER_RESET),
            Seen::Other => record.spend(1),
        });
    }

    /// Looks at what the server sends.
    pub(super) fn sent(&mut self, bytes: &[u8]) {
        let record = &mut self.record;
        self.server.read(bytes, |seen| {
            if let Seen::Call { .. } = seen {
                record.strikes = 0;
                record.last_ping = None;
                record.earn();
            }
        });
    }

    /// Whether the client has calls open, for as long as nothing else is said.
    pub(super) fn set_has_calls(&mut self, has_calls: bool) {
        self.record.has_calls = has_calls;
    }

    pub(super) fn expulsion(&self) -> Option<Expulsion> {
        self.record.expulsion
    }

    pub(super) fn heard(&self) -> Instant {
        self.record.heard
    }

    pub(super) fn last_stream(&self) -> u32 {
        self.record.last_stream
    }
}

impl Record {
    fn ping(&mut self) {
        let interval = match self.has_calls || self.policy.without_calls {
            true => self.policy.min_interval,
            false => IDLE_PING_INTERVAL.max(self.policy.min_interval),
        };
        let now = Instant::now();
        let last = self.last_ping.replace(now);
        if last.is_some_and(|last| now.duration_since(last) < interval) {
            self.strikes += 1;
            if self.strikes > MAX_PING_STRIKES {
                // The text by which clients know to ping less often.
                self.expulsion.get_or_insert(Expulsion("too_many_pings"));
            }
        }
    }

    fn earn(&mut self) {
        self.idle_frames = (self.idle_frames + IDLE_FRAMES_PER_CALL_FRAME).min(IDLE_FRAMES_BURST);
    }

    fn spend(&mut self, count: u32) {
        if self.idle_frames < count {
            let now = Instant::now();
            let seconds = now.duration_since(self.refilled).as_secs_f64();
            let refill = seconds * f64::from(IDLE_FRAMES_PER_SECOND);
            self.idle_frames =
                self.idle_frames.saturating_add(refill as u32).min(IDLE_FRAMES_BURST);
            self.refilled = now;
        }
        match self.idle_frames.checked_sub(count) {
            Some(left) => self.idle_frames = left,
            None => {
                self.expulsion.get_or_insert(Expulsion("too_many_idle_frames"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PING: [u8; 17] = [0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
    const PRIORITY: [u8; 14] = [0, 0, 5, 2, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0];
    const RST_STREAM: [u8; 13] = [0, 0, 4, 3, 0, 0, 0, 0, 1, 0, 0, 0, 8];
    const DATA: [u8; 9] = [0, 0, 0, 0, 0, 0, 0, 0, 1];

    fn police(policy: PingPolicy) -> Police {
        let mut police = Police::new(policy, Arc::default());
        police.received(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        police
    }

    async fn pings(police: &mut Police, count: u32, interval: Duration) -> bool {
        for _ in 0..count {
            police.received(&PING);
            tokio::time::advance(interval).await;
        }
        police.expulsion() == Some(Expulsion("too_many_pings"))
    }

    #[tokio::test(start_paused = true)]
    async fn the_third_ping_too_early_expels() {
        let mut police = police(PingPolicy::default());
        police.set_has_calls(true);
        assert!(!pings(&mut police, 3, Duration::from_secs(1)).await);
        assert!(pings(&mut police, 1, Duration::from_secs(1)).await);
    }

    #[tokio::test(start_paused = true)]
    async fn pings_at_the_allowed_pace_are_welcome() {
        let mut patient = police(PingPolicy::default());
        patient.set_has_calls(true);
        assert!(!pings(&mut patient, 100, Duration::from_secs(300)).await);
        let mut without_calls = police(PingPolicy::default());
        assert!(!pings(&mut without_calls, 100, Duration::from_secs(7200)).await);
    }

    #[tokio::test(start_paused = true)]
    async fn without_calls_a_client_may_ping_every_two_hours_unless_permitted_more() {
        let pace = Duration::from_secs(300);
        assert!(pings(&mut police(PingPolicy::default()), 4, pace).await);
        let permitted = PingPolicy { without_calls: true, ..PingPolicy::default() };
        assert!(!pings(&mut police(permitted), 100, pace).await);
    }

    #[tokio::test(start_paused = true)]
    async fn strikes_are_forgotten_when_we_send_data_or_headers() {
        let mut police = police(PingPolicy::default());
        for _ in 0..100 {
            police.received(&PING);
            police.received(&PING);
            police.sent(&DATA);
        }
        assert_eq!(police.expulsion(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_frames_that_move_nothing_expels() {
        let mut flooded = police(PingPolicy::default());
        flooded.received(&PRIORITY.repeat(20_000));
        assert_eq!(flooded.expulsion(), Some(Expulsion("too_many_idle_frames")));

        let mut slow = police(PingPolicy::default());
        for _ in 0..100 {
            slow.received(&PRIORITY.repeat(900));
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(slow.expulsion(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn calls_that_are_reset_at_once_expel_and_answered_ones_do_not() {
        let mut rapid = police(PingPolicy::default());
        rapid.received(&[&DATA[..], &DATA, &RST_STREAM].concat().repeat(20_000));
        assert_eq!(rapid.expulsion(), Some(Expulsion("too_many_idle_frames")));

        let mut answered = police(PingPolicy::default());
        for _ in 0..20_000 {
            answered.received(&DATA);
            answered.sent(&DATA);
            answered.sent(&DATA);
            answered.received(&RST_STREAM);
        }
        assert_eq!(answered.expulsion(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn window_updates_for_what_was_read_are_no_flood() {
        let mut police = police(PingPolicy::default());
        for _ in 0..100_000 {
            police.sent(&DATA);
            police.received(&PRIORITY.repeat(2));
        }
        assert_eq!(police.expulsion(), None);
    }
}
