//! A manifest's text and the strings in it, each with its place for an error.

use std::ops::{Deref, Range};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Diagnostic, Place, Result, nearest};

/// A manifest's file name, as the user would name it, and its text.
#[derive(Clone, Debug)]
pub(super) struct Source {
    file: PathBuf,
    text: Arc<str>,
}

impl Source {
    /// A text that is already there.
    pub(super) fn new(file: impl Into<PathBuf>, text: &str) -> Self {
        Self { file: file.into(), text: text.into() }
    }

    /// Reads `path`; errors call it `shown`.
    pub(super) fn read(path: &Path, shown: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(|e| Diagnostic::io("read", shown, &e))?;
        Self::of_bytes(shown, bytes)
    }

    /// What a file called `shown` holds.
    pub(super) fn of_bytes(shown: &Path, bytes: Vec<u8>) -> Result<Self> {
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Self::new(shown, &text)),
            Err(error) => {
                let at = error.utf8_error().valid_up_to();
                let text = String::from_utf8_lossy(error.as_bytes());
                let shown_as = char::REPLACEMENT_CHARACTER.len_utf8();
                Err(Self::new(shown, &text)
                    .error(at..at + shown_as, "this is not UTF-8 text, and TOML is")
                    .help("save the file as UTF-8"))
            }
        }
    }

    /// The document, or where its syntax breaks.
    pub(super) fn parse(&self) -> Result<Spanned<DeTable<'_>>> {
        DeTable::parse(&self.text).map_err(|error| {
            let what = error.message().trim_end().replace('\n', "; ");
            let end = self.text.len();
            self.error(error.span().unwrap_or(end..end), format!("this is not TOML: {what}"))
                .help("strings stand in quotes, lists in [ ], and a key stands once in its section")
        })
    }

    /// A manifest error at a byte range.
    pub(super) fn error(&self, span: Range<usize>, message: impl Into<String>) -> Diagnostic {
        Diagnostic::usage(message).at(self.place(span))
    }

    /// A place in this file.
    pub(super) fn place(&self, span: Range<usize>) -> Place {
        Place { file: self.file.clone(), text: self.text.clone(), span }
    }
}

/// A string of a manifest and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Text<'d> {
    source: &'d Source,
    text: &'d str,
    span: Range<usize>,
}

impl<'d> Text<'d> {
    /// A value that must be a string; `what` says what it is.
    pub(super) fn of(
        source: &'d Source,
        what: &str,
        value: &'d Spanned<DeValue<'d>>,
    ) -> Result<Self> {
        match value.get_ref() {
            DeValue::String(text) => Ok(Self { source, text, span: value.span() }),
            other => Err(source
                .error(value.span(), format!("{what} is a string, not {}", kind(other)))
                .help("put it in quotes")),
        }
    }

    /// A string found in the document.
    pub(super) fn new(source: &'d Source, text: &'d str, span: Range<usize>) -> Self {
        Self { source, text, span }
    }

    /// Its bytes in the file, quotes included.
    pub(super) fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// The string, with the manifest's lifetime.
    pub(super) fn as_str(&self) -> &'d str {
        self.text
    }

    /// An error about this string.
    pub(super) fn error(&self, message: impl Into<String>) -> Diagnostic {
        self.source.error(self.span.clone(), message)
    }

    /// Its place.
    pub(super) fn place(&self) -> Place {
        self.source.place(self.span.clone())
    }

    /// One of a table of words; else an error that names the nearest and all.
    pub(super) fn choose<T: Copy>(&self, what: &str, words: &[(&'static str, T)]) -> Result<T> {
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == self.text) {
            return Ok(*value);
        }
        let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let help = match nearest(self.text, known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`? There are {}", known.join(", ")),
            None => format!("one of {}", known.join(", ")),
        };
        Err(self.error(format!("`{}` is not {what}", self.text)).help(help))
    }
}

impl Deref for Text<'_> {
    type Target = str;
    fn deref(&self) -> &str {
        self.text
    }
}

/// A value's type in words.
pub(super) fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a point",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
