use std::sync::Arc;

use tokio::time::Instant;

use super::data_throttle::DataThrottle;
use super::frame_budget::{FrameBudget, HEADERS_COST};
use super::pings::{PingPolicy, PingStrikes};
use super::shared_state::SharedState;
use crate::http2::error_code::ErrorCode;
use crate::http2::policy::ObservedFrame;

// Costs and earnings, in units of the frame budget.

/// The cost of a SETTINGS frame without open streams. h2 acknowledges it and updates the windows of
/// all open streams, at 20 ns each.
const SETTINGS_COST: u32 = 2;

/// Open streams that add one unit to the cost of SETTINGS.
const STREAMS_PER_UNIT: u32 = 32;

/// The cost of a call that the client resets (CVE-2023-44487). Together with HEADERS this equals
/// the earnings of a response, so resets of answered calls are free. Late resets are free too,
/// because they come from deadlines and cancellations.
const RESET_COST: u32 = 5;

/// The earnings of a late reset.
const LATE_RESET_EARNS: u32 = HEADERS_COST + RESET_COST;

/// The cost of a stream that is refused because too many are open.
const REFUSED_COST: u32 = 1;

/// The cost of a stream that the server resets because of a protocol error by the client
/// (CVE-2025-8671, "MadeYouReset").
const PROTOCOL_ERROR_COST: u32 = 5;

/// The cost of a refused compressed message. It was invalid, inflated to more than the limit, or
/// found the inflate budget used up. A client may send about twenty a second.
const REFUSED_MESSAGE_COST: u32 = 50;

/// The earnings of a complete response.
const RESPONSE_EARNS: u32 = HEADERS_COST + RESET_COST;

/// The earnings of each other frame of a response. A client sends two WINDOW_UPDATE frames for the
/// data that it reads.
const FRAME_EARNS: u32 = 2;

/// Units of work in one turn of a connection, before other connections are polled: about 1 ms.
const TURN: u32 = 1_000;

/// Bytes of a header block that cost one unit of a turn. One byte can refer to a whole entry of the
/// HPACK table, which takes 150 bytes of memory. The memory is counted only once the call has
/// begun.
const BLOCK_BYTES_PER_UNIT: u32 = 8;

/// Error codes of the server's RST_STREAM frames that are not the client's fault. NO_ERROR follows
/// an early response. CANCEL ends a call within a message.
const NO_FAULT_RESETS: [ErrorCode; 2] = [ErrorCode::NO_ERROR, ErrorCode::CANCEL];

/// The reason for closing the connection: the debug data of a GOAWAY with ENHANCE_YOUR_CALM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GoAway(pub(crate) &'static str);

/// Judges the frames of a connection in both directions, and decides when to close it.
pub(crate) struct EnforcementPolicy {
    pings: PingStrikes,
    budget: FrameBudget,
    data_throttle: DataThrottle,
    /// Open calls, as last reported by the connection.
    calls: u32,
    /// Units of work left in the current turn.
    turn: u32,
    /// The last stream that the client has opened.
    last_stream: u32,
    /// When the client last sent anything, for keepalive.
    last_received: Instant,
    shared_state: Arc<SharedState>,
    go_away: Option<GoAway>,
}

impl EnforcementPolicy {
    pub(crate) fn new(
        pings: PingPolicy,
        shared_state: Arc<SharedState>,
        of_offender: bool,
    ) -> Self {
        let now = Instant::now();
        Self {
            pings: PingStrikes::new(pings),
            budget: FrameBudget::new(now, of_offender),
            data_throttle: DataThrottle::new(shared_state.clone(), now),
            calls: 0,
            turn: TURN,
            last_stream: 0,
            last_received: now,
            shared_state,
            go_away: None,
        }
    }

    /// Records that the client has sent something.
    pub(crate) fn input_arrived(&mut self, now: Instant) {
        self.last_received = now;
    }

    /// Judges a frame from the client.
    pub(crate) fn received(&mut self, frame: ObservedFrame) {
        match frame {
            ObservedFrame::Headers { stream, length, .. } => {
                self.last_stream = self.last_stream.max(stream);
                self.spend(self.budget.headers_cost());
                self.decode(length);
            }
            ObservedFrame::Continuation(length) => {
                self.spend(1);
                self.decode(length);
            }
            ObservedFrame::Data(length) => {
                self.turn = self.turn.saturating_sub(1);
                self.data_throttle.data(length);
            }
            ObservedFrame::MaxHeaderListSize(bytes) => self.shared_state.set_header_limit(bytes),
            ObservedFrame::Ping => {
                self.spend(1);
                self.ping();
            }
            ObservedFrame::Settings => self.spend(SETTINGS_COST + self.calls / STREAMS_PER_UNIT),
            ObservedFrame::Reset(_) => self.spend(RESET_COST),
            ObservedFrame::Other => self.spend(1),
        }
    }

    /// Records a frame from the server.
    pub(crate) fn sent(&mut self, frame: ObservedFrame) {
        match frame {
            ObservedFrame::Headers { end: true, .. } => {
                self.responded(RESPONSE_EARNS);
                self.data_throttle.responded();
            }
            ObservedFrame::Headers { .. } | ObservedFrame::Data(_) => self.responded(FRAME_EARNS),
            ObservedFrame::Reset(ErrorCode::REFUSED_STREAM) => self.spend(REFUSED_COST),
            ObservedFrame::Reset(code) if !NO_FAULT_RESETS.contains(&code) => {
                self.spend(PROTOCOL_ERROR_COST);
            }
            _ => {}
        }
    }

    /// Starts a turn of the connection, as [`Transport::check_policy`] defines.
    ///
    /// [`Transport::check_policy`]: crate::grpc::server::transport::Transport::check_policy
    pub(crate) fn begin_turn(&mut self, calls: usize, refused: u32) -> Result<Instant, GoAway> {
        self.set_calls(calls, refused);
        self.turn = TURN;
        match self.go_away {
            Some(go_away) => Err(go_away),
            None => Ok(self.last_received),
        }
    }

    /// Sets the number of open calls, and charges for compressed messages that were `refused` since
    /// the last time.
    pub(super) fn set_calls(&mut self, calls: usize, refused: u32) {
        self.calls = u32::try_from(calls).unwrap_or(u32::MAX);
        self.budget.earn(self.shared_state.late_resets.take().saturating_mul(LATE_RESET_EARNS));
        if refused > 0 {
            self.spend(refused.saturating_mul(REFUSED_MESSAGE_COST));
        }
    }

    /// Whether this turn has no work units left.
    pub(crate) fn turn_is_over(&self) -> bool {
        self.turn == 0
    }

    /// The time until which reading is paused, because the client sends too many small DATA frames.
    pub(crate) fn paused_until(&mut self) -> Option<Instant> {
        let paused = self.data_throttle.paused_until();
        if self.data_throttle.is_over_limit() {
            self.go_away.get_or_insert(GoAway("too_many_small_frames"));
        }
        paused
    }

    pub(crate) fn go_away(&self) -> Option<GoAway> {
        self.go_away
    }

    /// The last stream that the client has opened, for a GOAWAY.
    pub(crate) fn last_stream(&self) -> u32 {
        self.last_stream
    }

    fn ping(&mut self) {
        if self.pings.ping(self.calls > 0) {
            // gRPC clients recognize this text and then ping less often.
            self.go_away.get_or_insert(GoAway("too_many_pings"));
        }
    }

    /// Records a sent frame of a response.
    fn responded(&mut self, earned: u32) {
        self.pings.reset();
        self.budget.earn(earned);
    }

    /// Charges the turn for the bytes of a header block.
    fn decode(&mut self, length: usize) {
        let units = u32::try_from(length).unwrap_or(u32::MAX) / BLOCK_BYTES_PER_UNIT;
        self.turn = self.turn.saturating_sub(units);
    }

    fn spend(&mut self, cost: u32) {
        self.turn = self.turn.saturating_sub(cost);
        if !self.budget.spend(cost) {
            self.go_away.get_or_insert(GoAway("too_many_idle_frames"));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const PRIORITY: ObservedFrame = ObservedFrame::Other;
    const SETTINGS: ObservedFrame = ObservedFrame::Settings;
    const HEADERS: ObservedFrame = ObservedFrame::Headers { stream: 1, end: false, length: 0 };
    const TRAILERS: ObservedFrame = ObservedFrame::Headers { stream: 1, end: true, length: 0 };
    const DATA: ObservedFrame = ObservedFrame::Data(0);
    const FLOOD: Option<GoAway> = Some(GoAway("too_many_idle_frames"));

    fn policy(pings: PingPolicy) -> EnforcementPolicy {
        EnforcementPolicy::new(pings, Arc::default(), false)
    }

    fn reset(code: u32) -> ObservedFrame {
        ObservedFrame::Reset(ErrorCode(code))
    }

    fn receive(policy: &mut EnforcementPolicy, frames: &[ObservedFrame], times: usize) {
        frames.repeat(times).into_iter().for_each(|frame| policy.received(frame));
    }

    #[tokio::test(start_paused = true)]
    async fn frame_budget_stops_a_flood_of_idle_frames() {
        let mut flooded = policy(PingPolicy::default());
        receive(&mut flooded, &[PRIORITY], 20_000);
        assert_eq!(flooded.go_away(), FLOOD);

        let mut slow = policy(PingPolicy::default());
        for _ in 0..100 {
            receive(&mut slow, &[PRIORITY], 900);
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(slow.go_away(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn offenders_begin_with_a_small_budget() {
        for (of_offender, frames, expelled) in
            [(false, 5_000, false), (true, 400, false), (true, 600, true)]
        {
            let mut policy =
                EnforcementPolicy::new(PingPolicy::default(), Arc::default(), of_offender);
            receive(&mut policy, &[PRIORITY], frames);
            assert_eq!(policy.go_away().is_some(), expelled, "{frames} frames");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn frame_budget_ignores_late_resets() {
        let mut policy = policy(PingPolicy::default());
        for _ in 0..20_000 {
            policy.received(HEADERS);
            policy.received(reset(8));
            policy.shared_state.late_resets.add(1);
            policy.set_calls(0, 0);
        }
        assert_eq!(policy.go_away(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn frame_budget_stops_repeated_refused_messages() {
        for (a_second, expelled) in [(10, false), (100, true)] {
            let mut policy = policy(PingPolicy::default());
            for _ in 0..60 {
                for _ in 0..a_second {
                    policy.received(HEADERS);
                    policy.sent(TRAILERS);
                    policy.set_calls(0, 1);
                }
                tokio::time::advance(Duration::from_secs(1)).await;
            }
            assert_eq!(policy.go_away().is_some(), expelled, "{a_second} a second");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn frame_budget_charges_settings_by_open_calls() {
        let mut idle = policy(PingPolicy::default());
        receive(&mut idle, &[SETTINGS], 1_000);
        assert_eq!(idle.go_away(), None);

        let mut busy = policy(PingPolicy::default());
        busy.set_calls(1_000, 0);
        receive(&mut busy, &[SETTINGS], 1_000);
        assert_eq!(busy.go_away(), FLOOD);
    }

    #[tokio::test(start_paused = true)]
    async fn frame_budget_stops_resets_of_unanswered_calls() {
        for data in 0..3 {
            let mut rapid = policy(PingPolicy::default());
            let call = [vec![HEADERS], vec![DATA; data], vec![reset(8)]].concat();
            receive(&mut rapid, &call, 2_000);
            assert_eq!(rapid.go_away(), FLOOD, "{data} DATA frames");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn frame_budget_ignores_resets_of_answered_calls() {
        let mut policy = policy(PingPolicy::default());
        for _ in 0..20_000 {
            policy.received(HEADERS);
            policy.sent(TRAILERS);
            policy.received(reset(0));
        }
        assert_eq!(policy.go_away(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn frame_budget_charges_server_resets_by_reason() {
        for (code, expelled) in [(0, false), (8, false), (7, true), (1, true), (3, true), (5, true)]
        {
            let mut policy = policy(PingPolicy::default());
            (0..9_000).for_each(|_| policy.sent(reset(code)));
            assert_eq!(policy.go_away().is_some(), expelled, "code {code}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn frame_budget_limits_the_rate_of_refused_streams() {
        let mut policy = policy(PingPolicy::default());
        for _ in 0..100 {
            receive(&mut policy, &[HEADERS], 300);
            (0..300).for_each(|_| policy.sent(reset(7)));
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(policy.go_away(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn frame_budget_earns_nothing_from_data() {
        let mut policy = policy(PingPolicy::default());
        for _ in 0..20_000 {
            policy.received(DATA);
            policy.received(PRIORITY);
        }
        assert_eq!(policy.go_away(), FLOOD);
    }

    #[tokio::test(start_paused = true)]
    async fn frame_budget_allows_window_updates_for_responses() {
        let mut policy = policy(PingPolicy::default());
        for _ in 0..100_000 {
            policy.sent(DATA);
            receive(&mut policy, &[PRIORITY], 2);
        }
        assert_eq!(policy.go_away(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn turn_ends_after_a_thousand_frames() {
        let mut policy = policy(PingPolicy::default());
        receive(&mut policy, &[DATA], TURN as usize - 1);
        assert!(!policy.turn_is_over());
        policy.received(DATA);
        assert!(policy.turn_is_over());
        assert!(policy.begin_turn(0, 0).is_ok());
        assert!(!policy.turn_is_over());
    }
}
