//! Small sources of every kind, with real repositories, archives and patches.

use std::fs::{self, read_to_string};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tempfile::TempDir;

use super::super::{AptSource, Patch, PullError, PullProgress};
use super::*;

struct Lab {
    root: TempDir,
    sources: Sources,
}

impl Lab {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let sources = Sources::open(&root.path().join("cache")).unwrap();
        Self { root, sources }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.root.path().canonicalize().unwrap().join(name)
    }

    /// A folder that is a kernel's source as far as anybody here can tell.
    fn kernel(&self, name: &str, patchlevel: u32) -> PathBuf {
        let tree = self.at(name);
        for folder in ["fs/hostfs", "scripts", "arch/x86/include/asm"] {
            fs::create_dir_all(tree.join(folder)).unwrap();
        }
        write(
            &tree,
            "Makefile",
            &format!("VERSION = 6\nPATCHLEVEL = {patchlevel}\nSUBLEVEL = 3\n"),
        );
        write(&tree, "Kconfig", "");
        write(&tree, ".gitignore", ".*\n*.o\n!.gitignore\n");
        write(&tree, "fs/inode.c", "one\ntwo\nthree\nfour\nfive\nsix\nseven\neight\nnine\n");
        write(&tree, "fs/hostfs/a.c", "a\n");
        write(&tree, "scripts/run.sh", "#!/bin/sh\n");
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(tree.join("scripts/run.sh"), mode).unwrap();
        let _ = fs::remove_file(tree.join("fs/link.c"));
        symlink("inode.c", tree.join("fs/link.c")).unwrap();
        tree
    }

    fn look(&self, text: impl AsRef<Path>) -> Result<Source, PullError> {
        let text = text.as_ref().to_string_lossy().into_owned();
        let (apt, no) = (AptSource::default(), AtomicBool::new(false));
        self.sources.look(&text, &apt, false, &mut |_| {}, &no)
    }

    fn error(&self, text: impl AsRef<Path>) -> String {
        self.look(text).unwrap_err().into_diagnostic().to_string()
    }

    fn tree(&self, text: impl AsRef<Path>) -> Tree {
        self.check_out(&self.look(text).unwrap())
    }

    fn check_out(&self, source: &Source) -> Tree {
        let (apt, no) = (AptSource::default(), AtomicBool::new(false));
        let tree = self.sources.check_out(source, &apt, &mut |_| {}, &no);
        tree.map_err(PullError::into_diagnostic).unwrap()
    }
}

fn write(tree: &Path, name: &str, text: &str) {
    fs::write(tree.join(name), text).unwrap();
}

fn git(folder: &Path, args: &[&str]) -> String {
    let mut git = Command::new("git");
    git.arg("-C").arg(folder).args(["-c", "user.name=t", "-c", "user.email=t@example.org"]);
    git.args(["-c", "init.defaultBranch=main", "-c", "commit.gpgsign=false"]).args(args);
    let output = git.output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_string()
}

fn commit(folder: &Path, message: &str) {
    git(folder, &["add", "-A"]);
    git(folder, &["commit", "-q", "-m", message]);
}

type Stamps = Vec<(PathBuf, u64, i64, i64, i64, i64)>;

/// Not even git's index.
fn assert_untouched(folder: &Path, before: &Stamps) {
    let touched: Vec<_> = stamps(folder).into_iter().filter(|now| !before.contains(now)).collect();
    assert!(touched.is_empty() && stamps(folder).len() == before.len(), "{touched:?}");
}

/// Everything in a folder with inode and times: what "not touched" means.
fn stamps(folder: &Path) -> Stamps {
    let mut all = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for item in fs::read_dir(folder).unwrap() {
            let path = item.unwrap().path();
            let m = path.symlink_metadata().unwrap();
            all.push((path.clone(), m.ino(), m.mtime(), m.mtime_nsec(), m.ctime(), m.ctime_nsec()));
            if m.is_dir() {
                folders.push(path);
            }
        }
    }
    all.sort();
    all
}

/// The files of a tree, but for what git keeps.
fn names(tree: &Path) -> Vec<String> {
    let all =
        stamps(tree).into_iter().map(|s| s.0).filter(|path| !path.is_dir() || path.is_symlink());
    all.map(|path| path.strip_prefix(tree).unwrap().to_string_lossy().into_owned()).collect()
}

fn mtime(file: PathBuf) -> (i64, i64) {
    let meta = file.symlink_metadata().unwrap();
    (meta.mtime(), meta.mtime_nsec())
}

/// Stamps are trusted once they are older than the clock's tick.
fn settle() {
    std::thread::sleep(Duration::from_millis(30));
}

const SOURCE: [&str; 7] = [
    ".gitignore",
    "Kconfig",
    "Makefile",
    "fs/hostfs/a.c",
    "fs/inode.c",
    "fs/link.c",
    "scripts/run.sh",
];

#[test]
fn a_folder_is_copied_without_what_a_build_left_and_is_not_touched() {
    let lab = Lab::new();
    let kernel = lab.kernel("linux", 1);
    fs::create_dir_all(kernel.join("include/generated")).unwrap();
    fs::create_dir_all(kernel.join("arch/x86/include/generated/asm")).unwrap();
    fs::create_dir_all(kernel.join("build")).unwrap();
    for name in [
        ".config",
        "vmlinux",
        "linux",
        "fs/inode.o",
        "fs/.inode.o.cmd",
        "include/generated/a.h",
        "arch/x86/include/generated/asm/b.h",
        "build/.config",
        "build/x.c",
        "Module.symvers",
    ] {
        write(&kernel, name, "x");
    }
    fs::copy("/bin/true", kernel.join("scripts/fixdep")).unwrap();
    settle();
    let before = stamps(&kernel);
    let first = lab.look(&kernel).unwrap();
    let tree = lab.check_out(&first);
    assert_eq!(names(&tree.path()), SOURCE);
    assert_eq!(tree.version().to_string(), "6.1.3");
    assert_eq!(fs::read_link(tree.path().join("fs/link.c")).unwrap(), Path::new("inode.c"));
    let mode = tree.path().join("scripts/run.sh").metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o755);
    assert_untouched(&kernel, &before);
    let identity = tree.source().identity.clone();
    assert!(!tree.lineage().is_empty() && tree.source().folder() == Some(kernel.as_path()));
    drop(tree);
    assert_eq!(lab.look(&kernel).unwrap().identity, identity, "as it is now known");

    // A product more or less is no change, nor is a new time.
    write(&kernel, "fs/hostfs/a.o", "x");
    write(&kernel, "fs/hostfs/a.c", "a\n");
    assert_eq!(lab.look(&kernel).unwrap().identity, identity);
    assert_eq!(lab.sources.list().unwrap().len(), 1);
}

#[test]
fn only_what_changed_gets_a_new_time_and_going_back_is_the_same_again() {
    let lab = Lab::new();
    let kernel = lab.kernel("linux", 1);
    let tree = lab.tree(&kernel);
    let (path, identity) = (tree.path(), tree.source().identity.clone());
    let before = (mtime(path.join("fs/inode.c")), mtime(path.join("Makefile")));
    drop(tree);
    settle();
    write(&kernel, "fs/inode.c", "other\n");
    write(&kernel, "Makefile", &read_to_string(kernel.join("Makefile")).unwrap());
    write(&kernel, "fs/new.c", "new\n");
    fs::remove_file(kernel.join("fs/hostfs/a.c")).unwrap();
    fs::remove_file(kernel.join("fs/link.c")).unwrap();
    fs::create_dir(kernel.join("fs/link.c")).unwrap();
    write(&kernel, "fs/link.c/x.c", "x\n");
    let tree = lab.tree(&kernel);
    assert_ne!(tree.source().identity, identity);
    assert_eq!(read_to_string(path.join("fs/inode.c")).unwrap(), "other\n");
    assert_eq!(read_to_string(path.join("fs/link.c/x.c")).unwrap(), "x\n");
    assert!(path.join("fs/new.c").exists() && !path.join("fs/hostfs/a.c").exists());
    assert_ne!(mtime(path.join("fs/inode.c")), before.0);
    assert_eq!(mtime(path.join("Makefile")), before.1, "touched only");
    drop(tree);

    fs::remove_dir_all(&kernel).unwrap();
    let kernel = lab.kernel("linux", 1);
    assert_eq!(lab.look(&kernel).unwrap().identity, identity, "known before it is copied");
    let tree = lab.tree(&kernel);
    assert_eq!(names(&tree.path()), SOURCE);
    assert_eq!(tree.source().identity, identity);
}

#[test]
fn an_interrupted_copy_is_made_whole() {
    let lab = Lab::new();
    let kernel = lab.kernel("linux", 1);
    let tree = lab.tree(&kernel);
    let (path, folder, identity) =
        (tree.path(), tree.folder.clone(), tree.source().identity.clone());
    drop(tree);
    // What a kill in the middle leaves: half a file aside, a file nobody knows, no record.
    write(&folder, "copying", "");
    write(&path, "fs/orphan.c", "x");
    write(&path, "fs/.tmp_lab.inode.c", "x");
    fs::remove_file(folder.join("source.json")).unwrap();
    let tree = lab.tree(&kernel);
    assert!(!path.join("fs/orphan.c").exists());
    assert_eq!(tree.source().identity, identity);
    drop(tree);
    fs::remove_file(folder.join("index")).unwrap();
    write(&path, "fs/orphan.c", "x");
    assert_eq!(lab.tree(&kernel).source().identity, identity);
    assert!(!path.join("fs/orphan.c").exists());
}

#[test]
fn of_a_checkout_what_git_ignores_stays_away_and_changes_come_along() {
    let lab = Lab::new();
    let kernel = lab.kernel("linux", 1);
    git(&kernel, &["init", "-q"]);
    commit(&kernel, "first");
    write(&kernel, "fs/.hidden", "ignored");
    write(&kernel, "fs/new.c", "untracked");
    fs::remove_file(kernel.join("fs/hostfs/a.c")).unwrap();
    write(&kernel, "scripts/run.sh", "dirty");
    write(&kernel, ".config", "built in here");
    settle();
    let before = stamps(&kernel);
    let tree = lab.tree(&kernel);
    assert!(tree.path().join("fs/new.c").exists());
    assert!(!tree.path().join("fs/.hidden").exists() && !tree.path().join(".git").exists());
    assert!(!tree.path().join("fs/hostfs/a.c").exists() && !tree.path().join(".config").exists());
    assert_untouched(&kernel, &before);
    let SourceOrigin::Folder { git: Some(git), .. } = &tree.source().origin else { panic!() };
    assert!(git.ends_with("-dirty"), "{git}");
}

#[test]
fn commits_come_and_go_in_one_tree_and_the_checkout_knows_nothing() {
    let lab = Lab::new();
    let kernel = lab.kernel("linux", 1);
    git(&kernel, &["init", "-q"]);
    commit(&kernel, "first");
    git(&kernel, &["tag", "v6.1"]);
    write(&kernel, "fs/inode.c", "second\n");
    write(&kernel, "fs/new.c", "new\n");
    commit(&kernel, "second");
    lab.kernel("linux", 2);
    commit(&kernel, "third");
    write(&kernel, "fs/inode.c", "dirty\n");
    settle();
    let before = stamps(&kernel);

    let at = |rev: &str| lab.tree(format!("git:{}#{rev}", kernel.display()));
    let tree = at("v6.1");
    let (path, first) = (tree.path(), tree.source().identity.clone());
    assert_eq!(names(&path), SOURCE);
    let kept = mtime(path.join("Makefile"));
    drop(tree);
    let tree = at("main~1");
    assert_eq!(tree.path(), path, "the same series of releases");
    assert_eq!(read_to_string(path.join("fs/inode.c")).unwrap(), "second\n");
    assert!(path.join("fs/new.c").exists());
    assert_eq!(mtime(path.join("Makefile")), kept);
    drop(tree);
    let tree = at("main");
    assert_ne!(tree.path(), path, "another series");
    drop(tree);

    // A crash in the middle of a checkout.
    let folder = path.parent().unwrap();
    fs::remove_file(folder.join("source.json")).unwrap();
    write(folder, "git-index.lock", "");
    write(&path, "fs/orphan.c", "x");
    write(&path, "fs/hostfs/a.c", "damaged");
    let mut tree = at("v6.1");
    assert_eq!(names(&path), SOURCE);
    assert_eq!(tree.source().identity, first);
    assert_eq!(read_to_string(path.join("fs/hostfs/a.c")).unwrap(), "a\n");

    // Patches do not follow from one commit to the next.
    tree.with_patches(&[patch("fs/hostfs/a.c", "a", "b")]).unwrap();
    drop(tree);
    let tree = at("main~1");
    assert_eq!(read_to_string(tree.path().join("fs/hostfs/a.c")).unwrap(), "a\n");
    assert_untouched(&kernel, &before);
}

#[test]
fn revisions_that_do_not_exist_name_the_nearest() {
    let lab = Lab::new();
    let kernel = lab.kernel("linux", 1);
    assert!(
        lab.error(format!("git:{}#v6.1", kernel.display())).contains("is not a git repository")
    );
    git(&kernel, &["init", "-q"]);
    commit(&kernel, "first");
    git(&kernel, &["tag", "v6.1.3"]);
    let error = lab.error(format!("git:{}#v6.1.33", kernel.display()));
    assert!(error.contains("has no revision `v6.1.33` (did you mean `v6.1.3`?)"), "{error}");
    let error = lab.error(format!("git:{}#main~7", kernel.display()));
    assert!(error.contains("`main` exists"), "{error}");
    let error = lab.error(format!("git:{}#--help", kernel.display()));
    assert!(error.contains("has no revision `--help`"), "{error}");
    assert!(lab.error("git:https://example.org/linux#v6.1").contains("git clone"));
    git(&kernel, &["rm", "-q", "Makefile"]);
    git(&kernel, &["commit", "-q", "-m", "no kernel"]);
    let error = lab.error(format!("git:{}#main", kernel.display()));
    assert!(error.contains("is not a kernel source"), "{error}");
    assert!(lab.error(kernel.join("fs")).contains("is not a kernel source"));
}

#[test]
fn archives_are_unpacked_once_and_products_left_out() {
    let lab = Lab::new();
    let kernel = lab.kernel("linux-6.1.3", 1);
    write(&kernel, ".config", "");
    write(&kernel, "fs/inode.o", "");
    for (name, option) in
        [("k.tar.gz", "-z"), ("k.tar.xz", "-J"), ("k.tar.bz2", "-j"), ("k.tar.zst", "--zstd")]
    {
        let archive = lab.at(name);
        let mut tar = Command::new("tar");
        tar.arg(option).arg("-cf").arg(&archive).arg("-C").arg(lab.root.path()).arg("linux-6.1.3");
        if !tar.status().unwrap().success() {
            eprintln!("this host has not what {name} needs");
            continue;
        }
        let tree = lab.tree(&archive);
        assert_eq!(names(&tree.path()), SOURCE);
        let (path, kept) = (tree.path(), mtime(tree.path()));
        assert_eq!(tree.source().identity, lab.look(&archive).unwrap().identity);
        drop(tree);
        assert_eq!((lab.tree(&archive).path(), mtime(path.clone())), (path, kept));
    }
    let listed = lab.sources.list().unwrap();
    assert!(listed.len() >= 2 && listed.iter().all(|s| s.bytes > 0 && !s.in_use));
    assert!(lab.sources.remove(&listed[0].lineage).unwrap() > 0);
    assert_eq!(lab.sources.list().unwrap().len(), listed.len() - 1);

    write(lab.root.path(), "broken.tar.gz", "x");
    let source = lab.look(lab.at("broken.tar.gz")).unwrap();
    let (apt, no) = (AptSource::default(), AtomicBool::new(false));
    let error = lab.sources.check_out(&source, &apt, &mut |_| {}, &no).unwrap_err();
    let error = error.into_diagnostic().to_string();
    assert!(error.starts_with("cannot unpack"), "{error}");
    Command::new("tar")
        .arg("-cf")
        .arg(lab.at("none.tar"))
        .arg("-C")
        .arg(&kernel)
        .arg("fs")
        .status()
        .unwrap();
    let source = lab.look(lab.at("none.tar")).unwrap();
    let error = lab.sources.check_out(&source, &apt, &mut |_| {}, &no).unwrap_err();
    assert!(error.into_diagnostic().to_string().contains("holds no kernel source"));
}

#[test]
fn two_builds_of_one_lineage_take_turns_and_ctrl_c_ends_the_wait() {
    let lab = Lab::new();
    let kernel = lab.kernel("linux", 1);
    let source = lab.look(&kernel).unwrap();
    let tree = lab.check_out(&source);
    assert!(lab.sources.list().unwrap()[0].in_use);
    assert!(lab.sources.remove(tree.lineage()).is_err());
    let cancel = AtomicBool::new(false);
    let mut waited = false;
    let mut news = |news| {
        waited = news == PullProgress::Waiting;
        cancel.store(true, std::sync::atomic::Ordering::Relaxed);
    };
    let stopped = lab.sources.check_out(&source, &AptSource::default(), &mut news, &cancel);
    assert!(matches!(stopped, Err(PullError::Interrupted)) && waited);
    let other = lab.sources.clone();
    let waiter = std::thread::spawn(move || {
        let (apt, no) = (AptSource::default(), AtomicBool::new(false));
        other.check_out(&source, &apt, &mut |_| {}, &no).map(|tree| tree.path())
    });
    std::thread::sleep(Duration::from_millis(50));
    assert!(!waiter.is_finished());
    drop(tree);
    assert!(waiter.join().unwrap().is_ok());
}

fn patch(file: &str, old: &str, new: &str) -> Patch {
    let text = format!("--- a/{file}\n+++ b/{file}\n@@ -1 +1 @@\n-{old}\n+{new}\n");
    Patch {
        name: "x.patch".into(),
        subject: "x".into(),
        file: "x.patch".into(),
        strip: 1,
        text: text.into_bytes(),
        files: vec![file.into()],
    }
}

#[test]
fn a_source_that_changes_below_a_patch_is_taken_over() {
    let lab = Lab::new();
    let kernel = lab.kernel("linux", 1);
    let mut tree = lab.tree(&kernel);
    let a = tree.path().join("fs/hostfs/a.c");
    tree.with_patches(&[patch("fs/hostfs/a.c", "a", "b")]).unwrap();
    assert_eq!(read_to_string(&a).unwrap(), "b\n");
    let identity = tree.source().identity.clone();
    drop(tree);
    settle();
    assert_eq!(lab.look(&kernel).unwrap().identity, identity, "patches are no part of it");
    write(&kernel, "fs/hostfs/a.c", "c\n");
    let mut tree = lab.tree(&kernel);
    assert_ne!(tree.source().identity, identity);
    assert!(tree.with_patches(&[patch("fs/hostfs/a.c", "a", "b")]).is_err());
    tree.with_patches(&[patch("fs/hostfs/a.c", "c", "d")]).unwrap();
    assert_eq!(read_to_string(&a).unwrap(), "d\n");
    tree.with_patches(&[]).unwrap();
    assert_eq!(read_to_string(&a).unwrap(), "c\n");
}
