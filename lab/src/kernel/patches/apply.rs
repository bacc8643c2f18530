//! Brings a working tree from whatever patches are applied to exactly a list of them. The results
//! are computed in a scratch folder, so that a patch that fails leaves the tree as it was, and only
//! files whose bytes differ are written, so that make builds only what they touch.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use super::super::KernelKey;
use super::super::source::{Tree, beside, git, no_room};
use super::super::tool::not_started;
use super::{Patch, explain};
use crate::manifest::{Diagnostic, Result};

/// What [`Tree::with_patches`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// The files that were written or removed, relative to the tree: what make will look at.
    pub changed: Vec<PathBuf>,
    /// Hunks that applied only with less context than they have, one line each.
    pub fuzz: Vec<String>,
    /// A digest of the list of patches, in hex, for a kernel's key.
    pub digest: String,
}

/// Lines of context that must match, where all of them do not.
const FUZZ: [Option<usize>; 3] = [None, Some(2), Some(1)];

impl Tree {
    /// Makes the tree the source with exactly these patches, in this order. A crash on the way is
    /// made good by the next call.
    ///
    /// # Errors
    /// A patch does not apply: names its file, the hunk and what the source has there; the tree is
    /// as it was. Or the cache cannot be written.
    pub fn with_patches(&mut self, patches: &[Patch]) -> Result<Applied> {
        let tree = self.path();
        let before = self.applied_files();
        let touched: BTreeSet<PathBuf> = patches.iter().flat_map(|p| p.files.clone()).collect();
        let scratch = tempfile::Builder::new()
            .prefix("scratch-")
            .tempdir_in(&self.folder)
            .map_err(|e| Diagnostic::io("work in", &self.folder, &e))?;
        let scratch = scratch.path();
        for file in &touched {
            through_no_link(&tree, file)?;
            put(&self.pristine(&tree, &before, file), &scratch.join(file))?;
        }
        let mut applied = Applied { digest: digest(patches), ..Applied::default() };
        for (at, patch) in patches.iter().enumerate() {
            match apply(scratch, patch)? {
                Some(fuzz) => applied.fuzz.extend(fuzz),
                None => {
                    let earlier = &patches[..at];
                    return Err(explain::failure(&tree, scratch, patch, earlier, |reverse| {
                        run(scratch, patch, &["--check", reverse]).is_ok_and(|o| o.status.success())
                    }));
                }
            }
        }

        let pristine = self.folder.join("pristine");
        for file in touched.difference(&before) {
            put(&tree.join(file), &pristine.join(file))?;
        }
        let both: BTreeSet<PathBuf> = before.union(&touched).cloned().collect();
        if both != before {
            self.note_applied(&both)?;
        }
        for file in &both {
            let wanted = if touched.contains(file) { scratch } else { &pristine }.join(file);
            if !same(&wanted, &tree.join(file)).map_err(|e| Diagnostic::io("read", file, &e))? {
                put(&wanted, &tree.join(file))?;
                applied.changed.push(file.clone());
            }
        }
        if touched != both {
            self.note_applied(&touched)?;
        }
        for file in before.difference(&touched) {
            let _ = std::fs::remove_file(pristine.join(file));
        }
        Ok(applied)
    }
}

/// A digest of a list of patches, in hex.
fn digest(patches: &[Patch]) -> String {
    let parts: Vec<String> = patches.iter().map(Patch::digest).collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    KernelKey::of(&parts).as_str().to_string()
}

/// Applies one patch in the scratch folder; the fuzz it took, or `None` where it does not apply.
fn apply(scratch: &Path, patch: &Patch) -> Result<Option<Vec<String>>> {
    for context in FUZZ {
        // With less context a change that is there already finds some other line to change (seen
        // with two equal lines in hostfs_kern.c): fuzz must have one place to go to.
        if let Some(lines) = context
            && !explain::has_one_place(scratch, patch, lines)
        {
            continue;
        }
        let context = context.map(|lines| format!("-C{lines}")).unwrap_or_default();
        let output = run(scratch, patch, &["-v", &context])?;
        if output.status.success() {
            return Ok(Some(fuzz(&patch.name, &String::from_utf8_lossy(&output.stderr))));
        }
    }
    Ok(None)
}

/// `git apply` in a folder that no repository surrounds, as far as it can see.
fn run(scratch: &Path, patch: &Patch, options: &[&str]) -> Result<Output> {
    let mut git: Command = git(scratch);
    git.env("GIT_CEILING_DIRECTORIES", scratch.parent().unwrap_or(scratch))
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("LC_ALL", "C")
        .args(["apply", "--whitespace=nowarn", &format!("-p{}", patch.strip)])
        .args(options.iter().filter(|option| !option.is_empty()))
        .arg("-")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let ran = || -> io::Result<Output> {
        let mut child = git.spawn()?;
        // It reads all of it before it says anything.
        let fed = child.stdin.take().map_or(Ok(()), |mut input| input.write_all(&patch.text));
        let output = child.wait_with_output()?;
        match fed {
            Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(e),
            _ => Ok(output),
        }
    };
    let mut ran = ran;
    ran().map_err(|e| not_started(std::ffi::OsStr::new("git"), &e))
}

/// The hunks that git applied with less context.
fn fuzz(name: &str, words: &str) -> Vec<String> {
    let mut file = "";
    let mut fuzz = Vec::new();
    for line in words.lines() {
        if let Some(checked) = line.strip_prefix("Checking patch ") {
            file = checked.trim_end_matches("...");
        } else if let Some(rest) = line.strip_prefix("Context reduced to (")
            && let Some((context, at)) = rest.split_once(") to apply fragment at ")
        {
            let (before, after) = context.split_once('/').unwrap_or((context, context));
            fuzz.push(format!(
                "{name}: {file}:{at}: applied with context of {before} before and {after} after only"
            ));
        }
    }
    fuzz
}

/// Makes `to` be what `from` is: a file, a link, or nothing. Whole or not at all.
fn put(from: &Path, to: &Path) -> Result<()> {
    let copy = || -> io::Result<()> {
        let meta = match from.symlink_metadata() {
            Ok(meta) => meta,
            Err(e) if is_absent(&e) => {
                return match std::fs::remove_file(to) {
                    Err(e) if !is_absent(&e) => Err(e),
                    _ => Ok(()),
                };
            }
            Err(e) => return Err(e),
        };
        if let Some(folder) = to.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let beside = beside(to);
        let _ = std::fs::remove_file(&beside);
        if meta.is_symlink() {
            symlink(std::fs::read_link(from)?, &beside)?;
        } else {
            // Written anew, never linked: the time of the copy is what make goes by.
            std::fs::write(&beside, std::fs::read(from)?)?;
            std::fs::set_permissions(&beside, meta.permissions())?;
        }
        std::fs::rename(&beside, to)
    };
    copy().map_err(|e| no_room(&e, Diagnostic::io("write", to, &e)))
}

/// Whether two paths hold the same, or both nothing.
fn same(a: &Path, b: &Path) -> io::Result<bool> {
    let look = |path: &Path| match path.symlink_metadata() {
        Ok(meta) => Ok(Some(meta)),
        Err(e) if is_absent(&e) => Ok(None),
        Err(e) => Err(e),
    };
    Ok(match (look(a)?, look(b)?) {
        (None, None) => true,
        (Some(one), Some(two)) if one.is_symlink() && two.is_symlink() => {
            std::fs::read_link(a)? == std::fs::read_link(b)?
        }
        (Some(one), Some(two)) if one.is_file() && two.is_file() => {
            let executable = |meta: &std::fs::Metadata| meta.permissions().mode() & 0o111 != 0;
            one.len() == two.len()
                && executable(&one) == executable(&two)
                && std::fs::read(a)? == std::fs::read(b)?
        }
        _ => false,
    })
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// A patch must not reach out of the tree by way of a link in it.
fn through_no_link(tree: &Path, file: &Path) -> Result<()> {
    for folder in file.ancestors().skip(1).filter(|folder| !folder.as_os_str().is_empty()) {
        if tree.join(folder).is_symlink() {
            let message = format!(
                "a patch touches {}, and {} is a symbolic link",
                file.display(),
                folder.display()
            );
            return Err(Diagnostic::usage(message).help("name the file where it really is"));
        }
    }
    Ok(())
}
