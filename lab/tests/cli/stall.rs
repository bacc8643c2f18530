//! A guest that stands still or never comes up: the right outcome in time, what it did as far as that
//! can be seen, and its cause in one line.

use std::path::Path;
use std::time::Duration;

use lab::report::RunResult;

use super::support::{Lab, Ran, lab_for};

const TRUE: &str = "[[step]]\nrun = \"true\"\n";

fn file(result: &RunResult, name: &str) -> String {
    let path = result.folder.as_ref().unwrap().join(name);
    let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A step that sleeps, killed at its deadline: the kernel shows its tasks first.
#[test]
fn what_the_guest_did_is_seen_before_it_is_killed() {
    let Some(lab) = lab_for(&["uml-6.1"]) else { return };
    lab.case("slow", "[[step]]\nrun = \"sleep 1000\"\ntimeout = \"1s\"\n");
    let ran = lab.boot(&["run", "slow", "--json"]);
    let result = ran.result();
    assert_eq!(result.code, "fail:timeout", "{ran}");
    assert!(ran.took < Duration::from_secs(10), "{ran}");
    let log = file(&result, "kernel.log");
    for words in ["sysrq: Show Blocked State", "sysrq: Show State", "poll_schedule_timeout"] {
        assert!(log.contains(words), "no {words:?}: {log}");
    }
    assert!(file(&result, "host-view").contains("Name: linux"));
    // What the lab asked for is no splat, though this kernel dies of the second question.
    assert!(result.reasons.iter().all(|reason| reason.kind != "splat"), "{ran}");
    assert!(result.looks.iter().any(|look| look.contains("kernel.log from line")), "{ran}");
    let again = lab.lab(&["runs", "log", result.id.as_deref().unwrap()]);
    again.code(0).out("host-view");
}

/// A kernel that spins with interrupts off answers nobody: the host's view is all there is.
#[test]
fn a_kernel_that_takes_no_interrupts_is_seen_from_the_host() {
    let Some(lab) = lab_for(&["uml-6.1"]) else { return };
    let listed = lab.lab(&["kernel", "list", "--json"]).value();
    let debug = listed.as_array().unwrap().iter().find(|k| k["name"] == "uml-6.1-debug");
    if debug.is_none_or(|kernel| kernel["release"].is_null()) {
        return super::support::skip(
            "uml-6.1-debug is not built here: lab kernel build uml-6.1-debug",
        );
    }
    lab.case(
        "spins",
        "allow = [\"lockdep\"]\n[machine]\nhang = \"1s\"\ntimeout = \"50s\"\n\
         [[step]]\nrun = \"echo HARDLOCKUP > /sys/kernel/debug/provoke-crash/DIRECT\"\n",
    );
    let ran = lab.boot(&["run", "spins", "-k", "uml-6.1-debug", "--json"]);
    let result = ran.result();
    assert_eq!(result.code, "fail:hang", "{ran}");
    assert!(result.reasons[0].text.contains("did not answer for 1 s"), "{ran}");
    assert!(result.looks[0].contains("did not answer"), "{ran}");
    let view = file(&result, "host-view");
    assert!(view.contains("State: R (running)"), "{view}");
}

#[test]
fn deadlines_out_of_bounds_are_refused() {
    let lab = Lab::new();
    for (line, says) in
        [("hang = \"10ms\"", "no sensible deadline"), ("boot = \"1h\"", "from \"1s\"")]
    {
        lab.case("odd", &format!("[machine]\n{line}\n{TRUE}"));
        lab.lab(&["run", "odd"]).code(2).err(says);
    }
}

/// The boots of a kernel are remembered, and a boot that never ends is given up accordingly.
#[test]
fn a_boot_deadline_is_learnt() {
    let Some(lab) = lab_for(&["uml-6.1"]) else { return };
    lab.case("dead", &format!("[machine]\ncmdline = [\"ssl0=null\"]\n{TRUE}"));
    lab.case("fine", TRUE);
    lab.boot(&["run", "fine"]).code(1);
    let ran = lab.boot(&["run", "dead", "--json"]);
    let result = ran.result();
    assert_eq!(result.code, "broken:timeout", "{ran}");
    let text = &result.reasons[0].text;
    let seconds =
        text.strip_prefix("the boot took longer than ").and_then(|t| t.strip_suffix(" s"));
    let seconds: f64 = seconds.unwrap_or_else(|| panic!("{ran}")).parse().unwrap();
    assert!((5.0..30.0).contains(&seconds), "{ran}");
}

/// Runs a case with these words on the kernel's command line.
fn with_words(lab: &Lab, words: &str) -> (Ran, RunResult) {
    lab.case("dead", &format!("[machine]\nboot = \"2s\"\ncmdline = [{words}]\n{TRUE}"));
    let ran = lab.boot(&["run", "dead", "--json"]);
    let result = ran.result();
    assert!(ran.took < Duration::from_secs(20), "{ran}");
    (ran, result)
}

#[test]
fn a_dead_boot_has_a_cause() {
    let Some(lab) = lab_for(&["uml-6.1"]) else { return };
    for (words, code, cause) in [
        ("\"rdinit=/nothing\"", "fail:splat", "`rdinit=`"),
        ("\"initrd=/lab/linux\"", "fail:splat", "could not unpack its initramfs"),
        ("\"ssl0=null\"", "broken:timeout", "PID 1 is not heard"),
        ("\"ssl0=null\", \"con0=null\"", "broken:timeout", "says nothing"),
    ] {
        let (ran, result) = with_words(&lab, words);
        assert_eq!(result.code, code, "{ran}");
        let said = result.cause.as_deref().unwrap_or_default();
        assert!(said.contains(cause), "{words}: {said}: {ran}");
    }
    let plain = lab.boot(&["run", "dead"]);
    plain.out("the kernel says nothing on its console");
    // The twin: with nothing wrong there is no cause.
    let (_, result) = with_words(&lab, "");
    assert_eq!((result.code.as_str(), result.cause), ("fail:unreviewed", None));
}

/// Before anything is started.
#[test]
fn a_kernel_file_that_is_cut_short() {
    let Some(lab) = lab_for(&["uml-6.1"]) else { return };
    let listed = lab.lab(&["kernel", "list", "--json"]).value();
    let kernel = listed.as_array().unwrap().iter().find(|k| k["name"] == "uml-6.1").unwrap();
    let boot = Path::new(kernel["boot"].as_str().unwrap());
    let whole = std::fs::read(boot).unwrap();
    std::fs::write(lab.path("linux"), &whole[..whole.len() / 2]).unwrap();
    lab.case("any", TRUE);
    let path = format!("path:{}", lab.path("linux").display());
    lab.lab(&["run", "any", "-k", &path]).code(2).err("no User-Mode Linux");
}
