//! `lab run`: cases on kernels, or one command with no case.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::{Duration, SystemTime};

use super::args::RunArgs;
use super::choose;
use super::edge;
use super::environment::{Cancel, Context};
use crate::case::{Dispatcher, Instance, Options, Request, Selection, Workshop, judge, repeated};
use crate::manifest::{
    Action, Case, Diagnostic, KernelSpec, MachineSpec, Needs, Result, StatusRule, Step,
};
use crate::report::{COMMAND, Format, Reporter, Stream, text};
use crate::series::{self, Series};

/// Does what `args` say.
///
/// # Errors
/// A wrong selection or manifest; what goes wrong in runs is their outcome.
pub fn run(context: &Context, args: RunArgs) -> Result<u8> {
    let kernels = choose::kernels(context, &args.kernels, &args.variation)?;
    let series = match &args.each_patch {
        Some(name) => Some(series_on(context, name, &kernels)?),
        None => None,
    };
    let requests = if args.command.is_empty() {
        let selection =
            Selection { cases: args.cases, kernels, tags: args.tags, twins: args.twins };
        selection.requests(&context.project)?
    } else {
        if let Some(case) = args.cases.first() {
            return Err(Diagnostic::usage(format!("a case ({case}) and a command at once"))
                .help("leave the case out, or leave out what stands behind --"));
        }
        let case = command_case(context, &args.command, &args.programs)?;
        kernels
            .into_iter()
            .map(|kernel| Request {
                instance: Instance::new(&case, BTreeMap::new()),
                kernel,
                twin_of: None,
                review: false,
            })
            .collect()
    };
    if requests.is_empty() {
        edge::aside(
            "lab: nothing to run: no case is selected (lab list shows them, lab new NAME makes one)",
        );
        return Ok(4);
    }
    if args.dry_run {
        let stages = series.iter().flat_map(Series::stages);
        stages.for_each(|patch| edge::print(&format!("{}  {}\n", patch.number, patch.subject)));
        edge::print(&dry(&requests));
        return Ok(0);
    }
    let requests = repeated(&requests, args.repeat);
    let workshop = context.workshop(args.sandbox.map(Into::into), args.keep_disks)?;
    let format = format(args.json);
    let options = Options {
        jobs: args.jobs.unwrap_or_else(cores),
        // A transcript that comes and goes is nothing to accept.
        pending: !args.no_pending && args.repeat == 1,
        fail_flaky: false,
        fail_fast: args.fail_fast,
    };
    perform(context, &workshop, options, format, |dispatcher| match &series {
        Some(series) => series::walk(dispatcher, series, &requests),
        None => dispatcher.run(&requests),
    })
}

fn series_on(context: &Context, name: &str, kernels: &[KernelSpec]) -> Result<Series> {
    let [kernel] = kernels else {
        let names: Vec<&str> = kernels.iter().map(|spec| spec.name.as_str()).collect();
        return Err(Diagnostic::usage(format!(
            "--each-patch walks a series on one kernel, not on {}",
            names.join(", ")
        ))
        .help("name one that is built here, for example -k uml-6.1-src"));
    };
    Series::load(&context.project.root, &choose::patches(name), kernel)
}

/// Lets a dispatcher do `what` and reports it; also what `lab runs again` does.
///
/// # Errors
/// Signals that cannot be handled, and those of `what`.
pub fn perform(
    context: &Context,
    workshop: &Workshop,
    options: Options,
    format: Format,
    what: impl FnOnce(&Dispatcher<'_>) -> Result<u8>,
) -> Result<u8> {
    let cancel = Cancel::install()?;
    let before = context.before();
    let (reporter, events) = Reporter::start(format);
    let stream = Stream::new(events);
    let outcome = what(&Dispatcher {
        project: &context.project,
        workshop,
        sink: &stream,
        judge,
        cancel: cancel.fd(),
        cancelled: &cancel.flag,
        options,
    });
    drop(stream);
    reporter.finish();
    for freed in before.bound(&context.project.bounds, SystemTime::now()) {
        tracing::debug!(run = freed.what, why = %freed.why, "removed");
    }
    outcome
}

/// Text, with a live display where standard error is a terminal that can move its cursor; or JSON.
pub fn format(json: bool) -> Format {
    let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    match json {
        true => Format::Json,
        false => Format::Text { live: std::io::stderr().is_terminal() && !dumb },
    }
}

/// As many runs at once as there are cores.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn dry(requests: &[Request]) -> String {
    let rows: Vec<Vec<String>> = requests
        .iter()
        .map(|request| {
            let twin = request.instance.twin.as_ref();
            let twin = twin.map(|t| format!("twin, must end in {}", t.must)).unwrap_or_default();
            vec![request.instance.title(), request.kernel.name.clone(), twin]
        })
        .collect();
    text::columns(&rows)
}

/// A case that consists of one command.
fn command_case(context: &Context, words: &[String], programs: &[String]) -> Result<Case> {
    let run = match words {
        [one] => one.clone(),
        many => many.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" "),
    };
    let mut case = blank_case(context, programs)?;
    // The program that is called, if the base image lacks it and the host has it.
    let first = run.split_whitespace().next().unwrap_or_default().to_string();
    let base = &context.project.images["base"];
    let has = |name: &String| base.programs.contains(name) || base.optional.contains(name);
    if !has(&first) && crate::image::on_host(&first) {
        case.needs.programs.push(first);
    }
    case.steps = vec![Step {
        name: None,
        action: Action::Run(run),
        status: StatusRule::Is(0),
        stop: false,
        timeout: None,
    }];
    Ok(case)
}

/// A machine as a case without any wishes gets it.
///
/// # Errors
/// Never today; kept for manifests' defaults that may depend on the host.
pub fn blank_case(context: &Context, programs: &[String]) -> Result<Case> {
    Ok(Case {
        name: COMMAND.into(),
        dir: context.project.root.clone(),
        summary: "one command".into(),
        refs: Vec::new(),
        tags: Vec::new(),
        needs: Needs { programs: programs.to_vec(), ..Needs::default() },
        // A person may sit at it, or wait for a long command.
        machine: MachineSpec { timeout: Duration::from_secs(600), ..MachineSpec::default() },
        params: BTreeMap::new(),
        steps: Vec::new(),
        filters: Vec::new(),
        asserts: Vec::new(),
        allow: Vec::new(),
        variants: BTreeMap::new(),
        twins: Vec::new(),
        files: BTreeMap::new(),
    })
}

/// A word as the shell reads it back unchanged.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+%@".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_string(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn words_survive_the_shell() {
        for word in ["a", "a b", "it's", "", "$x;`y`", "-n", "a\nb"] {
            let output = std::process::Command::new("sh")
                .args(["-c", &format!("printf %s {}", quoted(word))])
                .output()
                .unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), word);
        }
    }
}
