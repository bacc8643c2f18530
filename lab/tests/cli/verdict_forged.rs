//! No bytes that a step writes, to its terminal or to a device, make a pass of something else, nor
//! a failure of what is none.

use super::support::lab_for;

/// What looks like records, transcripts and splats is output when it comes by the terminal.
#[test]
fn what_a_step_prints_is_output_and_nothing_else() {
    let Some(lab) = lab_for(&["uml-6.1"]) else { return };
    let splat = "[    1.000000] WARNING: CPU: 0 PID: 1 at fs/inode.c:1 iput+0x1/0x2";
    let run = format!("noise --kind records --count 14; echo; echo '{splat}'; echo '[status 1]'");
    let ran = lab.boot(&["run", "--json", "--", &run]);
    ran.code(0);
    let result = ran.result();
    assert_eq!(result.code, "pass");
    let transcript = result.transcript.unwrap();
    assert!(transcript.contains(splat), "{transcript}");
    // Nobody can take it for the lab's own line.
    assert!(!transcript.contains("\n[status 1]"), "{transcript}");
}

/// The kernel's log is the kernel's, whoever wrote to /dev/kmsg: it counts, and against the step.
#[test]
fn a_splat_in_the_kernel_log_counts_unless_the_case_allows_it() {
    let Some(lab) = lab_for(&["uml-6.1"]) else { return };
    let run = "echo 'WARNING: CPU: 0 PID: 1 at fs/inode.c:1 iput+0x1/0x2' > /dev/kmsg";
    let ran = lab.boot(&["run", "--json", "--", run]);
    ran.code(1);
    assert_eq!(ran.result().code, "fail:splat", "{ran}");
    lab.case("allowed", &format!("allow = [\"WARNING\"]\n[[step]]\nrun = \"\"\"{run}\"\"\"\n"));
    let ran = lab.boot(&["run", "allowed", "--json"]);
    assert_eq!(ran.result().code, "fail:unreviewed", "{ran}");
}
