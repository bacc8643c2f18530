//! The one typed, versioned stream of what happens: reporters draw it, `--json` prints it, and on
//! disk it is the record of a command.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::mpsc::Sender;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::patch::{PatchRef, PatchResult};
use crate::case::{Outcome, Reason};
use crate::kernel::PullProgress;
use crate::machine::Isolation;
use crate::manifest::Detector;
use crate::snapshot::DiffLine;

/// Frames of a splat's stack that are shown with it; its whole report is in evidence.json.
const FRAMES: usize = 8;

/// Version of the stream; a field's meaning never changes within one.
pub const VERSION: u32 = 1;

/// One thing that happened.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Event {
    /// [`VERSION`].
    pub v: u32,
    /// Milliseconds since the command's start, by the host's monotonic clock.
    pub ms: u64,
    /// What.
    #[serde(flatten)]
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum What {
    /// The command knows what it will run.
    Started {
        /// Runs, in the order of the command.
        runs: Vec<RunRef>,
        /// How many at once.
        jobs: usize,
    },
    /// A kernel is being fetched.
    Pulling {
        /// Its name.
        kernel: String,
        /// What is being done, in words.
        phase: String,
    },
    /// A kernel has been fetched.
    Pulled {
        /// Its name.
        kernel: String,
        /// `uname -r`.
        release: String,
        /// Package and version.
        origin: String,
        /// Milliseconds that it took.
        took_ms: u64,
    },
    /// Something worth saying once.
    Note {
        /// One sentence.
        text: String,
    },
    /// A run starts.
    RunStarted {
        /// Which.
        run: RunRef,
    },
    /// The guest is ready for the first step of a boot.
    RunReady {
        /// The run's number.
        number: usize,
        /// Which boot of its machine this is, from 0.
        #[serde(default)]
        boot: u32,
        /// Milliseconds since its machine's start, or its start again.
        boot_ms: u64,
    },
    /// A step begins.
    StepStarted {
        /// The run's number.
        number: usize,
        /// The step, from 0.
        step: usize,
        /// How many steps there are.
        of: usize,
        /// Its name or the first line of its command.
        title: String,
    },
    /// A step ended.
    StepEnded {
        /// The run's number.
        number: usize,
        /// The step, from 0.
        step: usize,
        /// The shell's status.
        status: i32,
        /// Microseconds of the guest's clock.
        micros: u64,
    },
    /// A run is decided.
    RunEnded {
        /// How.
        result: Box<RunResult>,
    },
    /// A patch of a series is tried: the runs that follow are its.
    PatchStarted {
        /// Which.
        patch: PatchRef,
    },
    /// A patch of a series has been tried.
    PatchTried {
        /// How far it came.
        result: Box<PatchResult>,
    },
    /// Transcripts that wait for review.
    Pending {
        /// Which.
        files: Vec<PendingNote>,
    },
    /// The command is over.
    Ended {
        /// How many of each outcome.
        tally: Tally,
        /// The exit code that follows.
        exit: u8,
    },
}

impl What {
    /// News of a kernel that is being fetched or built. Warnings and notes stay on the screen; what
    /// is being done makes place for what is done next.
    pub fn pulling(kernel: &str, progress: &PullProgress) -> Self {
        match progress {
            PullProgress::Warning(text) | PullProgress::Note(text) => {
                Self::Note { text: format!("{kernel}: {text}") }
            }
            _ => Self::Pulling { kernel: kernel.to_string(), phase: progress.to_string() },
        }
    }
}

/// Which run is meant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunRef {
    /// Number within the command, from 0.
    pub number: usize,
    /// The case; `command` for a one-off.
    pub case: String,
    /// Its parameters.
    pub params: BTreeMap<String, String>,
    /// The kernel's name.
    pub kernel: String,
    /// For a twin: what it must end in.
    pub twin: Option<String>,
}

/// One reason of a verdict, for people and programs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReasonLine {
    /// The word that twins use.
    pub kind: String,
    /// One sentence.
    pub text: String,
    /// For a splat: the first frames of its stack, as the kernel printed them; behind it in
    /// parentheses file and line, where the kernel has debug information.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stack: Vec<String>,
}

/// A command that helps further.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hint {
    /// What for, for example `accept it`.
    pub what: String,
    /// The command line.
    pub command: String,
}

/// How a run was decided, and what a person needs to see of it. Kept as the run's `result.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunResult {
    /// Which run.
    pub run: RunRef,
    /// The folder's name; `None` where nothing was started.
    pub id: Option<String>,
    /// The folder.
    pub folder: Option<PathBuf>,
    /// The outcome.
    pub outcome: Outcome,
    /// The verdict as twins name it, before `[[known]]` was asked.
    pub code: String,
    /// Why, the deciding reason first.
    pub reasons: Vec<ReasonLine>,
    /// The failure's signature.
    pub signature: Option<String>,
    /// Why the machine never came to its first step, where that is known.
    #[serde(default)]
    pub cause: Option<String>,
    /// What was looked at before a machine that stood still was killed, and where that is.
    #[serde(default)]
    pub looks: Vec<String>,
    /// Why it is known, skipped, or what a twin proved.
    pub note: Option<String>,
    /// Program versions that differ from those of the accepted transcript: to be read first.
    pub versions: Vec<String>,
    /// The difference to the accepted transcript.
    pub diff: Vec<DiffLine>,
    /// The transcript, where it is to be shown whole: a new case's, a one-off command's.
    pub transcript: Option<String>,
    /// `uname -r`.
    pub release: Option<String>,
    /// How the guest was kept from the host.
    pub isolation: Option<Isolation>,
    /// What the kernel can notice of its own faults: silence of the others means nothing.
    pub detectors: Vec<Detector>,
    /// How many times the machine was started.
    #[serde(default)]
    pub boots: usize,
    /// Milliseconds from the machine's start to its being ready.
    pub ready_ms: Option<u64>,
    /// Milliseconds from the machine's start to its (last) end.
    pub total_ms: Option<u64>,
    /// When it started, seconds since the epoch.
    pub at: u64,
    /// What to do next.
    pub hints: Vec<Hint>,
}

/// A transcript that waits for review.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PendingNote {
    /// The case.
    pub case: String,
    /// The file.
    pub path: PathBuf,
}

/// How many runs ended how.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tally(pub BTreeMap<Outcome, usize>);

/// Takes events; the library's only way to say anything.
pub trait Sink: Sync {
    /// Says that something happened.
    fn emit(&self, what: What);
}

/// A sink that stamps events and hands them to a reporter's thread.
#[derive(Debug)]
pub struct Stream {
    started: Instant,
    sender: Mutex<Sender<Event>>,
}

impl Stream {
    /// Events go to `sender`, stamped from now on.
    pub fn new(sender: Sender<Event>) -> Self {
        Self { started: Instant::now(), sender: Mutex::new(sender) }
    }
}

impl Sink for Stream {
    fn emit(&self, what: What) {
        let ms = self.started.elapsed().as_millis() as u64;
        let event = Event { v: VERSION, ms, what };
        if let Ok(sender) = self.sender.lock() {
            // A reporter that is gone has nobody to report to.
            let _ = sender.send(event);
        }
    }
}

impl From<&Reason> for ReasonLine {
    fn from(reason: &Reason) -> Self {
        let stack = match reason {
            Reason::Splat(splat) => splat.stack(FRAMES),
            _ => Vec::new(),
        };
        let plain = super::text::plain;
        Self {
            kind: reason.kind().to_string(),
            text: plain(&reason.to_string()),
            stack: stack.into_iter().map(|line| plain(line.trim())).collect(),
        }
    }
}

impl Tally {
    /// Counts one more.
    pub fn add(&mut self, outcome: Outcome) {
        *self.0.entry(outcome).or_default() += 1;
    }

    /// How many ended so.
    pub fn count(&self, outcome: Outcome) -> usize {
        self.0.get(&outcome).copied().unwrap_or_default()
    }

    /// The exit code: 1 some fail or fixed (flaky only if asked), 3 some broken, 4 nothing ran
    /// (none selected, or all skipped), else 0; 1 beats 3 beats 4.
    pub fn exit_code(&self, fail_flaky: bool) -> u8 {
        let any = |outcome| self.count(outcome) > 0;
        let total: usize = self.0.values().sum();
        if any(Outcome::Fail) || any(Outcome::Fixed) || (fail_flaky && any(Outcome::Flaky)) {
            1
        } else if any(Outcome::Broken) {
            3
        } else if total == self.count(Outcome::Skip) {
            4
        } else {
            0
        }
    }
}

impl RunRef {
    /// `NAME [a=1]`, with `twin` said.
    pub fn title(&self) -> String {
        let mut title = self.case.clone();
        if !self.params.is_empty() {
            let values: Vec<_> = self.params.iter().map(|(k, v)| format!("{k}={v}")).collect();
            title = format!("{title} [{}]", values.join(" "));
        }
        if self.twin.is_some() {
            title.push_str(" (twin)");
        }
        title
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_as_documented() {
        let code = |outcomes: &[Outcome], fail_flaky| {
            let mut tally = Tally::default();
            outcomes.iter().for_each(|o| tally.add(*o));
            tally.exit_code(fail_flaky)
        };
        use Outcome::*;
        assert_eq!(code(&[], false), 4);
        assert_eq!(code(&[Skip, Skip], false), 4);
        assert_eq!(code(&[Pass, Skip, Known], false), 0);
        assert_eq!(code(&[Known], false), 0);
        assert_eq!(code(&[Pass, Broken], false), 3);
        assert_eq!(code(&[Skip, Broken], false), 3);
        assert_eq!(code(&[Fail, Broken], false), 1);
        assert_eq!(code(&[Fixed, Pass], false), 1);
        assert_eq!((code(&[Flaky], false), code(&[Flaky], true)), (0, 1));
    }

    #[test]
    fn events_survive_a_round_trip() {
        let what = What::StepStarted { number: 1, step: 0, of: 2, title: "x".into() };
        let line = serde_json::to_string(&Event { v: VERSION, ms: 5, what }).unwrap();
        assert!(line.starts_with(r#"{"v":1,"ms":5,"event":"step-started""#), "{line}");
        let back: Event = serde_json::from_str(&line).unwrap();
        assert!(matches!(back.what, What::StepStarted { of: 2, .. }));
    }
}
