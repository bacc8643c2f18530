//! The binary from outside: how it is called, and how it ends when its reader goes away.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

fn tools() -> Command {
    Command::new(env!("CARGO_BIN_EXE_lab-tools"))
}

#[test]
fn the_tool_is_chosen_by_name_or_by_first_argument() {
    let by_argument = tools().args(["noise", "--kind", "lines", "--count", "2"]).output().unwrap();
    let by_name =
        tools().arg0("/bin/noise").args(["--kind", "lines", "--count", "2"]).output().unwrap();
    assert_eq!(by_argument.stdout, b"1\n2\n");
    assert_eq!(by_name, by_argument);
}

#[test]
fn every_listed_tool_has_help() {
    let list = tools().arg("--list").output().unwrap();
    let help = tools().arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let names = String::from_utf8(list.stdout).unwrap();
    assert!(!names.is_empty());
    for name in names.lines() {
        assert!(help.contains(name));
        let output = tools().args([name, "--help"]).output().unwrap();
        assert!(output.status.success());
        assert!(String::from_utf8(output.stdout).unwrap().contains(&format!("Usage: {name}")));
    }
}

#[test]
fn wrong_use_is_status_2() {
    for words in [&[][..], &["no-such-tool"], &["noise", "--kind", "loud"]] {
        let output = tools().args(words).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{words:?}");
        assert!(!output.stderr.is_empty() && output.stdout.is_empty());
    }
}

#[test]
fn a_reader_that_goes_away_gets_no_complaint() {
    let mut child = tools()
        .args(["noise", "--bytes", "1G"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut some = [0; 1000];
    child.stdout.take().unwrap().read_exact(&mut some).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stderr.is_empty());
}

#[test]
fn a_full_device_is_status_1_and_said() {
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let output = tools().args(["noise", "--bytes", "10"]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("cannot write"));
}
