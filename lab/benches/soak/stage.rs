//! One stage of a soak: one `lab run --repeat N`, watched from outside while it lives, and the host
//! looked at before and after.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use lab::case::{RunState, list_runs};
use lab::report::{Event, RunResult, What};

/// How long what ends with a delay (an orphan, a lazy unmount) may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a stage does.
#[derive(Clone, Debug)]
pub struct Stage {
    /// The project's folder, made for the soak.
    pub project: PathBuf,
    pub case: String,
    pub kernel: String,
    pub runs: usize,
    pub jobs: usize,
}

/// What came of it.
#[derive(Debug)]
pub struct Report {
    pub stage: Stage,
    /// The verdicts (`pass`, `fail:output`, ...) and how many runs had each.
    pub verdicts: BTreeMap<String, usize>,
    /// Milliseconds from a run's start to its verdict, sorted.
    pub times: Vec<u64>,
    /// The lab process whenever a run had ended, in that order.
    pub samples: Vec<Sample>,
    pub before: Host,
    pub after: Host,
    /// Bytes that the run folders have.
    pub folder_bytes: u64,
    /// What is not as it should be: none in a sound stage.
    pub findings: Vec<String>,
    /// Folders of the runs whose verdict is not `pass`.
    pub kept: Vec<PathBuf>,
}

/// The lab process at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Open descriptors.
    pub descriptors: usize,
    /// Resident memory in KiB.
    pub resident: usize,
    pub threads: usize,
}

/// What a run could leave behind on the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// Processes that descend from the soak: as a subreaper it inherits every orphan (prctl(2)).
    pub processes: Vec<String>,
    /// Mounts of its mount namespace.
    pub mounts: Vec<String>,
    /// Names in /dev/shm.
    pub shm: Vec<String>,
    /// Names in the lab's TMPDIR and home, which are the soak's own.
    pub temporary: Vec<String>,
    /// Names in the project's folder of runs.
    pub runs: usize,
}

impl Stage {
    /// Does the runs.
    pub fn perform(self) -> Report {
        let before = Host::look(&self.project);
        let mut lab = Lab::start(&self);
        let pid = lab.0.id();
        let events = BufReader::new(lab.0.stdout.take().expect("it is a pipe"));
        let (mut begun, mut times, mut samples) = (BTreeMap::new(), Vec::new(), Vec::new());
        let mut results: Vec<RunResult> = Vec::new();
        for line in events.lines() {
            let line = line.expect("the lab's output can be read");
            let event: Event = serde_json::from_str(&line).expect("events are JSON");
            match event.what {
                What::RunStarted { run } => drop(begun.insert(run.number, event.ms)),
                What::RunEnded { result } => {
                    samples.extend(Sample::of(pid));
                    times.push(event.ms - begun[&result.run.number]);
                    results.push(*result);
                    if results.len().is_multiple_of(50) {
                        eprintln!("soak: {} of {} runs of {}", results.len(), self.runs, self.case);
                    }
                }
                _ => {}
            }
        }
        let exit = lab.0.wait().expect("the lab is waited for").code();
        let after = Host::settled(&self.project, &before);
        times.sort_unstable();
        let mut verdicts = BTreeMap::new();
        for result in &results {
            *verdicts.entry(result.code.clone()).or_default() += 1;
        }
        let differing = || results.iter().filter(|result| result.code != "pass");
        let mut report = Report {
            folder_bytes: bytes_below(&self.project.join(".lab/runs")),
            kept: differing().filter_map(|result| result.folder.clone()).collect(),
            findings: Vec::new(),
            verdicts,
            times,
            samples,
            before,
            after,
            stage: self,
        };
        report.judge(exit, results.len());
        report
    }

    /// The command line, for people.
    pub fn command(&self) -> String {
        format!("lab {}", self.args().join(" "))
    }

    fn args(&self) -> Vec<String> {
        let (runs, jobs) = (self.runs.to_string(), self.jobs.to_string());
        ["run", &self.case, "-k", &self.kernel, "--repeat", &runs, "-j", &jobs, "--json"]
            .map(String::from)
            .to_vec()
    }
}

impl Report {
    /// Compares what was seen with what a sound lab leaves.
    pub fn judge(&mut self, exit: Option<i32>, ended: usize) {
        let mut findings = Vec::new();
        let all = self.stage.runs;
        if ended != all {
            findings.push(format!("{ended} of {all} runs were decided"));
        }
        for (verdict, count) in self.verdicts.iter().filter(|(verdict, _)| *verdict != "pass") {
            findings.push(format!("{count} of {all} runs are {verdict}"));
        }
        if exit != Some(0) {
            findings.push(format!("the lab's exit code is {exit:?}"));
        }
        let lost = self.kept.iter().filter(|folder| !folder.join("result.json").is_file()).count();
        if lost > 0 {
            findings.push(format!("{lost} folders of differing runs are gone"));
        }
        let (before, after) = (&self.before, &self.after);
        for (what, before, after) in [
            ("process", &before.processes, &after.processes),
            ("mount", &before.mounts, &after.mounts),
            ("/dev/shm", &before.shm, &after.shm),
            ("temporary file", &before.temporary, &after.temporary),
        ] {
            let new = after.iter().filter(|name| !before.contains(name));
            findings.extend(new.map(|name| format!("left behind: {what} {name}")));
        }
        if after.runs > before.runs + all {
            findings.push(format!("{} folders of {all} runs", after.runs - before.runs));
        }
        let unfinished = list_runs(&self.stage.project.join(".lab/runs")).map(|runs| {
            runs.iter().filter(|run| !matches!(run.state, RunState::Finished(_))).count()
        });
        if unfinished.as_ref().ok() != Some(&0) {
            findings.push(format!("runs that are not finished: {unfinished:?}"));
        }
        // Minima, because a sample falls into any phase of the next run.
        let (first, last) = self.edges(|sample| sample.descriptors);
        if last > first + 2 {
            findings.push(format!("open descriptors grow: {first} at first, {last} at last"));
        }
        let (first, last) = self.edges(|sample| sample.threads);
        if last > first + 2 {
            findings.push(format!("threads grow: {first} at first, {last} at last"));
        }
        // The results that are counted at the end are some hundreds of bytes each.
        let (first, last) = self.edges(|sample| sample.resident);
        if last > first + 4096 + 8 * all {
            findings.push(format!("resident memory grows: {first} KiB at first, {last} at last"));
        }
        self.findings = findings;
    }

    /// The least of the first quarter of the samples, and that of the last.
    pub fn edges(&self, of: impl Fn(&Sample) -> usize) -> (usize, usize) {
        let quarter = self.samples.len().div_ceil(4);
        let least = |samples: &[Sample]| samples.iter().map(&of).min().unwrap_or_default();
        (least(&self.samples[..quarter]), least(&self.samples[self.samples.len() - quarter..]))
    }
}

/// The lab, which does not outlive the soak.
struct Lab(Child);

impl Lab {
    fn start(stage: &Stage) -> Self {
        let folder = stage.project.parent().expect("it is in the soak's folder");
        let child = Command::new(env!("CARGO_BIN_EXE_lab"))
            .args(stage.args())
            .current_dir(&stage.project)
            .env("LAB_CACHE", super::support::cache())
            .env("TMPDIR", folder.join("tmp"))
            .env("HOME", folder.join("home"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn();
        Self(child.expect("the lab starts"))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Sample {
    /// `None` where the process is just ending.
    fn of(pid: u32) -> Option<Self> {
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse().ok()
        };
        let (resident, threads) = (field("VmRSS:")?, field("Threads:")?);
        Some(Self { descriptors, resident, threads })
    }
}

impl Host {
    /// As it is now.
    pub fn look(project: &Path) -> Self {
        let folder = project.parent().expect("it is in the soak's folder");
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("/proc is there");
        let mut temporary = names(&folder.join("tmp"));
        temporary.extend(names(&folder.join("home")));
        Self {
            processes: descendants(),
            mounts: mounts.lines().map(str::to_string).collect(),
            shm: names(Path::new("/dev/shm")),
            temporary,
            runs: names(&project.join(".lab/runs")).len(),
        }
    }

    /// Looks until nothing is left, or patience is over.
    fn settled(project: &Path, before: &Self) -> Self {
        let begun = Instant::now();
        loop {
            let now = Self::look(project);
            let runs = now.runs;
            if now == (Self { runs, ..before.clone() }) || begun.elapsed() > PATIENCE {
                return now;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// The processes whose parent is this one, zombies too: `PID NAME`.
fn descendants() -> Vec<String> {
    let threads = fs::read_dir("/proc/self/task").expect("/proc is there").flatten();
    let children = threads.filter_map(|t| fs::read_to_string(t.path().join("children")).ok());
    let children: String = children.collect();
    let name = |pid: &str| {
        let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        format!("{pid} {}", comm.trim())
    };
    children.split_whitespace().map(name).collect()
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn bytes_below(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => bytes_below(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    };
    entries.map(size).sum()
}
