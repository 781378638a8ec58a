use balafon::{Call, Charge};

/// Bytes that a stream may hold without a charge, which takes a lock: less than a call's head.
const UNCHARGED: usize = 4 * 1024;

/// What a stream has in memory while it waits for the next message.
pub(super) struct Held {
    charge: Charge,
    charged: usize,
}

impl Held {
    pub(super) fn new(call: &Call) -> Self {
        Self { charge: call.charge(0), charged: 0 }
    }

    /// Charges so many bytes, give or take the [first](UNCHARGED) of them.
    pub(super) fn set(&mut self, bytes: usize) {
        if bytes.abs_diff(self.charged) > UNCHARGED {
            self.charge.set(bytes);
            self.charged = bytes;
        }
    }
}
