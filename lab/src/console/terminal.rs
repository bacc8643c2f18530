//! The steps' terminal: raw bytes, counted. Which bytes belong to which step is said by PID 1's
//! records; nothing here looks into the bytes.

use std::path::Path;

use super::bounded::{Bounded, Bounds};
use crate::manifest::Result;

/// The terminal channel of one run, kept in a file.
#[derive(Debug)]
pub struct Terminal {
    file: Bounded,
}

impl Terminal {
    /// Starts with an empty file.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn create(path: &Path) -> Result<Self> {
        Ok(Self { file: Bounded::create(path, Bounds::default())? })
    }

    /// Takes bytes as they come.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn feed(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.file.feed(bytes)
    }

    /// Bytes received so far, kept or not.
    pub fn length(&self) -> u64 {
        self.file.length()
    }

    /// The channel is read to its end.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn finish(&mut self) -> std::io::Result<()> {
        self.file.finish()
    }
}
