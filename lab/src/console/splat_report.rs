//! How far a splat goes in the log, and where in the kernel it happened: its report has no length
//! and not always an end, so that it is followed by what such reports look like.

use std::sync::LazyLock;

use regex::Regex;

use super::line::Line;
use super::splat::{Splat, SplatKind};

/// Lines of a report that are kept; all of it is in kernel.log.
const LONGEST: usize = 200;

/// A report is printed at once. What comes later than this, in microseconds of the kernel's clock,
/// is something else.
const PAUSE: u64 = 500_000;

/// A report that is still being printed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Report {
    last: u64,
    /// Its call trace has begun.
    in_stack: bool,
}

impl Report {
    pub(super) fn begin(line: &Line<'_>) -> Self {
        Self { last: line.micros, in_stack: false }
    }

    /// Whether `line` belongs to the report and was taken; the report is over where not.
    pub(super) fn takes(&mut self, splat: &mut Splat, line: &Line<'_>) -> bool {
        if line.micros > self.last.saturating_add(PAUSE) || splat.report.len() >= LONGEST {
            return false;
        }
        self.last = line.micros;
        let text = line.text.trim_end();
        if is_rule(text) {
            // KASAN and UBSAN draw one before and one after; lockdep only before its next report.
            return false;
        }
        let stack = is_stack(text);
        let over = self.in_stack && !stack && !may_follow_stack(splat.kind, text);
        if over {
            return false;
        }
        self.in_stack |= stack || text.starts_with("Call Trace:");
        splat.report.push(text.to_string());
        !text.starts_with("---[ end ")
    }

    /// Whether `other`, found in the report, is only a part of it.
    pub(super) fn includes(splat: &Splat, other: &Splat) -> bool {
        let of_lockdep = other.line.starts_with("INFO: lockdep is turned off");
        (splat.kind == SplatKind::Oops && other.kind == SplatKind::Oops) || of_lockdep
    }
}

/// `====` of KASAN, UBSAN and lockdep.
fn is_rule(text: &str) -> bool {
    text.len() >= 20 && text.bytes().all(|b| b == b'=')
}

/// A line of a call trace, or of what stands indented in a report.
fn is_stack(text: &str) -> bool {
    text.is_empty() || text.starts_with([' ', '\t']) || frame(text).is_some()
}

/// What comes after a call trace and is still the report's, by how its lines begin.
fn may_follow_stack(kind: SplatKind, text: &str) -> bool {
    const AFTER: [&str; 18] = [
        "Call Trace:",
        "Modules linked in:",
        "---[ ",
        "CR2: ",
        "RIP: ",
        "Code: ",
        "RSP: ",
        "RAX: ",
        "RBP: ",
        "R10: ",
        "R13: ",
        "FS: ",
        "CS: ",
        "DR",
        "PKRU",
        "CPU: ",
        "Kernel Offset",
        "irq event",
    ];
    // Their reports have several stacks; they end with a rule, or when nothing more comes.
    let several = matches!(kind, SplatKind::Kasan | SplatKind::Lockdep | SplatKind::RcuStall);
    several || AFTER.iter().any(|start| text.trim_start().starts_with(start))
}

/// `fn+0x1/0x2`, alone or after an address, a question mark or a register's name.
static FRAME: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^(?:\s*(?:\[<[0-9a-f]+>\])?\s*|RIP: [0-9a-f]+:)(\? )?([A-Za-z_][\w.]*)\+0x[0-9a-f]+/0x[0-9a-f]+")
        .expect("valid")
});

/// The function of a frame that is certain.
fn frame(text: &str) -> Option<(&str, bool)> {
    let found = FRAME.captures(text)?;
    Some((found.get(2)?.as_str(), found.get(1).is_none()))
}

/// Functions that report and wait: where a stack begins with them, the fault is below.
const REPORTERS: &str = r"^(__)?(dump_stack|show_stack|show_trace|show_regs|warn|panic|check_panic|oops|die|bug|report_bug|fixup_bug|handle_bug|exc_|asm_exc_|do_error_trap|page_fault|segv|sig_|hard_handler|unblock_signals|userspace|copy_context|relay_signal|bus_handler|kasan|asan|hwasan|kfence|ubsan|kcsan|tsan|kmsan|print_|check_|mark_lock|validate_chain|lock_acquire|lockdep|lock_release|lock_is_held|debug_|might_|schedule|io_schedule|switch_to|context_switch|wait_for|do_wait|mutex_lock|down|rwsem|rt_mutex|bit_wait|out_of_line|prepare_to|nmi_|watchdog|rcu_check|rcu_sched|sched_show|update_process|tick_|hrtimer|timer_|do_IRQ|irq_|local_apic|apic|sysvec|asm_sysvec|trace_hardirqs|preempt_)";

static REPORTER: LazyLock<Regex> = LazyLock::new(|| Regex::new(REPORTERS).expect("valid"));

impl Splat {
    /// Where it happened: the faulting function, else the first of the call trace that does not
    /// itself report or wait. `None` where the report has neither.
    pub fn place(&self) -> Option<&str> {
        let lines = self.report.iter().map(String::as_str);
        let rip = lines.clone().filter(|line| line.starts_with("RIP: ")).find_map(frame);
        if let Some((name, _)) = rip {
            return Some(name);
        }
        let certain = lines.filter_map(frame).filter(|(_, certain)| *certain);
        certain.map(|(name, _)| name).find(|name| !REPORTER.is_match(name))
    }

    /// The frames of its call trace, for people: at most `most`, without those that only may have
    /// been called.
    pub fn stack(&self, most: usize) -> impl Iterator<Item = &str> {
        let certain = |line: &&str| frame(line).is_some_and(|(_, certain)| certain);
        self.report.iter().map(String::as_str).filter(certain).take(most)
    }
}
