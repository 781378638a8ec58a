//! Which connections there is room for.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::task::AbortHandle;

/// Connections at a time. A Prometheus or two, the probes of an orchestrator, people; and a few
/// addresses that hold as many as they may.
pub(super) const MAX_CONNECTIONS: usize = 64;

/// Of these, those of one address: a quarter, so that no single one locks the others out.
pub(super) const MAX_OF_ADDRESS: usize = 16;

/// The connections that are open. A new one always finds room: where there is none, it takes that of
/// the oldest that has not sent its request yet, or else of the oldest.
#[derive(Default)]
pub(super) struct Room {
    /// In the order in which they came.
    open: Mutex<Vec<Connection>>,
}

struct Connection {
    number: u64,
    address: IpAddr,
    /// It has not sent its request yet.
    waits: bool,
    task: AbortHandle,
}

impl Room {
    /// Serves a connection in a task of its own.
    pub(super) fn admit<F>(self: &Arc<Self>, peer: IpAddr, serve: impl FnOnce(Place) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let address = network(peer);
        let mut open = self.open();
        if let Some(victim) = victim(&open, address) {
            let Connection { task, waits, .. } = open.remove(victim);
            tracing::debug!(%peer, waits, "an admin connection is closed to make room");
            task.abort();
        }
        let number = open.last().map_or(0, |newest| newest.number + 1);
        let place = Place { room: self.clone(), number };
        let task = tokio::spawn(serve(place)).abort_handle();
        open.push(Connection { number, address, waits: true, task });
    }

    /// Nothing is ever half done here.
    fn open(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of a connection, until it is dropped.
pub(super) struct Place {
    room: Arc<Room>,
    number: u64,
}

impl Place {
    /// The request has come.
    pub(super) fn has_request(&self) {
        for connection in self.room.open().iter_mut() {
            connection.waits &= connection.number != self.number;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.room.open().retain(|connection| connection.number != self.number);
    }
}

/// The connection that has to go before one of this address is let in.
fn victim(open: &[Connection], address: IpAddr) -> Option<usize> {
    let of_address = open.iter().filter(|it| it.address == address).count();
    let may_go = |it: &Connection| match of_address < MAX_OF_ADDRESS {
        true => open.len() >= MAX_CONNECTIONS,
        false => it.address == address,
    };
    let waiting = open.iter().position(|it| it.waits && may_go(it));
    waiting.or_else(|| open.iter().position(may_go))
}

/// Who has one address of a /64 has all of them (RFC 4291, 2.5.1).
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

    /// A new connection that is never done, and how to see that it is.
    fn admit(room: &Arc<Room>, address: IpAddr) -> Arc<Place> {
        let mut kept = None;
        room.admit(address, |place| {
            let place = Arc::new(place);
            kept = Some(place.clone());
            async move {
                let _place = place;
                pending().await
            }
        });
        kept.unwrap()
    }

    fn other(number: usize) -> IpAddr {
        Ipv6Addr::new(2, 0, 0, number as u16, 0, 0, 0, 1).into()
    }

    fn numbers(room: &Room) -> Vec<u64> {
        room.open().iter().map(|it| it.number).collect()
    }

    #[tokio::test]
    async fn admin_room_of_an_address_goes_to_its_newest_connections() {
        let room = Arc::new(Room::default());
        let _other = admit(&room, other(0));
        let places: Vec<_> = (0..50).map(|_| admit(&room, ONE)).collect();
        let newest = places.iter().skip(50 - MAX_OF_ADDRESS).map(|place| place.number);
        let expected: Vec<_> = [0].into_iter().chain(newest).collect();
        assert_eq!(numbers(&room), expected);
    }

    #[tokio::test]
    async fn admin_connections_that_wait_make_room_first() {
        let room = Arc::new(Room::default());
        let places: Vec<_> = (0..MAX_OF_ADDRESS).map(|_| admit(&room, ONE)).collect();
        places[0].has_request();
        let _next = admit(&room, ONE);
        assert!(numbers(&room).contains(&places[0].number));
        assert!(!numbers(&room).contains(&places[1].number));
        places.iter().for_each(|place| place.has_request());
        _next.has_request();
        let _last = admit(&room, ONE);
        assert!(!numbers(&room).contains(&places[0].number));
    }

    #[tokio::test]
    async fn admin_room_that_is_full_takes_another_address() {
        let room = Arc::new(Room::default());
        let _places: Vec<_> = (0..MAX_CONNECTIONS).map(|n| admit(&room, other(n))).collect();
        let place = admit(&room, ONE);
        assert_eq!(numbers(&room).len(), MAX_CONNECTIONS);
        assert!(numbers(&room).contains(&place.number) && !numbers(&room).contains(&0));
        drop(_places);
    }

    #[test]
    fn admin_addresses_are_networks_of_ipv6() {
        let same = ["1:0:0:0:1::", "1::ff"].map(|it| network(it.parse().unwrap()));
        assert_eq!(same[0], same[1]);
        assert_ne!(network(other(0)), network(other(1)));
        let mapped = ["::ffff:1.2.3.4", "1.2.3.4"].map(|it| network(it.parse().unwrap()));
        assert_eq!(mapped[0], mapped[1]);
    }
}
