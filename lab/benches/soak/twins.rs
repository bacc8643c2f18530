//! The proof that a soak can fail: what it must find, or its silence means nothing.

use std::fs;
use std::process::Command;

use super::stage::{Host, Report};

/// Whether the one run in fifty that differs was found, and nothing else, and its folder is kept.
pub fn one_in_fifty_is_found(report: &Report) -> bool {
    let expected = ["1 of 50 runs are fail:output", "the lab's exit code is Some(1)"];
    let kept = report.kept.iter().filter(|folder| folder.join("transcript").is_file()).count();
    let found = report.findings == expected && kept == 1;
    if !found {
        eprintln!("soak: the twin is wrong: {:?}, {kept} folders kept", report.findings);
    }
    found
}

/// Whether everything that a lab could leave behind is seen: an orphan, files, and a process that
/// grows with every run. Takes the report of runs that left nothing.
pub fn leaks_are_seen(mut report: Report) -> bool {
    let folder = report.stage.project.with_file_name("tmp");
    let shm = format!("/dev/shm/lab-soak-{}", std::process::id());
    let files = [folder.join("lab-left"), shm.into()];
    files.iter().for_each(|file| fs::write(file, "").expect("it can be written"));
    // Its parent, the shell, is gone at once.
    let shell = Command::new("sh").args(["-c", "sleep 2 > /dev/null 2>&1 &"]).status();
    assert!(shell.expect("there is a shell").success());
    report.after = Host::look(&report.stage.project);
    files.iter().for_each(|file| fs::remove_file(file).expect("it is there"));
    while !Host::look(&report.stage.project).processes.is_empty() {
        // The orphan is ours now, and so is the duty to hear of its end.
        let _ = nix::sys::wait::wait();
    }
    report.after.mounts.push("a mount".into());
    for (run, sample) in report.samples.iter_mut().enumerate() {
        sample.descriptors += run;
        sample.threads += run;
        sample.resident += 200 * run;
    }
    report.judge(Some(0), report.stage.runs);
    let unseen: Vec<&str> = [
        "left behind: process ",
        "left behind: mount a mount",
        "left behind: /dev/shm lab-soak-",
        "left behind: temporary file lab-left",
        "open descriptors grow: ",
        "threads grow: ",
        "resident memory grows: ",
    ]
    .into_iter()
    .filter(|words| !report.findings.iter().any(|finding| finding.starts_with(words)))
    .collect();
    if !unseen.is_empty() {
        eprintln!("soak: the twin is wrong: unseen: {unseen:?} in {:?}", report.findings);
    }
    unseen.is_empty()
}
