//! The dispatcher: it owns the budget of cores and memory, the cancellation, the event sink and the
//! pending snapshots, and runs one thread for each run under way.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use super::boot_times::BootTimes;
use super::budget::Memory;
use super::conclude::{Candidate, blank, conclude, log, skip};
use super::decode::{DECODED, decode};
use super::evidence::Evidence;
use super::folder::RunFolder;
use super::judge::{Expected, Verdict};
use super::kernels::Available;
use super::needs;
use super::observe::{Observation, Progress, Watch, observe};
use super::prepare::{DISKS, Workshop, new_nonce, start};
use super::request::{Request, run_name};
use super::verdict::Outcome;
use crate::kernel::Kernel;
use crate::machine::{Scratch, disk};
use crate::manifest::{Action, Case, Diagnostic, Project, Result, Step};
use crate::report::{PendingNote, ReasonLine, RunResult, Sink, Tally, What};
use crate::snapshot::{self, Filters, Info, Pending};

/// The judge: [`super::judge`], or a wrong one in the test that proves the suite would notice.
pub type Judge = fn(&Evidence, &Expected) -> Verdict;

/// How the runs of one command are done.
#[derive(Clone, Debug)]
pub struct Options {
    /// At most so many at once.
    pub jobs: usize,
    /// Write pending snapshots.
    pub pending: bool,
    /// A flaky run makes the command fail.
    pub fail_flaky: bool,
    /// Start no more runs once one is `fail`, `broken` or `fixed`.
    pub fail_fast: bool,
}

/// Runs requests.
pub struct Dispatcher<'a> {
    /// The project.
    pub project: &'a Project,
    /// Where things are made.
    pub workshop: &'a Workshop,
    /// Who is told.
    pub sink: &'a dyn Sink,
    /// Who decides.
    pub judge: Judge,
    /// Readable, and for ever, when the command is to stop.
    pub cancel: BorrowedFd<'a>,
    /// Set with it.
    pub cancelled: &'a AtomicBool,
    /// How.
    pub options: Options,
}

/// What the dispatcher keeps of a run; the rest is in its folder and its event.
struct Finished {
    outcome: Outcome,
    ready_ms: Option<u64>,
    candidate: Option<Candidate>,
}

/// How the runs on one kernel of several ended ([`Dispatcher::run_on`]).
#[derive(Clone, Debug, Default)]
pub struct Round {
    /// How many of each outcome.
    pub tally: Tally,
    /// Milliseconds until the first machine that got so far was ready.
    pub ready_ms: Option<u64>,
}

impl Dispatcher<'_> {
    /// Runs everything, reports it, writes the pending snapshots once, and returns the exit code.
    ///
    /// # Errors
    /// A kernel that is asked for wrongly (a misspelt option, a patch that is none): then nothing
    /// ran. Everything else that goes wrong is an outcome, or a note and an exit code.
    pub fn run(&self, requests: &[Request]) -> Result<u8> {
        let jobs = self.options.jobs.clamp(1, requests.len().max(1));
        let runs = requests.iter().enumerate().map(|(i, r)| r.run_ref(i)).collect();
        self.sink.emit(What::Started { runs, jobs });
        if let Some(text) = self.workshop.walls.note() {
            self.sink.emit(What::Note { text });
        }
        let kernels = self.kernels(requests).inspect_err(|_| {
            self.sink.emit(What::Ended { tally: Tally::default(), exit: 2 });
        })?;
        let finished = self.all(requests, &kernels, 0);
        let left = finished.iter().filter(|run| run.is_none()).count();
        if left > 0 && !self.cancelled.load(Ordering::SeqCst) {
            let of = requests.len();
            let text =
                format!("{left} of {of} runs were not started after a failure (--fail-fast)");
            self.sink.emit(What::Note { text });
        }

        let mut tally = Tally::default();
        let kernel_order: Vec<String> = requests.iter().map(|r| r.kernel.name.clone()).collect();
        let mut pending = Pending::new(&kernel_order);
        for (request, finished) in requests.iter().zip(finished) {
            let Some(finished) = finished else { continue };
            tally.add(finished.outcome);
            if let Some(c) = finished.candidate
                && self.options.pending
            {
                let (case, params) = (&request.instance.case, &request.instance.params);
                match c.equals {
                    Some(path) => pending.equal(case, params, &request.kernel.name, &path),
                    None => pending.add(case, params, c.info, c.rendering, c.what),
                }
            }
        }
        let mut exit = match self.cancelled.load(Ordering::SeqCst) {
            true => 130,
            false => tally.exit_code(self.options.fail_flaky),
        };
        match pending.write_all() {
            Ok(written) if written.is_empty() => {}
            Ok(written) => {
                let note = |f: snapshot::PendingFile| PendingNote { case: f.case, path: f.path };
                self.sink.emit(What::Pending { files: written.into_iter().map(note).collect() });
            }
            // The runs are decided all the same; only a worse code than theirs is taken from it.
            Err(error) => {
                let text = format!("a transcript could not be left for review: {error}");
                self.sink.emit(What::Note { text });
                exit = if exit == 0 || exit == 4 { 3 } else { exit };
            }
        }
        self.sink.emit(What::Ended { tally, exit });
        Ok(exit)
    }

    /// Runs everything on a kernel that is here, as part of a command that says itself when it starts
    /// and ends; `first` is the number of the first run. Leaves nothing for review: what a kernel
    /// under trial prints is not to be accepted.
    pub fn run_on(&self, kernel: &Arc<Kernel>, requests: &[Request], first: usize) -> Round {
        let ready = |r: &Request| (r.kernel.name.clone(), Available::Ready(Arc::clone(kernel)));
        let kernels = requests.iter().map(ready).collect();
        let mut round = Round::default();
        for finished in self.all(requests, &kernels, first).into_iter().flatten() {
            round.tally.add(finished.outcome);
            round.ready_ms = round.ready_ms.or(finished.ready_ms);
        }
        round
    }

    fn all(
        &self,
        requests: &[Request],
        kernels: &BTreeMap<String, Available>,
        first: usize,
    ) -> Vec<Option<Finished>> {
        let jobs = self.options.jobs.clamp(1, requests.len().max(1));
        let queue: Mutex<VecDeque<usize>> = Mutex::new((0..requests.len()).collect());
        let done: Mutex<Vec<_>> = Mutex::new((0..requests.len()).map(|_| None).collect());
        let memory = Memory::new();
        let failed = AtomicBool::new(false);
        let over = || self.cancelled.load(Ordering::SeqCst) || failed.load(Ordering::SeqCst);
        // A function of its own, so that the lock is not held while the run goes on.
        let next = || queue.lock().expect("no panics hold it").pop_front();
        std::thread::scope(|scope| {
            for _ in 0..jobs {
                scope.spawn(|| {
                    while let Some(index) = next() {
                        if over() {
                            break;
                        }
                        let (request, number) = (&requests[index], first + index);
                        let _room = memory.take(request.instance.case.machine.memory);
                        if over() {
                            break;
                        }
                        self.sink.emit(What::RunStarted { run: request.run_ref(number) });
                        let (result, candidate) =
                            self.one(number, request, &kernels[&request.kernel.name]);
                        let (outcome, ready_ms) = (result.outcome, result.ready_ms);
                        let unwell =
                            matches!(outcome, Outcome::Fail | Outcome::Broken | Outcome::Fixed);
                        if self.options.fail_fast && unwell {
                            failed.store(true, Ordering::SeqCst);
                        }
                        self.sink.emit(What::RunEnded { result: Box::new(result) });
                        done.lock().expect("no panics hold it")[index] =
                            Some(Finished { outcome, ready_ms, candidate });
                    }
                });
            }
        });
        done.into_inner().expect("all threads are joined")
    }

    /// One run from request to result; nothing of it is left on the host but its folder.
    fn one(
        &self,
        number: usize,
        request: &Request,
        kernel: &Available,
    ) -> (RunResult, Option<Candidate>) {
        let mut result = blank(request.run_ref(number));
        let kernel = match kernel {
            Available::Ready(kernel) => kernel,
            Available::Gone(what) => return (skip(result, what.clone()), None),
            Available::Trouble(error) => return (self.not_started(request, result, error), None),
        };
        kernel.mark_used();
        result.release = Some(kernel.release.clone());
        result.detectors = kernel.detectors().map(|d| d.into_iter().collect()).unwrap_or_default();
        let walls = self.workshop.walls.isolation;
        let missing = match needs::unheld(&request.instance.case, walls) {
            None => needs::missing(&request.instance.case, kernel),
            held => Ok(held),
        };
        match missing {
            Ok(Some(reason)) => return (skip(result, reason), None),
            Ok(None) => {}
            Err(error) => return (self.not_started(request, result, &error), None),
        }
        match self.boot(number, request, kernel, &mut result) {
            Ok(candidate) => (result, candidate),
            Err(error) => (self.not_started(request, result, &error), None),
        }
    }

    fn boot(
        &self,
        number: usize,
        request: &Request,
        kernel: &Kernel,
        result: &mut RunResult,
    ) -> Result<Option<Candidate>> {
        let instance = &request.instance;
        let case = &instance.case;
        let image = self.workshop.image(self.project, instance)?;
        let filters = Filters::compile(&case.filters)?;
        let (params, against) = request.held_against();
        let accepted = match request.review {
            true => Some(snapshot::expected(case, params, against)?),
            false => None,
        };
        let folder = RunFolder::create(&self.workshop.runs, &run_name(request))?;
        result.id = Some(folder.id().to_string());
        result.folder = Some(folder.path().to_path_buf());
        result.isolation = Some(self.workshop.walls.isolation);
        let scratch = Scratch::create(&self.workshop.runtime)?;
        let prepared = self.workshop.prepare(
            folder.id(),
            instance,
            &request.kernel,
            kernel,
            image,
            (request.twin_of.clone(), request.review),
            (folder.path(), scratch.path()),
        )?;
        folder.write_json("plan.json", &prepared.plan)?;

        let mut machine = start(kernel.arch.backend(), &prepared.machine)?;
        let disks = folder.path().join(DISKS);
        let boots = BootTimes::of(&self.workshop.cache, &kernel.key);
        let progress = |progress| self.progress(number, case, progress);
        let watch = Watch {
            instance,
            folder: folder.path(),
            nonce: new_nonce()?,
            boot: case.machine.boot.unwrap_or_else(|| boots.deadline()),
            modules: prepared.modules.clone(),
            cancel: self.cancel,
            filters: &filters,
            progress: &progress,
        };
        let Observation { mut evidence, transcript } = observe(machine.as_mut(), &watch)?;
        if let Some(millis) = evidence.boot_ms {
            boots.add(millis);
        }
        drop(machine);
        if !prepared.machine.disks.is_empty() {
            let log = std::fs::read(folder.path().join("kernel.log")).unwrap_or_default();
            let log = String::from_utf8_lossy(&log);
            evidence.disk_trouble = disk::trouble(&prepared.machine.disks, &log);
        }
        let mut cleaned = scratch.close();
        if !self.workshop.keep_disks && disks.exists() {
            cleaned = cleaned.and(std::fs::remove_dir_all(&disks));
        }
        if let Err(error) = cleaned {
            let words = crate::manifest::errno_words(&error);
            evidence.host_trouble.push(format!("clean-up: {words}"));
        }
        evidence.transcript = snapshot::render(&transcript);
        folder.write("transcript", evidence.transcript.as_bytes())?;
        let expected = Expected {
            steps: case.steps.clone(),
            allow: case.allow.clone(),
            snapshot: accepted.as_ref().and_then(|a| a.snapshot.as_ref()).map(|s| s.body.clone()),
            review: request.review,
        };
        let verdict = (self.judge)(&evidence, &expected);
        let info = Info {
            kernel: request.kernel.name.clone(),
            release: kernel.release.clone(),
            also: Vec::new(),
            programs: prepared.plan.programs.clone(),
        };
        let listed = match &instance.twin {
            Some(_) => None,
            None => self.project.known_for(&case.name, &request.kernel.name),
        };
        let candidate =
            conclude(request, listed, &verdict, &evidence, accepted.as_ref(), info, result);
        folder.write_json("evidence.json", &evidence)?;
        if !evidence.splats.is_empty() {
            let (symbols, log) = (kernel.symbols(), log(result));
            if let Some(text) = decode(&symbols, &evidence.splats, &log, &mut result.reasons) {
                folder.write(DECODED, text.as_bytes())?;
            }
        }
        folder.write_json("result.json", &result)?;
        Ok(candidate)
    }

    /// A run whose machine could not even be prepared: no evidence, hence broken.
    fn not_started(
        &self,
        request: &Request,
        mut result: RunResult,
        error: &Diagnostic,
    ) -> RunResult {
        let evidence = Evidence { not_started: Some(error.to_string()), ..Evidence::default() };
        let expected =
            Expected { steps: request.instance.case.steps.clone(), ..Expected::default() };
        let verdict = (self.judge)(&evidence, &expected);
        result.outcome = verdict.outcome();
        result.code = verdict.code();
        result.reasons = vec![ReasonLine {
            kind: "not-started".into(),
            text: error.to_string(),
            stack: Vec::new(),
        }];
        if let Some(folder) = &result.folder {
            // What can still be kept of it is kept: without a result it would pass for interrupted.
            let _ = std::fs::remove_dir_all(folder.join(DISKS));
            let text = serde_json::to_vec_pretty(&result).expect("a result is plain data");
            let _ = std::fs::write(folder.join("result.json"), text);
        }
        result
    }

    fn progress(&self, number: usize, case: &Case, progress: Progress) {
        self.sink.emit(match progress {
            Progress::Ready(boot, boot_ms) => What::RunReady { number, boot, boot_ms },
            Progress::StepStarted(step) => What::StepStarted {
                number,
                step,
                of: case.steps.len(),
                title: step_title(&case.steps[step]),
            },
            Progress::StepEnded(step, status, micros) => {
                What::StepEnded { number, step, status, micros }
            }
        });
    }
}

fn step_title(step: &Step) -> String {
    match (&step.name, &step.action) {
        (Some(name), _) => name.clone(),
        (None, Action::Run(text)) => text.lines().next().unwrap_or_default().to_string(),
        (None, Action::Machine(op)) => op.to_string(),
    }
}
