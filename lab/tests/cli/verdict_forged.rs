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

/// A line of the kernel's log with a splat in it, from user space.
const SPLAT: &str = "WARNING: CPU: 0 PID: 1 at fs/inode.c:1 iput+0x1/0x2";

/// Through /dev/kmsg, which the kernel would stamp, and to each console with a stamp of its own.
#[test]
fn the_words_of_a_splat_from_user_space_are_not_believed() {
    let Some(lab) = lab_for(&["uml-5.10", "uml-6.1"]) else { return };
    let run = format!(
        "echo '{SPLAT}' > /dev/kmsg; echo '<2>Kernel panic - not syncing: x' > /dev/kmsg; \
         for c in console tty0; do echo '[    1.000000] {SPLAT}' > /dev/$c; done; \
         echo 'BUG: plain' > /dev/console; dmesg | grep -c iput; \
         ! echo on > /proc/sys/kernel/printk_devkmsg"
    );
    lab.case(
        "words",
        &format!("[needs]\nprograms = [\"dmesg\"]\n[[step]]\nrun = \"\"\"{run}\"\"\"\n"),
    );
    for kernel in ["uml-5.10", "uml-6.1"] {
        let ran = lab.boot(&["run", "words", "-k", kernel, "--json"]);
        assert_eq!(ran.result().code, "fail:unreviewed", "{ran}");
        let log = std::fs::read_to_string(ran.result().folder.unwrap().join("kernel.log")).unwrap();
        assert_eq!(log.matches("iput").count(), 2, "what the consoles were given is kept: {log}");
    }
}

/// A case may have its words in the kernel's log; then they are the kernel's.
#[test]
fn a_splat_in_the_kernel_log_counts_unless_the_case_allows_it() {
    let Some(lab) = lab_for(&["uml-6.1"]) else { return };
    let body = format!(
        "[machine]\ncmdline = [\"printk.devkmsg=on\"]\n\
         [[step]]\nrun = \"\"\"echo '{SPLAT}' > /dev/kmsg\"\"\"\n"
    );
    lab.case("warns", &body);
    let ran = lab.boot(&["run", "warns", "--json"]);
    ran.code(1);
    assert_eq!(ran.result().code, "fail:splat", "{ran}");
    lab.case("allowed", &format!("allow = [\"WARNING\"]\n{body}"));
    let ran = lab.boot(&["run", "allowed", "--json"]);
    assert_eq!(ran.result().code, "fail:unreviewed", "{ran}");
}
