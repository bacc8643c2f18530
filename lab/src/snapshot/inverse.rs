//! The inverse of [`super::render`], written from its documentation: for tests and fuzzing only. A
//! rendering that leads back to its transcript is no other transcript's.

use super::output::Output;
use super::transcript::{Entry, Transcript};
use crate::manifest::{Action, MachineOp};

/// Output that was too long to be shown whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    /// Which output: the index of its entry, and whether it is the late one.
    pub of: (usize, bool),
    /// How many of the bytes that were read back are its head.
    pub head: usize,
    /// How long it was.
    pub length: usize,
    /// Its BLAKE3, in hex.
    pub digest: String,
}

/// The transcript of a rendering without cut outputs.
///
/// # Errors
/// The line that is not of the form; or an output is cut.
#[cfg(test)]
pub(super) fn read_back(text: &str) -> Result<Transcript, String> {
    match read_back_cut(text)? {
        (transcript, cuts) if cuts.is_empty() => Ok(transcript),
        _ => Err("an output is cut".into()),
    }
}

/// The transcript of a rendering, with heads and tails of what was cut put together.
///
/// # Errors
/// The line that is not of the form.
pub(super) fn read_back_cut(text: &str) -> Result<(Transcript, Vec<Cut>), String> {
    let text = match text.strip_suffix("\n\\ empty line at end of output\n") {
        Some(before) => format!("{before}\n\n"),
        None => text.to_string(),
    };
    let text = text.strip_suffix('\n').ok_or("no newline at the end")?;
    let mut reader = Reader::default();
    for line in text.split('\n') {
        reader.line(line).ok_or_else(|| format!("this has no place here: {line:?}"))?;
    }
    Ok((Transcript { entries: reader.entries }, reader.cuts))
}

#[derive(Default)]
struct Reader {
    entries: Vec<Entry>,
    cuts: Vec<Cut>,
    late: bool,
    in_command: bool,
}

impl Reader {
    fn line(&mut self, line: &str) -> Option<()> {
        let command = |line: &str| String::from_utf8(unescape(line.get(2..).unwrap_or(""))).ok();
        if line == "[no steps]" {
            return self.entries.is_empty().then_some(());
        }
        let action = match line.strip_prefix("[machine ") {
            Some(words) => Some(Action::Machine(operation(words.strip_suffix(']')?)?)),
            None if line == "$" || line.starts_with("$ ") => Some(Action::Run(command(line)?)),
            None => None,
        };
        if let Some(action) = action {
            (self.late, self.in_command) = (false, matches!(action, Action::Run(_)));
            let (output, late) = (Output::default(), Output::default());
            let status = Some(0);
            self.entries.push(Entry { index: 0, action, output, late, status, shell_gone: false });
            return Some(());
        }
        let index = self.entries.len().checked_sub(1)?;
        let entry = &mut self.entries[index];
        if self.in_command && (line == ">" || line.starts_with("> ")) {
            let Action::Run(text) = &mut entry.action else { return None };
            text.push('\n');
            text.push_str(&command(line)?);
            return Some(());
        }
        self.in_command = false;
        let number = |prefix| line.strip_prefix(prefix)?.strip_suffix(']')?.parse::<i32>().ok();
        if line == "[late]" {
            self.late = true;
        } else if line == "[not ended]" {
            entry.status = None;
        } else if line == "[shell ended, status unknown]" {
            (entry.status, entry.shell_gone) = (None, true);
        } else if let Some(status) = number("[status ") {
            entry.status = Some(status);
        } else if let Some(status) = number("[shell ended, status ") {
            (entry.status, entry.shell_gone) = (Some(status), true);
        } else {
            let into = if self.late { &mut entry.late } else { &mut entry.output };
            let Output::Whole(into) = into else { return None };
            if line == "\\ no newline at end of output" {
                return (into.pop()? == b'\n').then_some(());
            }
            if let Some(words) = line.strip_prefix("[cut, ") {
                let (length, digest) = words.split_once(" bytes in all, blake3 ")?;
                self.cuts.push(Cut {
                    of: (index, self.late),
                    head: into.len(),
                    length: length.parse().ok()?,
                    digest: digest.strip_suffix(']')?.into(),
                });
                return Some(());
            }
            into.extend(unescape(line));
            into.push(b'\n');
        }
        Some(())
    }
}

fn operation(words: &str) -> Option<MachineOp> {
    let (what, rest) = words.split_once(' ').unwrap_or((words, ""));
    Some(match (what, rest) {
        ("power-cut", "") => MachineOp::PowerCut,
        ("reboot", "") => MachineOp::Reboot,
        ("hotplug", disk) => MachineOp::Hotplug(disk.into()),
        ("unplug", disk) => MachineOp::Unplug(disk.into()),
        ("resize", rest) => {
            let (disk, size) = rest.split_once(' ')?;
            MachineOp::Resize(disk.into(), crate::manifest::parse_size(size).ok()?)
        }
        ("sysrq", key) => MachineOp::Sysrq(key.chars().next()?),
        _ => return None,
    })
}

fn unescape(line: &str) -> Vec<u8> {
    let mut rest = line.as_bytes();
    let mut out = Vec::new();
    while let Some((byte, after)) = rest.split_first() {
        let hex = after.strip_prefix(b"x").and_then(|h| std::str::from_utf8(h.get(..2)?).ok());
        match hex.and_then(|h| u8::from_str_radix(h, 16).ok()) {
            Some(value) if *byte == b'\\' => {
                out.push(value);
                rest = &after[3..];
            }
            _ => {
                out.push(*byte);
                rest = after;
            }
        }
    }
    out
}
