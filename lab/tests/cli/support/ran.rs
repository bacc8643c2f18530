//! How a command ended, and what can be asserted of it in one line each.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use lab::report::{Event, RunResult, What};

/// A command that ended.
pub struct Ran {
    pub args: Vec<String>,
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
    pub took: Duration,
}

impl std::fmt::Display for Ran {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { args, status, stdout, stderr, took } = self;
        let args = args.join(" ");
        write!(
            f,
            "lab {args}: {status} after {took:?}\n--- stdout\n{stdout}--- stderr\n{stderr}---"
        )
    }
}

impl Ran {
    /// Asserts the exit code. Nothing that the lab says may be a panic of its own.
    #[track_caller]
    pub fn code(&self, code: i32) -> &Self {
        assert_eq!(self.status.code(), Some(code), "(signal {:?}) {self}", self.status.signal());
        assert!(!self.stderr.contains("panicked"), "{self}");
        self
    }

    /// Asserts that standard output has this text.
    #[track_caller]
    pub fn out(&self, text: &str) -> &Self {
        assert!(self.stdout.contains(text), "no {text:?} in the output of {self}");
        self
    }

    /// Asserts that it has not.
    #[track_caller]
    pub fn not_out(&self, text: &str) -> &Self {
        assert!(!self.stdout.contains(text), "{text:?} in the output of {self}");
        self
    }

    /// Asserts that standard error has this text.
    #[track_caller]
    pub fn err(&self, text: &str) -> &Self {
        assert!(self.stderr.contains(text), "no {text:?} in the errors of {self}");
        self
    }

    /// Standard output as events, each of which must be one.
    #[track_caller]
    pub fn events(&self) -> Vec<Event> {
        let event = |line: &str| {
            serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line:?}\n{self}"))
        };
        self.stdout.lines().map(event).collect()
    }

    /// The results among the events, in the order of the command.
    #[track_caller]
    pub fn results(&self) -> Vec<RunResult> {
        results(&self.events())
    }

    /// The only result.
    #[track_caller]
    pub fn result(&self) -> RunResult {
        let mut results = self.results();
        assert_eq!(results.len(), 1, "{self}");
        results.remove(0)
    }

    /// Standard output as one JSON value.
    #[track_caller]
    pub fn value(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {self}"))
    }
}

/// The results among events, in the order of the command.
pub fn results(events: &[Event]) -> Vec<RunResult> {
    let result = |event: &Event| match &event.what {
        What::RunEnded { result } => Some((**result).clone()),
        _ => None,
    };
    let mut results: Vec<_> = events.iter().filter_map(result).collect();
    results.sort_by_key(|result| result.run.number);
    results
}
