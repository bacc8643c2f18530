//! Kconfig fragments: what somebody asks of a kernel's configuration, with the line that asks, so
//! that a request which configuration loses can be traced back to its author.
//!
//! A fragment is a piece of `.config`, as `scripts/kconfig/merge_config.sh` takes it. A comment
//! behind a line restricts it: `CONFIG_BLK_DEV_UBLK=y  # since 6.0`, `# until 6.7` (the last version
//! that has it), `# um only`, or several with commas between. Any other comment is a comment.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::kconfig::{Value, unquoted};
use crate::manifest::{Arch, Diagnostic, Place, nearest};

/// The name that a fragment of `--config` options goes by, in messages and in [`super::merge`].
pub const ONE_OFFS: &str = "--config";

/// The requests of one file.
#[derive(Clone, Debug)]
pub struct Fragment {
    /// As lab.toml names it: `fs`.
    pub name: String,
    /// Its file as a user would name it.
    pub file: PathBuf,
    /// The whole text, for excerpts.
    pub text: Arc<str>,
    /// In the order of the file.
    pub requests: Vec<Request>,
}

/// One line of a fragment.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// Without `CONFIG_`.
    pub symbol: String,
    /// What it shall be.
    pub value: Value,
    /// The value as a `.config` has it: strings with their quotes.
    pub written: String,
    /// Bytes of the text: the assignment without its trailing comment.
    pub span: Range<usize>,
    /// Which kernels it is meant for.
    pub only: Condition,
}

/// A version of Linux as far as fragments tell them apart: major and minor number.
pub type Version = (u32, u32);

/// Which kernels a request is meant for; the default is all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Condition {
    /// The first version that has the symbol.
    pub since: Option<Version>,
    /// The last version that has it.
    pub until: Option<Version>,
    /// The only architecture that has it.
    pub arch: Option<Arch>,
}

/// What a configuration is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The source's version.
    pub version: Version,
    /// The architecture that it is configured for.
    pub arch: Arch,
}

impl Fragment {
    /// Parses a fragment file.
    ///
    /// # Errors
    /// Every line that says nothing a `.config` could say, each with the nearest valid form.
    pub fn parse(
        name: impl Into<String>,
        file: impl Into<PathBuf>,
        text: impl Into<Arc<str>>,
    ) -> Result<Self, Vec<Diagnostic>> {
        let (file, text) = (file.into(), text.into());
        let (mut requests, mut bad) = (Vec::new(), Vec::new());
        let mut offset = 0;
        for line in text.split_inclusive('\n') {
            match read_line(line) {
                Ok(None) => {}
                Ok(Some(mut request)) => {
                    request.span = request.span.start + offset..request.span.end + offset;
                    requests.push(request);
                }
                Err(Wrong { message, help }) => {
                    let start = offset + (line.len() - line.trim_start().len());
                    let span = start..start.max(offset + line.trim_end().len());
                    let place = Place { file: file.clone(), text: text.clone(), span };
                    bad.push(Diagnostic::usage(message).help(help).at(place));
                }
            }
            offset += line.len();
        }
        if !bad.is_empty() {
            return Err(bad);
        }
        Ok(Self { name: name.into(), file, text, requests })
    }

    /// The fragment that `--config SYMBOL=VALUE` options make, one line each. A value that is
    /// neither y, m, n nor a number is a string, with or without its quotes (a shell takes them).
    ///
    /// # Errors
    /// As [`Fragment::parse`]; the file is called `--config`.
    pub fn one_offs<S: AsRef<str>>(options: &[S]) -> Result<Self, Vec<Diagnostic>> {
        let mut text = String::new();
        for option in options {
            let option = option.as_ref().trim();
            let option = option.strip_prefix("CONFIG_").unwrap_or(option);
            let line = match option.split_once('=') {
                Some((symbol, value)) if is_symbol(symbol) && !is_value(value) => {
                    let escaped = value.replace('\\', "\\\\").replace('"', "\\\"");
                    format!("CONFIG_{symbol}=\"{escaped}\"\n")
                }
                _ => format!("CONFIG_{option}\n"),
            };
            text.push_str(&line);
        }
        Self::parse(ONE_OFFS, ONE_OFFS, text)
    }

    /// Where a request stands.
    pub fn place(&self, request: &Request) -> Place {
        Place { file: self.file.clone(), text: self.text.clone(), span: request.span.clone() }
    }
}

impl Condition {
    /// Whether the request is meant for this kernel.
    pub fn holds(&self, target: Target) -> bool {
        self.since.is_none_or(|since| target.version >= since)
            && self.until.is_none_or(|until| target.version <= until)
            && self.arch.is_none_or(|arch| target.arch == arch)
    }
}

impl Target {
    /// Reads the version from a source tree's Makefile.
    ///
    /// # Errors
    /// The Makefile cannot be read, or is not that of a kernel.
    pub fn of_source(source: &Path, arch: Arch) -> Result<Self, Diagnostic> {
        let makefile = source.join("Makefile");
        let text = std::fs::read(&makefile).map_err(|e| Diagnostic::io("read", &makefile, &e))?;
        let text = String::from_utf8_lossy(&text);
        let number = |name: &str| {
            text.lines().take(20).find_map(|line| {
                let (key, value) = line.split_once('=')?;
                if key.trim() == name { value.trim().parse().ok() } else { None }
            })
        };
        match (number("VERSION"), number("PATCHLEVEL")) {
            (Some(major), Some(minor)) => Ok(Self { version: (major, minor), arch }),
            _ => Err(Diagnostic::usage(format!("{} is not a kernel source", source.display()))
                .help("its Makefile has no VERSION and PATCHLEVEL")),
        }
    }
}

/// What is wrong with a line, and its nearest valid form.
struct Wrong {
    message: String,
    help: String,
}

fn wrong(message: impl Into<String>, help: impl Into<String>) -> Wrong {
    Wrong { message: message.into(), help: help.into() }
}

/// One line: nothing, or a request whose span is relative to the line.
fn read_line(line: &str) -> Result<Option<Request>, Wrong> {
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
            name if name.contains(char::is_whitespace) => wrong(
                "this is neither an assignment nor a comment",
                "a line of a fragment is CONFIG_SYMBOL=y, or # CONFIG_SYMBOL is not set",
            ),
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

/// `# CONFIG_X is not set`, given what follows the `#`. Slips that the kernel's own tools take for
/// a comment, and so for nothing, are errors.
fn read_not_set(comment: &str, start: usize) -> Result<Option<Request>, Wrong> {
    let words: Vec<&str> = comment.split_whitespace().take(4).collect();
    let [symbol, "is", "not", "set"] = words[..] else { return Ok(None) };
    let Some(name) = symbol.strip_prefix("CONFIG_").filter(|name| is_symbol(name)) else {
        return Ok(None);
    };
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
        "conditions are: since 6.0, until 6.7, um only, x86_64 only; with commas between",
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
fn is_value(value: &str) -> bool {
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

#[cfg(test)]
mod tests {
    use super::*;

    const UM_6_1: Target = Target { version: (6, 1), arch: Arch::Um };

    fn parsed(text: &str) -> Fragment {
        Fragment::parse("fs", "kconfigs/fs.config", text).unwrap()
    }

    #[test]
    fn lines_become_requests_with_spans() {
        let text = "# A remark.\n\nCONFIG_EXT4_FS=y\n# CONFIG_XFS_FS is not set\n\
                    CONFIG_NR=0x10\nCONFIG_S=\"a # \\\"b\\\"\"  # quoted\nCONFIG_BTRFS_FS=m\n";
        let fragment = parsed(text);
        let read: Vec<_> = fragment
            .requests
            .iter()
            .map(|r| (r.symbol.as_str(), r.value.clone(), &text[r.span.clone()]))
            .collect();
        let text_of = |t: &str| Value::Text(t.into());
        assert_eq!(
            read,
            [
                ("EXT4_FS", Value::Yes, "CONFIG_EXT4_FS=y"),
                ("XFS_FS", Value::No, "# CONFIG_XFS_FS is not set"),
                ("NR", text_of("0x10"), "CONFIG_NR=0x10"),
                ("S", text_of("a # \"b\""), "CONFIG_S=\"a # \\\"b\\\"\""),
                ("BTRFS_FS", Value::Module, "CONFIG_BTRFS_FS=m"),
            ]
        );
        assert_eq!(fragment.place(&fragment.requests[1]).line_column(), (4, 1));
    }

    #[test]
    fn conditions_say_which_kernels_are_meant() {
        let fragment = parsed(
            "CONFIG_A=y  # since 6.0\nCONFIG_B=y # until 5.15\nCONFIG_C=y  # x86_64 only\n\
             CONFIG_D=y  # um only, since 5.10, until 6.7\n# CONFIG_E is not set  # until 6.5\n\
             CONFIG_F=y  # because of the kernel, since it asks\n",
        );
        let meant = |target| {
            let holds = |r: &&Request| r.only.holds(target);
            fragment.requests.iter().filter(holds).map(|r| r.symbol.as_str()).collect::<String>()
        };
        assert_eq!(meant(UM_6_1), "ADEF");
        assert_eq!(meant(Target { version: (5, 10), arch: Arch::X86_64 }), "BCEF");
        assert_eq!(meant(Target { version: (6, 12), arch: Arch::Um }), "AF");
    }

    #[test]
    fn bad_lines_tell_their_nearest_valid_form() {
        for (line, form) in [
            ("CONFIG_A = y", "write: CONFIG_A=y"),
            ("EXT4_FS=y", "write: CONFIG_EXT4_FS=y"),
            ("CONFIG_A", "write: CONFIG_A=y"),
            ("CONFIG_A=yes", "write: CONFIG_A=y"),
            ("CONFIG_A=", "write: CONFIG_A=n"),
            ("CONFIG_A='x'", "write: CONFIG_A=\"x\""),
            ("CONFIG_A is not set", "write: # CONFIG_A is not set"),
            ("#CONFIG_A is not set", "write: # CONFIG_A is not set"),
            ("#  CONFIG_A is  not set", "write: # CONFIG_A is not set"),
            ("CONFIG_A-B=y", "letters, digits and underscores"),
            ("CONFIG_A=y # sinse 6.0", "since 6.0, until 6.7"),
            ("CONFIG_A=y # arm only", "um only, x86_64 only"),
            ("CONFIG_A=y # since 6", "write it as 6.1"),
            ("obj-y += a.o", "CONFIG_SYMBOL=y"),
        ] {
            let text = format!("CONFIG_OK=y\n  {line}\n");
            let bad = Fragment::parse("x", "kconfigs/x.config", text).expect_err(line);
            let told = bad[0].to_string();
            assert!(told.starts_with("kconfigs/x.config:2:3: ") && told.contains(form), "{told}");
            assert_eq!(bad.len(), 1);
        }
    }

    #[test]
    fn one_offs_are_lines_of_their_own() {
        let fragment =
            Fragment::one_offs(&["KASAN=y", "CONFIG_NR_CPUS=2", "CMDLINE=a \"b\""]).unwrap();
        let written: Vec<_> = fragment.requests.iter().map(|r| r.written.as_str()).collect();
        assert_eq!(written, ["y", "2", r#""a \"b\"""#]);
        assert_eq!(fragment.requests[2].value, Value::Text("a \"b\"".into()));
        let bad = Fragment::one_offs(&["KASAN"]).unwrap_err();
        assert!(bad[0].to_string().contains("write: CONFIG_KASAN=y"), "{}", bad[0]);
    }

    #[test]
    fn the_version_stands_in_the_makefile() {
        let folder = tempfile::tempdir().unwrap();
        let makefile = folder.path().join("Makefile");
        std::fs::write(&makefile, "# SPDX\nVERSION = 6\nPATCHLEVEL = 1\nSUBLEVEL = 9\n").unwrap();
        assert_eq!(Target::of_source(folder.path(), Arch::Um).unwrap(), UM_6_1);
        std::fs::write(&makefile, "all:\n").unwrap();
        let told = Target::of_source(folder.path(), Arch::Um).unwrap_err();
        assert!(told.message().ends_with("is not a kernel source"), "{told}");
    }
}
