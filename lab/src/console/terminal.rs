//! The steps' terminal: raw bytes, counted. Which bytes belong to which step is said by PID 1's
//! records; nothing here looks into the bytes.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::Path;

use crate::manifest::{Diagnostic, Result};

/// The terminal channel of one run, kept in a file.
#[derive(Debug)]
pub struct Terminal {
    file: File,
    length: u64,
}

impl Terminal {
    /// Starts with an empty file.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn create(path: &Path) -> Result<Self> {
        let file = File::options().read(true).write(true).create(true).truncate(true).open(path);
        Ok(Self { file: file.map_err(|e| Diagnostic::io("make", path, &e))?, length: 0 })
    }

    /// Takes bytes as they come.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn feed(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.file.write_all(bytes)?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Bytes received so far.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The bytes of a range, as far as they have come.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn bytes(&mut self, range: Range<u64>) -> std::io::Result<Vec<u8>> {
        let end = range.end.min(self.length);
        let start = range.start.min(end);
        let mut bytes = vec![0; usize::try_from(end - start).unwrap_or(usize::MAX)];
        self.file.seek(SeekFrom::Start(start))?;
        self.file.read_exact(&mut bytes)?;
        self.file.seek(SeekFrom::Start(self.length))?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_exact_and_writing_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let mut terminal = Terminal::create(&folder.path().join("terminal")).unwrap();
        terminal.feed(b"one\0two").unwrap();
        assert_eq!(terminal.bytes(3..7).unwrap(), b"\0two");
        terminal.feed(b"three").unwrap();
        assert_eq!(terminal.bytes(4..99).unwrap(), b"twothree");
        assert_eq!(terminal.length(), 12);
    }
}
