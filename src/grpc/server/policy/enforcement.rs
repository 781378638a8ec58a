use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::grpc::server::policy::frame_observer::{FrameObserver, ObservedFrame};
use crate::grpc::server::policy::pace::Pace;
use crate::grpc::server::policy::tally::Tally;

/// How often clients may ping, and what follows if they do more often (gRFC A8).
#[derive(Debug, Clone, Copy)]
pub(crate) struct PingPolicy {
    /// The least time between two pings of a client that has calls open.
    pub(crate) min_interval: Duration,
    /// Whether that is so for one without calls as well; else it may ping every two hours.
    pub(crate) without_calls: bool,
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

/// The budget for frames that cost more than they bring, in units of a cheap frame such as PRIORITY
/// or a WINDOW_UPDATE, of which h2 works off about a million a second. A connection may spend this
/// much at once, which is far more than any client has reason to ...
const BUDGET: u32 = 10_000;

/// What a new connection has of it, so that one that comes back for more is no way around it.
const BUDGET_AT_FIRST: u32 = 8_000;

/// ... and this much a second. Answers of ours earn more.
const REFILL_PER_SECOND: u32 = 1_000;

/// For a SETTINGS frame: its acknowledgement, and h2's walk over all open streams to change their
/// windows, 20 ns for each ...
const SETTINGS_COST: u32 = 2;

/// ... which makes one unit for this many streams.
const STREAMS_PER_UNIT: u32 = 32;

/// For HEADERS: decoding them, and a stream.
const HEADERS_COST: u32 = 1;

/// For a call that the client resets (CVE-2023-44487): with that of its HEADERS, what its answer
/// earns. So calls that were answered may be reset at any rate, and so may those that have waited
/// for a while, whose clients have deadlines or have given up; others may not.
const RESET_COST: u32 = 5;

/// What it earns a client that its call has waited before it was reset.
const PATIENCE_EARNS: u32 = HEADERS_COST + RESET_COST;

/// For a stream that we refuse because too many are open.
const REFUSED_COST: u32 = 1;

/// For a stream that we reset because the client broke a rule (CVE-2025-8671, "MadeYouReset").
const BROKEN_COST: u32 = 5;

/// For a compressed message that is refused: it is not valid, inflates to more than the limit, or
/// those before it have cost too much. A client with more than some twenty a second is sent away.
const REFUSED_MESSAGE_COST: u32 = 50;

/// What the end of a response earns.
const ANSWER_EARNS: u32 = HEADERS_COST + RESET_COST;

/// What each other frame of a response earns: clients open two windows again for what they read.
const FRAME_EARNS: u32 = 2;

/// Error codes of RST_STREAM frames of ours that are no fault of the client (RFC 9113, 7): NO_ERROR
/// behind an answer that came early, CANCEL for a call that ended within a message.
const BLAMELESS: [u32; 2] = [0x0, 0x8];

const REFUSED_STREAM: u32 = 0x7;

/// Why a client is sent away: the debug data of the GOAWAY, which says ENHANCE_YOUR_CALM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GoAway(pub(crate) &'static str);

/// Reads along what goes over a connection, for what h2 does not tell or does not mind.
pub(crate) struct EnforcementPolicy {
    client: FrameObserver,
    server: FrameObserver,
    record: Record,
}

/// What is held for and against a client.
struct Record {
    pings: PingPolicy,
    last_ping: Option<Instant>,
    strikes: u32,
    /// Calls that the client has open, as the connection last said.
    calls: u32,
    budget: u32,
    refilled: Instant,
    /// Units of work that the current turn has left.
    turn: u32,
    pace: Pace,
    /// The last stream that the client has opened.
    last_stream: u32,
    /// When the client last sent anything, by which keepalive sees that it lives.
    heard: Instant,
    tally: Arc<Tally>,
    go_away: Option<GoAway>,
}

/// What one turn of a connection works off before its neighbours have theirs, in units of a cheap
/// frame: about a millisecond.
const TURN: u32 = 1_000;

/// A turn also ends after so much of header blocks. A byte of one may name a whole header in the
/// table of HPACK, and so become 150 bytes of memory, which count only once a call has begun.
const BLOCK_BYTES_PER_UNIT: u32 = 16;

impl EnforcementPolicy {
    pub(crate) fn new(pings: PingPolicy, tally: Arc<Tally>) -> Self {
        let now = Instant::now();
        let record = Record {
            pings,
            last_ping: None,
            strikes: 0,
            calls: 0,
            budget: BUDGET_AT_FIRST,
            refilled: now,
            turn: TURN,
            pace: Pace::new(tally.clone(), now),
            last_stream: 0,
            heard: now,
            tally,
            go_away: None,
        };
        Self { client: FrameObserver::of_client(), server: FrameObserver::of_server(), record }
    }

    /// Looks at what the client has sent.
    pub(crate) fn received(&mut self, bytes: &[u8]) {
        let record = &mut self.record;
        record.heard = Instant::now();
        self.client.read(bytes, |seen| match seen {
            ObservedFrame::Headers { stream, length, .. } => {
                record.last_stream = record.last_stream.max(stream);
                record.spend(HEADERS_COST);
                record.decode(length);
            }
            ObservedFrame::Continuation(length) => {
                record.spend(1);
                record.decode(length);
            }
            ObservedFrame::Data(length) => {
                record.turn = record.turn.saturating_sub(1);
                record.pace.data(length);
            }
            ObservedFrame::MaxHeaderListSize(bytes) => record.tally.set_header_limit(bytes),
            ObservedFrame::Ping => {
                record.spend(1);
                record.ping();
            }
            ObservedFrame::Settings => {
                record.spend(SETTINGS_COST + record.calls / STREAMS_PER_UNIT)
            }
            ObservedFrame::Reset(_) => record.spend(RESET_COST),
            ObservedFrame::Other => record.spend(1),
        });
    }

    /// Looks at what the server sends.
    pub(crate) fn sent(&mut self, bytes: &[u8]) {
        let record = &mut self.record;
        self.server.read(bytes, |seen| match seen {
            ObservedFrame::Headers { end: true, .. } => record.answered(ANSWER_EARNS),
            ObservedFrame::Headers { .. } | ObservedFrame::Data(_) => record.answered(FRAME_EARNS),
            ObservedFrame::Reset(REFUSED_STREAM) => record.spend(REFUSED_COST),
            ObservedFrame::Reset(code) if !BLAMELESS.contains(&code) => record.spend(BROKEN_COST),
            _ => {}
        });
    }

    /// Calls that the client has open, for as long as nothing else is said, and compressed messages
    /// that were refused since this was last said.
    pub(crate) fn set_calls(&mut self, calls: usize, refused: u32) {
        let record = &mut self.record;
        record.calls = u32::try_from(calls).unwrap_or(u32::MAX);
        record.earn(record.tally.waited.take().saturating_mul(PATIENCE_EARNS));
        if refused > 0 {
            record.spend(refused.saturating_mul(REFUSED_MESSAGE_COST));
        }
    }

    /// A turn of the connection begins.
    pub(crate) fn begin_turn(&mut self) {
        self.record.turn = TURN;
    }

    /// Whether this turn has worked off as much as it may.
    pub(crate) fn turn_is_over(&self) -> bool {
        self.record.turn == 0
    }

    /// Until when nothing should be read from a client that sends too many small DATA frames.
    pub(crate) fn paused(&mut self) -> Option<Instant> {
        let paused = self.record.pace.paused();
        if self.record.pace.is_hopeless() {
            self.record.go_away.get_or_insert(GoAway("too_many_small_frames"));
        }
        paused
    }

    pub(crate) fn go_away(&self) -> Option<GoAway> {
        self.record.go_away
    }

    pub(crate) fn heard(&self) -> Instant {
        self.record.heard
    }

    pub(crate) fn last_stream(&self) -> u32 {
        self.record.last_stream
    }
}

impl Record {
    fn ping(&mut self) {
        let interval = match self.calls > 0 || self.pings.without_calls {
            true => self.pings.min_interval,
            false => IDLE_PING_INTERVAL.max(self.pings.min_interval),
        };
        let now = Instant::now();
        let last = self.last_ping.replace(now);
        if last.is_some_and(|last| now.duration_since(last) < interval) {
            self.strikes += 1;
            if self.strikes > MAX_PING_STRIKES {
                // The text by which clients know to ping less often.
                self.go_away.get_or_insert(GoAway("too_many_pings"));
            }
        }
    }

    /// A frame of a response was sent.
    fn answered(&mut self, earned: u32) {
        self.strikes = 0;
        self.last_ping = None;
        self.earn(earned);
    }

    fn earn(&mut self, units: u32) {
        self.budget = self.budget.saturating_add(units).min(BUDGET);
    }

    /// Bytes of a header block come.
    fn decode(&mut self, length: usize) {
        let units = u32::try_from(length).unwrap_or(u32::MAX) / BLOCK_BYTES_PER_UNIT;
        self.turn = self.turn.saturating_sub(units);
    }

    fn spend(&mut self, cost: u32) {
        self.turn = self.turn.saturating_sub(cost);
        if self.budget < cost {
            let now = Instant::now();
            let refill =
                now.duration_since(self.refilled).as_secs_f64() * f64::from(REFILL_PER_SECOND);
            self.budget = self.budget.saturating_add(refill as u32).min(BUDGET);
            self.refilled = now;
        }
        match self.budget.checked_sub(cost) {
            Some(left) => self.budget = left,
            None => {
                self.go_away.get_or_insert(GoAway("too_many_idle_frames"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PING: [u8; 17] = [0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
    const PRIORITY: [u8; 14] = [0, 0, 5, 2, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0];
    const SETTINGS: [u8; 15] = [0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0, 0, 255, 255];
    const HEADERS: [u8; 9] = [0, 0, 0, 1, 4, 0, 0, 0, 1];
    const TRAILERS: [u8; 9] = [0, 0, 0, 1, 5, 0, 0, 0, 1];
    const DATA: [u8; 9] = [0, 0, 0, 0, 0, 0, 0, 0, 1];
    const FLOOD: Option<GoAway> = Some(GoAway("too_many_idle_frames"));

    fn policy(pings: PingPolicy) -> EnforcementPolicy {
        let mut policy = EnforcementPolicy::new(pings, Arc::default());
        policy.received(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        policy
    }

    fn reset(code: u8) -> [u8; 13] {
        [0, 0, 4, 3, 0, 0, 0, 0, 1, 0, 0, 0, code]
    }

    async fn pings(policy: &mut EnforcementPolicy, count: u32, interval: Duration) -> bool {
        for _ in 0..count {
            policy.received(&PING);
            tokio::time::advance(interval).await;
        }
        policy.go_away() == Some(GoAway("too_many_pings"))
    }

    #[tokio::test(start_paused = true)]
    async fn the_third_ping_too_early_expels() {
        let mut policy = policy(PingPolicy::default());
        policy.set_calls(1, 0);
        assert!(!pings(&mut policy, 3, Duration::from_secs(1)).await);
        assert!(pings(&mut policy, 1, Duration::from_secs(1)).await);
    }

    #[tokio::test(start_paused = true)]
    async fn pings_at_the_allowed_pace_are_welcome() {
        let mut patient = policy(PingPolicy::default());
        patient.set_calls(1, 0);
        assert!(!pings(&mut patient, 100, Duration::from_secs(300)).await);
        let mut without_calls = policy(PingPolicy::default());
        assert!(!pings(&mut without_calls, 100, Duration::from_secs(7200)).await);
    }

    #[tokio::test(start_paused = true)]
    async fn without_calls_a_client_may_ping_every_two_hours_unless_permitted_more() {
        let pace = Duration::from_secs(300);
        assert!(pings(&mut policy(PingPolicy::default()), 4, pace).await);
        let permitted = PingPolicy { without_calls: true, ..PingPolicy::default() };
        assert!(!pings(&mut policy(permitted), 100, pace).await);
    }

    #[tokio::test(start_paused = true)]
    async fn strikes_are_forgotten_when_we_send_data_or_headers() {
        let mut policy = policy(PingPolicy::default());
        for _ in 0..100 {
            policy.received(&PING);
            policy.received(&PING);
            policy.sent(&DATA);
        }
        assert_eq!(policy.go_away(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_frames_that_move_nothing_expels() {
        let mut flooded = policy(PingPolicy::default());
        flooded.received(&PRIORITY.repeat(20_000));
        assert_eq!(flooded.go_away(), FLOOD);

        let mut slow = policy(PingPolicy::default());
        for _ in 0..100 {
            slow.received(&PRIORITY.repeat(900));
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(slow.go_away(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn resets_of_calls_that_have_waited_are_free() {
        let mut policy = policy(PingPolicy::default());
        for _ in 0..20_000 {
            policy.received(&HEADERS);
            policy.received(&reset(8));
            policy.record.tally.waited.add(1);
            policy.set_calls(0, 0);
        }
        assert_eq!(policy.go_away(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn messages_refused_for_their_cost_expel_who_goes_on() {
        for (a_second, expelled) in [(10, false), (100, true)] {
            let mut policy = policy(PingPolicy::default());
            for _ in 0..60 {
                for _ in 0..a_second {
                    policy.received(&HEADERS);
                    policy.sent(&TRAILERS);
                    policy.set_calls(0, 1);
                }
                tokio::time::advance(Duration::from_secs(1)).await;
            }
            assert_eq!(policy.go_away().is_some(), expelled, "{a_second} a second");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn settings_cost_by_open_calls() {
        let mut idle = policy(PingPolicy::default());
        idle.received(&SETTINGS.repeat(1_000));
        assert_eq!(idle.go_away(), None);

        let mut busy = policy(PingPolicy::default());
        busy.set_calls(1_000, 0);
        busy.received(&SETTINGS.repeat(1_000));
        assert_eq!(busy.go_away(), FLOOD);
    }

    #[tokio::test(start_paused = true)]
    async fn resets_of_unanswered_calls_expel_whatever_data_came_with_them() {
        for data in 0..3 {
            let mut rapid = policy(PingPolicy::default());
            let call = [&HEADERS[..], &DATA.repeat(data), &reset(8)].concat();
            rapid.received(&call.repeat(2_000));
            assert_eq!(rapid.go_away(), FLOOD, "{data} DATA frames");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn resets_of_answered_calls_are_free() {
        let mut policy = policy(PingPolicy::default());
        for _ in 0..20_000 {
            policy.received(&HEADERS);
            policy.sent(&TRAILERS);
            policy.received(&reset(0));
        }
        assert_eq!(policy.go_away(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn resets_of_ours_cost_by_their_reason() {
        for (code, expelled) in [(0, false), (8, false), (7, true), (1, true), (3, true), (5, true)]
        {
            let mut policy = policy(PingPolicy::default());
            policy.sent(&reset(code).repeat(9_000));
            assert_eq!(policy.go_away().is_some(), expelled, "code {code}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn refused_streams_count_by_rate_and_not_for_a_lifetime() {
        let mut policy = policy(PingPolicy::default());
        for _ in 0..100 {
            policy.received(&HEADERS.repeat(300));
            policy.sent(&reset(7).repeat(300));
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(policy.go_away(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn data_earns_no_other_frames() {
        let mut policy = policy(PingPolicy::default());
        for _ in 0..20_000 {
            policy.received(&DATA);
            policy.received(&PRIORITY);
        }
        assert_eq!(policy.go_away(), FLOOD);
    }

    #[tokio::test(start_paused = true)]
    async fn window_updates_for_what_was_read_are_no_flood() {
        let mut policy = policy(PingPolicy::default());
        for _ in 0..100_000 {
            policy.sent(&DATA);
            policy.received(&PRIORITY.repeat(2));
        }
        assert_eq!(policy.go_away(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_ends_after_a_thousand_frames() {
        let mut policy = policy(PingPolicy::default());
        policy.received(&DATA.repeat(TURN as usize - 1));
        assert!(!policy.turn_is_over());
        policy.received(&DATA);
        assert!(policy.turn_is_over());
        policy.begin_turn();
        assert!(!policy.turn_is_over());
    }
}
