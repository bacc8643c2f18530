//! docs/reliability.md, from the reports of the stages.

use std::fmt::Write;

use super::stage::Report;
use super::support;

/// The document, relative to the repository.
pub const FILE: &str = "docs/reliability.md";

/// The whole document.
pub fn text(reports: &[Report]) -> String {
    let counts: Vec<String> = reports.iter().map(|r| r.stage.runs.to_string()).collect();
    let sound = reports.iter().all(|report| report.findings.is_empty());
    let mut text = format!(
        "# Reliability\n\n\
         Written by `make soak`, never by hand. It runs one small case over and over, in one process \
         of the lab a stage,\nand looks at the host before, meanwhile and after. Before that it \
         proved that it finds the one run of a case\nthat fails one time in fifty, and every kind of \
         leak that it looks for.\n\n\
         | | |\n|---|---|\n\
         | date | {} |\n| commit | {} |\n| host | {} |\n| command | `SOAK_RUNS={} make soak` |\n\
         | result | {} |\n",
        support::today(),
        support::commit(FILE),
        support::host(),
        counts.join(" SOAK_PARALLEL="),
        if sound {
            "no verdict differs, nothing is left behind"
        } else {
            "**not sound**, see below"
        },
    );
    for report in reports {
        stage(&mut text, report).expect("a String takes all");
    }
    text
}

fn stage(text: &mut String, report: &Report) -> std::fmt::Result {
    let stage = &report.stage;
    writeln!(text, "\n## {} runs, {} at a time\n", stage.runs, stage.jobs)?;
    writeln!(text, "`{}`, {}\n", stage.command(), stage.kernel)?;
    for finding in &report.findings {
        writeln!(text, "- **{finding}**")?;
    }
    if !report.findings.is_empty() {
        text.push('\n');
    }
    text.push_str("| what | figure |\n|---|---|\n");
    let verdicts: Vec<String> =
        report.verdicts.iter().map(|(verdict, count)| format!("{count} {verdict}")).collect();
    writeln!(text, "| verdicts | {} |", verdicts.join(", "))?;
    if let Some(longest) = report.times.last() {
        let at = |percent| support::percentile(&report.times, percent);
        writeln!(
            text,
            "| a run, from start to verdict | median {} ms, 99 in 100 within {} ms, at most {longest} ms |",
            at(50),
            at(99),
        )?;
    }
    let mut edges = |what: &str, (first, last): (usize, usize)| {
        writeln!(text, "| {what}, least of the first quarter and of the last | {first}, {last} |")
    };
    edges("open descriptors of the lab", report.edges(|sample| sample.descriptors))?;
    edges("threads of the lab", report.edges(|sample| sample.threads))?;
    edges("resident memory of the lab (KiB)", report.edges(|sample| sample.resident))?;
    let (before, after) = (&report.before, &report.after);
    let mut counts = |what: &str, before: usize, after: usize| {
        writeln!(text, "| {what}, before and after | {before}, {after} |")
    };
    counts("processes below the soak", before.processes.len(), after.processes.len())?;
    counts("mounts", before.mounts.len(), after.mounts.len())?;
    counts("names in /dev/shm", before.shm.len(), after.shm.len())?;
    counts("names in TMPDIR and home", before.temporary.len(), after.temporary.len())?;
    counts("run folders", before.runs, after.runs)?;
    let each = report.folder_bytes / (after.runs.max(1) as u64);
    writeln!(text, "| a run folder | {each} bytes |")
}
