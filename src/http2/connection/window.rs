/// A window of the client for the data that it sends (RFC 9113, 6.9).
#[derive(Debug)]
pub(super) struct ReceiveWindow {
    /// The bytes that the client may send. Negative if it has exceeded the window.
    left: i64,
    /// The bytes that were released since the last WINDOW_UPDATE.
    released: u32,
}

impl ReceiveWindow {
    pub(super) fn new(size: u32) -> Self {
        Self { left: i64::from(size), released: 0 }
    }

    /// Adds bytes that the client gets by other means than [`release`](Self::release).
    pub(super) fn grow(&mut self, bytes: u32) {
        self.left += i64::from(bytes);
    }

    /// Counts received bytes. Returns false if they exceed the window.
    pub(super) fn take(&mut self, bytes: usize) -> bool {
        self.left -= bytes as i64;
        self.left >= 0
    }

    /// Returns bytes to the window. Returns the increment of a WINDOW_UPDATE if one is due: when
    /// the client would gain half as much as it may send.
    pub(super) fn release(&mut self, bytes: usize) -> Option<u32> {
        self.released = self.released.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
        if self.released == 0 || i64::from(self.released) < self.left / 2 {
            return None;
        }
        let increment = std::mem::take(&mut self.released);
        self.left += i64::from(increment);
        Some(increment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn receive_window_is_returned_in_large_parts() {
        let mut window = ReceiveWindow::new(100);
        assert!(window.take(20));
        assert_eq!(window.release(20), None);
        assert!(window.take(40));
        assert_eq!(window.release(0), Some(20));
        assert!(window.take(60));
        assert_eq!(window.release(1), Some(1), "the client may send nothing");
        assert!(!window.take(2));
    }
}
