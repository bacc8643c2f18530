//! The bug that the lab was made for, on the kernels that have it and on those that have not; and
//! what becomes of the verdict when what was accepted, or listed, is something else.

use super::support::lab_for;

const CASE: &str = "hostfs-file-dentry";

fn passes_on(kernel: &str) {
    let Some(lab) = lab_for(&[kernel]) else { return };
    let ran = lab.boot(&["run", CASE, "-k", kernel]);
    ran.code(0).out(&format!("pass   {CASE} on {kernel}"));
    assert!(lab.files(".snap.new").is_empty());
}

#[test]
fn linux_5_10_has_the_bug_and_it_is_known() {
    let Some(lab) = lab_for(&["uml-5.10"]) else { return };
    let ran = lab.boot(&["run", CASE, "-k", "uml-5.10"]);
    ran.code(0).out(&format!("known  {CASE} on uml-5.10"));
    ran.out("hostfs_open() asks file->f_path.dentry").out("accepted (-) and seen (+):");
    ran.out("       -hello from the host\n");
    ran.out("       +cat: m/etc/greeting: No such file or directory\n       +[status 1]\n");
    assert!(lab.files(".snap.new").is_empty());
}

#[test]
fn linux_6_1_has_it_not() {
    passes_on("uml-6.1");
}

/// Its program wants a newer C library than Debian 12 has.
#[test]
fn linux_6_12_has_it_not() {
    passes_on("uml-6.12");
}

/// The same, and it wants libgcc_s as well.
#[test]
fn linux_7_2_has_it_not() {
    passes_on("uml-7.2");
}

#[test]
fn two_kernels_in_one_command() {
    let Some(lab) = lab_for(&["uml-5.10", "uml-6.1"]) else { return };
    let ran = lab.start_two(&["run", CASE, "-k", "uml-5.10,uml-6.1"]).wait();
    ran.code(0).out("known ").out("pass  ").out("2 runs: 1 known, 1 pass");
}

#[test]
fn another_output_than_the_accepted_one_fails() {
    let Some(lab) = lab_for(&["uml-6.1"]) else { return };
    let snapshot = format!("cases/{CASE}/snapshots/transcript.snap");
    lab.edit(&snapshot, "greeting\n$ cat m", "greeting\nfarewell\n$ cat m");
    let ran = lab.boot(&["run", CASE, "-k", "uml-6.1"]);
    ran.code(1).out(&format!("fail   {CASE} on uml-6.1"));
    ran.out("the transcript differs from the accepted one");
    ran.out("        $ ls m/etc\n        greeting\n       -farewell\n");
    ran.out(&format!("accept: lab accept {CASE}\n"));
    ran.out(&format!("shell there: lab shell -k uml-6.1 {CASE}\n"));
    ran.out("everything: lab runs log ").out("1 transcript waits for review: lab review");
    assert_eq!(lab.files(".snap.new"), [format!("{snapshot}.new")]);

    let result = lab.boot(&["run", CASE, "-k", "uml-6.1", "--json"]).result();
    assert_eq!(result.code, "fail:output");
    assert!(result.signature.is_some_and(|s| s.starts_with("output:")));

    // What was left for review is what was seen, and accepting it makes the case pass again.
    lab.lab(&["accept", CASE]).code(0).out("accepted: ");
    lab.boot(&["run", CASE, "-k", "uml-6.1"]).code(0);
    assert!(!lab.read(&snapshot).contains("farewell") && lab.files(".snap.new").is_empty());
}

#[test]
fn a_program_of_another_version_is_said_first() {
    let Some(lab) = lab_for(&["uml-6.1"]) else { return };
    let snapshot = format!("cases/{CASE}/snapshots/transcript.snap");
    lab.edit(&snapshot, "greeting\n$ cat m", "greeting\nfarewell\n$ cat m");
    let text = lab.read(&snapshot);
    let line = text.lines().find(|line| line.contains("cat: coreutils")).unwrap();
    lab.edit(&snapshot, line, "    cat: coreutils 0.1-1");
    let ran = lab.boot(&["run", CASE, "-k", "uml-6.1"]);
    ran.code(1).out("program changed: ").out("0.1-1");
    let (changed, differs) = (ran.stdout.find("program changed"), ran.stdout.find("farewell"));
    assert!(changed < differs, "{ran}");
}

#[test]
fn another_failure_than_the_known_one_fails() {
    let Some(lab) = lab_for(&["uml-5.10"]) else { return };
    let known = format!("cases/{CASE}/snapshots/transcript.known.snap");
    lab.edit(&known, "No such file or directory", "Permission denied");
    let ran = lab.boot(&["run", CASE, "-k", "uml-5.10"]);
    ran.code(1).out(&format!("fail   {CASE} on uml-5.10")).not_out("known  ");
}

#[test]
fn a_known_failure_that_passes_is_fixed() {
    let Some(lab) = lab_for(&["uml-6.1"]) else { return };
    lab.edit(
        "lab.toml",
        r#"kernel = ["uml-5.10", "uml-5.10-src", "uml-6.1-broken"]"#,
        r#"kernel = ["uml-*"]"#,
    );
    let ran = lab.boot(&["run", CASE, "-k", "uml-6.1"]);
    ran.code(1).out(&format!("fixed  {CASE} on uml-6.1"));
    ran.out("it passes now: remove it from [[known]] in lab.toml");
}
