//! What the guest is told, and what is made of what it printed.

use std::time::SystemTime;

use lab_proto::{GuestPlan, GuestStep, Work};

use super::printed::Owner;
use super::{Watch, boots};
use crate::case::evidence::Evidence;
use crate::console::{Line, Log};
use crate::machine::GuestView;
use crate::manifest::{Action, Clock, MachineOp, StatusRule, Step};
use crate::snapshot::{Entry, Output, Transcript};

/// The plan of this boot.
pub(super) fn plan(watch: &Watch<'_>, view: &GuestView, boot: u32, first: usize) -> GuestPlan {
    let case = &watch.instance.case;
    let clock = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok();
    GuestPlan {
        nonce: watch.nonce.of_boot(boot),
        clock_ns: match case.machine.clock {
            Clock::Real => clock.map(|since| since.as_nanos() as u64),
            Clock::Virtual => None,
        },
        boot,
        env: watch.instance.environment(),
        modules_from: view.modules.clone(),
        modules: watch.modules.clone(),
        disks: view.disks.clone(),
        shares: view.shares.clone(),
        work: Work::Steps(boots::segment(&case.steps, first).iter().map(guest_step).collect()),
    }
}

fn guest_step(step: &Step) -> GuestStep {
    let run = match &step.action {
        Action::Run(run) => run.clone(),
        Action::Machine(MachineOp::PowerCut) => return GuestStep::PowerCut,
        Action::Machine(MachineOp::Reboot) => return GuestStep::Reboot,
        Action::Machine(_) => return GuestStep::Wait,
    };
    let stop_unless = match (step.stop, step.status) {
        (true, StatusRule::Is(status)) => Some(status),
        _ => None,
    };
    GuestStep::Run { run, stop_unless }
}

/// The steps that began, each with what is its of the terminal.
pub(super) fn transcript(
    steps: &[Step],
    evidence: &Evidence,
    printed: Vec<(Owner, Output)>,
) -> Transcript {
    let mut entries: Vec<Entry> = Vec::new();
    for seen in &evidence.steps {
        entries.push(Entry {
            index: seen.index,
            action: steps[seen.index].action.clone(),
            output: Output::default(),
            late: Output::default(),
            status: seen.status,
            shell_gone: seen.shell_gone,
        });
    }
    for (owner, output) in printed {
        let (Owner::Step(index) | Owner::Late(index)) = owner;
        let Some(entry) = entries.iter_mut().find(|entry| entry.index == index) else { continue };
        match owner {
            Owner::Step(_) => entry.output = output,
            Owner::Late(_) => entry.late = output,
        }
    }
    Transcript { entries }
}

/// What UML prints on every start, before the kernel has its console.
const CHATTER: [&str; 5] = ["Core dump limits", "\tsoft - ", "\thard - ", "Checking ", "Adding "];

/// The log of a UML kernel that panicked before it had a console, as lines of the log channel: it
/// dumps all of it to its own standard output then, and only then (arch/um/kernel/kmsg_dump.c), each
/// line behind its level, and without the stamp that the command line asks for only later.
pub(super) fn dumped(words: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(words);
    let lines = text.lines().skip_while(|line| *line != "kmsg_dump:").skip(1);
    let record = |line: &str| {
        let (level, line) = line.strip_prefix('<')?.split_once('>')?;
        level.parse::<u8>().ok()?;
        Some(match Line::parse(line) {
            Some(_) => format!("{line}\n"),
            None => format!("[    0.000000] {line}\n"),
        })
    };
    lines.filter_map(record).collect::<String>().into_bytes()
}

/// What explains a death in one line stands last: the kernel's words, then those of the machine's
/// own process on the host, if it said more than it always does.
pub(super) fn last_words(words: &[u8], log: &Log) -> Vec<String> {
    let text = String::from_utf8_lossy(words);
    let told = |line: &&str| !line.is_empty() && !CHATTER.iter().any(|c| line.starts_with(c));
    let own: Vec<&str> = text.lines().map(str::trim_end).filter(told).collect();
    // A stack trace has no last word.
    let said = |line: &&str| {
        let text = Line::parse(line).map_or(*line, |line| line.text);
        !text.is_empty() && !text.starts_with([' ', '\t']) && !text.ends_with(':')
    };
    let kernels = log.tail().filter(said);
    kernels.chain(own.iter().rev().take(5).rev().copied()).map(str::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::dumped;

    #[test]
    fn a_kernel_without_a_console_says_its_log_itself() {
        let words = b"Checking PROT_EXEC mmap in /dev/shm...OK\nkmsg_dump:\n<5>Linux version 6.1\n\
                      <0>Kernel panic - not syncing: uml_load_file: x\n<4>[    0.020000] later\nnoise\n";
        let log = "[    0.000000] Linux version 6.1\n\
                   [    0.000000] Kernel panic - not syncing: uml_load_file: x\n\
                   [    0.020000] later\n";
        assert_eq!(String::from_utf8(dumped(words)).unwrap(), log);
        assert!(dumped(b"<0>Kernel panic - not syncing: no dump\n").is_empty());
    }
}
