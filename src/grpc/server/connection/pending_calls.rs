use std::collections::VecDeque;
use std::future::Future;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Wake, Waker};

/// The pending calls of a connection, each with its own waker.
///
/// Unlike in futures' `FuturesUnordered`, polling can stop after any call. Calls that were not
/// polled come first the next time.
pub(crate) struct PendingCalls<F> {
    /// Indexed by key. Empty slots are in `free`.
    slots: Vec<Option<Box<Slot<F>>>>,
    free: Vec<usize>,
    woken: Arc<Woken>,
}

struct Slot<F> {
    future: F,
    call: Arc<CallWaker>,
    waker: Waker,
}

/// The keys of woken calls, in the order of their wakes.
struct Woken {
    keys: Mutex<VecDeque<usize>>,
    /// Wakes the connection.
    connection: Waker,
}

struct CallWaker {
    key: usize,
    /// Whether the key is in [`Woken`].
    listed: AtomicBool,
    woken: Arc<Woken>,
}

impl<F: Future<Output = ()> + Unpin> PendingCalls<F> {
    pub(crate) fn new(connection: Waker) -> Self {
        let woken = Arc::new(Woken { keys: Mutex::default(), connection });
        Self { slots: Vec::new(), free: Vec::new(), woken }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &F> {
        self.slots.iter().flatten().map(|slot| &slot.future)
    }

    /// Removes and returns all calls.
    pub(crate) fn take(&mut self) -> impl Iterator<Item = F> + use<F> {
        self.free = Vec::new();
        std::mem::take(&mut self.slots).into_iter().flatten().map(|slot| slot.future)
    }

    /// Adds a call and marks it as woken, because it has not been polled with its waker yet.
    pub(crate) fn push(&mut self, future: F) {
        let key = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        let woken = self.woken.clone();
        let call = Arc::new(CallWaker { key, listed: AtomicBool::new(true), woken });
        let waker = call.clone().into();
        self.slots[key] = Some(Box::new(Slot { future, call, waker }));
        self.woken.lock().push_back(key);
    }

    /// Polls each woken call once, until `polled` returns `Break`. `polled` is called after each
    /// poll. If calls are left then, the connection is woken.
    pub(crate) fn poll(&mut self, mut polled: impl FnMut(&F) -> ControlFlow<()>) {
        let count = self.woken.lock().len();
        for left in (0..count).rev() {
            let Some(key) = self.woken.lock().pop_front() else { return };
            // A call that has completed may still be in the list.
            let Some(Some(slot)) = self.slots.get_mut(key) else { continue };
            // Wakes from here on request another poll.
            slot.call.listed.swap(false, Ordering::AcqRel);
            let Slot { future, waker, .. } = &mut **slot;
            let done = Pin::new(&mut *future).poll(&mut Context::from_waker(waker)).is_ready();
            let enough = polled(future).is_break();
            if done {
                self.remove(key);
            }
            if enough {
                if left > 0 {
                    self.woken.connection.wake_by_ref();
                }
                return;
            }
        }
    }

    fn remove(&mut self, key: usize) {
        self.slots[key] = None;
        self.free.push(key);
        if self.is_empty() {
            // An idle connection keeps no memory of earlier calls.
            (self.slots, self.free) = (Vec::new(), Vec::new());
        }
    }
}

impl Woken {
    fn lock(&self) -> MutexGuard<'_, VecDeque<usize>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for CallWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.listed.swap(true, Ordering::AcqRel) {
            self.woken.lock().push_back(self.key);
            self.woken.connection.wake_by_ref();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::future::poll_fn;
    use std::sync::atomic::AtomicUsize;
    use std::task::Poll;

    use super::*;

    const ALL: fn(&Call<'_>) -> ControlFlow<()> = |_| ControlFlow::Continue(());

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    type Call<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

    fn pending<'a>() -> PendingCalls<Call<'a>> {
        PendingCalls::new(Waker::noop().clone())
    }

    #[test]
    fn pending_calls_polls_skipped_calls_first() {
        let polled = RefCell::new(String::new());
        let busy = |name| -> Call<'_> {
            let polled = &polled;
            Box::pin(poll_fn(move |cx| {
                polled.borrow_mut().push(name);
                cx.waker().wake_by_ref();
                Poll::Pending
            }))
        };
        let mut calls = pending();
        for name in ['a', 'b', 'c'] {
            calls.push(busy(name));
        }
        for _ in 0..4 {
            let mut time_for = 2;
            calls.poll(|_| {
                time_for -= 1;
                if time_for == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
        }
        assert_eq!(*polled.borrow(), "abcabcab");
    }

    #[test]
    fn pending_calls_wakes_the_connection_for_skipped_calls() {
        let wakes = Arc::new(Wakes::default());
        let mut calls: PendingCalls<Call<'_>> = PendingCalls::new(wakes.clone().into());
        for _ in 0..2 {
            calls.push(Box::pin(std::future::pending()));
        }
        for expected in [1, 1] {
            calls.poll(|_| ControlFlow::Break(()));
            assert_eq!(wakes.0.load(Ordering::SeqCst), expected);
        }
    }

    #[test]
    fn pending_calls_polls_woken_calls_once_per_turn() {
        let wakers = RefCell::new(Vec::new());
        let mut calls = pending();
        calls.push(Box::pin(poll_fn(|cx| {
            wakers.borrow_mut().push(cx.waker().clone());
            if wakers.borrow().len() == 3 { Poll::Ready(()) } else { Poll::Pending }
        })));
        for polls in [1, 1] {
            calls.poll(ALL);
            assert_eq!(wakers.borrow().len(), polls);
        }
        for polls in [2, 3] {
            let waker = wakers.borrow()[0].clone();
            waker.wake_by_ref();
            waker.wake();
            calls.poll(ALL);
            assert_eq!(wakers.borrow().len(), polls);
        }
        assert!(calls.is_empty());
        wakers.borrow()[0].wake_by_ref();
        calls.poll(ALL);
    }

    #[test]
    fn pending_calls_reuses_slots() {
        let mut calls = pending();
        calls.push(Box::pin(std::future::pending()));
        for _ in 0..10 {
            calls.push(Box::pin(std::future::ready(())));
            assert_eq!(calls.len(), 2);
            calls.poll(ALL);
        }
        assert_eq!((calls.len(), calls.slots.len(), calls.take().count()), (1, 2, 1));
        assert!(calls.is_empty());
    }
}
