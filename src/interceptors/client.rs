//! The client of a call, as rate limits count it. `auth` and `rate_limit` both build on this.

use std::fmt;
use std::net::IpAddr;

#[cfg(feature = "rate-limit")]
use super::principal::{Principal, PrincipalKind};
use super::proxies::Proxies;
use crate::rate::network;
use crate::{Call, PeerAddr};

/// The client that a call counts for. Its text is the same on all instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Client<'a> {
    /// A name within a namespace: a token and an API key may have the same name.
    Named(&'static str, &'a str),
    /// A network that usually belongs to one client.
    Network(IpAddr),
}

impl<'a> Client<'a> {
    /// The key that a key function gave, else the principal, else the address.
    #[cfg(feature = "rate-limit")]
    pub(super) fn new(key: Option<&'a str>, call: &'a Call, proxies: &Proxies) -> Self {
        if let Some(key) = key {
            return Self::Named("custom", key);
        }
        match call.extensions().get::<Principal>() {
            Some(principal) => Self::Named(namespace(principal.kind()), principal.name()),
            None => Self::by_address(call, proxies),
        }
    }

    /// The address that trusted proxies have forwarded, else the address of the peer.
    pub(super) fn by_address(call: &Call, proxies: &Proxies) -> Self {
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

#[cfg(feature = "rate-limit")]
fn namespace(kind: PrincipalKind) -> &'static str {
    match kind {
        PrincipalKind::Token => "token",
        PrincipalKind::ApiKey => "key",
        PrincipalKind::Certificate => "certificate",
        PrincipalKind::Other => "other",
    }
}

impl fmt::Display for Client<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(namespace, name) => write!(f, "{namespace}:{name}"),
            Self::Network(address) => address.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_address_of_ipv6_is_its_network() {
        let client = |text: &str| Client::address(text.parse().unwrap());
        assert_eq!(client("2001:db8::1"), client("2001:db8::ffff:1"));
        assert_ne!(client("2001:db8::1"), client("2001:db8:0:1::1"));
        assert_ne!(client("192.0.2.1"), client("192.0.2.2"));
        assert_eq!(client("::ffff:192.0.2.1"), client("192.0.2.1"));
    }

    #[test]
    fn client_texts_are_unique() {
        let address: IpAddr = "2001:db8::".parse().unwrap();
        let texts =
            [Client::Named("token", "a"), Client::Named("key", "a")].map(|it| it.to_string());
        assert_eq!(texts, ["token:a", "key:a"]);
        assert_eq!(Client::Network(address).to_string(), "2001:db8::");
    }
}
