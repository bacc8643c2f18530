//! The memory that guests may take together.

use std::sync::{Condvar, Mutex};

use crate::machine::room;

/// Memory that guests may take together: what the host could give when the command began, less a
/// tenth. One run always goes, so that a single large guest is refused by its own check instead.
pub(super) struct Memory {
    left: Mutex<u64>,
    total: u64,
    freed: Condvar,
}

/// A share of it, given back when dropped.
pub(super) struct Taken<'a> {
    memory: &'a Memory,
    bytes: u64,
}

impl Memory {
    /// What the host can give now.
    pub fn new() -> Self {
        let total = room::available_memory().unwrap_or(u64::MAX) / 10 * 9;
        Self { left: Mutex::new(total), total, freed: Condvar::new() }
    }

    /// Waits until `bytes` are free.
    pub fn take(&self, bytes: u64) -> Taken<'_> {
        let bytes = bytes.min(self.total);
        let mut left = self.left.lock().expect("no panics hold it");
        while *left < bytes {
            left = self.freed.wait(left).expect("no panics hold it");
        }
        *left -= bytes;
        Taken { memory: self, bytes }
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        *self.memory.left.lock().expect("no panics hold it") += self.bytes;
        self.memory.freed.notify_all();
    }
}
