//! What a run's steps printed, and its one rendering as text: two different transcripts never
//! render alike, so that a pass is never a coincidence.

use std::fmt::Write;

use super::escape::{Standing, push_line};
use super::output::{Output, PART};
use crate::manifest::{Action, MachineOp};

/// What the steps of a run printed, in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Transcript {
    /// The steps that began, from the first on without a gap.
    pub entries: Vec<Entry>,
}

/// One step that began.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Index into the case's steps. Not rendered: the order says it.
    pub index: usize,
    /// What was done.
    pub action: Action,
    /// What the terminal brought from its start to its end, filtered.
    pub output: Output,
    /// What came after its end and before the next step's start, filtered.
    pub late: Output,
    /// Its status; `None`: it never ended.
    pub status: Option<i32>,
    /// It ended the shell.
    pub shell_gone: bool,
}

const NO_NEWLINE: &str = "\\ no newline at end of output\n";
const EMPTY_LINE: &str = "\\ empty line at end of output\n";

/// The transcript as text that ends with exactly one newline and no blank line. Injective, up to
/// what the filters replace and to newlines at the end of a command, which mean nothing to a shell.
pub fn render(transcript: &Transcript) -> String {
    let mut out = String::new();
    for entry in &transcript.entries {
        match &entry.action {
            Action::Run(command) => push_command(&mut out, command),
            Action::Machine(op) => push_line(&mut out, operation(op).as_bytes(), Standing::Command),
        }
        push_output(&mut out, &entry.output, Standing::FirstOutput);
        match (entry.status, entry.shell_gone) {
            (Some(0), false) => {}
            (Some(status), false) => push(&mut out, format_args!("[status {status}]\n")),
            (Some(status), true) => {
                push(&mut out, format_args!("[shell ended, status {status}]\n"))
            }
            (None, false) => out.push_str("[not ended]\n"),
            (None, true) => out.push_str("[shell ended, status unknown]\n"),
        }
        if !entry.late.is_empty() {
            out.push_str("[late]\n");
            push_output(&mut out, &entry.late, Standing::Output);
        }
    }
    if out.is_empty() {
        out.push_str("[no steps]\n");
    }
    // insta, like many an editor, drops blank lines at the end of a file.
    if out.ends_with("\n\n") {
        out.pop();
        out.push_str(EMPTY_LINE);
    }
    out
}

fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = out.write_fmt(text);
}

fn push_command(out: &mut String, command: &str) {
    for (number, line) in command.trim_end_matches('\n').split('\n').enumerate() {
        out.push_str(if number == 0 { "$" } else { ">" });
        if line.is_empty() {
            out.push('\n');
        } else {
            out.push(' ');
            push_line(out, line.as_bytes(), Standing::Command);
        }
    }
}

/// The marker line of a machine step.
fn operation(op: &MachineOp) -> String {
    format!("[machine {op}]")
}

fn push_output(out: &mut String, output: &Output, first: Standing) {
    let last = match output {
        Output::Whole(bytes) => {
            push_lines(out, bytes, first);
            bytes
        }
        Output::Cut { head, tail, length, digest } => {
            push_lines(out, &head[..head_end(head)], first);
            push(out, format_args!("[cut, {length} bytes in all, blake3 {digest}]\n"));
            push_lines(out, &tail[tail_start(tail)..], Standing::Output);
            tail
        }
    };
    if !last.is_empty() && !last.ends_with(b"\n") {
        out.push_str(NO_NEWLINE);
    }
}

fn push_lines(out: &mut String, bytes: &[u8], first: Standing) {
    if bytes.is_empty() {
        return;
    }
    let lines = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    for (number, line) in lines.split(|b| *b == b'\n').enumerate() {
        push_line(out, line, if number == 0 { first } else { Standing::Output });
    }
}

/// The last line end within reach, else a character's.
fn head_end(bytes: &[u8]) -> usize {
    match bytes[..PART].iter().rposition(|b| *b == b'\n') {
        Some(newline) => newline + 1,
        None => (PART - 3..=PART).rev().find(|at| is_boundary(bytes, *at)).unwrap_or(PART),
    }
}

/// The first line start within reach, else a character's.
fn tail_start(bytes: &[u8]) -> usize {
    let start = bytes.len() - PART;
    // The last byte's newline starts no line that could be shown.
    match bytes[start - 1..bytes.len() - 1].iter().position(|b| *b == b'\n') {
        Some(newline) => start + newline,
        None => (start..=start + 3).find(|at| is_boundary(bytes, *at)).unwrap_or(start),
    }
}

fn is_boundary(bytes: &[u8], at: usize) -> bool {
    bytes[at] & 0xc0 != 0x80
}

#[cfg(test)]
mod tests {
    use super::super::filters::Filters;
    use super::super::inverse::read_back;
    use super::super::output::WHOLE;
    use super::*;

    fn printed(bytes: &[u8]) -> Output {
        Output::new(bytes, &Filters::default())
    }

    fn step(command: &str, output: &[u8], status: i32) -> Entry {
        Entry {
            index: 0,
            action: Action::Run(command.into()),
            output: printed(output),
            late: Output::default(),
            status: Some(status),
            shell_gone: false,
        }
    }

    fn show(entries: Vec<Entry>) -> String {
        render(&Transcript { entries })
    }

    #[test]
    fn reads_like_a_session() {
        let cut = Entry { action: Action::Machine(MachineOp::PowerCut), ..step("", b"", 0) };
        let entries = vec![
            step("mount -t tmpfs none /tmp &&\n\ncd /tmp\n", b"", 0),
            Entry { late: printed(b"bye"), ..step("cat m/etc/greeting", b"No such file\n", 1) },
            cut,
            Entry { shell_gone: true, ..step("exit 3", b"", 3) },
            Entry { status: None, ..step("sleep 9", b"x", 0) },
        ];
        let expected = "$ mount -t tmpfs none /tmp &&\n>\n> cd /tmp\n$ cat m/etc/greeting\n\
            No such file\n[status 1]\n[late]\nbye\n\\ no newline at end of output\n\
            [machine power-cut]\n$ exit 3\n[shell ended, status 3]\n$ sleep 9\nx\n\
            \\ no newline at end of output\n[not ended]\n";
        assert_eq!(show(entries), expected);
    }

    #[test]
    fn ends_with_one_newline_and_no_blank_line() {
        assert_eq!(show(vec![]), "[no steps]\n");
        assert_eq!(show(vec![step("a", b"", 0)]), "$ a\n");
        assert_eq!(show(vec![step("a", b"\n", 0)]), "$ a\n\\ empty line at end of output\n");
        assert_eq!(
            show(vec![step("a", b"x\n\n\n", 0)]),
            "$ a\nx\n\n\\ empty line at end of output\n"
        );
        assert_eq!(show(vec![step("a", b"x\n\n", 1)]), "$ a\nx\n\n[status 1]\n");
    }

    #[test]
    fn machine_steps_in_the_manifests_words() {
        let words = |op| operation(&op);
        assert_eq!(words(MachineOp::Resize("a".into(), 128 << 20)), "[machine resize a 128M]");
        assert_eq!(words(MachineOp::Resize("a".into(), 512)), "[machine resize a 512]");
        assert_eq!(words(MachineOp::Sysrq('w')), "[machine sysrq w]");
    }

    #[test]
    fn long_output_is_cut_at_line_ends() {
        let numbers: Vec<u8> = (0..100_000).flat_map(|n| format!("{n}\n").into_bytes()).collect();
        let text = show(vec![step("seq", &numbers, 0)]);
        let (head, tail) = text.split_once("[cut, ").unwrap();
        assert!(head.starts_with("$ seq\n0\n1\n") && head.ends_with("\n282\n"), "{head}");
        let digest = blake3::hash(&numbers).to_string();
        assert!(tail.starts_with(&format!("588890 bytes in all, blake3 {digest}]\n99")), "{tail}");
        assert!(tail.ends_with("\n99999\n") && text.len() < 3 * PART);

        let whole = &numbers[..WHOLE];
        assert!(!show(vec![step("seq", whole, 0)]).contains("[cut"));
        // One different byte in the part that is not shown.
        let mut other = numbers.clone();
        other[300_000] ^= 1;
        assert_ne!(show(vec![step("seq", &other, 0)]), text);
    }

    #[test]
    fn long_output_without_line_ends_is_cut_at_characters() {
        let euros = format!("ab{}", "€".repeat(30_000));
        let text = show(vec![step("x", euros.as_bytes(), 0)]);
        assert!(!text.contains("\\x"), "{text}");
        assert!(text.ends_with("€\n\\ no newline at end of output\n"));
        let noise = [b'\x80'; WHOLE + 1];
        assert!(show(vec![step("x", &noise, 0)]).len() < 10 * PART);
        let blank = [b'\n'; WHOLE + 1];
        assert!(show(vec![step("x", &blank, 0)]).ends_with("\n\\ empty line at end of output\n"));
    }

    /// A small generator with a fixed seed (splitmix64): failures repeat.
    struct Dice(u64);

    impl Dice {
        fn roll(&mut self, sides: usize) -> usize {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            (z ^ (z >> 31)) as usize % sides
        }

        /// Bytes made of what the rendering treats specially, and of noise.
        fn bytes(&mut self, most: usize) -> Vec<u8> {
            const PIECES: [&str; 40] = [
                "\n",
                "\n",
                "\n",
                " ",
                "\t",
                "\\",
                "\\x",
                "x",
                "4",
                "1",
                "f",
                "F",
                "\\ ",
                "$ ",
                "$",
                ">",
                "> ",
                "[",
                "]",
                "[status 1]",
                "[late]",
                "[not ended]",
                "[machine power-cut]",
                "[cut, ",
                "[shell ended, status 1]",
                "[no steps]",
                "\\ no newline at end of output",
                "\\ empty line at end of output",
                "\\x5c",
                "\r",
                "\0",
                "\x1b",
                "\u{a0}",
                "\u{2028}",
                "\u{85}",
                "é",
                "€",
                "<<<<<<< ",
                "=======",
                "---",
            ];
            let mut out = Vec::new();
            for _ in 0..self.roll(most) {
                match self.roll(50) {
                    n if n < PIECES.len() => out.extend(PIECES[n].as_bytes()),
                    _ => out.push(self.roll(256) as u8),
                }
            }
            out
        }

        fn transcript(&mut self) -> Transcript {
            let entries = (0..self.roll(4)).map(|_| {
                let command = String::from_utf8_lossy(&self.bytes(6)).trim_end_matches('\n').into();
                let action = match self.roll(6) {
                    0 => Action::Machine(MachineOp::PowerCut),
                    1 => Action::Machine(MachineOp::Sysrq('w')),
                    _ => Action::Run(command),
                };
                let status = [None, Some(0), Some(0), Some(1), Some(-9), Some(139)][self.roll(6)];
                let late = if self.roll(3) == 0 { self.bytes(8) } else { Vec::new() };
                let (late, output) = (printed(&late), printed(&self.bytes(12)));
                Entry { index: 0, action, output, late, status, shell_gone: self.roll(5) == 0 }
            });
            Transcript { entries: entries.collect() }
        }
    }

    #[test]
    fn every_rendering_leads_back_to_its_transcript() {
        let mut dice = Dice(2);
        for round in 0..30_000 {
            let transcript = dice.transcript();
            let text = render(&transcript);
            assert_eq!(read_back(&text), Ok(transcript), "round {round}:\n{text}");
            // What insta does to contents of a file.
            assert_eq!(format!("{}\n", text.trim_end().replace("\r\n", "\n")), text);
            assert!(text.lines().all(|l| l.trim_end() == l), "{text}");
            assert!(text.chars().all(|c| c == '\n' || c == '\t' || !c.is_control()));
        }
    }

    #[test]
    fn every_rendering_survives_its_file() {
        use super::super::file::{Info, SnapshotFile, read, write};
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("transcript.snap");
        let mut dice = Dice(4);
        for _ in 0..500 {
            let text = render(&dice.transcript());
            let file = SnapshotFile::new("a", &Default::default(), Info::default(), text.clone());
            write(&path, &file).unwrap();
            assert_eq!(read(&path).unwrap().body, text);
            insta::Snapshot::from_file(&path).unwrap().save(&path).unwrap();
            assert_eq!(read(&path).unwrap().body, text);
        }
    }

    #[test]
    fn noise_leads_back_too() {
        let mut dice = Dice(3);
        let noise: Vec<u8> = (0..WHOLE).map(|_| dice.roll(256) as u8).collect();
        let transcript = Transcript { entries: vec![step("x", &noise, 0)] };
        assert_eq!(read_back(&render(&transcript)), Ok(transcript));
    }
}
