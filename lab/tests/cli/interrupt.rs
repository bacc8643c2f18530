//! A run on a terminal: what is shown while it goes on, and what is left when it is interrupted.
//! Signals in each phase of a run are the fault suite's subject.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::support::{Lab, Pty, Screen, alive, lab_for, machines_of, of_session};

fn sleeps(lab: &Lab, seconds: u32) {
    lab.case("sleeps", &format!("[[step]]\nrun = \"true\"\n[[step]]\nrun = \"sleep {seconds}\"\n"));
}

/// The live display is there while the run is, and gone with it.
#[test]
fn what_runs_is_shown_while_it_runs() {
    let Some(lab) = lab_for(&["uml-6.1"]) else { return };
    sleeps(&lab, 1);
    let pty = Pty::start(&lab, &["run", "sleeps", "--no-pending"], (100, 30));
    let (text, code) = pty.end();
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("step 2/2: sleep 1") && text.contains("1s"), "{text:?}");

    let screen = Screen::of(&text);
    assert!(screen[0].starts_with("fail   sleeps on uml-6.1"), "{screen:#?}");
    for line in &screen {
        assert!(!line.contains("step 2/2") && !line.contains("boots"), "{screen:#?}");
    }
}

/// Neither in a file, nor on a terminal that cannot move its cursor.
#[test]
fn no_display_where_it_cannot_be() {
    let Some(lab) = lab_for(&["uml-6.1"]) else { return };
    sleeps(&lab, 1);
    let ran = lab.boot(&["run", "sleeps", "--no-pending"]);
    assert_eq!(ran.stderr, "");
    ran.not_out("\x1b").not_out("step 2/2");
}

#[test]
fn ctrl_c_ends_the_run_and_says_so() {
    let Some(lab) = lab_for(&["uml-6.1"]) else { return };
    sleeps(&lab, 1000);
    let mut pty = Pty::start(&lab, &["run", "sleeps"], (100, 30));
    pty.expect("step 2/2");
    let machine = pty.machines(1).remove(0);
    pty.session.send_control('c').unwrap();
    let begun = Instant::now();
    let (text, code) = pty.end();
    assert_eq!(code, 130, "{text:?}");
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    assert!(text.contains("interrupted"), "{text:?}");
    assert!(!alive(machine.pid));
    lab.nothing_is_left();
    assert!(lab.files(".snap.new").is_empty());

    let runs = lab.lab(&["runs", "list", "--json"]).value();
    assert_eq!(runs[0]["state"], "finished");
    assert_eq!(runs[0]["result"]["code"], "broken:interrupted");
}

/// Runs that had not begun do not begin.
#[test]
fn what_waits_for_its_turn_is_not_run() {
    let Some(lab) = lab_for(&["uml-6.1"]) else { return };
    sleeps(&lab, 1000);
    // Cases run in the order of their names.
    lab.case("waits", "[[step]]\nrun = \"true\"\n");
    let mut running = lab.start(&["run", "sleeps", "waits", "-j", "1", "--json"]);
    running.until("\"title\":\"sleep 1000\"");
    kill(Pid::from_raw(running.child.id().cast_signed()), Signal::SIGTERM).unwrap();
    let ran = running.wait();
    ran.code(130);
    assert_eq!(ran.result().code, "broken:interrupted", "{ran}");
    assert!(lab.files(".snap.new").is_empty());
}

/// A case with a disk of 64 MiB, some of it written.
fn sleeps_with_a_disk(lab: &Lab, name: &str) {
    let machine = "[machine]\ndisks = [{ name = \"a\", size = \"64M\" }]\n";
    let write = "[[step]]\nrun = \"head -c 1M /dev/urandom > /dev/lab/a; sync\"\n";
    let sleep = "[[step]]\nrun = \"sleep 1000\"\n";
    lab.case(name, &format!("{machine}{write}{sleep}"));
}

/// Names in the folder for temporary files.
fn scratch(lab: &Lab) -> Vec<String> {
    let entries = std::fs::read_dir(lab.tmp()).unwrap().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Nothing can be said when the lab is killed outright; the lifeline ends the machine all the same,
/// and the next lab clears what lies behind.
#[test]
fn a_killed_lab_takes_its_machine_along() {
    let Some(lab) = lab_for(&["uml-6.1"]) else { return };
    sleeps_with_a_disk(&lab, "sleeps");
    let mut running = lab.start(&["run", "sleeps", "--json"]);
    running.until("\"title\":\"sleep 1000\"");
    let session = running.child.id();
    let processes = of_session(session);
    assert_eq!(machines_of(session).len(), 1);
    running.child.kill().unwrap();
    let killed = Instant::now();
    while processes.iter().any(|process| alive(process.pid)) {
        assert!(killed.elapsed() < Duration::from_secs(2), "{:#?}", of_session(session));
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(running.wait().status.code().is_none());

    // What the lab could not clear away is a folder for temporary files, and the run's disk.
    assert_eq!(scratch(&lab).len(), 1);
    assert_eq!(lab.files("/disks/a").len(), 1);
    lab.lab(&["runs"]).code(0).out("interrupted");
    lab.lab(&["runs", "log"]).code(0).out("the lab ended before the run did").out("disks");
    let would = lab.lab(&["gc", "--dry-run"]);
    would.code(0).out("left by a killed lab").out("disks of 1 run, 1 scratch folder");
    assert_eq!(lab.files("/disks/a").len(), 1);

    let next = lab.boot(&["run", "dm-linear"]);
    next.code(0).err("cleared what a killed lab left: disks of 1 run, 1 scratch folder (1.");
    lab.nothing_is_left();
    assert_eq!(lab.files("/disks/a"), [] as [&str; 0]);
    assert!(lab.files("").iter().all(|file| !file.contains("/.open-")));
    // What is known of the run is still there.
    let runs = lab.lab(&["runs", "list", "--json"]).value();
    assert_eq!(runs[0]["state"], "interrupted");
    lab.lab(&["runs", "log", "sleeps"]).code(0).out("the lab ended before").out("Linux version");
    assert_eq!(lab.boot(&["run", "dm-linear"]).code(0).stderr, "");
}

/// The twin: of a lab that is alive nothing is touched, neither by a run nor by a gc beside it.
#[test]
fn a_living_labs_files_are_left_alone() {
    let Some(lab) = lab_for(&["uml-6.1"]) else { return };
    sleeps_with_a_disk(&lab, "sleeps");
    lab.write("lab.toml", "[runs]\nkeep = 1\n");
    let mut living = lab.start_two(&["run", "sleeps", "--json"]);
    living.until("\"title\":\"sleep 1000\"");
    let before = (scratch(&lab), lab.files("/disks/a"));
    assert_eq!((before.0.len(), before.1.len()), (1, 1));

    let mut beside = lab.command(&["run", "dm-linear", "--json"]);
    let beside = beside.output().unwrap();
    assert!(beside.status.success(), "{beside:?}");
    assert_eq!(String::from_utf8_lossy(&beside.stderr), "");
    lab.lab(&["gc"]).code(0);
    assert_eq!((scratch(&lab), lab.files("/disks/a")), before);
    lab.lab(&["runs"]).code(0).out("runs");

    kill(Pid::from_raw(living.child.id().cast_signed()), Signal::SIGINT).unwrap();
    let ran = living.wait();
    assert_eq!(ran.code(130).result().code, "broken:interrupted");
    // It ended by itself: nothing was left to clear.
    lab.nothing_is_left();
    assert_eq!(lab.files("/disks/a"), [] as [&str; 0]);
}

/// Two labs that start at once after a kill: each thing is cleared once, and both run.
#[test]
fn two_labs_clear_up_at_once() {
    let Some(lab) = lab_for(&["uml-6.1"]) else { return };
    sleeps_with_a_disk(&lab, "sleeps");
    let mut running = lab.start_two(&["run", "sleeps", "--json"]);
    running.until("\"title\":\"sleep 1000\"");
    running.child.kill().unwrap();
    let _ = running.child.wait();
    let start = || {
        let mut command = lab.command(&["run", "dm-linear", "--json"]);
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        command.spawn().unwrap()
    };
    let both = [start(), start()];
    let ended = both.map(|child| child.wait_with_output().unwrap());
    let said = ended.iter().map(|ended| String::from_utf8_lossy(&ended.stderr).into_owned());
    let said: String = said.collect();
    assert!(ended.iter().all(|ended| ended.status.success()), "{ended:?}");
    assert_eq!(said.matches("disks of 1 run").count(), 1, "{said}");
    assert_eq!(said.matches("1 scratch folder").count(), 1, "{said}");
    lab.nothing_is_left();
    assert_eq!(lab.files("/disks/a"), [] as [&str; 0]);
}
