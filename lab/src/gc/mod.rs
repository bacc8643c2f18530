//! What lies behind and what nobody wants any more: found, decided by [`plan`], and removed. Nothing
//! that a running lab holds is ever touched: runs, scratch folders, images and kernels have a lock
//! that their user holds, and only a lock that is free proves that there is no user.

mod cache;
mod plan;
mod runs;

use std::path::PathBuf;

pub use cache::{kernels, left_in_cache, unused_images};
pub use plan::{Aged, Why, surplus_runs, unused};
pub use runs::{Before, left_by_killed_labs, old_runs};

use crate::case::DeadRun;
use crate::kernel::{Kernels, Part};
use crate::manifest::Result;

/// Something that can go, and why.
#[derive(Debug)]
pub struct Waste {
    /// What it is.
    pub thing: Thing,
    /// Its name, for people.
    pub what: String,
    /// Why it goes.
    pub why: Why,
}

/// A thing that goes as a whole.
#[derive(Debug)]
pub enum Thing {
    /// A run's folder.
    Run(PathBuf, String),
    /// The disks of a run whose lab was killed.
    Disks(PathBuf, String),
    /// A folder for temporary files of a killed lab.
    Scratch(PathBuf),
    /// A folder in the cache that a killed lab was making.
    Temporary(Box<Kernels>, PathBuf),
    /// An image of the cache, by its digest.
    Image(PathBuf, String),
    /// A part of what kernels are made from.
    Kernel(Box<Kernels>, Part),
}

/// What went, or would go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Freed {
    /// In a word: `run`, `image`, `kernel`.
    pub kind: &'static str,
    /// Its name.
    pub what: String,
    /// Bytes that it took on the disk.
    pub bytes: u64,
    /// Why.
    pub why: Why,
}

impl Waste {
    /// In a word.
    pub fn kind(&self) -> &'static str {
        match &self.thing {
            Thing::Run(..) => "run",
            Thing::Disks(..) => "disks",
            Thing::Scratch(_) => "scratch",
            Thing::Temporary(..) => "half-made",
            Thing::Image(..) => "image",
            Thing::Kernel(_, Part::Kernel(_)) => "kernel",
            Thing::Kernel(_, Part::Source(_)) => "source",
            Thing::Kernel(_, Part::Build(_)) => "build",
            Thing::Kernel(_, Part::Path(_)) => "path",
        }
    }

    /// What would be freed.
    pub fn measured(&self) -> Freed {
        let bytes = match &self.thing {
            Thing::Run(runs, id) => usage(&runs.join(id)),
            Thing::Disks(runs, id) => usage(&runs.join(id).join(crate::case::DISKS)),
            Thing::Scratch(path) | Thing::Temporary(_, path) => usage(path),
            Thing::Image(cache, digest) => crate::image::bytes(cache, digest),
            Thing::Kernel(kernels, part) => kernels.bytes(part),
        };
        Freed { kind: self.kind(), what: self.what.clone(), bytes, why: self.why }
    }

    /// Removes it; `None` where somebody began to use it, or it is gone already.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn remove(self) -> Result<Option<Freed>> {
        let mut freed = Freed { kind: self.kind(), what: self.what, bytes: 0, why: self.why };
        let bytes = match self.thing {
            Thing::Run(runs, id) => {
                let Some(dead) = DeadRun::claim(&runs, &id) else { return Ok(None) };
                let bytes = usage(&runs.join(&id));
                dead.remove()?;
                Some(bytes)
            }
            Thing::Disks(runs, id) => {
                let dead = DeadRun::claim(&runs, &id);
                let Some(disks) = dead.as_ref().and_then(DeadRun::disks) else { return Ok(None) };
                let bytes = usage(&disks);
                std::fs::remove_dir_all(&disks)
                    .map_err(|e| crate::manifest::Diagnostic::io("remove", &disks, &e))?;
                Some(bytes)
            }
            Thing::Scratch(path) => {
                let bytes = usage(&path);
                crate::machine::remove_abandoned(&path).then_some(bytes)
            }
            Thing::Temporary(kernels, path) => kernels.remove_abandoned(&path)?,
            Thing::Image(cache, digest) => crate::image::remove(&cache, &digest)?,
            Thing::Kernel(kernels, part) => kernels.remove_part(&part)?,
        };
        Ok(bytes.map(|bytes| {
            freed.bytes = bytes;
            freed
        }))
    }
}

fn usage(path: &std::path::Path) -> u64 {
    crate::kernel::disk_usage(path).unwrap_or(0)
}
