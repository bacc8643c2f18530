//! One line of a kconfig fragment: what it asks, for which kernels, and what it should have been
//! where it is no valid line.

use super::config::{Value, unquoted};
use super::fragment::{Condition, Request, Version};
use crate::manifest::{Arch, nearest};

const NEITHER: &str = "this is neither an assignment nor a comment";
const FORMS: &str = "a line of a fragment is CONFIG_SYMBOL=y, or # CONFIG_SYMBOL is not set";

/// What is wrong with a line, and its nearest valid form.
pub(super) struct Wrong {
    pub message: String,
    pub help: String,
}

fn wrong(message: impl Into<String>, help: impl Into<String>) -> Wrong {
    Wrong { message: message.into(), help: help.into() }
}

/// One line: nothing, or a request whose span is relative to the line.
pub(super) fn read_line(line: &str) -> Result<Option<Request>, Wrong> {
    let start = line.len() - line.trim_start().len();
    let body = line.trim();
    if body.is_empty() {
        return Ok(None);
    }
    if let Some(comment) = body.strip_prefix('#') {
        return read_not_set(comment, start);
    }
    let (assignment, comment) = split_comment(body);
    let only = match comment {
        Some(comment) => read_condition(comment)?,
        None => Condition::default(),
    };
    let Some((symbol, written)) = assignment.split_once('=') else {
        let name = assignment.strip_suffix(" is not set").map(str::trim);
        return Err(match name.unwrap_or(assignment) {
            name if name.contains(char::is_whitespace) => wrong(NEITHER, FORMS),
            plain if name.is_some() => wrong(
                format!("{plain} is switched off by a comment"),
                format!("write: # {} is not set", with_prefix(plain)),
            ),
            plain => wrong(
                format!("{plain} is not given a value"),
                format!("write: {}=y", with_prefix(plain)),
            ),
        });
    };
    let (symbol, value) = (symbol.trim_end(), written.trim_start());
    if symbol.contains(char::is_whitespace) {
        return Err(wrong(NEITHER, FORMS));
    }
    let meant = || format!("write: {}={}", with_prefix(symbol), nearest_value(value));
    let Some(name) = symbol.strip_prefix("CONFIG_") else {
        return Err(wrong(format!("{symbol} does not begin with CONFIG_"), meant()));
    };
    if !is_symbol(name) {
        return Err(wrong(
            format!("{symbol} is not the name of a symbol"),
            "a symbol is CONFIG_ and then letters, digits and underscores",
        ));
    }
    if let Some(rest) = name.strip_prefix("CONFIG_") {
        return Err(twice(&format!("CONFIG_{rest}={value}")));
    }
    if symbol.len() + 1 + value.len() != assignment.len() {
        return Err(wrong("a .config has no blanks around the equals sign", meant()));
    }
    if !is_value(value) {
        return Err(wrong(format!("{value:?} is not a value"), meant()));
    }
    let value = match value {
        "y" => Value::Yes,
        "m" => Value::Module,
        "n" => Value::No,
        text => Value::Text(unquoted(text)),
    };
    Ok(Some(Request {
        symbol: name.to_string(),
        value,
        written: written.to_string(),
        span: start..start + assignment.len(),
        only,
    }))
}

/// Everything here takes a symbol with its CONFIG_ or without, so none may begin with another.
fn twice(meant: &str) -> Wrong {
    wrong("CONFIG_ stands here twice", format!("write: {meant}"))
}

/// `# CONFIG_X is not set`, given what follows the `#`. Slips that the kernel's own tools take for
/// a comment, and so for nothing, are errors.
fn read_not_set(comment: &str, start: usize) -> Result<Option<Request>, Wrong> {
    let words: Vec<&str> = comment.split_whitespace().take(4).collect();
    let [symbol, "is", "not", "set"] = words[..] else { return Ok(None) };
    let Some(name) = symbol.strip_prefix("CONFIG_").filter(|name| is_symbol(name)) else {
        return Ok(None);
    };
    if let Some(rest) = name.strip_prefix("CONFIG_") {
        return Err(twice(&format!("# CONFIG_{rest} is not set")));
    }
    let exact = format!(" {symbol} is not set");
    let Some(rest) = comment.strip_prefix(&exact) else {
        return Err(wrong(
            "configuration tools take this for a comment that says nothing",
            format!("write: #{exact}"),
        ));
    };
    let only = match rest.trim_start().strip_prefix('#') {
        Some(condition) => read_condition(condition)?,
        None if rest.trim().is_empty() => Condition::default(),
        None => return Ok(None),
    };
    Ok(Some(Request {
        symbol: name.to_string(),
        value: Value::No,
        written: "n".into(),
        span: start..start + 1 + exact.len(),
        only,
    }))
}

/// The assignment and what follows a `#` behind it, which is none inside quotes.
fn split_comment(body: &str) -> (&str, Option<&str>) {
    let (mut quoted, mut escaped) = (false, false);
    for (index, c) in body.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '#' if !quoted => return (body[..index].trim_end(), Some(&body[index + 1..])),
            _ => {}
        }
    }
    (body, None)
}

/// The conditions in a trailing comment. A comment that does not begin like one is a remark.
fn read_condition(comment: &str) -> Result<Condition, Wrong> {
    let mut only = Condition::default();
    for (index, part) in comment.split(',').enumerate() {
        let words: Vec<&str> = part.split_whitespace().collect();
        match words[..] {
            ["since", version] => only.since = Some(read_version(version)?),
            ["until", version] => only.until = Some(read_version(version)?),
            ["um", "only"] => only.arch = Some(Arch::Um),
            ["if", "known"] => only.if_known = true,
            ["x86_64", "only"] => only.arch = Some(Arch::X86_64),
            [first, second] if looks_like_a_condition(first, second) => {
                return Err(unknown_condition(part));
            }
            _ if index == 0 => return Ok(only),
            _ => return Err(unknown_condition(part)),
        }
    }
    Ok(only)
}

fn looks_like_a_condition(first: &str, second: &str) -> bool {
    (second.starts_with(|c: char| c.is_ascii_digit()) && second.contains('.'))
        || second == "only"
        || nearest(first, ["since", "until"]).is_some()
}

fn unknown_condition(part: &str) -> Wrong {
    wrong(
        format!("{:?} is not a condition", part.trim()),
        "conditions are: since 6.0, until 6.7, um only, x86_64 only, if known; with commas between",
    )
}

fn read_version(text: &str) -> Result<Version, Wrong> {
    let parsed = text
        .split_once('.')
        .and_then(|(major, minor)| Some((major.parse::<u32>().ok()?, minor.parse::<u32>().ok()?)));
    parsed.ok_or_else(|| wrong(format!("{text:?} is not a version of Linux"), "write it as 6.1"))
}

/// What Kconfig allows in a symbol's name.
pub(super) fn is_symbol(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// `y`, `m`, `n`, a decimal or hexadecimal number, or a string in quotes.
pub(super) fn is_value(value: &str) -> bool {
    if matches!(value, "y" | "m" | "n") {
        return true;
    }
    let digits = value.strip_prefix('-').unwrap_or(value);
    if let Some(hex) = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        return !hex.is_empty() && hex.bytes().all(|b| b.is_ascii_hexdigit());
    }
    if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
        return true;
    }
    let inner = value.strip_prefix('"').and_then(|v| v.strip_suffix('"'));
    inner.is_some_and(|inner| {
        let mut escaped = false;
        let bare = inner.chars().any(|c| {
            let bare = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            bare
        });
        !bare && !escaped
    })
}

fn nearest_value(value: &str) -> String {
    match value.to_ascii_lowercase().as_str() {
        _ if is_value(value) => value.to_string(),
        "yes" | "y" | "on" | "true" | "\"y\"" => "y".into(),
        "no" | "n" | "off" | "false" | "" => "n".into(),
        "m" | "module" => "m".into(),
        _ => format!("\"{}\"", value.trim_matches(['"', '\''])),
    }
}

fn with_prefix(symbol: &str) -> String {
    format!("CONFIG_{}", symbol.strip_prefix("CONFIG_").unwrap_or(symbol))
}
