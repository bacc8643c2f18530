//! The one error type that a user sees: what is wrong, where, and the way out.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Whose fault it is; decides the exit code (`lab help exit-codes`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Wrong usage or a wrong manifest: exit code 2.
    Usage,
    /// The lab's or the host's own trouble (no network, failed verification, no room): 3.
    Trouble,
}

/// A place in a text file: the file, its whole text, and the bytes meant.
#[derive(Clone, Debug)]
pub struct Place {
    /// The file as the user would name it.
    pub file: PathBuf,
    /// Its text, for the excerpt.
    pub text: Arc<str>,
    /// Byte range within the text.
    pub span: Range<usize>,
}

impl Place {
    /// Line and column, both from 1; the column in characters.
    pub fn line_column(&self) -> (usize, usize) {
        let start = self.span.start.min(self.text.len());
        let before = self.text.get(..start).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        (line, column)
    }
}

/// An error for people: one clear paragraph. Drawn by the command line's edge with miette.
#[derive(Clone, Debug)]
pub struct Diagnostic(Box<Inner>);

#[derive(Clone, Debug)]
struct Inner {
    fault: Fault,
    message: String,
    place: Option<Place>,
    help: Option<String>,
}

/// Results of everything that a user's input or host can make fail.
pub type Result<T, E = Diagnostic> = std::result::Result<T, E>;

impl Diagnostic {
    /// Wrong usage or manifest (exit code 2). The message says what is wrong, without a full stop.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Fault::Usage, message.into())
    }

    /// Trouble of the lab or its host (exit code 3).
    pub fn trouble(message: impl Into<String>) -> Self {
        Self::new(Fault::Trouble, message.into())
    }

    fn new(fault: Fault, message: String) -> Self {
        Self(Box::new(Inner { fault, message, place: None, help: None }))
    }

    /// An I/O error on a file: `cannot WHAT FILE: words of the errno`.
    pub fn io(what: &str, file: &Path, error: &std::io::Error) -> Self {
        Self::trouble(format!("cannot {what} {}: {}", file.display(), errno_words(error)))
    }

    /// The way out, or the nearest valid thing.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.0.help = Some(help.into());
        self
    }

    /// Where it is.
    #[must_use]
    pub fn at(mut self, place: Place) -> Self {
        self.0.place = Some(place);
        self
    }

    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        self.0.fault
    }

    /// What is wrong.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Where, if it is in a file.
    pub fn place(&self) -> Option<&Place> {
        self.0.place.as_ref()
    }

    /// The way out.
    pub fn way_out(&self) -> Option<&str> {
        self.0.help.as_deref()
    }
}

/// The words of an errno without Rust's "(os error N)".
pub fn errno_words(error: &std::io::Error) -> String {
    match error.raw_os_error() {
        Some(errno) => nix::errno::Errno::from_raw(errno).desc().to_string(),
        None => error.to_string(),
    }
}

impl std::fmt::Display for Diagnostic {
    /// One line for plain output: `FILE:LINE:COLUMN: MESSAGE (HELP)`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(place) = &self.0.place {
            let (line, column) = place.line_column();
            write!(f, "{}:{line}:{column}: ", place.file.display())?;
        }
        f.write_str(&self.0.message)?;
        match &self.0.help {
            Some(help) => write!(f, " ({help})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Diagnostic {}

/// The name among `known` that is nearest to `name`, if any is near enough to be meant.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|k| (strsim::damerau_levenshtein(name, k), k))
        .filter(|(distance, k)| *distance <= 1 + name.len().max(k.len()) / 4 || k.starts_with(name))
        .min()
        .map(|(_, k)| k)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn place_counts_lines_and_columns_from_one() {
        let at = |start| {
            let text: Arc<str> = "ab\nü = 1\n".into();
            Place { file: "x".into(), text, span: start..start + 1 }.line_column()
        };
        assert_eq!(at(0), (1, 1));
        assert_eq!(at(3), (2, 1));
        assert_eq!(at(6), (2, 3));
        assert_eq!(at(99), (3, 1));
    }

    #[test]
    fn nearest_wants_a_likely_slip() {
        let known = ["memory", "cpus", "cmdline", "timeout"];
        assert_eq!(nearest("memmory", known), Some("memory"));
        assert_eq!(nearest("timeuot", known), Some("timeout"));
        assert_eq!(nearest("colour", known), None);
    }
}
