//! Runs of several boots against scripted guests: what must not pass for a boot that ended as planned.

use std::io::Write;

use lab_proto::GuestMessage::{End, Reached, Ready, StepStarted};
use lab_proto::{Direction, Encoder, GuestStep, Nonce, Work};

use super::tests::{boot, code_with, end, instance};
use super::*;
use crate::case::{Stall, Tracked};
use crate::machine::{Fake, FakeGuest};
use crate::manifest::{Action, StatusRule};

/// `true`, the step that ends the boot, `true`.
fn three(op: MachineOp) -> Instance {
    let mut instance = instance(3);
    instance.case.steps[1].action = Action::Machine(op);
    instance
}

fn reached(guest: &mut FakeGuest, index: u32) {
    guest.say(&Reached { index, late: 0, tainted: Some(0) });
}

/// Boot 0 as planned, up to the cut.
fn until_cut(guest: FakeGuest) -> Ending {
    let mut guest = boot(guest);
    guest.step(0, b"one\n", 0);
    reached(&mut guest, 1);
    guest.wait_for_the_end()
}

/// Boot 1 up to its first step.
fn again(mut guest: FakeGuest) -> FakeGuest {
    guest.log.write_all(b"[    0.100000] Linux version fake\n").unwrap();
    let plan = guest.hello();
    assert_eq!(plan.boot, 1);
    assert_eq!(
        plan.work,
        Work::Steps(vec![GuestStep::Run { run: "true".into(), stop_unless: None }])
    );
    guest.say(&Ready { boot: 1 });
    guest
}

fn last_step(guest: FakeGuest) -> Ending {
    let mut guest = again(guest);
    guest.step(0, b"two\n", 0);
    end(guest, 1)
}

#[test]
fn a_power_cut_between_two_steps() {
    let (code, evidence) =
        code_with(&three(MachineOp::PowerCut), Fake::start(until_cut).then(last_step));
    assert_eq!(code, "pass", "{evidence:?}");
    let [before] = &evidence.before[..] else { panic!("{evidence:?}") };
    assert_eq!((before.step, before.left, &before.ending), (1, Left::Cut, &None));
    assert_eq!(evidence.steps.iter().map(|s| s.bytes).collect::<Vec<_>>(), [4, 0, 4]);
}

#[test]
fn a_reboot_needs_an_orderly_end() {
    let reboots = |how: Ending, says_end: bool| {
        code_with(
            &three(MachineOp::Reboot),
            Fake::start(move |guest| {
                let mut guest = boot(guest);
                guest.step(0, b"", 0);
                reached(&mut guest, 1);
                if says_end {
                    end(guest, 1);
                }
                how
            })
            .then(last_step),
        )
    };
    let (code, evidence) = reboots(Ending::Exited(0), true);
    assert_eq!((code.as_str(), evidence.before.len()), ("pass", 1), "{evidence:?}");
    assert_eq!(reboots(Ending::Exited(0), false).0, "broken:incomplete");
    assert_eq!(reboots(Ending::Signalled(6), true).0, "broken:died");
    assert_eq!(reboots(Ending::Signalled(11), false).0, "broken:died");
}

/// Nothing may pass for the cut that is not the cut.
#[test]
fn a_machine_that_dies_before_its_cut_is_not_started_again() {
    let (code, evidence) = code_with(
        &three(MachineOp::PowerCut),
        Fake::start(|guest| {
            let mut guest = boot(guest);
            guest.step(0, b"", 0);
            Ending::Signalled(11)
        })
        .then(last_step),
    );
    assert_eq!((code.as_str(), evidence.before.len()), ("broken:died", 0));
    // An end record instead: PID 1 went its own way.
    let (code, evidence) = code_with(
        &three(MachineOp::PowerCut),
        Fake::start(|guest| {
            let mut guest = boot(guest);
            guest.step(0, b"", 0);
            end(guest, 1)
        })
        .then(last_step),
    );
    assert_eq!((code.as_str(), evidence.before.len()), ("broken:incomplete", 0));
}

#[test]
fn a_splat_of_any_boot_counts() {
    for line in ["WARNING: CPU: 0 PID: 1 at fs/x.c:1 f+0x1/0x2", "Kernel panic - not syncing: x"] {
        let (code, evidence) = code_with(
            &three(MachineOp::PowerCut),
            Fake::start(move |mut guest| {
                writeln!(guest.log, "[    0.000001] {line}").unwrap();
                until_cut(guest)
            })
            .then(last_step),
        );
        assert_eq!((code.as_str(), evidence.before[0].splats), ("fail:splat", 1));
    }
}

#[test]
fn what_one_boot_said_is_forged_in_the_next() {
    let replay = |guest: FakeGuest| {
        let mut guest = again(guest);
        let mut recorded = Encoder::new(Direction::FromGuest);
        recorded.set_nonce(Nonce([7; 16]).of_boot(0));
        let lines: Vec<_> =
            (0..3).map(|_| recorded.encode(&StepStarted { index: 0, late: 0 })).collect();
        guest.control.write_all(&lines[2]).unwrap();
        end(guest, 0)
    };
    let (code, evidence) =
        code_with(&three(MachineOp::PowerCut), Fake::start(until_cut).then(replay));
    assert_eq!(code, "broken:forged");
    assert!(evidence.forgeries[0].contains("wrong authentication"), "{:?}", evidence.forgeries);

    let (code, _) = code_with(
        &three(MachineOp::PowerCut),
        Fake::start(until_cut).then(|mut guest| {
            guest.hello();
            guest.say(&Ready { boot: 0 });
            end(guest, 0)
        }),
    );
    assert_eq!(code, "broken:forged");
}

#[test]
fn each_kind_of_step_has_its_own_record() {
    let (code, _) = code_with(
        &instance(1),
        Fake::start(|guest| {
            let mut guest = boot(guest);
            reached(&mut guest, 0);
            end(guest, 0)
        }),
    );
    assert_eq!(code, "broken:forged");
    let (code, _) = code_with(
        &three(MachineOp::PowerCut),
        Fake::start(|guest| {
            let mut guest = boot(guest);
            guest.step(0, b"", 0);
            guest.step(1, b"", 0);
            end(guest, 2)
        })
        .then(last_step),
    );
    assert_eq!(code, "broken:forged");
}

#[test]
fn bytes_are_counted_boot_by_boot() {
    let (code, evidence) = code_with(
        &three(MachineOp::PowerCut),
        Fake::start(|guest| {
            let mut guest = boot(guest);
            guest.step(0, b"one\n", 0);
            guest.terminal.write_all(b"x").unwrap();
            reached(&mut guest, 1);
            guest.wait_for_the_end()
        })
        // What boot 0 had too much is missing here: the sum is right.
        .then(|guest| {
            let mut guest = again(guest);
            guest.say(&StepStarted { index: 0, late: 0 });
            let ended = lab_proto::GuestMessage::StepEnded {
                index: 0,
                status: 0,
                micros: 0,
                bytes: 1,
                shell_gone: false,
            };
            guest.say(&ended);
            end(guest, 1)
        }),
    );
    assert_eq!(evidence.terminal_seen, evidence.terminal_expected);
    assert_eq!(code, "broken:incomplete");
}

#[test]
fn a_failing_set_up_step_leaves_nothing_to_cut() {
    let mut instance = three(MachineOp::PowerCut);
    (instance.case.steps[0].stop, instance.case.steps[0].status) = (true, StatusRule::Is(0));
    let (code, evidence) = code_with(
        &instance,
        Fake::start(|guest| {
            let mut guest = boot(guest);
            guest.step(0, b"", 1);
            end(guest, 1)
        })
        .then(last_step),
    );
    assert_eq!((code.as_str(), evidence.before.len()), ("fail:status", 0), "{evidence:?}");
}

#[test]
fn a_machine_that_does_not_come_back() {
    let (code, evidence) = code_with(&three(MachineOp::PowerCut), Fake::start(until_cut));
    assert_eq!(code, "broken:host", "{evidence:?}");
    assert!(evidence.host_trouble[0].contains("started again"), "{evidence:?}");

    let dies = |_: FakeGuest| Ending::Signalled(11);
    let (code, _) = code_with(&three(MachineOp::PowerCut), Fake::start(until_cut).then(dies));
    assert_eq!(code, "broken:died");

    let mut slow = three(MachineOp::PowerCut);
    slow.case.steps[1].timeout = Some(Duration::from_millis(300));
    let silent = |mut guest: FakeGuest| guest.wait_for_the_end();
    let (code, evidence) = code_with(&slow, Fake::start(until_cut).then(silent));
    assert_eq!(code, "fail:timeout");
    assert!(matches!(evidence.stall, Some(Stall::Timeout { what: Tracked::Step(1), .. })));

    let mut whole = three(MachineOp::PowerCut);
    whole.case.machine.timeout = Duration::from_millis(500);
    let (code, evidence) = code_with(&whole, Fake::start(until_cut).then(silent));
    assert_eq!(code, "fail:timeout");
    assert!(matches!(evidence.stall, Some(Stall::Timeout { what: Tracked::Run, .. })));
}

#[test]
fn cuts_stand_anywhere() {
    let mut instance = instance(3);
    for index in [0, 1, 2] {
        instance.case.steps[index].action = Action::Machine(MachineOp::PowerCut);
    }
    let cut = |number: u32| {
        move |mut guest: FakeGuest| {
            guest.log.write_all(b"[    0.100000] Linux version fake\n").unwrap();
            assert_eq!(guest.hello().boot, number);
            guest.say(&Ready { boot: number });
            reached(&mut guest, 0);
            guest.wait_for_the_end()
        }
    };
    let last = |mut guest: FakeGuest| {
        guest.log.write_all(b"[    0.100000] Linux version fake\n").unwrap();
        assert_eq!(guest.hello().work, Work::Steps(vec![]));
        guest.say(&Ready { boot: 3 });
        guest.say(&End { steps: 0, late: 0, left_mounted: Vec::new(), tainted: Some(0) });
        Ending::Exited(0)
    };
    let machine = Fake::start(cut(0)).then(cut(1)).then(cut(2)).then(last);
    let (code, evidence) = code_with(&instance, machine);
    assert_eq!((code.as_str(), evidence.before.len()), ("pass", 3), "{evidence:?}");
}
