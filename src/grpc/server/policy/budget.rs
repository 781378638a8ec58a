use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::grpc::status::Status;

/// Bytes that a call may hold before they count: a request of ordinary size. Few calls hold more
/// while they wait, and all others touch nothing that is shared.
const ALLOWANCE: usize = 4 * 1024;

/// What is held beyond that counts in steps of this many bytes.
const STEP: usize = 4 * 1024;

/// What a connection takes of the server's budget at a time, so that workers seldom write to the
/// number that they share.
const LUMP: usize = 64 * 1024;

/// A limit on what all calls hold together, in bytes.
#[derive(Debug)]
pub(crate) struct Budget {
    limit: usize,
    used: AtomicUsize,
}

/// The budgets that the calls of one connection share: their own, and that of the server.
#[derive(Debug)]
pub(crate) struct Budgets {
    limit: usize,
    connection: Mutex<Used>,
    server: Arc<Budget>,
}

/// What the calls of a connection hold, and what it has taken of the server's budget for that.
#[derive(Debug, Default, Clone, Copy)]
struct Used {
    bytes: usize,
    of_server: usize,
}

/// What one call takes of its budgets. It is given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    budgets: Arc<Budgets>,
    taken: usize,
}

impl Budget {
    pub(crate) fn new(limit: usize) -> Self {
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
}

fn exhausted(whose: &str, limit: usize) -> Status {
    Status::resource_exhausted(format!(
        "the calls of this {whose} hold all of its buffer limit of {limit} bytes"
    ))
}

impl Budgets {
    pub(crate) fn new(connection: usize, server: &Arc<Budget>) -> Arc<Self> {
        Arc::new(Self { limit: connection, connection: Mutex::default(), server: server.clone() })
    }

    fn take(&self, bytes: usize) -> Result<(), Status> {
        let mut used = self.lock();
        let sum = used.bytes.saturating_add(bytes);
        if sum > self.limit {
            return Err(exhausted("connection", self.limit));
        }
        let missing = sum.saturating_sub(used.of_server);
        // A whole lump if there is one left, or else just what is needed.
        let lump = missing.next_multiple_of(LUMP);
        let taken = [lump, missing].into_iter().find(|bytes| self.server.take(*bytes));
        let Some(taken) = taken else { return Err(exhausted("server", self.server.limit)) };
        used.of_server += taken;
        used.bytes = sum;
        Ok(())
    }

    fn give_back(&self, bytes: usize) {
        let mut used = self.lock();
        used.bytes -= bytes;
        // One lump is kept while anything is held, so that calls that come and go share nothing.
        let kept = if used.bytes == 0 { 0 } else { used.bytes.next_multiple_of(LUMP) + LUMP };
        if let Some(spare) = used.of_server.checked_sub(kept).filter(|spare| *spare > 0) {
            self.server.give_back(spare);
            used.of_server = kept;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Used> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Share {
    pub(crate) fn new(budgets: &Arc<Budgets>) -> Self {
        Self { budgets: budgets.clone(), taken: 0 }
    }

    /// Counts the bytes that the call holds now.
    ///
    /// # Errors
    /// RESOURCE_EXHAUSTED if a budget has not enough left; what was taken before stays taken.
    pub(crate) fn settle(&mut self, held: usize) -> Result<(), Status> {
        let due = held.saturating_sub(ALLOWANCE).div_ceil(STEP).saturating_mul(STEP);
        if due > self.taken {
            self.budgets.take(due - self.taken)?;
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

    fn used(budgets: &Budgets) -> usize {
        budgets.lock().bytes
    }

    fn of_server(server: &Budget) -> usize {
        server.used.load(Ordering::Relaxed)
    }

    #[test]
    fn bytes_beyond_the_allowance_count_in_steps_until_given_back() {
        let server = Arc::new(Budget::new(1 << 20));
        let budgets = Budgets::new(1 << 20, &server);
        let mut share = Share::new(&budgets);
        let steps = [(0, 0), (ALLOWANCE, 0), (ALLOWANCE + 1, 1), (ALLOWANCE + STEP, 1)];
        for (held, expected) in [&steps[..], &[(ALLOWANCE + 3 * STEP, 3), (1, 0)]].concat() {
            share.settle(held).unwrap();
            assert_eq!(used(&budgets), expected * STEP, "{held} bytes held");
        }
        share.settle(1 << 20).unwrap();
        assert_eq!(of_server(&server), 1 << 20);
        drop(share);
        assert_eq!((used(&budgets), of_server(&server)), (0, 0));
    }

    #[test]
    fn a_part_of_a_share_goes_back_to_both_budgets() {
        let server = Arc::new(Budget::new(1 << 20));
        let budgets = Budgets::new(1 << 20, &server);
        let [mut large, mut small] = [(); 2].map(|()| Share::new(&budgets));
        small.settle(ALLOWANCE + STEP).unwrap();
        large.settle(ALLOWANCE + 8 * LUMP).unwrap();
        assert_eq!((used(&budgets), of_server(&server)), (8 * LUMP + STEP, 9 * LUMP));
        large.settle(ALLOWANCE + 3 * LUMP).unwrap();
        assert_eq!(used(&budgets), 3 * LUMP + STEP);
        assert_eq!(of_server(&server), 5 * LUMP, "what is held, and a lump");
        // What one gave back another may take.
        let mut other = Share::new(&Budgets::new(1 << 20, &server));
        other.settle(ALLOWANCE + (1 << 20) - 5 * LUMP).unwrap();
        drop((small, large, other));
        assert_eq!((used(&budgets), of_server(&server)), (0, 0));
    }

    #[test]
    fn a_call_over_a_budget_is_told_which_and_takes_nothing_more() {
        let server = Arc::new(Budget::new(3 * LUMP));
        let [one, other] = [(); 2].map(|()| Budgets::new(2 * LUMP, &server));
        let [mut a, mut b, mut c] = [&one, &one, &other].map(Share::new);
        a.settle(ALLOWANCE + LUMP).unwrap();
        let status = b.settle(ALLOWANCE + LUMP + STEP).unwrap_err();
        assert!(status.message().contains("this connection"), "{status}");
        let status = c.settle(usize::MAX).unwrap_err();
        assert!(status.message().contains("this connection"), "{status}");
        b.settle(ALLOWANCE + LUMP).unwrap();
        let status = c.settle(ALLOWANCE + LUMP + STEP).unwrap_err();
        assert!(status.message().contains("this server"), "{status}");
        assert_eq!((used(&one), used(&other), of_server(&server)), (2 * LUMP, 0, 2 * LUMP));
        drop((a, b));
        c.settle(ALLOWANCE + 2 * LUMP).unwrap();
        assert_eq!((used(&one), used(&other), of_server(&server)), (0, 2 * LUMP, 2 * LUMP));
    }

    #[test]
    fn the_last_bytes_of_a_server_need_not_fill_a_lump() {
        let server = Arc::new(Budget::new(STEP));
        let mut share = Share::new(&Budgets::new(1 << 20, &server));
        share.settle(ALLOWANCE + STEP).unwrap();
        assert!(share.settle(ALLOWANCE + 2 * STEP).is_err());
    }
}
