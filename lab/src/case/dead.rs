//! A run that no lab is running any more: what a killed lab left of it, and how its folder goes.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

use super::folder::{GONE, OPEN, read_json};
use super::plan::RunPlan;
use super::prepare::DISKS;
use crate::kernel::lock_folder;
use crate::manifest::{Diagnostic, Result};

/// A dead run's own lock: while this lives, no other lab touches the folder.
#[derive(Debug)]
pub struct DeadRun {
    path: PathBuf,
    id: String,
    lock: Option<Flock<File>>,
}

impl DeadRun {
    /// Takes hold of a run, finished or interrupted; `None` where a lab is running it, or where it is
    /// not there.
    pub fn claim(runs: &Path, id: &str) -> Option<Self> {
        let path = runs.join(id);
        let is_empty = || std::fs::read_dir(&path).is_ok_and(|mut items| items.next().is_none());
        let lock = match lock_folder(&path, FlockArg::LockExclusiveNonblock) {
            Ok(Some(lock)) => Some(lock),
            Ok(None) => return None,
            // Its lab was killed before there was a lock; one that is just making it makes another.
            // With something in it and no lock it is no run.
            Err(e) if e.kind() == io::ErrorKind::NotFound && is_empty() => None,
            Err(_) => return None,
        };
        Some(Self { path, id: id.to_string(), lock })
    }

    /// Whether it has no result: its lab died.
    pub fn interrupted(&self) -> bool {
        !self.path.join("result.json").exists()
    }

    /// The disks' folder, where the run left one that it was not asked to keep.
    pub fn disks(&self) -> Option<PathBuf> {
        let disks = self.path.join(DISKS);
        let kept =
            || read_json::<RunPlan>(&self.path.join("plan.json")).is_some_and(|p| p.keep_disks);
        (self.lock.is_some() && self.interrupted() && disks.is_dir() && !kept()).then_some(disks)
    }

    /// Says that nothing of the run is to be cleared any more but its folder.
    pub fn close(&self) {
        Self::forget(self.path.parent().unwrap_or(&self.path), &self.id);
    }

    /// Removes the mark of a run whose folder is gone.
    pub fn forget(runs: &Path, id: &str) {
        let _ = std::fs::remove_file(runs.join(format!("{OPEN}{id}")));
    }

    /// Removes the folder: out of sight at once, so that half a run is never taken for a whole one.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn remove(self) -> Result<()> {
        let aside = self.path.with_file_name(format!("{GONE}{}", self.id));
        let failed = |e: &io::Error| Diagnostic::io("remove", &self.path, e);
        if self.lock.is_none() {
            self.close();
            // Only as long as it is empty.
            return std::fs::remove_dir(&self.path).map_err(|e| failed(&e));
        }
        let _ = std::fs::remove_dir_all(&aside);
        std::fs::rename(&self.path, &aside).map_err(|e| failed(&e))?;
        self.close();
        std::fs::remove_dir_all(&aside).map_err(|e| failed(&e))
    }
}

/// Deletes what a killed lab had put out of sight.
pub fn remove_gone(runs: &Path, id: &str) {
    let _ = std::fs::remove_dir_all(runs.join(format!("{GONE}{id}")));
}
