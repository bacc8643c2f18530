//! `lab shell` on a real terminal.

use nix::sys::termios::LocalFlags;

use super::support::{Lab, Pty, lab_for};

#[test]
fn a_terminal_in_the_machine() {
    let Some(lab) = lab_for(&["uml-6.1"]) else { return };
    let mut pty = Pty::start(&lab, &["shell", "-k", "uml-6.1"], (97, 31));
    pty.expect("Linux 6.1.");
    pty.expect("# ");
    // While the guest has it, keys are the guest's: no echo and no signals here.
    assert!(!pty.settings().local_flags.intersects(LocalFlags::ICANON | LocalFlags::ISIG));

    pty.line("stty size; echo $((6*7))");
    pty.expect("31 97\r\n42\r\n");
    pty.resize((120, 40));
    pty.line("sleep 0.3; stty size");
    pty.expect("40 120\r\n");

    // Ctrl-C ends what runs there, and neither the shell nor the lab.
    pty.line("echo so''on; sleep 100; echo not reached");
    pty.expect("soon\r\n");
    pty.session.send_control('c').unwrap();
    pty.line("echo status $?");
    let between = pty.expect("status 130");
    assert!(!between.contains("not reached\r\n"), "{between:?}");

    pty.machines(1);
    pty.line("exit 3");
    let (rest, code) = pty.end();
    assert_eq!(code, 3, "{rest:?}");
    assert!(!rest.contains("panicked"));
    lab.nothing_is_left();
    // Nobody looks for the logs of a session that went well.
    assert_eq!(lab.lab(&["runs"]).stdout, "");
}

/// The terminal is as it was found, in the eyes of the shell that the lab was started from.
#[test]
fn the_terminal_is_restored() {
    let Some(lab) = lab_for(&["uml-6.1"]) else { return };
    let script = "before=$(stty -g); $0 shell -k uml-6.1; code=$?; \
                  [ \"$before\" = \"$(stty -g)\" ] && echo restored after $code; read last";
    let mut pty = Pty::of(&lab, "sh", &["-c", script, super::support::LAB], (80, 24));
    pty.expect("# ");
    pty.line("exit 5");
    pty.expect("restored after 5");
    pty.line("");
    pty.end();

    // The same when the machine dies under it.
    let mut pty = Pty::of(&lab, "sh", &["-c", script, super::support::LAB], (80, 24));
    pty.expect("# ");
    pty.line("echo c > /proc/sysrq-trigger");
    let said = pty.expect("restored after 3");
    assert!(said.contains("the machine died") && said.contains("kernel.log"), "{said:?}");
    pty.line("");
    pty.end();
}

#[test]
fn with_a_cases_disks_and_programs() {
    let Some(lab) = lab_for(&["uml-6.1"]) else { return };
    let mut pty = Pty::start(&lab, &["shell", "dm-linear"], (80, 24));
    pty.expect("# ");
    pty.line("ls /dev/lab | tr '\\n' ' '; echo $second; dmsetup version | wc -l");
    pty.expect("a b b\r\n2\r\n");
    // Ctrl-D at an empty line ends the shell, and so the machine.
    pty.session.send_control('d').unwrap();
    let (rest, code) = pty.end();
    assert_eq!(code, 0, "{rest:?}");
    lab.nothing_is_left();
}

/// Without a terminal the input is typed, and its end is the session's.
#[test]
fn a_pipe_will_do() {
    let Some(lab) = lab_for(&["uml-6.1"]) else { return };
    let ran = piped(&lab, "echo $((6*7))\nexit 4\n");
    ran.code(4).out("42");
}

fn piped(lab: &Lab, text: &str) -> super::support::Ran {
    let _token = super::support::tokens(1);
    lab.answer(&["shell", "-k", "uml-6.1"], text)
}
