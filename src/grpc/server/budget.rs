use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::grpc::status::Status;

/// Bytes that a call may hold before they count: what may wait for a handler anyway, the default
/// window of HTTP/2. Few calls ever hold more, and all others touch nothing that is shared.
const ALLOWANCE: usize = 64 * 1024;

/// What is held beyond that counts in steps of this many bytes: a message of 4 MiB, which comes in
/// 256 frames, is counted 64 times.
const STEP: usize = 64 * 1024;

/// A limit on what calls hold together, in bytes.
#[derive(Debug)]
pub(super) struct Budget {
    limit: usize,
    used: AtomicUsize,
}

/// The budgets that the calls of one connection share: their own, and that of the server.
#[derive(Debug)]
pub(super) struct Budgets {
    connection: Budget,
    server: Arc<Budget>,
}

/// What one call takes of its budgets. It is given back when this is dropped.
#[derive(Debug)]
pub(super) struct Share {
    budgets: Arc<Budgets>,
    taken: usize,
}

impl Budget {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, used: AtomicUsize::new(0) }
    }

    fn take(&self, bytes: usize) -> bool {
        let more = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= self.limit);
        // Nothing is ordered by these numbers: they only have to add up.
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn exhausted(&self, whose: &str) -> Status {
        let limit = self.limit;
        Status::resource_exhausted(format!(
            "the calls of this {whose} hold all of its buffer limit of {limit} bytes"
        ))
    }
}

impl Budgets {
    pub(super) fn new(connection: usize, server: &Arc<Budget>) -> Arc<Self> {
        Arc::new(Self { connection: Budget::new(connection), server: server.clone() })
    }

    fn give_back(&self, bytes: usize) {
        self.connection.give_back(bytes);
        self.server.give_back(bytes);
    }
}

impl Share {
    pub(super) fn new(budgets: &Arc<Budgets>) -> Self {
        Self { budgets: budgets.clone(), taken: 0 }
    }

    /// Counts the bytes that the call holds now.
    ///
    /// # Errors
    /// RESOURCE_EXHAUSTED if a budget has not enough left; what was taken before stays taken.
    pub(super) fn settle(&mut self, held: usize) -> Result<(), Status> {
        let due = held.saturating_sub(ALLOWANCE).div_ceil(STEP).saturating_mul(STEP);
        if let Some(more) = due.checked_sub(self.taken).filter(|more| *more > 0) {
            let Budgets { connection, server } = &*self.budgets;
            if !connection.take(more) {
                return Err(connection.exhausted("connection"));
            }
            if !server.take(more) {
                connection.give_back(more);
                return Err(server.exhausted("server"));
            }
        } else if due < self.taken {
            self.budgets.give_back(self.taken - due);
        }
        self.taken = due;
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if self.taken > 0 {
            self.budgets.give_back(self.taken);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(budgets: &Budgets) -> [usize; 2] {
        [&budgets.connection, &budgets.server].map(|budget| budget.used.load(Ordering::Relaxed))
    }

    #[test]
    fn what_is_held_beyond_the_allowance_counts_in_steps_until_it_is_given_back() {
        let budgets = Budgets::new(1 << 20, &Arc::new(Budget::new(1 << 20)));
        let mut share = Share::new(&budgets);
        let steps = [(0, 0), (ALLOWANCE, 0), (ALLOWANCE + 1, 1), (ALLOWANCE + STEP, 1)];
        for (held, expected) in [&steps[..], &[(ALLOWANCE + 3 * STEP, 3), (1, 0)]].concat() {
            share.settle(held).unwrap();
            assert_eq!(used(&budgets), [expected * STEP; 2], "{held} bytes held");
        }
        share.settle(1 << 20).unwrap();
        drop(share);
        assert_eq!(used(&budgets), [0, 0]);
    }

    #[test]
    fn a_call_over_a_budget_is_told_which_and_takes_nothing_more() {
        let server = Arc::new(Budget::new(3 * STEP));
        let [one, other] = [(); 2].map(|()| Budgets::new(2 * STEP, &server));
        let [mut a, mut b, mut c] = [&one, &one, &other].map(Share::new);
        a.settle(ALLOWANCE + STEP).unwrap();
        let status = b.settle(ALLOWANCE + 2 * STEP).unwrap_err();
        assert!(status.message().contains("this connection"), "{status}");
        let status = c.settle(usize::MAX).unwrap_err();
        assert!(status.message().contains("this connection"), "{status}");
        b.settle(ALLOWANCE + STEP).unwrap();
        let status = c.settle(ALLOWANCE + 2 * STEP).unwrap_err();
        assert!(status.message().contains("this server"), "{status}");
        assert_eq!((used(&one), used(&other)), ([2 * STEP, 2 * STEP], [0, 2 * STEP]));
        drop((a, b));
        c.settle(ALLOWANCE + 2 * STEP).unwrap();
        assert_eq!((used(&one), used(&other)), ([0, 2 * STEP], [2 * STEP, 2 * STEP]));
    }
}
