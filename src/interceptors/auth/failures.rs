use std::time::Duration;

use crate::interceptors::client::Client;
use crate::interceptors::proxies::{Proxies, TrustedProxy};
use crate::interceptors::too_many::retry_after;
use crate::rate::{Local, Rate};
use crate::{Call, Status};

/// Unless it is set. Verified at this rate, the bad tokens of an address take no more than 0.03 % of
/// a core; so generous is it for the sake of those who share an address, as behind a NAT.
const PER_MINUTE: u32 = 600;

/// Addresses that are remembered, at 48 bytes each: 3 MiB where all of them are in use.
const ROOM: usize = 1 << 16;

/// How often an address may fail, as it is set.
#[derive(Debug, Clone)]
pub(super) struct FailureLimit {
    /// `None` is any number.
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

    /// Nothing has failed yet.
    pub(super) fn start(self) -> Option<Failures> {
        let rate = Rate { calls: self.per_minute?, period: Duration::from_secs(60) };
        Some(Failures { rate, proxies: self.proxies, addresses: Local::with_room_for(ROOM) })
    }
}

/// Calls whose credentials were bad, by their addresses: who they are from nobody knows.
///
/// Calls that succeed never come here, but those whose credentials are seen for the first time. So
/// whoever has been known keeps calling, also from an address from which others guess.
#[derive(Debug)]
pub(super) struct Failures {
    rate: Rate,
    proxies: Proxies,
    addresses: Local,
}

impl Failures {
    /// The answer to a call from an address that has failed too often for its credentials to be
    /// worth a look; `None` for others.
    pub(super) fn excess(&self, call: &Call) -> Option<Status> {
        let address = Client::by_address(call, &self.proxies);
        self.addresses.peek(address, self.rate).err().map(|wait| self.refusal(wait))
    }

    /// Counts a failure, and gives the answer to it if it is one too many.
    pub(super) fn count(&self, call: &Call) -> Option<Status> {
        let address = Client::by_address(call, &self.proxies);
        self.addresses.take(address, self.rate).err().map(|wait| self.refusal(wait))
    }

    fn refusal(&self, wait: Duration) -> Status {
        retry_after(self.rate, "calls with invalid credentials", wait)
    }
}
