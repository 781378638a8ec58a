use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::grpc::status::Status;

/// Free bytes per call: the size of an ordinary request. Few pending calls hold more, so the others
/// touch no shared counter.
const ALLOWANCE: usize = 4 * 1024;

/// Bytes beyond the allowance count in steps of this size.
const STEP: usize = 4 * 1024;

/// Bytes that a connection reserves from the server's budget at a time, so that workers rarely
/// write to the shared counter.
const CHUNK: usize = 64 * 1024;

/// The limit on the memory of all calls, in bytes.
#[derive(Debug)]
pub(crate) struct Budget {
    limit: usize,
    used: AtomicUsize,
}

/// The memory limits of the calls of one connection: the connection's own, and the server's.
#[derive(Debug)]
pub(crate) struct Budgets {
    limit: usize,
    connection: Mutex<Used>,
    server: Arc<Budget>,
}

/// The bytes that the calls of a connection hold, and the bytes reserved from the server's budget.
#[derive(Debug, Default, Clone, Copy)]
struct Used {
    bytes: usize,
    reserved: usize,
}

/// The bytes of one call. Dropping this returns them.
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
        // Relaxed, because the counter orders no other memory.
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

fn exhausted(whose: &str, limit: usize) -> Status {
    Status::resource_exhausted(format!(
        "the calls of this {whose} have reached its buffer limit of {limit} bytes"
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
        let missing = sum.saturating_sub(used.reserved);
        // Reserve a whole chunk, or exactly the missing bytes if the server has less left.
        let chunk = missing.next_multiple_of(CHUNK);
        let taken = [chunk, missing].into_iter().find(|bytes| self.server.take(*bytes));
        let Some(taken) = taken else { return Err(exhausted("server", self.server.limit)) };
        used.reserved += taken;
        used.bytes = sum;
        Ok(())
    }

    fn give_back(&self, bytes: usize) {
        let mut used = self.lock();
        used.bytes -= bytes;
        // Keep one spare chunk while calls hold bytes, so that short calls do not touch the shared
        // counter.
        let kept = if used.bytes == 0 { 0 } else { used.bytes.next_multiple_of(CHUNK) + CHUNK };
        if let Some(spare @ 1..) = used.reserved.checked_sub(kept) {
            self.server.give_back(spare);
            used.reserved = kept;
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

    /// Sets the bytes that the call holds now.
    ///
    /// # Errors
    /// RESOURCE_EXHAUSTED if a limit would be exceeded. The bytes counted before stay counted.
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
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    use super::*;

    fn used(budgets: &Budgets) -> usize {
        budgets.lock().bytes
    }

    fn server_used(server: &Budget) -> usize {
        server.used.load(Ordering::Relaxed)
    }

    #[test]
    fn budget_counts_steps_beyond_the_allowance() {
        let server = Arc::new(Budget::new(1 << 20));
        let budgets = Budgets::new(1 << 20, &server);
        let mut share = Share::new(&budgets);
        let steps = [(0, 0), (ALLOWANCE, 0), (ALLOWANCE + 1, 1), (ALLOWANCE + STEP, 1)];
        for (held, expected) in [&steps[..], &[(ALLOWANCE + 3 * STEP, 3), (1, 0)]].concat() {
            share.settle(held).unwrap();
            assert_eq!(used(&budgets), expected * STEP, "{held} bytes held");
        }
        share.settle(1 << 20).unwrap();
        assert_eq!(server_used(&server), 1 << 20);
        drop(share);
        assert_eq!((used(&budgets), server_used(&server)), (0, 0));
    }

    #[test]
    fn budget_returns_released_bytes_to_both_limits() {
        let server = Arc::new(Budget::new(1 << 20));
        let budgets = Budgets::new(1 << 20, &server);
        let [mut large, mut small] = [(); 2].map(|()| Share::new(&budgets));
        small.settle(ALLOWANCE + STEP).unwrap();
        large.settle(ALLOWANCE + 8 * CHUNK).unwrap();
        assert_eq!((used(&budgets), server_used(&server)), (8 * CHUNK + STEP, 9 * CHUNK));
        large.settle(ALLOWANCE + 3 * CHUNK).unwrap();
        assert_eq!(used(&budgets), 3 * CHUNK + STEP);
        assert_eq!(server_used(&server), 5 * CHUNK, "the held bytes and a spare chunk");
        // Other calls can use the returned bytes.
        let mut other = Share::new(&Budgets::new(1 << 20, &server));
        other.settle(ALLOWANCE + (1 << 20) - 5 * CHUNK).unwrap();
        drop((small, large, other));
        assert_eq!((used(&budgets), server_used(&server)), (0, 0));
    }

    #[test]
    fn budget_error_names_the_exhausted_limit() {
        let server = Arc::new(Budget::new(3 * CHUNK));
        let [one, other] = [(); 2].map(|()| Budgets::new(2 * CHUNK, &server));
        let [mut a, mut b, mut c] = [&one, &one, &other].map(Share::new);
        a.settle(ALLOWANCE + CHUNK).unwrap();
        let status = b.settle(ALLOWANCE + CHUNK + STEP).unwrap_err();
        assert!(status.message().contains("this connection"), "{status}");
        let status = c.settle(usize::MAX).unwrap_err();
        assert!(status.message().contains("this connection"), "{status}");
        b.settle(ALLOWANCE + CHUNK).unwrap();
        let status = c.settle(ALLOWANCE + CHUNK + STEP).unwrap_err();
        assert!(status.message().contains("this server"), "{status}");
        assert_eq!((used(&one), used(&other), server_used(&server)), (2 * CHUNK, 0, 2 * CHUNK));
        drop((a, b));
        c.settle(ALLOWANCE + 2 * CHUNK).unwrap();
        assert_eq!((used(&one), used(&other), server_used(&server)), (0, 2 * CHUNK, 2 * CHUNK));
    }

    #[test]
    fn budget_gives_out_less_than_a_chunk() {
        let server = Arc::new(Budget::new(STEP));
        let mut share = Share::new(&Budgets::new(1 << 20, &server));
        share.settle(ALLOWANCE + STEP).unwrap();
        assert!(share.settle(ALLOWANCE + 2 * STEP).is_err());
    }

    #[test]
    fn budget_steps_are_4_kib_and_chunks_64_kib() {
        let server = Arc::new(Budget::new(1 << 20));
        let budgets = Budgets::new(1 << 20, &server);
        let mut share = Share::new(&budgets);
        for (held, bytes, reserved) in [
            (4_096, 0, 0),
            (4_097, 4_096, 65_536),
            (8_193, 8_192, 65_536),
            (69_632, 65_536, 65_536),
            (69_633, 69_632, 131_072),
        ] {
            share.settle(held).unwrap();
            assert_eq!((used(&budgets), server_used(&server)), (bytes, reserved), "{held} held");
        }
    }

    #[test]
    fn budget_is_not_locked_while_a_share_stays_the_same() {
        let budgets = Budgets::new(1 << 20, &Arc::new(Budget::new(1 << 20)));
        let [mut small, mut large] = [(); 2].map(|()| Share::new(&budgets));
        large.settle(ALLOWANCE + STEP).unwrap();
        let used = budgets.lock();
        let (done, finished) = mpsc::channel();
        thread::spawn(move || {
            small.settle(ALLOWANCE).unwrap();
            drop(small);
            large.settle(ALLOWANCE + 1).unwrap();
            done.send(large)
        });
        let large = finished.recv_timeout(Duration::from_secs(10));
        drop(used);
        assert!(large.is_ok(), "a share waits for the lock");
    }
}
