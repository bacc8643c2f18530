//! The life of a case: made, run, accepted, passed, changed, failed.

use super::support::lab_for;

#[test]
fn from_new_to_pass_to_fail() {
    let Some(lab) = lab_for(&["uml-6.1"]) else { return };
    let made = lab.lab(&["new", "first"]);
    made.code(0).out("cases/first/case.toml").out("lab run first");

    // Unreviewed: its transcript whole, and the command that accepts it.
    let ran = lab.boot(&["run", "first"]);
    ran.code(1).out("fail   first on uml-6.1").out("there is no accepted transcript yet");
    ran.out("       $ uname -s\n       Linux\n").out("accept: lab accept first\n");
    assert_eq!(lab.files(".snap.new"), ["cases/first/snapshots/transcript.snap.new"]);
    assert_eq!(lab.read(".lab/.gitignore"), "*\n");

    lab.lab(&["accept", "first"]).code(0).out("cases/first/snapshots/transcript.snap\n");
    assert!(lab.files(".snap.new").is_empty());
    let ran = lab.boot(&["run", "first"]);
    ran.code(0).out("pass   first on uml-6.1");

    lab.edit("cases/first/case.toml", "uname -s", "uname -s; echo more");
    let ran = lab.boot(&["run", "first"]);
    ran.code(1).out("       -$ uname -s\n       +$ uname -s; echo more\n").out("       +more\n");
    ran.out("accept: lab accept first\n").out("shell there: lab shell -k uml-6.1 first\n");

    // As it was: what waited for review is gone with it.
    lab.edit("cases/first/case.toml", "uname -s; echo more", "uname -s");
    lab.boot(&["run", "first"]).code(0);
    assert!(lab.files(".snap.new").is_empty());
}

#[test]
fn what_waits_nowhere_cannot_be_accepted() {
    let Some(lab) = lab_for(&[]) else { return };
    let ran = lab.lab(&["accept", "dm-linear"]);
    ran.code(2).err("nothing of dm-linear waits for review").err("lab run dm-linear");
    lab.lab(&["accept", "--all"]).code(0).err("nothing waits for review");
    lab.lab(&["review"]).code(0).err("nothing waits for review");
}

#[test]
fn a_status_that_is_wrong_cannot_be_accepted() {
    let Some(lab) = lab_for(&["uml-6.1"]) else { return };
    lab.case("wrong", "[[step]]\nrun = \"false\"\n");
    let ran = lab.boot(&["run", "wrong"]);
    ran.code(1).out("step 1 ended with status 1, not 0").not_out("lab accept");
    assert!(lab.files(".snap.new").is_empty());
}

#[test]
fn no_pending_writes_nothing() {
    let Some(lab) = lab_for(&["uml-6.1"]) else { return };
    lab.case("quiet", "[[step]]\nrun = \"echo hi\"\n");
    lab.boot(&["run", "quiet", "--no-pending"]).code(1).out("       hi\n");
    assert!(lab.files(".snap.new").is_empty());
}
