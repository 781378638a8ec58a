use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use http::HeaderName;

use crate::{Call, Interceptor, Next, Outcome, PeerAddr};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// A proxy whose `x-forwarded-for` is trusted: an address, a network such as `10.0.0.0/8` or
/// `2001:db8::/32`, or `unix` for all peers on Unix sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrustedProxy(Kind);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Network { address: IpAddr, prefix: u32 },
    Unix,
}

impl TrustedProxy {
    /// Whether this peer is the proxy.
    pub fn is(self, peer: &PeerAddr) -> bool {
        match (self.0, peer) {
            (Kind::Network { .. }, PeerAddr::Tcp(address)) => self.has(address.ip()),
            (Kind::Unix, PeerAddr::Unix) => true,
            _ => false,
        }
    }

    fn has(self, other: IpAddr) -> bool {
        match (self.0, other.to_canonical()) {
            (Kind::Network { address: IpAddr::V4(own), prefix }, IpAddr::V4(other)) => {
                let differ = own.to_bits() ^ other.to_bits();
                differ.leading_zeros() >= prefix
            }
            (Kind::Network { address: IpAddr::V6(own), prefix }, IpAddr::V6(other)) => {
                let differ = own.to_bits() ^ other.to_bits();
                differ.leading_zeros() >= prefix
            }
            _ => false,
        }
    }
}

impl FromStr for TrustedProxy {
    type Err = InvalidProxy;

    fn from_str(text: &str) -> Result<Self, InvalidProxy> {
        if text == "unix" {
            return Ok(Self(Kind::Unix));
        }
        let parse = || {
            let (address, prefix) = match text.split_once('/') {
                Some((address, prefix)) => (address, Some(prefix)),
                None => (text, None),
            };
            let address: IpAddr = address.parse().ok()?;
            let bits = if address.is_ipv4() { 32 } else { 128 };
            let prefix = prefix.map_or(Some(bits), |prefix| prefix.parse().ok())?;
            (prefix <= bits).then_some(Self(Kind::Network { address, prefix }))
        };
        parse().ok_or_else(|| InvalidProxy(text.to_owned()))
    }
}

/// A text that is not a [`TrustedProxy`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidProxy(String);

impl fmt::Display for InvalidProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "invalid proxy {:?}: wanted an address, a network such as 10.0.0.0/8, or unix",
            self.0
        )
    }
}

impl std::error::Error for InvalidProxy {}

/// Finds the client of each call that comes from a trusted proxy. The [`ClientAddr`] is then in the
/// extensions of the call. The access log, the audit lines of `Auth` and the spans of `Traces` show it
/// beside the peer: register this before them.
///
/// ```
/// use balafon::Router;
/// use balafon::interceptors::TrustProxies;
///
/// let router = Router::new().intercept(TrustProxies::new().trust("10.0.0.0/8".parse()?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct TrustProxies(Proxies);

impl TrustProxies {
    /// Trusts no proxy yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Trusts the `x-forwarded-for` of calls from this proxy. May be repeated. In a chain of proxies
    /// each has to be trusted.
    #[must_use]
    pub fn trust(mut self, proxy: TrustedProxy) -> Self {
        self.0.0.push(proxy);
        self
    }
}

impl Interceptor for TrustProxies {
    async fn intercept(&self, mut call: Call, next: Next<'_>) -> Outcome {
        if let Some(address) = self.0.forwarded(&call) {
            call.extensions_mut().insert(ClientAddr(address.to_canonical()));
        }
        next.run(call).await
    }
}

/// The address of the client for which a trusted proxy makes a call. [`TrustProxies`] puts it into
/// the extensions of the call. Calls without a trusted proxy have none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientAddr(pub IpAddr);

impl ClientAddr {
    /// The address of this call, if it has one.
    pub fn of(call: &Call) -> Option<Self> {
        call.extensions().get().copied()
    }
}

impl fmt::Display for ClientAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The trusted proxies.
#[derive(Debug, Clone, Default)]
pub(in crate::interceptors) struct Proxies(pub(in crate::interceptors) Vec<TrustedProxy>);

impl Proxies {
    /// The address that trusted proxies have forwarded. `None` if the call does not come from one, or
    /// if the proxy sent no address.
    ///
    /// Each proxy appends the address of its own peer. So entries are read from the end, as long as the
    /// entry after them is a trusted proxy. The client may have made up all earlier entries.
    pub(super) fn forwarded(&self, call: &Call) -> Option<IpAddr> {
        if !self.0.iter().any(|proxy| proxy.is(&call.peer().addr)) {
            return None;
        }
        let values = call.metadata().as_headers().get_all(X_FORWARDED_FOR).iter().rev();
        let entries = values.flat_map(|value| value.to_str().unwrap_or_default().rsplit(','));
        let mut client = None;
        for entry in entries {
            let Some(address) = address(entry.trim()) else { break };
            client = Some(address);
            if !self.0.iter().any(|proxy| proxy.has(address)) {
                break;
            }
        }
        client
    }
}

/// Parses an entry; some proxies add the port.
fn address(text: &str) -> Option<IpAddr> {
    let bare = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    let with_port = || text.parse().ok().map(|address: SocketAddr| address.ip());
    text.parse().ok().or_else(with_port).or_else(bare)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trusted_network_has_addresses_of_its_prefix() {
        let has = |network: &str, address: &str| {
            network.parse::<TrustedProxy>().unwrap().has(address.parse().unwrap())
        };
        for (network, within, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.1"),
            ("192.0.2.1", "192.0.2.1", "192.0.2.2"),
            ("192.0.2.128/25", "192.0.2.129", "192.0.2.127"),
            ("192.0.2.128/25", "::ffff:192.0.2.129", "2001:db8::1"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::1"),
            ("::1", "::1", "127.0.0.1"),
        ] {
            assert!(has(network, within), "{network} {within}");
            assert!(!has(network, outside), "{network} {outside}");
        }
        assert!(has("0.0.0.0/0", "203.0.113.9") && has("::/0", "2001:db8::1"));
    }

    #[test]
    fn trusted_proxy_refuses_other_texts() {
        for text in ["", "localhost", "10.0.0.0/33", "::/129", "10.0.0.0/", "10/8", "10.0.0.0/-1"] {
            let error = text.parse::<TrustedProxy>().unwrap_err().to_string();
            assert!(error.contains("10.0.0.0/8"), "{error}");
        }
    }

    #[test]
    fn forwarded_addresses_may_have_ports() {
        for text in ["192.0.2.1", "192.0.2.1:80"] {
            assert_eq!(address(text), Some([192, 0, 2, 1].into()), "{text}");
        }
        for text in ["::1", "[::1]", "[::1]:80"] {
            assert_eq!(address(text), "::1".parse().ok(), "{text}");
        }
        for text in ["", "unknown", "_hidden", "192.0.2"] {
            assert_eq!(address(text), None, "{text}");
        }
    }
}
