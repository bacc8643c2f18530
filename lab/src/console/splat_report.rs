//! How far a splat goes in the log, and where in the kernel it happened: its report has no length
//! and not always an end, so that it is followed by what such reports look like.

use std::sync::LazyLock;

use regex::Regex;

use super::frame::Frame;
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
        if self.in_stack && !is_stack(text) && !may_follow_stack(splat.kind, text) {
            return false;
        }
        self.in_stack |= text.starts_with("Call Trace:");
        splat.report.push(text.to_string());
        !text.starts_with("---[ end ")
    }

    /// Whether `other`, found in the report, is only a part of it.
    pub(super) fn includes(splat: &Splat, other: &Splat) -> bool {
        (splat.kind == SplatKind::Oops && other.kind == SplatKind::Oops) || Self::is_echo(other)
    }

    /// Whether a splat says only that another was said: what lockdep prints when it gives up.
    pub(super) fn is_echo(splat: &Splat) -> bool {
        splat.line.starts_with("INFO: lockdep is turned off")
    }
}

/// `====` of KASAN, UBSAN and lockdep.
fn is_rule(text: &str) -> bool {
    text.len() >= 20 && text.bytes().all(|b| b == b'=')
}

/// A line of a call trace, or of what stands indented in a report.
fn is_stack(text: &str) -> bool {
    text.is_empty() || text.starts_with([' ', '\t']) || Frame::parse(text).is_some()
}

/// What comes after a call trace and is still the report's, by how its lines begin.
fn may_follow_stack(kind: SplatKind, text: &str) -> bool {
    const AFTER: [&str; 20] = [
        "Call Trace:",
        "hardirqs last",
        "softirqs last",
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

/// Functions that report and wait: where a stack begins with them, the fault is below.
const REPORTERS: &str = r"^_*(dump_stack|dump_trace|printk|vprintk|arch_local_irq|um_set_signals|lock_is_held|show_stack|show_trace|show_regs|warn|panic|check_panic|oops|die|bug|report_bug|fixup_bug|handle_bug|exc_|asm_exc_|do_error_trap|page_fault|segv|sig_|hard_handler|unblock_signals|userspace|copy_context|relay_signal|bus_handler|kasan|asan|hwasan|kfence|ubsan|kcsan|tsan|kmsan|print_|check_|mark_lock|validate_chain|lock_acquire|lockdep|lock_release|lock_is_held|debug_|might_|schedule|io_schedule|switch_to|pick_next|context_switch|wait_for|do_wait|mutex_lock|down|rwsem|rt_mutex|bit_wait|out_of_line|prepare_to|nmi_|watchdog|rcu_check|rcu_sched|sched_show|update_process|tick_|hrtimer|timer_|do_IRQ|irq_|local_apic|apic|sysvec|asm_sysvec|trace_hardirqs|preempt_)";

static REPORTER: LazyLock<Regex> = LazyLock::new(|| Regex::new(REPORTERS).expect("valid"));

impl Splat {
    /// Where it happened: the faulting function, else the first of the call trace that does not
    /// itself report or wait. `None` where the report has neither.
    ///
    /// A kernel without frame pointers is sure of no frame; then the first likely one counts.
    pub fn place(&self) -> Option<&str> {
        let lines = self.report.iter().map(String::as_str);
        let rip = lines.clone().filter(|line| line.starts_with("RIP: ")).find_map(Frame::parse);
        if let Some(frame) = rip {
            return Some(frame.function);
        }
        let telling = |frame: &Frame<'_>| !frame.is_pointer() && !REPORTER.is_match(frame.function);
        let frames = lines.filter_map(Frame::parse).filter(telling);
        let certain = frames.clone().find(|frame| frame.certain);
        certain.or_else(|| frames.clone().next()).map(|frame| frame.function)
    }

    /// The frames of its call trace, for people: at most `most`, those that are certain where any
    /// are.
    pub fn stack(&self, most: usize) -> Vec<&str> {
        let lines = || self.report.iter().map(String::as_str);
        let certain = |line: &&str| Frame::parse(line).is_some_and(|frame| frame.certain);
        let likely = |line: &&str| Frame::parse(line).is_some_and(|frame| !frame.is_pointer());
        let sure: Vec<&str> = lines().filter(certain).take(most).collect();
        if sure.is_empty() { lines().filter(likely).take(most).collect() } else { sure }
    }
}

#[cfg(test)]
mod tests {
    use super::super::splat::signature_of;
    use super::super::{Log, Splat};

    /// Logs of real kernels, cut to what matters: `canned/NAME.log`, made by LKDTM on uml-6.1-debug
    /// (`echo NAME > /sys/kernel/debug/provoke-crash/DIRECT`), the others as their names say.
    fn canned(log: &str) -> Vec<Splat> {
        let folder = tempfile::tempdir().unwrap();
        let mut reader = Log::create(&folder.path().join("kernel.log")).unwrap();
        reader.feed(log.as_bytes()).unwrap();
        reader.finish().unwrap();
        reader.splats().to_vec()
    }

    fn one(log: &str) -> (String, Vec<String>) {
        let splats = canned(log);
        assert_eq!(splats.len(), 1, "{splats:#?}");
        (signature_of(&splats[0]), splats[0].report.clone())
    }

    #[test]
    fn a_warning() {
        let (signature, report) = one(include_str!("canned/WARNING_MESSAGE.log"));
        let expected =
            "splat:warning:WARNING: # # at drivers/misc/lkdtm/bugs.c:90 direct_entry+#/#";
        assert_eq!(signature, expected);
        assert!(report[0].starts_with("Warning message trigger count"), "{report:?}");
        assert!(report.last().unwrap().starts_with("---[ end trace"), "{report:?}");
    }

    #[test]
    fn a_kasan_report_has_several_stacks() {
        let (signature, report) = one(include_str!("canned/READ_AFTER_FREE.log"));
        assert_eq!(
            signature,
            "splat:kasan:BUG: KASAN: use-after-free in lkdtm_READ_AFTER_FREE+#/#"
        );
        for part in ["Read of size", "The buggy address belongs", "Memory state around"] {
            assert!(report.iter().any(|line| line.starts_with(part)), "no {part}: {report:#?}");
        }
    }

    #[test]
    fn a_fault_is_where_its_registers_say() {
        let (signature, _) = one(include_str!("canned/EXCEPTION.log"));
        let expected = "splat:panic:Kernel panic - not syncing: Kernel mode fault at addr #, ip # \
            in lkdtm_EXCEPTION";
        assert_eq!(signature, expected);
    }

    #[test]
    fn what_has_no_place_in_its_first_line_gets_it_from_the_stack() {
        let splats = canned(include_str!("canned/suspicious-rcu.log"));
        assert_eq!(
            signature_of(&splats[0]),
            "splat:lockdep:WARNING: suspicious RCU usage in mas_start"
        );
        assert!(splats[0].report.iter().all(|line| !line.starts_with("====")));
        let splats = canned(include_str!("canned/HUNG_TASK.log"));
        assert_eq!(splats.len(), 2, "{splats:#?}");
        let signature = signature_of(&splats[0]);
        assert!(signature.ends_with("seconds. in direct_entry"), "{signature}");
    }

    /// The formats of x86: older and newer.
    #[test]
    fn an_oops_is_one_splat() {
        let oops = "[    2.000000] BUG: kernel NULL pointer dereference, address: 0000000000000008\n\
            [    2.000000] #PF: supervisor read access in kernel mode\n\
            [    2.000000] PGD 0 P4D 0\n\
            [    2.000000] Oops: Oops: 0000 [#1] SMP PTI\n\
            [    2.000000] CPU: 0 UID: 0 PID: 71 Comm: cat Not tainted 6.12.0 #1\n\
            [    2.000000] RIP: 0010:ovl_lookup+0x1a/0x2b0 [overlay]\n\
            [    2.000000] Call Trace:\n\
            [    2.000000]  <TASK>\n\
            [    2.000000]  ? __die+0x1f/0x60\n\
            [    2.000000]  __lookup_slow+0x80/0x130\n\
            [    2.000000]  </TASK>\n\
            [    2.000000] Modules linked in: overlay\n\
            [    2.000000] CR2: 0000000000000008\n\
            [    2.000000] ---[ end trace 0000000000000000 ]---\n\
            [    2.100000] overlayfs: something else\n";
        let (signature, report) = one(oops);
        let expected = "splat:oops:BUG: kernel NULL pointer dereference, address: # in ovl_lookup";
        assert_eq!(signature, expected);
        assert_eq!(report.len(), 13);
    }

    #[test]
    fn what_comes_later_is_something_else() {
        let log = "[    2.000000] BUG: scheduling while atomic: sh/40/0x00000002\n\
            [    2.000000] Call Trace:\n[    2.000000]  f+0x1/0x2\n[    2.000000] random: ready\n";
        let (signature, report) = one(log);
        assert_eq!(signature, "splat:bug:BUG: scheduling while atomic: sh/40/# in f");
        assert_eq!(report, ["Call Trace:", " f+0x1/0x2"]);
        let (_, report) =
            one("[    2.000000] kernel BUG at fs/a.c:1!\n[    9.000000] much later\n");
        assert_eq!(report, [] as [&str; 0]);
    }
}
