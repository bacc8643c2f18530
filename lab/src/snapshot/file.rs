//! Snapshot files: insta's format, so that its own review tool works on them, written here only.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::ops::Range;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::escape::CONFLICT;
use super::header;
use crate::manifest::{Diagnostic, Place, Result};

/// A snapshot file's contents.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SnapshotFile {
    /// The case's manifest, relative to the project.
    pub source: String,
    /// What was run, in words: `NAME on KERNEL [PARAMS]`.
    pub expression: String,
    /// What it was run with.
    pub info: Info,
    /// The rendering, compared byte for byte.
    pub body: String,
}

/// What a transcript was made with.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Info {
    /// The kernel's name in the manifest.
    pub kernel: String,
    /// Its release, as `uname -r` says; empty where unknown.
    pub release: String,
    /// Other kernels of the same command whose runs rendered alike; only in variants that are
    /// still to be named.
    pub also: Vec<String>,
    /// Program in the guest, and `PACKAGE VERSION` that it came from.
    pub programs: BTreeMap<String, String>,
}

impl SnapshotFile {
    /// The snapshot of a run of `case` with `params`.
    pub fn new(case: &str, params: &BTreeMap<String, String>, info: Info, body: String) -> Self {
        let mut expression = format!("{case} on {}", info.kernel);
        if !params.is_empty() {
            let list: Vec<_> =
                params.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let _ = write!(expression, " [{}]", list.join(", "));
        }
        Self { source: format!("cases/{case}/case.toml"), expression, info, body }
    }

    pub(super) fn to_text(&self) -> String {
        format!("---\n{}---\n{}", header::text(self), self.body)
    }
}

/// Reads a snapshot file. What is not one is an error with file, line and the way out.
pub fn read(path: &Path) -> Result<SnapshotFile> {
    let bytes = std::fs::read(path).map_err(|e| Diagnostic::io("read", path, &e))?;
    parse(path, &bytes)
}

/// Like [`read`]; `None` where there is no such file.
pub fn read_if_there(path: &Path) -> Result<Option<SnapshotFile>> {
    match std::fs::read(path) {
        Ok(bytes) => parse(path, &bytes).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Diagnostic::io("read", path, &error)),
    }
}

/// Writes a snapshot file, and its folder where missing; whole or not at all.
pub fn write(path: &Path, file: &SnapshotFile) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(|e| Diagnostic::io("make the folder", folder, &e))?;
    replace(path, file.to_text().as_bytes(), 0o666)
}

/// Puts `bytes` in the place of a file in one step.
pub(super) fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let put = || -> io::Result<()> {
        let mut temporary = tempfile::Builder::new()
            .prefix(".lab-")
            .permissions(std::fs::Permissions::from_mode(mode))
            .tempfile_in(folder)?;
        temporary.write_all(bytes)?;
        temporary.persist(path).map(drop).map_err(|e| e.error)
    };
    put().map_err(|e| Diagnostic::io("write", path, &e))
}

/// A file on its way to being a snapshot: for errors with a place.
pub(super) struct Text<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Text<'_> {
    pub fn wrong(&self, span: Range<usize>, message: &str) -> Diagnostic {
        let way_out = if self.path.extension().is_some_and(|e| e == "new") {
            "remove it; the next run writes it again".to_string()
        } else {
            let file = self.path.display();
            format!(
                "restore it with `git checkout -- {file}`, or remove it, run the case and accept \
                 what it says"
            )
        };
        Diagnostic::usage(message)
            .at(Place { file: self.path.into(), text: self.text.into(), span })
            .help(way_out)
    }
}

pub(super) fn parse(path: &Path, bytes: &[u8]) -> Result<SnapshotFile> {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let (at, lossy) = (error.valid_up_to(), String::from_utf8_lossy(bytes));
            return Err(Text { path, text: &lossy }.wrong(at..at, "not a snapshot: not UTF-8 text"));
        }
    };
    let input = Text { path, text };
    let mut lines: Vec<(usize, &str)> = Vec::new();
    let mut body = None;
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let span = at..at + line.trim_end().len();
        let fence = line.trim_end() == "---";
        if at == 0 && !fence {
            return Err(input.wrong(span, "not a snapshot: it does not begin with the line `---`"));
        }
        if CONFLICT.iter().any(|mark| line.starts_with(mark)) {
            return Err(input.wrong(span, "a merge conflict was left in this snapshot"));
        }
        if line.contains('\r') {
            return Err(input.wrong(
                span,
                "a carriage return in a snapshot, which never has one: \
                an editor or git's core.autocrlf changed its line ends",
            ));
        }
        at += line.len();
        match body {
            None if fence && span.start > 0 => body = Some(at),
            None if span.start > 0 => lines.push((span.start, line.trim_end())),
            _ => {}
        }
    }
    let Some(body) = body else {
        let message = "not a snapshot: its header has no end (a second line `---`)";
        return Err(input.wrong(0..text.lines().next().map_or(0, str::len), message));
    };
    let body_text = &text[body..];
    if !body_text.ends_with('\n') || body_text.ends_with("\n\n") || body_text == "\n" {
        let message = match body_text.trim_end() {
            "" => "a snapshot without contents",
            _ => "a snapshot ends with exactly one newline; an editor changed this one's end",
        };
        return Err(input.wrong(text.trim_end().len()..text.len(), message));
    }
    let mut file = SnapshotFile { body: body_text.into(), ..SnapshotFile::default() };
    header::read(&input, &lines, &mut file)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> SnapshotFile {
        let programs =
            [("mount", "util-linux 2.38.1-5+deb12u3"), ("mdadm", "mdadm 1:4.2-5"), ("[", "x")];
        let programs = programs.map(|(a, b)| (a.to_string(), b.to_string())).into();
        let info = Info {
            kernel: "uml-6.1".into(),
            release: "6.1.176".into(),
            also: vec!["uml-6.12".into(), "uml-7.2".into()],
            programs,
        };
        let params = [("cluster".to_string(), "4k: \"x\"".to_string())].into();
        let body = "$ cat a\n---\n\n  indented: \\x00 \"q\" é\n[status 1]\n".to_string();
        SnapshotFile::new("hostfs-file-dentry", &params, info, body)
    }

    #[test]
    fn looks_as_documented() {
        let info = Info { kernel: "uml-6.1".into(), release: "6.1.176".into(), ..Info::default() };
        let mut file = SnapshotFile::new("a", &BTreeMap::new(), info, "$ x\n".into());
        file.info.programs.insert("mount".into(), "util-linux 2.38.1-5+deb12u3".into());
        let expected = "---\nsource: cases/a/case.toml\nexpression: a on uml-6.1\ninfo:\n  \
            kernel: uml-6.1 (6.1.176)\n  programs:\n    mount: util-linux 2.38.1-5+deb12u3\n---\n$ x\n";
        assert_eq!(file.to_text(), expected);
    }

    #[test]
    fn insta_reads_it_and_its_accept_changes_no_byte() {
        let folder = tempfile::tempdir().unwrap();
        let new = folder.path().join("transcript.snap.new");
        write(&new, &sample()).unwrap();
        assert_eq!(read(&new).unwrap(), sample());

        let theirs = insta::Snapshot::from_file(&new).unwrap();
        assert_eq!(theirs.metadata().source(), Some("cases/hostfs-file-dentry/case.toml"));
        assert_eq!(theirs.metadata().expression(), Some(sample().expression.as_str()));
        assert_eq!(theirs.contents().as_text().unwrap().to_string() + "\n", sample().body);

        // What cargo-insta does to accept: load, save under the final name, remove the pending one.
        let accepted = folder.path().join("transcript.snap");
        theirs.save(&accepted).unwrap();
        assert_eq!(read(&accepted).unwrap(), sample());
        let bytes = |path: &Path| std::fs::read_to_string(path).unwrap();
        assert_eq!(bytes(&accepted), bytes(&new));
    }

    #[test]
    fn odd_values_survive_insta() {
        let folder = tempfile::tempdir().unwrap();
        for odd in [
            "",
            " a ",
            "1.10",
            "0x10",
            "~",
            "true",
            "- a",
            "a: b",
            "a #b",
            "'",
            "\u{7f}é\u{1}\t",
            "[",
            ".inf",
            "NaN",
            "1e5",
        ] {
            let path = folder.path().join("a.snap");
            let mut file = sample();
            file.info.programs.insert("p".into(), odd.into());
            file.info.programs.insert(format!("k{odd}"), "v".into());
            file.expression = odd.into();
            write(&path, &file).unwrap();
            assert_eq!(read(&path).unwrap(), file, "{odd:?}");
            let theirs = insta::Snapshot::from_file(&path).unwrap();
            assert_eq!(theirs.metadata().expression(), Some(odd));
            theirs.save(&path).unwrap();
            assert_eq!(read(&path).unwrap(), file, "{odd:?}");
        }
    }

    #[test]
    fn what_is_no_snapshot_says_where_and_the_way_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("transcript.snap");
        let check = |bytes: &[u8], line: usize, words: &str| {
            std::fs::write(&path, bytes).unwrap();
            let error = read(&path).unwrap_err();
            assert!(error.message().contains(words), "{error}");
            assert_eq!(error.place().unwrap().line_column().0, line, "{error}");
            assert!(error.way_out().unwrap().contains("git checkout"), "{error}");
        };
        check(b"", 1, "header has no end");
        check(b"$ x\n", 1, "does not begin");
        check(b"---\nsource: a\n$ x\n", 1, "header has no end");
        check(b"---\nsource: a\nexpression\n---\n$ x\n", 3, "not `NAME: VALUE`");
        check(b"---\nsource: \"a\n---\n$ x\n", 2, "quotes");
        check(b"---\nsource: a\n---\n$ x\n\xff\n", 5, "UTF-8");
        check(b"---\nsource: a\n---\n$ x\n<<<<<<< HEAD\na\n", 5, "merge conflict");
        check(b"---\n<<<<<<< HEAD\nsource: a\n---\n$ x\n", 2, "merge conflict");
        check(b"---\nsource: a\n---\n$ x\r\n", 4, "carriage return");
        check(b"---\nsource: a\n---\n$ x", 4, "exactly one newline");
        check(b"---\nsource: a\n---\n$ x\n\n", 4, "exactly one newline");
        check(b"---\nsource: a\n---\n", 3, "without contents");
        check(b"---\nsnapshot_kind: binary\n---\nx\n", 2, "binary");

        let missing = read(&folder.path().join("none.snap")).unwrap_err();
        assert!(missing.message().ends_with("No such file or directory"), "{missing}");
        assert!(read_if_there(&folder.path().join("none.snap")).unwrap().is_none());
    }

    #[test]
    fn fields_of_others_pass() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("transcript.snap");
        std::fs::write(
            &path,
            "---\ninfo:\n  list:\n    - a\n  kernel: 'it''s'\ndescription: ~\n---\n$ x\n",
        )
        .unwrap();
        assert_eq!(read(&path).unwrap().info.kernel, "it's");
    }

    #[test]
    fn writing_honours_the_umask_and_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new").join("a.snap");
        write(&path, &sample()).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        std::fs::write(folder.path().join("plain"), "").unwrap();
        let plain = std::fs::metadata(folder.path().join("plain")).unwrap().permissions().mode();
        assert_eq!(mode, plain & 0o777);
        std::fs::create_dir(folder.path().join("new/b.snap")).unwrap();
        assert!(write(&folder.path().join("new/b.snap"), &sample()).is_err());
        assert_eq!(std::fs::read_dir(folder.path().join("new")).unwrap().count(), 2);
    }
}
