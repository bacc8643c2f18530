//! `lab runs`: what was run, and everything that is known of it.

use std::path::Path;

use super::args::RunsCommand;
use super::bundle;
use super::edge;
use super::environment::Context;
use super::run::{cores, format, perform};
use crate::case::{DECODED, DISKS, Options, Request, RunInfo, RunPlan, RunState, list_runs};
use crate::kernel::{Kernel, Provider};
use crate::manifest::{Diagnostic, Result};
use crate::report::RunResult;
use crate::report::text::{self, BAD, BOLD, DIM, LOOK, paint};

/// Does what `command` says.
///
/// # Errors
/// There is no such run, or its record cannot be read.
pub fn runs(context: &Context, command: RunsCommand) -> Result<u8> {
    match command {
        RunsCommand::List { json, count } => list(context, json, count),
        RunsCommand::Log { run, json } => log(context, run.as_deref(), json),
        RunsCommand::Bundle { run, output, kernel } => {
            bundle::bundle(context, run.as_deref(), output.as_deref(), kernel)
        }
        RunsCommand::Again { run, json } => again(context, run.as_deref(), json),
    }
}

fn list(context: &Context, json: bool, count: usize) -> Result<u8> {
    let runs = list_runs(&context.dirs.runs)?;
    let shown = &runs[runs.len().saturating_sub(count)..];
    if json {
        let list: Vec<_> = shown.iter().map(as_json).collect();
        edge::print(&format!("{}\n", serde_json::json!(list)));
        return Ok(0);
    }
    let rows: Vec<Vec<String>> = shown
        .iter()
        .map(|run| match &run.state {
            RunState::Finished(result) => {
                let outcome = paint(text::style_of(result.outcome), result.outcome.name());
                let took = result.total_ms.map(text::duration).unwrap_or_default();
                vec![run.id.clone(), outcome, took, first_reason(result)]
            }
            RunState::Running => vec![run.id.clone(), paint(LOOK, "runs")],
            RunState::Interrupted => vec![run.id.clone(), paint(BAD, "interrupted")],
        })
        .collect();
    if rows.is_empty() {
        edge::aside("no runs yet");
    }
    edge::print(&text::columns(&rows));
    Ok(0)
}

fn first_reason(result: &RunResult) -> String {
    let reason = result.reasons.first().map(|reason| reason.text.clone());
    reason.or_else(|| result.note.clone()).unwrap_or_default()
}

fn as_json(run: &RunInfo) -> serde_json::Value {
    let (state, result) = match &run.state {
        RunState::Finished(result) => ("finished", Some(result)),
        RunState::Running => ("running", None),
        RunState::Interrupted => ("interrupted", None),
    };
    serde_json::json!({ "id": run.id, "folder": run.path, "state": state, "result": result })
}

fn log(context: &Context, name: Option<&str>, json: bool) -> Result<u8> {
    let run = find(context, name)?;
    if json {
        edge::print(&format!("{}\n", as_json(&run)));
        return Ok(0);
    }
    let mut text = format!("{}\n", paint(BOLD, &run.id));
    match &run.state {
        RunState::Running => text.push_str("runs\n"),
        RunState::Interrupted => {
            text.push_str("interrupted: the lab ended before the run did\n");
            let plan = run.plan().ok();
            let mut rows: Vec<_> = plan.iter().map(kernel_row).collect();
            rows.push(vec!["folder".into(), run.path.display().to_string()]);
            if run.path.join(DISKS).is_dir() {
                let what = match plan.is_some_and(|plan| plan.keep_disks) {
                    true => "kept, as they were when the lab ended",
                    false => "left as they were; the next run, or lab gc, removes them",
                };
                rows.push(vec!["disks".into(), what.into()]);
            }
            text.push_str(&text::columns(&rows));
        }
        RunState::Finished(result) => {
            let mut rows = vec![vec![
                "outcome".to_string(),
                paint(text::style_of(result.outcome), &result.code),
            ]];
            for reason in &result.reasons {
                rows.push(vec![String::new(), reason.text.clone()]);
            }
            rows.extend(result.cause.iter().map(|cause| vec!["cause".into(), cause.clone()]));
            rows.extend(result.looks.iter().map(|look| vec!["seen".into(), look.clone()]));
            rows.extend(result.note.iter().map(|note| vec!["note".into(), note.clone()]));
            rows.extend(result.signature.iter().map(|s| vec!["signature".into(), s.clone()]));
            if let Ok(plan) = run.plan() {
                rows.push(kernel_row(&plan));
            }
            let detectors: Vec<_> =
                result.detectors.iter().map(|d| format!("{d:?}").to_lowercase()).collect();
            let detectors = if detectors.is_empty() { "none".into() } else { detectors.join(", ") };
            rows.push(vec!["detectors".into(), detectors]);
            if let Some(isolation) = result.isolation {
                rows.push(vec!["isolation".into(), isolation.label().into()]);
            }
            if let (Some(ready), Some(total)) = (result.ready_ms, result.total_ms) {
                let took =
                    format!("{}, ready after {}", text::duration(total), text::duration(ready));
                rows.push(vec!["took".into(), took]);
            }
            if result.boots > 1 {
                rows.push(vec!["boots".into(), result.boots.to_string()]);
            }
            rows.push(vec!["folder".into(), run.path.display().to_string()]);
            text.push_str(&text::columns(&rows));
        }
    }
    section(&mut text, "transcript", &run.path.join("transcript"));
    section(&mut text, "kernel log", &run.path.join("kernel.log"));
    section(&mut text, "splats, with their places in the source", &run.path.join(DECODED));
    section(&mut text, "the machine's own words on the host", &run.path.join("words"));
    edge::print(&text);
    Ok(0)
}

fn kernel_row(plan: &RunPlan) -> Vec<String> {
    let kernel = &plan.kernel;
    let origin = format!("Linux {} ({})", kernel.release, kernel.origin);
    vec!["kernel".into(), format!("{}: {origin}", kernel.spec.name)]
}

/// A file of the run under a heading; what a terminal must not see is escaped.
fn section(text: &mut String, title: &str, path: &Path) {
    let Ok(bytes) = std::fs::read(path) else { return };
    if bytes.is_empty() {
        return;
    }
    text.push_str(&format!("\n{}\n", paint(DIM, &format!("{title} ({})", path.display()))));
    for line in String::from_utf8_lossy(&bytes).lines() {
        let safe: String = line
            .trim_end_matches('\r')
            .chars()
            .flat_map(|c| match c.is_control() && c != '\t' {
                true => c.escape_default().collect::<Vec<_>>(),
                false => vec![c],
            })
            .collect();
        text.push_str(&safe);
        text.push('\n');
    }
}

fn again(context: &Context, name: Option<&str>, json: bool) -> Result<u8> {
    let root = &context.project.root;
    // A bundle's plan has paths relative to the project.
    let here = |path: &Path| match path == Path::new(".") {
        true => root.clone(),
        false => root.join(path),
    };
    let plan = find(context, name)?.plan()?.with_paths(&here);
    let workshop = context.workshop(Some(plan.isolation), plan.keep_disks)?;
    let nobody = std::sync::atomic::AtomicBool::new(false);
    if let Ok(Some(kernel)) = workshop.kernels.find(&plan.kernel.spec, &nobody)
        && is_another(&kernel, &plan)
    {
        edge::aside(&format!(
            "{} is another kernel now, Linux {} ({}); the run was on Linux {} ({})",
            kernel.name, kernel.release, kernel.origin, plan.kernel.release, plan.kernel.origin
        ));
    }
    let request = Request {
        instance: plan.instance,
        kernel: plan.kernel.spec,
        twin_of: plan.twin_of,
        review: plan.review,
    };
    let options = Options { jobs: cores(), pending: false, fail_flaky: false, fail_fast: false };
    perform(context, &workshop, options, format(json), |dispatcher| dispatcher.run(&[request]))
}

/// Whether a run done again is on another kernel. A bundle's lies elsewhere, and a path's key is made
/// from where it lies: release and origin have to tell.
fn is_another(kernel: &Kernel, plan: &RunPlan) -> bool {
    let planned = &plan.kernel;
    let same = kernel.release == planned.release && kernel.origin.to_string() == planned.origin;
    match planned.spec.provider {
        Provider::Path { .. } => !same,
        _ => kernel.key.to_string() != planned.key,
    }
}

/// The run that is meant: an exact name, else the last whose name has it as a part; the last of all
/// if nothing is said.
pub(super) fn find(context: &Context, name: Option<&str>) -> Result<RunInfo> {
    let mut runs = list_runs(&context.dirs.runs)?;
    let at = match name {
        None => runs.len().checked_sub(1),
        Some(name) => runs
            .iter()
            .position(|run| run.id == name)
            .or_else(|| runs.iter().rposition(|run| run.id.contains(name))),
    };
    match (at, name) {
        (Some(at), _) => Ok(runs.swap_remove(at)),
        (None, Some(name)) => Err(Diagnostic::usage(format!("there is no run {name:?}"))
            .help("lab runs list shows them; old ones are removed ([runs] in lab.toml)")),
        (None, None) => Err(Diagnostic::usage("there is no run yet").help("lab run makes one")),
    }
}
