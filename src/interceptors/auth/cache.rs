use std::array;
use std::sync::{PoisonError, RwLock};

use rustc_hash::FxHashMap;

use crate::interceptors::principal::Principal;

/// With so many, threads rarely contend for one.
const SHARDS: usize = 16;

/// 2,048 credentials in all: with tokens of 1 KB, 2 MB; with the longest, 16 MB.
const SHARD_LEN: usize = 128;

/// The last bytes of a credential are its key. Tokens and certificates end in their signature. A client
/// cannot choose a valid signature, so these bytes are as good as a hash.
const TAIL: usize = 32;

/// A cache of valid credentials, so that a signature is verified once and not at each call. RS256 costs
/// 20 to 30 µs, a whole unary call less than 5 µs.
///
/// A hit compares the whole credential, so it depends on no property of a hash. An entry counts only in
/// the generation of files in which it was added. New keys and revocations therefore take effect at once.
#[derive(Debug)]
pub(super) struct Cache {
    shards: [RwLock<FxHashMap<[u8; TAIL], Entry>>; SHARDS],
}

struct Entry {
    credential: Box<[u8]>,
    principal: Principal,
    validity: Validity,
}

/// The time and the generation in which an entry counts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Validity {
    /// In seconds since 1970, inclusive.
    pub(super) until: u64,
    pub(super) generation: u64,
}

impl Validity {
    fn holds(&self, now: u64, generation: u64) -> bool {
        now <= self.until && generation == self.generation
    }
}

impl Cache {
    pub(super) fn new() -> Self {
        Self { shards: array::from_fn(|_| RwLock::default()) }
    }

    pub(super) fn get(&self, credential: &[u8], now: u64, generation: u64) -> Option<Principal> {
        let tail = tail(credential)?;
        let shard = self.shard(&tail).read().unwrap_or_else(PoisonError::into_inner);
        let entry = shard.get(&tail)?;
        let hit = *entry.credential == *credential && entry.validity.holds(now, generation);
        hit.then(|| entry.principal.clone())
    }

    /// `now` and the generation of `validity` are from before the credential was verified.
    pub(super) fn put(&self, credential: &[u8], principal: Principal, now: u64, valid: Validity) {
        let Some(tail) = tail(credential) else { return };
        let mut shard = self.shard(&tail).write().unwrap_or_else(PoisonError::into_inner);
        if shard.len() >= SHARD_LEN && !shard.contains_key(&tail) {
            shard.retain(|_, entry| entry.validity.holds(now, valid.generation));
            // Any entry: one that is in use is added again.
            if let Some(key) = (shard.len() >= SHARD_LEN).then(|| shard.keys().next()).flatten() {
                let key = *key;
                shard.remove(&key);
            }
        }
        shard.insert(tail, Entry { credential: credential.into(), principal, validity: valid });
    }

    fn shard(&self, tail: &[u8; TAIL]) -> &RwLock<FxHashMap<[u8; TAIL], Entry>> {
        &self.shards[usize::from(tail[0]) % SHARDS]
    }
}

fn tail(credential: &[u8]) -> Option<[u8; TAIL]> {
    credential.last_chunk().copied()
}

/// Shows no credentials.
impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entry")
            .field("principal", &self.principal)
            .field("validity", &self.validity)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interceptors::principal::PrincipalKind;

    const VALID: Validity = Validity { until: 10, generation: 1 };

    fn alice() -> Principal {
        Principal::new("alice", PrincipalKind::Token)
    }

    #[test]
    fn cache_hit_needs_credential_time_and_generation() {
        let cache = Cache::new();
        let token = [b"payload".as_slice(), &[7; TAIL]].concat();
        cache.put(&token, alice(), 0, VALID);
        assert_eq!(cache.get(&token, 10, 1), Some(alice()));
        assert_eq!(cache.get(&token, 11, 1), None, "expired");
        assert_eq!(cache.get(&token, 10, 2), None, "the files have changed");
        let tampered = [b"Payload".as_slice(), &[7; TAIL]].concat();
        assert_eq!(cache.get(&tampered, 10, 1), None, "the same signature under something else");
        cache.put(b"short", alice(), 0, VALID);
        assert_eq!(cache.get(b"short", 0, 1), None);
    }

    #[test]
    fn cache_stays_bounded() {
        let cache = Cache::new();
        for n in 0..20_000_u32 {
            let mut token = [0; TAIL];
            token[..4].copy_from_slice(&n.to_le_bytes());
            cache.put(&token, alice(), 0, VALID);
            assert!(cache.get(&token, 0, 1).is_some());
        }
        let len: usize = cache.shards.iter().map(|shard| shard.read().unwrap().len()).sum();
        assert_eq!(len, SHARDS * SHARD_LEN);
    }
}
