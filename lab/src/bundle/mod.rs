//! One archive of a run with everything to reproduce it: unpacked, it is a project of its own in which
//! `lab runs again` does the same. Nothing of the user's home goes in: no environment, no dot files, and
//! paths below the project are relative to it.
//!
//! ```text
//! ID/README.txt, host.json, image.json     what it is, where it was seen, what the guest's programs were
//! ID/lab.toml, cases/, images/, kconfigs/, patches/   the project, as far as the run needs it
//! ID/.lab/runs/ID/, run -> .lab/runs/ID    plan, evidence, transcript, logs
//! ID/kernel/                               with a kernel: what -k path:kernel boots
//! ```

mod files;
mod paths;
mod readme;
mod tar;

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use nix::fcntl::FlockArg;
use serde_json::json;

pub use tar::{Compression, ENDINGS};

use crate::case::{RunInfo, RunPlan, RunState};
use crate::kernel::{Ingredients, Kernels, PullError, lock_folder};
use crate::machine::Scratch;
use crate::manifest::{Diagnostic, Project, Provider, Result};
use crate::report::COMMAND;
use files::Stage;
use paths::Paths;

/// The kernel's folder in an archive.
pub const KERNEL: &str = "kernel";

/// What an archive is made from.
#[derive(Debug)]
pub struct Bundle<'a> {
    /// The project that the run belongs to.
    pub project: &'a Project,
    /// The run.
    pub run: &'a RunInfo,
    /// Its kernels.
    pub kernels: &'a Kernels,
    /// The cache's folder: what the image was made of.
    pub cache: &'a Path,
    /// A folder for temporary files.
    pub runtime: &'a Path,
    /// The user's home, whose name goes nowhere.
    pub home: Option<&'a Path>,
    /// What is known of this host.
    pub host: serde_json::Value,
    /// The kernel itself goes in.
    pub with_kernel: bool,
}

/// An archive that was written.
#[derive(Clone, Debug)]
pub struct Written {
    /// Its bytes.
    pub bytes: u64,
    /// What a receiver will miss, a sentence each; also in the archive's README.txt.
    pub notes: Vec<String>,
}

/// Whether a kernel is from what another host need not have.
fn is_local(provider: &Provider) -> bool {
    match provider {
        Provider::Debian { .. } => false,
        Provider::Source { source, .. } => !source.starts_with("debian:"),
        Provider::Path { .. } => true,
    }
}

impl Bundle<'_> {
    /// Writes the archive, whole or not at all.
    ///
    /// # Errors
    /// The run is still running or has no plan, the kernel is wanted and no longer here, `out` is
    /// there already or cannot be written, no room.
    pub fn write(
        &self,
        out: &Path,
        compression: Compression,
        cancel: &AtomicBool,
    ) -> Result<Written, PullError> {
        if out.symlink_metadata().is_ok() {
            return Err(tar::there_already(out).into());
        }
        if matches!(self.run.state, RunState::Running) {
            return Err(Diagnostic::usage(format!("{} is still running", self.run.id))
                .help("wait for its end, or end it with Ctrl-C; an interrupted run can be bundled")
                .into());
        }
        // Held meanwhile: another lab's bounds must not remove it under our hands.
        let _held = lock_folder(&self.run.path, FlockArg::LockSharedNonblock);
        let plan = self.run.plan()?;
        let scratch = Scratch::create(self.runtime)?;
        let stage = Stage::new(scratch.path().join(&self.run.id), &self.project.root)?;
        let notes = self.fill(&stage, plan, cancel)?;
        let bytes = tar::pack(scratch.path(), &self.run.id, out, compression, cancel)?;
        Ok(Written { bytes, notes })
    }

    /// Puts everything into the folder that is packed; returns what is missing.
    fn fill(
        &self,
        stage: &Stage,
        plan: RunPlan,
        cancel: &AtomicBool,
    ) -> Result<Vec<String>, PullError> {
        let root = &self.project.root;
        let paths = Paths { root, home: self.home };
        let mut notes = Vec::new();
        let folder = Path::new(".lab/runs").join(&self.run.id);
        stage.copy_tree(&self.run.path, &folder)?;
        stage.link("run", &folder)?;

        let Ingredients { files, spec } = match self.kernels.ingredients(&plan.kernel.spec) {
            Ok(ingredients) => ingredients,
            Err(error) => {
                notes.push(format!("what the kernel was made from is not whole: {error}"));
                Ingredients { files: Vec::new(), spec: plan.kernel.spec.clone() }
            }
        };
        files.iter().try_for_each(|(name, text)| stage.write(name, text))?;
        let mut moved = plan.clone();
        moved.kernel.spec = spec;
        if self.with_kernel {
            let spec = &plan.kernel.spec;
            let kernel =
                self.kernels.with_key(spec, &plan.kernel.key, cancel)?.ok_or_else(|| {
                    let release = &plan.kernel.release;
                    Diagnostic::trouble(format!(
                        "the kernel of this run (Linux {release}) is no longer here as it was"
                    ))
                    .help("leave --kernel away, or run the case again and bundle that run")
                })?;
            kernel.pack(&stage.path().join(KERNEL))?;
            moved.kernel.spec.provider = Provider::Path { path: KERNEL.into() };
            moved.kernel.spec.asked = Some(format!("path:{KERNEL}"));
        } else if is_local(&plan.kernel.spec.provider) {
            notes.push(format!(
                "the kernel is not in here and was made from what may be on no other host: {}; \
                 lab runs bundle --kernel takes it along",
                paths.plain(&plan.kernel.origin)
            ));
        }
        self.case(stage, &plan, &paths, &mut notes)?;
        self.image(stage, &plan, &paths, &mut notes)?;
        match &self.project.file {
            Some(file) => stage.copy(file, Path::new("lab.toml"))?,
            None => stage.write(Path::new("lab.toml"), b"# The run's project had none.\n")?,
        }
        let moved = moved.with_paths(&|path| paths.below(path));
        stage.write_json(&folder.join("plan.json"), &paths.scrubbed(&moved))?;
        if let RunState::Finished(result) = &self.run.state {
            stage.write_json(&folder.join("result.json"), &paths.scrubbed(result))?;
        }
        stage.write_json(Path::new("host.json"), &paths.scrubbed(&self.host))?;
        notes.extend(stage.left_out().iter().map(|link| {
            format!(
                "{} leads to a file that is no part of the project, or to a dot file: it is not in here",
                paths.below(link).display()
            )
        }));
        let text = readme::text(self.run, &plan, self.with_kernel, &notes);
        stage.write(Path::new("README.txt"), paths.plain(&text).as_bytes())?;
        Ok(notes)
    }

    /// The case's folder, and what it shows the guest of the rest of the project.
    fn case(
        &self,
        stage: &Stage,
        plan: &RunPlan,
        paths: &Paths<'_>,
        notes: &mut Vec<String>,
    ) -> Result<()> {
        let case = &plan.instance.case;
        if case.name != COMMAND {
            match (case.dir.is_dir(), case.dir.strip_prefix(paths.root)) {
                (true, Ok(below)) => stage.copy_tree(&case.dir, below)?,
                _ => notes.push("the case's folder is no longer there".into()),
            }
            let now = self.project.cases.get(&case.name).and_then(|case| case.as_ref().ok());
            // A twin's plan is its case changed: there is nothing to compare it with.
            if plan.instance.twin.is_none() && now.is_none_or(|now| json!(now) != json!(case)) {
                notes.push(
                    "case.toml has changed since the run: `lab runs again` does what the run did, \
                     `lab run` what stands there now"
                        .into(),
                );
            }
        }
        for share in &case.machine.shares {
            match share.host.strip_prefix(paths.root) {
                Ok(_) if case.name != COMMAND && share.host.starts_with(&case.dir) => {}
                Ok(below) if share.host.is_dir() => stage.copy_tree(&share.host, below)?,
                _ => notes.push(format!(
                    "the guest saw a folder of the host that is not in here, as {}",
                    share.guest.display()
                )),
            }
        }
        Ok(())
    }

    /// The image's manifest, and of which package and version each file in it was.
    fn image(
        &self,
        stage: &Stage,
        plan: &RunPlan,
        paths: &Paths<'_>,
        notes: &mut Vec<String>,
    ) -> Result<()> {
        let name = &plan.instance.case.machine.image;
        let provenance = crate::image::provenance_of(self.cache, &plan.image);
        if provenance.is_none() {
            notes.push(
                "the image is no longer in the cache: of which packages it was is not known".into(),
            );
        }
        let manifest = self.project.images.get(name);
        let about = json!({
            "name": name, "digest": plan.image, "manifest": manifest, "provenance": provenance,
        });
        stage.write_json(Path::new("image.json"), &paths.scrubbed(&about))?;
        let file: PathBuf = ["images".into(), format!("{name}.toml")].iter().collect();
        if paths.root.join(&file).is_file() {
            stage.copy(&paths.root.join(&file), &file)?;
            for host in manifest.iter().flat_map(|spec| &spec.files).map(|file| &file.host) {
                match host.strip_prefix(paths.root) {
                    Ok(below) if host.is_dir() => stage.copy_tree(host, below)?,
                    Ok(below) => stage.copy_own(host, below)?,
                    // A program or file of the host, as most are.
                    Err(_) => {}
                }
            }
        }
        Ok(())
    }
}
