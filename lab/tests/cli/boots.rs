//! Runs of several boots on a real kernel: power cuts, reboots and sysrq keys, and all that must not
//! pass for one.

use std::path::PathBuf;
use std::time::Duration;

use lab::case::Evidence;
use lab::report::{RunResult, What};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::support::{Lab, Pty, Ran, lab_for, machines_of};

/// Steps of a case: a line in brackets is the machine's, another the shell's.
fn steps(steps: &[&str]) -> String {
    let step = |text: &&str| match text.strip_prefix('[').and_then(|t| t.strip_suffix(']')) {
        Some(op) => format!("[[step]]\nmachine = \"{op}\"\n"),
        None => format!("[[step]]\nrun = \'\'\'{text}\'\'\'\n"),
    };
    steps.iter().map(step).collect()
}

fn case(lab: &Lab, machine: &str, list: &[&str]) {
    let disk = "disks = [{ name = \"a\", size = \"16M\" }]";
    let needs = "[needs]\nprograms = [\"losetup\", \"mkfs.ext4\"]\nkconfig = [\"EXT4_FS\"]";
    lab.case("boots", &format!("{needs}\n[machine]\n{disk}\n{machine}\n{}", steps(list)));
}

fn run(lab: &Lab, list: &[&str]) -> (Ran, RunResult) {
    case(lab, "", list);
    let ran = lab.boot(&["run", "boots", "--json", "--no-pending"]);
    let result = ran.result();
    (ran, result)
}

fn file(result: &RunResult, name: &str) -> String {
    std::fs::read_to_string(PathBuf::from(result.folder.as_ref().unwrap()).join(name)).unwrap()
}

fn evidence(result: &RunResult) -> Evidence {
    serde_json::from_str(&file(result, "evidence.json")).unwrap()
}

#[test]
fn a_power_cut_keeps_the_disk_and_nothing_else() {
    let Some(lab) = lab_for(&["uml-6.1"]) else { return };
    let (ran, result) = run(
        &lab,
        &[
            "x=5; cd /tmp; echo gone > f; echo kept | dd of=/dev/lab/a conv=fsync status=none",
            "[power-cut]",
            "echo \"x=$x\"; pwd; ls /tmp; head -n 1 /dev/lab/a",
            "[reboot]",
            "echo \"x=$x\"; head -n 1 /dev/lab/a",
        ],
    );
    assert_eq!((result.code.as_str(), result.boots), ("fail:unreviewed", 3), "{ran}");
    let shown = file(&result, "transcript");
    let end = "[machine power-cut]\n$ echo \"x=$x\"; pwd; ls /tmp; head -n 1 /dev/lab/a\nx=\n/root\nkept\n\
               [machine reboot]\n$ echo \"x=$x\"; head -n 1 /dev/lab/a\nx=\nkept\n";
    assert!(shown.ends_with(end), "{shown}");

    // The number of each boot, as PID 1 says it, and every step's start and end.
    let ready: Vec<u32> = ran
        .events()
        .iter()
        .filter_map(|event| match event.what {
            What::RunReady { boot, .. } => Some(boot),
            _ => None,
        })
        .collect();
    assert_eq!(ready, [0, 1, 2], "{ran}");
    ran.out("\"title\":\"power-cut\"").out("\"title\":\"reboot\"");
    let log = file(&result, "kernel.log");
    assert_eq!(log.matches("Linux version").count(), 3);
    assert!(log.contains("\n-- boot 1 --\n") && log.contains("\n-- boot 2 --\n"), "{log}");
    // An orderly end switches the machine off; a power cut says nothing.
    assert_eq!(log.matches("reboot: System halted").count() + log.matches("Power down").count(), 2);

    lab.lab(&["runs", "log"]).code(0).out("[machine power-cut]").out("boots      3");
    let again = lab.boot(&["runs", "again", "--json"]).result();
    assert_eq!((again.code.as_str(), again.boots), ("fail:unreviewed", 3));
    assert_eq!(file(&again, "transcript"), shown);
}

#[test]
fn cuts_stand_first_last_and_in_a_row() {
    let Some(lab) = lab_for(&["uml-6.1"]) else { return };
    let (ran, result) = run(&lab, &["[power-cut]", "[power-cut]", "echo here", "[power-cut]"]);
    assert_eq!((result.code.as_str(), result.boots), ("fail:unreviewed", 4), "{ran}");
    let cut = "[machine power-cut]\n";
    assert_eq!(file(&result, "transcript"), format!("{cut}{cut}$ echo here\nhere\n{cut}"));
}

/// What is printed and written while the power fails neither spoils the count nor looks like a panic.
#[test]
fn a_cut_in_the_middle_of_noise() {
    let Some(lab) = lab_for(&["uml-6.1"]) else { return };
    let busy = "(while :; do echo noise; done) & (while :; do dd if=/dev/zero of=/dev/lab/a bs=1M \
                count=8 conv=fsync status=none; done) & sleep 0.2";
    let (ran, result) = run(&lab, &[busy, "[power-cut]", busy, "[power-cut]", "echo quiet"]);
    assert_eq!((result.code.as_str(), result.boots), ("fail:unreviewed", 3), "{ran}");
    assert!(file(&result, "transcript").ends_with("[machine power-cut]\n$ echo quiet\nquiet\n"));
}

#[test]
fn a_splat_before_the_cut_fails_whatever_follows() {
    let Some(lab) = lab_for(&["uml-6.1"]) else { return };
    let warn = "echo '<4>WARNING: CPU: 0 PID: 1 at fs/x.c:1 f+0x1/0x2' > /dev/kmsg";
    // Else the kernel takes nothing from user space there.
    let run = |list: &[&str]| {
        case(&lab, "cmdline = [\"printk.devkmsg=on\"]", list);
        let ran = lab.boot(&["run", "boots", "--json", "--no-pending"]);
        let result = ran.result();
        (ran, result)
    };
    let (ran, result) = run(&[warn, "[power-cut]", "echo fine"]);
    assert_eq!((result.code.as_str(), result.boots), ("fail:splat", 2), "{ran}");
    let log = file(&result, "kernel.log");
    let splat = &evidence(&result).splats[0];
    assert!(log.lines().nth(splat.number - 1).unwrap().contains("fs/x.c:1"), "{splat:?}");

    let (ran, result) = run(&["true", "[power-cut]", warn]);
    assert_eq!((result.code.as_str(), result.boots), ("fail:splat", 2), "{ran}");
    let log = file(&result, "kernel.log");
    let splat = &evidence(&result).splats[0];
    assert!(log.lines().nth(splat.number - 1).unwrap().contains("fs/x.c:1"), "{splat:?}");
}

/// A machine that ends by itself where its power was to be cut has not been cut.
#[test]
fn a_death_before_the_cut_is_no_cut() {
    let Some(lab) = lab_for(&["uml-6.1"]) else { return };
    let panic = "echo c > /proc/sysrq-trigger";
    let (ran, result) = run(&lab, &[panic, "[power-cut]", "echo never"]);
    assert_eq!((result.code.as_str(), result.boots), ("fail:splat", 1), "{ran}");
    assert!(!file(&result, "transcript").contains("never"));

    case(&lab, "", &["echo here; sleep 1000", "[power-cut]", "echo never"]);
    let mut running = lab.start(&["run", "boots", "--json", "--no-pending"]);
    running.until("\"event\":\"step-started\"");
    let machine = machines_of(running.child.id()).remove(0);
    kill(Pid::from_raw(machine.pid.cast_signed()), Signal::SIGKILL).unwrap();
    let ran = running.wait();
    ran.code(3);
    assert_eq!((ran.result().code.as_str(), ran.result().boots), ("broken:died", 1), "{ran}");
}

#[test]
fn a_reboot_unmounts_and_names_what_it_cannot() {
    let Some(lab) = lab_for(&["uml-6.1"]) else { return };
    let (ran, result) = run(
        &lab,
        &[
            "mkfs.ext4 -q /dev/lab/a && mkdir -p /mnt && mount /dev/lab/a /mnt && echo kept > /mnt/f",
            "(cd /mnt; exec sleep 1000) & echo busy",
            "[reboot]",
            "mkdir -p /mnt; mount /dev/lab/a /mnt; dmesg | grep -c recovery; cat /mnt/f",
        ],
    );
    assert_eq!((result.code.as_str(), result.boots), ("fail:unreviewed", 2), "{ran}");
    assert!(file(&result, "transcript").ends_with("\n0\nkept\n"), "{ran}");
    assert!(evidence(&result).before[0].left_mounted.is_empty());

    let (ran, result) = run(
        &lab,
        &[
            "mkfs.ext4 -q /dev/lab/a && mkdir -p /mnt && mount /dev/lab/a /mnt",
            "head -c 1M /dev/zero > /mnt/image && losetup -f /mnt/image",
            "[reboot]",
            "mkdir -p /mnt; mount /dev/lab/a /mnt; wc -c < /mnt/image",
        ],
    );
    assert_eq!((result.code.as_str(), result.boots), ("fail:unreviewed", 2), "{ran}");
    assert!(file(&result, "transcript").ends_with("\n1048576\n"), "{ran}");
    assert_eq!(evidence(&result).before[0].left_mounted, ["/mnt: Device or resource busy"]);
}

#[test]
fn after_a_failed_set_up_step_nothing_is_cut() {
    let Some(lab) = lab_for(&["uml-6.1"]) else { return };
    let text = steps(&["echo first; false", "[power-cut]", "echo never"]);
    lab.case("boots", &text.replacen("false", "false'''\nstop = true\nname = '''x", 1));
    let result = lab.boot(&["run", "boots", "--json", "--no-pending"]).result();
    assert_eq!((result.code.as_str(), result.boots), ("fail:status", 1));
    assert!(!file(&result, "transcript").contains("power-cut"));
}

#[test]
fn time_runs_on_from_boot_to_boot() {
    let Some(lab) = lab_for(&["uml-6.1"]) else { return };
    case(
        &lab,
        "timeout = \"4s\"",
        &["sleep 1", "[power-cut]", "sleep 1", "[reboot]", "sleep 1000"],
    );
    let ran = lab.boot(&["run", "boots", "--json", "--no-pending"]);
    ran.code(1);
    assert_eq!(ran.result().code, "fail:timeout", "{ran}");
    assert!(ran.took < Duration::from_secs(6), "{ran}");
}

#[test]
fn ctrl_c_between_boots() {
    let Some(lab) = lab_for(&["uml-6.1"]) else { return };
    case(&lab, "", &["[power-cut]"; 40]);
    let mut running = lab.start(&["run", "boots", "--json", "--no-pending"]);
    running.until("\"event\":\"step-ended\",\"number\":0,\"step\":2");
    kill(Pid::from_raw(running.child.id().cast_signed()), Signal::SIGINT).unwrap();
    let ran = running.wait();
    ran.code(130);
    assert_eq!(ran.result().code, "broken:interrupted", "{ran}");
    assert!(ran.result().boots < 40, "{ran}");
}

#[test]
fn sysrq_speaks_in_the_kernels_log() {
    let Some(lab) = lab_for(&["uml-6.1"]) else { return };
    let (ran, result) = run(&lab, &["x=5", "[sysrq w]", "[sysrq m]", "echo $x"]);
    assert_eq!((result.code.as_str(), result.boots), ("fail:unreviewed", 1), "{ran}");
    assert!(file(&result, "transcript").ends_with("[machine sysrq m]\n$ echo $x\n5\n"));
    let log = file(&result, "kernel.log");
    assert!(log.contains("sysrq: Show Blocked State") && log.contains("sysrq: Show Memory"));

    let (ran, result) = run(&lab, &["true", "[sysrq c]", "echo never"]);
    assert_eq!(result.code, "fail:splat", "{ran}");
    assert!(result.reasons[0].text.contains("sysrq triggered crash"), "{ran}");
    assert!(ran.took < Duration::from_secs(5), "{ran}");
}

/// Without walls a killed machine leaves its state behind, which the next boot must not trip over.
#[test]
fn without_a_sandbox_too() {
    let Some(lab) = lab_for(&["uml-6.1"]) else { return };
    case(&lab, "", &["true", "[sysrq w]", "[power-cut]", "true", "[sysrq w]", "[reboot]", "true"]);
    let ran = lab.boot(&["run", "boots", "--json", "--no-pending", "--sandbox=off"]);
    assert_eq!((ran.result().code.as_str(), ran.result().boots), ("fail:unreviewed", 3), "{ran}");
    let log = file(&ran.result(), "kernel.log");
    assert_eq!(log.matches("initialized on ./m/mconsole").count(), 3, "{log}");
}

#[test]
fn the_display_names_the_machines_steps() {
    let Some(lab) = lab_for(&["uml-6.1"]) else { return };
    case(&lab, "", &["sleep 0.3", "[power-cut]", "sleep 0.3"]);
    let pty = Pty::start(&lab, &["run", "boots", "--no-pending"], (100, 30));
    let (text, code) = pty.end();
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("step 2/3: power-cut"), "{text:?}");
    // A shell in the machine of such a case is one boot.
    lab.answer(&["shell", "boots"], "ls /dev/lab; exit 3\n").code(3);
}

#[test]
fn disks_that_come_and_go_are_a_skip() {
    let Some(lab) = lab_for(&["uml-6.1"]) else { return };
    let (ran, result) = run(&lab, &["true", "[unplug a]"]);
    ran.code(4);
    assert!(result.note.unwrap().contains("\"unplug a\""), "{ran}");
}
