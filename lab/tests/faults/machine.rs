//! Faults of the machine: what the host's processes behind it may suffer, from whoever may signal
//! them: a user, the host's OOM killer, a memory limit.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::guest::{GUEST, Guest};
use crate::row::Seen;
use crate::scene::{Scene, seen};
use crate::support::{Running, alive, machines_of, of_session};

/// Long enough that what is done meanwhile comes in time, short enough for the twin.
pub const SLEEPS: Guest =
    Guest { machine: "hang = \"2s\"", fault: "sleep 3", twin: "sleep 3", ..GUEST };

/// Runs a case that sleeps in its second step, and does `act` meanwhile.
pub fn run(scene: &Scene, act: fn(&mut Running)) -> Seen {
    scene.case_with_twin(&SLEEPS.text(false), &SLEEPS.text(false));
    let mut running = scene.lab.start(&scene.args());
    running.until("\"event\":\"step-started\",\"number\":0,\"step\":1");
    let (machine, helper) = processes(&running);
    act(&mut running);
    let done = Instant::now();
    let ran = running.wait();
    // A death is noticed at once, a silence at the hang's deadline.
    let limit = if ran.result().code == "fail:hang" { 8 } else { 3 };
    assert!(done.elapsed() < Duration::from_secs(limit), "{ran}");
    assert!(!alive(machine) && !alive(helper), "{ran}");
    assert!(scene.lab.files(".snap.new").is_empty());
    seen(&ran)
}

/// The machine's own process and the helper that it is a child of.
fn processes(running: &Running) -> (u32, u32) {
    let machines = machines_of(running.child.id());
    assert_eq!(machines.len(), 1, "{machines:?}");
    (machines[0].pid, machines[0].parent)
}

fn signal(pid: u32, signal: Signal) {
    kill(Pid::from_raw(pid.cast_signed()), signal).unwrap();
}

fn machine_gets(running: &Running, what: Signal) {
    signal(processes(running).0, what);
}

/// All of its processes at once, as a memory limit's group kill does: none may speak after another's
/// death.
pub fn all_killed(running: &mut Running) {
    let (machine, _) = processes(running);
    signal(machine, Signal::SIGSTOP);
    std::thread::sleep(Duration::from_millis(20));
    for process in of_session(running.child.id()).iter().filter(|p| p.parent == machine) {
        let _ = kill(Pid::from_raw(process.pid.cast_signed()), Signal::SIGKILL);
    }
    signal(machine, Signal::SIGKILL);
}

/// UML's helper processes share the kernel's memory, and one that outlives it by a moment may print
/// a panic in its name ("Segfault with no mm"). Who was killed from outside has not panicked: a
/// panic ends the process by SIGABRT.
pub fn killed(running: &mut Running) {
    machine_gets(running, Signal::SIGKILL);
}

/// From outside as from inside, the kernel takes it for its own fault and panics.
pub fn segmentation_fault(running: &mut Running) {
    machine_gets(running, Signal::SIGSEGV);
}

pub fn terminated(running: &mut Running) {
    machine_gets(running, Signal::SIGTERM);
}

pub fn aborted(running: &mut Running) {
    machine_gets(running, Signal::SIGABRT);
}

pub fn stopped(running: &mut Running) {
    machine_gets(running, Signal::SIGSTOP);
}

/// The inner helper, PID 1 of the machine's pid namespace: with it the machine goes.
pub fn supervisor_killed(running: &mut Running) {
    signal(processes(running).1, Signal::SIGKILL);
}

/// The outer helper, the lab's own child.
pub fn outer_supervisor_killed(running: &mut Running) {
    let lab = running.child.id();
    let children: Vec<_> = of_session(lab).into_iter().filter(|p| p.parent == lab).collect();
    assert_eq!(children.len(), 1, "{children:?}");
    signal(children[0].pid, Signal::SIGKILL);
}
