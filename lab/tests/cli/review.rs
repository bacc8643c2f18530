//! `lab review`: accept, reject, skip and quit, on standard input.

use super::support::{Lab, lab_for};

/// Two cases whose transcripts wait.
fn two_waiting() -> Option<Lab> {
    let lab = lab_for(&["uml-6.1"])?;
    lab.case("one", "[[step]]\nrun = \"echo uno\"\n");
    lab.case("two", "[[step]]\nrun = \"echo due\"\n");
    lab.start_two(&["run", "one", "two"]).wait().code(1);
    assert_eq!(lab.files(".snap.new").len(), 2);
    Some(lab)
}

#[test]
fn accept_reject_skip_and_quit() {
    let Some(lab) = two_waiting() else { return };

    let ran = lab.answer(&["review"], "skip\nq\n");
    ran.code(0).out("1/2 one on uml-6.1: a new transcript\n  $ echo uno\n  uno\n");
    ran.out("skipped").out("2/2 two on uml-6.1");
    assert_eq!(lab.files(".snap.new").len(), 2);

    // What is no answer is asked again; the end of the input is a quit.
    let ran = lab.answer(&["review"], "what?\na\n");
    ran.code(0).out("accepted: ");
    assert_eq!(lab.files(".snap.new"), ["cases/two/snapshots/transcript.snap.new"]);
    lab.boot(&["run", "one"]).code(0);

    let ran = lab.answer(&["review"], "reject\n");
    ran.code(0).out("1/1 two").out("rejected");
    assert!(lab.files(".snap.new").is_empty());
    assert!(!lab.path("cases/two/snapshots/transcript.snap").exists());

    // A change is shown as a difference.
    lab.edit("cases/one/case.toml", "echo uno", "echo unum");
    lab.boot(&["run", "one"]).code(1);
    let ran = lab.answer(&["review"], "a\n");
    ran.code(0).out("one on uml-6.1: differs from the accepted transcript");
    ran.out("  -$ echo uno\n").out("  +unum\n").out("accepted: ");
    lab.boot(&["run", "one"]).code(0);
}

/// insta's own reader takes what was accepted and what waits.
#[test]
fn insta_reads_the_files() {
    let Some(lab) = two_waiting() else { return };
    lab.lab(&["accept", "one"]).code(0);
    for (name, said) in [
        ("cases/one/snapshots/transcript.snap", "$ echo uno\nuno"),
        ("cases/two/snapshots/transcript.snap.new", "$ echo due\ndue"),
    ] {
        let snapshot = insta::Snapshot::from_file(&lab.path(name)).unwrap();
        let insta::internals::SnapshotContents::Text(text) = snapshot.contents() else {
            panic!("{name} is not text")
        };
        assert_eq!(text.to_string(), said);
    }
}
