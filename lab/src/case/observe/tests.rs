//! The run loop against scripted guests that lie, fall silent or die: what no kernel does on demand.

use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use lab_proto::GuestMessage::{End, Ready, StepStarted};
use lab_proto::Nonce;

use super::*;
use crate::case::{Expected, judge};
use crate::machine::{Fake, FakeGuest};
use crate::manifest::{Action, Case, StatusRule};

/// A case of `true` steps, made from the manifest that `lab new` writes.
pub(super) fn instance(steps: usize) -> Instance {
    let text = r#"{"name":"c","dir":"/","summary":"","refs":[],"tags":[],"needs":{"kconfig":[],
        "backend":[],"programs":[],"modules":[],"detectors":[]},"machine":{"memory":1,"cpus":1,
        "cmdline":[],"disks":[],"shares":[],"trace":[],"clock":"real","timeout":{"secs":60,
        "nanos":0},"image":"base"},"params":{},"steps":[],"filters":[],"asserts":[],"allow":[],
        "variants":{},"twins":[],"files":{}}"#;
    let mut case: Case = serde_json::from_str(text).unwrap();
    let step = Step {
        name: None,
        action: Action::Run("true".into()),
        status: StatusRule::Is(0),
        stop: false,
        timeout: None,
    };
    case.steps = vec![step; steps];
    Instance::new(&case, Default::default())
}

/// Observes a guest that does as `script` says, and judges it against whatever it printed.
fn code_of(
    instance: &Instance,
    script: impl FnOnce(FakeGuest) -> Ending + Send + 'static,
) -> (String, Evidence) {
    code_with(instance, Fake::start(script))
}

/// Observes a machine that is there already, with all its boots.
pub(super) fn code_with(instance: &Instance, mut machine: Fake) -> (String, Evidence) {
    let folder = tempfile::tempdir().unwrap();
    let (cancel, _asker) = UnixStream::pair().unwrap();
    let watch = Watch {
        instance,
        folder: folder.path(),
        nonce: Nonce([7; 16]),
        modules: Vec::new(),
        boot: Duration::from_secs(30),
        cancel: cancel.as_fd(),
        filters: &Filters::default(),
        progress: &|_| {},
    };
    let evidence = observe(&mut machine, &watch).unwrap().evidence;
    let expected = Expected { steps: instance.case.steps.clone(), ..Expected::default() };
    (judge(&evidence, &expected).code(), evidence)
}

pub(super) fn boot(mut guest: FakeGuest) -> FakeGuest {
    guest.log.write_all(b"[    0.100000] Linux version fake\n").unwrap();
    guest.hello();
    guest.say(&Ready { boot: 0 });
    guest
}

pub(super) fn end(mut guest: FakeGuest, steps: u32) -> Ending {
    guest.say(&End { steps, late: 0, left_mounted: Vec::new(), tainted: Some(0) });
    Ending::Exited(0)
}

#[test]
fn a_whole_dialogue_passes() {
    let (code, evidence) = code_of(&instance(2), |guest| {
        let mut guest = boot(guest);
        guest.step(0, b"one\n", 0);
        guest.step(1, b"two", 0);
        end(guest, 2)
    });
    assert_eq!(code, "pass", "{evidence:?}");
    assert_eq!(evidence.terminal_seen, 7);
}

#[test]
fn an_ending_without_the_end_record_is_broken() {
    let (code, _) = code_of(&instance(1), |guest| {
        let mut guest = boot(guest);
        guest.step(0, b"", 0);
        Ending::Exited(0)
    });
    assert_eq!(code, "broken:incomplete");
}

#[test]
fn death_at_any_time_is_broken() {
    let killed = || Ending::Signalled(9);
    assert_eq!(code_of(&instance(1), move |_| killed()).0, "broken:died");
    let (code, _) = code_of(&instance(1), move |guest| {
        let mut guest = boot(guest);
        guest.say(&StepStarted { index: 0, late: 0 });
        killed()
    });
    assert_eq!(code, "broken:died");
    let (code, _) = code_of(&instance(1), move |guest| {
        let mut guest = boot(guest);
        guest.step(0, b"", 0);
        end(guest, 1);
        killed()
    });
    assert_eq!(code, "broken:died");
}

#[test]
fn a_panic_in_the_log_is_the_kernels_failure_whatever_else_is_missing() {
    let (code, _) = code_of(&instance(1), |guest| {
        let mut guest = boot(guest);
        guest.log.write_all(b"[    1.000000] Kernel panic - not syncing: x\n").unwrap();
        Ending::Signalled(6)
    });
    assert_eq!(code, "fail:splat");
}

#[test]
fn bytes_that_no_record_accounts_for_are_missing_evidence() {
    for (printed, counted) in [(&b"more"[..], 3), (b"less", 5)] {
        let (code, _) = code_of(&instance(1), move |guest| {
            let mut guest = boot(guest);
            guest.say(&StepStarted { index: 0, late: 0 });
            guest.terminal.write_all(printed).unwrap();
            guest.say(&lab_proto::GuestMessage::StepEnded {
                index: 0,
                status: 0,
                micros: 0,
                bytes: counted,
                shell_gone: false,
            });
            end(guest, 1)
        });
        assert_eq!(code, "broken:incomplete");
    }
}

#[test]
fn what_pid_1_did_not_write_is_forged() {
    let forgeries: [fn(&mut FakeGuest); 5] = [
        |guest| guest.control.write_all(b"lab 2 0123456789abcdef \"ready\"\n").unwrap(),
        |guest| guest.control.write_all(b"noise").unwrap(),
        |guest| guest.say(&StepStarted { index: 7, late: 0 }),
        |guest| guest.say(&lab_proto::GuestMessage::Pong(9)),
        |guest| {
            let version = lab_proto::VERSION;
            guest.say(&lab_proto::GuestMessage::Hello { version, release: "again".into() });
        },
    ];
    for forge in forgeries {
        let (code, evidence) = code_of(&instance(1), move |guest| {
            let mut guest = boot(guest);
            forge(&mut guest);
            guest.step(0, b"", 0);
            end(guest, 1)
        });
        assert_eq!(code, "broken:forged", "{:?}", evidence.forgeries);
    }
}

#[test]
fn a_guest_that_cannot_be_prepared_says_what() {
    let (code, evidence) = code_of(&instance(1), |mut guest| {
        guest.hello();
        guest.say(&lab_proto::GuestMessage::Trouble { what: "no such module".into() });
        Ending::Exited(0)
    });
    assert_eq!(code, "broken:set-up");
    assert_eq!(evidence.trouble.as_deref(), Some("no such module"));
}

#[test]
fn silence_is_a_hang_and_slowness_a_timeout() {
    let quiet = std::thread::spawn(|| {
        code_of(&instance(1), |guest| {
            let mut guest = boot(guest);
            guest.say(&StepStarted { index: 0, late: 0 });
            // Never answers; reads until the lab gives up.
            while guest.hear().is_some() {}
            Ending::Signalled(9)
        })
    });
    let mut slow = instance(1);
    slow.case.steps[0].timeout = Some(Duration::from_millis(300));
    let (code, _) = code_of(&slow, |guest| {
        let mut guest = boot(guest);
        guest.say(&StepStarted { index: 0, late: 0 });
        while let Some(heard) = guest.hear() {
            if let HostMessage::Ping(number) = heard {
                guest.say(&lab_proto::GuestMessage::Pong(number));
            }
        }
        Ending::Signalled(9)
    });
    assert_eq!(code, "fail:timeout");
    assert_eq!(quiet.join().unwrap().0, "fail:hang");
}
