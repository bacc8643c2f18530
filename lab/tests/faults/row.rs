//! A row of the table: a fault, how it is brought about, and what it must end in.

use std::sync::atomic::{AtomicUsize, Ordering};

use nix::sys::signal::Signal;

use crate::guest::Guest;
use crate::lab_ended::{self, Phase};
use crate::left::Before;
use crate::scene::Scene;

/// A column of the table: a backend, and the kernels that it runs the faults on.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    pub backend: &'static str,
    /// For nearly all faults.
    pub kernel: &'static str,
    /// With all detectors, LKDTM and test_lockup; built here.
    pub debug: &'static str,
}

/// One for each backend.
pub const COLUMNS: &[Column] =
    &[Column { backend: "uml", kernel: "uml-6.1", debug: "uml-6.1-debug" }];

/// A row.
pub struct Fault {
    pub name: &'static str,
    pub how: How,
    pub must: Must,
}

/// What goes wrong, and where.
pub enum How {
    /// In the guest: a step of a case does it.
    Guest(&'static Guest),
    /// To the machine, while the guest sleeps in a step: so many times in runs of their own, where
    /// the moment matters.
    Machine(fn(&mut crate::support::Running), usize),
    /// To the lab itself: a signal in one of its phases.
    Lab(Phase, Signal),
    /// Something else on the host. It proves its own twin.
    Host(fn(&Scene) -> Seen),
}

/// What a fault must end in.
#[derive(Debug)]
pub struct Must {
    /// Outcome and deciding reason, `none` where no run came to an end.
    pub code: &'static str,
    /// The lab's exit code as a shell sees it: 137 after SIGKILL.
    pub exit: i32,
    /// A piece of the deciding reason's text.
    pub says: &'static str,
}

/// What it did end in.
#[derive(Debug)]
pub struct Seen {
    pub code: String,
    pub exit: i32,
    /// The deciding reason's text, or what the command said instead of it.
    pub says: String,
}

static EXECUTED: AtomicUsize = AtomicUsize::new(0);
static HELD: AtomicUsize = AtomicUsize::new(0);
static TWINS: AtomicUsize = AtomicUsize::new(0);

/// The last line of the suite.
pub fn summary() -> String {
    let [executed, held, twins] = [&EXECUTED, &HELD, &TWINS].map(|n| n.load(Ordering::SeqCst));
    format!("{executed} faults executed, {held} ended as they must; {twins} twins passed")
}

/// A twin was run, and passed.
pub fn count_twin() {
    TWINS.fetch_add(1, Ordering::SeqCst);
}

/// A row, written as a line of the table.
pub const fn fault(
    name: &'static str,
    how: How,
    code: &'static str,
    exit: i32,
    says: &'static str,
) -> Fault {
    Fault { name, how, must: Must { code, exit, says } }
}

impl Fault {
    /// Whether it can happen on this backend.
    pub fn is_for(&self, column: &Column) -> bool {
        match self.how {
            How::Guest(guest) => guest.backend.is_none_or(|backend| backend == column.backend),
            _ => true,
        }
    }

    /// Brings it about, and holds what is seen against what must be.
    pub fn run(&self, column: &Column) {
        let kernel = match self.how {
            How::Guest(guest) if guest.debug => column.debug,
            _ => column.kernel,
        };
        let Some(scene) = Scene::set(kernel) else { return };
        EXECUTED.fetch_add(1, Ordering::SeqCst);
        let before = Before::look();
        match &self.how {
            How::Guest(guest) => self.holds(&guest.run(&scene)),
            How::Machine(act, times) => {
                for _ in 0..*times {
                    self.holds(&crate::machine::run(&scene, *act));
                }
            }
            How::Lab(phase, signal) => self.holds(&lab_ended::run(&scene, *phase, *signal)),
            How::Host(act) => self.holds(&act(&scene)),
        }
        before.nothing_is_left(&scene.lab);
        HELD.fetch_add(1, Ordering::SeqCst);
    }

    fn holds(&self, seen: &Seen) {
        let Must { code, exit, says } = &self.must;
        assert!(!code.starts_with("pass") && *exit != 0, "{}: a fault is never a pass", self.name);
        assert_eq!((seen.code.as_str(), seen.exit), (*code, *exit), "{seen:#?}");
        assert!(seen.says.contains(says), "no {says:?} in {seen:#?}");
    }
}
