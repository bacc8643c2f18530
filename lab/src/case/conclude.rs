//! What a verdict means for the people who asked for the run: outcome, what to show of it, what to
//! do next, and whether its transcript waits for review.

use std::path::PathBuf;
use std::time::SystemTime;

use super::diagnosis;
use super::evidence::Evidence;
use super::judge::{Verdict, settle, twin_outcome};
use super::request::Request;
use super::verdict::Outcome;
use crate::manifest::Known;
use crate::report::{Hint, ReasonLine, RunRef, RunResult};
use crate::sandbox;
use crate::snapshot::{self, Info};

/// What a run leaves for the pending snapshots.
pub(super) struct Candidate {
    pub info: Info,
    pub rendering: String,
    pub what: snapshot::What,
    /// The accepted file that it equals.
    pub equals: Option<PathBuf>,
}

/// Fills `result` with what the verdict means and what a person needs to see of it.
pub(super) fn conclude(
    request: &Request,
    listed: Option<&Known>,
    verdict: &Verdict,
    evidence: &Evidence,
    accepted: Option<&snapshot::Expected>,
    info: Info,
    result: &mut RunResult,
) -> Option<Candidate> {
    let instance = &request.instance;
    let transcript = &evidence.transcript;
    let known_body = accepted.and_then(|a| a.known.as_ref()).map(|k| k.body.as_str());
    result.outcome = settle(verdict, listed, known_body, transcript);
    result.code = verdict.code();
    result.reasons = verdict.reasons().iter().map(|r| explain(r.into())).collect();
    result.signature = verdict.signature().map(|s| s.0.clone());
    result.boots = evidence.before.len() + 1;
    result.ready_ms = evidence.ready_ms;
    result.total_ms = Some(evidence.total_ms);
    result.cause = diagnosis::cause(evidence, &log(result));
    result.looks = evidence.looks.clone();
    result.note = listed.map(|known| known.reason.clone());
    if let Some(snapshot) = accepted.and_then(|a| a.snapshot.as_ref()) {
        if snapshot.body != *transcript {
            result.diff = snapshot::unified(&snapshot.body, transcript);
            result.versions = snapshot::program_changes(&snapshot.info, &info);
        }
    } else {
        result.transcript = Some(transcript.clone());
    }
    if let Some(twin) = &instance.twin {
        // A twin is a check of the case, not of the kernel: it holds if the case fails as said.
        let holds = verdict.is(&twin.must);
        result.outcome = twin_outcome(verdict, &twin.must);
        let was = verdict.code();
        result.note = Some(match holds {
            true => format!("fails as it must: {was}"),
            false => format!("must end in {}, and ended in {was}", twin.must),
        });
        result.hints = vec![log_hint(result)];
        return None;
    }
    let only_transcript =
        verdict.reasons().iter().all(|r| matches!(r.kind(), "status" | "output" | "unreviewed"));
    let status_wrong = verdict.reasons().iter().any(|r| r.kind() == "status");
    // A transcript whose statuses are wrong could be accepted and would still not pass: it is
    // pending only where it would be accepted as a known failure.
    let acceptable = only_transcript && (!status_wrong || listed.is_some());
    result.hints = hints(request, result, acceptable);
    let accepted = accepted?;
    let equals = match result.outcome {
        Outcome::Pass | Outcome::Fixed => Some(accepted.path.clone()),
        Outcome::Known => Some(accepted.known_path.clone()),
        _ => None,
    };
    let what = match (listed, &accepted.snapshot) {
        (Some(_), _) => snapshot::What::Known,
        (None, Some(_)) => snapshot::What::Changed,
        (None, None) => snapshot::What::New,
    };
    acceptable.then(|| Candidate { info, rendering: transcript.clone(), what, equals })
}

/// The kernel's log as far as a boot that came to nothing goes.
pub(super) fn log(result: &RunResult) -> String {
    use std::io::Read;
    let mut bytes = Vec::new();
    if let Some(folder) = &result.folder
        && let Ok(file) = std::fs::File::open(folder.join("kernel.log"))
    {
        // What cannot be read explains nothing.
        let _ = file.take(1 << 20).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A result about which nothing is known yet.
pub(super) fn blank(run: RunRef) -> RunResult {
    let at = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    RunResult {
        run,
        id: None,
        folder: None,
        outcome: Outcome::Broken,
        code: String::new(),
        reasons: Vec::new(),
        signature: None,
        cause: None,
        looks: Vec::new(),
        note: None,
        versions: Vec::new(),
        diff: Vec::new(),
        transcript: None,
        release: None,
        isolation: None,
        detectors: Vec::new(),
        boots: 0,
        ready_ms: None,
        total_ms: None,
        at: at.map(|d| d.as_secs()).unwrap_or_default(),
        hints: Vec::new(),
    }
}

/// A run that could not take place, for a reason that is nobody's failure.
pub(super) fn skip(mut result: RunResult, why: String) -> RunResult {
    result.outcome = Outcome::Skip;
    result.code = "skip".into();
    result.note = Some(why);
    result
}

/// Adds the way out to reasons that a user can do something about.
fn explain(mut reason: ReasonLine) -> ReasonLine {
    if sandbox::REFUSALS.iter().any(|refused| reason.text.contains(refused)) {
        reason.text.push_str(
            "; `lab doctor` says what switches them off here, and --sandbox=off runs without walls",
        );
    }
    reason
}

fn log_hint(result: &RunResult) -> Hint {
    let id = result.id.clone().unwrap_or_default();
    Hint { what: "everything".into(), command: format!("lab runs log {id}") }
}

fn hints(request: &Request, result: &RunResult, acceptable: bool) -> Vec<Hint> {
    let mut hints = Vec::new();
    let case = &request.instance.case.name;
    if matches!(result.outcome, Outcome::Pass | Outcome::Known) || !request.review {
        return hints;
    }
    if acceptable && result.outcome == Outcome::Fail {
        hints.push(Hint { what: "accept".into(), command: format!("lab accept {case}") });
    }
    if result.outcome == Outcome::Fail || result.outcome == Outcome::Broken {
        hints.push(Hint {
            what: "shell there".into(),
            command: format!("lab shell -k {} {case}", request.kernel.asked()),
        });
        hints.push(log_hint(result));
    }
    hints
}
