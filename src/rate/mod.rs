//! Rate limits by key: for calls of clients, and for handshakes of addresses.

mod local;
mod window;

use std::net::{IpAddr, Ipv6Addr};

pub(crate) use self::local::Local;
pub(crate) use self::window::Rate;
#[cfg(feature = "rate-limit")]
pub(crate) use self::window::Taken;
#[cfg(all(test, feature = "redis"))]
pub(crate) use self::window::Window;

/// The network that usually belongs to one client: its IPv4 address, or its IPv6 /64 (RFC 4291,
/// 2.5.1).
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}
