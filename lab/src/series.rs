//! A patch series on a kernel, walked from the kernel without it to the last patch: does each patch
//! apply, build and boot, does it bring warnings, and do the cases still pass with it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use crate::case::{Dispatcher, Outcome, Request};
use crate::kernel::{Kernel, Patch, PullError, PullProgress, first_of, load_series, new_warnings};
use crate::manifest::{Diagnostic, Fault, KernelSpec, Result};
use crate::report::{PatchRef, PatchResult, Tally, What};

/// A series and what it is tried on.
#[derive(Clone, Debug)]
pub struct Series {
    /// As `patches = [...]` names it.
    name: String,
    patches: Vec<Patch>,
    base: KernelSpec,
}

impl Series {
    /// Reads the series; `base` is the kernel without it.
    ///
    /// # Errors
    /// There is no such series, or the kernel is not one that is built here.
    pub fn load(project: &Path, name: &str, base: &KernelSpec) -> Result<Self> {
        base.varied(&[name.to_string()], &[])?;
        let patches = load_series(project, &[name.to_string()])?;
        Ok(Self { name: first_of(name).0.to_string(), patches, base: base.clone() })
    }

    /// The kernel without the series and the patches, in the order in which they are tried.
    pub fn stages(&self) -> Vec<PatchRef> {
        let of = self.patches.len();
        let patch = |(number, patch): (usize, &Patch)| PatchRef {
            number: number + 1,
            of,
            name: patch.name.clone(),
            subject: patch.subject.clone(),
        };
        let base = PatchRef {
            number: 0,
            of,
            name: self.base.name.clone(),
            subject: format!("{} as it is", self.base.name),
        };
        std::iter::once(base).chain(self.patches.iter().enumerate().map(patch)).collect()
    }

    /// The kernel with the first `number` patches. It keeps the base's name: what is known of the
    /// base, and which variant of a transcript is right for it, holds for these kernels too.
    fn spec(&self, number: usize) -> Result<KernelSpec> {
        let mut spec = self.base.clone();
        if number > 0 {
            spec = self.base.varied(&[format!("{}:{number}", self.name)], &[])?;
            spec.name.clone_from(&self.base.name);
        }
        Ok(spec)
    }
}

/// What became of one stage.
struct Stage {
    result: PatchResult,
    /// The kernel, where it could be had.
    kernel: Option<Arc<Kernel>>,
}

/// Walks `series`, with `requests` (for its base) on each kernel of it, and returns the exit code: 1
/// where a patch fails, 3 where the lab cannot tell, 4 where every run was skipped. A patch on which no other can stand ends the walk.
///
/// # Errors
/// Trouble that is no patch's: no network, no room.
pub fn walk(dispatcher: &Dispatcher<'_>, series: &Series, requests: &[Request]) -> Result<u8> {
    let stages = series.stages();
    let runs = (0..stages.len()).flat_map(|stage| {
        let number = move |index| stage * requests.len() + index;
        requests.iter().enumerate().map(move |(index, request)| request.run_ref(number(index)))
    });
    let jobs = dispatcher.options.jobs.clamp(1, requests.len().max(1));
    dispatcher.sink.emit(What::Started { runs: runs.collect(), jobs });
    if let Some(text) = dispatcher.workshop.walls.note() {
        dispatcher.sink.emit(What::Note { text });
    }
    let mut all = Tally::default();
    let outcome = try_stages(dispatcher, series, requests, &mut all);
    let exit = match &outcome {
        _ if dispatcher.cancelled.load(Ordering::SeqCst) => 130,
        // Where no patch is to blame and no case could run, nothing was found out.
        Ok(0) if all.0.values().sum::<usize>() == all.count(Outcome::Skip) => 4,
        Ok(exit) => *exit,
        Err(error) if error.fault() == Fault::Usage => 2,
        Err(_) => 3,
    };
    dispatcher.sink.emit(What::Ended { tally: all, exit });
    match outcome {
        Err(error) if exit != 130 => Err(error),
        _ => Ok(exit),
    }
}

fn try_stages(
    dispatcher: &Dispatcher<'_>,
    series: &Series,
    requests: &[Request],
    all: &mut Tally,
) -> Result<u8> {
    let mut exit = 0;
    let mut failed = false;
    let mut before: Option<Vec<String>> = None;
    for patch in series.stages() {
        let number = patch.number;
        dispatcher.sink.emit(What::PatchStarted { patch: patch.clone() });
        let spec = series.spec(number)?;
        let mut stage = obtain(dispatcher, &spec, patch)?;
        if dispatcher.cancelled.load(Ordering::SeqCst) {
            return Ok(130);
        }
        if let Some(kernel) = &stage.kernel {
            let warnings = kernel.warnings();
            if let (Some(before), Some(after)) = (&before, &warnings) {
                stage.result.warnings = Some(new_warnings(before, after));
            }
            before = warnings;
            let on = |request: &Request| Request { kernel: spec.clone(), ..request.clone() };
            let requests: Vec<Request> = requests.iter().map(on).collect();
            let round = dispatcher.run_on(kernel, &requests, number * requests.len());
            for (outcome, count) in &round.tally.0 {
                *all.0.entry(*outcome).or_default() += count;
            }
            stage.result.ready_ms = round.ready_ms;
            stage.result.tally = round.tally;
        }
        if dispatcher.cancelled.load(Ordering::SeqCst) {
            return Ok(130);
        }
        let result = &mut stage.result;
        exit = worse(exit, code(result));
        result.first_failure = result.failed() && !failed;
        failed |= result.failed();
        let stands = result.applies;
        dispatcher.sink.emit(What::PatchTried { result: Box::new(stage.result) });
        if !stands {
            break;
        }
    }
    Ok(exit)
}

/// Finds or builds the kernel of a stage. That it cannot be built is what the walk is to find out.
fn obtain(dispatcher: &Dispatcher<'_>, spec: &KernelSpec, patch: PatchRef) -> Result<Stage> {
    let kernels = &dispatcher.workshop.kernels;
    let mut result = PatchResult {
        patch,
        applies: true,
        builds: true,
        built_ms: None,
        ready_ms: None,
        tally: Tally::default(),
        warnings: None,
        trouble: None,
        first_failure: false,
    };
    let found = match kernels.find(spec, dispatcher.cancelled) {
        Ok(Some(kernel)) => Ok(kernel),
        Ok(None) => {
            let started = Instant::now();
            // The compiler's warnings are told by the patch that brought them, and only once.
            let mut progress = |progress: PullProgress| match progress {
                PullProgress::Warning(_) => {}
                _ => dispatcher.sink.emit(What::pulling(&spec.name, &progress)),
            };
            let built = kernels.obtain(spec, &mut progress, dispatcher.cancelled);
            result.built_ms = Some(started.elapsed().as_millis() as u64);
            built
        }
        Err(error) => Err(error),
    };
    let kernel = match found {
        Ok(kernel) => Some(Arc::new(kernel)),
        Err(PullError::Interrupted) => None,
        Err(PullError::Patch(error)) => {
            (result.applies, result.builds) = (false, false);
            result.trouble = Some(in_full(&error));
            None
        }
        Err(PullError::Compile(error)) => {
            result.builds = false;
            result.trouble = Some(in_full(&error));
            None
        }
        Err(error) => return Err(error.into_diagnostic()),
    };
    Ok(Stage { result, kernel })
}

fn in_full(error: &Diagnostic) -> String {
    match error.way_out() {
        Some(help) => format!("{}\nhelp: {help}", error.message()),
        None => error.message().to_string(),
    }
}

/// What a stage adds to the exit code. That something listed as known is fixed is no failure here.
fn code(result: &PatchResult) -> u8 {
    match result {
        _ if !result.builds || result.tally.count(Outcome::Fail) > 0 => 1,
        _ if result.tally.count(Outcome::Broken) > 0 => 3,
        _ => 0,
    }
}

/// 1 beats 3 beats 0 (`lab help exit-codes`).
fn worse(a: u8, b: u8) -> u8 {
    match (a, b) {
        (1, _) | (_, 1) => 1,
        _ => a.max(b),
    }
}
