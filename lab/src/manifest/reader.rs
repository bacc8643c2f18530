//! Reads a TOML table against its [`Section`], so that every slip has its exact place.
//!
//! serde would give the first unknown field without its nearest neighbour, and wrong values
//! without their span: therefore the manifests are read from the spanned document.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::schema::Section;
use super::source::{Source, Text, kind};
use super::{Diagnostic, Place, Result};

/// A table whose keys have been checked against its section.
#[derive(Clone, Debug)]
pub(super) struct Table<'d> {
    source: &'d Source,
    section: &'static Section,
    table: &'d DeTable<'d>,
    span: Range<usize>,
}

/// A named entry, as in `[kernel.NAME]` or `[params]`: its name and its value.
pub(super) type Named<'d> = (Text<'d>, &'d Spanned<DeValue<'d>>);

impl<'d> Table<'d> {
    /// The whole document as a table of `section`.
    pub(super) fn top(
        source: &'d Source,
        document: &'d Spanned<DeTable<'d>>,
        section: &'static Section,
    ) -> Result<Self> {
        Self { source, section, table: document.get_ref(), span: 0..0 }.checked(None)
    }

    /// A value that must be a table of `section`; `key` is what it is the value of.
    pub(super) fn of(
        source: &'d Source,
        key: &str,
        value: &'d Spanned<DeValue<'d>>,
        section: &'static Section,
        name: Option<&str>,
    ) -> Result<Self> {
        let DeValue::Table(table) = value.get_ref() else {
            let found = kind(value.get_ref());
            let line = section.keys.first().map(|key| key.example).unwrap_or_default();
            return Err(source
                .error(value.span(), format!("`{key}` wants a table here, not {found}"))
                .help(format!("for example {{ {line} }}")));
        };
        Self { source, section, table, span: value.span() }.checked(name.map(|n| (key, n)))
    }

    /// The unknown key that stands first, as an error.
    fn checked(self, name: Option<(&str, &str)>) -> Result<Self> {
        let unknown = |key: &str| self.section.key(key).is_none();
        let first = self
            .table
            .iter()
            .filter(|(key, _)| unknown(key.get_ref()))
            .min_by_key(|(key, _)| key.span().start);
        let Some((key, value)) = first else { return Ok(self) };
        let word = key.get_ref();
        let help = match name {
            // [kernel.uml-6.1] is a table `1` in a table `uml-6`.
            Some((outer, name)) if matches!(value.get_ref(), DeValue::Table(_)) => {
                format!("a name with a dot stands in quotes: [{outer}.\"{name}.{word}\"]")
            }
            _ => self.section.suggest(word),
        };
        let title = self.section.title;
        Err(self.source.error(key.span(), format!("unknown key `{word}` in {title}")).help(help))
    }

    /// The file it stands in.
    pub(super) fn source(&self) -> &'d Source {
        self.source
    }

    /// An error about the table as a whole.
    pub(super) fn error(&self, message: impl Into<String>) -> Diagnostic {
        self.source.error(self.span.clone(), message)
    }

    /// Its place.
    pub(super) fn place(&self) -> Place {
        self.source.place(self.span.clone())
    }

    /// The value of a key.
    pub(super) fn get(&self, key: &str) -> Option<&'d Spanned<DeValue<'d>>> {
        debug_assert!(self.section.key(key).is_some(), "{key} is missing in schema.rs");
        self.table.get(key)
    }

    /// An error about the value of a key, or about the table where the key is not there.
    pub(super) fn error_at(&self, key: &str, message: impl Into<String>) -> Diagnostic {
        match self.get(key) {
            Some(value) => self.source.error(value.span(), message),
            None => self.error(message),
        }
    }

    /// The place of a key's value, or of the table where the key is not there.
    pub(super) fn place_of(&self, key: &str) -> Place {
        self.get(key).map_or_else(|| self.place(), |value| self.source.place(value.span()))
    }

    fn missing(&self, key: &str) -> Diagnostic {
        let example = self.section.key(key).map(|key| key.example).unwrap_or_default();
        self.error(format!("{} lacks `{key}`", self.section.title))
            .help(format!("add a line such as {example}"))
    }

    fn wrong(&self, key: &str, value: &Spanned<DeValue<'_>>, wants: &str) -> Diagnostic {
        let example = self.section.key(key).map(|key| key.example).unwrap_or_default();
        let found = kind(value.get_ref());
        self.source
            .error(value.span(), format!("`{key}` wants {wants}, not {found}"))
            .help(format!("for example {example}"))
    }

    fn text(&self, key: &str, value: &'d Spanned<DeValue<'d>>, wants: &str) -> Result<Text<'d>> {
        match value.get_ref() {
            DeValue::String(text) => Ok(Text::new(self.source, text, value.span())),
            _ => Err(self.wrong(key, value, wants)),
        }
    }

    /// A string.
    pub(super) fn string(&self, key: &str) -> Result<Option<Text<'d>>> {
        self.get(key).map(|value| self.text(key, value, "a string")).transpose()
    }

    /// A string that must be there and must not be blank.
    pub(super) fn required(&self, key: &str) -> Result<Text<'d>> {
        let text = self.string(key)?.ok_or_else(|| self.missing(key))?;
        if text.trim().is_empty() {
            let example = self.section.key(key).map(|key| key.example).unwrap_or_default();
            return Err(text
                .error(format!("`{key}` is empty"))
                .help(format!("for example {example}")));
        }
        Ok(text)
    }

    /// The elements of a list; none where the key is not there.
    pub(super) fn list(&self, key: &str) -> Result<&'d [Spanned<DeValue<'d>>]> {
        match self.get(key) {
            None => Ok(&[]),
            Some(value) => match value.get_ref() {
                DeValue::Array(array) => Ok(array),
                _ => Err(self.wrong(key, value, "a list")),
            },
        }
    }

    /// A list of strings; empty where the key is not there. Blank ones are errors.
    pub(super) fn strings(&self, key: &str) -> Result<Vec<Text<'d>>> {
        let mut texts = Vec::new();
        for value in self.list(key)? {
            let text = self.text(key, value, "a list of strings")?;
            if text.trim().is_empty() {
                return Err(text.error(format!("`{key}` has an empty entry")).help("remove it"));
            }
            texts.push(text);
        }
        Ok(texts)
    }

    /// A list of strings that must have one at least.
    pub(super) fn required_strings(&self, key: &str) -> Result<Vec<Text<'d>>> {
        let texts = self.strings(key)?;
        if self.get(key).is_none() || texts.is_empty() {
            let example = self.section.key(key).map(|key| key.example).unwrap_or_default();
            return Err(match self.get(key) {
                None => self.missing(key),
                Some(value) => self
                    .source
                    .error(value.span(), format!("`{key}` is empty"))
                    .help(format!("for example {example}")),
            });
        }
        Ok(texts)
    }

    /// A truth value; false where the key is not there.
    pub(super) fn flag(&self, key: &str) -> Result<bool> {
        match self.get(key).map(|value| (value, value.get_ref())) {
            None => Ok(false),
            Some((_, DeValue::Boolean(flag))) => Ok(*flag),
            Some((value, _)) => Err(self.wrong(key, value, "true or false")),
        }
    }

    /// A whole number within bounds.
    pub(super) fn whole(&self, key: &str, bounds: Range<i64>) -> Result<Option<i64>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let DeValue::Integer(integer) = value.get_ref() else {
            return Err(self.wrong(key, value, "a whole number"));
        };
        match i64::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(number) if bounds.contains(&number) => Ok(Some(number)),
            _ => Err(self
                .source
                .error(value.span(), format!("`{key}` = {integer} is out of range"))
                .help(format!("from {} to {}", bounds.start, bounds.end - 1))),
        }
    }

    /// A table below this one.
    pub(super) fn table(&self, key: &str, section: &'static Section) -> Result<Option<Table<'d>>> {
        self.get(key).map(|value| Table::of(self.source, key, value, section, None)).transpose()
    }

    /// A list of tables (`[[step]]`); empty where the key is not there.
    pub(super) fn tables(&self, key: &str, section: &'static Section) -> Result<Vec<Table<'d>>> {
        self.list(key)?
            .iter()
            .map(|value| Table::of(self.source, key, value, section, None))
            .collect()
    }

    /// The entries of a table with free names, in the file's order.
    pub(super) fn entries(&self, key: &str) -> Result<Vec<Named<'d>>> {
        let Some(value) = self.get(key) else { return Ok(Vec::new()) };
        let DeValue::Table(table) = value.get_ref() else {
            return Err(self.wrong(key, value, "a table"));
        };
        let mut entries: Vec<Named<'d>> = table
            .iter()
            .map(|(name, value)| {
                let text = name.get_ref().as_ref();
                (Text::new(self.source, text, name.span()), value)
            })
            .collect();
        entries.sort_by_key(|(name, _)| name.span().start);
        Ok(entries)
    }

    /// The tables of a table with free names (`[kernel.NAME]`), in the file's order.
    pub(super) fn named(
        &self,
        key: &str,
        section: &'static Section,
    ) -> Result<Vec<(Text<'d>, Table<'d>)>> {
        self.entries(key)?
            .into_iter()
            .map(|(name, value)| {
                let table = Table::of(self.source, key, value, section, Some(&name))?;
                Ok((name, table))
            })
            .collect()
    }

    /// A table of free names and strings (`[texts]`).
    pub(super) fn string_map(&self, key: &str) -> Result<Vec<(Text<'d>, Text<'d>)>> {
        self.entries(key)?
            .into_iter()
            .map(|(name, value)| Ok((name, self.text(key, value, "a table of strings")?)))
            .collect()
    }
}
