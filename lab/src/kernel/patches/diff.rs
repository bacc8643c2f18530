//! The unified format, read as far as it takes to name files and hunks; `git apply` does the work.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use crate::manifest::Diagnostic;

/// One `@@` of a patch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hunk {
    /// Of this file before the patch; `None` where the patch makes it.
    pub old: Option<PathBuf>,
    /// And after it; `None` where the patch deletes it.
    pub new: Option<PathBuf>,
    /// Counted from 1 within the file.
    pub number: usize,
    /// The first line in the old file.
    pub start: usize,
    /// Context and removed lines.
    pub before: Vec<Vec<u8>>,
    /// Context and added lines.
    pub after: Vec<Vec<u8>>,
}

/// Splits a file into the words before its diff and the diff; `None` if it has none.
pub(super) fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let lines: Vec<&[u8]> = bytes.split_inclusive(|b| *b == b'\n').collect();
    let starts =
        |at: usize, with: &str| lines.get(at).is_some_and(|line| line.starts_with(with.as_bytes()));
    let first = (0..lines.len()).find(|at| {
        starts(*at, "diff --git ")
            || (starts(*at, "--- ") && starts(*at + 1, "+++ ") && starts(*at + 2, "@@ -"))
    })?;
    // Of a diff by another program, its own line before goes along.
    let is_lead = |line: &[u8]| {
        ["Index: ", "diff ", "====="].iter().any(|lead| line.starts_with(lead.as_bytes()))
    };
    let mut begin = first;
    while begin > 0 && is_lead(lines[begin - 1]) {
        begin -= 1;
    }
    let at: usize = lines[..begin].iter().map(|line| line.len()).sum();
    // A mail's signature: two dashes, a blank, and after it no hunk.
    let mut end = bytes.len();
    let mut from_end = bytes.len();
    for (number, line) in lines.iter().enumerate().skip(begin).rev().take_while(|(n, _)| *n > begin)
    {
        from_end -= line.len();
        if line.starts_with(b"@@ ") || line.starts_with(b"GIT binary patch") {
            break;
        }
        // "-- " is also a removed line of "- "; the hunk's count would then want it.
        if line.trim_ascii_end() == b"--" && line.starts_with(b"-- ") && lines.len() - number <= 4 {
            end = from_end;
            break;
        }
    }
    Some((&bytes[..at], &bytes[at..end]))
}

/// Every path that a diff touches, stripped of `strip` folders. The error is a path that leaves the
/// source.
pub(super) fn files(text: &[u8], strip: u32) -> Result<Vec<PathBuf>, String> {
    let mut names = BTreeSet::new();
    let lines: Vec<&[u8]> = text.split(|b| *b == b'\n').collect();
    let mut skip = 0;
    for (at, line) in lines.iter().enumerate() {
        if at < skip {
            continue;
        }
        let line = String::from_utf8_lossy(line);
        if let Some((old, new)) = counts(&line) {
            skip = at + 1 + hunk_lines(&lines[at + 1..], old, new);
        } else if let Some(rest) = line.strip_prefix("diff --git ") {
            // Where the names differ, `rename from` or `---` says which they are.
            if let Some(name) = same_name(rest) {
                names.extend(stripped(&name, strip));
            }
        } else if let Some(name) = line.strip_prefix("--- ").or_else(|| line.strip_prefix("+++ ")) {
            names.extend(header_name(name).and_then(|name| stripped(&name, strip)));
        } else {
            for lead in ["rename from ", "rename to ", "copy from ", "copy to "] {
                if let Some(name) = line.strip_prefix(lead) {
                    // These have no prefix to strip.
                    names.extend(stripped(&unquoted(name), strip.saturating_sub(1)));
                }
            }
        }
    }
    let mut paths = Vec::new();
    for name in names {
        let sound = name.components().all(|part| matches!(part, Component::Normal(_)));
        if !sound || name.starts_with(".git") {
            return Err(name.display().to_string());
        }
        paths.push(name);
    }
    Ok(paths)
}

/// The hunks of a diff, in order.
pub(super) fn hunks(text: &[u8], strip: u32) -> Vec<Hunk> {
    let lines: Vec<&[u8]> = text.split(|b| *b == b'\n').collect();
    let (mut hunks, mut old, mut new, mut number) = (Vec::new(), None, None, 0);
    let name = |text: &str| header_name(text).and_then(|name| stripped(&name, strip));
    let mut at = 0;
    while at < lines.len() {
        let line = String::from_utf8_lossy(lines[at]);
        at += 1;
        if let Some(text) = line.strip_prefix("--- ") {
            (old, number) = (name(text), 0);
        } else if let Some(text) = line.strip_prefix("+++ ") {
            new = name(text);
        } else if let Some((removed, added)) = counts(&line) {
            number += 1;
            let length = hunk_lines(&lines[at..], removed, added);
            let (mut before, mut after) = (Vec::new(), Vec::new());
            for line in &lines[at..at + length] {
                match line.split_first() {
                    Some((b'-', rest)) => before.push(rest.to_vec()),
                    Some((b'+', rest)) => after.push(rest.to_vec()),
                    Some((b'\\', _)) => {}
                    // Some mail programs take the blank of an empty context line away.
                    rest => {
                        let rest = rest.map_or(&[][..], |(_, rest)| rest);
                        before.push(rest.to_vec());
                        after.push(rest.to_vec());
                    }
                }
            }
            let start =
                line[4..].split([',', ' ']).next().and_then(|n| n.parse().ok()).unwrap_or(0);
            let (old, new) = (old.clone(), new.clone());
            hunks.push(Hunk { old, new, number, start, before, after });
            at += length;
        }
    }
    hunks
}

/// The error of a file that holds no diff: what it looks like, and what to do.
pub(super) fn not_a_patch(file: &Path, bytes: &[u8]) -> Diagnostic {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(1 << 16)]).into_owned();
    let start = text.trim_start().to_lowercase();
    let has = |lead: &str| text.lines().any(|line| line.starts_with(lead));
    let (looks, help) = if bytes.is_empty() {
        ("is empty", "write one with git format-patch or diff -u")
    } else if bytes.starts_with(b"\x1f\x8b")
        || bytes.starts_with(b"\xfd7zXZ")
        || bytes.starts_with(b"BZh")
        || bytes.starts_with(b"\x28\xb5\x2f\xfd")
    {
        ("is compressed", "expand it first (gzip -d, xz -d, bzip2 -d, zstd -d)")
    } else if start.starts_with("<!doctype") || start.starts_with("<html") {
        (
            "is a web page",
            "fetch the raw form: archives of mails have /raw or a .mbox, cgit has /patch/",
        )
    } else if bytes.contains(&0) {
        ("is a binary file", "write one with git format-patch or diff -u")
    } else if has("*** ") && has("--- ") && has("***************") {
        ("is a context diff", "make a unified one: diff -u, or git format-patch")
    } else if has("> ") && has("< ") && !has("From ") {
        ("is a diff without context", "make a unified one: diff -u, or git format-patch")
    } else if has("> diff --git ") || has("> @@ -") {
        ("is a mail that only quotes a patch", "take the mail that it answers")
    } else if has("@@ -") {
        (
            "has a hunk and no line that names the file",
            "the two lines --- a/FILE and +++ b/FILE are missing before it",
        )
    } else if start.starts_with("#!") {
        ("is a script", "a patch is a unified diff, as git format-patch writes it")
    } else if !text.lines().any(|line| line.contains(' ')) {
        ("is a list of words", "a list of patches is a series: patches/NAME/series, named by NAME")
    } else {
        ("is text without a diff", "a patch is a unified diff, as git format-patch writes it")
    };
    Diagnostic::usage(format!("{} is not a patch: it {looks}", file.display())).help(help)
}

/// The numbers of lines, old and new, that a hunk's header announces.
fn counts(line: &str) -> Option<(usize, usize)> {
    let (ranges, _) = line.strip_prefix("@@ -")?.split_once(" @@")?;
    let (old, new) = ranges.split_once(" +")?;
    let count = |range: &str| match range.split_once(',') {
        Some((_, count)) => count.parse().ok(),
        None => range.parse::<usize>().ok().map(|_| 1),
    };
    Some((count(old)?, count(new)?))
}

/// How many of the lines after a hunk's header are its own.
fn hunk_lines(lines: &[&[u8]], mut old: usize, mut new: usize) -> usize {
    let mut length = 0;
    for line in lines {
        match line.first() {
            Some(b'\\') => {}
            _ if old == 0 && new == 0 => break,
            Some(b'-') => old = old.saturating_sub(1),
            Some(b'+') => new = new.saturating_sub(1),
            Some(b' ') | Some(b'\r') | None => {
                (old, new) = (old.saturating_sub(1), new.saturating_sub(1))
            }
            Some(_) => break,
        }
        length += 1;
    }
    length
}

/// The name in `a/NAME b/NAME`, with its prefix, if both are the same.
fn same_name(rest: &str) -> Option<String> {
    if let Some(quoted) = rest.strip_prefix('"') {
        let end = quoted.find("\" ")? + 2;
        let (old, new) = (unquoted(&rest[..end]), unquoted(rest[end..].trim()));
        let plain = |name: &str| name.split_once('/').map(|(_, name)| name.to_string());
        return (plain(&old) == plain(&new)).then_some(old);
    }
    // Both halves are equally long; a name may have blanks in it.
    let half = rest.len() / 2;
    let (old, new) = (rest.get(..half)?, rest.get(half + 1..)?);
    let plain = |name: &str| name.split_once('/').map(|(_, name)| name.to_string());
    (rest.as_bytes().get(half) == Some(&b' ') && plain(old) == plain(new)).then(|| old.to_string())
}

/// The name in `--- a/NAME<tab>DATE`; `None` for /dev/null.
fn header_name(text: &str) -> Option<String> {
    let text = text.trim_end_matches('\r');
    let name = match text.starts_with('"') {
        true => unquoted(text),
        false => text.split('\t').next().unwrap_or_default().trim_end().to_string(),
    };
    // GNU diff sets the time off with a tab, some others with a blank.
    let name = match name.split_once(' ') {
        Some((name, rest)) if rest.starts_with(|c: char| c.is_ascii_digit()) => name.to_string(),
        _ => name,
    };
    (name != "/dev/null").then_some(name)
}

/// A name without its first `strip` folders; `None` if it has not so many.
fn stripped(name: &str, strip: u32) -> Option<PathBuf> {
    let mut rest = name;
    for _ in 0..strip {
        rest = rest.split_once('/')?.1.trim_start_matches('/');
    }
    (!rest.is_empty()).then(|| PathBuf::from(rest))
}

/// A name that git put in quotes because of its characters.
fn unquoted(text: &str) -> String {
    let Some(inner) = text.trim().strip_prefix('"').and_then(|t| t.split('"').next()) else {
        return text.to_string();
    };
    let mut bytes = Vec::new();
    let mut rest = inner.bytes().peekable();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        match rest.next() {
            Some(b't') => bytes.push(b'\t'),
            Some(b'n') => bytes.push(b'\n'),
            Some(digit @ b'0'..=b'3') => {
                let mut value = digit - b'0';
                for _ in 0..2 {
                    value = value << 3 | (rest.next().unwrap_or(b'0') & 7);
                }
                bytes.push(value);
            }
            Some(other) => bytes.push(other),
            None => {}
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &str = "Why this is done.

Signed-off-by: A
--- a/fs/a.c\t2024-01-01 00:00:00
+++ b/fs/a.c\t2024-01-01 00:00:00
@@ -10,3 +10,4 @@ int f(void)
 one
--- two
+++ two
+three
 four
-- 
2.39.2
";

    #[test]
    fn words_before_and_a_signature_after_are_no_diff() {
        let (head, text) = split(PLAIN.as_bytes()).unwrap();
        assert!(head.ends_with(b"Signed-off-by: A\n"));
        assert!(text.starts_with(b"--- a/fs/a.c") && text.ends_with(b" four\n"));
        assert_eq!(files(text, 1).unwrap(), [PathBuf::from("fs/a.c")]);
        assert_eq!(files(text, 0).unwrap(), [PathBuf::from("a/fs/a.c"), "b/fs/a.c".into()]);
        let hunks = hunks(text, 1);
        assert_eq!(hunks.len(), 1);
        assert_eq!((hunks[0].number, hunks[0].start), (1, 10));
        assert_eq!(hunks[0].before, [&b"one"[..], b"-- two", b"four"]);
        assert_eq!(hunks[0].after, [&b"one"[..], b"++ two", b"three", b"four"]);
        assert!(split(b"no diff\n--- here\n").is_none());
    }

    #[test]
    fn git_names_files_in_many_ways() {
        let text = "diff --git a/old name b/new name
similarity index 100%
rename from old name
rename to new name
diff --git a/made.c b/made.c
new file mode 100644
index 0000000..1
--- /dev/null
+++ b/made.c
@@ -0,0 +1 @@
+x
diff --git a/empty b/empty
deleted file mode 100644
diff --git \"a/\\303\\274.c\" \"b/\\303\\274.c\"
--- \"a/\\303\\274.c\"
+++ \"b/\\303\\274.c\"
@@ -1 +1 @@
-x
+y
";
        let names: Vec<_> = files(text.as_bytes(), 1).unwrap();
        let names: Vec<_> = names.iter().map(|n| n.to_str().unwrap()).collect();
        assert_eq!(names, ["empty", "made.c", "new name", "old name", "ü.c"]);
        let all = hunks(text.as_bytes(), 1);
        assert_eq!((all[0].old.clone(), all[0].new.clone()), (None, Some("made.c".into())));
        assert!(
            files(b"--- a/../../etc/passwd\n+++ b/../../etc/passwd\n@@ -1 +1 @@\n-x\n+y\n", 1)
                .is_err()
        );
        assert!(files(b"--- a//etc/passwd\n+++ b//etc/passwd\n", 0).is_ok());
        assert!(files(b"--- /etc/passwd\n+++ /etc/passwd\n", 0).is_err());
    }

    #[test]
    fn what_is_no_patch_is_called_what_it_is() {
        let said = |bytes: &[u8]| not_a_patch(Path::new("x.patch"), bytes).to_string();
        assert!(said(b"").contains("is empty"));
        assert!(said(b"\x1f\x8b\x08").contains("is compressed"));
        assert!(said(b"\n<!DOCTYPE html>").contains("web page"));
        assert!(said(b"*** a\n--- b\n***************\n*** 1,2 ****\n").contains("context diff"));
        assert!(said(b"12c12\n< a\n---\n> b\n").contains("without context"));
        assert!(said(b"> diff --git a/x b/x\n> @@ -1 +1 @@\n").contains("only quotes"));
        assert!(said(b"@@ -1 +1 @@\n-a\n+b\n").contains("names the file"));
        assert!(said(b"0001-a.patch\n0002-b.patch\n").contains("patches/NAME/series"));
        assert!(said(b"Dear list, hello\n").contains("text without a diff"));
    }
}
