//! The judge: a pure function from evidence to verdict, and the only maker of a pass.
//!
//! The rules and their order are the design's; `lab help exit-codes` prints what follows from them.

use serde::{Deserialize, Serialize};

use super::evidence::{BootEvidence, Evidence, Left, Stall, StepEvidence, is_orderly};
use super::verdict::{Outcome, Reason, Signature};
use crate::console::{Splat, SplatKind, signature_of};
use crate::machine::Ending;
use crate::manifest::{Action, Known, MachineOp, StatusRule, Step};
use crate::snapshot;

/// Outcome, ordered reasons and signature. Only [`judge`] makes one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    outcome: Outcome,
    reasons: Vec<Reason>,
    signature: Option<Signature>,
}

/// What the evidence is held against.
#[derive(Clone, Debug, Default)]
pub struct Expected {
    /// The case's steps.
    pub steps: Vec<Step>,
    /// Splats that are part of the experiment.
    pub allow: Vec<String>,
    /// The accepted transcript.
    pub snapshot: Option<String>,
    /// Without a snapshot there is nothing to review: a one-off command.
    pub review: bool,
}

/// Judges: the first rule that matches decides, and every further finding is a further reason.
pub fn judge(evidence: &Evidence, expected: &Expected) -> Verdict {
    let mut findings: Vec<(Outcome, Reason)> = Vec::new();
    let broken = |reason| (Outcome::Broken, reason);
    let fail = |reason| (Outcome::Fail, reason);

    // 1. Interrupted, or control records not authentic.
    if evidence.interrupted {
        findings.push(broken(Reason::Interrupted));
    }
    findings.extend(evidence.forgeries.iter().cloned().map(|f| broken(Reason::Forged(f))));

    // 2. The guest kernel's own panic or splat, at boot too.
    // Not its own: the words of a machine that was killed from outside. UML's processes share their
    // memory, and one that outlives the others by a moment calls what it sees a panic; a panic of the
    // kernel's own ends by SIGABRT (seen: 8 of 30 such kills).
    let killed = evidence.ending == Some(Ending::Signalled(9)) && !evidence.killed_by_lab;
    // Nor what a file system says of a disk whose file the host could not write.
    let starved = evidence.disk_trouble.is_some();
    let own = |splat: &&Splat| match splat.kind {
        SplatKind::Panic => !killed,
        SplatKind::FilesystemError => !starved,
        _ => true,
    };
    let splats = evidence.splats.iter().filter(own);
    let splats = splats.filter(|splat| !splat.allowed(&expected.allow));
    findings.extend(splats.cloned().map(|splat| fail(Reason::Splat(splat))));

    // 3. After the first step began, a hang or timeout.
    // 4. Any evidence missing, or the machine killed from outside.
    if let Some(stall) = &evidence.stall {
        let reason = match stall {
            Stall::Hang { seconds, step } => Reason::Hang { seconds: *seconds, step: *step },
            Stall::Timeout { what, limit_ms } => {
                Reason::Timeout { what: what.to_string(), limit_ms: *limit_ms }
            }
        };
        findings.push(if evidence.began() { fail(reason) } else { broken(reason) });
    }
    findings.extend(missing(evidence, expected).into_iter().map(broken));

    // 5. A step's status, then the output, then an assertion.
    for step in &evidence.steps {
        let rule = expected.steps.get(step.index).map(|s| s.status);
        if let (Some(StatusRule::Is(expected)), Some(got)) = (rule, step.status)
            && got != expected
        {
            findings.push(fail(Reason::Status { step: step.index, expected, got }));
        }
    }
    match &expected.snapshot {
        Some(accepted) if *accepted != evidence.transcript => findings.push(fail(Reason::Output)),
        None if expected.review => findings.push(fail(Reason::Unreviewed)),
        _ => {}
    }

    // 6. Else pass.
    let outcome = findings.first().map_or(Outcome::Pass, |(outcome, _)| *outcome);
    let reasons: Vec<_> = findings.into_iter().map(|(_, reason)| reason).collect();
    let signature = reasons.first().map(|first| signature(first, evidence, expected));
    Verdict { outcome, reasons, signature }
}

/// What of the evidence is missing; empty only where everything is there.
fn missing(evidence: &Evidence, expected: &Expected) -> Vec<Reason> {
    let mut reasons = Vec::new();
    if let Some(why) = &evidence.not_started {
        return vec![Reason::NotStarted(why.clone())];
    }
    reasons.extend(evidence.trouble.iter().cloned().map(Reason::SetUp));
    let host = evidence.disk_trouble.iter().chain(&evidence.host_trouble);
    reasons.extend(host.cloned().map(Reason::Host));
    match &evidence.ending {
        ending if is_orderly(ending.as_ref(), evidence.halted && evidence.end.is_some()) => {}
        _ if evidence.killed_by_lab => {}
        Some(ending) => reasons.push(Reason::Died(with_last_words(&ending.to_string(), evidence))),
        None => reasons.push(Reason::Incomplete("how the machine ended was not seen".into())),
    }
    let mut incomplete = |what: String| reasons.push(Reason::Incomplete(what));
    incomplete_boots(evidence, expected, &mut incomplete);
    if !evidence.hello {
        incomplete(with_last_words("PID 1 never answered", evidence));
    } else if !evidence.ready {
        incomplete("the guest was never ready".into());
    } else {
        incomplete_steps(evidence, expected, &mut incomplete);
    }
    if !evidence.log_complete {
        incomplete("the kernel log is not whole".into());
    }
    let earlier: usize = evidence.before.iter().map(|boot| boot.splats).sum();
    let own = evidence.splats.len().saturating_sub(earlier);
    if let Some(words) = unexplained_taint(evidence.tainted, own) {
        incomplete(words);
    }
    if evidence.terminal_seen != evidence.terminal_expected || !evidence.terminal_complete {
        incomplete(format!(
            "the terminal brought {} bytes where the records account for {}",
            evidence.terminal_seen, evidence.terminal_expected
        ));
    }
    // Without its shell no later step can run; what a last step left behind is unknown too.
    reasons
        .extend(evidence.steps.iter().filter(|s| s.shell_gone).map(|s| Reason::ShellGone(s.index)));
    reasons
}

/// Bits of /proc/sys/kernel/tainted that a splat sets: bad page, oops, warning, soft lockup
/// (Documentation/admin-guide/tainted-kernels.rst: 5, 7, 9, 14).
const SPLAT_TAINTS: u64 = 1 << 5 | 1 << 7 | 1 << 9 | 1 << 14;

/// A kernel that says of itself that it had a splat, in a log that has none: the log lost it.
fn unexplained_taint(tainted: Option<u64>, splats: usize) -> Option<String> {
    let taint = tainted? & SPLAT_TAINTS;
    (taint != 0 && splats == 0).then(|| {
        format!("the kernel is tainted ({taint:#x}) as by a splat, and its log shows none")
    })
}

fn incomplete_steps(evidence: &Evidence, expected: &Expected, incomplete: &mut impl FnMut(String)) {
    let Some(counted) = evidence.end else {
        return incomplete("the end record never came".into());
    };
    let ended = evidence.steps.iter().filter(|s| s.status.is_some()).count();
    if expected.steps.is_empty() {
        incomplete("there was no step to run".into());
    }
    let first = evidence.before.last().map_or(0, |boot| boot.step + 1);
    let here = ended_of(evidence, first..evidence.steps.len());
    if here != counted as usize || ended != evidence.steps.len() {
        incomplete(format!("{here} steps were reported and {counted} counted at the end"));
    }
    if ended < expected.steps.len() && !stopped_early(evidence.steps.last(), expected) {
        incomplete(format!("{ended} of {} steps ran", expected.steps.len()));
    }
}

/// Each boot but the last must have ended at the step of the plan that ends a boot, as that step says,
/// with everything told before; and each such step that was done must have ended one.
fn incomplete_boots(evidence: &Evidence, expected: &Expected, incomplete: &mut impl FnMut(String)) {
    let planned: Vec<(usize, &MachineOp)> = expected
        .steps
        .iter()
        .enumerate()
        .filter_map(|(index, step)| match &step.action {
            Action::Machine(op) if op.ends_the_boot() => Some((index, op)),
            _ => None,
        })
        .collect();
    let mut first = 0;
    for (number, boot) in evidence.before.iter().enumerate() {
        match planned.get(number) {
            Some((step, op)) if *step == boot.step => {
                let steps = first..boot.step;
                let told = ended_of(evidence, steps.clone());
                for what in missing_of_boot(boot, op, steps.len(), told) {
                    incomplete(format!("boot {number}: {what}"));
                }
            }
            _ => incomplete(format!(
                "boot {number} ended at step {}, which ends no boot of the plan",
                boot.step + 1
            )),
        }
        first = boot.step + 1;
    }
    let done = planned.iter().filter(|(step, _)| ended_of(evidence, *step..step + 1) == 1).count();
    if done > evidence.before.len() {
        let boots = evidence.before.len() + 1;
        incomplete(format!("{done} steps should have ended a boot, and there were {boots} boots"));
    }
}

/// What is missing of a boot that `op` ended after `steps` steps, `told` of which reported their end.
fn missing_of_boot(boot: &BootEvidence, op: &MachineOp, steps: usize, told: usize) -> Vec<String> {
    let mut missing = Vec::new();
    let mut must = |is_there: bool, what: String| {
        if !is_there {
            missing.push(what);
        }
    };
    must(boot.hello && boot.ready, "the guest was never ready".into());
    must(told == steps, format!("{told} of its {steps} steps were reported"));
    match op {
        // The cut is the lab's own doing, at that step: a machine that ended by itself has failed.
        MachineOp::PowerCut => {
            must(boot.left == Left::Cut, "its power was not cut".into());
            must(boot.end.is_none(), "it ended before its power was cut".into());
            if let Some(ending) = &boot.ending {
                must(false, format!("{ending} before its power was cut"));
            }
        }
        _ => {
            must(boot.left == Left::Rebooted, "it was not rebooted".into());
            must(boot.end == u32::try_from(steps).ok(), "its end record does not fit".into());
            let orderly = is_orderly(boot.ending.as_ref(), boot.halted);
            must(orderly, "the machine did not end in an orderly way".into());
        }
    }
    must(boot.log_complete, "its kernel log is not whole".into());
    let taint = unexplained_taint(boot.tainted, boot.splats);
    must(taint.is_none(), taint.unwrap_or_default());
    must(
        boot.terminal_complete && boot.terminal_seen == boot.terminal_expected,
        format!(
            "the terminal had brought {} bytes where the records account for {}",
            boot.terminal_seen, boot.terminal_expected
        ),
    );
    missing
}

/// How many steps of a range reported their end.
fn ended_of(evidence: &Evidence, range: std::ops::Range<usize>) -> usize {
    let of = |s: &&StepEvidence| range.contains(&s.index) && s.status.is_some();
    evidence.steps.iter().filter(of).count()
}

/// A failing set-up step (`stop = true`) rightly ends the case.
fn stopped_early(last: Option<&StepEvidence>, expected: &Expected) -> bool {
    let Some(last) = last else { return false };
    let Some(step) = expected.steps.get(last.index) else { return false };
    let right = match step.status {
        StatusRule::Is(status) => last.status == Some(status),
        StatusRule::Any => true,
    };
    last.shell_gone || (step.stop && !right)
}

fn with_last_words(what: &str, evidence: &Evidence) -> String {
    match evidence.last_words.last() {
        Some(words) => format!("{what}; its last words: {words}"),
        None => what.to_string(),
    }
}

fn signature(first: &Reason, evidence: &Evidence, expected: &Expected) -> Signature {
    Signature(match first {
        Reason::Splat(splat) => signature_of(splat),
        Reason::Hang { step: Some(step), .. } => format!("hang:step {}", step + 1),
        Reason::Timeout { what, .. } => format!("timeout:{what}"),
        Reason::Status { .. } | Reason::Output => match &expected.snapshot {
            Some(accepted) => {
                format!("output:{}", snapshot::signature(accepted, &evidence.transcript))
            }
            None => format!("output:{}", snapshot::signature("", &evidence.transcript)),
        },
        other => other.kind().to_string(),
    })
}

/// What lab.toml's `[[known]]` makes of a verdict: a failure exactly as it was accepted is known,
/// a listed case that passes is fixed.
///
/// `known_transcript` is the accepted failing transcript (`*.known.snap`).
pub fn settle(
    verdict: &Verdict,
    listed: Option<&Known>,
    known_transcript: Option<&str>,
    transcript: &str,
) -> Outcome {
    let Some(listed) = listed else { return verdict.outcome };
    match verdict.outcome {
        Outcome::Pass => Outcome::Fixed,
        Outcome::Fail => {
            let of_transcript =
                |r: &Reason| r.is_of_the_transcript() || matches!(r, Reason::Unreviewed);
            let same_transcript = known_transcript == Some(transcript);
            let as_accepted = verdict.reasons.iter().all(of_transcript) && same_transcript;
            let as_listed = listed.signature.as_deref().is_some_and(|wanted| {
                let same = |reason: &Reason| match reason {
                    Reason::Splat(splat) => signature_of(splat) == wanted,
                    // What a splat, hang or timeout cut short differs by nature.
                    _ if of_transcript(reason) => same_transcript || verdict.is_cut_short(),
                    _ => true,
                };
                verdict.signature().is_some_and(|s| s.0 == wanted)
                    && verdict.reasons.iter().all(same)
            });
            if as_accepted || as_listed { Outcome::Known } else { Outcome::Fail }
        }
        other => other,
    }
}

/// What a twin's verdict means: the case could fail, and did so as its manifest says.
pub fn twin_outcome(verdict: &Verdict, must: &str) -> Outcome {
    match (verdict.is(must), verdict.outcome) {
        (true, _) => Outcome::Pass,
        (false, Outcome::Broken) => Outcome::Broken,
        (false, _) => Outcome::Fail,
    }
}

impl Verdict {
    /// The outcome before `[[known]]` is asked.
    pub fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// Why, the deciding one first; empty for a pass.
    pub fn reasons(&self) -> &[Reason] {
        &self.reasons
    }

    /// The failure's signature; `None` for a pass.
    pub fn signature(&self) -> Option<&Signature> {
        self.signature.as_ref()
    }

    /// Whether the run ended before its steps did.
    fn is_cut_short(&self) -> bool {
        let cut = |r: &Reason| matches!(r, Reason::Incomplete(_) | Reason::Died(_));
        self.reasons.iter().any(cut)
    }

    /// `OUTCOME` or `OUTCOME:REASON`, as twins name it.
    pub fn code(&self) -> String {
        match self.reasons.first() {
            Some(reason) => format!("{}:{}", self.outcome.name(), reason.kind()),
            None => self.outcome.name().to_string(),
        }
    }

    /// Whether this is what a twin must end in: `OUTCOME`, or `OUTCOME:REASON` where the reason
    /// decides; among statuses, output and assertions any of them does.
    pub fn is(&self, must: &str) -> bool {
        match must.split_once(':') {
            Some((outcome, reason)) => {
                let decides = self.reasons.first().is_some_and(|first| first.kind() == reason);
                let among = self.reasons.iter().all(Reason::is_of_the_transcript)
                    && self.reasons.iter().any(|r| r.kind() == reason);
                outcome == self.outcome.name() && (decides || among)
            }
            None => must == self.outcome.name() && !self.reasons.iter().any(Reason::proves_nothing),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::evidence::Tracked;
    use super::*;
    use crate::manifest::Action;

    fn step(status: StatusRule, stop: bool) -> Step {
        Step { name: None, action: Action::Run("x".into()), status, stop, timeout: None }
    }

    fn done(index: usize, status: i32) -> StepEvidence {
        StepEvidence {
            index,
            status: Some(status),
            micros: 1,
            from: 0,
            bytes: 0,
            late: 0,
            shell_gone: false,
        }
    }

    /// Evidence and expectation of a run that passes: each test takes one thing away.
    fn complete() -> (Evidence, Expected) {
        let evidence = Evidence {
            hello: true,
            ready: true,
            steps: vec![done(0, 0), done(1, 0)],
            end: Some(2),
            log_complete: true,
            terminal_expected: 5,
            terminal_seen: 5,
            terminal_complete: true,
            ending: Some(Ending::Exited(0)),
            transcript: "$ x\n".into(),
            ..Evidence::default()
        };
        let expected = Expected {
            steps: vec![step(StatusRule::Is(0), true), step(StatusRule::Is(0), false)],
            allow: Vec::new(),
            snapshot: Some("$ x\n".into()),
            review: true,
        };
        (evidence, expected)
    }

    fn code(change: impl FnOnce(&mut Evidence, &mut Expected)) -> String {
        let (mut evidence, mut expected) = complete();
        change(&mut evidence, &mut expected);
        judge(&evidence, &expected).code()
    }

    fn splat() -> Splat {
        Splat::find("[    1.000000] WARNING: CPU: 0 PID: 1 at fs/x.c:1 f+0x1/0x2", 7).unwrap()
    }

    #[test]
    fn complete_evidence_passes() {
        assert_eq!(code(|_, _| {}), "pass");
        assert_eq!(code(|_, x| x.steps[1].status = StatusRule::Any), "pass");
        assert_eq!(code(|e, _| e.tainted = Some(1 << 12)), "pass", "out-of-tree module");
    }

    /// The same with a power cut and a reboot: steps `x`, cut, `x`, reboot, and a boot without steps.
    fn complete_boots() -> (Evidence, Expected) {
        let (mut evidence, mut expected) = complete();
        let of = |op| Step { action: Action::Machine(op), ..step(StatusRule::Is(0), false) };
        let x = || step(StatusRule::Is(0), false);
        expected.steps = vec![x(), of(MachineOp::PowerCut), x(), of(MachineOp::Reboot)];
        evidence.steps = (0..4).map(|index| done(index, 0)).collect();
        evidence.end = Some(0);
        let boot = |step, left, end, ending| BootEvidence {
            step,
            left,
            hello: true,
            ready: true,
            end,
            left_mounted: Vec::new(),
            tainted: Some(0),
            splats: 0,
            log_complete: true,
            terminal_expected: 3,
            terminal_seen: 3,
            terminal_complete: true,
            ending,
            halted: false,
        };
        evidence.before = vec![
            boot(1, Left::Cut, None, None),
            boot(3, Left::Rebooted, Some(1), Some(Ending::Exited(0))),
        ];
        (evidence, expected)
    }

    type Change = fn(&mut BootEvidence);

    /// Every single piece of every boot is needed.
    #[test]
    fn whatever_is_missing_of_a_boot_breaks() {
        let code = |change: &dyn Fn(&mut Evidence)| {
            let (mut evidence, expected) = complete_boots();
            change(&mut evidence);
            judge(&evidence, &expected).code()
        };
        assert_eq!(code(&|_| {}), "pass");
        assert_eq!(code(&|e| e.before[1].left_mounted.push("/x: busy".into())), "pass");
        let changes: [(&str, Change); 12] = [
            ("hello", |b| b.hello = false),
            ("ready", |b| b.ready = false),
            ("step", |b| b.step = 2),
            ("end", |b| b.end = Some(7)),
            ("taint", |b| b.tainted = Some(1 << 9)),
            ("log", |b| b.log_complete = false),
            ("bytes", |b| b.terminal_seen = 4),
            ("fewer bytes", |b| b.terminal_seen = 2),
            ("terminal", |b| b.terminal_complete = false),
            ("died", |b| b.ending = Some(Ending::Signalled(6))),
            ("killed", |b| b.ending = Some(Ending::HelperGone)),
            ("left", |b| {
                b.left = if b.left == Left::Cut { Left::Rebooted } else { Left::Cut };
            }),
        ];
        for number in [0, 1] {
            for (what, change) in &changes {
                let seen = code(&|e| change(&mut e.before[number]));
                assert_eq!(seen, "broken:incomplete", "boot {number}: {what}");
            }
        }
        // A cut machine that powered off by itself, and a rebooted one that did not.
        assert_eq!(code(&|e| e.before[0].ending = Some(Ending::Exited(0))), "broken:incomplete");
        assert_eq!(code(&|e| e.before[1].ending = None), "broken:incomplete");
        assert_eq!(code(&|e| e.before[1].end = None), "broken:incomplete");
        assert_eq!(code(&|e| e.before.truncate(1)), "broken:incomplete");
        assert_eq!(code(&|e| drop(e.before.remove(0))), "broken:incomplete");
        assert_eq!(code(&|e| e.before.clear()), "broken:incomplete");
        assert_eq!(code(&|e| e.before.push(e.before[1].clone())), "broken:incomplete");
        assert_eq!(code(&|e| e.steps[1].status = None), "broken:incomplete");
        assert_eq!(code(&|e| e.steps[0].status = None), "broken:incomplete");
        assert_eq!(code(&|e| e.steps.truncate(3)), "broken:incomplete");
        assert_eq!(code(&|e| e.end = Some(4)), "broken:incomplete");
        assert_eq!(code(&|e| e.ending = Some(Ending::HelperGone)), "broken:died");
    }

    /// A splat is of one boot: it explains no other's taint.
    #[test]
    fn splats_of_any_boot_fail() {
        let (mut evidence, mut expected) = complete_boots();
        evidence.splats.push(splat());
        (evidence.before[0].splats, evidence.before[0].tainted) = (1, Some(1 << 9));
        assert_eq!(judge(&evidence, &expected).code(), "fail:splat");
        expected.allow = vec!["warning".into()];
        assert_eq!(judge(&evidence, &expected).code(), "pass");
        evidence.before[1].tainted = Some(1 << 9);
        assert_eq!(judge(&evidence, &expected).code(), "broken:incomplete");
        evidence.before[1].tainted = Some(0);
        evidence.tainted = Some(1 << 9);
        assert_eq!(judge(&evidence, &expected).code(), "broken:incomplete");
    }

    /// Every single piece of evidence is needed: without it there is no pass.
    #[test]
    fn whatever_is_missing_breaks() {
        assert_eq!(code(|e, _| e.interrupted = true), "broken:interrupted");
        assert_eq!(code(|e, _| e.forgeries.push("x".into())), "broken:forged");
        assert_eq!(code(|e, _| e.not_started = Some("x".into())), "broken:not-started");
        assert_eq!(code(|e, _| e.trouble = Some("x".into())), "broken:set-up");
        assert_eq!(code(|e, _| e.hello = false), "broken:incomplete");
        assert_eq!(code(|e, _| e.ready = false), "broken:incomplete");
        assert_eq!(code(|e, _| e.end = None), "broken:incomplete");
        assert_eq!(code(|e, _| e.end = Some(1)), "broken:incomplete");
        assert_eq!(code(|e, _| e.steps.truncate(1)), "broken:incomplete");
        assert_eq!(code(|e, _| (e.end, _) = (Some(1), e.steps.truncate(1))), "broken:incomplete");
        assert_eq!(code(|e, _| e.steps[1].status = None), "broken:incomplete");
        assert_eq!(code(|e, _| e.log_complete = false), "broken:incomplete");
        assert_eq!(code(|e, _| e.tainted = Some(1 << 9)), "broken:incomplete");
        assert_eq!(code(|_, x| x.steps.clear()), "broken:incomplete");
        assert_eq!(code(|e, _| e.terminal_seen = 6), "broken:incomplete");
        assert_eq!(code(|e, _| e.terminal_complete = false), "broken:incomplete");
        assert_eq!(code(|e, _| e.ending = None), "broken:incomplete");
        assert_eq!(code(|e, _| e.ending = Some(Ending::Signalled(9))), "broken:died");
        // An abort is harmless only behind the kernel's own last word and PID 1's end record.
        let aborted = |halted, end, signal| {
            code(|e, _| {
                (e.ending, e.halted, e.end) = (Some(Ending::Signalled(signal)), halted, end);
            })
        };
        assert_eq!(aborted(true, Some(2), 6), "pass");
        assert_eq!(aborted(false, Some(2), 6), "broken:died");
        assert_eq!(aborted(true, None, 6), "broken:died");
        assert_eq!(aborted(true, Some(2), 11), "broken:died");
        let complains = |kind, text: &str, full: bool| {
            code(|e, _| {
                e.splats = vec![Splat { kind, line: text.into(), number: 1, report: Vec::new() }];
                e.disk_trouble = full.then(|| "no space".into());
                e.transcript.push_str("ls: Input/output error\n");
            })
        };
        let error = "EXT4-fs error (device ubda): ext4_find_entry";
        assert_eq!(complains(SplatKind::FilesystemError, error, true), "broken:host");
        assert_eq!(complains(SplatKind::FilesystemError, error, false), "fail:splat");
        assert_eq!(complains(SplatKind::Oops, "Oops", true), "fail:splat");
        assert_eq!(code(|e, _| e.ending = Some(Ending::Exited(1))), "broken:died");
        assert_eq!(code(|e, _| e.ending = Some(Ending::HelperGone)), "broken:died");
        assert_eq!(code(|e, _| e.steps[1].shell_gone = true), "broken:shell-gone");
        assert_eq!(code(|e, _| e.host_trouble.push("disk full".into())), "broken:host");
    }

    #[test]
    fn the_kernels_own_words_come_before_what_is_missing() {
        assert_eq!(code(|e, _| e.splats.push(splat())), "fail:splat");
        assert_eq!(code(|e, _| (e.splats, e.end) = (vec![splat()], None)), "fail:splat");
        assert_eq!(
            code(|e, x| (e.splats, x.allow) = (vec![splat()], vec!["warning".into()])),
            "pass"
        );
        assert_eq!(
            code(|e, _| (e.splats, e.interrupted) = (vec![splat()], true)),
            "broken:interrupted"
        );
    }

    #[test]
    fn a_machine_killed_from_outside_did_not_panic() {
        let panic =
            || Splat::find("[    1.000000] Kernel panic - not syncing: Segfault with no mm", 9);
        let died = |signal| {
            code(|e, _| {
                e.splats.extend(panic());
                (e.ending, e.end) = (Some(Ending::Signalled(signal)), None);
            })
        };
        assert_eq!(died(9), "broken:died");
        assert_eq!(died(6), "fail:splat");
    }

    #[test]
    fn a_stall_fails_only_after_the_first_step_began() {
        let hang = || Some(Stall::Hang { seconds: 5, step: Some(0) });
        assert_eq!(code(|e, _| (e.stall, e.killed_by_lab) = (hang(), true)), "fail:hang");
        let boot = || Some(Stall::Timeout { what: Tracked::Boot, limit_ms: 1 });
        assert_eq!(
            code(|e, _| {
                (e.stall, e.killed_by_lab, e.hello, e.ready) = (boot(), true, false, false);
                e.steps.clear();
            }),
            "broken:timeout"
        );
        assert_eq!(
            code(|e, _| {
                e.stall = Some(Stall::Timeout { what: Tracked::Step(1), limit_ms: 1 });
                (e.end, e.killed_by_lab, e.steps[1].status) = (None, true, None);
            }),
            "fail:timeout"
        );
    }

    #[test]
    fn status_then_output_then_review() {
        assert_eq!(code(|e, _| e.steps[1].status = Some(3)), "fail:status");
        assert_eq!(code(|e, _| e.transcript = "$ y\n".into()), "fail:output");
        assert_eq!(code(|_, x| x.snapshot = None), "fail:unreviewed");
        assert_eq!(code(|_, x| (x.snapshot, x.review) = (None, false)), "pass");
    }

    #[test]
    fn a_failing_set_up_step_ends_the_case_without_being_missing() {
        let stopped = |e: &mut Evidence, _: &mut Expected| {
            e.steps.pop();
            (e.steps[0].status, e.end) = (Some(1), Some(1));
        };
        assert_eq!(code(stopped), "fail:status");
        assert_eq!(
            code(|e, x| {
                stopped(e, x);
                x.steps[0].stop = false;
            }),
            "broken:incomplete"
        );
    }

    #[test]
    fn twins_hold_for_the_deciding_reason_only() {
        let holds = |must: &str, change: fn(&mut Evidence, &mut Expected)| {
            let (mut evidence, mut expected) = complete();
            change(&mut evidence, &mut expected);
            judge(&evidence, &expected).is(must)
        };
        assert!(holds("fail:output", |e, _| e.transcript = "$ y\n".into()));
        assert!(holds("fail:output", |e, _| {
            e.transcript = "$ y\n".into();
            e.steps[1].status = Some(1);
        }));
        assert!(holds("fail", |e, _| e.transcript = "$ y\n".into()));
        assert!(!holds("fail:output", |e, _| {
            e.transcript = "$ y\n".into();
            e.splats.push(splat());
        }));
        assert!(!holds("fail", |_, x| x.snapshot = None));
        assert!(!holds("broken", |e, _| e.interrupted = true));
        assert!(!holds("broken", |e, _| e.not_started = Some("no room".into())));
        assert!(!holds("fail:output", |_, _| {}));
    }

    #[test]
    fn a_listed_signature_covers_nothing_else() {
        let (mut evidence, expected) = complete();
        evidence.splats.push(splat());
        let known = Known {
            case: "c".into(),
            kernel: vec!["*".into()],
            reason: "r".into(),
            signature: Some(signature_of(&splat())),
        };
        let settled = |evidence: &Evidence| {
            let verdict = judge(evidence, &expected);
            settle(&verdict, Some(&known), None, &evidence.transcript)
        };
        assert_eq!(settled(&evidence), Outcome::Known);
        let mut other = evidence.clone();
        other.splats.push(
            Splat::find("[    2.000000] BUG: KASAN: use-after-free in g+0x1/0x2", 9).unwrap(),
        );
        assert_eq!(settled(&other), Outcome::Fail);
        evidence.transcript = "$ changed\n".into();
        assert_eq!(settled(&evidence), Outcome::Fail);
        evidence.end = None;
        assert_eq!(settled(&evidence), Outcome::Known);
    }

    #[test]
    fn known_means_exactly_as_accepted() {
        let known = Known {
            case: "c".into(),
            kernel: vec!["*".into()],
            reason: "r".into(),
            signature: None,
        };
        let (mut evidence, expected) = complete();
        let settled = |evidence: &Evidence, accepted: Option<&str>| {
            let verdict = judge(evidence, &expected);
            settle(&verdict, Some(&known), accepted, &evidence.transcript)
        };
        assert_eq!(settled(&evidence, None), Outcome::Fixed);
        evidence.transcript = "$ bad\n".into();
        assert_eq!(settled(&evidence, Some("$ bad\n")), Outcome::Known);
        assert_eq!(settled(&evidence, Some("$ other\n")), Outcome::Fail);
        assert_eq!(settled(&evidence, None), Outcome::Fail);
        evidence.splats.push(splat());
        assert_eq!(settled(&evidence, Some("$ bad\n")), Outcome::Fail);
        evidence.interrupted = true;
        assert_eq!(settled(&evidence, Some("$ bad\n")), Outcome::Broken);
        let verdict = judge(&complete().0, &expected);
        assert_eq!(settle(&verdict, None, None, ""), Outcome::Pass);
    }
}
