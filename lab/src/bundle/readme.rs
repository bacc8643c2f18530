//! What a receiver reads first.

use std::fmt::Write;

use super::KERNEL;
use crate::case::{RunInfo, RunPlan, RunState};
use crate::manifest::Provider;
use crate::report::COMMAND;

/// README.txt.
pub(super) fn text(run: &RunInfo, plan: &RunPlan, with_kernel: bool, notes: &[String]) -> String {
    let (instance, kernel) = (&plan.instance, &plan.kernel);
    let outcome = match &run.state {
        RunState::Finished(result) => {
            let reasons: Vec<&str> = result.reasons.iter().map(|r| r.text.as_str()).collect();
            match reasons.is_empty() {
                true => result.code.clone(),
                false => format!("{}: {}", result.code, reasons.join("; ")),
            }
        }
        _ => "interrupted: the lab ended before the run did".into(),
    };
    let mut text = format!(
        "A run of a kernel test lab, with what is needed to do it again.\n\n\
         run      {}\n\
         case     {}: {}\n\
         kernel   {}, Linux {} ({})\n\
         outcome  {outcome}\n\
         lab      {}\n\n\
         Again, in this folder:\n\n",
        run.id,
        instance.title(),
        instance.case.summary,
        kernel.spec.name,
        kernel.release,
        kernel.origin,
        plan.lab,
    );
    let mut commands =
        vec![("lab runs again".to_string(), again(&kernel.spec.provider, with_kernel))];
    if instance.case.name != COMMAND {
        let on = match with_kernel {
            true => format!("path:{KERNEL}"),
            false => kernel.spec.name.clone(),
        };
        let name = &instance.case.name;
        commands.push((format!("lab run {name} -k {on}"), "the case as it is in cases/"));
    }
    commands.push(("lab runs log".into(), "verdict, transcript and kernel log"));
    let width = commands.iter().map(|(command, _)| command.len()).max().unwrap_or_default();
    for (command, what) in commands {
        let _ = writeln!(text, "    {command:<width$}   {what}");
    }
    text.push_str("\nlab doctor says what this host lacks. In here are:\n\n");
    let mut rows = vec![
        ("run/", "plan, evidence, result, transcript, kernel log, raw channels"),
        ("lab.toml, cases/, images/, kconfigs/, patches/", "of the project, as far as they matter"),
        ("image.json", "the guest's root file system: of which package each file was"),
        ("host.json", "the host that the bundle was made on"),
    ];
    if with_kernel {
        rows.push(("kernel/", "what boots, its configuration, modules and libraries"));
    }
    for (name, what) in rows {
        let _ = writeln!(text, "    {name}: {what}");
    }
    if !notes.is_empty() {
        text.push_str("\nNot as it was, or not in here:\n\n");
        notes.iter().for_each(|note| {
            let _ = writeln!(text, "    - {note}");
        });
    }
    text
}

fn again(provider: &Provider, with_kernel: bool) -> &'static str {
    match (with_kernel, provider) {
        (true, _) => "the run as it was, on the kernel in kernel/",
        (false, Provider::Debian { .. }) => "the run as it was; the kernel is fetched from Debian",
        (false, Provider::Source { .. }) => "the run as it was; the kernel is built first",
        (false, Provider::Path { .. }) => "the run as it was; the kernel must be where it was",
    }
}
