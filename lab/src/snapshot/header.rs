//! The header of a snapshot file: the part of YAML that insta's own writer makes of nested names
//! and strings.
//!
//! The tests of [`super::file`] hold it to the insta crate (1.49). That crate does not read it here:
//! it names no line of a broken header, writes to standard error where there is none, and panics on
//! a value like `.inf`.

use std::fmt::Write;

use super::file::{Info, SnapshotFile, Text};
use crate::manifest::Result;

/// The header's lines, without the fences.
pub(super) fn text(file: &SnapshotFile) -> String {
    let mut text = String::new();
    field(&mut text, "", "source", &file.source);
    field(&mut text, "", "expression", &file.expression);
    let Info { kernel, release, also, programs } = &file.info;
    text.push_str("info:\n");
    match release.as_str() {
        // What ends in brackets would be taken for a release: path:/src/linux (copy)
        "" if !kernel.ends_with(')') => field(&mut text, "  ", "kernel", kernel),
        release => field(&mut text, "  ", "kernel", &format!("{kernel} ({release})")),
    }
    if !also.is_empty() {
        field(&mut text, "  ", "also", &also.join(" "));
    }
    if !programs.is_empty() {
        text.push_str("  programs:\n");
        for (program, package) in programs {
            field(&mut text, "    ", program, package);
        }
    }
    text
}

fn field(text: &mut String, indent: &str, name: &str, value: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{indent}{}: {}", scalar(name), scalar(value));
}

/// Reads the header's nested `NAME: VALUE` lines; fields that are not ours pass.
pub(super) fn read(
    input: &Text<'_>,
    lines: &[(usize, &str)],
    file: &mut SnapshotFile,
) -> Result<()> {
    // The names that enclose a line, with their indentation.
    let mut within: Vec<(usize, String)> = Vec::new();
    for &(start, line) in lines {
        let item = line.trim_start();
        if item.is_empty() || item.starts_with('#') || item.starts_with("- ") {
            continue;
        }
        let wrong = |message: &str| input.wrong(start..start + line.len(), message);
        let indent = line.len() - item.len();
        within.retain(|(outer, _)| *outer < indent);
        let Some((name, value)) = split_field(item) else {
            return Err(wrong("not a snapshot: a header line that is not `NAME: VALUE`"));
        };
        let (Some(name), Some(value)) = (unquote(name), unquote(value)) else {
            return Err(wrong("not a snapshot: a header value whose quotes do not close"));
        };
        let outer: Vec<&str> = within.iter().map(|(_, name)| name.as_str()).collect();
        match (outer.as_slice(), name.as_str()) {
            ([], "source") => file.source = value,
            ([], "expression") => file.expression = value,
            ([], "snapshot_kind") if value == "binary" => {
                return Err(wrong("a binary snapshot, where a transcript's is text"));
            }
            (["info"], "kernel") => {
                let (kernel, release) = match value.strip_suffix(')') {
                    Some(both) => both.rsplit_once(" (").unwrap_or((&value, "")),
                    None => (value.as_str(), ""),
                };
                (file.info.kernel, file.info.release) = (kernel.into(), release.into());
            }
            (["info"], "also") => {
                file.info.also = value.split_whitespace().map(str::to_string).collect();
            }
            (["info", "programs"], program) => {
                file.info.programs.insert(program.into(), value);
            }
            _ => {}
        }
        within.push((indent, name));
    }
    Ok(())
}

/// Name and value of `NAME: VALUE`, quotes left on; the value may be missing.
fn split_field(item: &str) -> Option<(&str, &str)> {
    let mut quoted = false;
    let mut before = '\0';
    for (at, c) in item.char_indices() {
        match c {
            '"' if at == 0 || (quoted && before != '\\') => quoted = !quoted,
            ':' if !quoted && at > 0 && item[at + 1..].chars().next().is_none_or(|c| c == ' ') => {
                return Some((item[..at].trim_end(), item[at + 1..].trim()));
            }
            _ => {}
        }
        before = if before == '\\' && c == '\\' { '\0' } else { c };
    }
    None
}

/// A scalar's meaning; `None` where its quotes do not close.
fn unquote(value: &str) -> Option<String> {
    if value.starts_with('"') {
        return serde_json::from_str(value).ok();
    }
    match value.strip_prefix('\'') {
        Some(rest) => rest.strip_suffix('\'').map(|inner| inner.replace("''", "'")),
        None if value == "~" => Some(String::new()),
        None => Some(value.into()),
    }
}

/// A string as YAML that insta reads as this very string; quoted where insta would quote it, so
/// that its `accept` changes nothing.
fn scalar(value: &str) -> String {
    let word = matches!(value, "true" | "false" | "null" | "yes" | "no" | "on" | "off" | "NaN");
    let begins = value.starts_with(|c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '_'));
    let plain = |c: char| c.is_ascii_alphanumeric() || " /._+-~()=@".contains(c);
    let number = value.starts_with("0x") || value.parse::<f64>().is_ok();
    if begins && value.chars().all(plain) && !value.ends_with(' ') && !word && !number {
        return value.into();
    }
    // Every JSON string is a YAML string of the same meaning.
    serde_json::Value::from(value).to_string()
}
