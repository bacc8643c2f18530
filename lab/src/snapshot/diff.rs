//! How two renderings differ: for the eye, as a signature that known failures and bisection
//! compare, and whether the guest's programs may be the reason.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use similar::{ChangeTag, TextDiff};

use super::file::Info;

/// One line of a difference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiffLine {
    /// Where it belongs.
    pub kind: DiffKind,
    /// The line without its newline; of a gap, how many lines it leaves out, in words.
    pub text: String,
}

/// Where a line of a difference belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DiffKind {
    /// In both.
    Same,
    /// Only in what was expected.
    Removed,
    /// Only in what was got.
    Added,
    /// Lines of both that are left out.
    Gap,
}

/// Lines of context around a change.
const CONTEXT: usize = 3;
/// The longest line, in characters, that a signature shows.
const EXCERPT: usize = 60;

/// The differing lines with three lines of context; empty where nothing differs.
pub fn unified(expected: &str, got: &str) -> Vec<DiffLine> {
    let diff = TextDiff::from_lines(expected, got);
    let mut lines = Vec::new();
    // Where the last shown group ended, in lines of what was expected.
    let mut shown = 0;
    let gap = |from: usize, to: usize| {
        let text = if to - from == 1 { "1 line".into() } else { format!("{} lines", to - from) };
        (to > from).then_some(DiffLine { kind: DiffKind::Gap, text })
    };
    for group in diff.grouped_ops(CONTEXT) {
        lines.extend(group.first().and_then(|op| gap(shown, op.old_range().start)));
        for op in &group {
            lines.extend(diff.iter_changes(op).map(|change| DiffLine {
                kind: kind(change.tag()),
                text: change.value().trim_end_matches('\n').into(),
            }));
            shown = op.old_range().end;
        }
    }
    if !lines.is_empty() {
        lines.extend(gap(shown, diff.old_len()));
    }
    lines
}

/// What differs, short and stable: `DIGEST EXCERPT`. The same lines gone and come make the
/// same signature, wherever they stand and whatever stands around them.
pub fn signature(expected: &str, got: &str) -> String {
    let diff = TextDiff::from_lines(expected, got);
    let mut digest = blake3::Hasher::new();
    let mut excerpt: Vec<String> = Vec::new();
    for change in diff.iter_all_changes() {
        let sign = match change.tag() {
            ChangeTag::Equal => continue,
            ChangeTag::Delete => '-',
            ChangeTag::Insert => '+',
        };
        let line = change.value().trim_end_matches('\n');
        digest.update(format!("{sign}{line}\n").as_bytes());
        if !excerpt.iter().any(|shown| shown.starts_with(sign)) {
            excerpt.push(shorten(sign, line));
        }
    }
    if excerpt.is_empty() {
        return "same".into();
    }
    format!("{} {}", &digest.finalize().to_hex()[..16], excerpt.join(" "))
}

/// Packages whose versions differ between two runs, `e2fsprogs 1.47.0-2 then, 1.47.2-1 now`: where
/// the output differs too, they may be why. Programs that only one of the runs had do not count.
pub fn program_changes(then: &Info, now: &Info) -> Vec<String> {
    let mut changes = BTreeSet::new();
    for (program, before) in &then.programs {
        let Some(after) = now.programs.get(program).filter(|after| *after != before) else {
            continue;
        };
        let line = match (before.split_once(' '), after.split_once(' ')) {
            (Some((package, old)), Some((same, new))) if package == same => {
                format!("{package} {old} then, {new} now")
            }
            _ => format!("{program}: {before} then, {after} now"),
        };
        changes.insert(line);
    }
    changes.into_iter().collect()
}

fn kind(tag: ChangeTag) -> DiffKind {
    match tag {
        ChangeTag::Equal => DiffKind::Same,
        ChangeTag::Delete => DiffKind::Removed,
        ChangeTag::Insert => DiffKind::Added,
    }
}

fn shorten(sign: char, line: &str) -> String {
    match line.char_indices().nth(EXCERPT) {
        Some((end, _)) => format!("{sign}{}...", &line[..end]),
        None => format!("{sign}{line}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(range: std::ops::Range<usize>) -> String {
        range.map(|n| format!("{n}\n")).collect()
    }

    #[test]
    fn changes_stand_in_their_context() {
        let expected = numbers(0..30);
        let got = expected.replace("10\n", "ten\n");
        let shown: Vec<String> = unified(&expected, &got)
            .into_iter()
            .map(|line| match line.kind {
                DiffKind::Same => format!(" {}", line.text),
                DiffKind::Removed => format!("-{}", line.text),
                DiffKind::Added => format!("+{}", line.text),
                DiffKind::Gap => format!("@{}", line.text),
            })
            .collect();
        let wanted =
            ["@7 lines", " 7", " 8", " 9", "-10", "+ten", " 11", " 12", " 13", "@16 lines"];
        assert_eq!(shown, wanted);
        assert_eq!(unified(&expected, &expected), []);
        assert_eq!(unified("a\n", "b\n").len(), 2);
    }

    #[test]
    fn a_signature_knows_the_change_and_not_its_place() {
        let got = |before: &str| {
            signature(
                &format!("{before}$ cat\nhello\n"),
                &format!("{before}$ cat\nNo such file\n[status 1]\n"),
            )
        };
        assert!(got("").ends_with(" -hello +No such file"), "{}", got(""));
        assert_eq!(got(""), got(&numbers(0..99)));
        assert_ne!(signature("a\n", "b\n"), signature("a\n", "c\n"));
        assert_ne!(signature("a\n", "b\n"), signature("b\n", "a\n"));
        assert_eq!(signature("a\n", "a\n"), "same");
        let long = signature("a\n", &"é".repeat(500));
        assert!(long.chars().count() < 100 && long.ends_with("é..."), "{long}");
    }

    #[test]
    fn a_hopeless_difference_ends() {
        let all = numbers(0..30_000);
        let reversed: String = (0..30_000).rev().map(|n| format!("{n}\n")).collect();
        let started = std::time::Instant::now();
        assert_eq!(signature(&all, &reversed), signature(&all, &reversed));
        assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
    }

    #[test]
    fn versions_then_and_now() {
        let info = |list: &[(&str, &str)]| Info {
            programs: list.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect(),
            ..Info::default()
        };
        let then = info(&[
            ("mke2fs", "e2fsprogs 1.47.0-2"),
            ("e2fsck", "e2fsprogs 1.47.0-2"),
            ("sh", "dash 1"),
            ("a", "b 1"),
        ]);
        let now = info(&[
            ("mke2fs", "e2fsprogs 1.47.2-1"),
            ("e2fsck", "e2fsprogs 1.47.2-1"),
            ("sh", "busybox 1"),
            ("c", "d 1"),
        ]);
        let lines = ["e2fsprogs 1.47.0-2 then, 1.47.2-1 now", "sh: dash 1 then, busybox 1 now"];
        assert_eq!(program_changes(&then, &now), lines);
        assert!(program_changes(&then, &then).is_empty());
    }
}
