//! One line of output as visible text, so that whatever a program printed can be reviewed, survives
//! editors and git, and is never mistaken for the transcript's own markers.
//!
//! The form is reversible: `\xNN` stands for a byte, and a backslash that would read as one is
//! written `\x5c` itself.

/// Beginnings of the transcript's own lines; output that begins like one has its `[` escaped.
const MARKERS: [&str; 7] =
    ["[status", "[late", "[shell ended", "[not ended", "[machine", "[cut", "[no steps"];

/// What git writes around a conflict. [`super::read`] refuses a snapshot with such a line, so
/// output never renders to one.
pub(super) const CONFLICT: [&str; 3] = ["<<<<<<< ", "||||||| ", ">>>>>>> "];

/// Where a line stands; decides what its beginning could be mistaken for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// After `$ ` or `> `: the beginning is free.
    Command,
    /// Right after a command, where `> ` continues it.
    FirstOutput,
    /// Any other line of output.
    Output,
}

/// Appends `line`, which holds no newline, in its visible form and ends it with a newline.
pub(super) fn push_line(out: &mut String, line: &[u8], standing: Standing) {
    let mut at = 0;
    for chunk in line.utf8_chunks() {
        for c in chunk.valid().chars() {
            let end = at + c.len_utf8();
            let escaped = match c {
                '\\' => reads_as_escape(&line[at..]) || (at == 0 && is_note(line, standing)),
                '\t' => end == line.len(),
                _ if at == 0 && reads_as_marker(line, standing) => true,
                ' ' => end == line.len(),
                _ => is_hidden(c),
            };
            if escaped {
                push_bytes(out, &line[at..end]);
            } else {
                out.push(c);
            }
            at = end;
        }
        push_bytes(out, chunk.invalid());
        at += chunk.invalid().len();
    }
    out.push('\n');
}

fn push_bytes(out: &mut String, bytes: &[u8]) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        out.push_str("\\x");
        out.push(char::from(HEX[usize::from(byte >> 4)]));
        out.push(char::from(HEX[usize::from(byte & 15)]));
    }
}

/// Whether text that begins with a backslash would be read as `\xNN`.
fn reads_as_escape(text: &[u8]) -> bool {
    matches!(text, [_, b'x', a, b, ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit())
}

/// Whether the line would be read as one of our `\ ...` notes.
fn is_note(line: &[u8], standing: Standing) -> bool {
    standing != Standing::Command && line.starts_with(b"\\ ")
}

/// Whether the line would be read as something of ours, or as git's.
fn reads_as_marker(line: &[u8], standing: Standing) -> bool {
    let prompt = |sign: &[u8]| line == sign || line.starts_with(&[sign, b" "].concat());
    match (standing, line.first()) {
        (Standing::Command, _) => false,
        (_, Some(b'$')) => prompt(b"$"),
        (_, Some(b'[')) => MARKERS.iter().any(|m| line.starts_with(m.as_bytes())),
        (Standing::FirstOutput, Some(b'>')) if prompt(b">") => true,
        (_, Some(b'<' | b'|' | b'>')) => CONFLICT.iter().any(|m| line.starts_with(m.as_bytes())),
        _ => false,
    }
}

/// Characters that a reviewer cannot see or tell from a space, or that change how their neighbours
/// are shown: controls, and Unicode's invisible and direction-changing formats (UAX 9, UTS 55).
fn is_hidden(c: char) -> bool {
    c.is_control()
        || (c.is_whitespace() && c != ' ')
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(bytes: &[u8], standing: Standing) -> String {
        let mut out = String::new();
        push_line(&mut out, bytes, standing);
        out.pop();
        out
    }

    #[test]
    fn text_stays_as_it_is() {
        for text in ["", "a b", "a\tb", "Größe: 5 €", r"C:\x", r"\n \x4 \xg0", "[ 0.1] x", "a$ b"]
        {
            assert_eq!(line(text.as_bytes(), Standing::FirstOutput), text);
        }
    }

    #[test]
    fn what_cannot_be_seen_is_shown() {
        let shown = |bytes: &[u8]| line(bytes, Standing::Output);
        assert_eq!(shown(b"a\0\x1b[0m\r"), r"a\x00\x1b[0m\x0d");
        assert_eq!(shown(b"\xff\xc3("), r"\xff\xc3(");
        assert_eq!(shown(b"a \t"), r"a \x09");
        assert_eq!(shown(b"a  "), r"a \x20");
        assert_eq!(shown(" ".as_bytes()), r"\x20");
        assert_eq!(shown("a\u{a0}b\u{a0}".as_bytes()), r"a\xc2\xa0b\xc2\xa0");
        assert_eq!(shown("a\u{2028}b".as_bytes()), r"a\xe2\x80\xa8b");
        assert_eq!(shown("a\u{202e}b".as_bytes()), r"a\xe2\x80\xaeb");
        assert_eq!(shown("a\u{85}b".as_bytes()), r"a\xc2\x85b");
    }

    #[test]
    fn what_reads_as_ours_is_escaped() {
        let first = |text: &str| line(text.as_bytes(), Standing::FirstOutput);
        let later = |text: &str| line(text.as_bytes(), Standing::Output);
        assert_eq!(later(r"\x41"), r"\x5cx41");
        assert_eq!(later(r"\\xAF"), r"\\x5cxAF");
        assert_eq!(later(r"\ no newline"), r"\x5c no newline");
        assert_eq!(later("$ ls"), r"\x24 ls");
        assert_eq!(later("$"), r"\x24");
        assert_eq!(later("$x"), "$x");
        assert_eq!(later("[status 1]"), r"\x5bstatus 1]");
        assert_eq!(first("> x"), r"\x3e x");
        assert_eq!(first(">"), r"\x3e");
        assert_eq!(later("> x"), "> x");
        assert_eq!(later("<<<<<<< HEAD"), r"\x3c<<<<<< HEAD");
        assert_eq!(later("======="), "=======");
        assert_eq!(line(b"[status 1]", Standing::Command), "[status 1]");
    }
}
