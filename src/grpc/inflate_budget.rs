use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Instant;

use bytes::Buf;

use super::compression::Encoding;
use super::counter::Counter;
use super::frame::Payload;
use super::inflate::{Cost, FREE_RATIO, Inflater, Progress};
use super::status::Status;

/// The work on one message before other calls get their turn. It is in bytes of output, or in
/// nanoseconds of barren input: a tenth to a third of a millisecond.
const SLICE: usize = 64 * 1024;

/// The maximum cost of a slice, including the piece of input that exceeds it.
const RESERVE: Cost = 512 * 1024;

/// The budget of one connection. It allows two hundredths of a core, or five decompression bombs of
/// 4 MiB a second. The burst is two seconds' worth.
const CONNECTION: Rate = Rate { burst: 40_000_000, per_second: 20_000_000 };

/// The budget of all connections of a server together, so that opening more connections gains
/// nothing.
const SERVER: Rate = Rate { burst: 100_000_000, per_second: 50_000_000 };

#[derive(Debug, Clone, Copy)]
struct Rate {
    burst: usize,
    per_second: usize,
}

/// A token bucket for the decompression cost of messages ([`Cost`]). Over the budget, a call ends
/// with RESOURCE_EXHAUSTED. Messages of an ordinary ratio are free.
#[derive(Debug)]
pub(crate) struct InflateBudget {
    bucket: Mutex<Bucket>,
    /// A connection decompresses one message at a time, so only one holds a decompressor and
    /// partial output.
    turn: Mutex<Turn>,
    /// The number of messages refused, for the connection's enforcement policy.
    refused: Counter,
    /// The budget of the server; `None` if this is the server's.
    server: Option<Arc<InflateBudget>>,
}

#[derive(Debug, Default)]
struct Turn {
    taken: bool,
    waiting: Vec<Waker>,
}

#[derive(Debug)]
struct Bucket {
    rate: Rate,
    left: usize,
    refilled: Instant,
}

impl InflateBudget {
    pub(crate) fn of_server() -> Arc<Self> {
        Arc::new(Self {
            bucket: Mutex::new(Bucket::new(SERVER)),
            turn: Mutex::default(),
            refused: Counter::default(),
            server: None,
        })
    }

    pub(crate) fn of_connection(server: &Arc<Self>) -> Arc<Self> {
        let (bucket, server) = (Mutex::new(Bucket::new(CONNECTION)), Some(server.clone()));
        Arc::new(Self { bucket, turn: Mutex::default(), refused: Counter::default(), server })
    }

    fn take(&self, cost: Cost) -> Result<(), Status> {
        let taken = self.with(|bucket| bucket.take(cost));
        taken.then_some(()).ok_or_else(|| self.exhausted())
    }

    /// Whether the rest of the budget is less than a slice may cost.
    fn is_exhausted(&self) -> bool {
        self.with(|bucket| !bucket.has(RESERVE))
    }

    fn exhausted(&self) -> Status {
        let whose = if self.server.is_some() { "connection" } else { "server" };
        Status::resource_exhausted(format!(
            "the decompression budget of this {whose} is exhausted: send fewer compressed messages \
             that inflate to more than {FREE_RATIO} times their length, or to nothing, or send \
             them uncompressed"
        ))
    }

    /// Counts a message that was refused without decompression.
    pub(crate) fn refuse(&self) {
        self.refused.add(1);
    }

    /// Returns the number of messages refused since the last call.
    pub(crate) fn take_refused(&self) -> u32 {
        self.refused.take()
    }

    fn give_back(&self, cost: Cost) {
        self.with(|bucket| bucket.give_back(cost));
    }

    /// Ready when the connection decompresses no other message.
    fn poll_turn(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        if !std::mem::replace(&mut turn.taken, true) {
            return Poll::Ready(());
        }
        if !turn.waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            turn.waiting.push(cx.waker().clone());
        }
        Poll::Pending
    }

    fn end_turn(&self) {
        let mut turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        turn.taken = false;
        // Wakes all waiters. A single one might belong to a call that has ended.
        let waiting = std::mem::take(&mut turn.waiting);
        drop(turn);
        waiting.into_iter().for_each(Waker::wake);
    }

    fn with<R>(&self, change: impl FnOnce(&mut Bucket) -> R) -> R {
        change(&mut self.bucket.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Bucket {
    fn new(rate: Rate) -> Self {
        Self { rate, left: rate.burst, refilled: Instant::now() }
    }

    fn take(&mut self, cost: Cost) -> bool {
        let enough = self.has(cost);
        if enough {
            self.left -= cost;
        }
        enough
    }

    fn has(&mut self, cost: Cost) -> bool {
        if self.left < cost {
            self.refill();
        }
        self.left >= cost
    }

    fn refill(&mut self) {
        let now = Instant::now();
        let seconds = now.duration_since(self.refilled).as_secs_f64();
        self.refilled = now;
        self.give_back((seconds * self.rate.per_second as f64) as usize);
    }

    fn give_back(&mut self, cost: Cost) {
        self.left = self.left.saturating_add(cost).min(self.rate.burst);
    }
}

/// A message to be decompressed, and the cost that it has paid.
pub(crate) struct Inflating {
    stage: Stage,
    /// `None` is no limit, for tests.
    budget: Option<Arc<InflateBudget>>,
    /// The cost that is paid already.
    paid: Cost,
}

enum Stage {
    /// The message waits for its turn.
    Queued {
        encoding: Encoding,
        message: Payload,
        limit: usize,
    },
    Running(Inflater),
}

impl Inflating {
    /// Queues a message of at most `limit` bytes once decompressed.
    pub(crate) fn new(
        encoding: Encoding,
        message: Payload,
        limit: usize,
        budget: Option<Arc<InflateBudget>>,
    ) -> Self {
        Self { stage: Stage::Queued { encoding, message, limit }, budget, paid: 0 }
    }

    /// Returns the memory that the message holds, in bytes.
    pub(crate) fn memory(&self) -> usize {
        match &self.stage {
            Stage::Queued { message, .. } => message.remaining(),
            Stage::Running(inflater) => inflater.memory(),
        }
    }

    /// Decompresses one slice. Ready with the message when it is complete.
    ///
    /// # Errors
    /// The errors of [`Inflater::step`], and RESOURCE_EXHAUSTED over the budget.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Payload, Status>> {
        if let Stage::Queued { encoding, message, limit } = &mut self.stage {
            if let Some(budget) = &self.budget {
                // Over the budget, a message is refused before any work.
                if budget.is_exhausted() {
                    budget.refused.add(1);
                    return Poll::Ready(Err(budget.exhausted()));
                }
                ready!(budget.poll_turn(cx));
            }
            let inflater = encoding.inflater(std::mem::take(message), *limit);
            match inflater {
                Ok(inflater) => self.stage = Stage::Running(inflater),
                Err(status) => {
                    self.budget.iter().for_each(|budget| budget.end_turn());
                    return Poll::Ready(Err(status));
                }
            }
        }
        Poll::Ready(match self.step() {
            Ok(Progress::Done(message)) => Ok(message),
            Ok(Progress::More) => {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Err(status) => {
                self.budget.iter().for_each(|budget| budget.refused.add(1));
                Err(status)
            }
        })
    }

    fn step(&mut self) -> Result<Progress, Status> {
        let Stage::Running(inflater) = &mut self.stage else { return Ok(Progress::More) };
        let Some(budget) = &self.budget else { return inflater.step(SLICE) };
        budget.take(RESERVE)?;
        let progress = inflater.step(SLICE);
        let cost = inflater.cost() - self.paid;
        self.paid += cost;
        budget.give_back(RESERVE.saturating_sub(cost));
        if let (Some(server), 1..) = (&budget.server, cost) {
            server.take(cost)?;
        }
        progress
    }
}

impl Drop for Inflating {
    fn drop(&mut self) {
        if let (Stage::Running(_), Some(budget)) = (&self.stage, &self.budget) {
            budget.end_turn();
        }
    }
}

#[cfg(test)]
#[cfg(feature = "gzip")]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::Code;

    const LIMIT: usize = 4 << 20;

    fn inflating(budget: &Arc<InflateBudget>, message: &[u8]) -> Inflating {
        let compressed = Bytes::from(Encoding::GZIP.compress(message).unwrap());
        Inflating::new(Encoding::GZIP, compressed.into(), LIMIT, Some(budget.clone()))
    }

    fn inflate(budget: &Arc<InflateBudget>, message: &[u8]) -> Result<Bytes, Status> {
        let mut inflating = inflating(budget, message);
        loop {
            if let Poll::Ready(result) = inflating.poll(&mut Context::from_waker(Waker::noop())) {
                return result.map(Payload::into_bytes);
            }
        }
    }

    /// Empties the bucket, and moves its time ahead so that it does not refill.
    fn drain(budget: &InflateBudget) {
        budget.with(|bucket| {
            bucket.left = 0;
            bucket.refilled += std::time::Duration::from_secs(3600);
        });
    }

    #[test]
    fn inflate_budget_stops_bombs_and_passes_ordinary_messages() {
        let server = InflateBudget::of_server();
        let budget = InflateBudget::of_connection(&server);
        let ordinary: Vec<u8> = (0..100_000_u32).flat_map(|n| (n / 7).to_be_bytes()).collect();
        let bomb = vec![0; LIMIT];
        let left = |budget: &InflateBudget| budget.with(|bucket| bucket.left);
        assert_eq!(inflate(&budget, &ordinary).unwrap(), ordinary);
        assert!(left(&budget) > CONNECTION.burst - LIMIT / 10);
        assert!(inflate(&budget, &bomb).is_ok());
        assert!(left(&budget) < CONNECTION.burst - LIMIT / 2);
        assert!(left(&server) < SERVER.burst - LIMIT / 2);

        drain(&budget);
        let refused = inflate(&budget, &bomb).unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted);
        assert!(refused.message().contains("this connection"), "{refused}");
    }

    #[test]
    fn inflate_budget_of_the_server_is_shared() {
        let server = InflateBudget::of_server();
        drain(&server);
        let refused = inflate(&InflateBudget::of_connection(&server), &vec![0; LIMIT]).unwrap_err();
        assert!(refused.message().contains("this server"), "{refused}");
        // Messages of an ordinary ratio use none of the budget.
        let ordinary = b"an ordinary message of some length".repeat(10);
        assert!(inflate(&InflateBudget::of_connection(&server), &ordinary).is_ok());
    }

    #[test]
    fn inflate_budget_admits_one_message_per_connection() {
        let server = InflateBudget::of_server();
        let budget = InflateBudget::of_connection(&server);
        let cx = &mut Context::from_waker(Waker::noop());
        let mut first = inflating(&budget, &vec![0; 1 << 20]);
        let mut second = inflating(&budget, b"second");
        assert!(first.poll(cx).is_pending());
        let waiting = second.memory();
        assert!(second.poll(cx).is_pending());
        assert_eq!(second.memory(), waiting, "the second message has not begun");
        // Another connection has its own turn.
        assert!(inflate(&InflateBudget::of_connection(&server), b"third").is_ok());
        drop(first);
        assert!(second.poll(cx).is_ready());
    }

    #[test]
    fn inflate_budget_refills_over_time() {
        let mut bucket = Bucket::new(CONNECTION);
        assert!(bucket.take(CONNECTION.burst));
        bucket.refilled -= std::time::Duration::from_millis(500);
        assert!(bucket.take(CONNECTION.per_second / 2));
        assert!(!bucket.take(CONNECTION.per_second / 2));
    }
}
