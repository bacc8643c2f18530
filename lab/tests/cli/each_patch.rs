//! A series walked patch by patch on a real kernel: one patch that warns, one that breaks a case, one
//! that does not compile, and one that does not apply.

use std::process::Command;

use lab::report::{Event, PatchResult, What};

use super::build::builder;
use super::support::{Lab, lab_for, repository};

const KERNEL: &str = "uml-6.1-src";

fn with_series(lab: &Lab) {
    let copied = Command::new("cp")
        .arg("-a")
        .arg(repository().join("lab/tests/fixtures/each-patch"))
        .arg(lab.path("patches/walk"))
        .status();
    assert!(copied.unwrap().success());
}

fn walked(events: &str) -> Vec<PatchResult> {
    let events = events.lines().map(|line| serde_json::from_str::<Event>(line).unwrap());
    let tried = events.filter_map(|event| match event.what {
        What::PatchTried { result } => Some(*result),
        _ => None,
    });
    tried.collect()
}

#[test]
fn each_patch_is_built_and_run_in_turn() {
    let Some(lab) = builder() else { return };
    with_series(&lab);
    let args = ["run", "--each-patch", "walk", "hostfs-file-dentry", "-k", KERNEL];
    // Builds take their time on a busy machine: without the harness' patience.
    let run = |more: &[&str]| {
        let mut command = lab.command(&[&args[..], more].concat());
        let output = command.output().unwrap();
        lab.nothing_is_left();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let (code, out, err) = run(&["--json"]);
    assert_eq!(code, Some(1), "{out}\n{err}");
    let tried = walked(&out);
    let seen: Vec<_> = tried
        .iter()
        .map(|r| (r.applies, r.builds, r.ready_ms.is_some(), r.failed(), r.first_failure))
        .collect();
    let expected = [
        (true, true, true, false, false),
        (true, true, true, false, false),
        (true, true, true, true, true),
        (true, false, false, true, false),
        (false, false, false, true, false),
    ];
    assert_eq!(seen, expected, "{out}\n{err}");
    let new = |stage: usize| tried[stage].warnings.clone();
    assert_eq!(new(0), None, "nothing is before it: {out}");
    let brought = new(1).expect("both builds were heard whole");
    assert_eq!(brought.len(), 1, "{brought:?}");
    assert!(brought[0].starts_with("fs/hostfs/hostfs_kern.c:273:"), "{brought:?}");
    assert_eq!(new(2), Some(Vec::new()), "it is the patch's before");
    let trouble = tried[3].trouble.as_deref().unwrap();
    // The compiler's words, with paths as the user's tree has them.
    assert!(trouble.contains("\nfs/hostfs/hostfs_kern.c:275:16: error: "), "{trouble}");
    assert!(trouble.contains("nought"), "{trouble}");
    let trouble = tried[4].trouble.as_deref().unwrap();
    assert!(trouble.contains("hostfs_kern.c"), "{trouble}");
    // Kernels under trial leave nothing for review.
    assert!(lab.files(".snap.new").is_empty());

    // The same for people; what was built is in the store.
    let (code, out, err) = run(&[]);
    assert_eq!(code, Some(1), "{out}\n{err}");
    let line = |subject: &str| out.lines().find(|line| line.contains(subject)).unwrap();
    assert!(line("uml-6.1-src as it is").starts_with("base  -        in the store"), "{out}");
    let bad = line("hostfs: the name of another dentry");
    assert!(bad.starts_with("2     yes      in the store"), "{out}");
    assert!(bad.contains("1 fail") && bad.ends_with("<- first failure"), "{out}");
    assert!(out.contains("+cat: m/etc/greeting: No such file or directory"), "{out}");
    assert!(out.contains("lab shell -k uml-6.1-src --patch walk:2 hostfs-file-dentry"), "{out}");
    assert!(out.contains("       new: fs/hostfs/hostfs_kern.c:273:"), "{out}");
    assert!(line("hostfs: a word that is not C").starts_with("3     yes      NO "), "{out}");
    assert!(line("hostfs: lines of another kernel").starts_with("4     NO "), "{out}");

    // Where nothing could run, nothing was found out.
    lab.case("elsewhere", "[needs]\nbackend = [\"qemu\"]\n[[step]]\nrun = \"true\"\n");
    let walk = lab.lab(&["run", "--each-patch", "walk:1", "elsewhere", "-k", KERNEL]);
    walk.code(4).out("1     yes      in the store").out("2 runs: 2 skip");
}

#[test]
fn a_walk_needs_a_series_and_one_kernel_that_is_built_here() {
    let Some(lab) = lab_for(&["uml-6.1"]) else { return };
    with_series(&lab);
    let walk = |series: &str, kernels: &str| {
        lab.lab(&["run", "--each-patch", series, "overlay-union", "-k", kernels])
    };
    walk("wlak", KERNEL).code(2).err("no series `wlak`").err("did you mean `walk`?");
    walk("walk", "uml-6.1").code(2).err("uml-6.1 is not built here");
    walk("walk", "uml-6.1-src,uml-6.12-src").code(2).err("on one kernel");
    walk("lab.toml", KERNEL).code(2).err("lab.toml");
    let args = ["run", "--each-patch", "walk", "overlay-union", "-k", KERNEL, "--dry-run"];
    lab.lab(&args).code(0).out("2  hostfs: the name of another dentry");
}
