use std::time::Duration;

use crate::interceptors::client::Client;
use crate::interceptors::proxies::{Proxies, TrustedProxy};
use crate::interceptors::too_many::retry_after;
use crate::rate::{Local, Rate};
use crate::{Call, Status};

/// The default limit. Verifying invalid tokens at this rate takes at most 0.03 % of a core. It is high
/// for clients that share an address, as behind a NAT.
const PER_MINUTE: u32 = 600;

/// The number of addresses that are counted, at 48 bytes each: 3 MiB when all of them are in use.
const ROOM: usize = 1 << 16;

/// The settings of the limit.
#[derive(Debug, Clone)]
pub(super) struct FailureLimit {
    /// `None` is no limit.
    pub(super) per_minute: Option<u32>,
    pub(super) proxies: Proxies,
}

impl FailureLimit {
    pub(super) fn new() -> Self {
        Self { per_minute: Some(PER_MINUTE), proxies: Proxies::default() }
    }

    pub(super) fn trust_proxy(&mut self, proxy: TrustedProxy) {
        self.proxies.0.push(proxy);
    }

    /// Starts to count.
    pub(super) fn start(self) -> Option<Failures> {
        let rate = Rate { calls: self.per_minute?, period: Duration::from_secs(60) };
        Some(Failures { rate, proxies: self.proxies, addresses: Local::with_room_for(ROOM) })
    }
}

/// Counts calls with invalid credentials by address, since they have no principal.
///
/// Calls with cached credentials are not checked here. So known clients keep calling from an address
/// from which others guess.
#[derive(Debug)]
pub(super) struct Failures {
    rate: Rate,
    proxies: Proxies,
    addresses: Local,
}

impl Failures {
    /// The status of a call from an address with too many failures. `None` if its credentials may be
    /// verified.
    pub(super) fn excess(&self, call: &Call) -> Option<Status> {
        let address = Client::by_address(call, &self.proxies);
        self.addresses.peek(address, self.rate).err().map(|wait| self.refusal(wait))
    }

    /// Counts a failure. If it exceeds the limit, returns the status of the call.
    pub(super) fn count(&self, call: &Call) -> Option<Status> {
        let address = Client::by_address(call, &self.proxies);
        self.addresses.take(address, self.rate).err().map(|wait| self.refusal(wait))
    }

    fn refusal(&self, wait: Duration) -> Status {
        retry_after(self.rate, "calls with invalid credentials", wait)
    }
}
