//! What a kernel prints when something is wrong with it: one table, read from the log channel
//! only, and only from lines that printk wrote.

use std::sync::LazyLock;

use regex::Regex;
use serde::{Deserialize, Serialize};

use super::line::Line;

/// The kinds of splats. The name in kebab case is what manifests allow and reports print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SplatKind {
    /// The kernel stopped itself.
    Panic,
    /// A memory error found by KASAN or KFENCE.
    Kasan,
    /// Undefined behaviour found by UBSAN.
    Ubsan,
    /// A locking rule broken, found by lockdep.
    Lockdep,
    /// A task that slept uninterruptibly for too long.
    HungTask,
    /// A processor that did not schedule.
    SoftLockup,
    /// A grace period that did not end.
    RcuStall,
    /// A fault in kernel mode.
    Oops,
    /// BUG() or one of its kin.
    Bug,
    /// WARN() or one of its kin.
    Warning,
    /// Memory that nobody points to, found by kmemleak.
    Kmemleak,
    /// The guest's memory was exhausted.
    OutOfMemory,
    /// A filesystem says that it is corrupt.
    FilesystemError,
}

/// Patterns on the text after printk's stamp; the first match decides, so the more special stand
/// first. Sources: kernel/panic.c, lib/dump_stack.c, mm/kasan/report.c, lib/ubsan.c,
/// kernel/locking/lockdep.c, kernel/hung_task.c, kernel/watchdog.c, kernel/rcu/tree_stall.h,
/// mm/oom_kill.c, mm/kmemleak.c, arch/um/kernel/trap.c, arch/x86/mm/fault.c, fs/*/super.c.
const TABLE: &[(SplatKind, &str)] = &[
    (SplatKind::Panic, r"^Kernel panic - not syncing"),
    (SplatKind::Kasan, r"^BUG: (KASAN|KFENCE|KMSAN|KCSAN): "),
    (SplatKind::Ubsan, r"^UBSAN: "),
    (
        SplatKind::Lockdep,
        r"^WARNING: (possible (circular|recursive|irq lock inversion)|inconsistent lock state|suspicious RCU usage|bad unlock balance|bad contention|held lock freed|lock held when returning|Nested lock was not taken|.*-safe -> .*-unsafe lock order)",
    ),
    (
        SplatKind::Lockdep,
        r"^(\[ BUG: |INFO: (lockdep is turned off|trying to register non-static key)|BUG: (MAX_LOCK|MAX_STACK|key .* not in \.data|held lock freed))",
    ),
    (SplatKind::HungTask, r"^INFO: task \S.* blocked (for more than|in I/O wait for more than)"),
    (SplatKind::SoftLockup, r"^(watchdog: )?BUG: (soft lockup|workqueue lockup)"),
    (SplatKind::SoftLockup, r"^(watchdog: )?Watchdog detected hard LOCKUP"),
    (
        SplatKind::RcuStall,
        r"^(rcu: )?INFO: rcu\w* .*(detected stalls|self-detected stall|detected expedited stalls)",
    ),
    (
        SplatKind::Oops,
        r"^(BUG: (kernel NULL pointer|unable to handle)|Oops: |Oops\b|general protection fault|Kernel mode fault at|Unable to handle kernel|kernel tried to execute NX-protected|divide error: |invalid opcode: |stack segment: |int3: )",
    ),
    (SplatKind::Bug, r"^(kernel BUG at |BUG: |BUG \S+ \(.*\): )"),
    (SplatKind::Warning, r"^WARNING: "),
    (SplatKind::Kmemleak, r"^kmemleak: \d+ new suspected memory leaks"),
    (SplatKind::OutOfMemory, r"^(Out of memory: Killed process|.* invoked oom-killer)"),
    (
        SplatKind::FilesystemError,
        r"^(EXT[234]-fs error|XFS \(.*\): (Corruption|Metadata corruption|metadata I/O error|Internal error|log mount/recovery failed|Filesystem has been shut down)|BTRFS:? (error|critical|Transaction aborted)|F2FS-fs \(.*\): .*[Cc]orrupt|SQUASHFS error|FAT-fs \(.*\): error|NILFS error)",
    ),
];

static COMPILED: LazyLock<Vec<(SplatKind, Regex)>> = LazyLock::new(|| {
    let compile = |p: &str| Regex::new(p).expect("the table's patterns are tested");
    TABLE.iter().map(|(kind, pattern)| (*kind, compile(pattern))).collect()
});

/// Words of which every splat has one; the table is tried only on lines with one of them.
static HINT: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i)panic|BUG|UBSAN|WARNING|INFO:|lockup|oops|fault|kernel|error|opcode|segment|int3|kmemleak|memory|oom|corrupt|fail").expect("valid")
});

/// One splat of the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Splat {
    /// What it is.
    pub kind: SplatKind,
    /// Its first line, without the stamp.
    pub line: String,
    /// Number of that line in the kernel log, from 1.
    pub number: usize,
    /// The lines after it that belong to it, without their stamps; the first 200.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub report: Vec<String>,
}

impl SplatKind {
    /// All kinds, for manifests' checks and help.
    pub const ALL: [Self; 13] = [
        Self::Panic,
        Self::Kasan,
        Self::Ubsan,
        Self::Lockdep,
        Self::HungTask,
        Self::SoftLockup,
        Self::RcuStall,
        Self::Oops,
        Self::Bug,
        Self::Warning,
        Self::Kmemleak,
        Self::OutOfMemory,
        Self::FilesystemError,
    ];

    /// The name in manifests and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Panic => "panic",
            Self::Kasan => "kasan",
            Self::Ubsan => "ubsan",
            Self::Lockdep => "lockdep",
            Self::HungTask => "hung-task",
            Self::SoftLockup => "soft-lockup",
            Self::RcuStall => "rcu-stall",
            Self::Oops => "oops",
            Self::Bug => "bug",
            Self::Warning => "warning",
            Self::Kmemleak => "kmemleak",
            Self::OutOfMemory => "out-of-memory",
            Self::FilesystemError => "filesystem-error",
        }
    }
}

impl Splat {
    /// The splat in a line of the log channel, if there is one.
    pub fn find(line: &str, number: usize) -> Option<Self> {
        let mut at = Line::parse(line)?;
        loop {
            if let Some(splat) = Self::begins(&at, number) {
                return Some(splat);
            }
            // Behind what user space left on the console without its end.
            at = Line::parse(at.text)?;
        }
    }

    /// The splat that begins with a line of the kernel's.
    pub(super) fn begins(line: &Line<'_>, number: usize) -> Option<Self> {
        if !HINT.is_match(line.text) {
            return None;
        }
        let (kind, _) = COMPILED.iter().find(|(_, pattern)| pattern.is_match(line.text))?;
        let text = line.text.trim_end().to_string();
        Some(Self { kind: *kind, line: text, number, report: Vec::new() })
    }

    /// Its first line without what differs from boot to boot.
    pub(super) fn words(&self) -> std::borrow::Cow<'_, str> {
        static NUMBERS: LazyLock<Regex> = LazyLock::new(|| {
            Regex::new(r"0x[0-9a-f]+|\b[0-9a-f]{8,}\b|\b(CPU|PID|task|pid)[: ]+\S+").expect("valid")
        });
        NUMBERS.replace_all(&self.line, "#")
    }

    /// Whether one of a case's `allow` entries (`KIND` or `KIND: TEXT`) covers it. A kind may be
    /// written as the kernel writes it: `WARNING`, `BUG`.
    pub fn allowed(&self, allow: &[String]) -> bool {
        let is_kind = |text: &str| text.trim().eq_ignore_ascii_case(self.kind.name());
        allow.iter().any(|entry| match entry.split_once(':') {
            Some((kind, text)) => is_kind(kind) && self.line.contains(text.trim()),
            None => is_kind(entry),
        })
    }
}

/// A splat's first line with everything taken out that differs from boot to boot: numbers and
/// addresses. Function names and source lines stay; where the line has neither, the function in
/// which it happened is added, so that two faults with the same words are told apart.
pub fn signature_of(splat: &Splat) -> String {
    static TELLING: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"\w\+0x[0-9a-f]|\w\.[chSs]:\d").expect("valid"));
    // The words of these name a device, a process or a count, and their stacks vary.
    let by_words = [SplatKind::FilesystemError, SplatKind::OutOfMemory, SplatKind::Kmemleak];
    let place = match TELLING.is_match(&splat.line) || by_words.contains(&splat.kind) {
        true => None,
        false => splat.place(),
    };
    let line = splat.words();
    match place {
        Some(function) => format!("splat:{}:{line} in {function}", splat.kind.name()),
        None => format!("splat:{}:{line}", splat.kind.name()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(text: &str) -> Option<SplatKind> {
        Splat::find(&format!("[    1.234567] {text}"), 1).map(|s| s.kind)
    }

    #[test]
    fn lines_as_kernels_print_them() {
        use SplatKind::*;
        let canned = [
            (
                "Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)",
                Panic,
            ),
            ("BUG: KASAN: slab-out-of-bounds in lkdtm_SLAB_LINEAR_OVERFLOW+0x5a/0x70", Kasan),
            ("UBSAN: array-index-out-of-bounds in lib/test_ubsan.c:64:14", Ubsan),
            ("WARNING: possible circular locking dependency detected", Lockdep),
            ("WARNING: suspicious RCU usage", Lockdep),
            ("WARNING: HARDIRQ-safe -> HARDIRQ-unsafe lock order detected", Lockdep),
            ("[ BUG: Invalid wait context ]", Lockdep),
            ("INFO: task cat:48 blocked for more than 120 seconds.", HungTask),
            ("watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [insmod:55]", SoftLockup),
            ("rcu: INFO: rcu_preempt self-detected stall on CPU", RcuStall),
            ("rcu: INFO: rcu_sched detected stalls on CPUs/tasks:", RcuStall),
            ("BUG: kernel NULL pointer dereference, address: 0000000000000000", Oops),
            (
                "general protection fault, probably for non-canonical address 0xdead: 0000 [#1]",
                Oops,
            ),
            ("kernel BUG at drivers/misc/lkdtm/bugs.c:105!", Bug),
            (
                "BUG: sleeping function called from invalid context at kernel/locking/mutex.c:580",
                Bug,
            ),
            ("BUG: scheduling while atomic: sh/40/0x00000002", Bug),
            (
                "WARNING: CPU: 0 PID: 33 at drivers/misc/lkdtm/bugs.c:121 lkdtm_WARNING+0x15/0x20",
                Warning,
            ),
            (
                "WARNING: drivers/misc/lkdtm/bugs.c:121 at lkdtm_WARNING+0x15/0x20, CPU#0: sh/33",
                Warning,
            ),
            ("kmemleak: 3 new suspected memory leaks (see /sys/kernel/debug/kmemleak)", Kmemleak),
            ("Out of memory: Killed process 42 (dd) total-vm:1kB", OutOfMemory),
            (
                "EXT4-fs error (device ubda): ext4_lookup:1855: inode #2: comm ls: bad",
                FilesystemError,
            ),
            ("XFS (ubda): Metadata corruption detected at xfs_agf_read_verify", FilesystemError),
            ("BTRFS critical (device ubda): corrupt leaf", FilesystemError),
        ];
        for (text, expected) in canned {
            assert_eq!(kind(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn harmless_lines_and_user_space_are_not_believed() {
        for text in [
            "Kernel command line: panic=1 root=/dev/ubda",
            "EXT4-fs (ubda): mounted filesystem with ordered data mode",
            "random: crng init done",
            "This architecture does not have kernel memory protection.",
            "workingset: timestamp_bits=46 max_order=16 bucket_order=0",
        ] {
            assert_eq!(kind(text), None, "{text}");
        }
        assert_eq!(Splat::find("Kernel panic - not syncing: hello from echo", 1), None);
        let caller = "[    1.234567][    T1] BUG: KASAN: use-after-free in f+0x1/0x2";
        assert_eq!(Splat::find(caller, 1).map(|s| s.kind), Some(SplatKind::Kasan));
    }

    #[test]
    fn allowed_by_kind_or_by_text() {
        let splat = Splat::find("[    1.000000] EXT4-fs error (device ubda): x:1: bad", 4).unwrap();
        assert!(splat.allowed(&["filesystem-error".into()]));
        assert!(splat.allowed(&["filesystem-error: device ubda".into()]));
        assert!(!splat.allowed(&["filesystem-error: ubdb".into(), "warning".into()]));
        // As docs/writing-cases.md and the skeleton of a case have it.
        let splat =
            Splat::find("[    1.000000] WARNING: CPU: 0 PID: 1 at fs/dcache.c:1 f+0x1/0x2", 4);
        assert!(splat.unwrap().allowed(&["WARNING: fs/dcache.c".into()]));
    }

    #[test]
    fn signatures_forget_numbers_only() {
        let of =
            |text: &str| signature_of(&Splat::find(&format!("[    1.000000] {text}"), 1).unwrap());
        assert_eq!(
            of("WARNING: CPU: 0 PID: 33 at fs/a.c:12 f+0x15/0x20"),
            of("WARNING: CPU: 1 PID: 99 at fs/a.c:12 f+0x15/0x30")
        );
        assert_ne!(
            of("WARNING: CPU: 0 PID: 33 at fs/a.c:12 f+0x15/0x20"),
            of("WARNING: CPU: 0 PID: 33 at fs/b.c:12 g+0x15/0x20")
        );
    }

    #[test]
    fn names_are_what_serde_writes() {
        for kind in SplatKind::ALL {
            assert_eq!(serde_json::to_string(&kind).unwrap(), format!("{:?}", kind.name()));
        }
    }
}
