//! Faults in the guest: a case of three steps whose second one does it. Whether it does is decided
//! by a word on the kernel's command line, so that case, steps and accepted transcript are the
//! twin's, and nothing but the fault can make the difference.

use std::time::Duration;

use lab::case::Evidence;
use lab::report::RunResult;

use crate::row::Seen;
use crate::scene::{Scene, seen};
use crate::support::Ran;

/// A case, its fault and its twin.
#[derive(Debug)]
pub struct Guest {
    /// Only on this backend; `None`: on every one.
    pub backend: Option<&'static str>,
    /// On the kernel with the detectors.
    pub debug: bool,
    /// Lines of `[needs]`.
    pub needs: &'static str,
    /// Lines of `[machine]`.
    pub machine: &'static str,
    /// Further lines of the step.
    pub step: &'static str,
    /// Words of the kernel's command line that only the faulty run gets.
    pub cmdline: &'static [&'static str],
    /// What the second step does.
    pub fault: &'static str,
    /// What it does in the twin: the same without the fault.
    pub twin: &'static str,
    /// What the third step does; `None`: there is none.
    pub after: Option<&'static str>,
    /// The fault is the run's only flaw: all evidence is there, and the transcript shows it.
    pub alone: bool,
    /// What the transcript must have.
    pub transcript: &'static str,
    /// How long the run may take: its deadline, and a little.
    pub within: Duration,
}

/// A step that does nothing, as well with the fault as without.
pub const GUEST: Guest = Guest {
    backend: None,
    debug: false,
    needs: "",
    machine: "",
    step: "",
    cmdline: &[],
    fault: ":",
    twin: ":",
    after: Some("echo after"),
    alone: false,
    transcript: "",
    within: Duration::from_secs(30),
};

impl Guest {
    /// Runs the twin, then the fault.
    pub fn run(&self, scene: &Scene) -> Seen {
        scene.case_with_twin(&self.text(true), &self.text(false));
        let ran = scene.run();
        assert!(ran.took < self.within, "{ran}");
        self.check(scene, &ran);
        seen(&ran)
    }

    /// The case's manifest.
    pub fn text(&self, with_fault: bool) -> String {
        let mut words: Vec<&str> = Vec::new();
        if with_fault {
            words.extend(self.cmdline);
            words.push("lab.fault");
        }
        let Self { needs, machine, step, fault, twin, .. } = self;
        let mut text = String::new();
        if self.debug {
            // arch/um/kernel/tlb.c of 6.1 walks a new process' maple tree without its lock.
            text.push_str("allow = [\"lockdep: suspicious RCU usage\"]\n");
        }
        text.push_str(&format!(
            "[needs]\n{needs}\n[machine]\ncmdline = {words:?}\n{machine}\n\
             [[step]]\nrun = \"echo before\"\n\
             [[step]]\nrun = '''\nread -r words < /proc/cmdline\ncase $words in\n\
             *lab.fault*) {fault} ;;\n*) {twin} ;;\nesac\n'''\n{step}\n"
        ));
        if let Some(after) = self.after {
            text.push_str(&format!("[[step]]\nrun = '''{after}'''\n"));
        }
        text
    }

    fn check(&self, scene: &Scene, ran: &Ran) {
        let result = ran.result();
        if self.alone {
            let others = &result.reasons[1..];
            assert!(others.iter().all(|reason| reason.kind == "output"), "{ran}");
            every_byte_is_accounted_for(&result);
        }
        let transcript = of_folder(&result, "transcript");
        assert!(transcript.contains(self.transcript), "no {:?} in {transcript}", self.transcript);
        // What cannot be accepted does not wait for review.
        let reviewable = result.reasons.iter().all(|reason| reason.kind == "output");
        assert_eq!(scene.lab.files(".snap.new").is_empty(), !reviewable, "{ran}");
        assert_eq!(result.hints.iter().any(|hint| hint.what == "accept"), reviewable, "{ran}");
        if result.code == "broken:shell-gone" {
            assert!(!transcript.contains("echo after"), "a step without its shell: {transcript}");
        }
        let runs = scene.lab.lab(&["runs", "list", "--json"]).value();
        assert_eq!(
            (&runs[0]["state"], &runs[0]["result"]["code"]),
            (&"finished".into(), &result.code.into())
        );
    }
}

fn every_byte_is_accounted_for(result: &RunResult) {
    let evidence: Evidence = serde_json::from_str(&of_folder(result, "evidence.json")).unwrap();
    let counted: u64 = evidence.steps.iter().map(|step| step.bytes + step.late).sum();
    assert_eq!(counted, evidence.terminal_seen, "{evidence:?}");
    // Of a flood the file keeps head and tail.
    let kept = std::fs::metadata(result.folder.as_ref().unwrap().join("terminal")).unwrap().len();
    if counted <= 20 << 20 {
        assert_eq!(kept, counted, "{evidence:?}");
    }
}

fn of_folder(result: &RunResult, file: &str) -> String {
    std::fs::read_to_string(result.folder.as_ref().unwrap().join(file)).unwrap()
}

// The boot.

/// A panic before there is a console: the process itself says the kernel's log.
pub const NO_CONSOLE: Guest = Guest { cmdline: &["mem=24M"], ..GUEST };
/// There is a console, and then no memory to unpack the image in; who notices first varies.
pub const NO_ROOM_AT_BOOT: Guest = Guest { cmdline: &["mem=40M"], ..GUEST };
pub const NO_INIT: Guest = Guest { cmdline: &["rdinit=/no-such-init"], ..GUEST };
pub const INIT_EXITS: Guest = Guest { cmdline: &["rdinit=/usr/bin/uname"], ..GUEST };
/// The word without a sign is for init: it sleeps, says no hello, and neither does the kernel fail.
pub const INIT_SLEEPS: Guest =
    Guest { machine: "timeout = \"3s\"", cmdline: &["rdinit=/usr/bin/sleep", "1000"], ..GUEST };

// The kernel, without a detector's help.

pub const PANIC: Guest = Guest {
    fault: "echo panics; echo c > /proc/sysrq-trigger",
    twin: "echo panics; echo h > /proc/sysrq-trigger",
    transcript: "\npanics\n[not ended]",
    ..GUEST
};
/// No signal reaches PID 1 from inside; but its memory is there for root.
pub const INIT_KILLED: Guest = Guest {
    fault: "at=$(grep -m1 'r-xp.*/init' /proc/1/maps); at=${at%% *}; \
            from=$((0x${at%-*} / 4096)); to=$((0x${at#*-} / 4096)); \
            dd if=/dev/zero of=/proc/1/mem bs=4096 seek=$from count=$((to - from)) conv=notrunc",
    twin: "kill -9 1; kill -STOP 1; kill -TERM 1",
    ..GUEST
};
pub const KERNEL_MEMORY: Guest = Guest {
    backend: Some("uml"),
    fault: "head -c 1M /dev/urandom > /dev/mem",
    twin: "head -c 16 /dev/mem > /dev/null",
    ..GUEST
};
pub const OFF: Guest = Guest {
    fault: "echo off; sleep 0.1; echo o > /proc/sysrq-trigger; sleep 10",
    twin: "echo off; sleep 0.1; echo h > /proc/sysrq-trigger",
    transcript: "\noff\n[not ended]",
    ..GUEST
};
pub const RESTART: Guest = Guest {
    fault: "echo again; sleep 0.1; echo b > /proc/sysrq-trigger; sleep 10",
    twin: "echo again; sleep 0.1; echo h > /proc/sysrq-trigger",
    transcript: "\nagain\n[not ended]",
    ..GUEST
};
pub const MEMORY_EXHAUSTED: Guest = Guest {
    machine: "memory = \"64M\"",
    fault: "tail /dev/zero; true",
    twin: "head -c 1M /dev/zero | tail -c 0; true",
    ..GUEST
};

// The steps.

pub const STEP_TOO_LONG: Guest = Guest {
    step: "timeout = \"1s\"",
    fault: "echo begun; sleep 1000",
    twin: "echo begun; sleep 0.1",
    transcript: "\nbegun\n[not ended]",
    ..GUEST
};
pub const RUN_TOO_LONG: Guest = Guest {
    machine: "timeout = \"3s\"",
    step: "",
    within: Duration::from_secs(5),
    ..STEP_TOO_LONG
};
/// PID 1 still answers: slow, not hung.
pub const BUSY_LOOP: Guest = Guest {
    machine: "timeout = \"8s\"",
    fault: "while :; do :; done",
    twin: "for i in 1 2 3; do :; done",
    ..GUEST
};
pub const SHELL_EXITS: Guest =
    Guest { fault: "exit 0", twin: "(exit 0)", transcript: "[shell ended, status 0]", ..GUEST };
/// After the last step nothing is missing, and yet nobody knows what the shell left undone.
pub const SHELL_EXITS_LAST: Guest = Guest { after: None, ..SHELL_EXITS };
pub const SHELL_KILLED: Guest = Guest {
    fault: "kill -9 $$",
    twin: "sh -c 'kill -9 $$'; true",
    transcript: "[shell ended, status 137]",
    ..GUEST
};
/// sysrq i: SIGKILL to all but PID 1.
pub const ALL_KILLED: Guest = Guest {
    fault: "echo i > /proc/sysrq-trigger; sleep 10",
    twin: "echo h > /proc/sysrq-trigger",
    transcript: "[shell ended, status 137]",
    ..GUEST
};
/// Neither does the daemon hold the run up, nor does it hide the status of the step that left it.
pub const DAEMON: Guest = Guest {
    machine: "timeout = \"20s\"",
    fault: "(trap '' HUP INT TERM; exec sleep 1000) & (exit 3)",
    twin: "(trap '' HUP INT TERM; exec sleep 1000) & (exit 0)",
    alone: true,
    transcript: "[status 3]",
    ..GUEST
};
/// What a background job prints belongs to the step that runs then.
pub const PRINTS_AFTER_ITS_END: Guest = Guest {
    fault: "(sleep 0.2; echo afterwards) &",
    twin: "(sleep 0.2; echo afterwards > /dev/null) &",
    after: Some("sleep 0.7"),
    alone: true,
    transcript: "$ sleep 0.7\nafterwards\n",
    ..GUEST
};
/// Between two steps it is late. A real-time `yes` fills the terminal whenever PID 1 has read of it.
pub const PRINTS_BETWEEN_STEPS: Guest = Guest {
    needs: "programs = [\"chrt\", \"yes\"]",
    fault: "(echo > /tmp/up; exec chrt -f 50 yes tick) & \
            while [ ! -e /tmp/up ]; do sleep 0.01; done; sleep 0.3",
    twin: "(echo > /tmp/up; exec chrt -f 50 sleep 1000) & \
           while [ ! -e /tmp/up ]; do sleep 0.01; done; sleep 0.3",
    alone: true,
    transcript: "\n[late]\n",
    ..GUEST
};
pub const FLOOD: Guest = Guest {
    fault: "noise --kind lines --bytes 100M",
    twin: "noise --kind lines --bytes 1K",
    ..GUEST
};
pub const DISK_FILLED: Guest = Guest {
    needs: "programs = [\"mkfs.ext4\"]",
    machine: "disks = [{ name = \"a\", size = \"16M\" }]",
    fault: "mkfs.ext4 -q /dev/lab/a && mkdir /tmp/m && mount /dev/lab/a /tmp/m && \
            head -c 32M /dev/zero > /tmp/m/f",
    twin: "mkfs.ext4 -q /dev/lab/a && mkdir /tmp/m && mount /dev/lab/a /tmp/m && \
           head -c 1M /dev/zero > /tmp/m/f",
    alone: true,
    transcript: "No space left on device\n[status 1]",
    ..GUEST
};
/// The clock of the guest is nobody's deadline.
pub const GUEST_CLOCK_JUMPS: Guest = Guest {
    fault: "date -s 1990-01-01 > /dev/null; sleep 0.1; date -s 2100-01-01 > /dev/null; (exit 3)",
    twin: "date -s 1990-01-01 > /dev/null; sleep 0.1; date -s 2100-01-01 > /dev/null; (exit 0)",
    alone: true,
    transcript: "[status 3]",
    ..GUEST
};
