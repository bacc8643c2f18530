//! Runs: what killed labs left of them, and those that are too many or too old.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::plan::{Aged, Why, surplus_runs};
use super::{Freed, Thing, Waste};
use crate::case::{DeadRun, RunNames, remove_gone, run_stamp, started};
use crate::machine::abandoned;
use crate::manifest::{Bounds, Result};

/// The runs that were there before a command's own: it never removes another. One listing when the
/// command begins serves for what killed labs left and for the bounds.
#[derive(Debug, Default)]
pub struct Before {
    runs: PathBuf,
    names: RunNames,
    /// What killed labs had left and is now gone.
    pub cleared: Vec<Freed>,
}

impl Before {
    /// Looks, and clears what killed labs left: disks, scratch folders. What cannot be cleared is
    /// left to `lab gc`, which says why: a run must not fail for it.
    pub fn look(runs: &Path, runtime: &Path) -> Self {
        let names = RunNames::of(runs).unwrap_or_default();
        let mut cleared = Vec::new();
        for waste in left_by_killed_labs(runs, &names.open, runtime) {
            match waste.remove() {
                Ok(freed) => cleared.extend(freed),
                Err(error) => tracing::debug!(%error, "left for lab gc"),
            }
        }
        tidy(runs, &names);
        Self { runs: runs.to_path_buf(), names, cleared }
    }

    /// Removes runs beyond the bounds, now that the command has made its own. Where there are none,
    /// that is known from the names alone, which begin with the time.
    pub fn bound(&self, bounds: &Bounds, now: SystemTime) -> Vec<Freed> {
        let many = RunNames::of(&self.runs).unwrap_or_default().runs.len() > bounds.runs;
        let oldest = run_stamp(now.checked_sub(bounds.run_age).unwrap_or(now));
        let is_old =
            |name: &String| name.as_str() < oldest.as_str() && name.starts_with(char::is_numeric);
        if !many && !self.names.runs.iter().any(is_old) {
            return Vec::new();
        }
        let there: HashSet<&String> = self.names.runs.iter().collect();
        let mine = |id: &String| !there.contains(id);
        let waste = old_runs(&self.runs, bounds, now, &mine).unwrap_or_default();
        waste.into_iter().filter_map(|waste| waste.remove().ok().flatten()).collect()
    }
}

/// Disks of the runs `ids` and scratch folders in `runtime` whose labs are dead.
pub fn left_by_killed_labs(runs: &Path, ids: &[String], runtime: &Path) -> Vec<Waste> {
    let left = |thing, what| Waste { thing, what, why: Why::LeftBehind };
    let disks = ids
        .iter()
        .filter(|id| DeadRun::claim(runs, id).is_some_and(|dead| dead.disks().is_some()))
        .map(|id| left(Thing::Disks(runs.to_path_buf(), id.clone()), id.clone()));
    let scratch = abandoned(runtime).into_iter().map(|path| {
        let what = path.display().to_string();
        left(Thing::Scratch(path), what)
    });
    disks.chain(scratch).collect()
}

/// Runs beyond the bounds, oldest first; `keep` names those that stay whatever their age.
///
/// # Errors
/// The folder of runs cannot be read.
pub fn old_runs(
    runs: &Path,
    bounds: &Bounds,
    now: SystemTime,
    keep: &dyn Fn(&String) -> bool,
) -> Result<Vec<Waste>> {
    let mut all: Vec<(SystemTime, String)> =
        RunNames::of(runs)?.runs.into_iter().map(|id| (started(&runs.join(&id)), id)).collect();
    all.sort();
    let aged = |(at, id): &(SystemTime, String)| Aged { at: *at, held: keep(id), wanted: false };
    let fates = surplus_runs(&all.iter().map(aged).collect::<Vec<_>>(), bounds, now);
    let goes = all.into_iter().zip(fates).filter_map(|((_, id), why)| Some((id, why?)));
    // Asked last: only of the few that would go.
    let dead = goes.filter(|(id, _)| DeadRun::claim(runs, id).is_some());
    let waste = dead.map(|(id, why)| Waste {
        thing: Thing::Run(runs.to_path_buf(), id.clone()),
        what: id,
        why,
    });
    Ok(waste.collect())
}

/// Marks of runs that are dead, and folders that were out of sight already.
fn tidy(runs: &Path, names: &RunNames) {
    for id in &names.open {
        if let Some(dead) = DeadRun::claim(runs, id) {
            dead.close();
        } else if !runs.join(id).exists() {
            DeadRun::forget(runs, id);
        }
    }
    names.gone.iter().for_each(|id| remove_gone(runs, id));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::{DISKS, RunFolder};
    use std::time::Duration;

    fn names(freed: &[Freed]) -> Vec<String> {
        freed.iter().map(|freed| format!("{} {}", freed.kind, freed.what)).collect()
    }

    /// Kept handles stand for living labs here; a dead one's lock is closed with its last handle.
    #[test]
    fn a_dead_runs_disks_go_and_a_living_ones_stay() {
        let folder = tempfile::tempdir().unwrap();
        let (runs, tmp) = (folder.path().join("runs"), folder.path().join("tmp"));
        std::fs::create_dir(&tmp).unwrap();
        let alive = RunFolder::create(&runs, "alive").unwrap();
        let dead = RunFolder::create(&runs, "dead").unwrap();
        let mark = runs.join(".open-dead");
        for run in [&alive, &dead] {
            std::fs::create_dir(run.path().join(DISKS)).unwrap();
            run.write("plan.json", b"{}").unwrap();
            run.write("disks/a", &[1; 5000]).unwrap();
        }
        drop(dead);
        std::fs::write(&mark, "").unwrap();
        std::fs::write(runs.join(".open-nothing"), "").unwrap();

        let before = Before::look(&runs, &tmp);
        assert_eq!(names(&before.cleared), ["disks dead"]);
        assert!(before.cleared[0].bytes >= 5000);
        assert!(!runs.join("dead/disks").exists() && runs.join("dead/plan.json").exists());
        assert!(!mark.exists() && !runs.join(".open-nothing").exists());
        assert!(runs.join("alive/disks/a").exists() && runs.join(".open-alive").exists());
        assert_eq!(names(&Before::look(&runs, &tmp).cleared), [] as [&str; 0]);
    }

    #[test]
    fn the_bounds_never_take_the_commands_own_runs() {
        let folder = tempfile::tempdir().unwrap();
        let (runs, tmp) = (folder.path().join("runs"), folder.path().to_path_buf());
        let now = SystemTime::now();
        let bounds = Bounds { runs: 2, run_age: Bounds::DAY, cache_age: Bounds::DAY };
        for number in 0..3 {
            let name = format!("{}-{number}", run_stamp(now));
            drop(RunFolder::create(&runs, &name).unwrap());
            let lock = std::fs::File::options().write(true).open(runs.join(&name).join("lock"));
            lock.unwrap().set_modified(now - Duration::from_secs(60 - number)).unwrap();
        }
        let held = RunFolder::create(&runs, "00000000-000000-running").unwrap();
        let lock = std::fs::File::open(held.path().join("lock")).unwrap();
        lock.set_modified(SystemTime::UNIX_EPOCH).unwrap();

        let before = Before::look(&runs, &tmp);
        drop(RunFolder::create(&runs, "own").unwrap());
        drop(RunFolder::create(&runs, "own").unwrap());
        drop(RunFolder::create(&runs, "own").unwrap());
        let freed = before.bound(&bounds, now);
        let gone: Vec<_> =
            (0..3).map(|number| format!("run {}-{number}", run_stamp(now))).collect();
        assert_eq!(names(&freed), gone);
        let mut left = RunNames::of(&runs).unwrap().runs;
        left.sort();
        assert_eq!(left, ["00000000-000000-running", "own", "own.2", "own.3"]);
        assert!(held.path().join("lock").exists());
    }

    /// Known from names alone: no lock of a run is opened, let alone one removed.
    #[test]
    fn within_the_bounds_everything_stays() {
        let folder = tempfile::tempdir().unwrap();
        let runs = folder.path().join("runs");
        let now = SystemTime::now();
        drop(RunFolder::create(&runs, &format!("{}-a", run_stamp(now))).unwrap());
        let before = Before::look(&runs, folder.path());
        drop(RunFolder::create(&runs, &format!("{}-b", run_stamp(now))).unwrap());
        let bounds = Bounds { runs: 2, run_age: Bounds::DAY, cache_age: Bounds::DAY };
        assert_eq!(before.bound(&bounds, now), []);
        assert_eq!(before.bound(&Bounds { runs: 1, ..bounds }, now).len(), 1);
    }
}
