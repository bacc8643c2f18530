//! Every case's twin fails as it must; and the proof that this suite would notice a judge that lets
//! everything pass.

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use lab::case::{
    Dispatcher, Evidence, Expected, Judge, Options, Outcome, Selection, StepEvidence, Verdict,
    Workshop, judge,
};
use lab::kernel::{AptSource, Kernels};
use lab::machine::{Ending, Isolation};
use lab::manifest::{Action, Project, StatusRule, Step};
use lab::report::{RunResult, Sink, What};
use lab::sandbox;

use super::support::{Lab, cache, lab_for, tokens};

/// The lab's helper is the program itself, started again. Where this test binary uses the library,
/// the program is this binary, whose `main` is the test harness': therefore before it.
#[used]
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = {
    extern "C" fn before_main() {
        sandbox::dispatch();
    }
    before_main
};

/// What the repository promises of its cases: all pass, or fail as lab.toml knows, and every twin
/// fails as it must.
fn all_hold(results: &[RunResult]) -> Result<(), String> {
    let mut twins = 0;
    for result in results {
        let right = match &result.run.twin {
            // A twin that holds is reported as a pass; the verdict itself is in code and reasons.
            Some(must) => {
                twins += 1;
                let (outcome, reason) = must.split_once(':').unwrap_or((must, ""));
                result.outcome == Outcome::Pass
                    && result.code.starts_with(outcome)
                    && (reason.is_empty() || result.reasons.iter().any(|r| r.kind == reason))
            }
            None => matches!(result.outcome, Outcome::Pass | Outcome::Known),
        };
        if !right {
            return Err(format!(
                "{} on {}: {} {:?}",
                result.run.title(),
                result.run.kernel,
                result.code,
                result.reasons
            ));
        }
    }
    if twins == 0 { Err("no twin was run".into()) } else { Ok(()) }
}

#[test]
fn all_cases_pass_and_all_twins_hold() {
    let Some(lab) = lab_for(&["uml-5.10", "uml-6.1"]) else { return };
    let ran = lab.start_two(&["run", "--twins", "--json"]).wait();
    ran.code(0);
    let results = ran.results();
    all_hold(&results).unwrap();
    // Each case of this repository has a twin, and each ran.
    let cases = std::fs::read_dir(lab.path("cases")).unwrap().count();
    let twins = results.iter().filter(|result| result.run.twin.is_some()).count();
    assert!(twins >= cases, "{twins} twins of {cases} cases");
}

/// Lets everything pass, by the real judge's own word: it is shown evidence without a flaw, and
/// nothing to hold it against.
fn wrong_judge(_: &Evidence, _: &Expected) -> Verdict {
    let step = Step {
        name: None,
        action: Action::Run("true".into()),
        status: StatusRule::Is(0),
        stop: false,
        timeout: None,
    };
    let done = StepEvidence {
        index: 0,
        status: Some(0),
        micros: 1,
        from: 0,
        bytes: 0,
        late: 0,
        shell_gone: false,
    };
    let flawless = Evidence {
        hello: true,
        ready: true,
        steps: vec![done],
        end: Some(1),
        log_complete: true,
        terminal_complete: true,
        ending: Some(Ending::Exited(0)),
        ..Evidence::default()
    };
    let verdict = judge(&flawless, &Expected { steps: vec![step], ..Expected::default() });
    assert_eq!(verdict.outcome(), Outcome::Pass);
    verdict
}

struct Collected(Mutex<Vec<RunResult>>);

impl Sink for Collected {
    fn emit(&self, what: What) {
        if let What::RunEnded { result } = what {
            self.0.lock().unwrap().push(*result);
        }
    }
}

/// What `lab run CASES --twins` does, with this judge.
fn judged_by(lab: &Lab, judge: Judge, cases: &[&str]) -> Vec<RunResult> {
    let project = Project::load(&lab.project()).unwrap();
    let workshop = Workshop {
        kernels: Kernels::open(&cache(), &project.root, AptSource::default()).unwrap(),
        cache: cache(),
        runs: lab.path(".lab/runs"),
        runtime: lab.tmp(),
        walls: sandbox::Walls::of(Isolation::Full),
        keep_disks: false,
    };
    let selection = Selection {
        cases: cases.iter().map(|case| (*case).to_string()).collect(),
        kernels: project.select_kernels(&[]).unwrap().into_iter().cloned().collect(),
        twins: true,
        ..Selection::default()
    };
    let requests = selection.requests(&project).unwrap();
    // Never asked to stop; the lab's own handlers would take Ctrl-C from the test harness.
    let (cancel, _teller) = UnixStream::pair().unwrap();
    let cancelled = AtomicBool::new(false);
    let sink = Collected(Mutex::default());
    let _tokens = tokens(2);
    Dispatcher {
        project: &project,
        workshop: &workshop,
        sink: &sink,
        judge,
        cancel: cancel.as_fd(),
        cancelled: &cancelled,
        options: Options { jobs: 2, pending: false, fail_flaky: false, fail_fast: false },
    }
    .run(&requests)
    .unwrap();
    sink.0.into_inner().unwrap()
}

#[test]
fn a_judge_that_lets_everything_pass_is_noticed() {
    let Some(lab) = lab_for(&["uml-5.10", "uml-6.1"]) else { return };
    let cases = ["hostfs-file-dentry", "overlay-union"];
    // The same way with the right judge holds: it is the judge that is noticed, nothing else.
    let right = judged_by(&lab, judge, &cases);
    all_hold(&right).unwrap();
    let wrong = judged_by(&lab, wrong_judge, &cases);
    assert_eq!(wrong.len(), right.len());
    let noticed = all_hold(&wrong).expect_err("a judge that lets everything pass was not noticed");
    assert!(noticed.contains("(twin)"), "{noticed}");
}
