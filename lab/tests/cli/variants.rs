//! Kernels that rightly differ: each has a snapshot of its own once a person has said why.

use super::support::{Lab, lab_for};

const KERNELS: &str = "uml-5.10,uml-6.1";

/// A case that prints the kernel's release, run on two kernels.
fn differing() -> Option<Lab> {
    let lab = lab_for(&["uml-5.10", "uml-6.1"])?;
    lab.case("release", "[[step]]\nrun = \"uname -r | cut -d. -f1,2\"\n");
    let ran = lab.start_two(&["run", "release", "-k", KERNELS]).wait();
    ran.code(1).out("2 transcripts wait for review");
    assert_eq!(
        lab.files(".snap.new"),
        [
            "cases/release/snapshots/transcript.snap.new",
            "cases/release/snapshots/transcript@uml-6.1.snap.new"
        ]
    );
    Some(lab)
}

#[test]
fn review_asks_for_a_name_and_a_reason() {
    let Some(lab) = differing() else { return };
    // An empty reason is no reason: it is asked for again.
    let answers = "a\na\nnewer\n\na\nnewer\nit is a newer release\n";
    let ran = lab.answer(&["review"], answers);
    ran.code(0)
        .out("a name for this variant [uml-6.1]")
        .out("why does this kernel rightly differ?");
    assert!(lab.files(".snap.new").is_empty(), "{ran}");

    let manifest = lab.read("cases/release/case.toml");
    assert!(manifest.contains("[variant.newer]"), "{manifest}");
    assert!(manifest.contains("it is a newer release") && manifest.contains("uml-6.1"));
    assert!(lab.read("cases/release/snapshots/transcript.snap").ends_with("\n5.10\n"));
    assert!(lab.read("cases/release/snapshots/transcript@newer.snap").ends_with("\n6.1\n"));
    lab.start_two(&["run", "release", "-k", KERNELS]).wait().code(0).out("2 runs: 2 pass");
    lab.lab(&["show", "release"]).code(0).out("newer: uml-6.1 (it is a newer release)");
}

#[test]
fn accept_takes_the_reason_as_an_argument() {
    let Some(lab) = differing() else { return };
    let ran = lab.lab(&["accept", "release"]);
    ran.code(2).err("lab accept release --reason TEXT");
    let ran = lab.lab(&["accept", "release", "--reason", "newer"]);
    ran.code(0).out("transcript@uml-6.1.snap");
    assert!(lab.files(".snap.new").is_empty());
    lab.start_two(&["run", "release", "-k", KERNELS]).wait().code(0);
}
