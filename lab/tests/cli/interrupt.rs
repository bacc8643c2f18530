//! A run on a terminal: what is shown while it goes on, and what is left when it is interrupted,
//! or when the lab itself is killed.

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

/// SIGTERM and SIGHUP are the same, and runs that had not begun do not begin.
#[test]
fn other_signals_do_the_same() {
    let Some(lab) = lab_for(&["uml-6.1"]) else { return };
    sleeps(&lab, 1000);
    for signal in [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT] {
        let args = ["run", "sleeps", "overlay-union", "-k", "uml-6.1", "-j", "1", "--json"];
        let mut running = lab.start(&args);
        running.until("\"title\":\"sleep 1000\"");
        kill(Pid::from_raw(running.child.id().cast_signed()), signal).unwrap();
        let ran = running.wait();
        ran.code(130);
        let codes: Vec<_> = ran.results().into_iter().map(|result| result.code).collect();
        assert!(codes.contains(&"broken:interrupted".to_string()), "{ran}");
        assert!(lab.files(".snap.new").is_empty());
        lab.nothing_is_left();
    }
}

/// Nothing can be said when the lab is killed outright; the lifeline ends the machine all the same.
#[test]
fn a_killed_lab_takes_its_machine_along() {
    let Some(lab) = lab_for(&["uml-6.1"]) else { return };
    sleeps(&lab, 1000);
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

    // What the lab could not clear away is a folder for temporary files, and no more.
    for entry in std::fs::read_dir(lab.tmp()).unwrap().flatten() {
        std::fs::remove_dir_all(entry.path()).unwrap();
    }
    lab.lab(&["runs"]).code(0).out("interrupted");
    lab.lab(&["runs", "log"]).code(0).out("the lab ended before the run did");
}
