//! `lab runs`: what was run can be listed, read and done again.

use super::support::{Lab, lab_for};

#[test]
fn list_log_and_again() {
    let Some(lab) = lab_for(&["uml-6.1"]) else { return };
    lab.boot(&["run", "overlay-union"]).code(0);
    lab.boot(&["run", "--", "echo hello; echo \"\\033[2J\"; exit 0"]).code(3);

    let listed = lab.lab(&["runs"]);
    listed.code(0).out("overlay-union").out("pass").out("broken").out("ended the shell");
    assert_eq!(listed.stdout, lab.lab(&["runs", "list"]).stdout);
    let list = lab.lab(&["runs", "list", "--json"]).value();
    let of = |case: &str| {
        let mut runs = list.as_array().unwrap().iter();
        runs.find(|run| run["result"]["run"]["case"] == case).unwrap().clone()
    };
    assert_eq!(of("overlay-union")["state"], "finished");
    assert_eq!(of("overlay-union")["result"]["code"], "pass");
    assert_eq!(of("command")["result"]["code"], "broken:shell-gone");
    let newest = lab.lab(&["runs", "list", "-n", "1"]);
    assert_eq!(newest.stdout.lines().count(), 1, "{newest}");

    // By case; what would move a terminal's cursor is escaped.
    let log = lab.lab(&["runs", "log", "overlay-union"]);
    log.code(0).out("outcome").out("pass").out("uml-6.1: Linux 6.1.").out("isolation  full");
    log.out("$ ls merged\n").out("Linux version 6.1.").out("detectors");
    let log = lab.lab(&["runs", "log", "command"]);
    log.code(0).out("broken:shell-gone").out("hello\n");
    assert!(!log.stdout.contains('\x1b'), "{log}");
    let json = lab.lab(&["runs", "log", "overlay-union", "--json"]).value();
    assert_eq!(json["result"]["isolation"], "full");

    let again = lab.boot(&["runs", "again", "overlay-union"]);
    again.code(0).out("pass   overlay-union [upper=dir2] on uml-6.1");
    let result = lab.boot(&["runs", "again", "command", "--json"]).result();
    assert_eq!(result.code, "broken:shell-gone");
    assert_eq!(lab.lab(&["runs"]).stdout.lines().count(), 4);
}

#[test]
fn no_such_run() {
    let lab = Lab::new();
    lab.lab(&["runs"]).code(0).err("no runs yet");
    lab.lab(&["runs", "log"]).code(2).err("there is no run yet").err("lab run makes one");
    lab.lab(&["runs", "log", "x"]).code(2).err("there is no run \"x\"").err("lab runs list");
    lab.lab(&["runs", "again", "x"]).code(2).err("there is no run \"x\"");
}

/// The newest run is the last one of the list, whatever the names of the cases.
#[test]
fn the_last_run_is_the_newest() {
    let Some(lab) = lab_for(&["uml-6.1"]) else { return };
    lab.boot(&["run", "overlay-union"]).code(0);
    lab.boot(&["run", "--", "echo the newest"]).code(0);
    lab.lab(&["runs", "log"]).code(0).out("the newest");
    lab.lab(&["runs", "list", "-n", "1"]).code(0).out("command");
}
