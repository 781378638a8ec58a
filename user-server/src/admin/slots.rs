//! The limit on admin connections, and which connection is closed for a new one.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::task::AbortHandle;

/// The maximum number of connections. It fits a few Prometheus servers, the probes of an orchestrator and
/// operators, even if a few addresses use all of their share.
pub(super) const MAX_CONNECTIONS: usize = 64;

/// The maximum number of connections of one address: a quarter, so that one address cannot lock out the
/// others.
pub(super) const MAX_OF_ADDRESS: usize = 16;

/// The open connections. A new connection is always admitted. If all slots are taken, the oldest connection
/// without a request is closed for it, or else the oldest of all.
#[derive(Default)]
pub(super) struct Slots {
    /// From the oldest to the newest.
    open: Mutex<Vec<Connection>>,
}

struct Connection {
    number: u64,
    address: IpAddr,
    /// Whether its request has not arrived yet.
    is_waiting: bool,
    task: AbortHandle,
}

impl Slots {
    /// Serves a connection in its own task.
    pub(super) fn admit<F>(self: &Arc<Self>, peer: IpAddr, serve: impl FnOnce(Slot) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let address = network(peer);
        let mut open = self.open();
        if let Some(victim) = victim(&open, address) {
            let Connection { task, is_waiting, .. } = open.remove(victim);
            tracing::debug!(%peer, is_waiting, "an admin connection is closed for a new one");
            task.abort();
        }
        let number = open.last().map_or(0, |newest| newest.number + 1);
        let slot = Slot { slots: self.clone(), number };
        let task = tokio::spawn(serve(slot)).abort_handle();
        open.push(Connection { number, address, is_waiting: true, task });
    }

    /// No panic can leave the list half changed, so a poisoned lock is harmless.
    fn open(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The slot of a connection. It is free again when this is dropped.
pub(super) struct Slot {
    slots: Arc<Slots>,
    number: u64,
}

impl Slot {
    /// Notes that the request has arrived.
    pub(super) fn has_request(&self) {
        for connection in self.slots.open().iter_mut() {
            if connection.number == self.number {
                connection.is_waiting = false;
            }
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.open().retain(|connection| connection.number != self.number);
    }
}

/// The connection to close before a new one of this address is admitted.
fn victim(open: &[Connection], address: IpAddr) -> Option<usize> {
    let of_address = open.iter().filter(|it| it.address == address).count();
    let may_close = |it: &Connection| match of_address < MAX_OF_ADDRESS {
        true => open.len() >= MAX_CONNECTIONS,
        false => it.address == address,
    };
    let waiting = open.iter().position(|it| it.is_waiting && may_close(it));
    waiting.or_else(|| open.iter().position(may_close))
}

/// The address that is counted: a client with one IPv6 address controls its whole /64 (RFC 4291, 2.5.1).
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::future::pending;

    use super::*;

    const ONE: IpAddr = IpAddr::V6(Ipv6Addr::new(1, 0, 0, 0, 0, 0, 0, 1));

    /// Admits a connection that never ends, and returns its slot.
    fn admit(slots: &Arc<Slots>, address: IpAddr) -> Arc<Slot> {
        let mut kept = None;
        slots.admit(address, |slot| {
            let slot = Arc::new(slot);
            kept = Some(slot.clone());
            async move {
                let _slot = slot;
                pending().await
            }
        });
        kept.unwrap()
    }

    fn other(number: usize) -> IpAddr {
        Ipv6Addr::new(2, 0, 0, number as u16, 0, 0, 0, 1).into()
    }

    fn numbers(slots: &Slots) -> Vec<u64> {
        slots.open().iter().map(|it| it.number).collect()
    }

    #[tokio::test]
    async fn admin_slots_go_to_the_newest_connections() {
        let slots = Arc::new(Slots::default());
        let _other = admit(&slots, other(0));
        let places: Vec<_> = (0..50).map(|_| admit(&slots, ONE)).collect();
        let newest = places.iter().skip(50 - MAX_OF_ADDRESS).map(|place| place.number);
        let expected: Vec<_> = [0].into_iter().chain(newest).collect();
        assert_eq!(numbers(&slots), expected);
    }

    #[tokio::test]
    async fn admin_connections_without_a_request_close_first() {
        let slots = Arc::new(Slots::default());
        let places: Vec<_> = (0..MAX_OF_ADDRESS).map(|_| admit(&slots, ONE)).collect();
        places[0].has_request();
        let _next = admit(&slots, ONE);
        assert!(numbers(&slots).contains(&places[0].number));
        assert!(!numbers(&slots).contains(&places[1].number));
        places.iter().for_each(|place| place.has_request());
        _next.has_request();
        let _last = admit(&slots, ONE);
        assert!(!numbers(&slots).contains(&places[0].number));
    }

    #[tokio::test]
    async fn admin_slots_that_are_full_admit_another_address() {
        let slots = Arc::new(Slots::default());
        let _places: Vec<_> = (0..MAX_CONNECTIONS).map(|n| admit(&slots, other(n))).collect();
        let place = admit(&slots, ONE);
        assert_eq!(numbers(&slots).len(), MAX_CONNECTIONS);
        assert!(numbers(&slots).contains(&place.number) && !numbers(&slots).contains(&0));
        drop(_places);
    }

    #[test]
    fn admin_address_is_its_ipv6_network() {
        let same = ["1:0:0:0:1::", "1::ff"].map(|it| network(it.parse().unwrap()));
        assert_eq!(same[0], same[1]);
        assert_ne!(network(other(0)), network(other(1)));
        let mapped = ["::ffff:1.2.3.4", "1.2.3.4"].map(|it| network(it.parse().unwrap()));
        assert_eq!(mapped[0], mapped[1]);
    }
}
