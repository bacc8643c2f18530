//! The kernel's log: kept whole in a file, scanned for splats line by line.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use super::splat::Splat;
use crate::manifest::{Diagnostic, Result};

/// Splats of one kind beyond this many are not kept: a kernel that warns in a loop says it often
/// enough, and must not hide what else it says.
const KEPT_OF_A_KIND: usize = 16;

/// A line longer than this is scanned in pieces.
const LONGEST_LINE: usize = 16 << 10;

/// The last lines that are kept for one-line causes.
const TAIL: usize = 24;

/// The log channel of one run.
#[derive(Debug)]
pub struct Log {
    file: File,
    line: Vec<u8>,
    lines: usize,
    /// Lines of the boot that is under way.
    said: usize,
    splats: Vec<Splat>,
    dropped: bool,
    /// The last line of a boot had no newline.
    unfinished: bool,
    tail: std::collections::VecDeque<String>,
}

impl Log {
    /// Starts with an empty file.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn create(path: &Path) -> Result<Self> {
        let file = File::create(path).map_err(|e| Diagnostic::io("make", path, &e))?;
        Ok(Self {
            file,
            line: Vec::new(),
            lines: 0,
            said: 0,
            splats: Vec::new(),
            dropped: false,
            unfinished: false,
            tail: Default::default(),
        })
    }

    /// Takes bytes as they come.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn feed(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.file.write_all(bytes)?;
        for piece in bytes.split_inclusive(|&b| b == b'\n') {
            self.line.extend_from_slice(piece);
            if piece.ends_with(b"\n") || self.line.len() > LONGEST_LINE {
                self.end_line();
            }
        }
        Ok(())
    }

    /// The channel is read to its end: the last line counts even without its newline.
    pub fn finish(&mut self) {
        if !self.line.is_empty() {
            self.end_line();
        }
    }

    /// The splats seen so far, in order.
    pub fn splats(&self) -> &[Splat] {
        &self.splats
    }

    /// Whether the kernel says that it could not print all it had to say (kernel/printk/printk.c).
    pub fn has_gaps(&self) -> bool {
        self.dropped
    }

    /// The last lines.
    pub fn tail(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.tail.iter().map(String::as_str)
    }

    /// Whether the kernel has said anything in this boot.
    pub fn is_silent(&self) -> bool {
        self.said == 0 && self.line.is_empty()
    }

    /// A boot is over: its last line counts even without its newline.
    pub fn end_boot(&mut self) {
        self.unfinished = !self.line.is_empty();
        self.finish();
    }

    /// The log of the next boot follows in the same file, below a line that says so; numbers of
    /// lines go on.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn begin_boot(&mut self, boot: usize) -> std::io::Result<()> {
        let newline = if std::mem::take(&mut self.unfinished) { "\n" } else { "" };
        writeln!(self.file, "{newline}-- boot {boot} --")?;
        self.lines += 1;
        self.said = 0;
        Ok(())
    }

    fn end_line(&mut self) {
        self.lines += 1;
        self.said += 1;
        let text = String::from_utf8_lossy(&self.line);
        let text = text.trim_end();
        if let Some(splat) = Splat::find(text, self.lines)
            && self.splats.iter().filter(|s| s.kind == splat.kind).count() < KEPT_OF_A_KIND
        {
            self.splats.push(splat);
        }
        if text.contains(" printk messages dropped") {
            self.dropped = true;
        }
        if self.tail.len() == TAIL {
            self.tail.pop_front();
        }
        self.tail.push_back(text.to_string());
        self.line.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splats_are_found_across_reads_and_at_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = Log::create(&folder.path().join("kernel.log")).unwrap();
        log.feed(b"[    0.100000] fine\n[    0.200000] WARN").unwrap();
        log.feed(b"ING: CPU: 0 PID: 1 at f\n[    0.300000] Kernel panic - not sync").unwrap();
        assert_eq!(log.splats().len(), 1);
        log.feed(b"ing: x").unwrap();
        log.finish();
        let seen: Vec<_> = log.splats().iter().map(|s| (s.kind.name(), s.number)).collect();
        assert_eq!(seen, [("warning", 2), ("panic", 3)]);
    }

    #[test]
    fn numbers_of_lines_go_on_from_boot_to_boot() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kernel.log");
        let mut log = Log::create(&path).unwrap();
        log.feed(b"[    0.100000] one\n[    0.200000] cut sho").unwrap();
        log.end_boot();
        log.begin_boot(1).unwrap();
        assert!(log.is_silent());
        log.feed(b"[    0.100000] WARNING: CPU: 0 PID: 1 at f\n").unwrap();
        log.end_boot();
        log.begin_boot(2).unwrap();
        log.feed(b"[    0.100000] Kernel panic - not syncing: x\n").unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains("cut sho\n-- boot 1 --\n[") && text.contains("f\n-- boot 2 --\n["));
        let lines: Vec<&str> = text.lines().collect();
        for splat in log.splats() {
            assert!(lines[splat.number - 1].ends_with(&splat.line));
        }
        assert_eq!(log.splats().len(), 2);
    }
}
