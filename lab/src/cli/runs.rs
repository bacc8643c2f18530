//! `lab runs`: what was run, and everything that is known of it.

use std::path::Path;

use super::args::RunsCommand;
use super::edge;
use super::environment::Context;
use super::run::{cores, format, perform};
use crate::case::{Options, Request, RunInfo, RunState, list_runs};
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
        RunState::Interrupted => text.push_str("interrupted: the lab ended before the run did\n"),
        RunState::Finished(result) => {
            let mut rows = vec![vec![
                "outcome".to_string(),
                paint(text::style_of(result.outcome), &result.code),
            ]];
            for reason in &result.reasons {
                rows.push(vec![String::new(), reason.text.clone()]);
            }
            rows.extend(result.note.iter().map(|note| vec!["note".into(), note.clone()]));
            rows.extend(result.signature.iter().map(|s| vec!["signature".into(), s.clone()]));
            if let Ok(plan) = run.plan() {
                let kernel = &plan.kernel;
                let origin = format!("Linux {} ({})", kernel.release, kernel.origin);
                rows.push(vec!["kernel".into(), format!("{}: {origin}", kernel.spec.name)]);
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
            rows.push(vec!["folder".into(), run.path.display().to_string()]);
            text.push_str(&text::columns(&rows));
        }
    }
    section(&mut text, "transcript", &run.path.join("transcript"));
    section(&mut text, "kernel log", &run.path.join("kernel.log"));
    section(&mut text, "the machine's own words on the host", &run.path.join("words"));
    edge::print(&text);
    Ok(0)
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
    let plan = find(context, name)?.plan()?;
    let workshop = context.workshop(Some(plan.isolation), plan.keep_disks)?;
    let nobody = std::sync::atomic::AtomicBool::new(false);
    if let Ok(Some(kernel)) = workshop.kernels.find(&plan.kernel.spec, &nobody)
        && kernel.key.to_string() != plan.kernel.key
    {
        edge::aside(&format!(
            "{} is Linux {} now; the run was on {}",
            kernel.name, kernel.release, plan.kernel.release
        ));
    }
    let request = Request {
        instance: plan.instance,
        kernel: plan.kernel.spec,
        twin_of: plan.twin_of,
        review: plan.review,
    };
    let options = Options { jobs: cores(), pending: false, fail_flaky: false };
    perform(context, &workshop, options, format(json), |dispatcher| dispatcher.run(&[request]))
}

/// The run that is meant: an exact name, else the last whose name has it as a part; the last of all
/// if nothing is said.
fn find(context: &Context, name: Option<&str>) -> Result<RunInfo> {
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
        (None, Some(name)) => {
            Err(Diagnostic::usage(format!("there is no run {name:?}"))
                .help("lab runs list shows them"))
        }
        (None, None) => Err(Diagnostic::usage("there is no run yet").help("lab run makes one")),
    }
}
