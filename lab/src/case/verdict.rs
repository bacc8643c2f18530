//! The words of a verdict: outcomes, reasons, signatures. [`super::judge`] puts them together.

use serde::{Deserialize, Serialize};

use crate::console::Splat;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Complete evidence, and nothing wrong.
    Pass,
    /// The kernel, or the case, failed.
    Fail,
    /// The lab cannot tell; it says why.
    Broken,
    /// It could not run here, for a reason that is nobody's failure.
    Skip,
    /// A failure that lab.toml lists, exactly as it was accepted.
    Known,
    /// Listed as known, and yet it passes.
    Fixed,
    /// Passed only on a retry.
    Flaky,
}

/// What a verdict rests on; the first of a verdict's reasons decides its outcome.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// The user or a signal ended it.
    Interrupted,
    /// Bytes on the control channel that PID 1 did not write.
    Forged(String),
    /// The kernel's own words.
    Splat(Splat),
    /// PID 1 did not answer.
    Hang {
        /// Seconds without an answer.
        seconds: u64,
        /// The step that ran.
        step: Option<usize>,
    },
    /// Too slow.
    Timeout {
        /// What took too long, in words.
        what: String,
        /// The deadline in milliseconds.
        limit_ms: u64,
    },
    /// The machine did not start.
    NotStarted(String),
    /// PID 1 could not prepare the guest.
    SetUp(String),
    /// The machine ended before its time; how, and its last words.
    Died(String),
    /// A piece of evidence is missing.
    Incomplete(String),
    /// A step ended the shell, so that the steps after it have none.
    ShellGone(usize),
    /// Trouble on the host.
    Host(String),
    /// A step's status.
    Status {
        /// The step, from 0.
        step: usize,
        /// What it should have been.
        expected: i32,
        /// What it was.
        got: i32,
    },
    /// The transcript differs from the accepted one.
    Output,
    /// A comparison of measures does not hold.
    Assertion(String),
    /// There is no accepted transcript yet.
    Unreviewed,
}

/// What known failures and bisection compare: the same failure has the same signature.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Signature(pub String);

impl Outcome {
    /// The word in reports, manifests and exit codes' help.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Broken => "broken",
            Self::Skip => "skip",
            Self::Known => "known",
            Self::Fixed => "fixed",
            Self::Flaky => "flaky",
        }
    }
}

impl Reason {
    /// Whether it is about what the steps printed and returned: the fifth rule.
    pub fn is_of_the_transcript(&self) -> bool {
        matches!(self, Self::Status { .. } | Self::Output | Self::Assertion(_))
    }

    /// Whether it is about the lab's own circumstances, so that a twin that ends so shows nothing
    /// of its case.
    pub fn proves_nothing(&self) -> bool {
        matches!(self, Self::Interrupted | Self::Unreviewed | Self::NotStarted(_) | Self::Host(_))
    }

    /// The word that twins and reports use.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Interrupted => "interrupted",
            Self::Forged(_) => "forged",
            Self::Splat(_) => "splat",
            Self::Hang { .. } => "hang",
            Self::Timeout { .. } => "timeout",
            Self::NotStarted(_) => "not-started",
            Self::SetUp(_) => "set-up",
            Self::Died(_) => "died",
            Self::Incomplete(_) => "incomplete",
            Self::ShellGone(_) => "shell-gone",
            Self::Host(_) => "host",
            Self::Status { .. } => "status",
            Self::Output => "output",
            Self::Assertion(_) => "assertion",
            Self::Unreviewed => "unreviewed",
        }
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Interrupted => f.write_str("interrupted"),
            Self::Forged(what) => {
                write!(f, "the control channel carried what PID 1 did not write: {what}")
            }
            Self::Splat(splat) => {
                write!(f, "{} (kernel.log:{}): {}", splat.kind.name(), splat.number, splat.line)
            }
            Self::Hang { seconds, step: Some(step) } => {
                write!(f, "hang in step {}: PID 1 did not answer for {seconds} s", step + 1)
            }
            Self::Hang { seconds, step: None } => {
                write!(f, "hang: PID 1 did not answer for {seconds} s")
            }
            Self::Timeout { what, limit_ms } => {
                write!(f, "{what} took longer than {} s", *limit_ms as f64 / 1000.0)
            }
            Self::NotStarted(why) => write!(f, "the machine did not start: {why}"),
            Self::SetUp(what) => write!(f, "PID 1 reports trouble: {what}"),
            Self::Died(how) => write!(f, "the machine died: {how}"),
            Self::Incomplete(what) => write!(f, "evidence is missing: {what}"),
            Self::ShellGone(step) => {
                write!(f, "step {} ended the shell that all steps share", step + 1)
            }
            Self::Host(what) => write!(f, "trouble on the host: {what}"),
            Self::Status { step, expected, got } => {
                write!(f, "step {} ended with status {got}, not {expected}", step + 1)
            }
            Self::Output => f.write_str("the transcript differs from the accepted one"),
            Self::Assertion(what) => write!(f, "does not hold: {what}"),
            Self::Unreviewed => f.write_str("there is no accepted transcript yet"),
        }
    }
}
