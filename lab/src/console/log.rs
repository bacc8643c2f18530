//! The kernel's log: kept in a file, scanned for splats line by line.

use std::os::fd::AsFd;
use std::path::Path;

use super::bounded::{Bounded, Bounds};
use super::line::{Line, Writer};
use super::splat::{Splat, SplatKind};
use super::splat_report::Report;
use super::{Flow, drain};
use crate::machine::LogEnd;
use crate::manifest::Result;

/// Splats with the same words beyond this many are not kept: a kernel that warns in a loop says it
/// often enough, and must not hide what else it says.
const KEPT_OF_THE_SAME: usize = 16;

/// So many splats are kept in all. What comes then is not known, and the log not whole.
const KEPT: usize = 512;

/// A line longer than this is scanned in pieces.
const LONGEST_LINE: usize = 16 << 10;

/// Registers belong to a panic that follows within this time, in microseconds.
const BEFORE: u64 = 100_000;

/// What kernel/reboot.c says when nothing is left to be done but to stop.
const HALTED: &str = "reboot: System halted";

/// The last lines that are kept for one-line causes.
const TAIL: usize = 64;

/// The log channel of one run.
#[derive(Debug)]
pub struct Log {
    file: Bounded,
    line: Vec<u8>,
    lines: usize,
    /// Lines of the boot that is under way.
    said: usize,
    writer: Writer,
    splats: Vec<Splat>,
    /// Of the last of `splats`, while it goes on.
    report: Option<Report>,
    /// The last registers that were printed, and when: UML prints them before it panics.
    registers: Option<(u64, String)>,
    believed: bool,
    dropped: bool,
    /// The last line of a boot had no newline.
    unfinished: bool,
    tail: std::collections::VecDeque<String>,
    halted: bool,
}

impl Log {
    /// Starts with an empty file.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn create(path: &Path) -> Result<Self> {
        Ok(Self {
            file: Bounded::create(path, Bounds::default())?,
            line: Vec::new(),
            lines: 0,
            said: 0,
            writer: Writer::default(),
            splats: Vec::new(),
            report: None,
            registers: None,
            believed: true,
            dropped: false,
            unfinished: false,
            tail: Default::default(),
            halted: false,
        })
    }

    /// Reads what is there, at most some `budget` bytes; `ended` says that the machine writes no
    /// more.
    ///
    /// # Errors
    /// The channel's, and those of the file.
    pub fn read(
        &mut self,
        end: &LogEnd,
        buffer: &mut [u8],
        budget: usize,
        ended: bool,
    ) -> std::io::Result<Flow> {
        match end {
            LogEnd::Stream(fd) => drain(fd.as_fd(), buffer, budget, |bytes| self.feed(bytes)),
            LogEnd::Memory(memory) => {
                let until = self.file.length() + budget as u64;
                while self.file.length() < until {
                    match memory.read(buffer)? {
                        0 if ended => {
                            self.dropped |= memory.is_full();
                            return Ok(Flow::Closed);
                        }
                        0 => break,
                        n => self.feed(&buffer[..n])?,
                    }
                }
                Ok(Flow::Open)
            }
        }
    }

    /// Takes bytes as they come.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn feed(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.file.feed(bytes)?;
        for mut piece in bytes.split_inclusive(|&b| b == b'\n') {
            // Cut where the line is too long, not where the bytes happened to come in two reads.
            while !piece.is_empty() {
                let fits = piece.len().min(LONGEST_LINE - self.line.len());
                self.line.extend_from_slice(&piece[..fits]);
                if self.line.ends_with(b"\n") || self.line.len() == LONGEST_LINE {
                    self.end_line();
                }
                piece = &piece[fits..];
            }
        }
        Ok(())
    }

    /// The channel is read to its end: the last line counts even without its newline.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn finish(&mut self) -> std::io::Result<()> {
        self.end();
        self.file.finish()
    }

    fn end(&mut self) {
        if !self.line.is_empty() {
            self.end_line();
        }
        self.report = None;
    }

    /// From here on nothing is taken for a splat: the lab itself asks the kernel to dump its tasks.
    pub fn stop_believing(&mut self) {
        self.believed = false;
        self.report = None;
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

    /// Whether the kernel's last word in this boot is that it has halted.
    pub fn is_halted(&self) -> bool {
        self.halted
    }

    /// Whether the kernel has said anything in this boot.
    pub fn is_silent(&self) -> bool {
        self.said == 0 && self.line.is_empty()
    }

    /// A boot is over: its last line counts even without its newline.
    pub fn end_boot(&mut self) {
        self.unfinished = !self.line.is_empty();
        self.end();
    }

    /// The log of the next boot follows in the same file, below a line that says so; numbers of
    /// lines go on.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn begin_boot(&mut self, boot: usize) -> std::io::Result<()> {
        let newline = if std::mem::take(&mut self.unfinished) { "\n" } else { "" };
        self.file.feed(format!("{newline}-- boot {boot} --\n").as_bytes())?;
        self.lines += 1;
        self.said = 0;
        self.halted = false;
        Ok(())
    }

    /// How many lines came.
    pub fn lines(&self) -> usize {
        self.lines
    }

    /// How many bytes came.
    pub fn length(&self) -> u64 {
        self.file.length()
    }

    fn end_line(&mut self) {
        self.lines += 1;
        self.said += 1;
        let raw = String::from_utf8_lossy(&self.line);
        let text = raw.trim_end();
        if let Some(line) = self.writer.kernels(&raw).filter(|_| self.believed) {
            let line = innermost(line, self.lines);
            self.halted = line.text == HALTED;
            let begun = self.splats.len();
            self.dropped |= !scan(&line, self.lines, &mut self.splats, &mut self.report);
            if line.text.starts_with("RIP: ") {
                self.registers = Some((line.micros, line.text.to_string()));
            } else if let (Some(splat), Some((when, rip))) =
                (self.splats.get_mut(begun), &self.registers)
                && splat.kind == SplatKind::Panic
                && line.micros.saturating_sub(*when) < BEFORE
            {
                splat.report.push(rip.clone());
            }
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

/// User space may have left a line with a stamp of its own, and without an end, on the console: what
/// the kernel says next stands behind it in the same line.
fn innermost(line: Line<'_>, number: usize) -> Line<'_> {
    let mut at = line;
    while let Some(behind) = Line::parse(at.text) {
        if Splat::begins(&behind, number).is_some() || behind.text == HALTED {
            return behind;
        }
        at = behind;
    }
    line
}

/// Takes a line of the kernel's as the next of the splat that goes on, or as the first of another;
/// whether there was room for it.
fn scan(
    line: &Line<'_>,
    number: usize,
    splats: &mut Vec<Splat>,
    report: &mut Option<Report>,
) -> bool {
    let found = Splat::begins(line, number);
    if let (Some(open), Some(splat)) = (report.as_mut(), splats.last_mut()) {
        let another = found.as_ref().is_some_and(|found| !Report::includes(splat, found));
        if !another && open.takes(splat, line) {
            return true;
        }
        *report = None;
        // Its echo comes behind the rule that ends the report. A second oops is another fault.
        if found.as_ref().is_some_and(Report::is_echo) {
            return true;
        }
    }
    let Some(splat) = found else { return true };
    let words = splat.words();
    let same = |other: &&Splat| other.kind == splat.kind && other.words() == words;
    if splats.iter().filter(same).count() >= KEPT_OF_THE_SAME {
        return true;
    }
    if splats.len() >= KEPT {
        return false;
    }
    *report = Some(Report::begin(line));
    splats.push(splat);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(text: &str) -> Log {
        let folder = tempfile::tempdir().unwrap();
        let mut log = Log::create(&folder.path().join("kernel.log")).unwrap();
        log.feed(text.as_bytes()).unwrap();
        log.finish().unwrap();
        log
    }

    #[test]
    fn splats_are_found_across_reads_and_at_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = Log::create(&folder.path().join("kernel.log")).unwrap();
        log.feed(b"[    0.100000] fine\n[    0.200000] WARN").unwrap();
        log.feed(b"ING: CPU: 0 PID: 1 at f\n[    0.300000] Kernel panic - not sync").unwrap();
        assert_eq!(log.splats().len(), 1);
        log.feed(b"ing: x").unwrap();
        log.finish().unwrap();
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

    #[test]
    fn what_a_terminal_wrote_is_not_the_kernels() {
        let forged = "[    0.000000] Linux version 6.1\n[    1.000000] BUG: forged\r\nBUG: plain\n";
        assert_eq!(log(forged).splats(), []);
        // A serial driver that writes both for everybody.
        let serial = "[    0.000000] Linux version 6.1\r\n[    1.000000] BUG: real\r\n";
        assert_eq!(log(serial).splats().len(), 1);
    }

    #[test]
    fn the_labs_own_questions_are_no_splats() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = Log::create(&folder.path().join("kernel.log")).unwrap();
        log.feed(b"[    0.200000] WARNING: CPU: 0 PID: 1 at f\n").unwrap();
        log.stop_believing();
        log.feed(b"[    0.300000] BUG: workqueue lockup - pool\n").unwrap();
        assert_eq!(log.splats().len(), 1);
    }

    #[test]
    fn a_line_that_user_space_left_open_hides_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = Log::create(&folder.path().join("kernel.log")).unwrap();
        log.feed(b"[    1.000000] first\n[    2.000000] left open[    2.100000] BUG: x\n").unwrap();
        log.feed(b"[    3.000000] of a dump: [    1.000000] fine\n").unwrap();
        let seen: Vec<_> = log.splats().iter().map(|s| (s.kind.name(), s.number)).collect();
        assert_eq!(seen, [("bug", 2)]);
    }

    /// A loop of warnings that a case allows must not hide another warning, nor a second oops the first.
    #[test]
    fn many_of_the_same_hide_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let new = || Log::create(&folder.path().join("kernel.log")).unwrap();
        let warn = |at: usize, what: &str| {
            format!("[{at:5}.000000] WARNING: at fs/{what}.c:1 f+0x1/0x2\n")
        };
        let mut log = new();
        (0..100).for_each(|at| log.feed(warn(at, "same").as_bytes()).unwrap());
        log.feed(warn(200, "other").as_bytes()).unwrap();
        let others: Vec<_> = log.splats().iter().filter(|s| s.line.contains("other")).collect();
        assert_eq!((log.splats().len(), others.len()), (KEPT_OF_THE_SAME + 1, 1));
        assert!(!log.has_gaps());

        let mut log = new();
        for at in [1, 90] {
            let oops =
                format!("[{at:5}.000000] BUG: kernel NULL pointer dereference, address: 0\n");
            log.feed(oops.as_bytes()).unwrap();
            log.feed(format!("[{at:5}.000100] Oops: 0002 [#1] PREEMPT\n").as_bytes()).unwrap();
        }
        assert_eq!(log.splats().len(), 2, "{:?}", log.splats());

        let mut log = new();
        (0..KEPT + 1).for_each(|at| {
            let name: String = at.to_string().bytes().map(|b| (b - b'0' + b'a') as char).collect();
            log.feed(warn(at, &name).as_bytes()).unwrap();
        });
        assert!(log.has_gaps() && log.splats().len() == KEPT);
    }
}
