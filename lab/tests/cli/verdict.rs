//! Verdicts that only a real machine can be brought to: a panic, a hang, a machine killed from
//! outside, a shell that is gone, time that is up, output out of turn.

use std::time::Duration;

use lab::report::RunResult;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::support::{Lab, lab_for, machines_of, of_session};

/// A case of these steps on the default kernel, run once.
fn verdict_of(lab: &Lab, steps: &[&str]) -> (i32, RunResult) {
    let steps: Vec<_> = steps.iter().map(|s| format!("[[step]]\nrun = '''{s}'''\n")).collect();
    lab.case("verdict", &format!("[machine]\ntimeout = \"60s\"\n{}", steps.concat()));
    let ran = lab.boot(&["run", "verdict", "--json"]);
    (ran.status.code().unwrap(), ran.result())
}

fn kinds(result: &RunResult) -> Vec<&str> {
    result.reasons.iter().map(|reason| reason.kind.as_str()).collect()
}

/// The run's own record of what the steps printed.
fn transcript(result: &RunResult) -> String {
    std::fs::read_to_string(result.folder.as_ref().unwrap().join("transcript")).unwrap()
}

#[test]
fn a_panic_is_the_kernels_failure() {
    let Some(lab) = lab_for(&["uml-6.1"]) else { return };
    let panic = "echo 1 > /proc/sys/kernel/sysrq; echo before; echo c > /proc/sysrq-trigger";
    let (exit, result) = verdict_of(&lab, &[panic, "echo never"]);
    assert_eq!((exit, result.code.as_str()), (1, "fail:splat"), "{result:?}");
    assert!(result.reasons[0].text.contains("Kernel panic - not syncing: sysrq triggered crash"));
    assert!(transcript(&result).contains("\nbefore\n[not ended]"), "{}", transcript(&result));
    assert!(!lab.lab(&["runs"]).code(0).stdout.contains("interrupted"));
}

#[test]
fn a_shell_that_is_gone_is_broken() {
    let Some(lab) = lab_for(&["uml-6.1"]) else { return };
    for (end, status) in [("exit 0", 0), ("kill -9 $$", 137)] {
        let (exit, result) = verdict_of(&lab, &["echo first", end, "echo never"]);
        assert_eq!((exit, result.code.as_str()), (3, "broken:shell-gone"), "{result:?}");
        assert!(transcript(&result).contains(&format!("[shell ended, status {status}]")));
        assert!(!transcript(&result).contains("never"));
    }
}

/// Even in the last step, after which nothing is missing.
#[test]
fn a_shell_that_ends_with_the_last_step_is_broken_too() {
    let Some(lab) = lab_for(&["uml-6.1"]) else { return };
    let ran = lab.boot(&["run", "--", "exit 0"]);
    ran.code(3).out("broken command").out("ended the shell");
}

#[test]
fn nothing_that_a_step_does_to_its_own_session_harms_the_lab() {
    let Some(lab) = lab_for(&["uml-6.1"]) else { return };
    // PID 1 is no target of signals from inside; closing everything is the step's own loss.
    let steps = [
        "kill -9 1; kill -STOP 1; kill -TERM 1; echo still there",
        "exec 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&-; echo descriptors",
        "stty raw 2>/dev/null; trap '' INT TERM HUP; set -e; false || echo on",
    ];
    let (_, result) = verdict_of(&lab, &steps);
    assert_eq!(result.code, "fail:unreviewed", "{result:?}");
    for said in ["still there\n", "descriptors\n", "on\n"] {
        assert!(transcript(&result).contains(said), "{}", transcript(&result));
    }
}

#[test]
fn a_step_that_takes_too_long_fails() {
    let Some(lab) = lab_for(&["uml-6.1"]) else { return };
    lab.case("slow", "[machine]\ntimeout = \"3s\"\n[[step]]\nrun = \"echo begun; sleep 1000\"\n");
    let ran = lab.boot(&["run", "slow", "--json"]);
    ran.code(1);
    assert_eq!(ran.result().code, "fail:timeout");
    assert!(ran.took < Duration::from_secs(5), "{ran}");
    assert!(transcript(&ran.result()).contains("begun\n[not ended]"));

    lab.case(
        "slow",
        "[[step]]\nrun = \"true\"\n[[step]]\nrun = \"sleep 1000\"\ntimeout = \"1s\"\n",
    );
    let ran = lab.boot(&["run", "slow"]);
    ran.code(1).out("step 2 took longer than 1 s").not_out("lab accept");
}

/// A step may keep the processor for ever: PID 1 still answers, so this is slow, not hung.
#[test]
fn a_busy_loop_is_no_hang() {
    let Some(lab) = lab_for(&["uml-6.1"]) else { return };
    lab.case("busy", "[machine]\ntimeout = \"8s\"\n[[step]]\nrun = \"while :; do :; done\"\n");
    assert_eq!(lab.boot(&["run", "busy", "--json"]).result().code, "fail:timeout");
}

/// Starts a run that sleeps for ever, and returns it with the machine's process.
fn sleeping(lab: &Lab) -> (super::support::Running, Pid) {
    lab.case("sleeps", "[[step]]\nrun = \"echo here; sleep 1000\"\n");
    let mut running = lab.start(&["run", "sleeps", "--json"]);
    running.until("\"event\":\"step-started\"");
    let machines = machines_of(running.child.id());
    assert_eq!(machines.len(), 1, "{machines:?}");
    (running, Pid::from_raw(machines[0].pid.cast_signed()))
}

#[test]
fn a_machine_killed_from_outside_is_broken() {
    let Some(lab) = lab_for(&["uml-6.1"]) else { return };
    let (running, machine) = sleeping(&lab);
    // All at once, as a memory limit's group kill does: none may speak after another's death.
    kill(machine, Signal::SIGSTOP).unwrap();
    std::thread::sleep(Duration::from_millis(20));
    for process in of_session(running.child.id()) {
        if process.parent == machine.as_raw().unsigned_abs() {
            let _ = kill(Pid::from_raw(process.pid.cast_signed()), Signal::SIGKILL);
        }
    }
    kill(machine, Signal::SIGKILL).unwrap();
    let ran = running.wait();
    ran.code(3);
    assert_eq!(ran.result().code, "broken:died", "{ran}");
    assert!(ran.result().reasons[0].text.contains("SIGKILL"), "{ran}");
    assert!(ran.took < Duration::from_secs(5), "{ran}");
}

/// UML's helper processes share the kernel's memory, and one that outlives it by a moment may print
/// a panic in its name ("Segfault with no mm"). Who was killed from outside has not panicked: a
/// panic ends the process by SIGABRT.
#[test]
fn a_kill_from_outside_is_not_taken_for_a_panic() {
    let Some(lab) = lab_for(&["uml-6.1"]) else { return };
    for _ in 0..3 {
        let (running, machine) = sleeping(&lab);
        kill(machine, Signal::SIGKILL).unwrap();
        let ran = running.wait();
        assert_eq!(ran.result().code, "broken:died", "{ran}");
    }
}

/// The helper between lab and machine: with it the machine goes, and it is said.
#[test]
fn a_supervisor_killed_from_outside_is_broken() {
    let Some(lab) = lab_for(&["uml-6.1"]) else { return };
    let (running, machine) = sleeping(&lab);
    let pid = machine.as_raw().unsigned_abs();
    let machines = machines_of(running.child.id());
    let helper = machines.iter().find(|m| m.pid == pid).unwrap().parent;
    kill(Pid::from_raw(helper.cast_signed()), Signal::SIGKILL).unwrap();
    let ran = running.wait();
    ran.code(3);
    assert_eq!(ran.result().code, "broken:died", "{ran}");
    assert!(!super::support::alive(pid));
}

#[test]
fn a_machine_that_stands_still_hangs() {
    let Some(lab) = lab_for(&["uml-6.1"]) else { return };
    let (running, machine) = sleeping(&lab);
    kill(machine, Signal::SIGSTOP).unwrap();
    let ran = running.wait();
    ran.code(1);
    let result = ran.result();
    assert_eq!(result.code, "fail:hang", "{ran}");
    assert!(result.reasons[0].text.contains("hang in step 1"), "{ran}");
}

/// What a background job prints belongs to the step that runs; between two steps it is late, and
/// every byte is somewhere. A real-time `yes` fills the terminal whenever PID 1 has read of it.
#[test]
fn output_between_steps_is_late() {
    let Some(lab) = lab_for(&["uml-6.1"]) else { return };
    lab.case(
        "late",
        "[needs]\nprograms = [\"chrt\", \"yes\"]\n\
         [[step]]\nrun = '''(echo > /tmp/up; exec chrt -f 50 yes tick) &\n\
         while [ ! -e /tmp/up ]; do sleep 0.01; done; sleep 0.3'''\n\
         [[step]]\nrun = \"true\"\n",
    );
    let ran = lab.boot(&["run", "late", "--json"]);
    let result = ran.result();
    assert_eq!(kinds(&result), ["unreviewed"], "{ran}");
    assert!(transcript(&result).contains("\n[late]\n"), "{}", transcript(&result));
    let folder = result.folder.unwrap();
    let evidence: lab::case::Evidence =
        serde_json::from_slice(&std::fs::read(folder.join("evidence.json")).unwrap()).unwrap();
    let counted: u64 = evidence.steps.iter().map(|step| step.bytes + step.late).sum();
    assert_eq!(counted, evidence.terminal_seen);
}
