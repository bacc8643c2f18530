//! A run on a terminal: what is shown while it goes on, and what is left when it is interrupted.
//! Signals in each phase of a run are the fault suite's subject.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::support::{Lab, Pty, Screen, alive, lab_for};

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
