use user_server::store::memory::MemoryStore;

use super::contract::{Place, contract};

/// The memory of the process: a store that is opened again is empty.
struct Memory;

impl Place for Memory {
    type Store = MemoryStore;

    async fn open(&self) -> MemoryStore {
        MemoryStore::new()
    }
}

contract!(async { Some(Memory) });
