//! Patches on a real working tree: exactly the list, nothing else touched, failures explained.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tempfile::TempDir;

use super::super::{AptSource, PullError, Sources, Tree};
use super::Patch;

const TEXT: &str =
    "alpha\nbeta\ngamma\ndelta\nepsilon\nzeta\neta\ntheta\niota\nkappa\nlambda\nmu\n";

fn tree() -> (TempDir, Tree) {
    let root = tempfile::tempdir().unwrap();
    let kernel = root.path().join("linux");
    fs::create_dir_all(kernel.join("fs")).unwrap();
    fs::create_dir_all(kernel.join("drivers")).unwrap();
    fs::write(kernel.join("Makefile"), "VERSION = 6\nPATCHLEVEL = 1\n").unwrap();
    fs::write(kernel.join("Kconfig"), "").unwrap();
    fs::write(kernel.join("fs/inode.c"), TEXT).unwrap();
    fs::write(kernel.join("fs/other.c"), "\tint x;\n\tint y;\n\tint z;\n").unwrap();
    fs::write(kernel.join("drivers/moved.c"), "x\n").unwrap();
    let sources = Sources::open(&root.path().join("cache")).unwrap();
    let (apt, no) = (AptSource::default(), AtomicBool::new(false));
    let text = kernel.to_string_lossy().into_owned();
    let source = sources.look(&text, &apt, false, &mut |_| {}, &no);
    let source = source.map_err(PullError::into_diagnostic).unwrap();
    let tree = sources.check_out(&source, &apt, &mut |_| {}, &no);
    (root, tree.map_err(PullError::into_diagnostic).unwrap())
}

fn patch(name: &str, text: &str) -> Patch {
    Patch::parse(Path::new(name), text.as_bytes(), 1).unwrap().remove(0)
}

/// delta becomes `word`.
fn delta(word: &str) -> Patch {
    patch(
        &format!("{word}.patch"),
        &format!(
            "{word}\n--- a/fs/inode.c\n+++ b/fs/inode.c\n@@ -1,7 +1,7 @@\n alpha\n beta\n gamma\n-delta\n+{word}\n epsilon\n zeta\n eta\n"
        ),
    )
}

fn stamp(file: &Path) -> (u64, i64, i64) {
    let meta = file.metadata().unwrap();
    (meta.ino(), meta.mtime(), meta.mtime_nsec())
}

fn read(tree: &Tree, file: &str) -> String {
    fs::read_to_string(tree.path().join(file)).unwrap()
}

#[test]
fn a_list_replaces_another_and_only_what_differs_is_written() {
    let (_root, mut tree) = tree();
    let other = patch(
        "o.patch",
        "--- a/fs/other.c\n+++ b/fs/other.c\n@@ -1,3 +1,3 @@\n-\tint x;\n+\tlong x;\n \tint y;\n \tint z;\n",
    );
    let made = patch(
        "m.patch",
        "diff --git a/fs/made.sh b/fs/made.sh\nnew file mode 100755\n--- /dev/null\n+++ b/fs/made.sh\n@@ -0,0 +1 @@\n+#!/bin/sh\n",
    );
    let gone = patch(
        "g.patch",
        "diff --git a/drivers/moved.c b/fs/moved.c\nsimilarity index 100%\nrename from drivers/moved.c\nrename to fs/moved.c\n",
    );
    let list = [other.clone(), made, gone, delta("DELTA")];
    let applied = tree.with_patches(&list).unwrap();
    assert_eq!(applied.changed.len(), 5, "{:?}", applied.changed);
    assert!(applied.fuzz.is_empty());
    assert!(read(&tree, "fs/inode.c").contains("DELTA"));
    let mode = tree.path().join("fs/made.sh").metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o111, 0o111);
    assert!(
        tree.path().join("fs/moved.c").exists() && !tree.path().join("drivers/moved.c").exists()
    );

    let kept = stamp(&tree.path().join("fs/other.c"));
    let again = tree.with_patches(&list).unwrap();
    assert_eq!((again.changed, again.digest), (vec![], applied.digest.clone()));
    std::thread::sleep(Duration::from_millis(5));
    let next = tree.with_patches(&[other, delta("Delta")]).unwrap();
    let mut changed: Vec<_> = next.changed.iter().map(|p| p.to_str().unwrap()).collect();
    changed.sort();
    assert_eq!(changed, ["drivers/moved.c", "fs/inode.c", "fs/made.sh", "fs/moved.c"]);
    assert_eq!(stamp(&tree.path().join("fs/other.c")), kept);
    assert_ne!(next.digest, applied.digest);
    assert!(
        !tree.path().join("fs/made.sh").exists() && tree.path().join("drivers/moved.c").exists()
    );

    tree.with_patches(&[]).unwrap();
    assert_eq!(read(&tree, "fs/inode.c"), TEXT);
    assert!(fs::read_dir(tree.folder.join("pristine/fs")).unwrap().next().is_none());
}

#[test]
fn a_failure_leaves_the_tree_and_says_what_is_there() {
    let (_root, mut tree) = tree();
    tree.with_patches(&[delta("DELTA")]).unwrap();
    let before = stamp(&tree.path().join("fs/inode.c"));
    let mut said = |patches: &[Patch]| tree.with_patches(patches).unwrap_err().to_string();

    let text = "w\n--- a/fs/inode.c\n+++ b/fs/inode.c\n@@ -1,2 +1,2 @@\n-alpha\n+A\n beta\n@@ -7,4 +7,4 @@\n eta\n theta\n-IOTA\n+I\n kappa\n";
    let error = said(&[patch("w.patch", text)]);
    assert!(error.contains("w.patch does not apply: hunk 2 of fs/inode.c (line 7)"), "{error}");
    assert!(error.contains("      9 iota\n  wants IOTA"), "{error}");

    let error = said(&[delta("x"), delta("y")]);
    assert!(error.contains("y.patch does not apply after x.patch: hunk 1"), "{error}");
    assert!(
        said(&[delta("x"), delta("x")]).contains("is already applied (it is in the list twice)")
    );

    let done =
        "--- a/fs/inode.c\n+++ b/fs/inode.c\n@@ -1,3 +1,4 @@\n alpha\n+beta\n gamma\n delta\n";
    assert!(
        said(&[patch("d.patch", done)]).contains("is already applied (the source has this change")
    );

    let error =
        said(&[patch("n.patch", "--- a/fs/moved.c\n+++ b/fs/moved.c\n@@ -1 +1 @@\n-x\n+y\n")]);
    assert!(error.contains("the source has no fs/moved.c"), "{error}");
    assert!(error.contains("drivers/moved.c is there"), "{error}");

    let made = "--- /dev/null\n+++ b/fs/other.c\n@@ -0,0 +1 @@\n+x\n";
    assert!(said(&[patch("m.patch", made)]).contains("it makes fs/other.c, which is there"));

    let blanks = "--- a/fs/other.c\n+++ b/fs/other.c\n@@ -1,3 +1,3 @@\n-    int x;\n+    long x;\n     int y;\n     int z;\n";
    let error = said(&[patch("b.patch", blanks)]);
    assert!(error.contains("only blanks differ"), "{error}");
    assert_eq!(stamp(&tree.path().join("fs/inode.c")), before);
    assert!(read(&tree, "fs/inode.c").contains("DELTA"), "what was applied still is");
    let scratch = fs::read_dir(&tree.folder).unwrap().flatten();
    assert!(scratch.map(|i| i.file_name()).all(|n| !n.to_string_lossy().starts_with("scratch")));
}

#[test]
fn fuzz_is_taken_and_reported_and_an_offset_is_neither() {
    let (_root, mut tree) = tree();
    let text = String::from_utf8(delta("DELTA").text).unwrap();
    let offset = patch("o.patch", &text.replace("@@ -1,7 +1,7 @@", "@@ -101,7 +101,7 @@"));
    assert_eq!(tree.with_patches(&[offset]).unwrap().fuzz, Vec::<String>::new());
    let fuzzy = patch("f.patch", &text.replace(" alpha\n", " ALPHA\n"));
    let applied = tree.with_patches(&[fuzzy]).unwrap();
    assert_eq!(applied.fuzz.len(), 1, "{:?}", applied.fuzz);
    assert!(applied.fuzz[0].starts_with("f.patch: fs/inode.c:"), "{:?}", applied.fuzz);
    assert!(read(&tree, "fs/inode.c").contains("DELTA"));
}

#[test]
fn fuzz_does_not_change_another_line_that_looks_alike() {
    let (_root, mut tree) = tree();
    // As in hostfs_kern.c: the same line twice, and the patch is about one of them.
    let base = "--- a/fs/inode.c\n+++ b/fs/inode.c\n@@ -2,2 +2,4 @@\n beta\n+name(old)\n+check\n gamma\n@@ -8,2 +10,4 @@\n theta\n+name(old)\n+check\n iota\n";
    let fix = "--- a/fs/inode.c\n+++ b/fs/inode.c\n@@ -9,5 +9,5 @@\n eta\n theta!\n-name(old)\n+name(new)\n check\n iota\n";
    let list = [patch("base.patch", base), patch("fix.patch", fix)];
    let applied = tree.with_patches(&list).map(|applied| applied.fuzz);
    // One line of context more than "check" is needed to tell them apart.
    assert!(applied.unwrap_err().message().contains("fix.patch does not apply after base.patch"));
    let other = fix.replace("theta!", "theta").replace(" eta", " eta!");
    let list = [patch("base.patch", base), patch("fix.patch", &other)];
    assert_eq!(tree.with_patches(&list).unwrap().fuzz.len(), 1);
    let text = read(&tree, "fs/inode.c");
    assert!(text.find("name(old)").unwrap() < text.find("name(new)").unwrap());
    let list = [list[0].clone(), list[1].clone(), list[1].clone()];
    assert!(tree.with_patches(&list).is_err(), "a second time it would go to the other line");
}

#[test]
fn a_crash_between_the_files_is_made_good() {
    let (_root, mut tree) = tree();
    // As with_patches stops after it noted what it is about to do and wrote one of two files.
    let files: std::collections::BTreeSet<PathBuf> =
        ["fs/inode.c".into(), "fs/made.c".into()].into();
    fs::create_dir_all(tree.folder.join("pristine/fs")).unwrap();
    fs::copy(tree.path().join("fs/inode.c"), tree.folder.join("pristine/fs/inode.c")).unwrap();
    tree.note_applied(&files).unwrap();
    fs::write(tree.path().join("fs/inode.c"), "half").unwrap();
    fs::write(tree.path().join("fs/made.c"), "made").unwrap();
    tree.with_patches(&[delta("DELTA")]).unwrap();
    assert_eq!(read(&tree, "fs/inode.c"), TEXT.replace("delta", "DELTA"));
    assert!(!tree.path().join("fs/made.c").exists());
}

#[test]
fn a_repository_around_the_cache_does_not_matter() {
    let (root, mut tree) = tree();
    let mut init = std::process::Command::new("git");
    assert!(init.arg("-C").arg(root.path()).args(["init", "-q"]).status().unwrap().success());
    assert_eq!(tree.with_patches(&[delta("DELTA")]).unwrap().changed.len(), 1);
}

#[test]
fn the_patches_of_this_repository_are_read() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    for series in ["hostfs-file-dentry", "hostfs-f-path"] {
        let patches = super::load_series(root, &[series.to_string()]).unwrap();
        assert_eq!(patches.len(), 1);
        assert!(patches[0].subject.starts_with("hostfs: "), "{}", patches[0].subject);
        assert_eq!(patches[0].files, [PathBuf::from("fs/hostfs/hostfs_kern.c")]);
        let text = fs::read_to_string(root.join(&patches[0].file)).unwrap();
        assert!(text.contains("SPDX-License-Identifier: GPL-2.0\n"));
    }
}
