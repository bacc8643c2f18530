//! What must hold for any file that is given as a patch: `lab::fuzzing` calls this.

use std::path::{Component, Path};

use super::Patch;
use super::diff::{hunks, split};
use super::mail::{is_mail, subject_of, taken_apart};
use crate::fuzzing::check_words;

/// A patch file: an error that says what it looks like, or a patch whose paths stay in the source
/// and which, read again without the words before it, touches the same. Mails are left out: git takes
/// them apart.
pub(crate) fn patch(data: &[u8]) {
    let words = String::from_utf8_lossy(data);
    let (subject, _, _) = taken_apart(&words);
    assert!(words.contains(&subject));
    subject_of(&words);
    if is_mail(data) {
        return;
    }
    for strip in [1, 0] {
        let patches = match Patch::parse(Path::new("a.patch"), data, strip) {
            Ok(patches) => patches,
            Err(error) => {
                check_words(&error);
                assert!(error.way_out().is_some(), "{error}");
                continue;
            }
        };
        let [patch] = &patches[..] else { panic!("{} patches", patches.len()) };
        assert!(!patch.subject.trim().is_empty(), "{:?}", patch.subject);
        let (head, text) = split(data).expect("it has a diff");
        assert!(data.starts_with(head) && data[head.len()..].starts_with(text));
        assert_eq!(patch.text, text);
        assert!(!patch.files.is_empty());
        for file in &patch.files {
            let inside = file.components().all(|part| matches!(part, Component::Normal(_)));
            assert!(inside && !file.starts_with(".git"), "{}", file.display());
        }
        let again = Patch::parse(Path::new("a.patch"), text, strip).expect("it is one already");
        // Only one signature is taken off at a time.
        assert!(text.starts_with(&again[0].text));
        assert_eq!(again[0].files, patch.files);
        for hunk in hunks(text, strip) {
            assert!(hunk.number > 0);
            let lines = hunk.before.iter().chain(&hunk.after);
            assert!(lines.flatten().all(|byte| *byte != b'\n'));
            for file in hunk.old.iter().chain(&hunk.new) {
                assert!(patch.files.contains(file), "{} is not said to be touched", file.display());
            }
        }
    }
}
