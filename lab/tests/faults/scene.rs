//! Where a fault takes place: a project of its own, a kernel, and the ways to run the lab there.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, OnceLock};

use lab::report::RunResult;

use crate::row::{Seen, count_twin};
use crate::support::{LAB, Lab, Ran, lab_for, lab_for_built, tokens};

/// The case that a scene runs.
pub const CASE: &str = "fault";

/// A project with a kernel to run on.
pub struct Scene {
    pub lab: Lab,
    pub kernel: &'static str,
}

impl Scene {
    /// `None`, once said, where the kernel cannot be had here.
    pub fn set(kernel: &'static str) -> Option<Self> {
        let lab = match kernel.ends_with("-debug") {
            true => lab_for_built(&[kernel])?,
            false => lab_for(&[kernel])?,
        };
        Some(Self { lab, kernel })
    }

    /// What runs the case.
    pub fn args(&self) -> [&str; 5] {
        ["run", CASE, "-k", self.kernel, "--json"]
    }

    /// Runs it.
    pub fn run(&self) -> Ran {
        self.lab.boot(&self.args())
    }

    /// Runs the lab in user and mount namespaces, after `prepare` was done there in a shell.
    pub fn run_after(&self, prepare: &str, args: &[&str]) -> Ran {
        let script = format!("{prepare}\nexec \"$@\"");
        let mut command = std::process::Command::new("unshare");
        command.args(["-Urm", "sh", "-ec", &script, "sh", LAB]).args(args);
        self.lab.settle(&mut command);
        self.lab.launch(command, Some(tokens(1)), Stdio::null()).wait()
    }

    /// Puts the case there.
    pub fn case(&self, text: &str) {
        self.lab.case(CASE, text);
    }

    /// Puts the case there with the transcript that it has without its fault: the twin's, which is
    /// run before, twice, and must pass. Each text of a twin is run once for all faults.
    pub fn case_with_twin(&self, text: &str, twin: &str) {
        static KNOWN: Mutex<BTreeMap<String, Arc<OnceLock<String>>>> = Mutex::new(BTreeMap::new());
        let key = format!("{}\n{twin}", self.kernel);
        let known = Arc::clone(KNOWN.lock().unwrap().entry(key).or_default());
        let accepted = known.get_or_init(|| self.accepted(twin));
        self.case(text);
        self.lab.write(&format!("cases/{CASE}/snapshots/transcript.snap"), accepted);
    }

    fn accepted(&self, twin: &str) -> String {
        let scene = Self::set(self.kernel).expect("it was set before");
        scene.case(twin);
        let first = scene.run();
        let kinds: Vec<_> = first.result().reasons.into_iter().map(|r| r.kind).collect();
        assert_eq!((first.status.code(), kinds), (Some(1), vec!["unreviewed".into()]), "{first}");
        scene.lab.lab(&["accept", CASE]).code(0);
        let second = scene.run();
        second.code(0);
        assert_eq!(second.result().code, "pass", "{second}");
        count_twin();
        scene.lab.read(&format!("cases/{CASE}/snapshots/transcript.snap"))
    }
}

/// What a command with one run ended in.
pub fn seen(ran: &Ran) -> Seen {
    assert!(!ran.stderr.contains("panicked"), "{ran}");
    let results = ran.results();
    assert!(results.len() <= 1, "{ran}");
    let (code, says) = match results.first() {
        Some(result) => (result.code.clone(), deciding(result)),
        None => ("none".into(), ran.stderr.clone()),
    };
    Seen { code, exit: exit(ran.status), says }
}

/// The text of the reason that decided.
pub fn deciding(result: &RunResult) -> String {
    result.reasons.first().map(|reason| reason.text.clone()).unwrap_or_default()
}

/// As a shell says it.
pub fn exit(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
}
