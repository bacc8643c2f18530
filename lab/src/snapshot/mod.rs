//! Transcripts and the snapshots that people accepted: rendering, files, differences, review.
//!
//! A run's bytes become a [`Transcript`], [`render`] makes it text, [`expected`] finds what was
//! accepted for that run, [`unified`] shows how they differ, [`Pending`] keeps what nobody has
//! accepted yet, and [`list`], [`accept`] and [`reject`] are the review.

mod diff;
mod escape;
mod file;
mod filters;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod header;
#[cfg(any(test, fuzzing))]
mod inverse;
mod names;
mod output;
mod pending;
mod review;
mod transcript;

pub use diff::{DiffKind, DiffLine, program_changes, signature, unified};
pub use file::{Info, SnapshotFile, read, read_if_there, write};
pub use filters::Filters;
pub use names::{Expected, Wanted, expected};
pub use output::{Output, OutputStream};
pub use pending::{Pending, What};
pub use review::{PendingFile, accept, list, reject};
pub use transcript::{Entry, Transcript, render};

/// What the tests of this module share.
#[cfg(test)]
mod testing {
    use std::path::Path;
    use std::time::Duration;

    use crate::manifest::{Case, Clock, MachineSpec, Needs, Variant};

    /// A case in `root/cases/NAME` with a case.toml that has these variants: name and globs.
    pub fn case(root: &Path, name: &str, variants: &[(&str, &[&str])]) -> Case {
        let dir = root.join("cases").join(name);
        std::fs::create_dir_all(&dir).unwrap();
        let mut text = String::from("summary = \"a\"\n\n[[step]]\nrun = \"cat a\"\n");
        for (variant, globs) in variants {
            text.push_str(&format!("\n[variant.{variant}]\nkernels = {globs:?}\nreason = \"r\"\n"));
        }
        std::fs::write(dir.join("case.toml"), text).unwrap();
        let variant = |(name, globs): &(&str, &[&str])| {
            let kernels = globs.iter().map(|g| g.to_string()).collect();
            (name.to_string(), Variant { kernels, reason: "r".into() })
        };
        Case {
            name: name.into(),
            dir,
            summary: "a".into(),
            refs: vec![],
            tags: vec![],
            needs: Needs::default(),
            machine: MachineSpec {
                memory: 0,
                cpus: 1,
                cmdline: vec![],
                disks: vec![],
                shares: vec![],
                trace: vec![],
                clock: Clock::Real,
                timeout: Duration::from_secs(1),
                hang: Duration::from_secs(5),
                boot: None,
                image: "base".into(),
            },
            params: Default::default(),
            steps: vec![],
            filters: vec![],
            asserts: vec![],
            allow: vec![],
            variants: variants.iter().map(variant).collect(),
            twins: vec![],
            files: Default::default(),
        }
    }
}
