//! The command line: one file a command, and the edge at which errors become paragraphs and exit
//! codes.

mod args;
mod bundle;
mod cases;
mod choose;
mod doctor;
mod edge;
mod environment;
mod gc;
mod kernel;
mod kernel_list;
mod programs;
mod review;
mod run;
mod runs;
mod shell;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

pub use args::Cli;
use args::{Command, KernelCommand, RunsCommand};
#[cfg(any(test, fuzzing))]
pub(crate) use edge::paragraph;
pub use environment::{Cancel, Dirs};

use crate::manifest::Result;
use environment::Context;

/// What each exit code says; also the text of `lab help exit-codes`.
pub const EXIT_CODES: &str = "\
Exit codes of lab:
    0  all is well: pass, known and skip only
    1  some run failed, or one that is listed as known passes now (fixed)
    2  wrong usage, or a wrong manifest: nothing was run
    3  the lab cannot tell (broken), no network, a package failed verification
    4  nothing ran: no case was selected, or all were skipped
  130  interrupted
Where several apply, 1 beats 3 and 3 beats 4.
";

/// Parses the command line and does what it says.
pub fn main() -> ExitCode {
    environment::start_tracing();
    let args: Vec<_> = std::env::args_os().collect();
    // clap's own help knows commands only; topics beside them are answered here.
    if args.len() == 3 && args[1] == "help" && args[2] == "exit-codes" {
        edge::print(EXIT_CODES);
        return ExitCode::SUCCESS;
    }
    let cli = Cli::parse_from(args);
    match dispatch(cli) {
        Ok(code) => ExitCode::from(code),
        Err(error) => edge::report(&error),
    }
}

fn dispatch(cli: Cli) -> Result<u8> {
    let start = environment::start_folder(cli.directory.as_deref())?;
    let context = || Context::load(&start);
    match cli.command {
        Command::Run(args) => run::run(&context()?, args),
        Command::Shell(args) => shell::shell(&context()?, &args),
        Command::Review => review::review(&context()?),
        Command::Accept(args) => review::accept(&context()?, &args),
        Command::List(args) => cases::list(&context()?, &args),
        Command::Show { case, json } => cases::show(&context()?, &case, json),
        Command::New { case } => cases::new(&context()?, &case),
        Command::Init => cases::init(&start),
        Command::Runs { command } => {
            let default = RunsCommand::List { json: false, count: 20 };
            runs::runs(&context()?, command.unwrap_or(default))
        }
        Command::Kernel { command } => {
            kernel::kernel(&context()?, command.unwrap_or(KernelCommand::List { json: false }))
        }
        Command::Gc(args) => gc::gc(&context()?, &args),
        Command::Doctor { packages: true, .. } => doctor::packages_to_install(&context()?),
        Command::Doctor { json, .. } => doctor::doctor(&context()?, json),
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "lab", &mut text);
            edge::print(&String::from_utf8_lossy(&text));
            Ok(0)
        }
        Command::Man => {
            let mut text = Vec::new();
            clap_mangen::Man::new(Cli::command())
                .render(&mut text)
                .map_err(|e| crate::manifest::Diagnostic::trouble(e.to_string()))?;
            edge::print(&String::from_utf8_lossy(&text));
            Ok(0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
