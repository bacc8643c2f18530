//! A run's folder, `.lab/runs/ID/`: all that is known of it, for people and for `lab runs`.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nix::fcntl::{Flock, FlockArg};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::plan::RunPlan;
use crate::manifest::{Diagnostic, Result};
use crate::report::RunResult;

/// A run's folder while the run is alive; a lock held for life tells it from an interrupted one.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    id: String,
    _lock: Flock<File>,
}

/// What `lab runs` shows of one run.
#[derive(Clone, Debug)]
pub struct RunInfo {
    /// The run's name.
    pub id: String,
    /// Its folder.
    pub path: PathBuf,
    /// Where it stands.
    pub state: RunState,
}

/// Where a run stands.
#[derive(Clone, Debug)]
pub enum RunState {
    /// A lab holds its lock.
    Running,
    /// No lab holds its lock, and there is no result: the lab died.
    Interrupted,
    /// It has a result.
    Finished(Box<RunResult>),
}

impl RunFolder {
    /// Makes a folder for a run; `name` is made unique with a number where it is taken.
    ///
    /// # Errors
    /// The folder or its lock cannot be made.
    pub fn create(runs: &Path, name: &str) -> Result<Self> {
        make_runs(runs)?;
        for attempt in 1..10_000 {
            let id = if attempt == 1 { name.to_string() } else { format!("{name}.{attempt}") };
            let path = runs.join(&id);
            match std::fs::create_dir(&path) {
                Ok(()) => {
                    let lock = path.join("lock");
                    let file =
                        File::create(&lock).map_err(|e| Diagnostic::io("make", &lock, &e))?;
                    // Another lab that lists runs may hold it for a moment.
                    let lock = Flock::lock(file, FlockArg::LockExclusive)
                        .map_err(|(_, e)| Diagnostic::io("lock", &lock, &e.into()))?;
                    return Ok(Self { path, id, _lock: lock });
                }
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(Diagnostic::io("make the run's folder", &path, &e)),
            }
        }
        Err(Diagnostic::trouble(format!("{} is full of runs named {name}", runs.display())))
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The run's name.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Writes a file of the run.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, name: &str, contents: &[u8]) -> Result<()> {
        let path = self.path.join(name);
        let mut file = File::create(&path).map_err(|e| Diagnostic::io("make", &path, &e))?;
        file.write_all(contents).map_err(|e| Diagnostic::io("write", &path, &e))
    }

    /// Writes a record of the run.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write_json<T: Serialize>(&self, name: &str, value: &T) -> Result<()> {
        let text = serde_json::to_vec_pretty(value).expect("records are plain data");
        self.write(name, &text)
    }
}

/// All runs in a folder, oldest first.
///
/// # Errors
/// The folder cannot be read; one that does not exist holds no runs.
pub fn list(runs: &Path) -> Result<Vec<RunInfo>> {
    let entries = match std::fs::read_dir(runs) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(Diagnostic::io("read", runs, &e)),
    };
    let mut list: Vec<(SystemTime, RunInfo)> = entries
        .flatten()
        // A shell has a folder too, and neither plan nor result.
        .filter(|e| ["plan.json", "result.json"].iter().any(|file| e.path().join(file).exists()))
        .map(|entry| {
            let path = entry.path();
            let id = entry.file_name().to_string_lossy().into_owned();
            // The lock is made first, and never written to.
            let lock = std::fs::metadata(path.join("lock")).and_then(|meta| meta.modified());
            let started = lock.unwrap_or(SystemTime::UNIX_EPOCH);
            (started, RunInfo { id, state: state(&path), path })
        })
        .collect();
    list.sort_by(|(a, x), (b, y)| (a, &x.id).cmp(&(b, &y.id)));
    Ok(list.into_iter().map(|(_, run)| run).collect())
}

fn state(path: &Path) -> RunState {
    if let Some(result) = read_json(&path.join("result.json")) {
        return RunState::Finished(Box::new(result));
    }
    let locked = File::open(path.join("lock"))
        .is_ok_and(|file| Flock::lock(file, FlockArg::LockSharedNonblock).is_err());
    if locked { RunState::Running } else { RunState::Interrupted }
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

impl RunInfo {
    /// The plan that the run followed.
    ///
    /// # Errors
    /// It has none that this lab can read.
    pub fn plan(&self) -> Result<RunPlan> {
        let path = self.path.join("plan.json");
        let text = std::fs::read(&path).map_err(|e| Diagnostic::io("read", &path, &e))?;
        serde_json::from_slice(&text).map_err(|e| {
            Diagnostic::trouble(format!("{} is not a plan of this lab: {e}", path.display()))
                .help("it was written by another version; run the case itself again")
        })
    }
}

/// The folder of runs, kept out of the project's git by its own .gitignore.
fn make_runs(runs: &Path) -> Result<()> {
    if runs.is_dir() {
        return Ok(());
    }
    std::fs::create_dir_all(runs).map_err(|e| Diagnostic::io("make", runs, &e))?;
    let ignore = runs.with_file_name(".gitignore");
    if !ignore.exists() {
        std::fs::write(&ignore, "*\n").map_err(|e| Diagnostic::io("write", &ignore, &e))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_unique_and_locks_tell_states_apart() {
        let folder = tempfile::tempdir().unwrap();
        let runs = folder.path().join(".lab/runs");
        let first = RunFolder::create(&runs, "a").unwrap();
        let second = RunFolder::create(&runs, "a").unwrap();
        assert_eq!((first.id(), second.id()), ("a", "a.2"));
        assert!(list(&runs).unwrap().is_empty(), "neither has a plan");
        first.write("plan.json", b"{}").unwrap();
        second.write("plan.json", b"{}").unwrap();
        drop(second);
        let states = list(&runs).unwrap();
        assert!(matches!(states[0].state, RunState::Running));
        assert!(matches!(states[1].state, RunState::Interrupted));
        assert_eq!(std::fs::read_to_string(folder.path().join(".lab/.gitignore")).unwrap(), "*\n");
    }
}
