//! The walls, from inside: what a guest's root tries through hostfs, and what a machine tries that is
//! no kernel any more but a program of the attacker's. Each attempt is asserted from the host's side,
//! and has a twin that succeeds without walls, so that the attempt itself is proved to work.
//!
//! Under `full` none succeeds. Under `landlock` the tables say what stays possible.

pub mod attempts;
mod guest;
mod process;

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::support::lab_for;

/// What was tried, and what became of it.
pub type Outcomes = BTreeMap<String, Outcome>;

/// What became of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Done,
    Refused(String),
}

impl Outcome {
    fn word(&self) -> &str {
        match self {
            Self::Done => "done",
            Self::Refused(why) => why,
        }
    }
}

/// Prints the table, for whoever reads the tests' output, and the number of attempts.
fn print(title: &str, names: &[&str], levels: &[(&str, &Outcomes)]) {
    let tried: usize = levels.iter().map(|(_, outcomes)| outcomes.len()).sum();
    println!("{title}: {} attempts at {} levels, {tried} in all", names.len(), levels.len());
    for name in names {
        let of = |(level, outcomes): &(&str, &Outcomes)| {
            format!("{level}: {}", outcomes.get(*name).map_or("not tried", Outcome::word))
        };
        let all: Vec<String> = levels.iter().map(of).collect();
        println!("  {name:<52} {}", all.join(" | "));
    }
}

/// All that is known of the files below a folder, but for when they were read: that a change went
/// unnoticed would need a clock that stands still (ctime, stat(2)).
fn state_of(folder: &Path) -> BTreeMap<PathBuf, String> {
    let mut state = BTreeMap::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
            let meta = std::fs::symlink_metadata(&path).unwrap();
            let text = match meta.is_file() {
                true => std::fs::read(&path).unwrap(),
                false => Vec::new(),
            };
            let (mode, owner, links, size) = (meta.mode(), meta.uid(), meta.nlink(), meta.size());
            let times = (meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec());
            let text = String::from_utf8_lossy(&text).into_owned();
            state.insert(
                path.clone(),
                format!("{mode:o} {owner} {links} {size} {times:?} {text:.60}"),
            );
            if meta.is_dir() {
                folders.push(path);
            }
        }
    }
    state
}

/// Files for attempts: one each, so that one attempt does not spoil the next.
fn make_outside(outside: &Path) {
    std::fs::create_dir(outside).unwrap();
    let files = [
        "secret",
        "truncated",
        "emptied",
        "removed",
        "renamed",
        "moded",
        "owned",
        "timed",
        "attributed",
        "linked",
    ];
    for name in files {
        std::fs::write(outside.join(name), "the host's own\n").unwrap();
    }
    std::os::unix::fs::symlink("secret", outside.join("pointer")).unwrap();
    assert!(outside.as_os_str().as_bytes().len() < 80, "socket paths end at 108 bytes");
}

#[test]
fn the_private_root_is_all_there_is() {
    let Some(lab) = lab_for(&["uml-6.1"]) else { return };
    let command = "mount -t hostfs none /mnt -o / && ls /mnt /mnt/dev /mnt/lab | tr '\\n' ' '; \
                   ls /mnt/proc | grep -c '^[0-9]'";
    let ran = lab.boot(&["run", "-k", "uml-6.1", "--", command]);
    ran.code(0).out("/mnt: dev lab lib lib64 proc  /mnt/dev: null random shm  /mnt/lab: initramfs");
}
