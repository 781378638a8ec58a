use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::inflate::{Inflater, Progress};
use super::status::Status;

/// Work on one message before other calls have their turn: a third of a millisecond.
const SLICE: usize = 64 * 1024;

/// A message may inflate to this many times its length at no cost. Text and protobuf seldom reach
/// ten; beyond a hundred is next to nothing but zeros, and bombs.
const FREE_RATIO: usize = 32;

/// What the messages of one connection may inflate to beyond that, in bytes: at once, and a second.
const CONNECTION: Rate = Rate { burst: 16 << 20, per_second: 16 << 20 };

/// The same for the connections of a server together, so that many are no way around it: it bounds
/// bombs to a sixth of one core.
const SERVER: Rate = Rate { burst: 64 << 20, per_second: 32 << 20 };

#[derive(Debug, Clone, Copy)]
struct Rate {
    burst: usize,
    per_second: usize,
}

/// Bounds the work that compressed messages cause out of proportion to their length. A call that
/// is over it ends with RESOURCE_EXHAUSTED; messages of an ordinary ratio are never over it.
#[derive(Debug)]
pub(crate) struct InflateBudget {
    bucket: Mutex<Bucket>,
    /// That of the server; `None` if this is it.
    server: Option<Arc<InflateBudget>>,
}

#[derive(Debug)]
struct Bucket {
    rate: Rate,
    left: usize,
    refilled: Instant,
}

impl InflateBudget {
    pub(crate) fn of_server() -> Arc<Self> {
        Arc::new(Self { bucket: Mutex::new(Bucket::new(SERVER)), server: None })
    }

    pub(crate) fn of_connection(server: &Arc<Self>) -> Arc<Self> {
        let bucket = Mutex::new(Bucket::new(CONNECTION));
        Arc::new(Self { bucket, server: Some(server.clone()) })
    }

    fn take(&self, bytes: usize) -> Result<(), Status> {
        if !self.with(|bucket| bucket.take(bytes)) {
            let whose = if self.server.is_some() { "connection" } else { "server" };
            return Err(Status::resource_exhausted(format!(
                "compressed messages of this {whose} inflate to more than {FREE_RATIO} times \
                 their length too often: send them less often, or uncompressed"
            )));
        }
        let of_server = self.server.as_ref().map_or(Ok(()), |server| server.take(bytes));
        of_server.inspect_err(|_| self.with(|bucket| bucket.give_back(bytes)))
    }

    fn give_back(&self, bytes: usize) {
        self.with(|bucket| bucket.give_back(bytes));
        if let Some(server) = &self.server {
            server.give_back(bytes);
        }
    }

    fn with<R>(&self, change: impl FnOnce(&mut Bucket) -> R) -> R {
        change(&mut self.bucket.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Bucket {
    fn new(rate: Rate) -> Self {
        Self { rate, left: rate.burst, refilled: Instant::now() }
    }

    fn take(&mut self, bytes: usize) -> bool {
        if self.left < bytes {
            let now = Instant::now();
            let seconds = now.duration_since(self.refilled).as_secs_f64();
            self.refilled = now;
            self.give_back((seconds * self.rate.per_second as f64) as usize);
        }
        let left = self.left.checked_sub(bytes);
        self.left = left.unwrap_or(self.left);
        left.is_some()
    }

    fn give_back(&mut self, bytes: usize) {
        self.left = self.left.saturating_add(bytes).min(self.rate.burst);
    }
}

/// A message while it is decompressed, and what it has taken of the budget.
pub(crate) struct Inflating {
    inflater: Inflater,
    budget: Option<Arc<InflateBudget>>,
    taken: usize,
}

impl Inflating {
    /// Without a budget, in a test, it may take what it likes.
    pub(crate) fn new(inflater: Inflater, budget: Option<Arc<InflateBudget>>) -> Self {
        Self { inflater, budget, taken: 0 }
    }

    /// Bytes of memory that it holds.
    pub(crate) fn memory(&self) -> usize {
        self.inflater.memory()
    }

    /// Goes on for a slice of time.
    ///
    /// # Errors
    /// Those of [`Inflater::step`], and RESOURCE_EXHAUSTED over the budget.
    pub(crate) fn step(&mut self) -> Result<Progress, Status> {
        let free = self.inflater.compressed().saturating_mul(FREE_RATIO);
        let work = match free.checked_sub(self.inflater.work()) {
            Some(left @ 1..) => left.min(SLICE),
            _ => SLICE,
        };
        let due = (self.inflater.work() + work).saturating_sub(free);
        if let Some(budget) = &self.budget {
            budget.take(due.saturating_sub(self.taken))?;
        }
        self.taken = due;
        self.inflater.step(work)
    }

    #[cfg(test)]
    fn finish(mut self) -> Result<bytes::Bytes, Status> {
        loop {
            if let Progress::Done(message) = self.step()? {
                return Ok(message);
            }
        }
    }
}

/// What was taken for work that turned out not to be needed goes back.
impl Drop for Inflating {
    fn drop(&mut self) {
        let free = self.inflater.compressed().saturating_mul(FREE_RATIO);
        let used = self.inflater.work().saturating_sub(free);
        if let (Some(budget), Some(unused @ 1..)) = (&self.budget, self.taken.checked_sub(used)) {
            budget.give_back(unused);
        }
    }
}

#[cfg(test)]
#[cfg(feature = "gzip")]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::Code;
    use crate::grpc::compression::Encoding;

    const LIMIT: usize = 4 << 20;

    fn inflate(budget: &Arc<InflateBudget>, message: &[u8]) -> Result<Bytes, Status> {
        let compressed = Encoding::GZIP.compress(message).unwrap();
        let inflater = Encoding::GZIP.inflater(Bytes::from(compressed).into(), LIMIT)?;
        Inflating::new(inflater, Some(budget.clone())).finish()
    }

    fn left(budget: &InflateBudget) -> usize {
        budget.with(|bucket| bucket.left)
    }

    #[test]
    fn bombs_use_the_budget_up_and_ordinary_messages_pass() {
        let server = InflateBudget::of_server();
        let budget = InflateBudget::of_connection(&server);
        let bomb = vec![0; LIMIT];
        let refused = (0..100).map(|_| inflate(&budget, &bomb)).find_map(Result::err).unwrap();
        assert_eq!(refused.code(), Code::ResourceExhausted);
        assert!(refused.message().contains("this connection"), "{refused}");

        let ordinary: Vec<u8> = (0..100_000_u32).flat_map(|n| (n / 7).to_be_bytes()).collect();
        for _ in 0..100 {
            assert_eq!(inflate(&budget, &ordinary).unwrap(), ordinary);
        }
        assert!(inflate(&InflateBudget::of_connection(&server), &bomb).is_ok());
    }

    #[test]
    fn connections_share_the_budget_of_the_server() {
        let server = InflateBudget::of_server();
        let bomb = vec![0; LIMIT];
        let refused = (0..100).find_map(|_| {
            let budget = InflateBudget::of_connection(&server);
            (0..3).find_map(|_| inflate(&budget, &bomb).err())
        });
        assert!(refused.unwrap().message().contains("this server"));
    }

    #[test]
    fn work_that_was_not_needed_goes_back() {
        let server = InflateBudget::of_server();
        let budget = InflateBudget::of_connection(&server);
        for _ in 0..10_000 {
            inflate(&budget, &[0; 1000]).unwrap();
        }
        assert_eq!(left(&budget), CONNECTION.burst);
        assert_eq!(left(&server), SERVER.burst);
    }

    #[test]
    fn time_fills_the_budget_again() {
        let mut bucket = Bucket::new(CONNECTION);
        assert!(bucket.take(CONNECTION.burst));
        bucket.refilled -= std::time::Duration::from_millis(500);
        assert!(bucket.take(CONNECTION.per_second / 2));
        assert!(!bucket.take(CONNECTION.per_second / 2));
    }
}
