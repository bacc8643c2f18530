//! Workload programs of lab's cases in one binary, so that an image carries the C library's static
//! part once: the tool is chosen by the name it is called by, or by the first argument.

mod args;
mod noise;

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::process::ExitCode;

/// One tool. Whoever adds one adds its name to TOOL_NAMES in lab/src/image/recipe.rs too, which
/// makes the link in /bin; a test compares the two.
struct Tool {
    name: &'static str,
    about: &'static str,
    help: &'static str,
    run: fn(&[String], &mut dyn Write) -> Result<(), Error>,
}

/// All tools, by name.
const TOOLS: &[Tool] =
    &[Tool { name: "noise", about: noise::ABOUT, help: noise::HELP, run: noise::run }];

/// Why a tool failed.
#[derive(Debug)]
enum Error {
    /// Wrong arguments: status 2.
    Usage(String),
    /// Output failed: status 1. A reader that has gone is no error worth words.
    Output(io::Error),
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

/// Big enough that the guest's system calls do not dominate, small enough for its caches.
const BUFFER: usize = 64 << 10;

fn main() -> ExitCode {
    let mut words = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
    let called = words.next().unwrap_or_default();
    let called = called.rsplit('/').next().unwrap_or_default().to_string();
    let mut words: Vec<String> = words.collect();
    let mut tool = find(&called);
    if tool.is_none() && !words.is_empty() {
        tool = find(&words[0]);
        if tool.is_some() {
            words.remove(0);
        }
    }
    // Not Stdout itself, which would split each buffer at its last newline.
    let stdout = match io::stdout().as_fd().try_clone_to_owned() {
        Ok(descriptor) => File::from(descriptor),
        Err(error) => {
            complain(&format!("lab-tools: no standard output: {error}"));
            return ExitCode::from(1);
        }
    };
    let mut out = io::BufWriter::with_capacity(BUFFER, stdout);
    let done = match tool {
        Some(tool) if words.iter().any(|w| w == "--help" || w == "-h") => {
            out.write_all(tool.help.as_bytes()).map_err(Error::from)
        }
        Some(tool) => (tool.run)(&words, &mut out),
        None => overview(&words, &mut out),
    };
    let done = done.and_then(|()| out.flush().map_err(Error::from));
    let name = tool.map_or("lab-tools", |tool| tool.name);
    let status = match done {
        Ok(()) => 0,
        Err(Error::Usage(message)) => {
            complain(&format!("{name}: {message}; see `{name} --help`"));
            2
        }
        Err(Error::Output(error)) => {
            if error.kind() != io::ErrorKind::BrokenPipe {
                complain(&format!("{name}: cannot write: {error}"));
            }
            1
        }
    };
    // What could not be written must not be tried again when the buffer is dropped.
    drop(out.into_parts());
    ExitCode::from(status)
}

fn find(name: &str) -> Option<&'static Tool> {
    TOOLS.iter().find(|tool| tool.name == name)
}

/// `lab-tools --list` and `--help`.
fn overview(words: &[String], out: &mut dyn Write) -> Result<(), Error> {
    match words {
        [word] if word == "--list" => {
            for tool in TOOLS {
                writeln!(out, "{}", tool.name)?;
            }
        }
        [word] if word == "--help" || word == "-h" => {
            writeln!(out, "Workload programs of lab's cases: lab-tools TOOL [ARGUMENT]...\n")?;
            for tool in TOOLS {
                writeln!(out, "  {:12} {}", tool.name, tool.about)?;
            }
            writeln!(out, "\n`lab-tools --list` prints the names, `TOOL --help` tells more.")?;
        }
        [] => return Err(Error::Usage("which tool".into())),
        [word, ..] => return Err(Error::Usage(format!("there is no tool {word:?}"))),
    }
    Ok(())
}

/// Standard error may be gone as well; then there is nobody to tell.
fn complain(message: &str) {
    let _ = writeln!(io::stderr(), "{message}");
}
