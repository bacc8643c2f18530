//! Which snapshot file belongs to a run: `transcript[.PARAM-VALUE][@VARIANT][.known].snap`.
//!
//! Different runs never share a name. Bytes that have a meaning in the name, or none on some file
//! system, are written `%NN`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use globset::Glob;

use super::file::{SnapshotFile, read_if_there};
use crate::manifest::{Case, Result, Variant};

/// What a snapshot file's name says.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wanted {
    /// The run's parameter values.
    pub params: BTreeMap<String, String>,
    /// The name of a `[variant.NAME]`; in a pending file that is still to be named, a kernel's.
    pub variant: Option<String>,
    /// It holds a failure listed under `[[known]]`.
    pub known: bool,
}

/// What was accepted for a run, and where.
#[derive(Clone, Debug)]
pub struct Expected {
    /// What the run's transcript is compared with; `None`: nothing was accepted yet.
    pub snapshot: Option<SnapshotFile>,
    /// Its file, or where it would be.
    pub path: PathBuf,
    /// The transcript of the known failure, where one was accepted.
    pub known: Option<SnapshotFile>,
    /// Its file, or where it would be.
    pub known_path: PathBuf,
    /// The variant that the manifest names for the kernel. `path` is the base's all the same where
    /// the variant has no file of its own.
    pub variant: Option<String>,
}

/// What was accepted for `case` with `params` on `kernel`: the variant's snapshot, else the base.
/// Fails where a file is there and is no snapshot.
pub fn expected(case: &Case, params: &BTreeMap<String, String>, kernel: &str) -> Result<Expected> {
    let variant = variant_for(&case.variants, kernel).map(str::to_string);
    let pick = |known| -> Result<(PathBuf, Option<SnapshotFile>)> {
        let base = Wanted { params: params.clone(), variant: None, known };
        let own = Wanted { variant: variant.clone(), ..base.clone() };
        let (own, base) = (own.path(&case.dir), base.path(&case.dir));
        if let Some(file) = read_if_there(&own)? {
            return Ok((own, Some(file)));
        }
        match read_if_there(&base)? {
            Some(file) => Ok((base, Some(file))),
            None => Ok((own, None)),
        }
    };
    let ((path, snapshot), (known_path, known)) = (pick(false)?, pick(true)?);
    Ok(Expected { snapshot, path, known, known_path, variant })
}

impl Wanted {
    /// The accepted file's path in a case's folder.
    pub fn path(&self, case: &Path) -> PathBuf {
        case.join("snapshots").join(self.file_name())
    }

    /// The accepted file's name.
    pub fn file_name(&self) -> String {
        let mut name = self.stem();
        if let Some(variant) = &self.variant {
            name.push('@');
            let (front, known) = match variant.strip_suffix(".known") {
                Some(front) => (front, "%2eknown"),
                None => (variant.as_str(), ""),
            };
            name.push_str(&escape(front, b"_+-."));
            name.push_str(known);
        }
        if self.known {
            name.push_str(".known");
        }
        name.push_str(".snap");
        name
    }

    /// The part that says case and parameters: all files with the same one belong together.
    pub fn stem(&self) -> String {
        let mut stem = String::from("transcript");
        for (name, value) in &self.params {
            let value = escape(value, b"_+-");
            let _ = write!(stem, ".{}-{value}", escape(name, b"_+"));
        }
        // A name may have 255 bytes, and some must be left for variant and ending.
        if stem.len() > 120 {
            let digest = blake3::hash(stem.as_bytes()).to_hex();
            stem.truncate(80);
            stem.push('~');
            stem.push_str(&digest[..32]);
        }
        stem
    }
}

/// Stem, variant and whether it is a known failure's, of the name of an accepted or pending file;
/// `None` where the name is not one of ours.
pub(super) fn parse(file_name: &str) -> Option<(&str, Option<String>, bool)> {
    let name = file_name.strip_suffix(".new").unwrap_or(file_name).strip_suffix(".snap")?;
    let (name, known) = match name.strip_suffix(".known") {
        Some(front) => (front, true),
        None => (name, false),
    };
    let (stem, variant) = match name.split_once('@') {
        Some((stem, variant)) => (stem, Some(unescape(variant)?)),
        None => (name, None),
    };
    let ours = stem == "transcript" || stem.starts_with("transcript.");
    ours.then_some((stem, variant, known))
}

/// The name of the first variant whose globs match the kernel.
pub(super) fn variant_for<'a>(
    variants: &'a BTreeMap<String, Variant>,
    kernel: &str,
) -> Option<&'a str> {
    let matches =
        |glob: &String| Glob::new(glob).is_ok_and(|g| g.compile_matcher().is_match(kernel));
    variants.iter().find(|(_, v)| v.kernels.iter().any(matches)).map(|(name, _)| name.as_str())
}

fn escape(text: &str, free: &[u8]) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || free.contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02x}");
        }
    }
    out
}

fn unescape(text: &str) -> Option<String> {
    let mut out = Vec::new();
    let mut parts = text.split('%');
    out.extend(parts.next()?.as_bytes());
    for part in parts {
        out.push(u8::from_str_radix(part.get(..2)?, 16).ok()?);
        out.extend(&part.as_bytes()[2..]);
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::file::{Info, write};
    use super::super::testing::case;
    use super::*;

    fn wanted(params: &[(&str, &str)], variant: Option<&str>, known: bool) -> Wanted {
        let params = params.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect();
        Wanted { params, variant: variant.map(str::to_string), known }
    }

    #[test]
    fn names() {
        let name =
            |params: &[(&str, &str)], variant, known| wanted(params, variant, known).file_name();
        assert_eq!(name(&[], None, false), "transcript.snap");
        assert_eq!(name(&[], Some("old"), true), "transcript@old.known.snap");
        assert_eq!(name(&[("b", "2"), ("a", "1")], None, false), "transcript.a-1.b-2.snap");
        assert_eq!(name(&[("a", "-1.5 k/%")], None, false), "transcript.a--1%2e5%20k%2f%25.snap");
        assert_eq!(
            name(&[("a-b", "c")], Some("uml-6.1"), false),
            "transcript.a%2db-c@uml-6.1.snap"
        );
        let long = name(&[("a", &"x/".repeat(200))], None, false);
        assert!(long.len() < 130 && long != name(&[("a", &"x/".repeat(201))], None, false));
    }

    #[test]
    fn no_two_runs_share_a_name() {
        let values = ["", "1", ".known", "@x", "-", "b-c", "a.b", "%2e", "known"];
        let mut seen = BTreeSet::new();
        let mut count = 0;
        for value in values {
            for name in ["a", "a-b", "known"] {
                for variant in [
                    None,
                    Some("x"),
                    Some("x.known"),
                    Some("x%2eknown"),
                    Some("@"),
                    Some("uml-6.1"),
                ] {
                    for known in [false, true] {
                        let wanted = wanted(&[(name, value)], variant, known);
                        let file = wanted.file_name();
                        let stem = wanted.stem();
                        let read = parse(&file).unwrap();
                        assert_eq!(read, (stem.as_str(), wanted.variant, known), "{file}");
                        assert_eq!(parse(&format!("{file}.new")).unwrap(), read);
                        assert!(seen.insert(file));
                        count += 1;
                    }
                }
            }
        }
        assert_eq!(seen.len(), count);
        assert_eq!(parse("other.snap"), None);
        assert_eq!(parse("transcript.txt"), None);
    }

    #[test]
    fn a_variant_falls_back_to_the_base() {
        let folder = tempfile::tempdir().unwrap();
        let case = case(folder.path(), "a", &[("old", &["uml-5.*"])]);
        let params = BTreeMap::new();
        let put = |name: &str| {
            let info = Info { kernel: name.into(), ..Info::default() };
            let file = SnapshotFile::new("a", &params, info, format!("$ {name}\n"));
            write(&case.dir.join("snapshots").join(name), &file).unwrap();
        };
        let ask = |kernel: &str| {
            let e = expected(&case, &params, kernel).unwrap();
            let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_string();
            (name(&e.path), e.snapshot.is_some(), name(&e.known_path), e.known.is_some(), e.variant)
        };
        let old = Some("old".to_string());
        let (own, base) = ("transcript@old.snap".to_string(), "transcript.snap".to_string());
        let own_known = "transcript@old.known.snap".to_string();
        let base_known = "transcript.known.snap".to_string();
        assert_eq!(ask("uml-5.10"), (own.clone(), false, own_known.clone(), false, old.clone()));
        assert_eq!(ask("uml-6.1"), (base.clone(), false, base_known.clone(), false, None));
        put("transcript.snap");
        assert_eq!(ask("uml-5.10"), (base.clone(), true, own_known.clone(), false, old.clone()));
        put("transcript@old.snap");
        put("transcript.known.snap");
        assert_eq!(ask("uml-5.10"), (own, true, base_known.clone(), true, old));
        assert_eq!(ask("uml-6.1"), (base, true, base_known, true, None));

        std::fs::write(case.dir.join("snapshots/transcript.snap"), "no header\n").unwrap();
        assert!(expected(&case, &params, "uml-6.1").is_err());
        assert!(expected(&case, &params, "uml-5.10").is_ok());
    }
}
