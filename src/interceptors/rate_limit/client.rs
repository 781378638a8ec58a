use std::fmt;
use std::net::IpAddr;

use crate::interceptors::proxies::Proxies;
use crate::rate::network;
use crate::{Call, PeerAddr};

/// For whom a call counts. As text it is the same on all instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::interceptors) enum Client<'a> {
    /// A principal, by the way in which it is proved: a token and an API key may share a name. Or
    /// something on this machine.
    Named(&'static str, &'a str),
    /// A network that belongs to one client, as far as can be told.
    Network(IpAddr),
}

impl<'a> Client<'a> {
    /// The principal, else the address: that from which the call comes, or which proxies that are
    /// trusted have forwarded.
    pub(super) fn of(call: &'a Call, proxies: &Proxies) -> Self {
        principal(call).unwrap_or_else(|| Self::where_it_is(call, proxies))
    }

    /// The address, whoever it is.
    pub(in crate::interceptors) fn where_it_is(call: &Call, proxies: &Proxies) -> Self {
        match (proxies.forwarded(call), &call.peer().addr) {
            (Some(address), _) => Self::address(address),
            (None, PeerAddr::Tcp(address)) => Self::address(address.ip()),
            (None, PeerAddr::Unix) => Self::Named("unix", ""),
            (None, PeerAddr::Memory) => Self::Named("memory", ""),
        }
    }

    fn address(address: IpAddr) -> Self {
        Self::Network(network(address))
    }
}

#[cfg(feature = "auth")]
fn principal(call: &Call) -> Option<Client<'_>> {
    use crate::interceptors::auth::{Principal, PrincipalKind};

    let principal: &Principal = call.extensions().get()?;
    let way = match principal.kind() {
        PrincipalKind::Token => "token",
        PrincipalKind::ApiKey => "key",
        PrincipalKind::Certificate => "certificate",
    };
    Some(Client::Named(way, principal.name()))
}

#[cfg(not(feature = "auth"))]
fn principal(_: &Call) -> Option<Client<'_>> {
    None
}

impl fmt::Display for Client<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(way, name) => write!(f, "{way}:{name}"),
            Self::Network(address) => address.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_version_6_stands_for_its_network() {
        let client = |text: &str| Client::address(text.parse().unwrap());
        assert_eq!(client("2001:db8::1"), client("2001:db8::ffff:1"));
        assert_ne!(client("2001:db8::1"), client("2001:db8:0:1::1"));
        assert_ne!(client("192.0.2.1"), client("192.0.2.2"));
        assert_eq!(client("::ffff:192.0.2.1"), client("192.0.2.1"));
    }

    #[test]
    fn no_two_clients_share_a_text() {
        let address: IpAddr = "2001:db8::".parse().unwrap();
        let texts =
            [Client::Named("token", "a"), Client::Named("key", "a")].map(|it| it.to_string());
        assert_eq!(texts, ["token:a", "key:a"]);
        assert_eq!(Client::Network(address).to_string(), "2001:db8::");
    }
}
