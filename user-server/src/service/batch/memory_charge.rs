//! The memory of a `CreateUsers` stream.

use balafon::{Call, Charge};

/// The bytes that a stream may hold without a charge, because a charge takes a lock. It is less than the head
/// of a call.
const UNCHARGED: usize = 4 * 1024;

/// Charges the memory that a stream holds while it waits for the next message.
pub(super) struct MemoryCharge {
    charge: Charge,
    charged: usize,
}

impl MemoryCharge {
    pub(super) fn new(call: &Call) -> Self {
        Self { charge: call.charge(0), charged: 0 }
    }

    /// Sets the charge to `bytes`, unless the difference is at most [`UNCHARGED`].
    pub(super) fn set(&mut self, bytes: usize) {
        if bytes.abs_diff(self.charged) > UNCHARGED {
            self.charge.set(bytes);
            self.charged = bytes;
        }
    }
}
