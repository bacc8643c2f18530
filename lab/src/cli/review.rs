//! `lab review` and `lab accept`: where a person decides which transcripts are right.

use std::io::{BufRead, Write};

use super::args::AcceptArgs;
use super::edge;
use super::environment::Context;
use crate::manifest::{Case, Diagnostic, Project, Result};
use crate::report::text::{self, BOLD, DIM, LOOK, paint};
use crate::snapshot::{self, PendingFile, What};

/// Walks through what waits: accept, reject, skip, quit.
///
/// # Errors
/// A file that is not a snapshot, or cannot be moved.
pub fn review(context: &Context) -> Result<u8> {
    let files = pending(&context.project, &[])?;
    let count = files.len();
    if count == 0 {
        edge::aside("nothing waits for review");
    }
    let mut answers = std::io::stdin().lock();
    for (index, file) in files.iter().enumerate() {
        edge::print(&format!("{} {}", paint(DIM, &format!("{}/{count}", index + 1)), shown(file)?));
        loop {
            let question = "[a]ccept  [r]eject  [s]kip  [q]uit";
            match ask(&mut answers, question)?.as_deref() {
                Some("a" | "accept") => {
                    let (name, reason) = variant(&mut answers, file)?;
                    match snapshot::accept(file, reason.as_deref(), name.as_deref()) {
                        Ok(path) => edge::print(&format!("accepted: {}\n\n", edge::typed(&path))),
                        // A wrong name or a missing reason is asked for again, not lost.
                        Err(error) => {
                            edge::aside(&edge::paragraph(&error));
                            continue;
                        }
                    }
                }
                Some("r" | "reject") => {
                    snapshot::reject(file)?;
                    edge::print("rejected\n\n");
                }
                Some("s" | "skip") => edge::print("skipped\n\n"),
                Some("q" | "quit") => return Ok(0),
                None => {
                    edge::print("\n");
                    return Ok(0);
                }
                Some(_) => continue,
            }
            break;
        }
    }
    Ok(0)
}

/// Accepts without asking.
///
/// # Errors
/// A case with nothing to accept, a variant without a reason.
pub fn accept(context: &Context, args: &AcceptArgs) -> Result<u8> {
    let files = pending(&context.project, &args.cases)?;
    for name in &args.cases {
        let case = context.project.select_cases(std::slice::from_ref(name))?;
        if !files.iter().any(|file| case.iter().any(|case| case.name == file.case)) {
            return Err(Diagnostic::usage(format!("nothing of {name} waits for review"))
                .help(format!("run it first: lab run {name}")));
        }
    }
    for file in &files {
        let path = snapshot::accept(file, args.reason.as_deref(), args.variant.as_deref())
            .map_err(|error| match file.unnamed && args.reason.is_none() {
                true => error.help(format!(
                    "lab accept {} --reason TEXT; the reason goes into case.toml",
                    file.case
                )),
                false => error,
            })?;
        edge::print(&format!("accepted: {}\n", edge::typed(&path)));
    }
    if files.is_empty() {
        edge::aside("nothing waits for review");
    }
    Ok(0)
}

fn pending(project: &Project, cases: &[String]) -> Result<Vec<PendingFile>> {
    // A case whose manifest is wrong has nothing that could be accepted now.
    let whole: Vec<&Case> = project.cases.values().filter_map(|case| case.as_ref().ok()).collect();
    let selected = if cases.is_empty() { whole } else { project.select_cases(cases)? };
    snapshot::list(selected)
}

fn shown(file: &PendingFile) -> Result<String> {
    let what = match file.what {
        What::New => "a new transcript",
        What::Changed => "differs from the accepted transcript",
        What::Known => "a known failure",
    };
    let got = file.got()?;
    let mut title = format!("{} on {}: {what}\n", paint(BOLD, &file.case), got.info.kernel);
    match file.accepted()? {
        Some(accepted) => {
            for line in snapshot::program_changes(&accepted.info, &got.info) {
                title
                    .push_str(&format!("  {}\n", paint(LOOK, &format!("program changed: {line}"))));
            }
            title.push_str(&text::diff(&snapshot::unified(&accepted.body, &got.body), "  "));
        }
        None => {
            for line in got.body.lines() {
                title.push_str(&format!("  {line}\n"));
            }
        }
    }
    Ok(title)
}

fn ask(answers: &mut impl BufRead, question: &str) -> Result<Option<String>> {
    edge::print(&format!("{question} > "));
    let mut line = String::new();
    let read = answers.read_line(&mut line).map_err(|e| {
        Diagnostic::trouble(format!("cannot read the answer: {}", crate::manifest::errno_words(&e)))
    })?;
    let _ = std::io::stdout().flush();
    Ok((read > 0).then(|| line.trim().to_string()))
}

/// Name and reason of a variant, where the file needs them.
fn variant(
    answers: &mut impl BufRead,
    file: &PendingFile,
) -> Result<(Option<String>, Option<String>)> {
    if !file.unnamed {
        return Ok((None, None));
    }
    let suggestion = file.variant.clone().unwrap_or_default();
    let name = ask(answers, &format!("a name for this variant [{suggestion}]"))?;
    let reason = ask(answers, "why does this kernel rightly differ?")?;
    Ok((name.filter(|name| !name.is_empty()), reason))
}
