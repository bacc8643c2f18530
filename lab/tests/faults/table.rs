//! The faults, as a list: what goes wrong, how, and the verdict, exit code and words that it must
//! end in.

use nix::sys::signal::Signal::{SIGHUP, SIGINT, SIGKILL, SIGTERM};

use crate::lab_ended::Phase::{Boot, Fetch, PowerOff, Results, Step};
use crate::row::How::{Guest, Host, Lab, Machine};
use crate::row::{Fault, fault};
use crate::{disk_full, guest, host, kernel, machine, words};

#[rustfmt::skip]
pub const TABLE: &[Fault] = &[
    // The boot.
    fault("boot: no room for a console",   Guest(&guest::NO_CONSOLE),       "fail:splat",         1, "Kernel panic - not syncing: uml_load_file: Failed to allocate"),
    fault("boot: no room for the image",   Guest(&guest::NO_ROOM_AT_BOOT),  "fail:splat",         1, "(kernel.log:"),
    fault("boot: no init",                 Guest(&guest::NO_INIT),          "fail:splat",         1, "Kernel panic - not syncing: VFS: Unable to mount root fs"),
    fault("boot: init ends",               Guest(&guest::INIT_EXITS),       "fail:splat",         1, "Kernel panic - not syncing: Attempted to kill init!"),
    fault("boot: init says nothing",       Guest(&guest::INIT_SLEEPS),      "broken:timeout",     3, "the whole run took longer than 3 s"),

    // The kernel in a step.
    fault("kernel: panics",                Guest(&guest::PANIC),            "fail:splat",         1, "Kernel panic - not syncing: sysrq triggered crash"),
    fault("kernel: init is killed",        Guest(&guest::INIT_KILLED),      "fail:splat",         1, "Kernel panic - not syncing: Attempted to kill init! exitcode=0x0000000b"),
    fault("kernel: its memory is noise",   Guest(&guest::KERNEL_MEMORY),    "fail:splat",         1, "Kernel panic - not syncing"),
    fault("kernel: powers off",            Guest(&guest::OFF),              "broken:incomplete",  3, "the end record never came"),
    fault("kernel: starts again",          Guest(&guest::RESTART),          "broken:forged",      3, "what PID 1 did not write"),
    fault("kernel: out of memory",         Guest(&guest::MEMORY_EXHAUSTED), "fail:splat",         1, "invoked oom-killer"),

    // What the kernel's detectors find in a step that exits 0.
    fault("detector: oops",                Guest(&kernel::OOPS),            "fail:splat",         1, "Kernel mode fault at addr 0x0"),
    fault("detector: BUG()",               Guest(&kernel::BUG),             "fail:splat",         1, "BUG: failure at drivers/misc/lkdtm/bugs.c"),
    fault("detector: WARN()",              Guest(&kernel::WARNING),         "fail:splat",         1, "at drivers/misc/lkdtm/bugs.c"),
    fault("detector: panic()",             Guest(&kernel::PANIC),           "fail:splat",         1, "Kernel panic - not syncing: dumptest"),
    fault("detector: out of bounds",       Guest(&kernel::OUT_OF_BOUNDS),   "fail:splat",         1, "BUG: KASAN: slab-out-of-bounds"),
    fault("detector: use after free",      Guest(&kernel::USE_AFTER_FREE),  "fail:splat",         1, "BUG: KASAN: use-after-free"),
    fault("detector: a spinlock is kept",  Guest(&kernel::SPINLOCK_KEPT),   "fail:splat",         1, "BUG: Invalid wait context"),
    fault("detector: a hung task",         Guest(&kernel::HUNG_TASK),       "fail:splat",         1, "blocked for more than 1 seconds"),
    fault("detector: a soft lockup",       Guest(&kernel::SOFT_LOCKUP),     "fail:splat",         1, "BUG: soft lockup"),
    fault("detector: a hard lockup",       Guest(&kernel::HARD_LOCKUP),     "fail:hang",          1, "hang in step 2"),
    fault("detector: interrupts off",      Guest(&kernel::INTERRUPTS_OFF),  "fail:hang",          1, "hang in step 2"),

    // The same words from user space, which must not be believed: only the step's own status counts.
    fault("words: on the terminal",        Guest(&words::WORDS_ON_THE_TERMINAL), "fail:status",   1, "step 2 ended with status 7"),
    fault("words: on consoles",            Guest(&words::WORDS_ON_CONSOLES),     "fail:status",   1, "step 2 ended with status 7"),
    fault("words: to /dev/kmsg",           Guest(&words::WORDS_TO_KMSG),         "fail:status",   1, "step 2 ended with status 7"),
    fault("records: to every device",      Guest(&words::RECORDS_TO_ALL_DEVICES), "broken:forged", 3, "what PID 1 did not write"),
    fault("records: to the control device", Guest(&words::RECORDS_TO_CONTROL),   "broken:forged", 3, "what PID 1 did not write"),
    fault("records: noise",                Guest(&words::NOISE_TO_CONTROL),      "broken:forged", 3, "what PID 1 did not write"),
    fault("records: one byte",             Guest(&words::A_BYTE_TO_CONTROL),     "broken:forged", 3, "what PID 1 did not write"),
    fault("records: the end of a pass",    Guest(&words::END_TO_CONTROL),        "broken:forged", 3, "what PID 1 did not write"),
    fault("records: past the terminal",    Guest(&words::BYTES_PAST_THE_TERMINAL), "broken:incomplete", 3, "the terminal brought 25 bytes where the records account for 13"),

    // The steps.
    fault("step: takes too long",          Guest(&guest::STEP_TOO_LONG),    "fail:timeout",       1, "step 2 took longer than 1 s"),
    fault("step: the run takes too long",  Guest(&guest::RUN_TOO_LONG),     "fail:timeout",       1, "the whole run took longer than 3 s"),
    fault("step: busy for ever",           Guest(&guest::BUSY_LOOP),        "fail:timeout",       1, "the whole run took longer than 8 s"),
    fault("step: leaves a daemon",         Guest(&guest::DAEMON),           "fail:status",        1, "step 2 ended with status 3"),
    fault("step: ends its shell",          Guest(&guest::SHELL_EXITS),      "broken:shell-gone",  3, "step 2 ended the shell"),
    fault("step: ends its shell, the last", Guest(&guest::SHELL_EXITS_LAST), "broken:shell-gone", 3, "step 2 ended the shell"),
    fault("step: kills its shell",         Guest(&guest::SHELL_KILLED),     "broken:shell-gone",  3, "step 2 ended the shell"),
    fault("step: kills everything",        Guest(&guest::ALL_KILLED),       "broken:shell-gone",  3, "step 2 ended the shell"),
    fault("step: prints in the next one",  Guest(&guest::PRINTS_AFTER_ITS_END), "fail:output",    1, "the transcript differs"),
    fault("step: prints between steps",    Guest(&guest::PRINTS_BETWEEN_STEPS), "fail:output",    1, "the transcript differs"),
    fault("step: prints 100 MB",           Guest(&guest::FLOOD),            "fail:output",        1, "the transcript differs"),
    fault("step: fills its disk",          Guest(&guest::DISK_FILLED),      "fail:status",        1, "step 2 ended with status 1"),
    fault("step: sets the guest's clock",  Guest(&guest::GUEST_CLOCK_JUMPS), "fail:status",       1, "step 2 ended with status 3"),

    // The machine, from outside.
    fault("machine: SIGKILL to all of it", Machine(machine::all_killed, 1),         "broken:died", 3, "SIGKILL"),
    fault("machine: SIGKILL",              Machine(machine::killed, 3),             "broken:died", 3, "SIGKILL"),
    fault("machine: SIGTERM",              Machine(machine::terminated, 1),         "broken:died", 3, "exited with status 1"),
    fault("machine: SIGABRT",              Machine(machine::aborted, 1),            "broken:died", 3, "SIGABRT"),
    fault("machine: SIGSEGV",              Machine(machine::segmentation_fault, 1), "fail:splat",  1, "Kernel panic - not syncing"),
    fault("machine: SIGSTOP",              Machine(machine::stopped, 1),            "fail:hang",   1, "hang in step 2: PID 1 did not answer"),
    fault("machine: its supervisor is killed", Machine(machine::supervisor_killed, 1), "broken:died", 3, "supervisor"),
    fault("machine: the outer supervisor is killed", Machine(machine::outer_supervisor_killed, 1), "broken:died", 3, "supervisor"),

    // The lab, in each of its phases.
    fault("lab: SIGINT, fetching",         Lab(Fetch, SIGINT),     "none",               130, ""),
    fault("lab: SIGTERM, fetching",        Lab(Fetch, SIGTERM),    "none",               130, ""),
    fault("lab: SIGKILL, fetching",        Lab(Fetch, SIGKILL),    "none",               137, ""),
    fault("lab: SIGINT, booting",          Lab(Boot, SIGINT),      "broken:interrupted", 130, "interrupted"),
    fault("lab: SIGTERM, booting",         Lab(Boot, SIGTERM),     "broken:interrupted", 130, "interrupted"),
    fault("lab: SIGKILL, booting",         Lab(Boot, SIGKILL),     "interrupted",        137, ""),
    fault("lab: SIGINT, in a step",        Lab(Step, SIGINT),      "broken:interrupted", 130, "interrupted"),
    fault("lab: SIGTERM, in a step",       Lab(Step, SIGTERM),     "broken:interrupted", 130, "interrupted"),
    fault("lab: SIGHUP, in a step",        Lab(Step, SIGHUP),      "broken:interrupted", 130, "interrupted"),
    fault("lab: SIGKILL, in a step",       Lab(Step, SIGKILL),     "interrupted",        137, ""),
    fault("lab: SIGINT, powering off",     Lab(PowerOff, SIGINT),  "broken:interrupted", 130, "interrupted"),
    fault("lab: SIGTERM, powering off",    Lab(PowerOff, SIGTERM), "broken:interrupted", 130, "interrupted"),
    fault("lab: SIGKILL, powering off",    Lab(PowerOff, SIGKILL), "interrupted",        137, ""),
    fault("lab: SIGINT, writing results",  Lab(Results, SIGINT),   "fail:unreviewed",    130, ""),
    fault("lab: SIGTERM, writing results", Lab(Results, SIGTERM),  "fail:unreviewed",    130, ""),
    fault("lab: SIGKILL, writing results", Lab(Results, SIGKILL),  "interrupted",        137, ""),

    // The host.
    fault("disk full: a run's pages",      Host(disk_full::run_folder_pages), "broken:not-started", 3, "result.json: No space left on device"),
    fault("disk full: a run's files",      Host(disk_full::run_folder_files), "broken:not-started", 3, "result.json: No space left on device"),
    fault("disk full: temporary files",    Host(disk_full::temporary_files),  "broken:not-started", 3, "No space left on device"),
    fault("disk full: an image's pages",   Host(disk_full::image_mebibytes),  "broken:not-started", 3, "No space left on device"),
    fault("disk full: an image's files",   Host(disk_full::image_files),      "broken:not-started", 3, "No space left on device"),
    fault("disk full: the guest's disks",  Host(disk_full::disks),            "broken:host",        3, "trouble on the host"),
    fault("disk full: a new transcript",   Host(disk_full::pending_snapshot), "fail:unreviewed",    1, ""),
    fault("host: the cache is read-only",  Host(host::cache_read_only),       "broken:not-started", 3, "Read-only file system"),
    fault("host: no cache",                Host(host::no_cache),              "none",               3, "/proc/no-such-folder"),
    fault("host: no temporary folder",     Host(host::no_temporary_folder),   "broken:not-started", 3, "/proc/no-such-folder"),
    fault("host: another lab",             Host(host::another_lab),           "fail:status",        1, "step 2 ended with status 3"),
    fault("host: the wall clock jumps",    Host(host::wall_clock_jumps),      "fail:status",        1, "step 2 ended with status 3"),
    fault("damaged: the stored kernel",    Host(host::stored_kernel_truncated), "broken:not-started", 3, "cannot fetch the suite bookworm"),
    fault("damaged: the user's kernel",    Host(host::given_kernel_truncated), "none",              2, "is a program, and no User-Mode Linux"),
    fault("damaged: the image",            Host(host::image_truncated),       "broken:not-started", 3, "Read-only file system"),
    fault("damaged: a snapshot's header",  Host(host::snapshot_cut_in_its_header), "broken:not-started", 3, "not a snapshot: its header has no end"),
    fault("damaged: a snapshot's body",    Host(host::snapshot_cut_in_its_body),   "fail:output",   1, "the transcript differs"),
    fault("damaged: a snapshot's end",     Host(host::snapshot_cut_in_its_last_line), "broken:not-started", 3, "ends with exactly one newline"),
];
