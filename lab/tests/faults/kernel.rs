//! Faults that the kernel reports of itself, on the kernel that has the detectors: provoked by LKDTM
//! (Documentation/fault-injection/provoke-crashes.rst) and by lib/test_lockup.c in a step that ends
//! with status 0 and prints what it prints without them.

use crate::guest::{GUEST, Guest};

/// A step that asks LKDTM for a fault; the twin only looks at what there is to ask for.
macro_rules! provoke {
    ($what:literal) => {
        Guest {
            debug: true,
            fault: concat!("echo ", $what, " > /sys/kernel/debug/provoke-crash/DIRECT; true"),
            twin: concat!("grep -q '^", $what, "$' /sys/kernel/debug/provoke-crash/DIRECT"),
            ..GUEST
        }
    };
}

pub const PANIC: Guest = provoke!("PANIC");
/// On UML a BUG() and an oops are panics.
pub const BUG: Guest = provoke!("BUG");
pub const OOPS: Guest = provoke!("EXCEPTION");
pub const WARNING: Guest = Guest { alone: true, ..provoke!("WARNING") };
pub const OUT_OF_BOUNDS: Guest = provoke!("SLAB_LINEAR_OVERFLOW");
pub const USE_AFTER_FREE: Guest = Guest { alone: true, ..provoke!("READ_AFTER_FREE") };
/// It takes a spinlock and keeps it: the first to sleep breaks a rule.
pub const SPINLOCK_KEPT: Guest = provoke!("SPINLOCKUP");
pub const HUNG_TASK: Guest = Guest {
    fault: "echo 1 > /proc/sys/kernel/hung_task_timeout_secs; \
            (echo HUNG_TASK > /sys/kernel/debug/provoke-crash/DIRECT) & sleep 3",
    ..provoke!("HUNG_TASK")
};
/// Round for ever with preemption off: interrupts still come, and the watchdog with them.
pub const SOFT_LOCKUP: Guest = Guest {
    fault: "echo 1 > /proc/sys/kernel/watchdog_thresh; \
            echo SOFTLOCKUP > /sys/kernel/debug/provoke-crash/DIRECT",
    ..provoke!("SOFTLOCKUP")
};
/// Round for ever with interrupts off: nobody is left who could report it.
pub const HARD_LOCKUP: Guest = provoke!("HARDLOCKUP");
/// The same for an hour, by lib/test_lockup.c, which does its work when it is loaded, and then says
/// "try again".
pub const INTERRUPTS_OFF: Guest = Guest {
    debug: true,
    fault: "modprobe test_lockup time_secs=3600 disable_irq=Y 2> /dev/null; true",
    twin: "modprobe test_lockup time_nsecs=1000 disable_irq=Y 2> /dev/null; true",
    ..GUEST
};
