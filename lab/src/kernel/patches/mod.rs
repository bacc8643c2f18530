//! Patches to a kernel's source: a quilt series of the project, single files, and mails as
//! `git format-patch` and mail archives give them.

mod apply;
mod diff;
mod explain;
#[cfg(any(test, fuzzing))]
pub(super) mod fuzz;
mod mail;
mod series;
#[cfg(test)]
mod tests;

pub use apply::Applied;

pub use series::{first_of, load_series};

use std::path::{Path, PathBuf};

use super::KernelKey;
use crate::manifest::{Diagnostic, Result};

/// One patch, ready to be applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patch {
    /// For people: the file's name; of a file with several mails also the mail's number
    /// (`fixes.mbox#2`).
    pub name: String,
    /// What it says it does, without `[PATCH 2/5]`; its name where it says nothing.
    pub subject: String,
    /// The file that it was read from.
    pub file: PathBuf,
    /// How many folders to strip from its paths: `-p1` unless the series says otherwise.
    pub strip: u32,
    /// The diff alone, as it was written: kernel sources are not all UTF-8.
    pub text: Vec<u8>,
    /// The paths that it touches, old and new names, stripped, each once.
    pub files: Vec<PathBuf>,
}

impl Patch {
    /// The patches in a file: one of a diff with any words before it, several of a mailbox.
    ///
    /// # Errors
    /// The file cannot be read, or holds no patch: says what it looks like instead.
    pub fn load(file: &Path) -> Result<Vec<Self>> {
        let bytes = std::fs::read(file).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => super::source::missing(file),
            _ => Diagnostic::io("read", file, &e),
        })?;
        Self::parse(file, &bytes, 1)
    }

    /// The patches in `bytes`, which `file` holds.
    fn parse(file: &Path, bytes: &[u8], strip: u32) -> Result<Vec<Self>> {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if mail::is_mail(bytes) {
            return mail::read(file, &name, bytes, strip);
        }
        let Some((head, text)) = diff::split(bytes) else {
            return Err(diff::not_a_patch(file, bytes));
        };
        let subject = mail::subject_of(&String::from_utf8_lossy(head)).unwrap_or(name.clone());
        Ok(vec![Self::new(name, subject, file, strip, text.to_vec())?])
    }

    fn new(name: String, subject: String, file: &Path, strip: u32, text: Vec<u8>) -> Result<Self> {
        let files = diff::files(&text, strip).map_err(|bad| {
            Diagnostic::usage(format!("the patch {} touches `{bad}`", file.display()))
                .help("paths in a patch are relative to the kernel's source and stay in it")
        })?;
        if files.is_empty() {
            let message =
                format!("the patch {} names no file that -p{strip} leaves", file.display());
            return Err(
                Diagnostic::usage(message).help("a series file may say -p0 after a patch's name")
            );
        }
        Ok(Self { name, subject, file: file.to_path_buf(), strip, text, files })
    }

    /// A digest of what it changes, in hex, for a kernel's key.
    pub fn digest(&self) -> String {
        let text = blake3::hash(&self.text).to_hex();
        KernelKey::of(&["patch", &self.strip.to_string(), &text]).as_str().to_string()
    }
}
