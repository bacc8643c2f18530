//! What must hold for any bytes at all: the properties behind `make fuzz`, by the name of their fuzz
//! target. Each stands beside the code that it is about; here are their table and what they share.
//!
//! A property is a function that panics where it does not hold. The fuzzer looks for such inputs;
//! `cargo test` runs every property on its corpus (fuzz/corpus), so that it is held to without a
//! fuzzer too. This module is in test and fuzz builds only (`--cfg fuzzing`, set by cargo-fuzz).

use crate::manifest::Diagnostic;
use crate::{console, kernel, manifest, snapshot};

/// Panics where something does not hold that must hold for all inputs.
pub type Property = fn(&[u8]);

/// The fuzz targets, in the order in which data flows: name and property.
pub const TARGETS: &[(&str, Property)] = &[
    ("lab_toml", manifest::fuzz::lab_toml),
    ("image_toml", manifest::fuzz::image_toml),
    ("case_toml", manifest::fuzz::case_toml),
    ("kconfig", kernel::fuzz::kconfig),
    ("fragment", kernel::fuzz::fragment),
    ("patch", kernel::fuzz::patch),
    ("control", console::fuzz::control),
    ("log", console::fuzz::log),
    ("filters", snapshot::fuzz::filters),
    ("transcript", snapshot::fuzz::transcript),
    ("snapshot_file", snapshot::fuzz::snapshot_file),
];

/// Holds `data` against the property of that name.
///
/// # Panics
/// It does not hold, or there is no such property.
pub fn check(target: &str, data: &[u8]) {
    let found = TARGETS.iter().find(|(name, _)| *name == target);
    found.unwrap_or_else(|| panic!("there is no property {target}")).1(data);
}

/// What holds for every error about a text that a user wrote: one paragraph, and a place inside the
/// text, on whole characters; and it can be drawn.
pub(crate) fn check_error(error: &Diagnostic, text: &str) {
    let place = error.place().unwrap_or_else(|| panic!("no place: {error}"));
    assert_eq!(&*place.text, text, "the place is in another text: {error}");
    check_words(error);
}

/// What holds for every error: [`check_error`] without the demand for a place.
pub(crate) fn check_words(error: &Diagnostic) {
    let message = error.message();
    assert!(!message.trim().is_empty() && !message.ends_with('.'), "{message:?}");
    if let Some(place) = error.place() {
        let meant = place.text.get(place.span.clone());
        assert!(meant.is_some(), "{:?} is no part of the text: {error}", place.span);
        let (line, column) = place.line_column();
        assert!(line >= 1 && line <= place.text.matches('\n').count() + 1 && column >= 1);
    }
    let drawn = crate::cli::paragraph(error);
    // What could not be drawn is said in one line, which begins so.
    assert!(error.place().is_none() || !drawn.starts_with("lab: "), "not drawn: {drawn}");
}

/// An input taken apart from its front.
pub(crate) struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    /// The next byte.
    pub fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// What stands before the next `end`, which is taken too; all that is left without one.
    pub fn until(&mut self, end: u8) -> &'a [u8] {
        let at = self.0.iter().position(|b| *b == end);
        let part = &self.0[..at.unwrap_or(self.0.len())];
        self.0 = self.0.get(part.len() + 1..).unwrap_or_default();
        part
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeSet;
    use std::panic::catch_unwind;
    use std::path::{Path, PathBuf};

    use super::*;

    fn folder() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("fuzz")
    }

    fn names(folder: &Path) -> BTreeSet<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
    }

    /// The committed inputs of a target: name and bytes.
    pub fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
        let folder = folder().join("corpus").join(target);
        let read = |name: String| (name.clone(), std::fs::read(folder.join(name)).unwrap());
        names(&folder).into_iter().map(read).collect()
    }

    /// Whether a property, made about a wrong thing, notices that by the target's corpus: the twin
    /// of [`every_property_holds_on_its_corpus`].
    pub fn corpus_notices(target: &str, property: impl Fn(&[u8])) -> bool {
        corpus(target)
            .iter()
            .any(|(_, data)| catch_unwind(std::panic::AssertUnwindSafe(|| property(data))).is_err())
    }

    #[test]
    fn every_property_holds_on_its_corpus() {
        let mut broken = Vec::new();
        for (target, property) in TARGETS {
            let corpus = corpus(target);
            assert!(!corpus.is_empty(), "{target} has no corpus");
            for (name, data) in corpus {
                if catch_unwind(|| property(&data)).is_err() {
                    broken.push(format!("fuzz/corpus/{target}/{name}"));
                }
            }
        }
        assert!(broken.is_empty(), "{broken:#?}");
    }

    #[test]
    fn every_property_has_its_target_and_no_target_is_without_one() {
        let known: BTreeSet<String> = TARGETS.iter().map(|(name, _)| name.to_string()).collect();
        assert_eq!(names(&folder().join("corpus")), known);
        let file = |name: &String| format!("{name}.rs");
        let files: BTreeSet<String> = known.iter().map(file).collect();
        assert_eq!(names(&folder().join("fuzz_targets")), files);
        for name in known {
            let text = |file: &str| std::fs::read_to_string(folder().join(file)).unwrap();
            let target = text(&format!("fuzz_targets/{name}.rs"));
            assert!(target.contains(&format!("check(\"{name}\", data)")), "{target}");
            assert!(text("Cargo.toml").contains(&format!("name = \"{name}\"")), "{name}");
        }
    }

    #[test]
    fn an_error_without_a_place_or_with_a_wrong_one_is_noticed() {
        use crate::manifest::Place;
        let text = "a = é\n";
        let at = |span| Place { file: "x".into(), text: text.into(), span };
        let sound = Diagnostic::usage("no").at(at(4..6));
        check_error(&sound, text);
        let wrong = [
            Diagnostic::usage("no"),
            Diagnostic::usage("no.").at(at(0..1)),
            Diagnostic::usage("no").at(at(5..6)),
            Diagnostic::usage("no").at(at(6..9)),
            Diagnostic::usage("no").at(Place { text: "b".into(), ..at(0..1) }),
        ];
        for error in wrong {
            assert!(catch_unwind(|| check_error(&error, text)).is_err(), "{error:?}");
        }
    }
}
