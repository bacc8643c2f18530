//! `lab list`, `show`, `new`, `init`: cases as people find and make them.

use std::path::Path;

use serde_json::json;

use super::args::ListArgs;
use super::edge;
use super::environment::Context;
use crate::manifest::{Action, Case, Clock, Result, StatusRule, skeleton};
use crate::report::text::{self, BAD, BOLD, DIM, paint};

/// Lists the cases; one with an error in its manifest is listed with it.
///
/// # Errors
/// An unknown case.
pub fn list(context: &Context, args: &ListArgs) -> Result<u8> {
    let project = &context.project;
    let selected: Vec<&str> = if args.cases.is_empty() {
        project.cases.keys().map(String::as_str).collect()
    } else {
        project.select_cases(&args.cases)?.iter().map(|case| case.name.as_str()).collect()
    };
    if args.json {
        let list = selected.iter().map(|name| match &project.cases[*name] {
            Ok(case) => json!({
                "name": case.name, "summary": case.summary, "tags": case.tags,
                "refs": case.refs, "params": case.params, "twins": case.twins.len(),
            }),
            Err(error) => json!({ "name": name, "error": error.to_string() }),
        });
        edge::print(&format!("{}\n", json!(list.collect::<Vec<_>>())));
        return Ok(0);
    }
    let rows: Vec<Vec<String>> = selected
        .iter()
        .map(|name| match &project.cases[*name] {
            Ok(case) => vec![paint(BOLD, name), case.summary.clone()],
            Err(error) => vec![paint(BOLD, name), paint(BAD, &error.to_string())],
        })
        .collect();
    if rows.is_empty() {
        edge::aside("lab: there is no case here yet (lab new NAME makes one)");
    }
    edge::print(&text::columns(&rows));
    Ok(0)
}

/// Shows a case as the lab understands it, every default spelled out.
///
/// # Errors
/// An unknown case.
pub fn show(context: &Context, name: &str, json: bool) -> Result<u8> {
    let case = context.project.select_cases(&[name.to_string()])?[0];
    if json {
        let text = serde_json::to_string_pretty(case).expect("a case is plain data");
        edge::print(&format!("{text}\n"));
        return Ok(0);
    }
    edge::print(&described(case));
    Ok(0)
}

fn described(case: &Case) -> String {
    let machine = &case.machine;
    let mut rows: Vec<Vec<String>> = Vec::new();
    let mut row = |key: &str, value: String| {
        if !value.is_empty() {
            rows.push(vec![paint(DIM, key), value]);
        }
    };
    row("from", case.refs.join(", "));
    row("tags", case.tags.join(", "));
    row("needs", case.needs.kconfig.join(" "));
    let backends = case.needs.backend.iter().map(|b| format!("{b:?}").to_lowercase());
    row("backend", backends.collect::<Vec<_>>().join(", "));
    row("programs", case.needs.programs.join(" "));
    row("modules", case.needs.modules.join(" "));
    row("memory", text::size(machine.memory));
    row("disks", joined(&machine.disks, |d| format!("/dev/lab/{} {}", d.name, text::size(d.size))));
    row(
        "shares",
        joined(&machine.shares, |s| {
            format!("{} at {} ({:?})", s.host.display(), s.guest.display(), s.mode).to_lowercase()
        }),
    );
    if machine.clock == Clock::Virtual {
        row("clock", "virtual".into());
    }
    row("timeout", humantime::format_duration(machine.timeout).to_string());
    for (name, values) in &case.params {
        row("parameter", format!("{name} = {}", values.join(", ")));
    }
    row("files", case.files.keys().map(|f| format!("/case/{f}")).collect::<Vec<_>>().join(" "));
    for (name, variant) in &case.variants {
        row("variant", format!("{name}: {} ({})", variant.kernels.join(", "), variant.reason));
    }
    for twin in &case.twins {
        let with = &twin.with;
        let mut changes: Vec<String> = with.kernel.iter().map(|k| format!("kernel {k}")).collect();
        changes.extend(with.params.iter().map(|(k, v)| format!("{k}={v}")));
        changes.extend(with.config.iter().chain(&with.patches).cloned());
        changes.extend(with.files.keys().map(|f| format!("another {f}")));
        row("twin", format!("with {}: must end in {}", changes.join(", "), twin.must));
    }
    let mut text =
        format!("{}: {}\n{}", paint(BOLD, &case.name), case.summary, text::columns(&rows));
    for (index, step) in case.steps.iter().enumerate() {
        let title = step.name.clone().unwrap_or_default();
        let mut marks = Vec::new();
        match step.status {
            StatusRule::Is(0) => {}
            StatusRule::Is(status) => marks.push(format!("status {status}")),
            StatusRule::Any => marks.push("any status".into()),
        }
        if step.stop {
            marks.push("ends the case if it fails".into());
        }
        let marks =
            if marks.is_empty() { String::new() } else { format!(" ({})", marks.join(", ")) };
        text.push_str(&paint(DIM, &format!("{}. {title}{marks}", index + 1)));
        text.push('\n');
        let action = match &step.action {
            Action::Run(run) => run.clone(),
            Action::Machine(op) => format!("[machine] {op:?}"),
        };
        for line in action.lines() {
            text.push_str(&format!("   {line}\n"));
        }
    }
    text
}

fn joined<T>(items: &[T], show: impl Fn(&T) -> String) -> String {
    items.iter().map(show).collect::<Vec<_>>().join(", ")
}

/// Makes a commented skeleton of a case.
///
/// # Errors
/// The name is none, or taken.
pub fn new(context: &Context, name: &str) -> Result<u8> {
    let path = skeleton::create_case(&context.project, name)?;
    edge::print(&format!("{}\nedit it, then: lab run {name}\n", edge::typed(&path)));
    Ok(0)
}

/// Makes a commented lab.toml.
///
/// # Errors
/// There is one already.
pub fn init(folder: &Path) -> Result<u8> {
    let path = skeleton::init(folder)?;
    edge::print(&format!("{}\nnext: lab new my-case\n", edge::typed(&path)));
    Ok(0)
}
