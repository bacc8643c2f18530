//! The dispatcher: it owns the budget of cores and memory, the cancellation, the event sink and the
//! pending snapshots, and runs one thread for each run under way.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Instant, SystemTime};

use super::evidence::Evidence;
use super::folder::RunFolder;
use super::needs;
use super::observe::{Observation, Progress, Watch, observe};
use super::plan::{Instance, TwinOf};
use super::prepare::{DISKS, Workshop, new_nonce, start};
use super::verdict::{Expected, Outcome, Verdict, settle};
use crate::kernel::{Kernel, PullError};
use crate::machine::room;
use crate::manifest::{Action, Case, Diagnostic, KernelSpec, Project, Result};
use crate::report::{Hint, PendingNote, ReasonLine, RunRef, RunResult, Sink, Tally, What};
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
}

/// What to select runs by.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Names or globs of cases.
    pub cases: Vec<String>,
    /// Names or globs of kernels; empty: the project's default.
    pub kernels: Vec<String>,
    /// The cases' twins too.
    pub twins: bool,
}

/// One run to be done.
#[derive(Clone, Debug)]
pub struct Request {
    /// The case with its parameters.
    pub instance: Instance,
    /// The kernel.
    pub kernel: KernelSpec,
    /// For a twin: whose accepted transcript it is held against.
    pub twin_of: Option<TwinOf>,
    /// Whether there is a snapshot to be held against at all.
    pub review: bool,
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

/// A kernel that runs can use, or why they cannot.
enum Available {
    Ready(Arc<Kernel>),
    /// The mirror no longer carries it: nobody's failure.
    Gone(String),
    Trouble(Diagnostic),
}

/// What a run leaves for the pending snapshots.
struct Candidate {
    info: Info,
    rendering: String,
    what: snapshot::What,
    /// The accepted file that it equals.
    equals: Option<PathBuf>,
}

impl Selection {
    /// The runs that follow, in the order in which they are reported: case by case, each with its
    /// parameters on each kernel, then its twins.
    ///
    /// # Errors
    /// An unknown or invalid case, an unknown kernel.
    pub fn requests(&self, project: &Project) -> Result<Vec<Request>> {
        let kernels = project.select_kernels(&self.kernels)?;
        let mut requests = Vec::new();
        for case in project.select_cases(&self.cases)? {
            let instances = case.instances();
            for params in &instances {
                for kernel in &kernels {
                    requests.push(Request {
                        instance: Instance::new(case, params.clone()),
                        kernel: (*kernel).clone(),
                        twin_of: None,
                        review: true,
                    });
                }
            }
            if self.twins
                && let (Some(kernel), Some(params)) = (kernels.first(), instances.first())
            {
                for index in 0..case.twins.len() {
                    requests.push(twin(project, case, index, params, kernel)?);
                }
            }
        }
        Ok(requests)
    }
}

/// The changed copy of a case that its twin `index` describes.
fn twin(
    project: &Project,
    case: &Case,
    index: usize,
    params: &BTreeMap<String, String>,
    kernel: &KernelSpec,
) -> Result<Request> {
    let twin = &case.twins[index];
    let mut instance = Instance::new(case, params.clone());
    instance.params.extend(twin.with.params.clone());
    for (name, file) in &twin.with.files {
        instance.case.files.insert(name.clone(), case.dir.join(file));
    }
    instance.twin = Some(twin.clone());
    let chosen = match &twin.with.kernel {
        Some(name) => project.select_kernels(std::slice::from_ref(name))?[0].clone(),
        None => kernel.clone(),
    };
    Ok(Request {
        instance,
        kernel: chosen,
        twin_of: Some(TwinOf { params: params.clone(), kernel: kernel.name.clone() }),
        review: true,
    })
}

impl Request {
    fn run_ref(&self, number: usize) -> RunRef {
        RunRef {
            number,
            case: self.instance.case.name.clone(),
            params: self.instance.params.clone(),
            kernel: self.kernel.name.clone(),
            twin: self.instance.twin.as_ref().map(|twin| twin.must.clone()),
        }
    }

    /// Parameters and kernel of the transcript that this run is held against.
    fn held_against(&self) -> (&BTreeMap<String, String>, &str) {
        match &self.twin_of {
            Some(twin_of) => (&twin_of.params, &twin_of.kernel),
            None => (&self.instance.params, &self.kernel.name),
        }
    }
}

impl Dispatcher<'_> {
    /// Runs everything, reports it, writes the pending snapshots once, and returns the exit code.
    ///
    /// # Errors
    /// Pending snapshots that cannot be written.
    pub fn run(&self, requests: &[Request]) -> Result<u8> {
        let jobs = self.options.jobs.clamp(1, requests.len().max(1));
        let runs = requests.iter().enumerate().map(|(i, r)| r.run_ref(i)).collect();
        self.sink.emit(What::Started { runs, jobs });
        let kernels = self.kernels(requests);
        let finished = self.all(requests, &kernels, jobs);

        let mut tally = Tally::default();
        let kernel_order: Vec<String> = requests.iter().map(|r| r.kernel.name.clone()).collect();
        let mut pending = Pending::new(&kernel_order);
        for (request, finished) in requests.iter().zip(finished) {
            let Some((outcome, candidate)) = finished else { continue };
            tally.add(outcome);
            if let Some(c) = candidate
                && self.options.pending
            {
                let (case, params) = (&request.instance.case, &request.instance.params);
                match c.equals {
                    Some(path) => pending.equal(case, params, &request.kernel.name, &path),
                    None => pending.add(case, params, c.info, c.rendering, c.what),
                }
            }
        }
        let written = pending.write_all()?;
        if !written.is_empty() {
            let note = |f: snapshot::PendingFile| PendingNote { case: f.case, path: f.path };
            self.sink.emit(What::Pending { files: written.into_iter().map(note).collect() });
        }
        let exit = match self.cancelled.load(Ordering::SeqCst) {
            true => 130,
            false => tally.exit_code(self.options.fail_flaky),
        };
        self.sink.emit(What::Ended { tally, exit });
        Ok(exit)
    }

    /// Finds or fetches each kernel once.
    fn kernels(&self, requests: &[Request]) -> BTreeMap<String, Available> {
        let mut kernels = BTreeMap::new();
        for request in requests {
            let spec = &request.kernel;
            if !kernels.contains_key(&spec.name) {
                kernels.insert(spec.name.clone(), self.kernel(spec));
            }
        }
        kernels
    }

    fn kernel(&self, spec: &KernelSpec) -> Available {
        match self.workshop.store.find(spec) {
            Ok(Some(kernel)) => return Available::Ready(Arc::new(kernel)),
            Ok(None) => {}
            Err(error) => return Available::Trouble(error),
        }
        let started = Instant::now();
        let mut progress = |progress: crate::kernel::PullProgress| {
            let kernel = spec.name.clone();
            self.sink.emit(What::Pulling { kernel, phase: progress.to_string() });
        };
        match self.workshop.store.pull(spec, &self.workshop.apt, &mut progress, self.cancelled) {
            Ok(kernel) => {
                self.sink.emit(What::Pulled {
                    kernel: spec.name.clone(),
                    release: kernel.release.clone(),
                    origin: kernel.origin.to_string(),
                    took_ms: started.elapsed().as_millis() as u64,
                });
                Available::Ready(Arc::new(kernel))
            }
            Err(PullError::Gone { what, .. }) => {
                self.sink.emit(What::Note { text: format!("{}: {what}", spec.name) });
                Available::Gone(what)
            }
            Err(error) => Available::Trouble(error.into_diagnostic()),
        }
    }

    fn all(
        &self,
        requests: &[Request],
        kernels: &BTreeMap<String, Available>,
        jobs: usize,
    ) -> Vec<Option<(Outcome, Option<Candidate>)>> {
        let queue: Mutex<VecDeque<usize>> = Mutex::new((0..requests.len()).collect());
        let done: Mutex<Vec<_>> = Mutex::new((0..requests.len()).map(|_| None).collect());
        let memory = Memory::new();
        // A function of its own, so that the lock is not held while the run goes on.
        let next = || queue.lock().expect("no panics hold it").pop_front();
        std::thread::scope(|scope| {
            for _ in 0..jobs {
                scope.spawn(|| {
                    while let Some(number) = next() {
                        if self.cancelled.load(Ordering::SeqCst) {
                            break;
                        }
                        let request = &requests[number];
                        let _room = memory.take(request.instance.case.machine.memory);
                        self.sink.emit(What::RunStarted { run: request.run_ref(number) });
                        let (result, candidate) =
                            self.one(number, request, &kernels[&request.kernel.name]);
                        let outcome = result.outcome;
                        self.sink.emit(What::RunEnded { result: Box::new(result) });
                        done.lock().expect("no panics hold it")[number] =
                            Some((outcome, candidate));
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
        result.release = Some(kernel.release.clone());
        result.detectors = kernel.detectors().map(|d| d.into_iter().collect()).unwrap_or_default();
        match needs::missing(&request.instance.case, kernel) {
            Ok(Some(reason)) => return (skip(result, reason), None),
            Ok(None) => {}
            Err(error) => return (self.not_started(request, result, &error), None),
        }
        if let Some(twin) = &request.instance.twin
            && !(twin.with.config.is_empty() && twin.with.patches.is_empty())
        {
            let why = "a twin with config or patches needs a kernel that is built from source";
            return (skip(result, why.into()), None);
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
        result.isolation = Some(self.workshop.isolation);
        let scratch = tempfile::Builder::new()
            .prefix("lab-")
            .tempdir_in(&self.workshop.runtime)
            .map_err(|e| Diagnostic::io("make a folder in", &self.workshop.runtime, &e))?;
        let prepared = self.workshop.prepare(
            folder.id(),
            instance,
            &request.kernel,
            kernel,
            image,
            request.twin_of.clone(),
            (folder.path(), scratch.path()),
        )?;
        folder.write_json("plan.json", &prepared.plan)?;

        let mut machine = start(kernel.arch.backend(), &prepared.machine)?;
        let disks = folder.path().join(DISKS);
        let progress = |progress| self.progress(number, case, progress);
        let watch = Watch {
            instance,
            folder: folder.path(),
            nonce: new_nonce()?,
            modules: prepared.modules.clone(),
            cancel: self.cancel,
            progress: &progress,
        };
        let Observation { mut evidence, transcript } = observe(machine.as_mut(), &watch)?;
        drop(machine);
        let mut cleaned = scratch.close();
        if !self.workshop.keep_disks && disks.exists() {
            cleaned = cleaned.and(std::fs::remove_dir_all(&disks));
        }
        if let Err(error) = cleaned {
            let words = crate::manifest::errno_words(&error);
            evidence.host_trouble.push(format!("clean-up: {words}"));
        }
        evidence.transcript = snapshot::render(&transcript, &filters);
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
        let candidate =
            self.conclude(request, &verdict, &evidence, accepted.as_ref(), info, result);
        folder.write_json("evidence.json", &evidence)?;
        folder.write_json("result.json", &result)?;
        Ok(candidate)
    }

    /// Fills `result` with what the verdict means and what a person needs to see of it.
    fn conclude(
        &self,
        request: &Request,
        verdict: &Verdict,
        evidence: &Evidence,
        accepted: Option<&snapshot::Expected>,
        info: Info,
        result: &mut RunResult,
    ) -> Option<Candidate> {
        let instance = &request.instance;
        let listed = match &instance.twin {
            Some(_) => None,
            None => self.project.known_for(&instance.case.name, &request.kernel.name),
        };
        let transcript = &evidence.transcript;
        let known_body = accepted.and_then(|a| a.known.as_ref()).map(|k| k.body.as_str());
        result.outcome = settle(verdict, listed, known_body, transcript);
        result.code = verdict.code();
        result.reasons = verdict.reasons().iter().map(|r| explain(r.into())).collect();
        result.signature = verdict.signature().map(|s| s.0.clone());
        result.ready_ms = evidence.ready_ms;
        result.total_ms = Some(evidence.total_ms);
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
            result.outcome = super::verdict::twin_outcome(verdict, &twin.must);
            let was = verdict.code();
            result.note = Some(match holds {
                true => format!("fails as it must: {was}"),
                false => format!("must end in {}, and ended in {was}", twin.must),
            });
            result.hints = vec![log_hint(result)];
            return None;
        }
        let only_transcript = verdict
            .reasons()
            .iter()
            .all(|r| matches!(r.kind(), "status" | "output" | "unreviewed"));
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
        result.reasons = vec![ReasonLine { kind: "not-started".into(), text: error.to_string() }];
        result
    }

    fn progress(&self, number: usize, case: &Case, progress: Progress) {
        self.sink.emit(match progress {
            Progress::Ready(boot_ms) => What::RunReady { number, boot_ms },
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

fn step_title(step: &crate::manifest::Step) -> String {
    match (&step.name, &step.action) {
        (Some(name), _) => name.clone(),
        (None, Action::Run(text)) => text.lines().next().unwrap_or_default().to_string(),
        (None, Action::Machine(op)) => format!("{op:?}").to_lowercase(),
    }
}

fn blank(run: RunRef) -> RunResult {
    let at = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    RunResult {
        run,
        id: None,
        folder: None,
        outcome: Outcome::Broken,
        code: String::new(),
        reasons: Vec::new(),
        signature: None,
        note: None,
        versions: Vec::new(),
        diff: Vec::new(),
        transcript: None,
        release: None,
        isolation: None,
        detectors: Vec::new(),
        ready_ms: None,
        total_ms: None,
        at: at.map(|d| d.as_secs()).unwrap_or_default(),
        hints: Vec::new(),
    }
}

fn skip(mut result: RunResult, why: String) -> RunResult {
    result.outcome = Outcome::Skip;
    result.code = "skip".into();
    result.note = Some(why);
    result
}

/// Adds the way out to reasons that a user can do something about.
fn explain(mut reason: ReasonLine) -> ReasonLine {
    if reason.text.contains("user namespaces are refused") {
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
            command: format!("lab shell -k {} {case}", request.kernel.name),
        });
        hints.push(log_hint(result));
    }
    hints
}

/// `STAMP-CASE[.a-1]@KERNEL`: sorts by time, and says what it is.
fn run_name(request: &Request) -> String {
    let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    let stamp: String = now.chars().filter(char::is_ascii_digit).collect();
    let (day, time) = stamp.split_at(8);
    let mut name = format!("{day}-{time}-{}", request.instance.case.name);
    for (key, value) in &request.instance.params {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
        name.push_str(&format!(".{key}-{}", value.chars().map(plain).collect::<String>()));
    }
    format!("{name}@{}", request.kernel.name)
}

/// Memory that guests may take together: what the host could give when the command began, less a
/// tenth. One run always goes, so that a single large guest is refused by its own check instead.
struct Memory {
    left: Mutex<u64>,
    total: u64,
    freed: Condvar,
}

struct Taken<'a> {
    memory: &'a Memory,
    bytes: u64,
}

impl Memory {
    fn new() -> Self {
        let total = room::available_memory().unwrap_or(u64::MAX) / 10 * 9;
        Self { left: Mutex::new(total), total, freed: Condvar::new() }
    }

    fn take(&self, bytes: u64) -> Taken<'_> {
        let bytes = bytes.min(self.total);
        let mut left = self.left.lock().expect("no panics hold it");
        while *left < bytes {
            left = self.freed.wait(left).expect("no panics hold it");
        }
        *left -= bytes;
        Taken { memory: self, bytes }
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        *self.memory.left.lock().expect("no panics hold it") += self.bytes;
        self.memory.freed.notify_all();
    }
}
