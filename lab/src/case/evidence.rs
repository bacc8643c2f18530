//! What was seen of one run, complete enough to judge it without seeing it again.

use serde::{Deserialize, Serialize};

use crate::console::Splat;
use crate::machine::Ending;

/// All that is known of a run when its machine is gone.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Evidence {
    /// The user or a signal ended the lab's work.
    pub interrupted: bool,
    /// Bytes on the control channel that were no authentic record, in words.
    pub forgeries: Vec<String>,
    /// Splats of the kernel log, in order.
    pub splats: Vec<Splat>,
    /// Silence or slowness that ended the run.
    pub stall: Option<Stall>,
    /// The machine did not start on the host: why.
    pub not_started: Option<String>,
    /// PID 1 could not do what was planned: what.
    pub trouble: Option<String>,
    /// PID 1 said hello.
    pub hello: bool,
    /// Set-up in the guest was done.
    pub ready: bool,
    /// The boots before the last one, which `hello`, `ready`, `end`, `left_mounted`, `tainted` and
    /// `ending` are about.
    #[serde(default)]
    pub before: Vec<BootEvidence>,
    /// The steps of all boots, as far as they got.
    pub steps: Vec<StepEvidence>,
    /// How many steps of its boot the end record counts; `None` where it never came.
    pub end: Option<u32>,
    /// Mounts that PID 1 could not undo at the end, with the errno's words. No fault in itself: a
    /// case may leave a device in use.
    pub left_mounted: Vec<String>,
    /// /proc/sys/kernel/tainted when PID 1 last told it; `None` where it could not read it.
    pub tainted: Option<u64>,
    /// The kernel log was read to its end and scanned, and the kernel dropped nothing of it.
    pub log_complete: bool,
    /// Bytes on the terminal that the records account for.
    pub terminal_expected: u64,
    /// Bytes that came, and whether the channel was read to its end.
    pub terminal_seen: u64,
    /// See above.
    pub terminal_complete: bool,
    /// What was looked at before the lab killed a machine that stood still, and where that is.
    #[serde(default)]
    pub looks: Vec<String>,
    /// How the machine's process ended.
    pub ending: Option<Ending>,
    /// The kernel's last word was that it has halted.
    #[serde(default)]
    pub halted: bool,
    /// The lab killed the machine (after a stall or an interrupt).
    pub killed_by_lab: bool,
    /// The kernel's log had not a word.
    #[serde(default)]
    pub kernel_silent: bool,
    /// The last words of the machine's own process and of the kernel's log, for a one-line cause.
    pub last_words: Vec<String>,
    /// Something on the host's side failed while the run was observed (a full disk), or was left
    /// after it.
    pub host_trouble: Vec<String>,
    /// The host could not keep the disks as they were declared: what the guest's file systems say
    /// then is not their own failure.
    #[serde(default)]
    pub disk_trouble: Option<String>,
    /// The rendering of the transcript.
    pub transcript: String,
    /// Milliseconds from the first start of the machine to PID 1's hello, to ready; to its last end.
    pub boot_ms: Option<u64>,
    /// See above.
    pub ready_ms: Option<u64>,
    /// See above.
    pub total_ms: u64,
}

/// A boot that ended at a step of the plan, after which the machine was started again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BootEvidence {
    /// The step that ended it, from 0.
    pub step: usize,
    /// How it was left.
    pub left: Left,
    /// PID 1 said hello.
    pub hello: bool,
    /// Set-up in the guest was done.
    pub ready: bool,
    /// How many steps the end record counts; a power cut leaves none.
    pub end: Option<u32>,
    /// As in [`Evidence`].
    pub left_mounted: Vec<String>,
    /// /proc/sys/kernel/tainted at the end, or when the power cut was due.
    pub tainted: Option<u64>,
    /// How many of the run's splats are this boot's.
    pub splats: usize,
    /// Its log was read to its end and scanned, and the kernel dropped nothing of it.
    pub log_complete: bool,
    /// Bytes of this and earlier boots on the terminal that the records account for.
    pub terminal_expected: u64,
    /// Bytes of this and earlier boots that came, and whether the channel was read to its end.
    pub terminal_seen: u64,
    /// See above.
    pub terminal_complete: bool,
    /// How the machine's process ended by itself; `None` where it was there until the lab cut its
    /// power.
    pub ending: Option<Ending>,
    /// The kernel's last word was that it has halted.
    #[serde(default)]
    pub halted: bool,
}

/// How a boot was left for the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Left {
    /// The lab stopped the machine where it was and killed it.
    Cut,
    /// PID 1 brought it to its end.
    Rebooted,
}

/// One step, as far as it got.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepEvidence {
    /// Its number, from 0.
    pub index: usize,
    /// The shell's status; 0 where the machine did it; `None` if its end was never reported.
    pub status: Option<i32>,
    /// Microseconds of the guest's clock.
    pub micros: u64,
    /// Where its output starts on the terminal.
    pub from: u64,
    /// Length of its output in bytes.
    pub bytes: u64,
    /// Bytes that came after its end and before the next step's start.
    pub late: u64,
    /// It ended the shell.
    pub shell_gone: bool,
}

/// What the lab waited for in vain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stall {
    /// PID 1 did not answer for so many seconds.
    Hang {
        /// Seconds without an answer.
        seconds: u64,
        /// The step that ran, from 0.
        step: Option<usize>,
    },
    /// PID 1 answers, but this took longer than its deadline.
    Timeout {
        /// What took too long.
        what: Tracked,
        /// The deadline in milliseconds.
        limit_ms: u64,
    },
}

/// What has a deadline of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tracked {
    /// From the machine's start, or its next, to PID 1's hello.
    Boot,
    /// From PID 1's hello to its being ready.
    SetUp,
    /// A step, from 0.
    Step(usize),
    /// The whole run.
    Run,
    /// From the end record to the machine's end.
    PowerOff,
}

/// Whether a machine came to its end by itself and in order: its process ended well; or it was aborted
/// when the kernel had said that it has halted, after which it does nothing for the guest any more. UML
/// does so once in some four hundred boots (seen on Debian's 6.1), and says nothing of it: a panic, too,
/// ends by SIGABRT, but says so in the log.
pub(super) fn is_orderly(ending: Option<&Ending>, halted: bool) -> bool {
    const ABORTED: i32 = nix::libc::SIGABRT;
    match ending {
        Some(Ending::Exited(0)) => true,
        Some(Ending::Signalled(ABORTED)) => halted,
        _ => false,
    }
}

impl Evidence {
    /// Whether the first step began: from then on silence is the kernel's failure, not the lab's.
    pub fn began(&self) -> bool {
        !self.steps.is_empty()
    }
}

impl std::fmt::Display for Tracked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Boot => f.write_str("the boot"),
            Self::SetUp => f.write_str("the set-up in the guest"),
            Self::Step(index) => write!(f, "step {}", index + 1),
            Self::Run => f.write_str("the whole run"),
            Self::PowerOff => f.write_str("the power-off"),
        }
    }
}
