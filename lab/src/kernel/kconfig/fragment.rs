//! Kconfig fragments: what somebody asks of a kernel's configuration, with the line that asks, so
//! that a request which configuration loses can be traced back to its author.
//!
//! A fragment is a piece of `.config`, as `scripts/kconfig/merge_config.sh` takes it. A comment
//! behind a line restricts it: `CONFIG_BLK_DEV_UBLK=y  # since 6.0`, `# until 6.7` (the last version
//! that has it), `# um only`, `# if known` (what a version may or may not have, as stable series
//! get some symbols late), or several with commas between. Any other comment is a comment.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::config::Value;
use super::fragment_line::{Wrong, is_symbol, is_value, read_line};
use crate::manifest::{Arch, Diagnostic, Place};

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
    /// A source without the symbol is none the worse for it.
    pub if_known: bool,
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
             CONFIG_F=y  # because of the kernel, since it asks\nCONFIG_G=y  # since 5.19, if known\n",
        );
        assert!(fragment.requests[6].only.if_known && !fragment.requests[0].only.if_known);
        let meant = |target| {
            let holds = |r: &&Request| r.only.holds(target);
            fragment.requests.iter().filter(holds).map(|r| r.symbol.as_str()).collect::<String>()
        };
        assert_eq!(meant(UM_6_1), "ADEFG");
        assert_eq!(meant(Target { version: (5, 10), arch: Arch::X86_64 }), "BCEF");
        assert_eq!(meant(Target { version: (6, 12), arch: Arch::Um }), "AFG");
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
            ("CONFIG_CONFIG_A=m", "write: CONFIG_A=m"),
            ("# CONFIG_CONFIG_A is not set", "write: # CONFIG_A is not set"),
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
