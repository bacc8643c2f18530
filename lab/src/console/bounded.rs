//! A file that holds a channel's bytes and stays small: of a flood, head and tail are kept, with a
//! note between them that says how much is left out.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::manifest::{Diagnostic, Result};

/// How much of a channel is kept on disk.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Bytes from the beginning.
    pub head: u64,
    /// Bytes before the end.
    pub tail: u64,
}

impl Default for Bounds {
    /// 16 MiB and 4 MiB: more than any case prints that somebody will read, and a thousand runs
    /// that flood every channel still fit a disk.
    fn default() -> Self {
        Self { head: 16 << 20, tail: 4 << 20 }
    }
}

/// A channel's bytes on disk. While it is written, what lies behind the head is a ring.
#[derive(Debug)]
pub struct Bounded {
    file: File,
    bounds: Bounds,
    length: u64,
}

impl Bounded {
    /// Starts with an empty file.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn create(path: &Path, bounds: Bounds) -> Result<Self> {
        let file = File::options().read(true).write(true).create(true).truncate(true).open(path);
        let file = file.map_err(|e| Diagnostic::io("make", path, &e))?;
        Ok(Self { file, bounds, length: 0 })
    }

    /// Takes bytes as they come.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn feed(&mut self, mut bytes: &[u8]) -> std::io::Result<()> {
        let Bounds { head, tail } = self.bounds;
        while !bytes.is_empty() {
            let (at, room) = match self.length.checked_sub(head) {
                None => (self.length, head - self.length),
                Some(behind) => (head + behind % tail, tail - behind % tail),
            };
            let fits = bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX));
            self.file.write_all_at(&bytes[..fits], at)?;
            self.length += fits as u64;
            bytes = &bytes[fits..];
        }
        Ok(())
    }

    /// How many bytes came, kept or not.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// No more bytes come: brings the tail into its order and puts the note before it.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn finish(&mut self) -> std::io::Result<()> {
        let Bounds { head, tail } = self.bounds;
        let Some(left_out) = self.length.checked_sub(head + tail).filter(|n| *n > 0) else {
            return Ok(());
        };
        let mut ring = vec![0; usize::try_from(tail).unwrap_or(0)];
        self.file.read_exact_at(&mut ring, head)?;
        ring.rotate_left(((self.length - head) % tail) as usize);
        let note = note(left_out);
        self.file.write_all_at(note.as_bytes(), head)?;
        self.file.write_all_at(&ring, head + note.len() as u64)
    }
}

/// What stands where bytes are left out.
pub fn note(left_out: u64) -> String {
    format!("\n[lab: {left_out} bytes are left out here]\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is kept of `length` bytes that come in pieces of `piece`.
    fn kept(length: usize, piece: usize) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        let mut file = Bounded::create(&path, Bounds { head: 100, tail: 40 }).unwrap();
        let bytes: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
        bytes.chunks(piece).for_each(|part| file.feed(part).unwrap());
        file.finish().unwrap();
        assert_eq!(file.length(), length as u64);
        std::fs::read(&path).unwrap()
    }

    #[test]
    fn head_note_and_tail_whatever_the_pieces() {
        for length in [0, 1, 99, 100, 101, 139, 140, 141, 180, 181, 1000] {
            let all: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
            let expected = match length {
                0..=140 => all,
                _ => {
                    let note = note(length as u64 - 140);
                    [&all[..100], note.as_bytes(), &all[length - 40..]].concat()
                }
            };
            for piece in [1, 7, 40, 41, 1000] {
                assert_eq!(kept(length, piece), expected, "{length} bytes by {piece}");
            }
        }
    }
}
