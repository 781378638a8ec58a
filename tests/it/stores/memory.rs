use user_server::store::memory::MemoryStore;

use super::contract::{Place, contract};

/// The memory of the process: whoever opens it anew finds it empty.
struct Memory;

impl Place for Memory {
    type Store = MemoryStore;

    async fn open(&self) -> MemoryStore {
        MemoryStore::new()
    }
}

contract!(async { Some(Memory) });
