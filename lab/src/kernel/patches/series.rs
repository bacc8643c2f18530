//! A project's `patches/`: what the words in `patches = [...]` name.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Patch;
use crate::manifest::{Diagnostic, Place, Result, nearest};

/// Reads the patches that `names` name, in order: `NAME` is `patches/NAME/series` below
/// `project_root`; whatever has a slash in it or ends in .patch, .diff, .mbox or .eml is a file,
/// relative to `project_root`. Either may end in `:N`, its first N patches.
///
/// # Errors
/// A series or a file is missing (names the nearest), holds no patch, or not so many.
pub fn load_series(project_root: &Path, names: &[String]) -> Result<Vec<Patch>> {
    let mut patches = Vec::new();
    for name in names {
        let (series, count) = first_of(name);
        let mut all = load(project_root, series)?;
        if let Some(count) = count {
            if count == 0 || count > all.len() {
                let message = format!("`{name}`: {series} has {} patches", all.len());
                return Err(Diagnostic::usage(message).help("the number is from 1 to that"));
            }
            all.truncate(count);
        }
        patches.extend(all);
    }
    Ok(patches)
}

/// `NAME:N` in two.
pub fn first_of(name: &str) -> (&str, Option<usize>) {
    let parts = name.rsplit_once(':').and_then(|(series, n)| Some((series, n.parse().ok()?)));
    parts.map_or((name, None), |(series, n)| (series, Some(n)))
}

fn load(project_root: &Path, name: &str) -> Result<Vec<Patch>> {
    let folder = project_root.join("patches").join(name);
    if folder.join("series").is_file() {
        read_series(project_root, &folder.join("series"))
    } else if is_file_name(name) {
        Patch::load(&project_root.join(name))
    } else {
        Err(unknown(project_root, name))
    }
}

fn is_file_name(name: &str) -> bool {
    let endings = [".patch", ".diff", ".mbox", ".eml"];
    name.contains('/') || endings.iter().any(|ending| name.ends_with(ending))
}

/// Reads a quilt series: a file a line, `#` begins a comment, `-p0` or `-p1` after the name.
fn read_series(project_root: &Path, series: &Path) -> Result<Vec<Patch>> {
    let text: Arc<str> =
        std::fs::read_to_string(series).map_err(|e| Diagnostic::io("read", series, &e))?.into();
    let shown = series.strip_prefix(project_root).unwrap_or(series);
    let folder = series.parent().unwrap_or(project_root);
    let mut patches = Vec::new();
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let begin = at;
        at += line.len();
        let line = line.split(" #").next().unwrap_or_default();
        let mut words = line.split_whitespace();
        let Some(name) = words.next().filter(|name| !name.starts_with('#')) else { continue };
        let place = |word: &str| {
            let from = begin + line.find(word).unwrap_or(0);
            Place { file: shown.to_path_buf(), text: text.clone(), span: from..from + word.len() }
        };
        let mut strip = 1;
        for word in words {
            strip = match word.strip_prefix("-p").map(str::parse) {
                Some(Ok(number)) => number,
                _ => {
                    return Err(Diagnostic::usage(format!("`{word}` is no option of a series here"))
                        .at(place(word))
                        .help("-p0 and -p1 are; a patch to be taken back is to be written the other way round"));
                }
            };
        }
        let file = folder.join(name);
        let bytes = match std::fs::read(&file) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                let names = names_in(folder);
                let error =
                    Diagnostic::usage(format!("the series names {name}, which is not there"))
                        .at(place(name));
                return Err(match nearest(name, names.iter().map(String::as_str)) {
                    Some(near) => error.help(format!("did you mean `{near}`?")),
                    None => error.help(format!("{} has {}", folder.display(), listed(&names))),
                });
            }
            Err(e) => return Err(Diagnostic::io("read", &file, &e)),
        };
        let shown = file.strip_prefix(project_root).unwrap_or(&file);
        patches.extend(Patch::parse(shown, &bytes, strip)?);
    }
    if patches.is_empty() {
        return Err(Diagnostic::usage(format!("{} names no patch", shown.display()))
            .help("one file name a line, in the order in which they are applied"));
    }
    Ok(patches)
}

fn unknown(project_root: &Path, name: &str) -> Diagnostic {
    let folder = project_root.join("patches");
    let is_series = |series: &String| folder.join(series).join("series").is_file();
    let known: Vec<String> = names_in(&folder).into_iter().filter(is_series).collect();
    let there: PathBuf = folder.join(name);
    if there.is_dir() {
        let patches: Vec<String> =
            names_in(&there).into_iter().filter(|name| is_file_name(name)).collect();
        return Diagnostic::usage(format!("patches/{name} has no file `series`"))
            .help(format!("write one with the names in order: {}", listed(&patches)));
    }
    let error = Diagnostic::usage(format!("there is no series `{name}` in patches/"));
    match nearest(name, known.iter().map(String::as_str)) {
        Some(near) => error.help(format!("did you mean `{near}`?")),
        None if known.is_empty() => error.help("a series is a file patches/NAME/series"),
        None => error.help(format!("there are {}", listed(&known))),
    }
}

fn names_in(folder: &Path) -> Vec<String> {
    let items = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<_> =
        items.map(|item| item.file_name().to_string_lossy().into_owned()).collect();
    names.retain(|name| name != "series" && !name.starts_with('.'));
    names.sort();
    names
}

fn listed(names: &[String]) -> String {
    match names {
        [] => "nothing".into(),
        names => names.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIFF: &str = "--- fs/a.c\n+++ fs/a.c\n@@ -1 +1 @@\n-x\n+y\n";

    fn project(series: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("patches/fix");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("series"), series).unwrap();
        std::fs::write(folder.join("0001-a.patch"), format!("Subject: one\n\n{DIFF}")).unwrap();
        std::fs::write(folder.join("b.patch"), DIFF).unwrap();
        root
    }

    fn load(root: &tempfile::TempDir, name: &str) -> Result<Vec<Patch>> {
        load_series(root.path(), &[name.to_string()])
    }

    #[test]
    fn a_series_may_be_taken_in_part() {
        let root = project("b.patch -p0\n0001-a.patch\n");
        let names =
            |name: &str| load(&root, name).unwrap().into_iter().map(|p| p.name).collect::<Vec<_>>();
        assert_eq!(names("fix:1"), ["b.patch"]);
        assert_eq!(names("fix:2"), names("fix"));
        assert_eq!(names("patches/fix/0001-a.patch:1"), ["0001-a.patch"]);
        for name in ["fix:3", "fix:0"] {
            let error = load(&root, name).unwrap_err().to_string();
            assert!(error.contains("fix has 2 patches"), "{error}");
        }
    }

    #[test]
    fn a_quilt_series_is_read_in_order() {
        let root = project("# first\n\nb.patch -p0 # why\n  0001-a.patch -p1\n");
        let patches = load(&root, "fix").unwrap();
        let said: Vec<_> = patches
            .iter()
            .map(|p| (p.subject.as_str(), p.strip, p.files[0].to_str().unwrap()))
            .collect();
        assert_eq!(said, [("b.patch", 0, "fs/a.c"), ("one", 1, "a.c")]);
        assert_ne!(patches[0].digest(), patches[1].digest());
        assert_eq!(load(&root, "patches/fix/b.patch").unwrap().len(), 1);
    }

    #[test]
    fn slips_have_their_place_and_the_nearest() {
        let error = load(&project("b.patch\n0001-aa.patch\n"), "fix").unwrap_err().to_string();
        assert!(
            error.starts_with("patches/fix/series:2:1: the series names 0001-aa.patch"),
            "{error}"
        );
        assert!(error.ends_with("(did you mean `0001-a.patch`?)"), "{error}");
        let error = load(&project("b.patch -R\n"), "fix").unwrap_err().to_string();
        assert!(error.starts_with("patches/fix/series:1:9: `-R` is no option"), "{error}");
        let error = load(&project("# none\n"), "fix").unwrap_err().to_string();
        assert!(error.contains("names no patch"), "{error}");
        let root = project("b.patch\n");
        assert!(load(&root, "fx").unwrap_err().to_string().contains("did you mean `fix`?"));
        let error = load(&root, "patches/fix/bb.patch").unwrap_err().to_string();
        assert!(error.contains("there is no") && error.contains("fix/b.patch?"), "{error}");
        std::fs::remove_file(root.path().join("patches/fix/series")).unwrap();
        let error = load(&root, "fix").unwrap_err().to_string();
        assert!(
            error.contains("has no file `series`") && error.contains("0001-a.patch, b.patch"),
            "{error}"
        );
    }
}
