//! A run's folder, `.lab/runs/ID/`: all that is known of it, for people and for `lab runs`.
//!
//! ```text
//! runs/ID/lock       held for life by the lab that runs it
//! runs/.open-ID      there for as long: what a killed lab left is found without a look at each run
//! runs/.gone-ID/     on its way out
//! ```

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nix::fcntl::{Flock, FlockArg};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::plan::RunPlan;
use crate::kernel::lock_folder;
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
                    // Waits: another lab that lists runs may hold it for a moment.
                    let locked = File::create(path.join("lock"))
                        .and_then(|_| lock_folder(&path, FlockArg::LockExclusive));
                    match locked {
                        Ok(Some(lock)) => {
                            // Without it, only `lab gc` finds what a kill leaves.
                            let _ = File::create(runs.join(format!("{OPEN}{id}")));
                            return Ok(Self { path, id, _lock: lock });
                        }
                        // Taken for a dead one before the lock was ours.
                        Ok(None) => {}
                        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                        Err(e) => return Err(Diagnostic::io("lock", &path, &e)),
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
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

impl Drop for RunFolder {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(self.path.with_file_name(format!("{OPEN}{}", self.id)));
    }
}

/// Before a run's name: the file that is there while the run is.
pub(super) const OPEN: &str = ".open-";

/// Before a run's name: the folder is on its way out.
pub(super) const GONE: &str = ".gone-";

/// What a look at the folder of runs finds, with one system call for many names.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// The runs, shells among them.
    pub runs: Vec<String>,
    /// Those that are under way, or whose lab was killed.
    pub open: Vec<String>,
    /// Folders on their way out.
    pub gone: Vec<String>,
}

impl Names {
    /// Looks.
    ///
    /// # Errors
    /// The folder cannot be read; one that does not exist holds no runs.
    pub fn of(runs: &Path) -> Result<Self> {
        let mut names = Self::default();
        let entries = match std::fs::read_dir(runs) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(names),
            Err(e) => return Err(Diagnostic::io("read", runs, &e)),
        };
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if let Some(id) = name.strip_prefix(OPEN) {
                names.open.push(id.to_string());
            } else if let Some(id) = name.strip_prefix(GONE) {
                names.gone.push(id.to_string());
            } else if is_dir && !name.starts_with('.') {
                names.runs.push(name);
            }
        }
        Ok(names)
    }
}

/// All runs in a folder, oldest first.
///
/// # Errors
/// The folder cannot be read; one that does not exist holds no runs.
pub fn list(runs: &Path) -> Result<Vec<RunInfo>> {
    let mut list: Vec<(SystemTime, RunInfo)> = Names::of(runs)?
        .runs
        .into_iter()
        .map(|id| (runs.join(&id), id))
        // A shell has a folder too, and neither plan nor result.
        .filter(|(path, _)| {
            ["plan.json", "result.json"].iter().any(|file| path.join(file).exists())
        })
        .map(|(path, id)| (started(&path), RunInfo { id, state: state(&path), path }))
        // Another lab may have cleared it away meanwhile.
        .filter(|(_, run)| run.path.exists())
        .collect();
    list.sort_by(|(a, x), (b, y)| (a, &x.id).cmp(&(b, &y.id)));
    Ok(list.into_iter().map(|(_, run)| run).collect())
}

/// When a run began: its lock is made first, and never written to.
pub fn started(path: &Path) -> SystemTime {
    let lock = std::fs::metadata(path.join("lock")).and_then(|meta| meta.modified());
    lock.unwrap_or(SystemTime::UNIX_EPOCH)
}

fn state(path: &Path) -> RunState {
    if let Some(result) = read_json(&path.join("result.json")) {
        return RunState::Finished(Box::new(result));
    }
    let locked = File::open(path.join("lock"))
        .is_ok_and(|file| Flock::lock(file, FlockArg::LockSharedNonblock).is_err());
    if locked { RunState::Running } else { RunState::Interrupted }
}

pub(super) fn read_json<T: DeserializeOwned>(path: &Path) -> Option<T> {
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
    use super::super::dead::{DeadRun, remove_gone};
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
        assert_eq!(Names::of(&runs).unwrap().open.len(), 2);
        assert!(DeadRun::claim(&runs, "a").is_none(), "alive");
        drop(second);
        assert_eq!(Names::of(&runs).unwrap().open, ["a"]);
        let states = list(&runs).unwrap();
        assert!(matches!(states[0].state, RunState::Running));
        assert!(matches!(states[1].state, RunState::Interrupted));
        assert_eq!(std::fs::read_to_string(folder.path().join(".lab/.gitignore")).unwrap(), "*\n");

        DeadRun::claim(&runs, "a.2").unwrap().remove().unwrap();
        assert_eq!(list(&runs).unwrap().len(), 1);
        // A remover that was killed: out of sight, and gone with the next.
        std::fs::create_dir_all(runs.join(".gone-b")).unwrap();
        std::fs::write(runs.join(".gone-b/plan.json"), b"{}").unwrap();
        assert_eq!(list(&runs).unwrap().len(), 1);
        assert_eq!(Names::of(&runs).unwrap().gone, ["b"]);
        remove_gone(&runs, "b");
        drop(first);
        let names = Names::of(&runs).unwrap();
        assert_eq!((names.runs, names.open, names.gone), (vec!["a".into()], vec![], vec![]));
    }

    /// A run is never removed under a lab that is making it: the maker finds another name.
    #[test]
    fn making_and_removing_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let runs = folder.path().join(".lab/runs");
        std::thread::scope(|scope| {
            let maker = scope.spawn(|| {
                for _ in 0..300 {
                    let run = RunFolder::create(&runs, "a").unwrap();
                    run.write("plan.json", b"{}").unwrap();
                    assert!(
                        run.path().join("lock").exists() && run.path().join("plan.json").exists()
                    );
                }
            });
            while !maker.is_finished() {
                for id in Names::of(&runs).unwrap_or_default().runs {
                    if let Some(dead) = DeadRun::claim(&runs, &id) {
                        let _ = dead.remove();
                    }
                }
            }
            maker.join().unwrap();
        });
    }
}
